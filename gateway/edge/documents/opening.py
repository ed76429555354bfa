"""New open deliveries: their rows, and what their lanes count; some are claimed from the beginning."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.delivery import State
from gateway.core.model import SystemId
from gateway.edge.documents.records import LETTERS, LaneKey, Place
from gateway.edge.store import Plan, chunks


@dataclass(frozen=True, slots=True)
class Opening:
    """One delivery that is about to wait for its turn."""

    document: str
    lane: LaneKey
    way: str
    unit: str
    pulled: bool
    """It lies in a mailbox: arrived at once, and open until it is fetched."""
    kind: str
    service: str
    seconds: float
    """Until it expires."""
    step: int | None = None
    """Of a receipt: its row."""
    subscriber: SystemId | None = None
    overdue_seconds: float | None = None
    bound: str = LETTERS
    full: bool = False
    """There is no room for it: it is never open."""
    place: Place | None = None
    """It is claimed at once: its lane is one that nobody else can know yet."""

    @property
    def state(self) -> State:
        """In which it begins."""
        if self.full:
            return State.UNDELIVERABLE
        return State.ARRIVED if self.pulled else State.SUBMITTED


# What a lane is on the way to is said by its open deliveries; while there are any, a forwarding may have changed it.
_KEPT = "{0} = case when lanes.opened = 0 then excluded.{0} else lanes.{0} end"
KEPT = ", ".join(_KEPT.format(name) for name in ("service", "way", "unit"))
_COUNT = (
    "insert into lanes (recipient, okey, service, way, unit, bound, opened, due, lease) "  # noqa: S608 - names of columns
    "with v(recipient, okey, service, way, unit, bound, n) as ({rows text text text text text text int8}) "
    "select recipient, okey, service, way, unit, bound, n, {now}, 0 from v where true "
    "on conflict (recipient, okey) do update set opened = lanes.opened + excluded.opened, "
    f"{KEPT}, {_KEPT.format('due')}, {_KEPT.format('bound')}"
)
_LEASED = (
    "insert into lanes (recipient, okey, service, way, unit, bound, opened, due, owner, lease) "
    "with v(recipient, okey, service, way, unit, bound, claim, seconds) as "
    "({rows text text text text text text text float8}) "
    "select recipient, okey, service, way, unit, bound, 1, {now} + seconds, claim, {now} + seconds from v"
)
_COLUMNS = "document, recipient, okey, kind, step, service, unit, subscriber, state"
_DELIVER = (
    f"insert into deliveries ({_COLUMNS}, open, touched, attempts, requeued, since, expires, overdue, changed) "  # noqa: S608 - the same
    f"with v({_COLUMNS}, open, seconds, late, attempts) as "
    "({rows text text text text int8 text text text text bool float8 float8 int8}) "
    f"select {_COLUMNS}, open, attempts > 0, attempts, 0, "
    "{now}, {now} + seconds, {now} + late, {now} from v"
)


def deliver(new: Sequence[Opening]) -> Plan[Mapping[LaneKey, int]]:
    """Count them in their lanes, which are locked by now, and insert them in this order.

    Gives the numbers of those that were claimed at once.
    """
    yield from count(each for each in new if not each.full and each.place is None)
    leased = {each.lane: each for each in new if each.place}
    yield from _lease(leased.values())
    values: list[Any] = []
    for each in new:
        values += (each.document, *each.lane, each.kind, each.step, each.service, each.unit, each.subscriber)
        values += (each.state, not each.full, each.seconds, each.overdue_seconds, 1 if each.place else 0)
    numbers: dict[LaneKey, int] = {}
    asked = f"{_DELIVER} returning recipient, okey, seq" if leased else _DELIVER
    for rows in chunks(values, 13):
        numbers.update({(recipient, okey): seq for recipient, okey, seq in (yield asked, rows)})
    return {lane: numbers[lane] for lane in leased}


def _lease(new: Iterable[Opening]) -> Plan[None]:
    values: list[Any] = []
    for each in new:
        if each.place:
            values += (*each.lane, each.service, each.way, each.unit, each.bound, each.place.claim, each.place.seconds)
    for rows in chunks(values, 8):
        yield _LEASED, rows


def count(new: Iterable[Opening]) -> Plan[None]:
    """Count one more in the lane of each; a lane that had nothing goes the way of its first one from now on."""
    lanes: dict[LaneKey, list[Any]] = {}
    for each in new:
        lanes.setdefault(each.lane, [*each.lane, each.service, each.way, each.unit, each.bound, 0])[6] += 1
    for rows in chunks([value for lane in sorted(lanes) for value in lanes[lane]], 7):
        yield _COUNT, rows
