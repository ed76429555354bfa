"""Reads ``kafka.yaml``: the cluster on which documents are handed over, and what does not fit it elsewhere."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.catalogue import clusters
from gateway.catalogue.agencies import Declared
from gateway.catalogue.complaints import manifest
from gateway.catalogue.folders import is_loopback, shown
from gateway.catalogue.reading import Place, Reading, Source, Spot
from gateway.catalogue.shelf import Shelf
from gateway.core.kafka import Cluster, Connection, Layout, Sasl, Share
from gateway.core.model import KAFKA, AgencyId, Kind

FILE = "kafka.yaml"
OWNER, VARIABLES = "gateway", "KAFKA_"
"""Whose secrets ``kafka.yaml`` names, and how its variables begin. No agency may be called so."""

_BROKER = re.compile(clusters.BROKER)
_VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")
_HIGHEST_PORT = 65535
_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Origin:
    """The file in which a connection is written, and whose it is."""

    reading: Reading
    source: Source
    environment: Mapping[str, str] | None
    """None leaves ``${NAME}`` as it is."""
    owner: str = OWNER
    """Secrets begin with its name and a dot."""
    variables: str = VARIABLES

    def connection(self, written: clusters.Connection, place: Place = ()) -> Connection:
        """The connection; what does not hold is reported."""
        addresses = [self._expanded(each, (*place, "bootstrap", count)) for count, each in enumerate(written.bootstrap)]
        sasl, tls = written.sasl, written.tls
        found = Connection(
            bootstrap=tuple(address for each in addresses for address in each),
            tls=None if tls is None else tls.model_dump(exclude_none=True),
            sasl=None if sasl is None else Sasl(sasl.mechanism, sasl.username, sasl.password),
            unencrypted=written.unencrypted,
        )
        named = {(*place, "tls", option): secret for option, secret in (found.tls or {}).items()}
        if sasl is not None:
            named[(*place, "sasl", "password")] = sasl.password
        for where, secret in named.items():
            if not secret.startswith(f"{self.owner}."):
                name = shown(secret)
                remedy = f"Name a secret of its own, such as {self.owner}.{name.rpartition('.')[2]}."
                self._error(where, f"the secret {name} does not begin with {self.owner}.", remedy)
        for step, message, remedy in _open(found):
            self._error((*place, step), message, remedy)
        return found

    def _expanded(self, address: str, place: Place) -> Sequence[str]:
        """The addresses that one entry stands for."""
        found = _VARIABLE.fullmatch(address)
        name = found[1] if found else ""
        if found is None:
            given: Sequence[str] = (address,)
        elif not name.startswith(self.variables):
            message = f"the environment variable {name} does not begin with {self.variables}"
            self._error(place, message, f"Choose a name that begins with {self.variables}.")
            return (address,)
        elif self.environment is None:
            return (address,)
        else:
            given = split(self.environment.get(name, ""))
        if not given:
            self._error(place, f"the environment variable {name} is not set", unset(name))
        for each in given:
            if not _is_broker(each):
                message = (
                    f'"{each}" is no address of a broker'
                    if found is None
                    else f"{name} holds what is no address of a broker"
                )
                self._error(place, message, "Write host:port, several in a variable with commas.")
        return given

    def _error(self, place: Place, message: str, remedy: str) -> None:
        self.reading.error(self.source.at(*place), message, remedy)


def split(value: str) -> tuple[str, ...]:
    """The addresses in a variable."""
    return tuple(each.strip() for each in value.split(",") if each.strip())


def unset(name: str) -> str:
    """What to do about a variable that is not there."""
    return f"Set {name} to host:port of some brokers, with commas, where the gateway is started."


def located(connection: Connection, environment: Mapping[str, str]) -> Connection:
    """The connection of a catalogue that was read without an environment. Raises ValueError with a sentence."""
    given: list[str] = []
    for each in connection.bootstrap:
        found = _VARIABLE.fullmatch(each)
        brokers = split(environment.get(found[1], "")) if found else (each,)
        if found and not brokers:
            raise ValueError(f"the environment variable {found[1]} is not set. {unset(found[1])}")
        if wrong := [broker for broker in brokers if not _is_broker(broker)]:
            raise ValueError(f"{found[1] if found else each}: {wrong[0]!r} is no address of a broker: write host:port.")
        given += brokers
    placed = replace(connection, bootstrap=tuple(given))
    for _, message, remedy in _open(placed):
        raise ValueError(f"{message}. {remedy}")
    return placed


def _is_broker(address: str) -> bool:
    fits = _BROKER.fullmatch(address) is not None and not address.startswith("$")
    return fits and int(address.rpartition(":")[2]) <= _HIGHEST_PORT


def _open(found: Connection) -> Iterator[tuple[str, str, str]]:
    """What would travel where others can read it: the key, what is wrong, what to do."""
    away = [each for each in found.bootstrap if not _VARIABLE.fullmatch(each) and not is_loopback(f"kafka://{each}")]
    if found.tls is not None or not away:
        return
    if found.sasl is not None and found.sasl.mechanism == "PLAIN":
        yield "sasl", "PLAIN would send the password unencrypted", "Write tls, or choose SCRAM-SHA-512."
    if not found.unencrypted:
        remedy = "Write tls: {}, or unencrypted: true where another layer encrypts: documents and who logs in are read."
        yield "bootstrap", "the brokers are on other machines and nothing is encrypted", remedy


def cluster(shelf: Shelf, environment: Mapping[str, str] | None) -> Cluster | None:
    """The cluster; None where there is no ``kafka.yaml``, or a broken one that was reported."""
    path = shelf.reading.root / FILE
    if not shelf.reading.is_file(path):
        _without(shelf)
        return None
    read = manifest(shelf.reading, path, clusters.Kafka)
    if read is None:
        return None
    written, source = read
    origin = Origin(shelf.reading, source, environment)
    layout = Layout(
        partitions=written.topics.partitions,
        replication=written.topics.replication,
        min_insync=written.topics.min_insync,
        retention=written.topics.retention * _DAY,
        max_bytes=written.topics.max_bytes,
    )
    found = Cluster(origin.connection(written), written.principal, layout, _shares(written, layout))
    _reserved(shelf)
    _kept(shelf, source, layout)
    _held(shelf, source, found)
    for declared, number in _ways(shelf):
        _sizes(shelf, declared, number, found)
    return found


def _shares(written: clusters.Kafka, layout: Layout) -> dict[str, Share]:
    return {
        agency: Share(each.principal or f"User:{agency}", each.partitions or layout.partitions, each.consume)
        for agency, each in written.agencies.items()
    }


def _ways(shelf: Shelf) -> Iterator[tuple[Declared, int]]:
    """The ways over Kafka: their agency, and their place in its list."""
    for declared in shelf.agencies.good.values():
        for number, way in enumerate(declared.agency.deliveries):
            if way.protocol == KAFKA:
                yield declared, number


def _without(shelf: Shelf) -> None:
    for declared, number in _ways(shelf):
        remedy = f"Describe the cluster in {FILE}, beside schemas/ and adapters/, or choose another protocol."
        spot = declared.source.at("deliveries", number, "protocol")
        shelf.reading.error(spot, f"the catalogue names no Kafka cluster: there is no {FILE}", remedy)


def _reserved(shelf: Shelf) -> None:
    for name in (OWNER, VARIABLES.lower().removesuffix("_")):
        declared = shelf.agencies.good.get(AgencyId(name))
        if declared is not None:
            message = f"no agency can be called {name} where there is a {FILE}"
            remedy = "Choose another name: secrets and variables that begin with it are the gateway's own."
            shelf.reading.error(declared.source.at("agency"), message, remedy)


def _kept(shelf: Shelf, source: Source, layout: Layout) -> None:
    if layout.min_insync > layout.replication:
        message = f"min_insync {layout.min_insync} is more than replication {layout.replication}: nothing would count"
        spot = source.at("topics", "min_insync")
        shelf.reading.error(spot, message, "Write one less than replication, so that one broker may be away.")
    elif layout.min_insync == layout.replication > 1:
        message = "min_insync is replication: documents wait whenever one broker is away"
        shelf.reading.warning(source.at("topics", "min_insync"), message, f"Write {layout.replication - 1}.")


def _held(shelf: Shelf, source: Source, found: Cluster) -> None:
    """Exceptions of agencies that are there and come by Kafka; principals that are one agency's alone."""
    coming = {declared.agency.id for declared, _ in _ways(shelf)}
    owners: dict[str, str] = {found.principal: "the gateway"}
    for agency in (*found.shares, *(each for each in sorted(coming) if each not in found.shares)):
        spot = source.at("agencies", agency)
        if agency in found.shares and shelf.agency(agency, spot) is not None and agency not in coming:
            remedy = f"Remove it, or write a way with protocol: kafka in adapters/{agency}/agency.yaml."
            shelf.reading.warning(spot, f"no way of {agency} goes over Kafka", remedy)
        principal = found.share(AgencyId(agency)).principal
        other = owners.setdefault(principal, agency)
        if other != agency:
            message = f"{agency} and {other} are both {principal}"
            remedy = "Give each its own: the brokers would let one read, or write, what is the other's."
            shelf.reading.error(source.at("agencies", agency, "principal"), message, remedy)


def _sizes(shelf: Shelf, declared: Declared, number: int, found: Cluster) -> None:
    agency = declared.agency
    way = agency.deliveries[number]
    large = (each for each in shelf.services.good.values() if each.max_bytes > found.largest_body)
    for service in (each for each in large if each.kind is not Kind.EXCHANGE):
        if way not in (agency.way(service.id), agency.way(service.id, way.unit)):
            continue
        spot: Spot = declared.source.at("deliveries", number, "services")
        held = f"{found.largest_body} beside its headers"
        message = f"{service.id} may have {service.max_bytes} bytes, and a record on Kafka {held}"
        needed = service.max_bytes + found.layout.max_bytes - found.largest_body
        remedy = f"Raise topics: max_bytes in {FILE} to {needed}, lower the service's, or choose another protocol."
        shelf.reading.error(spot, message, remedy)
