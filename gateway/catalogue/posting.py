"""What can be wrong with what agencies say of documents and events: patterns, publications, subscriptions, mandates."""

from collections.abc import Mapping
from typing import Any

from gateway.catalogue.agencies import Declared
from gateway.catalogue.reading import Spot, near
from gateway.catalogue.shelf import Shelf
from gateway.catalogue.signatures import BadSignature, Claim, canonical_mandate, verify
from gateway.core.model import Catalogue, Kind, Subscription


def posting(shelf: Shelf) -> None:
    """Everything about deliveries, publications, subscriptions and mandates that needs more than their own file."""
    domains = _domains(shelf)
    for declared in shelf.agencies.good.values():
        for number, way in enumerate(declared.written.deliveries):
            for count, pattern in enumerate(way.services):
                _pattern(shelf, pattern, domains, declared.source.at("deliveries", number, "services", count))
        for number, each in enumerate(declared.written.publishes):
            _of_kind(shelf, each.service, Kind.EVENT, declared.source.at("publishes", number, "service"))
        for number, one in enumerate(declared.agency.subscriptions):
            _subscription(shelf, declared, number, one)
        for number, _ in enumerate(declared.written.mandates):
            _mandate(shelf, declared, number)


def unheard(shelf: Shelf, whole: Catalogue) -> None:
    """Warn of subscriptions that no agreement permits: nothing comes of them."""
    for declared in shelf.agencies.good.values():
        for number, each in enumerate(declared.agency.subscriptions):
            grants = whole.grants.get((each.publisher, each.service, each.system), ())
            known = each.service in shelf.services.good and each.publisher in shelf.agencies.good
            if known and not any(each.purpose in grant.purposes for _, grant in grants):
                message = f"no agreement lets {each.system} be told of {each.service} of {each.publisher}"
                remedy = f"Make one in policies/ that names it and the purpose {each.purpose}: it gets nothing yet."
                shelf.reading.warning(declared.source.at("subscriptions", number), message, remedy)


def _domains(shelf: Shelf) -> frozenset[str]:
    """The patterns of domains that have a document or an event, or may have one among what could not be read."""
    sent = (name for name, each in shelf.services.good.items() if each.kind is not Kind.EXCHANGE)
    return frozenset(f"{name.partition('.')[0]}.*" for name in (*sent, *shelf.services.broken))


def _pattern(shelf: Shelf, pattern: str, domains: frozenset[str], spot: Spot) -> None:
    if not pattern.endswith("*"):
        _of_kind(shelf, pattern, None, spot)
    elif pattern not in ("*", *domains):
        remedy = f"{near(pattern, domains)}Describe one under schemas/{pattern[:-2]}/, or correct the pattern."
        shelf.reading.error(spot, f"there is no document or event {pattern}", remedy)


def _of_kind(shelf: Shelf, name: str, kind: Kind | None, spot: Spot) -> bool:
    """Whether it is a service of that kind, or (None) a document or an event; what is not is reported."""
    service = shelf.service(name, spot)
    if service is None:
        return False
    if service.kind is kind or (kind is None and service.kind is not Kind.EXCHANGE):
        return True
    wanted = "event" if kind is Kind.EVENT else "document or event"
    remedy = "Name one whose service.yaml says so; exchanges stand under endpoints, documents under deliveries."
    shelf.reading.error(spot, f"{name} is no {wanted}", remedy)
    return False


def _subscription(shelf: Shelf, declared: Declared, number: int, one: Subscription) -> None:
    source, agency = declared.source, declared.agency
    event = _of_kind(shelf, one.service, Kind.EVENT, source.at("subscriptions", number, "service"))
    publisher = shelf.agency(one.publisher, source.at("subscriptions", number, "publisher"))
    shelf.purpose(one.purpose, source.at("subscriptions", number, "purpose"))
    if event and publisher is not None and one.service not in publisher.agency.endpoints:
        remedy = f"Have {one.publisher} write it under publishes, or correct the name."
        message = f"{one.publisher} publishes no {one.service}"
        shelf.reading.error(source.at("subscriptions", number, "service"), message, remedy)
    if event and agency.way(one.service) is None:
        remedy = f"Add a way under deliveries: {{services: [{one.service}], protocol: mailbox}}."
        message = f"no way of the agency takes {one.service}"
        shelf.reading.error(source.at("subscriptions", number, "service"), message, remedy)


def _mandate(shelf: Shelf, declared: Declared, number: int) -> None:
    source, agency, written = declared.source, declared.agency, declared.written.mandates[number]
    before = shelf.reading.errors()
    place = ("mandates", number)
    if written.to == agency.id:
        shelf.reading.error(source.at(*place, "to"), "an agency needs no mandate for itself", "Name who acts for it.")
    shelf.agency(written.to, source.at(*place, "to"))
    for count, name in enumerate(written.services):
        shelf.service(name, source.at(*place, "services", count))
    start, until = written.valid.start, written.valid.until
    if until < start:
        message = f"the mandate ends on {until}, before it begins on {start}"
        shelf.reading.error(source.at(*place, "valid"), message, "Correct the days.")
    elif until < shelf.today:
        remedy = "Have it renewed, or remove it; calls under it are refused with identity.not_mandated."
        shelf.reading.warning(source.at(*place, "valid"), f"the mandate expired on {until}", remedy)
    if shelf.reading.errors() == before:
        _signed(shelf, declared, number)


def _signed(shelf: Shelf, declared: Declared, number: int) -> None:
    source, agency, signature = declared.source, declared.agency, declared.written.mandates[number].signature
    to = declared.written.mandates[number].to
    spot = source.at("mandates", number, "signature")
    again = f"gateway mandate sign {source.file} --to {to}"
    if signature is None:
        remedy = f"Have a signatory of {agency.id} sign: {again}."
        shelf.reading.error(spot, f"the mandate of {agency.id} to {to} is not signed", remedy)
        return
    posts = [each for each in agency.signatories.values() if each.title == signature.by]
    if not posts:
        known = near(signature.by, (each.title for each in agency.signatories.values()))
        remedy = f"{known}Name a title under signatories of this file."
        shelf.reading.error(spot, f'{agency.id} has no signatory "{signature.by}"', remedy)
        return
    keys = tuple(key for post in posts for key in post.keys)
    if not keys:  # its key file is broken, which was reported
        return
    written: Mapping[str, Any] = source.value["mandates"][number]
    claim = Claim(shelf.instance, signature.by, signature.on)
    try:
        verify(signature.jws, canonical_mandate(agency.id, written), keys, claim)
    except BadSignature as error:
        lines = source.span("mandates", number, "signature")
        remedy = f"Remove the signature, {lines}, and have the mandate signed as it is now: {again}."
        shelf.reading.error(spot, f"the signature of the mandate does not verify: {error}", remedy)
    if signature.on > shelf.today:
        message = f"the signature of the mandate is dated {signature.on}, which lies in the future"
        shelf.reading.warning(spot, message, "Ask whether the day was mistyped; if so, have it signed anew.")
