"""Agencies under ``adapters/``: who they are, their systems and keys, what they provide and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from gateway.catalogue import members
from gateway.catalogue.complaints import manifest
from gateway.catalogue.folders import Folder, secrets
from gateway.catalogue.keyfiles import KeyFiles
from gateway.catalogue.reading import Place, Reading, Source, Spot
from gateway.catalogue.ways import Post
from gateway.core.model import (
    Agency,
    AgencyId,
    Endpoint,
    Issuer,
    ServiceId,
    Signatory,
    Standing,
    System,
    SystemId,
    Window,
)


@dataclass(frozen=True, slots=True)
class Declared:
    """An agency with the places of what it declared."""

    agency: Agency
    source: Source
    endpoints: Mapping[ServiceId, int]
    """The place of each endpoint in the manifest's list."""
    written: members.Agency


@dataclass(slots=True)
class Agencies:
    """What was found under ``adapters/``."""

    good: dict[AgencyId, Declared] = field(default_factory=dict)
    broken: set[AgencyId] = field(default_factory=set)
    """Described, and reported already: references to them are not reported again."""
    systems: dict[SystemId, System] = field(default_factory=dict)
    """Every system of the agencies that could be read."""

    def all(self) -> tuple[Agency, ...]:
        """Every agency that could be read."""
        return tuple(declared.agency for declared in self.good.values())


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an agency's manifest is read with."""

    keys: KeyFiles
    environment: Mapping[str, str] | None
    """None leaves ``${NAME}`` as it is."""
    today: date
    documents: Mapping[str, Sequence[ServiceId]]
    """By the patterns that mean them."""


def agencies(reading: Reading, around: Surroundings) -> Agencies:
    """Every agency."""
    found = Agencies()
    folder = reading.root / "adapters"
    for place in (each for each in reading.inside(folder) if reading.is_folder(each) and each.name[:2] != "__"):
        path = place / "agency.yaml"
        if not reading.is_file(path):
            spot = Spot(reading.name(path), 1)
            reading.error(spot, "the folder has no agency.yaml", "Describe the agency in it, or remove the folder.")
            continue
        name = AgencyId(place.name)
        read = manifest(reading, path, members.Agency)
        if read is None:
            found.broken.add(name)
            continue
        written, source = read
        if written.agency != name:
            found.broken.update((name, AgencyId(written.agency)))
            message = f'the agency "{written.agency}" stands in the folder {name}'
            reading.error(source.at("agency"), message, f"Write agency: {name}, or rename the folder.")
            continue
        own = Folder(reading, source, path.parent, around.environment)
        found.good[name] = _Maker(reading, around, source, own).declared(written)
        found.systems.update(found.good[name].agency.systems)
    return found


@dataclass(slots=True)
class _Maker:
    """Makes one agency of its manifest, and reports what does not hold."""

    reading: Reading
    around: Surroundings
    source: Source
    folder: Folder

    def declared(self, written: members.Agency) -> Declared:
        name = AgencyId(written.agency)
        endpoints, places = self._endpoints(name, written)
        post = Post(self.folder, name, written, self.around.documents)
        ways = post.ways()
        systems = (self._system(name, short, system) for short, system in written.systems.items())
        agency = Agency(
            id=name,
            title=written.title,
            kind=written.kind,
            country=written.country,
            contacts=written.contacts.model_dump(),
            units=tuple(written.units),
            groups=frozenset(written.groups),
            signatories={short: self._signatory(name, short, each) for short, each in written.signatories.items()},
            systems={system.id: system for system in systems},
            endpoints={**post.taken(ways), **post.published(), **endpoints},
            issuers=tuple(self._issuer(name, number, each) for number, each in enumerate(written.issuers)),
            standing=Standing(written.standing),
            deliveries=ways,
            subscriptions=post.subscriptions(),
            mandates=post.mandates(),
            documents_by_system=written.document_visibility == "system",
        )
        return Declared(agency, self.source, places, written)

    def _keys(self, agency: AgencyId, keys: str, place: Place) -> tuple[tuple[Mapping[str, object], ...], str | None]:
        if keys.startswith("https://"):
            return (), keys
        return self.around.keys.keys(keys, agency, self.source.at(*place, "keys")) or (), None

    def _system(self, agency: AgencyId, short: str, written: members.System) -> System:
        keys, keys_url = self._keys(agency, written.keys, ("systems", short))
        return System(
            id=SystemId(f"{agency}.{short}"),
            agency=agency,
            scopes=frozenset(written.scopes),
            keys=keys,
            thumbprints=frozenset(str(key["kid"]) for key in keys),
            keys_url=keys_url,
            certificate_bound=written.certificate_bound,
            standing=Standing(written.standing),
        )

    def _signatory(self, agency: AgencyId, short: str, written: members.Signatory) -> Signatory:
        keys, _ = self._keys(agency, written.keys, ("signatories", short))
        return Signatory(short, written.title, keys)

    def _issuer(self, agency: AgencyId, number: int, written: members.Issuer) -> Issuer:
        keys, keys_url = self._keys(agency, written.keys, ("issuers", number))
        return Issuer(
            issuer=written.issuer,
            agency=agency,
            keys=keys,
            keys_url=keys_url,
            audience=written.audience,
            systems="systems" in written.issues,
            persons="persons" in written.issues,
        )

    def _endpoints(
        self, agency: AgencyId, written: members.Agency
    ) -> tuple[dict[ServiceId, Endpoint], dict[ServiceId, int]]:
        endpoints: dict[ServiceId, Endpoint] = {}
        places: dict[ServiceId, int] = {}
        for number, each in enumerate(written.endpoints):
            service = ServiceId(each.service)
            if service in endpoints:
                first = self.source.at("endpoints", places[service]).line
                message = f"{service} has an endpoint already, in line {first}"
                remedy = "Keep one endpoint for each service."
                self.reading.error(self.source.at("endpoints", number, "service"), message, remedy)
                continue
            endpoints[service] = self._endpoint(agency, number, each)
            places[service] = number
        return endpoints, places

    def _endpoint(
        self, agency: AgencyId, number: int, written: members.HttpEndpoint | members.PythonEndpoint
    ) -> Endpoint:
        place = ("endpoints", number)
        if isinstance(written, members.PythonEndpoint):
            self.folder.python_class(written.class_name, place)
        options = written.model_dump(by_alias=True, exclude_none=True, exclude=set(members.COMMON_KEYS))
        expanded = {name: self.folder.expanded(option, (*place, name)) for name, option in options.items()}
        if isinstance(written, members.HttpEndpoint):
            self.folder.address(str(expanded["url"]), place)
            self.folder.own_secrets(secrets(written.secret_headers, written.tls, place))
        until = written.answer_check.report_until
        if until is not None and until < self.around.today:
            message = f"the answer check reports until {until}, which has passed; wrong answers are withheld now"
            self.reading.warning(self.source.at(*place, "answer_check"), message, "Write answer_check: enforce.")
        return Endpoint(
            provider=agency,
            service=ServiceId(written.service),
            protocol=written.protocol,
            options=expanded,
            deadline=written.deadline,
            concurrency=written.concurrency,
            report_until=until,
            takes_key=written.takes_key,
            standing=Standing(written.standing),
            maintenance=tuple(
                self._window((*place, "maintenance", count), each) for count, each in enumerate(written.maintenance)
            ),
        )

    def _window(self, place: Place, written: members.Maintenance) -> Window:
        if written.until is not None and written.until <= written.start:
            message = "the maintenance ends before it begins"
            self.reading.error(self.source.at(*place, "until"), message, "Write an instant after from.")
        return Window(written.start, written.until)
