"""Rates and quotas as they are spent: a rate in this process, a quota exactly, in blocks leased from the database."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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

_Rated = tuple[str, int, str]
"""Agreement, grant, consumer."""
_Holder = tuple[str, int, str, str]
"""The same, and the day."""
_WHERE = "agreement = $1 and grant_index = $2 and consumer = $3 and day = $4"


@dataclass(slots=True)
class _Block:
    left: int = 0
    until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    exhausted: int = 0
    """The quota of which too little was left when it was last asked for; a higher one is asked for at once."""
    short: int = 1
    """How much was too much then."""
    again: float = 0.0
    """When an exhausted one is asked for again."""


@dataclass(frozen=True, slots=True)
class Charge:
    """One call under a grant."""

    agreement: Agreement
    grant: Grant
    consumer: SystemId


class Limits:
    """What each consumer may still do under each grant."""

    def __init__(self, journal: Journal, clock: Callable[[], float]) -> None:
        """``clock`` is steady: it measures rates and leases, never days."""
        self._journal = journal
        self._clock = clock
        self._buckets: OrderedDict[_Rated, Bucket] = OrderedDict()
        self._blocks: OrderedDict[_Holder, _Block] = OrderedDict()
        self._ratios: OrderedDict[_Rated, tuple[str, float]] = OrderedDict()
        """The day for which it was last asked, and how much of its quota was handed out."""
        self._wanted: Counter[_Holder] = Counter()
        """By calls that are not yet sure of all their blocks: no such block is given back meanwhile."""

    async def spend(self, charges: Sequence[Charge], at: datetime, zone: tzinfo) -> None:
        """Count a call under each of them, or under none. Raises Refusal policy.rate or policy.quota.

        A quota is looked at before anything is spent, and may take a moment; then all are spent at once.
        """
        counted = [each for each in charges if each.grant.quota is not None]
        if not counted and all(each.grant.rate is None for each in charges):
            return
        day = day_of(at, zone) if counted else ""
        limited = {_holder(each, day): each for each in counted}
        needed = Counter(_holder(each, day) for each in counted)
        drawn = self._drawn(charges)
        with _kept(self._wanted, needed):
            while lacking := [holder for holder in needed if self._left(holder) < needed[holder]]:
                for holder in lacking:
                    await self._fill(holder, limited[holder], needed[holder], seconds_to_midnight(at, zone))
                drawn = self._drawn(charges)
        for rated, bucket in drawn.items():
            self._keep(rated, bucket)
        for holder, count in needed.items():
            self._blocks[holder].left -= count

    def _drawn(self, charges: Sequence[Charge]) -> Mapping[_Rated, Bucket]:
        """The buckets as they will be when all are drawn from. Raises Refusal policy.rate."""
        now, drawn = self._clock(), dict[_Rated, Bucket]()
        for each in charges:
            rate, holder = each.grant.rate, _rated(each)
            if rate is None:
                continue
            before = drawn.get(holder) or self._buckets.get(holder) or full(rate, now)
            drawn[holder], wait = draw(before, rate, now)
            if wait:
                if holder in self._buckets:  # who goes on asking is not forgotten for it
                    self._buckets.move_to_end(holder)
                raise Refusal(
                    "policy.rate",
                    f"{each.agreement.id} allows {rate.calls} calls in {rate.seconds:g} s.",
                    retry_after=wait,
                    agency=each.grant.provider,
                )
        return drawn

    def _keep(self, holder: _Rated, bucket: Bucket) -> None:
        self._buckets[holder] = bucket
        self._buckets.move_to_end(holder)
        if len(self._buckets) > MAX_KEPT:
            self._buckets.popitem(last=False)

    def _left(self, holder: _Holder) -> int:
        return self._blocks[holder].left if holder in self._blocks else 0

    async def _fill(self, holder: _Holder, charge: Charge, need: int, to_midnight: float) -> None:
        """Have a block of as many calls. Raises Refusal policy.quota."""
        quota = charge.grant.quota or 0
        if holder not in self._blocks and len(self._blocks) >= MAX_KEPT:
            await self._make_room()
        block = self._blocks.setdefault(holder, _Block())
        if not self._is_exhausted(block, quota, need):
            async with block.lock:  # whoever waited for it may find what is there; others may spend of it meanwhile
                while block.left < need and not self._is_exhausted(block, quota, need):
                    await self._take(holder, block, quota, need - block.left)
        if block.left < need:
            left = "today's are used up" if need == 1 else f"fewer than {need} of today's are left"
            raise Refusal(
                "policy.quota",
                f"{charge.agreement.id} allows {quota} calls a day, and {left}.",
                retry_after=to_midnight,
                agency=charge.grant.provider,
            )

    def _is_exhausted(self, block: _Block, quota: int, need: int) -> bool:
        return quota <= block.exhausted and need - block.left >= block.short and self._clock() < block.again

    async def _take(self, holder: _Holder, block: _Block, quota: int, least: int) -> None:
        given, taken = await self._journal.run(_take_block(holder, quota, least), locks=_locks(holder))
        self._blocks.setdefault(holder, block)  # it may have been taken for unused a moment ago
        now = self._clock()
        block.left += given
        block.until = now + LEASE
        block.exhausted, block.short, block.again = (0, 1, 0.0) if given else (quota, least, now + EXHAUSTED)
        if given or least == 1:  # else less is left than was asked for, and nobody knows how much
            self._ratios[holder[:3]] = holder[3], taken / quota
        if len(self._ratios) > MAX_KEPT:
            self._ratios.popitem(last=False)

    async def _make_room(self) -> None:
        """Give one block back before its time: the oldest that nobody is just taking or collecting."""
        for holder, block in self._blocks.items():
            if not block.lock.locked() and not self._wanted[holder]:
                await self._return(holder, block)
                return

    async def give_back(self, *, everything: bool = False) -> None:
        """Return what is left of blocks whose lease has ended; of all of them when the process stops."""
        now = self._clock()
        for holder, block in list(self._blocks.items()):
            if not block.lock.locked() and (everything or (block.until <= now and not self._wanted[holder])):
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


@contextmanager
def _kept(wanted: Counter[_Holder], needed: Mapping[_Holder, int]) -> Iterator[None]:
    """Blocks that are there stay there meanwhile, except when the process stops."""
    for holder in needed:
        wanted[holder] += 1
    try:
        yield
    finally:
        for holder in needed:
            wanted[holder] -= 1
            if not wanted[holder]:
                del wanted[holder]


def _locks(holder: _Holder) -> tuple[str, ...]:
    return ("quotas", *map(str, holder))


def _rated(charge: Charge) -> _Rated:
    return str(charge.agreement.id), charge.grant.index, str(charge.consumer)


def _holder(charge: Charge, day: str) -> _Holder:
    return (*_rated(charge), day)


def _take_block(holder: _Holder, quota: int, least: int = 1) -> Callable[[Book], Plan[tuple[int, int]]]:
    """The block: 1 % of what is left, at least so many calls, 0 when fewer are left; and what was taken in all."""

    def plan(_: Book) -> Plan[tuple[int, int]]:
        columns = "(agreement, grant_index, consumer, day, taken, block)"
        yield f"insert into quotas {columns} values ($1, $2, $3, $4, 0, 0) on conflict do nothing", holder  # noqa: S608
        size = "case when ($5 - taken) / 100 > $6 then ($5 - taken) / 100 else $6 end"
        given = f"set block = {size}, taken = taken + {size}"
        sql = f"update quotas {given} where {_WHERE} and taken + $6 <= $5 returning block, taken"
        rows = yield sql, (*holder, quota, least)
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, quota)

    return plan


def _give_back(holder: _Holder, unspent: int) -> Callable[[Book], Plan[None]]:
    def plan(_: Book) -> Plan[None]:
        yield f"update quotas set taken = taken - $5 where {_WHERE}", (*holder, unspent)  # noqa: S608

    return plan
