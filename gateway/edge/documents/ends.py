"""What becomes of a document by somebody's word: its sender's recall, a recipient's outcome, an operator's order.

Each locks the document's lanes before it looks, asks ``core.delivery`` what may be, and writes the step down in the
same transaction. Works on one document are quickest where ``Journal.run`` is told its lanes (``positions.lanes_of``).
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from gateway.core.delivery import Happening, Moved, Refused, State, Unmoved, next_step
from gateway.core.model import AgencyId, ServiceId
from gateway.edge.documents.positions import ITSELF, Delivery, Work, enter, leave, let_go, locked, move, paper_of
from gateway.edge.documents.records import Step
from gateway.edge.documents.scribe import Scribe
from gateway.edge.journal import Book
from gateway.edge.store import Plan, StoreWaited

MAX_DISPUTES = 10
"""Outcomes after an end that are written down of one document at one recipient; more change nothing but a counter."""
TRIES = 5
"""Times that something is decided anew because others changed it meanwhile."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a recipient says of a document."""

    outcome: str
    """``retrieved``, ``registered``, ``rejected`` or ``forwarded``."""
    by: str
    """The system that says it."""
    number: str | None = None
    reason: str | None = None
    text: str | None = None
    lease: str | None = None
    person: Mapping[str, str | None] | None = None
    ways: Mapping[str, bool] = field(default_factory=dict)
    """Of the recipient, by name, as its folder has them now: whether it fetches there, and needs a lease therefore."""
    to_register: Callable[[ServiceId], float | None] = lambda _: None
    """Seconds from now until what it has of the service should be registered."""


@dataclass(frozen=True, slots=True)
class Onward:
    """Where a forwarded document goes."""

    unit: str
    way: str
    okey: Callable[[str], str]
    """From the ordering key that it has to the one in the unit's mailbox."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator decided."""

    who: str
    reason: str

    def step(self, delivery: Delivery, name: str, state: State, *, unconfirmed: bool = False) -> Step:
        """As it is written down."""
        person = {"operator": self.who}
        return delivery.step(name, state, by="operator", text=self.reason, person=person, unconfirmed=unconfirmed)


@dataclass(frozen=True, slots=True)
class Anew:
    """How what is ordered to go out again goes now."""

    way: str
    unit: str
    pulled: bool
    """A mailbox, in which it has arrived at once."""
    overdue_seconds: float | None = None
    """From then until it should be registered."""


@dataclass(frozen=True, slots=True)
class Changed:
    """It was done."""

    state: State
    receipt: bytes | None
    kept: tuple[AgencyId, ...] = ()
    """Of a recall from all: recipients that have it, or may."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """It stood so already."""

    state: State
    receipt: bytes | None


Answer: TypeAlias = Changed | Unchanged | Refused

UNKNOWN = Refused("document.unknown")


def recall(document: str, recipient: AgencyId | None, by: str, scribe: Scribe) -> Work[Answer]:
    """The sender withdraws it, from one recipient or all: wherever it certainly has not been handed over."""

    def plan(book: Book) -> Plan[Answer]:
        held = yield from end_held(book, document, HeldEnd(State.RECALLED, by), scribe)
        if held is not None:
            return held
        found = yield from locked(document, recipient)
        steps = [(each, next_step(each.position, Happening.RECALLED)) for each in found]
        moved = yield from move([each.move(State.RECALLED) for each, step in steps if isinstance(step, Moved)])
        gone = [each for each in found if each.seq in moved]
        if gone:
            words = [each.step(State.RECALLED, State.RECALLED, by=by) for each in gone]
            written = yield from scribe.write_all(book, words, gone[0].now)
            kept = tuple(each.recipient for each, step in steps if isinstance(step, Refused))
            return Changed(State.RECALLED, written[0].receipt, kept)
        refused = [step for _, step in steps if isinstance(step, Refused)]
        if refused:
            return next((each for each in refused if each.code == "document.may_have_arrived"), refused[0])
        return (yield from stands(found[0]) if found else _never_out(document, recipient))

    return plan


def _never_out(document: str, recipient: AgencyId | None) -> Plan[Answer]:
    """A recall of what has no deliveries: it was held and has ended, or it is an event for nobody."""
    rows = yield (
        (
            "select p.state, s.receipt from documents p left join steps s on s.document = p.id and s.step = p.state "
            "where p.id = $1 order by s.seq desc limit 1"
        ),
        (document,),
    )
    state = State(rows[0][0]) if rows else None
    if state is None or (state is State.SUBMITTED and recipient is not None):
        return UNKNOWN
    if state is State.RECALLED:
        return Unchanged(state, bytes(rows[0][1]))
    return Refused("document.ended")


def outcome(document: str, recipient: AgencyId, said: Outcome, scribe: Scribe) -> Work[Answer]:
    """A recipient retrieved, registered or rejected it: also before it answered the push, which implies arrival."""

    def decide(book: Book, found: Delivery) -> Plan[Answer | None]:
        if _needs_lease(found, said) and not _has_lease(found, said):
            return Refused("document.lease")
        match next_step(found.position, Happening(said.outcome)):
            case Refused() as refused:
                return (yield from _disputed(book, found, said, refused, scribe))
            case Unmoved():
                return (yield from _again(book, found, said, scribe))
            case Moved(to=to):
                # before the answer to its push: it arrives by this word
                first = to is State.RETRIEVED and found.position.state is State.SUBMITTED
                overdue = said.to_register(found.paper.service) if first else None
                if not (yield from move([found.move(to, overdue)])):
                    return None
                if said.lease is not None and found.position.open:
                    yield from let_go((found.recipient, found.okey), said.lease)
                receipt = yield from scribe.write(book, _step(found, said, to.value, to), found.now)
                return Changed(to, receipt)

    return _decided(document, recipient, decide)


def forward(document: str, recipient: AgencyId, said: Outcome, onward: Onward, scribe: Scribe) -> Work[Answer]:
    """Another unit of the recipient is to get it: it stays arrived, and lies in that unit's lane from now on."""

    def decide(book: Book, found: Delivery) -> Plan[Answer | None]:
        if _needs_lease(found, said) and not _has_lease(found, said):
            return Refused("document.lease")
        step = next_step(found.position, Happening.FORWARDED)
        if isinstance(step, Refused):
            return (yield from _disputed(book, found, said, step, scribe))
        if not (yield from _still_kept(document)):
            return Refused("document.state")
        old, new = (found.recipient, found.okey), (found.recipient, onward.okey(found.okey))
        yield from enter(new, found.paper.service, onward.way, onward.unit)
        again = "okey = $4, unit = $5, open = true, touched = true"
        if not (yield from _reopened(found, State.ARRIVED, again, (new[1], onward.unit))):
            yield from leave([new])
            return None
        if found.position.open:
            yield from leave([old])
            if said.lease is not None:
                yield from let_go(old, said.lease)
        word = _step(found, said, Happening.FORWARDED, State.ARRIVED, unit=onward.unit)
        yield from scribe.write(book, word, found.now)
        return (yield from stands(found))

    return _decided(document, recipient, decide)


