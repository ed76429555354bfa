"""Where deliveries stand, read under their lanes' locks, and how they move: what claims, ends and sweeps share.

Whoever changes an open delivery holds its lane first. One that is no longer in a lane changes by compare-and-set.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from gateway.core.delivery import Position, State
from gateway.core.model import AgencyId, Kind, ServiceId, SystemId
from gateway.edge.documents.opening import KEPT
from gateway.edge.documents.records import LaneKey, Paper, Step
from gateway.edge.journal import Book
from gateway.edge.store import Driver, Plan, StoreWaited, chunks

T = TypeVar("T")
Work: TypeAlias = Callable[[Book], Plan[T]]

TRIES = 5
"""Times that a delivery is looked for which others move to and fro meanwhile."""

ITSELF = ("id", "kind", "sender", "on_behalf", "service", "reference", "digest")
"""The columns of ``documents`` that make a paper. RETURNING names them without their table, as SQLite wants it."""
PAPER = ", ".join(f"p.{name}" for name in ITSELF)
_STANDS = "d.seq, d.recipient, d.okey, d.kind, d.unit, d.state, d.open, d.touched, d.attempts, d.requeued"
_LEASE = "l.way, case when l.lease >= {now} then l.owner end, {now}"
FOUND = (
    f"select {PAPER}, {_STANDS}, {_LEASE} from deliveries d join documents p on p.id = d.document "  # noqa: S608
    "left join lanes l on l.recipient = d.recipient and l.okey = d.okey"
)
"""What ``delivery_of`` reads."""
_NAMED = "document = $1 and kind <> 'receipt'"
_LANES = f"select recipient, okey from deliveries where {_NAMED}"  # noqa: S608
_LOCK = "update lanes set opened = opened where (recipient, okey) in"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A document at one recipient, as it stands now."""

    seq: int
    paper: Paper
    recipient: AgencyId
    okey: str
    kind: str
    unit: str
    position: Position
    attempts: int
    requeued: int
    way: str | None
    """That its lane goes."""
    owner: str | None
    """Of the claim that holds its lane now."""
    now: float
    """On the database's clock."""

    def step(self, name: str, state: State, **more: Any) -> Step:
        """What is written down of something that happened to it."""
        return Step(self.paper, self.recipient, name, state, attempts=self.attempts, late=self.requeued, **more)

    def move(self, to: State, overdue_seconds: float | None = None) -> "Move":
        """Out of its lane, if it is in one, into that state."""
        return Move(self.seq, (self.recipient, self.okey), self.position, to, overdue_seconds)


@dataclass(frozen=True, slots=True)
class Move:
    """A delivery that leaves its lane, or has left it, for a state."""

    seq: int
    lane: LaneKey
    before: Position
    to: State
    overdue_seconds: float | None = None


def paper_of(row: Sequence[Any]) -> Paper:
    """From the columns PAPER."""
    document, kind, sender, on_behalf, service, reference, digest = row
    return Paper(
        id=document,
        kind=Kind(kind),
        sender=SystemId(sender),
        on_behalf=None if on_behalf is None else AgencyId(on_behalf),
        service=ServiceId(service),
        reference=reference,
        digest=bytes(digest),
    )


def delivery_of(row: Sequence[Any]) -> Delivery:
    """From the columns FOUND."""
    seq, recipient, okey, kind, unit, state, is_open, touched, attempts, requeued, way, owner, now = row[7:]
    return Delivery(
        seq=seq,
        paper=paper_of(row[:7]),
        recipient=AgencyId(recipient),
        okey=okey,
        kind=kind,
        unit=unit,
        position=Position(State(state), open=bool(is_open), touched=bool(touched), leased=owner is not None),
        attempts=attempts,
        requeued=requeued,
        way=way,
        owner=owner,
        now=now,
    )


async def lanes_of(reader: Driver, document: str, recipient: AgencyId | None = None) -> tuple[LaneKey, ...]:
    """The lanes that a work on the document should name to ``Journal.run``. Raises StoreFailed."""
    rows = await reader.read(*_of(_LANES, document, recipient))
    return tuple((AgencyId(row[0]), str(row[1])) for row in rows)


