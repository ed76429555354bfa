"""The schema of each service at an address of its own, as far as a caller's agency gets or gives what it describes.

What is handed over names it: the ``dataschema`` of CloudEvents 1.0. So it must fit a part of an event as well as the
whole, under whichever of several agreements that part was cut.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from gateway.catalogue.bundling import DIALECT
from gateway.catalogue.terms import held
from gateway.core.delivery import State
from gateway.core.minimise import cut_of, reduced
from gateway.core.model import AgencyId, Catalogue, Grant, Kind, Pointer, Service, ServiceId, SystemId, agency_of
from gateway.core.policy import provides, shows
from gateway.core.receipt import TYPE
from gateway.core.refusal import Refusal

DOCUMENT = "document"
PARTS: Mapping[Kind, tuple[str, ...]] = {
    Kind.EXCHANGE: ("request", "response"),
    Kind.DOCUMENT: (DOCUMENT,),
    Kind.EVENT: (DOCUMENT,),
}
"""What a service has schemas of: the names of their files."""
RECEIPT = "/schemas/receipt.json"
"""Of what a receipt says."""


def address(service: str, part: str = DOCUMENT) -> str:
    """Where a schema is found, below the issuer."""
    return f"/schemas/{service}/{part}.json"


def schema(catalogue: Catalogue, consumer: SystemId, name: str, part: str) -> Mapping[str, Any]:
    """A part of a service, complete in itself.

    Raises Refusal ``catalogue.unknown``, and ``policy.no_agreement`` where only an agreement shows it.
    """
    service = catalogue.services.get(ServiceId(name))
    if service is None or part not in PARTS[service.kind] or not _known(catalogue, consumer, service):
        raise Refusal("catalogue.unknown", "There is no such schema that you can see; see /v1/catalogue.")
    seen = seen_by(catalogue, consumer, service, part)
    if seen is None:
        provider = next(_providers(catalogue, consumer, service), None)
        sentence = f"No agreement lets {agency_of(consumer)} see the {part} of {name}."
        raise Refusal("policy.no_agreement", sentence, agency=provider)
    return seen


def seen_by(
    catalogue: Catalogue, consumer: SystemId, service: Service, part: str = DOCUMENT
) -> Mapping[str, Any] | None:
    """The schema as the consumer's agency gets or gives what it describes; None without an agreement."""
    whole = (service.response if part == "response" else service.request).schema
    if service.kind is Kind.DOCUMENT or part == "request":
        return whole
    cuts = {grant.disclosed for grant in _granted(catalogue, consumer, service)}
    return disclosed(whole, cuts | {None} if _own(catalogue, consumer, service) else cuts)


def told(catalogue: Catalogue, consumer: SystemId, service: Service) -> bool:
    """Whether it is handed over to the consumer's agency, by whatever way."""
    if service.kind is Kind.EVENT:
        return any(True for _ in _granted(catalogue, consumer, service))
    return service.kind is Kind.DOCUMENT and _own(catalogue, consumer, service)


def identified(seen: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The schema as it is found at its address."""
    return {"$schema": DIALECT, "$id": place, **{word: inner for word, inner in seen.items() if word != "$schema"}}


def _known(catalogue: Catalogue, consumer: SystemId, service: Service) -> bool:
    """Whether the consumer may know of the service: as in the catalogue, or because its agency has to do with it."""
    shown = any(True for _ in _providers(catalogue, consumer, service))
    return shown or any(True for _ in _granted(catalogue, consumer, service))


def _own(catalogue: Catalogue, consumer: SystemId, service: Service) -> bool:
    """Whether the consumer's agency answers, takes or publishes it."""
    return provides(catalogue, agency_of(consumer), service)


def _providers(catalogue: Catalogue, consumer: SystemId, service: Service) -> Iterator[AgencyId]:
    return (each for each in sorted(catalogue.agencies) if shows(catalogue, each, service, consumer))


def _granted(catalogue: Catalogue, consumer: SystemId, service: Service) -> Iterator[Grant]:
    """Under which the consumer asks; of an event, under which any system of its agency is told: they share its way."""
    told = catalogue.agencies[agency_of(consumer)].systems if service.kind is Kind.EVENT else (consumer,)
    for provider in (each.id for each in catalogue.agencies.values() if service.id in each.endpoints):
        for system in told:
            for _, grant, _ in held(catalogue, provider, service.id, system):
                yield grant


def disclosed(whole: Mapping[str, Any], cuts: Collection[tuple[Pointer, ...] | None]) -> Mapping[str, Any] | None:
    """What any of the cuts leaves of a value fits it, where nothing is cut (None) the whole; None: there is no cut."""
    forms = [whole if cut is None else reduced(whole, cut_of(cut)) for cut in sorted(set(cuts), key=str)]
    if len(forms) < 2:
        return forms[0] if forms else None
    definitions = {name: inner for form in forms for name, inner in form.get("$defs", {}).items()}
    apart = [{word: inner for word, inner in form.items() if word not in ("$schema", "$defs")} for form in forms]
    return {"anyOf": apart, **({"$defs": definitions} if definitions else {})}


_TEXT = {"type": "string"}
_DIGEST = {"type": "string", "pattern": "^sha-256=:[A-Za-z0-9+/]{43}=:$", "description": "RFC 9530."}
_NUMBER = {"type": "integer", "minimum": 1}
_SAID: Mapping[str, Any] = {
    "instance": _TEXT,
    "document": {"type": "string", "format": "uuid"},
    "reference": {**_TEXT, "description": "The sender's own."},
    "service": _TEXT,
    "digest": {**_DIGEST, "description": "Of the body as it was sent, in the form of Content-Digest (RFC 9530)."},
    "attachments": {"type": "array", "items": _DIGEST},
    "sender": {**_TEXT, "description": "The system that sent it."},
    "on_behalf": {**_TEXT, "description": "The agency for which that one acted."},
    "recipient": {**_TEXT, "description": "The agency of which it speaks."},
    "recipients": {**_NUMBER, "description": "Of how many it speaks."},
    "state": {"enum": [*State]},
    "at": {"type": "string", "format": "date-time"},
    "by": _TEXT,
    "number": {**_TEXT, "description": "The recipient's register number."},
    "reason": _TEXT,
    "unconfirmed": {"const": True},
    "late": _NUMBER,
    "overdue": {"const": True},
    "entry": {**_TEXT, "description": "Number and leaf hash of its journal entry."},
}
RECEIPT_SCHEMA: Mapping[str, Any] = {
    "title": "What a receipt says",
    "description": f"The claims of a JWS of the type {TYPE}.",
    "type": "object",
    "required": ["instance", "document", "service", "sender", "state", "at", "entry"],
    "properties": _SAID,
}
"""Of the claims of ``core.receipt.Receipt``."""