def requeue(document: str, recipient: AgencyId, order: Order, anew: Anew, scribe: Scribe) -> Work[Answer]:
    """It goes out again, late and marked so, by the way that there is now; its time begins anew.

    Whether it may have reached the recipient before stays known: what has cannot be recalled afterwards.
    """

    def decide(book: Book, found: Delivery) -> Plan[Answer | None]:
        step = next_step(found.position, Happening.REQUEUED)
        if isinstance(step, Refused) or not (yield from _still_kept(document)):
            return Refused("document.state")
        lane = (found.recipient, found.okey)
        present = yield from enter(lane, found.paper.service, anew.way, anew.unit)
        again = "okey = $4, unit = $5, open = true, requeued = requeued + 1, overdue = null"
        if not (yield from _reopened(found, State.SUBMITTED, again, (found.okey, anew.unit))):
            yield from leave([lane])
            return None
        receipt = yield from scribe.write(book, order.step(found, Happening.REQUEUED, State.SUBMITTED), found.now)
        if not anew.pulled or present != anew.way:  # where it has to follow others, it arrives with them
            return Changed(State.SUBMITTED, receipt)
        at_once = "update deliveries set state = 'arrived', overdue = {now} + $2 where seq = $1"  # a mailbox has it
        yield at_once, (found.seq, anew.overdue_seconds)
        word = found.step(State.ARRIVED, State.ARRIVED, by="gateway")
        return Changed(State.ARRIVED, (yield from scribe.write(book, word, found.now)))

    return _decided(document, recipient, decide)


def expire_now(document: str, recipient: AgencyId, order: Order, scribe: Scribe) -> Work[Answer]:
    """An operator ends what waits, before its time; not what somebody has in hand just now."""

    def decide(book: Book, found: Delivery) -> Plan[Answer | None]:
        step = next_step(found.position, Happening.EXPIRED)
        if not isinstance(step, Moved):
            already = found.position.state is State.EXPIRED
            return (yield from stands(found)) if already else Refused("document.state")
        if not (yield from move([found.move(State.EXPIRED)])):
            return None
        word = order.step(found, State.EXPIRED, State.EXPIRED, unconfirmed=step.unconfirmed)
        return Changed(State.EXPIRED, (yield from scribe.write(book, word, found.now)))

    def plan(book: Book) -> Plan[Answer]:
        end = HeldEnd(State.EXPIRED, "operator", order.reason, {"operator": order.who})
        held = yield from end_held(book, document, end, scribe)
        return held or (yield from _decided(document, recipient, decide)(book))

    return plan


