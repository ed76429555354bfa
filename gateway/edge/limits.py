"""Rates and quotas as they are spent: a rate in this process, a quota exactly, in blocks leased from the database."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, tzinfo

from gateway.core.limits import Bucket, day_of, draw, full, seconds_to_midnight
from gateway.core.model import Agreement, Grant, SystemId
from gateway.core.refusal import Refusal
from gateway.edge.journal import Book, Journal
from gateway.edge.store import Plan

LEASE = 30.0
"""Seconds that a process may hold a block before it gives back what it did not spend."""
MAX_KEPT = 10_000
"""Buckets, blocks and shown ratios held at once, of each so many."""
EXHAUSTED = 1.0
"""Seconds for which a quota that was found used up is not asked for again: others may give back, but seldom do."""

_Holder = tuple[str, int, str, str]
_WHERE = "agreement = $1 and grant_index = $2 and consumer = $3 and day = $4"


@dataclass(slots=True)
class _Block:
    left: int = 0
    until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    exhausted: int = 0
    """The quota of which nothing was left when it was last asked for; a higher one is asked for at once."""
    again: float = 0.0
    """When an exhausted one is asked for again."""


class Limits:
    """What each consumer may still do under each grant."""

    def __init__(self, journal: Journal, clock: Callable[[], float]) -> None:
        """``clock`` is steady: it measures rates and leases, never days."""
        self._journal = journal
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, int, str], Bucket] = OrderedDict()
        self._blocks: OrderedDict[_Holder, _Block] = OrderedDict()
        self._ratios: OrderedDict[tuple[str, int, str], tuple[str, float]] = OrderedDict()
        """The day for which it was last asked, and how much of its quota was handed out."""

    async def spend(self, agreement: Agreement, grant: Grant, consumer: SystemId, at: datetime, zone: tzinfo) -> None:
        """Count one call. Raises Refusal policy.rate or policy.quota."""
        if grant.rate is not None:
            self._spend_rate(agreement, grant, consumer)
        if grant.quota is not None:
            holder = (str(agreement.id), grant.index, str(consumer), day_of(at, zone))
            if not await self._spend_quota(holder, grant.quota):
                raise Refusal(
                    "policy.quota",
                    f"{agreement.id} allows {grant.quota} calls a day, and today's are used up.",
                    retry_after=seconds_to_midnight(at, zone),
                    agency=grant.provider,
                )

    def _spend_rate(self, agreement: Agreement, grant: Grant, consumer: SystemId) -> None:
        assert grant.rate is not None  # noqa: S101 - for the type checker; the caller looked
        now = self._clock()
        holder = (str(agreement.id), grant.index, str(consumer))
        bucket, wait = draw(self._buckets.pop(holder, full(grant.rate, now)), grant.rate, now)
        self._buckets[holder] = bucket
        if len(self._buckets) > MAX_KEPT:
            self._buckets.popitem(last=False)
        if wait:
            raise Refusal(
                "policy.rate",
                f"{agreement.id} allows {grant.rate.calls} calls in {grant.rate.seconds:g} s.",
                retry_after=wait,
                agency=grant.provider,
            )

    async def _spend_quota(self, holder: _Holder, quota: int) -> bool:
        if holder not in self._blocks and len(self._blocks) >= MAX_KEPT:
            await self._make_room()
        block = self._blocks.setdefault(holder, _Block())
        if block.left <= 0 and not self._is_exhausted(block, quota):
            async with block.lock:
                if block.left <= 0 and not self._is_exhausted(block, quota):  # else whoever waited finds what is there
                    await self._take(holder, block, quota)
        if block.left <= 0:
            return False
        block.left -= 1
        return True

    def _is_exhausted(self, block: _Block, quota: int) -> bool:
        return quota <= block.exhausted and self._clock() < block.again

    async def _take(self, holder: _Holder, block: _Block, quota: int) -> None:
        block.left, taken = await self._journal.run(_take_block(holder, quota), locks=_locks(holder))
        self._blocks.setdefault(holder, block)  # it may have been taken for unused a moment ago
        now = self._clock()
        block.until = now + LEASE
        block.exhausted, block.again = (0, 0.0) if block.left else (quota, now + EXHAUSTED)
        self._ratios[holder[:3]] = holder[3], taken / quota
        if len(self._ratios) > MAX_KEPT:
            self._ratios.popitem(last=False)

    async def _make_room(self) -> None:
        """Give one block back before its time: the oldest that nobody is just taking."""
        for holder, block in self._blocks.items():
            if not block.lock.locked():
                await self._return(holder, block)
                return

    async def give_back(self, *, everything: bool = False) -> None:
        """Return what is left of blocks whose lease has ended; of all of them when the process stops."""
        now = self._clock()
        for holder, block in list(self._blocks.items()):
            if not block.lock.locked() and (everything or block.until <= now):
                await self._return(holder, block)

    async def _return(self, holder: _Holder, block: _Block) -> None:
        unspent, block.left = block.left, 0
        # Where its answer is lost it may have happened: what is given back twice would be spent twice, so that a block
        # which could not be given back is given up.
        if unspent:
            await self._journal.run(_give_back(holder, unspent), locks=_locks(holder))
        if not block.left and not block.lock.locked() and self._blocks.get(holder) is block:
            del self._blocks[holder]

    def taken(self, day: str) -> dict[tuple[str, str], float]:
        """By agreement and consumer: how much of that day's quota was handed out when this process last asked."""
        ratios: dict[tuple[str, str], float] = {}
        for (agreement, _, consumer), (of, ratio) in self._ratios.items():
            if of == day:  # the fullest of several grants is what somebody must act on
                ratios[agreement, consumer] = max(ratio, ratios.get((agreement, consumer), 0.0))
        return ratios


def _locks(holder: _Holder) -> tuple[str, ...]:
    return ("quotas", *map(str, holder))


def _take_block(holder: _Holder, quota: int) -> Callable[[Book], Plan[tuple[int, int]]]:
    """The block: 1 % of what is left, at least one call, 0 when nothing is left; and what was taken in all."""

    def plan(_: Book) -> Plan[tuple[int, int]]:
        columns = "(agreement, grant_index, consumer, day, taken, block)"
        yield f"insert into quotas {columns} values ($1, $2, $3, $4, 0, 0) on conflict do nothing", holder  # noqa: S608
        size = "case when ($5 - taken) / 100 > 1 then ($5 - taken) / 100 else 1 end"
        given = f"set block = {size}, taken = taken + {size}"
        sql = f"update quotas {given} where {_WHERE} and taken < $5 returning block, taken"
        rows = yield sql, (*holder, quota)
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, quota)

    return plan


def _give_back(holder: _Holder, unspent: int) -> Callable[[Book], Plan[None]]:
    def plan(_: Book) -> Plan[None]:
        yield f"update quotas set taken = taken - $5 where {_WHERE}", (*holder, unspent)  # noqa: S608

    return plan
