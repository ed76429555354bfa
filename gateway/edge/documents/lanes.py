"""Claims: a lane with its oldest open deliveries for one claimer at a time, and what became of them, settled at once.

A lane goes out oldest first and never skips. A claim has a name of its own, so that a late settlement never meets a
newer claim of the same process; whoever lost a claim changes nothing. A claimed lane is due again when its lease ends.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.core.delivery import Happening, Moved, Position, State, next_step
from gateway.core.model import AgencyId, ServiceId, SystemId
from gateway.edge.documents import gates
from gateway.edge.documents.positions import PAPER, Move, Work, leave, moved_of, paper_of
from gateway.edge.documents.records import RECEIPT, Lane, LaneKey, Out, Result, Settlement, Step
from gateway.edge.documents.scribe import Scribe
from gateway.edge.journal import Book
from gateway.edge.store import Driver, Plan, Rows

MAX_PROBED = 64
"""Lanes among which a probe is chosen: of those that have waited longest, and as many of the latest."""
MAX_CLAIMED_BYTES = 4 * 2**20
"""Of bodies, after which a claim takes no more; its first document goes however large it is."""

_FREE = "opened > 0 and due <= {now} and lease < {now}"
_HAPPENED = {
    State.ARRIVED: Happening.HANDED_OVER,
    State.REGISTERED: Happening.REGISTERED,
    State.REJECTED: Happening.REJECTED,
    State.UNDELIVERABLE: Happening.GIVEN_UP,
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """A lane that may be claimed; its row is locked."""

    key: LaneKey
    service: ServiceId
    unit: str
    opened: int


def claim(
    recipient: AgencyId,
    way: str,
    claim: str,
    *,
    lanes: int,
    per_lane: int,
    seconds: float,
    most_bytes: int = MAX_CLAIMED_BYTES,
) -> Work[tuple[Lane, ...]]:
    """Lanes of one agency's way that are due, for so many seconds; of a closed gate one lane, as the probe, or none.

    ``most_bytes``: of bodies, after which it takes no more.
    """

    def plan(_: Book) -> Plan[tuple[Lane, ...]]:
        probe = bool((yield from gates.failures(recipient, way)))
        if probe and not (yield from gates.probe(recipient, way, seconds)):
            return ()
        if probe:
            chosen = yield from _choose_probe(recipient, way)
        else:
            chosen = yield from choose("recipient = $2 and way = $3", (recipient, way), lanes)
        if probe and not chosen:
            yield from gates.not_used(recipient, way)
        return (yield from take(chosen, claim, per_lane=per_lane, seconds=seconds, probe=probe, most_bytes=most_bytes))

    return plan


def choose(which: str, values: Sequence[str], most: int) -> Plan[list[Chosen]]:
    """Lanes that are due, those first that have waited longest; none for which anybody else reaches. $1 is ``most``."""
    rows = yield (
        (
            f"select recipient, okey, service, unit, opened from lanes where {_FREE} and {which} "  # noqa: S608
            "order by due limit $1{skip_locked}"
        ),
        (most, *values),
    )
    return list(map(_chosen, rows))


def _choose_probe(recipient: AgencyId, way: str) -> Plan[list[Chosen]]:
    """The lane whose next document was tried least: where some cannot be taken, a sound one opens the gate."""
    due = f"select okey from lanes where {_FREE} and recipient = $1 and way = $2 order by due"  # noqa: S608
    first = "select d.attempts from deliveries d where d.recipient = lanes.recipient and d.okey = lanes.okey and d.open"
    rows = yield (
        (
            f"select recipient, okey, service, unit, opened from lanes where {_FREE} and recipient = $1 "  # noqa: S608
            f"and okey in (select okey from ({due} limit {MAX_PROBED}) oldest "
            f"union all select okey from ({due} desc limit {MAX_PROBED}) latest) "
            f"order by ({first} order by d.seq limit 1), due limit 1{{skip_locked}}"
        ),
        (recipient, way),
    )
    return list(map(_chosen, rows))


def _chosen(row: Sequence[Any]) -> Chosen:
    return Chosen((AgencyId(row[0]), row[1]), ServiceId(row[2]), row[3], int(row[4]))


def take(
    chosen: Collection[Chosen],
    claim: str,
    *,
    per_lane: int,
    seconds: float,
    probe: bool = False,
    most_bytes: int = MAX_CLAIMED_BYTES,
) -> Plan[tuple[Lane, ...]]:
    """Lease them, with their oldest open deliveries, which from here on may have been sent.

    A lane of which no document fits any more is left for the next claim.
    """
    if not chosen:
        return ()
    rows = yield _oldest(per_lane), [value for each in chosen for value in (*each.key, most_bytes)]
    outs: dict[LaneKey, list[Out]] = {}
    for out in map(_out, rows):
        outs.setdefault((out.recipient, out.okey), []).append(out)
    if not outs:
        return ()
    values = [value for key in outs for value in (*key, claim, seconds, outs[key][-1].seq)]
    yield (
        (
            "with v(r, o, c, s, g) as ({rows text text text float8 int8}) update lanes set owner = v.c, "
            "lease = {now} + v.s, due = {now} + v.s, given = v.g from v where recipient = v.r and okey = v.o"
        ),
        values,
    )
    yield (
        (
            "with v(id) as ({rows int8}) update deliveries set touched = true, attempts = attempts + 1 from v "
            "where seq = v.id"
        ),
        [each.seq for mine in outs.values() for each in mine],
    )
    return tuple(
        Lane(each.key, claim, each.service, unit=each.unit, out=tuple(outs[each.key]), probe=probe)
        for each in chosen
        if each.key in outs
    )


def _oldest(per_lane: int) -> str:
    """The oldest open deliveries of some lanes, the first of each before the second of any, until their bodies are
    as large as a claim takes.

    From each to the next one by the index: a window function would read the whole of a long lane, and so does a bound
    by number where the planner believes that lanes are long.
    """
    least = "select x.seq from deliveries x where x.recipient = {0}.r and x.okey = {0}.o and x.open"
    first = f"{least.format('v')} order by x.seq limit 1"
    following = f"{least.format('c')} and x.seq > c.seq order by x.seq limit 1"
    begun = "select s.receipt from steps s where s.document = p.id and s.step in ('submitted', 'held') order by s.seq"
    its_own = "select receipt from steps where seq = d.step"
    receipt = f"case when d.step is null then ({begun} limit 1) else ({its_own}) end"
    return (
        f"with recursive v(r, o, most) as ({{rows text text int8}}), c(r, o, most, seq, place) as ("  # noqa: S608
        f"select r, o, most, ({first}), 1 from v union all "
        f"select c.r, c.o, c.most, ({following}), c.place + 1 from c where c.seq > 0 and c.place < {per_lane:d}), "
        "w(seq, most, before) as (select c.seq, c.most, sum(coalesce(length(p.body), 0)) over (order by c.place, c.seq "
        "rows between unbounded preceding and 1 preceding) from c join deliveries d on d.seq = c.seq "
        "left join documents p on p.id = d.document and d.step is null) "
        f"select {PAPER}, d.seq, d.recipient, d.okey, d.kind, d.state, d.unit, d.subscriber, d.touched, "
        "d.attempts + 1, d.requeued, p.submitted, d.since, p.catalogue, p.head, "
        f"case when d.step is null then p.body end, {receipt} "
        "from w join deliveries d on d.seq = w.seq join documents p on p.id = d.document "
        "where coalesce(w.before, 0) < w.most order by d.seq"
    )


def _out(row: Sequence[Any]) -> Out:
    seq, recipient, okey, kind, state, unit, subscriber, touched, attempts, requeued = row[7:17]
    submitted, since, catalogue, head, body, receipt = row[17:]
    return Out(
        seq=seq,
        paper=paper_of(row[:7]),
        recipient=AgencyId(recipient),
        okey=okey,
        kind=kind,
        state=State(state),
        unit=unit,
        subscriber=None if subscriber is None else SystemId(subscriber),
        touched=bool(touched),
        attempts=attempts,
        requeued=requeued,
        submitted=submitted,
        since=since,
        catalogue=catalogue,
        head=bytes(head),
        body=None if body is None else bytes(body),
        first_receipt=bytes(receipt or b""),
    )


def settle(settlements: Sequence[Settlement], scribe: Scribe) -> Work[list[bool]]:
    """End claims, with what became of each delivery. False: that claim was lost, and nothing of it was changed."""

    def plan(book: Book) -> Plan[list[bool]]:
        wanted = [[(result, _move(result)) for result in each.results] for each in settlements]
        proven, now = yield from _proven(settlements, [sum(1 for _, to in each if to) for each in wanted])
        holds = [(*each.lane.key, each.lane.claim) in proven for each in settlements]
        kept = [each for each, held in zip(settlements, holds, strict=True) if held]
        moves = {
            result.out.seq: (result, to)
            for each, held in zip(wanted, holds, strict=True)
            if held
            for result, to in each
        }
        moving = [to for _, to in moves.values() if to]
        moved = yield from moved_of(moving)
        yield from leave([each.lane for each in moving if each.seq not in moved], -1)
        yield from given_back(kept)
        steps = [
            _step(result, to.to)
            for seq, (result, to) in moves.items()
            if to and seq in moved and to.to is not result.out.state and result.out.kind != RECEIPT
        ]
        if steps:
            yield from scribe.write_all(book, steps, now)
        sent = [result for each in settlements for result in each.results if result.sent or result.to]
        yield from _too_late(book, scribe, [result for result in sent if result.out.seq not in moved])
        return holds

    return plan


def _proven(
    settlements: Sequence[Settlement], leaving: Sequence[int]
) -> Plan[tuple[frozenset[tuple[str, str, str]], float]]:
    """The claims that still hold, whose lanes are free now; first of all, so that they are locked for the rest.

    ``leaving`` is how many are to leave each lane, which are counted down at once.

    The owner stays, as RETURNING gives it back so; without a lease it owns nothing, and is proven no second time.
    """
    if not settlements:
        return frozenset(), 0.0
    values = [
        value
        for each, count in zip(settlements, leaving, strict=True)
        for value in (*each.lane.key, each.lane.claim, each.back_off, count)
    ]
    rows = yield (
        (
            "with v(r, o, c, pause, n) as ({rows text text text float8 int8}) update lanes "
            "set lease = 0, due = {now} + v.pause, opened = opened - v.n from v where recipient = v.r and okey = v.o "
            "and owner = v.c and lease > 0 returning recipient, okey, owner, {now}"
        ),
        values,
    )
    held = frozenset((row[0], row[1], row[2]) for row in rows)
    return held, float(rows[0][3]) if rows else 0.0


def _move(result: Result) -> Move | None:
    """What is handed over leaves its lane; one that had arrived before, and was forwarded, without a step."""
    out = result.out
    if result.to is None:
        return None
    handed = result.to is not State.UNDELIVERABLE
    before = Position(out.state, open=True, touched=out.touched or result.sent or handed)
    step = next_step(Position(out.state, open=True, touched=True), _HAPPENED[result.to])
    to = step.to if isinstance(step, Moved) else out.state if handed else None
    lane = (out.recipient, out.okey)
    return None if to is None else Move(out.seq, lane, before, to, result.overdue_seconds)


def given_back(settlements: Sequence[Settlement]) -> Plan[None]:
    """What certainly was not sent is as untouched as before; what was not even tried counts no attempt."""
    values: list[Any] = []
    for each in settlements:
        results = {result.out.seq: result for result in each.results}
        for out in each.lane.out:
            result = results.get(out.seq)
            if result is None:
                values += (out.seq, out.touched, out.attempts - 1)
            elif result.to is None and not result.sent:
                values += (out.seq, out.touched, out.attempts)
    if values:
        yield (
            (
                "with v(id, t, n) as ({rows int8 bool int8}) update deliveries "
                "set touched = v.t, attempts = v.n from v where seq = v.id and open"
            ),
            values,
        )


def _step(result: Result, to: State) -> Step:
    out = result.out
    return Step(
        out.paper,
        out.recipient,
        to.value,
        to,
        by="gateway",
        number=result.number,
        reason=result.reason,
        attempts=out.attempts,
        late=out.requeued,
    )


def _too_late(book: Book, scribe: Scribe, results: Sequence[Result]) -> Plan[None]:
    """What was handed over after its time had been declared over is written down; a late ``arrived`` is nothing."""
    late = {result.out.seq: result for result in results if result.sent and result.out.kind != RECEIPT}
    if not late:
        return
    rows = yield (
        (
            "with v(id) as ({rows int8}) select seq, state, {now} from deliveries join v on seq = v.id "
            "where state in ('expired', 'recalled')"
        ),
        list(late),
    )
    facts = {"handed_over": True}
    steps = [replace(_step(late[row[0]], State(row[1])), name="disputed", facts=facts) for row in rows]
    if rows:
        yield from scribe.write_all(book, steps, rows[0][2])


@dataclass(frozen=True, slots=True)
class Due:
    """An agency's way for which something is due now, and whose gate lets through."""

    recipient: AgencyId
    way: str
    failures: int
    """In a row; over 0: only a probe goes."""
    late: float = field(default=0.0, compare=False)
    """Seconds for which it could have gone."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What dispatchers have to do."""

    due: tuple[Due, ...]
    soon: float | None
    """Seconds until something else is due, aside from what somebody holds now; None: nothing waits."""


