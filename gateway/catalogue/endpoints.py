"""What can be wrong between an endpoint and its service: pointers, mappings, identifiers in addresses."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.catalogue.agencies import Declared
from gateway.catalogue.bundling import member_names
from gateway.catalogue.fitting import gaps, simple, singular
from gateway.catalogue.reading import Place, Spot, near
from gateway.catalogue.shelf import Shelf
from gateway.core.mapping import Fields
from gateway.core.minimise import can_contain, parts
from gateway.core.model import Kind, Service

_ABOUT = ("scheme", "system", "type", "country")
"""Members of an identifier that say what kind it is, and not whose: they may stand in an address."""
_ELSEWHERE = {Kind.DOCUMENT: ("deliveries", "takes"), Kind.EVENT: ("publishes", "publishes")}


def endpoints(shelf: Shelf) -> None:
    """Every endpoint's service, and the pointers with which the http protocol maps bodies."""
    for declared in shelf.agencies.good.values():
        for name, number in declared.endpoints.items():
            spot = declared.source.at("endpoints", number, "service")
            service = shelf.service(name, spot)
            if service is not None and service.kind is not Kind.EXCHANGE:
                place, verb = _ELSEWHERE[service.kind]
                message = f"{name} is {'an event' if service.kind is Kind.EVENT else 'a document'}, and no exchange"
                shelf.reading.error(spot, message, f"Write under {place} how the agency {verb} it.")
            elif service is not None:
                options = declared.agency.endpoints[service.id].options
                _Mapped(shelf, declared, number, service, options).hold()


@dataclass(frozen=True, slots=True)
class _Mapped:
    """One endpoint and what it maps."""

    shelf: Shelf
    declared: Declared
    number: int
    service: Service
    options: Mapping[str, object]

    def hold(self) -> None:
        for option in ("url", "headers", "query"):
            for step, text in _texts(self.options.get(option)):
                for pointer in _pointers(text):
                    self._placeholder(option, self._at(option, *step), pointer)
        for part in ("request", "response"):
            mapping = self.options.get(part)
            if isinstance(mapping, dict):
                self._fields(part, mapping)

    def _fields(self, part: str, mapping: Mapping[str, str]) -> None:
        sound = True
        for target, origin in mapping.items():
            sound &= self._there(part, self._at(part, target), origin if part == "request" else target)
        try:
            Fields(mapping)
        except ValueError as error:
            self._error(self._at(part), str(error), "Keep one of the two.")
            return
        if part == "response" and sound:
            for pointer in gaps(self.service.response.schema, [parts(target) for target in mapping]):
                message = f"the response of {self.service.id} requires {pointer}, and the mapping never fills it"
                remedy = f"Add {pointer} and where it stands in what the system sends."
                self._error(self._at(part), message, remedy)
        if part == "request" and self.options.get("method") in ("GET", "DELETE"):
            message = f"the request mapping is never used: {self.options['method']} sends no body"
            self.shelf.reading.warning(self._at(part), message, "Write method: POST, or take the mapping out.")

    def _there(self, part: str, spot: Spot, pointer: str) -> bool:
        """Whether the part of the service can have one value at the pointer; reported where it cannot."""
        schema = self.service.request.schema if part == "request" else self.service.response.schema
        if not can_contain(schema, pointer):
            message = f"the {part} of {self.service.id} can have nothing at {pointer}"
            meant = near(parts(pointer)[-1], member_names(schema)) if pointer else ""
            self._error(spot, message, f"{meant}Write a JSON Pointer to a member that its {part}.json describes.")
            return False
        if not singular(schema, parts(pointer)):
            message = f"{pointer} leads into a list in the {part} of {self.service.id}, where no one value is meant"
            self._error(spot, message, "Map the whole list, or let an adapter in Python (protocol: python) translate.")
            return False
        return True

    def _placeholder(self, option: str, spot: Spot, pointer: str) -> None:
        if not self._there("request", spot, pointer):
            return
        if not simple(self.service.request.schema, parts(pointer)):
            message = f"the request of {self.service.id} has no text, number or boolean at {pointer}"
            self._error(spot, message, "Write a JSON Pointer to one of its members.")
        elif option != "headers" and any(_within(pointer, each) for each in self.service.request_subjects):
            message = f"{pointer} identifies a person, and addresses are written into logs on the way"
            self.shelf.reading.warning(
                spot, message, "Send it in the body: method: POST, and request where it is mapped."
            )

    def _at(self, *place: str) -> Spot:
        where: Place = ("endpoints", self.number, *place)
        return self.declared.source.at(*where)

    def _error(self, spot: Spot, message: str, remedy: str) -> None:
        self.shelf.reading.error(spot, message, remedy)


def _within(pointer: str, subject: str) -> bool:
    whole, tokens = parts(pointer), parts(subject)
    return whole[: len(tokens)] == tokens and (whole == tokens or whole[-1] not in _ABOUT)


def _texts(option: object) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(option, str):
        yield (), option
    elif isinstance(option, dict):
        for name, text in option.items():
            yield (name,), text


def _pointers(text: str) -> Iterator[str]:
    """The ``{/pointer}`` places of a template."""
    for piece in text.split("{/")[1:]:
        pointer, closed, _ = piece.partition("}")
        if closed:
            yield f"/{pointer}"
