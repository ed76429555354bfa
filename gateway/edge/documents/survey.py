"""What operators see of documents: where each stands and what happened to it, never what is written in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core.delivery import State
from gateway.edge.documents.records import Seal, detail_context
from gateway.edge.store import Reads

MAX_LISTED = 10_000
"""Deliveries that one list shows."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which deliveries; None: whatever."""

    state: State | None = None
    """None: what is still to be handed out, and what could not be."""
    recipient: str | None = None
    kind: str | None = None
    """None: documents and events, without receipts."""
    older: float = 0.0
    """Seconds since the last change of the state."""
    most: int = 100


@dataclass(frozen=True, slots=True)
class Line:
    """One delivery."""

    document: str
    kind: str
    service: str
    sender: str
    recipient: str
    state: State
    shown: str | None
    """``underway`` or ``waiting``."""
    age: float
    """Seconds in this state."""
    attempts: int
    late: int
    """How often it was requeued."""


_COLUMNS = (
    "d.id, l.kind, d.service, d.sender, l.recipient, l.state, l.open, l.attempts, l.requeued, {now} - l.changed, "
    "n.lease >= {now}"
)
_JOINED = (
    "deliveries l join documents d on d.id = l.document "
    "left join lanes n on n.recipient = l.recipient and n.okey = l.okey"
)
_HELD = (
    "select id, kind, service, sender, recipient, 'held', 0, 0, 0, {now} - submitted, 0 from documents "
    "where state = 'held'"
)


async def listed(reader: Reads, wanted: Wanted) -> tuple[Line, ...]:
    """The oldest first."""
    values: list[object] = []

    def bound(condition: str, value: object) -> str:
        values.append(value)
        return condition.replace("?", f"${len(values)}")

    held = wanted.state is State.HELD
    recipient, since, seq = ("recipient", "submitted", "seq") if held else ("l.recipient", "l.changed", "l.seq")
    conditions = []
    if not held:
        conditions.append(bound("l.kind = ?", wanted.kind) if wanted.kind else "l.kind <> 'receipt'")
        chosen = "(l.open or l.state = 'undeliverable')"
        conditions.append(chosen if wanted.state is None else bound("l.state = ?", wanted.state.value))
    if wanted.recipient is not None:
        conditions.append(bound(f"{recipient} = ?", wanted.recipient))
    if wanted.older:
        conditions.append(bound(f"{since} <= {{now}} - ?", wanted.older))
    start = _HELD if held else f"select {_COLUMNS} from {_JOINED} where true"  # noqa: S608 - constants
    sql = " and ".join([start, *conditions])
    rows = await reader.read(f"{sql} order by {seq} limit {min(wanted.most, MAX_LISTED):d}", values)
    return tuple(_line(row) for row in rows)


def _line(row: Sequence[Any]) -> Line:
    document, kind, service, sender, recipient, state, is_open, attempts, late, age, leased = row
    shown = None
    if state == State.SUBMITTED and is_open:
        shown = "underway" if leased else "waiting" if attempts else None
    return Line(
        document=document,
        kind=kind,
        service=service,
        sender=sender,
        recipient=recipient,
        state=State(state),
        shown=shown,
        age=age,
        attempts=attempts,
        late=late,
    )


@dataclass(frozen=True, slots=True)
class Happened:
    """One step."""

    at: float
    """Seconds since 1970."""
    step: str
    recipient: str | None
    by: str | None
    reason: str | None
    """A code; what persons typed is not shown."""
    unit: str | None
    entry: str


@dataclass(frozen=True, slots=True)
class Told:
    """One document."""

    id: str
    kind: str
    service: str
    sender: str
    on_behalf: str | None
    state: str
    submitted: float
    digest: bytes
    purged: bool
    """Its body is gone: its time has passed."""
    deliveries: tuple[Line, ...]
    steps: tuple[Happened, ...]


_DOCUMENT = (
    "select id, kind, service, sender, on_behalf, state, submitted, digest, body is null from documents where id = $1"
)
_STEPS = "select at, step, recipient, entry, detail from steps where document = $1 order by seq"


async def told(reader: Reads, document: str, unseal: Seal) -> Told | None:
    """Everything that happened to it; None: there is none with this id."""
    rows = await reader.read(_DOCUMENT, (document,))
    if not rows:
        return None
    lines = await reader.read(f"select {_COLUMNS} from {_JOINED} where d.id = $1 order by l.seq", (document,))  # noqa: S608
    steps = await reader.read(_STEPS, (document,))
    happened = tuple(_happened(row, document, unseal) for row in steps)
    return Told(*(*rows[0], tuple(map(_line, lines)), happened))


def _happened(row: Sequence[Any], document: str, unseal: Seal) -> Happened:
    at, step, recipient, entry, sealed = row
    detail = orjson.loads(unseal(bytes(sealed), detail_context(document))) if sealed is not None else {}
    return Happened(
        at=at,
        step=step,
        recipient=recipient,
        by=detail.get("by"),
        reason=detail.get("reason"),
        unit=detail.get("unit"),
        entry=entry,
    )