async def waiting(reader: Driver) -> Waiting:
    """What is due. Its cost grows with the number of agencies for which anything waits, not with what waits."""
    return _waiting(await reader.read(WAITING))


# A loose scan of the index lanes_waiting: the next recipient, its next way, and of each the one that is due first.
# What is claimed is due when its lease ends, so that the scan seldom meets a lane that somebody holds.
WAITING = """
with recursive recipients(recipient) as (
  select (select l.recipient from lanes l where l.opened > 0 order by l.recipient limit 1)
  union all
  select (select l.recipient from lanes l where l.opened > 0 and l.recipient > r.recipient
          order by l.recipient limit 1)
    from recipients r where r.recipient is not null),
ways(recipient, way) as (
  select r.recipient, (select l.way from lanes l where l.opened > 0 and l.recipient = r.recipient
                       order by l.way limit 1)
    from recipients r where r.recipient is not null
  union all
  select w.recipient, (select l.way from lanes l where l.opened > 0 and l.recipient = w.recipient and l.way > w.way
                       order by l.way limit 1)
    from ways w where w.way is not null)
select w.recipient, w.way, coalesce(g.failures, 0), coalesce(g.not_before, 0) - {now},
       (select l.due from lanes l where l.opened > 0 and l.recipient = w.recipient and l.way = w.way
        and l.lease < {now} order by l.due limit 1) - {now}
  from ways w left join gates g on g.recipient = w.recipient and g.way = w.way
 where w.way is not null
"""


def _waiting(rows: Rows) -> Waiting:
    due, later = [], []
    for recipient, way, failures, opens, first in rows:
        if first is None:  # everything there is in somebody's hands
            continue
        seconds = max(opens, first) if failures else first
        if seconds <= 0:
            due.append(Due(AgencyId(recipient), way, int(failures), -float(seconds)))
        else:
            later.append(float(seconds))
    return Waiting(tuple(due), min(later, default=None))
