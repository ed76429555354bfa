"""Reads agent.yaml: what an agency's agent does, for the agent itself, and at a hub for its form."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.catalogue import agent_form
from gateway.catalogue.complaints import manifest
from gateway.catalogue.folders import Folder, is_loopback, secrets
from gateway.catalogue.kafka import Origin
from gateway.catalogue.reading import Place, Reading, Spot, near
from gateway.catalogue.shelf import Shelf
from gateway.core.kafka import Connection
from gateway.core.model import AgencyId, Standing, Way

FILE = "agent.yaml"
_DAY = 24
"""Hours."""


@dataclass(frozen=True, slots=True)
class Served:
    """One of the agency's own systems."""

    way: Way
    takes_key: bool


@dataclass(frozen=True, slots=True)
class Attached:
    """How files that come with documents are kept."""

    hours: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What ``agent.yaml`` says."""

    agency: AgencyId
    instance: str
    gateway: str
    """Its public address."""
    tls: Mapping[str, str]
    """Of the gateway: secrets by ``ca`` and ``client``."""
    system: str
    """The short name of the system that reports."""
    kafka: Connection
    deliveries: tuple[Served, ...]
    attached: Attached
    spots: Mapping[str, Spot]
    """Where its members stand, for what is held elsewhere."""


def hold(shelf: Shelf) -> None:
    """Report what is wrong with the agents' files that lie in a hub's catalogue, without what only an agency has."""
    for agency, declared in shelf.agencies.good.items():
        path = shelf.reading.root / "adapters" / agency / FILE
        found = plan(shelf.reading, path, None) if shelf.reading.is_file(path) else None
        if found is None:
            continue
        file = shelf.reading.name(path)
        if found.instance != shelf.instance:
            message = f'the agent is of another instance than "{shelf.instance}"'
            shelf.reading.error(found.spots["instance"], message, f"Write instance: {shelf.instance} in {file}.")
        if f"{agency}.{found.system}" not in declared.agency.systems:
            message = f'the agency has no system "{found.system}"'
            remedy = f"{near(found.system, declared.written.systems)}Name a system that its agency.yaml has."
            shelf.reading.error(found.spots["system"], message, remedy)


def plan(reading: Reading, path: Path, environment: Mapping[str, str] | None) -> Plan | None:
    """What the file says; None where it cannot be read, which is reported.

    ``environment``: None leaves ``${NAME}`` as it is.
    """
    read = manifest(reading, path, agent_form.Agent)
    if read is None:
        return None
    written, source = read
    folder = Folder(reading, source, path.parent, environment)
    agency = path.parent.name
    if written.agency != agency:
        message = f'the agent is of "{written.agency}", and stands in the folder {agency}'
        reading.error(source.at("agency"), message, f"Write agency: {agency}, or move the file.")
        return None
    return _Maker(folder, AgencyId(agency), written).made()


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the plan of what is written, and reports what does not hold."""

    folder: Folder
    agency: AgencyId
    written: agent_form.Agent

    def made(self) -> Plan:
        written, folder = self.written, self.folder
        gateway = str(folder.expanded(written.gateway, ("gateway",)))
        self._public(gateway)
        folder.own_secrets(secrets({}, written.tls, ()))
        origin = Origin(folder.reading, folder.source, folder.environment, self.agency, f"{self.agency.upper()}_")
        return Plan(
            agency=self.agency,
            instance=written.instance,
            gateway=gateway,
            tls={} if written.tls is None else written.tls.model_dump(exclude_none=True),
            system=written.system,
            kafka=origin.connection(written.kafka, ("kafka",)),
            deliveries=self._deliveries(),
            attached=Attached(written.attachments.keep * _DAY, written.attachments.max_bytes),
            spots={name: folder.source.at(name) for name in agent_form.Agent.model_fields},
        )

    def _public(self, address: str) -> None:
        """Tokens and outcomes travel there."""
        if "${" in address:
            return
        spot = self.folder.source.at("gateway")
        if "?" in address or "#" in address or "@" in address:
            remedy = "Write https:// and the host: https://gateway.example."
            self.folder.reading.error(spot, "the gateway's address has more than host and path in it", remedy)
        elif not address.startswith("https://") and not (address.startswith("http://") and is_loopback(address)):
            remedy = "Write https://: tokens would travel where others read them."
            self.folder.reading.error(spot, "the gateway's address is not https", remedy)

    def _deliveries(self) -> tuple[Served, ...]:
        names: dict[str, int] = {}
        made = []
        for number, each in enumerate(self.written.deliveries):
            place: Place = ("deliveries", number)
            name = each.name or each.protocol
            if name in names:
                first = self.folder.source.at("deliveries", names[name]).line
                message = f'the way "{name}" stands already in line {first}'
                remedy = f"Give each a name of its own, such as name: {name}_2."
                self.folder.reading.error(self.folder.source.at(*place, "name"), message, remedy)
            names.setdefault(name, number)
            made.append(Served(self._way(each, name, place), each.takes_key))
        return tuple(made)

    def _way(self, written: agent_form.Delivery, name: str, place: Place) -> Way:
        given = written.model_dump(by_alias=True, exclude_none=True, exclude=set(agent_form.DELIVERY_KEYS))
        options = {key: self.folder.expanded(option, (*place, key)) for key, option in given.items()}
        match written:
            case agent_form.PythonWay():
                if self.folder.environment is not None:  # at a hub the class is not there, and need not be
                    self.folder.python_class(written.class_name, place)
            case agent_form.WebhookWay():
                self.folder.own_secrets({(*place, "secret"): written.secret})
            case agent_form.HttpWay():
                self.folder.own_secrets(secrets(written.secret_headers, written.tls, place))
        if "url" in options:
            # beside its own systems an agent may call the machine that it runs on: whoever wrote this rules it
            self.folder.delivery_address(str(options["url"]), place, loopback=True)
            options["allow"] = ["loopback"]
        return Way(
            agency=self.agency,
            name=name,
            protocol=written.protocol,
            services=tuple(written.services),
            receipts=False,
            unit=None,
            options=options,
            deadline=written.deadline,
            concurrency=written.concurrency,
            max_waiting=1,
            standing=Standing.ACTIVE,
        )
