"""The lanes that a batch locks before anything else, and which of them another transaction holds for too long.

A lane is locked by its row, which is made where there is none. All of a batch's lanes are taken in one order, the same
for every process, so that no two batches wait for each other in a circle.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any, NoReturn

from gateway.edge.documents.records import LaneKey
from gateway.edge.store import BRIEFLY, Driver, Plan, StoreWaited, chunks

REMEMBERED = 5.0
"""Seconds for which a lane that was held is looked at first, before a batch waits for it again."""

_THESE = "with v(recipient, okey) as ({rows text text})"
# Whether there was a conflict or not, the row is locked; nothing is written to one that stood there.
_LOCK = (
    f"insert into lanes (recipient, okey, service, way, unit, opened, due, lease) {_THESE} "  # noqa: S608 - constants
    "select recipient, okey, '', '', '', 0, {now}, 0 from v where true "
    "on conflict (recipient, okey) do update set opened = 0 where false"
)
_SAME = "l.recipient = v.recipient and l.okey = v.okey"
_THERE = f"{_THESE} select l.recipient, l.okey from v, lanes l where {_SAME}"  # noqa: S608 - constants


class _TriedError(Exception):
    """It could be done; raised to undo it."""


def lock(lanes: Collection[LaneKey]) -> Plan[None]:
    """Make the lanes that are not there, and hold all of them until the transaction ends."""
    for rows in chunks(_flat(sorted(lanes)), 2):
        yield _LOCK, rows


class Holds:
    """Knows which lanes another transaction holds, or held a moment ago."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._until: dict[LaneKey, float] = {}

    async def among(self, lanes: Collection[LaneKey]) -> frozenset[LaneKey]:
        """Those that are held now. Raises StoreFailed or StoreRefused."""
        there, free = await self._driver.transact(partial(_look, lanes))
        made = [lane for lane in lanes if lane not in there]
        held = (there - free) | await self._in_the_making(made)
        until = time.monotonic() + REMEMBERED
        self._until = {lane: end for lane, end in self._until.items() if lane not in lanes}
        self._until.update(dict.fromkeys(held, until))
        return held

    async def still(self, lanes: Iterable[LaneKey]) -> frozenset[LaneKey]:
        """Those that were held a moment ago and are so still; nothing is asked where none was. Raises the same."""
        if not self._until:
            return frozenset()
        now = time.monotonic()
        self._until = {lane: end for lane, end in self._until.items() if now < end}
        suspects = [lane for lane in lanes if lane in self._until]
        return await self.among(suspects) if suspects else frozenset()

    async def _in_the_making(self, lanes: Sequence[LaneKey]) -> frozenset[LaneKey]:
        """Those that another transaction has made and not committed: nobody sees them, and who makes them waits."""
        if not lanes:
            return frozenset()
        try:
            await self._driver.transact(partial(_try, lanes))
        except _TriedError:
            return frozenset()
        except StoreWaited:
            if len(lanes) == 1:
                return frozenset(lanes)
        half = len(lanes) // 2
        return await self._in_the_making(lanes[:half]) | await self._in_the_making(lanes[half:])


def _look(lanes: Collection[LaneKey]) -> Plan[tuple[frozenset[LaneKey], frozenset[LaneKey]]]:
    """Those that are there, and of them those that nobody holds."""
    there: set[LaneKey] = set()
    free: set[LaneKey] = set()
    for rows in chunks(_flat(lanes), 2):
        there.update(_keys((yield _THERE, rows)))
        free.update(_keys((yield _THERE + "{skip_locked}", rows)))
    return frozenset(there), frozenset(free)


def _try(lanes: Sequence[LaneKey]) -> Plan[NoReturn]:
    yield BRIEFLY, ()
    yield from lock(lanes)
    raise _TriedError


def _keys(rows: Iterable[Sequence[Any]]) -> Iterable[LaneKey]:
    return ((recipient, okey) for recipient, okey in rows)


def _flat(lanes: Iterable[LaneKey]) -> list[str]:
    return [part for lane in lanes for part in lane]
