"""A document as its sender, its recipients and its approver may see it: state, recipients, history, receipts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core import document
from gateway.core.attachment import digest_field
from gateway.core.delivery import State, ended
from gateway.core.document import Side
from gateway.core.model import Agency, AgencyId, Kind, ServiceId, SystemId
from gateway.core.receipt import instant
from gateway.edge.documents.records import Seal, detail_context, opened_head
from gateway.edge.store import Reads

MAX_STEPS = 1000
"""Steps that one answer shows, the last ones; those of one recipient can be asked for (``?recipient=``)."""

_FOUND = (
    "select p.id, p.kind, p.state, p.sender, p.agency, p.on_behalf, p.service, p.reference, p.digest, p.submitted, "
    "p.recipient, p.approver, (select max(s.seq) from steps s where s.document = p.id), "
    "d.recipient, d.unit, d.state, d.open, d.touched, d.attempts, d.requeued, "
    "case when l.owner is not null and l.lease >= {now} then 1 else 0 end "
    "from documents p left join deliveries d on d.document = p.id and d.kind <> 'receipt' "
    "left join lanes l on l.recipient = d.recipient and l.okey = d.okey where p.id = $1 order by d.seq"
)
_STEPS = (
    "select recipient, step, at, entry, detail, receipt from steps where document = $1 and seq <= $2 "
    "order by seq desc limit $3"
)
_STEPS_OF = (
    "select recipient, step, at, entry, detail, receipt from steps where document = $1 and seq <= $2 "
    "and (recipient is null or recipient = $4) order by seq desc limit $3"
)
_STANDING = (
    "select recipient, step, at, entry, detail, null from steps where seq in (select max(s.seq) from steps s "
    "join deliveries d on d.document = s.document and d.recipient = s.recipient and d.kind <> 'receipt' "
    "where s.document = $1 and s.seq <= $2 and s.step in (d.state, 'overdue', 'requeued') "
    "group by s.recipient, s.step) order by seq"
)
REACHED = (State.ARRIVED, State.RETRIEVED, State.REGISTERED, State.REJECTED)
"""States in which a document has been at its recipient, whatever ``touched`` says."""


@dataclass(frozen=True, slots=True)
class At:
    """Where it stands at one recipient."""

    recipient: AgencyId
    unit: str
    state: State
    open: bool
    touched: bool
    attempts: int
    requeued: int
    leased: bool

    @property
    def reached(self) -> bool:
        """The recipient has it, or may."""
        return self.touched or self.state in REACHED

    @property
    def shown(self) -> str | None:
        """Of what is still to be handed out: on its way just now, or after a failed attempt."""
        if not self.open or self.state is not State.SUBMITTED:
            return None
        return "underway" if self.leased else "waiting" if self.attempts else None


@dataclass(frozen=True, slots=True)
class Found:
    """A document as the database has it."""

    id: str
    kind: str
    own: State
    """Its own state: that of each delivery counts once there are any."""
    sender: SystemId
    agency: AgencyId
    on_behalf: AgencyId | None
    service: str
    reference: str
    digest: bytes
    submitted: float
    recipient: AgencyId | None
    """Of one that waits, or waited, for its second person."""
    approver: AgencyId | None
    last: int
    """Its last step."""
    at: tuple[At, ...]

    def side(self, system: SystemId, agency: Agency) -> Side | None:
        """As what a system sees it; None: it does not."""
        if self.agency == agency.id and (self.sender == system or not agency.documents_by_system):
            return Side.SENDER
        if self.on_behalf == agency.id:
            return Side.SENDER
        if any(each.recipient == agency.id and each.reached for each in self.at):
            return Side.RECIPIENT
        return Side.APPROVER if self.approver == agency.id else None

    def of(self, side: Side, agency: AgencyId) -> tuple[At, ...]:
        """The recipients that somebody sees."""
        if side is Side.SENDER:
            return self.at
        return tuple(each for each in self.at if each.recipient == agency and each.reached)

    @property
    def ended(self) -> bool:
        """Nothing will happen to it any more by itself."""
        return all(ended(each.state) for each in self.at) if self.at else self.own is not State.HELD


async def find(reader: Reads, identifier: str) -> Found | None:
    """The document with this id. Raises StoreFailed."""
    rows = await reader.read(_FOUND, (identifier,))
    if not rows:
        return None
    id_, kind, state, sender, agency, behalf, service, reference, digest, submitted, to, approver, last = rows[0][:13]
    return Found(
        id=id_,
        kind=kind,
        own=State(state),
        sender=SystemId(sender),
        agency=AgencyId(agency),
        on_behalf=behalf,
        service=service,
        reference=reference,
        digest=bytes(digest),
        submitted=submitted,
        recipient=to,
        approver=approver,
        last=int(last or 0),
        at=tuple(_at(row[13:]) for row in rows if row[13] is not None),
    )


def _at(row: Sequence[Any]) -> At:
    recipient, unit, state, is_open, touched, attempts, requeued, leased = row
    return At(
        recipient=AgencyId(recipient),
        unit=unit,
        state=State(state),
        open=bool(is_open),
        touched=bool(touched),
        attempts=attempts,
        requeued=requeued,
        leased=bool(leased),
    )


async def newest(reader: Reads, documents: Collection[str]) -> Mapping[str, int]:
    """The last step of each of these documents. Raises StoreFailed."""
    places = ", ".join(f"${place + 1}" for place in range(len(documents)))
    select = f"select document, max(seq) from steps where document in ({places}) group by document"  # noqa: S608 - numbers
    return {document: int(last) for document, last in await reader.read(select, tuple(documents))}


@dataclass(frozen=True, slots=True)
class Noted:
    """One step, opened."""

    recipient: str | None
    step: str
    at: float
    entry: str
    detail: Mapping[str, Any]
    receipt: str | None


async def steps(reader: Reads, found: Found, unseal: Seal, only: str | None) -> list[Noted]:
    """What happened to it, in order, as far as ``found`` knows; of one recipient where one is named.

    Raises StoreFailed, ``keys.NotOpened``.
    """
    values: tuple[Any, ...] = (found.id, found.last, MAX_STEPS)
    rows = await (reader.read(_STEPS, values) if only is None else reader.read(_STEPS_OF, (*values, only)))
    return [_noted(row, found.id, unseal) for row in reversed(rows)]


async def standing(reader: Reads, found: Found, unseal: Seal, happened: Sequence[Noted]) -> Sequence[Noted]:
    """The steps by which each recipient stands as it does, also those that ``happened`` has no room for.

    Raises StoreFailed, ``keys.NotOpened``.
    """
    if len(happened) < MAX_STEPS:
        return happened
    return [_noted(row, found.id, unseal) for row in await reader.read(_STANDING, (found.id, found.last))]


def _noted(row: Sequence[Any], document: str, unseal: Seal) -> Noted:
    recipient, step, at, entry, detail, receipt = row
    return Noted(
        recipient=recipient,
        step=step,
        at=at,
        entry=entry,
        detail=orjson.loads(unseal(bytes(detail), detail_context(document))) if detail is not None else {},
        receipt=bytes(receipt).decode() if receipt is not None else None,
    )


async def files(reader: Reads, found: Found, unseal: Seal) -> Sequence[Mapping[str, Any]]:
    """What went along, as envelopes name it, for as long as the body is kept.

    Raises StoreFailed, ``keys.NotOpened``.
    """
    ((head,),) = await reader.read("select head from documents where id = $1", (found.id,))
    return opened_head(found.id, head, unseal).get("attachments") or ()


def open_to(found: Found, side: Side, system: SystemId, home: Agency) -> bool:
    """Whether a system may have what went along: its agency's mailbox may name those that fetch there."""
    if side is Side.SENDER:
        return True
    units = [each.unit for each in found.at if each.recipient == home.id]
    if found.recipient == home.id and not units:  # it waits for the second person
        units = [""]
    return all(home.admits(system, ServiceId(found.service), unit or None) for unit in units)


