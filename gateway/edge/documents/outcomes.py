"""What a recipient says of a document: the bodies of POST /v1/inbox/{id} and POST /v1/inbox/lease, read strictly."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.core.delivery import BY_RECIPIENT
from gateway.core.line import NO_LINE, is_line
from gateway.core.refusal import Refusal, ShapeFault
from gateway.core.shape import Malformed, Shape, parse
from gateway.protocols.handover import MAX_NUMBER

MAX_OUTCOME = 8192
"""Bytes of such a body."""


class Word(StrEnum):
    """What became of a document at its recipient."""

    RETRIEVED = "retrieved"
    REGISTERED = "registered"
    REJECTED = "rejected"
    FORWARDED = "forwarded"
    """Another unit of the same agency is to get it."""


@dataclass(frozen=True, slots=True)
class Said:
    """An outcome as it was sent."""

    outcome: Word
    number: str | None = None
    reason: str | None = None
    text: str | None = None
    unit: str | None = None
    lease: str | None = None


_LEASE = {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[A-Za-z0-9._:-]+$"}


def _closed(*required: str, **properties: Mapping[str, Any]) -> Shape:
    return Shape(
        {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}
    )


_OUTCOME = _closed(
    "outcome",
    outcome={"type": "string", "enum": list(Word)},
    number={"type": "string", "maxLength": MAX_NUMBER},
    reason={"type": "string", "enum": sorted(BY_RECIPIENT)},
    text={"type": "string", "maxLength": 500},
    unit={"type": "string", "pattern": "^[a-z][a-z0-9_]{0,62}$"},
    lease=_LEASE,
)
_RENEWAL = _closed("lease", lease=_LEASE)
_NEEDS: Mapping[Word, tuple[str, ...]] = {
    Word.RETRIEVED: (),
    Word.REGISTERED: ("number",),
    Word.REJECTED: ("reason",),
    Word.FORWARDED: ("unit",),
}
_MAY = {Word.REJECTED: ("text",), Word.FORWARDED: ("text",)}
"""Beside what it needs, and the lease."""
_LINES = ("number", "text")


def read_outcome(raw: bytes) -> Said:
    """The outcome. Raises Refusal request.malformed or shape.request."""
    said = _shaped(_OUTCOME, raw)
    word = Word(said.pop("outcome"))
    allowed = {*_NEEDS[word], *_MAY.get(word, ()), "lease"}
    faults = [ShapeFault(f"/{name}", f"must be given with {word}") for name in _NEEDS[word] if name not in said]
    faults += [ShapeFault(f"/{name}", f"does not go with {word}") for name in said if name not in allowed]
    faults += [ShapeFault(f"/{name}", NO_LINE) for name in _LINES if name in said and not is_line(said[name])]
    if faults:
        raise _unfit(*faults)
    return Said(word, **said)


def read_renewal(raw: bytes) -> str:
    """The lease that is to be renewed. Raises Refusal request.malformed or shape.request."""
    lease: str = _shaped(_RENEWAL, raw)["lease"]
    return lease


def no_unit(agency: str) -> Refusal:
    """What is said of a unit that the recipient does not have."""
    return _unfit(ShapeFault("/unit", f"must be a unit that {agency} names in its folder"))


def no_way(agency: str, unit: str, protocol: str) -> Refusal:
    """What is said of a unit to which nothing can be handed over."""
    words = (
        f"names {unit}, to which no way leads: what {agency} gets of this service goes by {protocol}. Its folder needs "
        f"a way with unit: {unit} in deliveries, or a mailbox, which all units share"
    )
    return _unfit(ShapeFault("/unit", words))


def _shaped(shape: Shape, raw: bytes) -> dict[str, Any]:
    try:
        value = parse(raw)
    except Malformed as error:
        raise Refusal("request.malformed", f"The body is {error}.") from error
    if not shape.fits(value):
        raise _unfit(*shape.faults(value))
    fitting: dict[str, Any] = value
    return fitting


def _unfit(*faults: ShapeFault) -> Refusal:
    return Refusal(
        "shape.request", "The body does not say an outcome as docs/documents.md describes it.", errors=faults
    )