def locked(document: str, recipient: AgencyId | None) -> Plan[tuple[Delivery, ...]]:
    """The document's deliveries, or the recipient's alone, the lanes of the open ones locked until the commit."""
    for _ in range(TRIES):
        lanes, values = _of(_LANES, document, recipient)
        rows = yield f"{_LOCK} ({lanes}) returning recipient, okey", values
        held = {(row[0], row[1]) for row in rows}
        rows = yield _of(f"{FOUND} where d.document = $1 and d.kind <> 'receipt'", document, recipient, "d.")
        found = tuple(map(delivery_of, rows))
        if all((each.recipient, each.okey) in held for each in found if each.position.open):
            return found
    raise StoreWaited("a document is forwarded to and fro while something else is to be done to it")


def _of(sql: str, document: str, recipient: AgencyId | None, alias: str = "") -> tuple[str, tuple[str, ...]]:
    if recipient is None:
        return f"{sql} order by {alias}recipient", (document,)
    return f"{sql} and {alias}recipient = $2", (document, recipient)


def move(moves: Collection[Move]) -> Plan[frozenset[int]]:
    """Move what still stands as it did, and count what left its lane: inside the transaction, under the lane's lock."""
    moved = yield from moved_of(moves)
    yield from leave([each.lane for each in moves if each.before.open and each.seq in moved])
    return moved


def moved_of(moves: Collection[Move]) -> Plan[frozenset[int]]:
    """The same, where the lanes are counted by the caller."""
    moved: set[int] = set()
    for values in chunks([value for each in moves for value in _values(each)], 6):
        rows = yield _MOVE, values
        moved.update(int(row[0]) for row in rows)
    return frozenset(moved)


_MOVE = (
    "with v(id, was, was_open, becomes, touches, seconds) as ({rows int8 text bool text bool float8}) "
    "update deliveries set state = v.becomes, open = false, touched = v.touches, changed = {now}, "
    "overdue = case when v.becomes = 'retrieved' then coalesce(overdue, {now} + v.seconds) else {now} + v.seconds end "
    "from v where seq = v.id and state = v.was and open = v.was_open returning seq"
)


def _values(each: Move) -> tuple[Any, ...]:
    before = each.before
    return each.seq, before.state.value, before.open, each.to.value, before.touched, each.overdue_seconds


def leave(lanes: Collection[LaneKey], by: int = 1) -> Plan[None]:
    """Count down each lane, by one for each time that it is named."""
    counts = Counter(lanes)
    values = [value for (recipient, okey), count in counts.items() for value in (recipient, okey, by * count)]
    for rows in chunks(values, 3):
        yield (
            (
                "with v(r, o, n) as ({rows text text int8}) update lanes set opened = opened - v.n from v "
                "where recipient = v.r and okey = v.o"
            ),
            rows,
        )


def enter(lane: LaneKey, service: ServiceId, way: str, unit: str) -> Plan[str]:
    """Count one more in a lane, which is made where there is none; gives the way that it goes.

    That is another one where something waits in it for that: all of a lane go together when their folder is looked at.
    """
    rows = yield (
        (
            "insert into lanes (recipient, okey, service, way, unit, opened, due, lease) "  # noqa: S608 - names of columns
            "values ($1, $2, $3, $4, $5, 1, {now}, 0) on conflict (recipient, okey) do update set "
            f"opened = lanes.opened + 1, {KEPT}, "
            "due = case when lanes.opened = 0 and lanes.lease < excluded.due then excluded.due else lanes.due end "
            "returning way"
        ),
        (*lane, service, way, unit),
    )
    return str(rows[0][0])


def let_go(lane: LaneKey, claim: str) -> Plan[None]:
    """End a poller's lease on a lane when it has answered everything that it got of it."""
    yield (
        (
            "update lanes set owner = null, lease = 0, due = {now} where recipient = $1 and okey = $2 and owner = $3 "
            "and not exists (select 1 from deliveries d where d.recipient = lanes.recipient and d.okey = lanes.okey "
            "and d.open and d.touched and d.seq <= coalesce(lanes.given, d.seq))"
        ),
        (*lane, claim),
    )