def _decided(
    document: str, recipient: AgencyId, decide: Callable[[Book, Delivery], Plan[Answer | None]]
) -> Work[Answer]:
    """A decision about one delivery; made anew where the delivery, in no lane, was changed by others meanwhile."""

    def plan(book: Book) -> Plan[Answer]:
        for _ in range(TRIES):
            found = yield from locked(document, recipient)
            if not found:
                return UNKNOWN
            answer = yield from decide(book, found[0])
            if answer is not None:
                return answer
        raise StoreWaited("a document is changed again and again while something is to be done to it")

    return plan


def _needs_lease(found: Delivery, said: Outcome) -> bool:
    """What lies in a mailbox belongs to whoever leased it, whatever its state; what is pushed is the recipient's.

    The state tells only of a way that the folder names no more.
    """
    pulled = said.ways.get(found.way or "", found.position.state is State.ARRIVED)
    return found.position.open and pulled


def _has_lease(found: Delivery, said: Outcome) -> bool:
    return said.lease is not None and found.owner == said.lease and found.position.touched


def _step(found: Delivery, said: Outcome, name: str, state: State, unit: str | None = None) -> Step:
    return found.step(
        name,
        state,
        by=said.by,
        number=said.number,
        reason=said.reason,
        text=said.text,
        person=said.person,
        unit=unit,
    )


def _again(book: Book, found: Delivery, said: Outcome, scribe: Scribe) -> Plan[Answer]:
    """The same answer gives the same receipt; another one, with another number, say, is disputed."""
    answer = yield from stands(found)
    claims = claims_of(answer.receipt)
    if (claims.get("number"), claims.get("reason")) == (said.number, said.reason):
        return answer
    return (yield from _disputed(book, found, said, Refused("document.ended", disputed=True), scribe))


def _disputed(book: Book, found: Delivery, said: Outcome, refused: Refused, scribe: Scribe) -> Plan[Refused]:
    """What a recipient says after an end is evidence and is kept, as often as makes sense."""
    if refused.disputed:
        sql = "select count(*) from steps where document = $1 and recipient = $2 and step = 'disputed'"
        rows = yield sql, (found.paper.id, found.recipient)
        if rows[0][0] < MAX_DISPUTES:
            word = _step(found, said, "disputed", found.position.state)
            yield from scribe.write(book, word, found.now)
    return refused


def stands(found: Delivery) -> Plan[Unchanged]:
    """Where it stands, with the receipt that was signed when it came there."""
    state = found.position.state
    rows = yield (
        (
            "select receipt from steps where document = $1 and step = $3 and (recipient = $2 or recipient is null) "
            "order by seq desc limit 1"
        ),
        (found.paper.id, found.recipient, state.value),
    )
    return Unchanged(state, bytes(rows[0][0]) if rows and rows[0][0] is not None else None)


def claims_of(receipt: bytes | None) -> Mapping[str, Any]:
    """What a receipt of our own says; it was signed before it was stored."""
    if receipt is None:
        return {}
    payload = receipt.split(b".")[1]
    claims: Mapping[str, Any] = orjson.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    return claims


def _still_kept(document: str) -> Plan[bool]:
    """Whether there is a body to hand over; from here on nobody purges it before the commit."""
    rows = yield "update documents set state = state where id = $1 and body is not null returning id", (document,)
    return bool(rows)


def _reopened(found: Delivery, to: State, again: str, values: tuple[str, ...]) -> Plan[bool]:
    """Put it into a lane again, with as much time as it had; False where it stands otherwise meanwhile."""
    before = found.position
    rows = yield (
        (
            f"update deliveries set state = '{to.value}', {again}, changed = {{now}}, since = {{now}}, "  # noqa: S608
            "expires = {now} + (expires - since) where seq = $1 and state = $2 and open = $3 returning seq"
        ),
        (found.seq, before.state.value, before.open, *values),
    )
    return bool(rows)


@dataclass(frozen=True, slots=True)
class HeldEnd:
    """How a document ends that waits for its second person."""

    state: State
    by: str
    text: str | None = None
    person: Mapping[str, str | None] | None = None


def end_held(book: Book, document: str, end: HeldEnd, scribe: Scribe) -> Plan[Changed | None]:
    """End a document that waits for a second person; None: it does not, or not any more."""
    rows = yield (
        f"update documents set state = $2 where id = $1 and state = 'held' returning {', '.join(ITSELF)}, {{now}}",  # noqa: S608
        (document, end.state.value),
    )
    if not rows:
        return None
    paper, now = paper_of(rows[0][:7]), rows[0][7]
    word = Step(paper, None, end.state, end.state, by=end.by, text=end.text, person=end.person)
    return Changed(end.state, (yield from scribe.write(book, word, now)))
