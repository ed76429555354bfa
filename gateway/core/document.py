"""What one submission is: whom it names, what it must agree with when it is repeated, and what keeps its order.

Of everything that ends in a keyed hash the bytes are made here, each kind under a name of its own and each part with
its length before it, so that no two of them can be taken for each other.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from gateway.core.entry import canonical, values_at
from gateway.core.exchange import AGENCY, Head
from gateway.core.life import End, Life, Span, deadline
from gateway.core.minimise import parts
from gateway.core.model import AgencyId, Catalogue, Kind, Person, Pointer, Service, ServiceId
from gateway.core.refusal import Refusal

MAX_NAMED = 64
"""Agencies and groups that one Exchange-To may name: the longest of them still fit into a header (8190 bytes)."""
MAX_WAIT = 60.0
"""Seconds that a call may wait for something to happen (``Prefer: wait``)."""
GROUP = "group:"

_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,6})\"?", re.IGNORECASE)
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def known_id(text: str) -> str:
    """A document's id from an address. Raises Refusal document.unknown where it cannot be one."""
    if not is_id(text):
        raise unknown()
    return text


def is_id(text: str) -> bool:
    """Whether it may be a document's id."""
    return _ID.fullmatch(text) is not None


def unknown() -> Refusal:
    """The same words for a document that is not there and for one that the caller must not know of."""
    return Refusal("document.unknown", "No document with this id shows to your system.")


def names(header: str | None) -> tuple[str, ...]:
    """The agencies and groups in Exchange-To, as written, sorted. Raises Refusal request.malformed."""
    if header is None:
        raise Refusal("request.malformed", "The header Exchange-To is missing: name agencies, or group:NAME.")
    found = sorted({each.strip() for each in header.split(",")})
    if len(found) > MAX_NAMED or not all(AGENCY.fullmatch(each.removeprefix(GROUP)) for each in found):
        raise Refusal(
            "request.malformed",
            f"Exchange-To must list agencies, or groups as group:NAME, by commas, {MAX_NAMED} at most.",
        )
    return tuple(found)


def addressed(catalogue: Catalogue, named: Iterable[str], sender: AgencyId) -> tuple[AgencyId, ...]:
    """Whom these names mean, each once. A sender that is in the group is not meant by it.

    Raises Refusal catalogue.unknown where a group has nobody else.
    """
    found: dict[AgencyId, None] = {}
    for name in named:
        if not name.startswith(GROUP):
            found[AgencyId(name)] = None
            continue
        group = name.removeprefix(GROUP)
        members = [each.id for each in catalogue.agencies.values() if group in each.groups and each.id != sender]
        if not members:
            raise Refusal("catalogue.unknown", f"No other agency is in the group {group}.")
        found.update(dict.fromkeys(sorted(members)))
    return tuple(found)


def wait(preferences: Sequence[str]) -> float:
    """Seconds of ``Prefer: wait`` (RFC 7240, section 4.3), at most MAX_WAIT; 0 where none is asked for.

    A preference that cannot be understood is passed over (section 2).
    """
    for each in ",".join(preferences).split(","):
        found = _WAIT.fullmatch(each.partition(";")[0].strip())
        if found:
            return min(float(found[1]), MAX_WAIT)
    return 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """What a submission is and whom it names."""

    kind: Kind
    service: ServiceId
    named: tuple[str, ...]
    """As in the address or in Exchange-To; of an event nobody."""


def fingerprint(target: Target, head: Head, attachments: Iterable[str], digest: bytes) -> bytes:
    """What a repeated reference must agree in: target, purpose, case, mandate, attachments, and the body's bytes.

    The bytes as they were received, and not what they mean: the receipt speaks of their digest.
    """
    of = (head.purpose, head.case or "", head.on_behalf or "")
    said = (target.kind, target.service, *of, ",".join(target.named), ",".join(attachments))
    return _framed("submission", *(each.encode() for each in said), digest)


def ordering(service: Service, value: Any, sender: AgencyId, recipient: AgencyId) -> bytes | None:
    """What of its documents keeps its order: those of one sender, for one recipient, about one case, say.

    None: this one keeps no order with any other.
    """
    pointer = service.life.order_by if service.life else None
    found = list(values_at(value, parts(Pointer(pointer)))) if pointer else []
    if not found:
        return None
    return _framed("order", recipient.encode(), sender.encode(), service.id.encode(), canonical(found))


def onward(okey: str, unit: str) -> bytes:
    """What of the documents that were forwarded to a unit keeps its order: what kept it before."""
    return _framed("onward", okey.encode(), unit.encode())


def of_case(case: str) -> bytes:
    """By which documents of a case are found again."""
    return _framed("case", case.encode())


def of_person(person: Person) -> bytes:
    """By which requester and approver are compared: persons are their issuer's subjects, whatever they are called."""
    return _framed("person", person.issuer.encode(), person.subject.encode())


def _framed(kind: str, *said: bytes) -> bytes:
    return b"".join([part for each in (kind.encode(), *said) for part in (len(each).to_bytes(4, "big"), each)])


def seconds(span: Span, at: datetime, catalogue: Catalogue) -> float:
    """From ``at`` until the span has passed."""
    return (deadline(at, span, catalogue.calendar, catalogue.zone) - at).total_seconds()


def to_register(catalogue: Catalogue, service: ServiceId, at: datetime) -> float | None:
    """Seconds until what arrives then should be registered, where its service says so."""
    said = catalogue.services.get(service)
    span = said.life.register_within if said and said.life else None
    return None if span is None else seconds(span, at, catalogue)


def life_of(service: Service) -> Life:
    """How its documents live. Raises ValueError for an exchange, which has none."""
    if service.life is None:
        raise ValueError(f"{service.id} is no document and no event")
    return service.life


class Side(StrEnum):
    """As what somebody sees a document."""

    SENDER = "sender"
    """Also the agency on whose behalf it was sent."""
    RECIPIENT = "recipient"
    APPROVER = "approver"


_REACHED = (End.ARRIVED, End.RETRIEVED, End.REGISTERED)
"""In the order in which a document comes to them."""


def is_done(end: End, states: Collection[str]) -> bool:
    """Whether every recipient has brought it to where the service's documents have got what they were sent for."""
    enough = _REACHED[_REACHED.index(end) :]
    return bool(states) and all(state in enough for state in states)


def summary(states: Iterable[str]) -> Mapping[str, int]:
    """How many recipients there are, and how many of them stand where."""
    counted: dict[str, int] = {}
    for state in states:
        counted[str(state)] = counted.get(state, 0) + 1
    return {"of": sum(counted.values()), **counted}
