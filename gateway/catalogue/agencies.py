"""Agencies under ``adapters/``: who they are, their systems and keys, what they provide and how."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from gateway.catalogue import manifests
from gateway.catalogue.complaints import manifest
from gateway.catalogue.keyfiles import KeyFiles
from gateway.catalogue.reading import Place, Reading, Source, Spot, near
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

_VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")
_ADDRESS = re.compile(r"https?://[^\s@/?#]+[^\s@]*")


@dataclass(frozen=True, slots=True)
class Declared:
    """An agency with the places of what it declared."""

    agency: Agency
    source: Source
    endpoints: Mapping[ServiceId, int]
    """The place of each endpoint in the manifest's list."""


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
        read = manifest(reading, path, manifests.Agency)
        if read is None:
            found.broken.add(name)
            continue
        written, source = read
        if written.agency != name:
            found.broken.update((name, AgencyId(written.agency)))
            message = f'the agency "{written.agency}" stands in the folder {name}'
            reading.error(source.at("agency"), message, f"Write agency: {name}, or rename the folder.")
            continue
        found.good[name] = _Maker(reading, around, source, path.parent).declared(written)
        found.systems.update(found.good[name].agency.systems)
    return found


@dataclass(slots=True)
class _Maker:
    """Makes one agency of its manifest, and reports what does not hold."""

    reading: Reading
    around: Surroundings
    source: Source
    folder: Path

    def declared(self, written: manifests.Agency) -> Declared:
        name = AgencyId(written.agency)
        endpoints, places = self._endpoints(name, written)
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
            endpoints=endpoints,
            issuers=tuple(self._issuer(name, number, each) for number, each in enumerate(written.issuers)),
            standing=Standing(written.standing),
        )
        return Declared(agency, self.source, places)

    def _keys(self, agency: AgencyId, keys: str, place: Place) -> tuple[tuple[Mapping[str, object], ...], str | None]:
        if keys.startswith("https://"):
            return (), keys
        return self.around.keys.keys(keys, agency, self.source.at(*place, "keys")) or (), None

    def _system(self, agency: AgencyId, short: str, written: manifests.System) -> System:
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

    def _signatory(self, agency: AgencyId, short: str, written: manifests.Signatory) -> Signatory:
        keys, _ = self._keys(agency, written.keys, ("signatories", short))
        return Signatory(short, written.title, keys)

    def _issuer(self, agency: AgencyId, number: int, written: manifests.Issuer) -> Issuer:
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
        self, agency: AgencyId, written: manifests.Agency
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
        self, agency: AgencyId, number: int, written: manifests.HttpEndpoint | manifests.PythonEndpoint
    ) -> Endpoint:
        place = ("endpoints", number)
        if isinstance(written, manifests.PythonEndpoint):
            self._class(written.class_name, place)
        options = written.model_dump(by_alias=True, exclude_none=True, exclude=set(manifests.COMMON_KEYS))
        expanded = {name: self._expanded(option, (*place, name)) for name, option in options.items()}
        if isinstance(written, manifests.HttpEndpoint):
            self._address(str(expanded["url"]), place)
            _own_secrets(self.reading, self.source, written, place)
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

    def _window(self, place: Place, written: manifests.Maintenance) -> Window:
        if written.until is not None and written.until <= written.start:
            message = "the maintenance ends before it begins"
            self.reading.error(self.source.at(*place, "until"), message, "Write an instant after from.")
        return Window(written.start, written.until)

    def _class(self, name: str, place: Place) -> None:
        path = self.folder / "adapter.py"
        spot = self.source.at(*place, "class")
        if not self.reading.is_file(path):
            remedy = f"Write the class {name} into {self.reading.name(path)}."
            self.reading.error(spot, "the agency has no adapter.py", remedy)
            return
        text = self.reading.text(path)
        if text is None:
            return
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = (error.lineno if isinstance(error, SyntaxError) else None) or 1
            self.reading.error(Spot(self.reading.name(path), line), "is no Python", "Correct the line.")
            return
        known = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        if name not in known:
            remedy = f"{near(name, known)}Name a class that stands there."
            self.reading.error(spot, f"adapter.py has no class {name}", remedy)

    def _expanded(self, option: Any, place: Place) -> Any:
        """The option with the environment's values for ``${NAME}`` in every text."""
        if isinstance(option, dict):
            return {name: self._expanded(inner, (*place, name)) for name, inner in option.items()}
        if not isinstance(option, str):
            return option
        return _VARIABLE.sub(lambda found: self._variable(found, place), option)

    def _variable(self, found: re.Match[str], place: Place) -> str:
        name = found[1]
        spot = self.source.at(*place)
        own = f"{self.folder.name.upper()}_"
        if not name.startswith(own):  # nobody's folder may send others' variables to an address of its own
            remedy = f"Choose a name that begins with {own}."
            self.reading.error(spot, f"the environment variable {name} is not this agency's", remedy)
        elif self.around.environment is not None:
            if self.around.environment.get(name):
                return self.around.environment[name]
            remedy = f"Set {name} where the gateway is started."
            self.reading.error(spot, f"the environment variable {name} is not set", remedy)
        return found[0]

    def _address(self, url: str, place: Place) -> None:
        if not _VARIABLE.search(url) and not _ADDRESS.fullmatch(url):
            message = "the address is no http or https URL, or has a user's name in it"
            remedy = "Write http:// or https://, a host and a path; put secrets into secret_headers."
            self.reading.error(self.source.at(*place, "url"), message, remedy)


def _own_secrets(reading: Reading, source: Source, written: manifests.HttpEndpoint, place: Place) -> None:
    """A secret leaves only towards the agency whose name it begins with."""
    agency = Path(source.file).parent.name
    named: dict[Place, str | None] = {
        (*place, "secret_headers", header): secret for header, secret in written.secret_headers.items()
    }
    if written.tls is not None:
        named |= {(*place, "tls", "client"): written.tls.client, (*place, "tls", "ca"): written.tls.ca}
    for spot, secret in named.items():
        if secret is not None and not secret.startswith(f"{agency}."):
            remedy = f"Name a secret of your own, such as {agency}.{secret.rpartition('.')[2]}."
            reading.error(source.at(*spot), f"the secret {secret} is not this agency's", remedy)
