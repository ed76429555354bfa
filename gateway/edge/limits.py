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
"""Buckets and blocks held at once."""

_Holder = tuple[str, int, str, str]
_WHERE = "agreement = $1 and grant_index = $2 and consumer = $3 and day = $4"


@dataclass(slots=True)
class _Block:
    left: int = 0
    until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Limits:
    """What each consumer may still do under each grant."""

    def __init__(self, journal: Journal, clock: Callable[[], float]) -> None:
        """``clock`` is steady: it measures rates and leases, never days."""
        self._journal = journal
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, int, str], Bucket] = OrderedDict()
        self._blocks: dict[_Holder, _Block] = {}
        self._ratios: dict[tuple[str, int, str], float] = {}

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
        block = self._blocks.setdefault(holder, _Block())
        if block.left <= 0:
            async with block.lock:
                if block.left <= 0:  # whoever waited finds the block that the first one took
                    work = _take_block(holder, quota)
                    block.left, taken = await self._journal.run(work, locks=_locks(holder))
                    self._ratios[holder[:3]] = taken / quota
                    block.until = self._clock() + LEASE
        if block.left <= 0:
            return False
        block.left -= 1
        return True

    async def give_back(self, *, everything: bool = False) -> None:
        """Return what is left of blocks whose lease has ended; of all of them when the process stops."""
        now = self._clock()
        for holder, block in list(self._blocks.items()):
            if block.lock.locked() or not (everything or block.until <= now):
                continue
            unspent, block.left = block.left, 0
            if unspent:
                try:
                    await self._journal.run(_give_back(holder, unspent), locks=_locks(holder))
                except Refusal:
                    block.left += unspent  # still ours: the next round tries again
                    raise
            if not block.left and not block.lock.locked():
                del self._blocks[holder]

    def taken(self) -> dict[tuple[str, str], float]:
        """By agreement and consumer: how much of the day's quota was handed out when this process last asked."""
        return {(agreement, consumer): ratio for (agreement, _, consumer), ratio in self._ratios.items()}


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
