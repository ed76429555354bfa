"""What can be wrong between the gateway and an agency's system: personal data that would travel unencrypted."""

from collections.abc import Iterable, Mapping

from gateway.catalogue.agencies import Declared
from gateway.catalogue.folders import is_loopback
from gateway.catalogue.reading import Place
from gateway.catalogue.shelf import Shelf
from gateway.core.model import Kind, ServiceId


def wires(shelf: Shelf) -> None:
    """Warn of each endpoint and each way that carries personal data over plain HTTP to another machine."""
    personal = [each for each in shelf.services.good.values() if each.personal_data]
    exchanged = {each.id for each in personal if each.kind is Kind.EXCHANGE}
    sent = [each.id for each in personal if each.kind is not Kind.EXCHANGE]
    for declared in shelf.agencies.good.values():
        agency = declared.agency
        for name, number in declared.endpoints.items():
            endpoint = agency.endpoints.get(ServiceId(name))
            if endpoint is not None and endpoint.service in exchanged and _plain(endpoint.options):
                _warn(shelf, declared, ("endpoints", number), [endpoint.service])
        by_way: dict[str, list[ServiceId]] = {}
        for service in sent:
            way = agency.way(service)
            if way is not None:
                by_way.setdefault(way.name, []).append(service)
        for number, way in enumerate(agency.deliveries):
            if way.name in by_way and _plain(way.options):
                _warn(shelf, declared, ("deliveries", number), by_way[way.name])


def _plain(options: Mapping[str, object]) -> bool:
    url = options.get("url")
    return isinstance(url, str) and url.lower().startswith("http://") and not is_loopback(url)


def _warn(shelf: Shelf, declared: Declared, place: Place, services: Iterable[ServiceId]) -> None:
    message = f"personal data of {', '.join(sorted(services))} would travel unencrypted: the address is http://"
    remedy = "Write https://: whoever sits on the way would read it, and could answer in the system's place."
    shelf.reading.warning(declared.source.at(*place, "url"), message, remedy)