def whole(found: Found, side: Side) -> bool:
    """Whether somebody may see what speaks of the whole of it: a subscriber may see a part of an event."""
    return side is Side.SENDER or found.kind != Kind.EVENT


@dataclass(frozen=True, slots=True)
class Kept:
    """What is read of a document beside where it stands."""

    happened: Sequence[Noted]
    standing: Sequence[Noted]
    attached: Sequence[Mapping[str, Any]]


def shown(found: Found, side: Side, agency: AgencyId, kept: Kept) -> dict[str, Any]:
    """The answer to ``GET /v1/documents/{id}``."""
    places = found.of(side, agency)
    own: dict[str | None, list[Noted]] = {}
    for each in kept.standing:
        own.setdefault(each.recipient, []).append(each)
    all_of_it = whole(found, side)
    receipts = [each for each in kept.happened if all_of_it or each.step != State.SUBMITTED]
    return {
        "document": found.id,
        "kind": found.kind,
        "service": found.service,
        "sender": found.sender,
        "on_behalf": found.on_behalf,
        "reference": found.reference if side is Side.SENDER else None,
        "submitted": instant(found.submitted),
        "state": overall(found.own, [each.state for each in places]),
        "digest": digest_field(found.digest) if all_of_it else None,
        "attachments": list(kept.attached),
        "summary": document.summary([each.state for each in places]),
        "recipients": [_recipient(each, own.get(each.recipient, ())) for each in places] or _held_for(found),
        "history": [_history(each) for each in kept.happened],
        "receipts": [each.receipt for each in receipts if each.receipt is not None],
    }


def overall(own: State, states: Sequence[str]) -> str:
    """One word for all recipients, where one is true of all of them."""
    return states[0] if len(set(states)) == 1 else own.value


def _held_for(found: Found) -> list[dict[str, Any]]:
    """The recipient of a document that has not gone out, or never will."""
    if found.recipient is None:
        return []
    return [{"recipient": found.recipient, "state": found.own, "shown": None, "attempts": 0, "late": 0}]


def _recipient(at: At, own: Sequence[Noted]) -> dict[str, Any]:
    last = next((each.detail for each in reversed(own) if each.step == at.state), {})
    told = [each.step for each in own if each.step in ("overdue", "requeued")]  # after a requeue it has new time
    return {
        "recipient": at.recipient,
        "state": at.state,
        "shown": at.shown,
        "attempts": at.attempts,
        "number": last.get("number"),
        "reason": last.get("reason"),
        "overdue": told[-1:] == ["overdue"] and not ended(at.state),
        "late": at.requeued,
    }


def _history(noted: Noted) -> dict[str, Any]:
    said = {"step": noted.step, "recipient": noted.recipient, "at": instant(noted.at), "entry": noted.entry}
    return {**said, "by": None, "number": None, "reason": None, **noted.detail}
