"""Quotas on every database: exact across processes, a new day, a lower limit, and what a dead process wastes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import pytest

from gateway.core.model import AgencyId, Agreement, AgreementId, Grant, Rate, ServiceId, Standing, SystemId
from gateway.core.refusal import Refusal
from gateway.edge.journal import Book, Journal
from gateway.edge.limits import EXHAUSTED, LEASE, Charge, Limits
from gateway.edge.postgres import named
from gateway.edge.store import Driver, Plan, StoreUnsure

T = TypeVar("T")
Open = Callable[[], Driver]
ZONE = ZoneInfo("Asia/Phnom_Penh")
NOON = datetime(2026, 11, 20, 5, tzinfo=UTC)
TAX = SystemId("finance.tax")


class Clock:
    """Steady, and set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def grant(quota: int | None = None, rate: Rate | None = None, index: int = 0) -> Grant:
    fixed: dict[str, Any] = {"disclose": None, "disclosed": None, "require": frozenset(), "scope": None}
    return Grant(
        index=index,
        service=ServiceId("a.b.v1"),
        provider=AgencyId("interior"),
        consumers=frozenset({TAX}),
        purposes=frozenset({"tax"}),
        rate=rate,
        quota=quota,
        **fixed,
    )


def agreement(name: str = "A-1") -> Agreement:
    span = (date(2026, 1, 1), date(2026, 12, 31))
    return Agreement(AgreementId(name), name, None, (), *span, grants=(), standing=Standing.ACTIVE)


A1 = agreement()


async def spend(limits: Limits, terms: Grant, at: datetime = NOON, consumer: SystemId = TAX) -> str:
    """``spent``, or the code of the refusal."""
    try:
        await limits.spend([Charge(A1, terms, consumer)], at, ZONE)
    except Refusal as refusal:
        return refusal.code
    return "spent"


async def spend_many(calls: int, terms: Grant, *several: Limits, at: datetime = NOON) -> Counter[str]:
    """So many calls of each, all at once."""
    return Counter(await asyncio.gather(*(spend(limits, terms, at) for _ in range(calls) for limits in several)))


async def taken(journal: Journal) -> list[tuple[str, int]]:
    """What each day's row says was handed out."""

    def plan(_: Book) -> Plan[list[tuple[str, int]]]:
        rows = yield "select day, taken from quotas order by day", ()
        return [(row[0], row[1]) for row in rows]

    return await journal.run(plan)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(journal: Journal, clock: Clock) -> Limits:
    """One process's."""
    return Limits(journal, clock)


@pytest.fixture
async def other(journal: Journal, opened: Open, clock: Clock, database: str) -> AsyncIterator[Limits]:
    """Another process's, on the same database: with a connection of its own, where there may be two."""
    if not named(database):
        yield Limits(journal, clock)
        return
    second = Journal(opened())
    await second.open("test")
    yield Limits(second, clock)
    await second.close()


async def test_a_quota_is_spent_exactly(journal: Journal, limits: Limits, other: Limits) -> None:
    """E8: 640 calls at once by two processes: 500 of 500 pass, every other one is refused, and so it stays."""
    assert await spend_many(320, grant(500), limits, other) == {"spent": 500, "policy.quota": 140}
    assert await spend_many(5, grant(500), limits, other) == {"policy.quota": 10}
    assert await taken(journal) == [("2026-11-20", 500)]


@pytest.mark.parametrize("quota", [1, 2, 99, 101, 250])
async def test_small_quotas_are_exact_too(quota: int, limits: Limits, other: Limits) -> None:
    """Down to one call a day, however many ask for it at once."""
    assert (await spend_many(quota // 2 + 10, grant(quota), limits, other))["spent"] == quota


async def test_one_after_the_other_is_exact_too(limits: Limits, other: Limits) -> None:
    """Calls that come singly, by turns, spend every unit but what the other process still holds."""
    spent = Counter([await spend(each, grant(30)) for _ in range(30) for each in (limits, other)])
    assert spent == {"spent": 30, "policy.quota": 30}


@pytest.fixture
async def commits(opened: Open) -> AsyncIterator[tuple[Journal, list[int]]]:
    """A journal, and a list that grows with each commit."""
    seen: list[int] = []
    made = Journal(opened(), observe=lambda _seconds, entries: seen.append(entries))
    await made.open("test")
    yield made, seen
    await made.close()


async def test_who_waits_shares_a_block(commits: tuple[Journal, list[int]], clock: Clock) -> None:
    """A hundred calls at once take one block of a hundred, in one transaction; the next hundred another one."""
    journal, seen = commits
    limits = Limits(journal, clock)
    assert await spend_many(100, grant(10_000), limits) == {"spent": 100}
    assert len(seen) == 1
    assert await taken(journal) == [("2026-11-20", 100)]
    await spend_many(99, grant(10_000), limits)
    assert await taken(journal) == [("2026-11-20", 199)]


async def test_a_refusal_says_when_the_day_ends(limits: Limits) -> None:
    """Retry-After leads to the next midnight in Phnom Penh, and the sentence names agreement and limit."""
    await limits.spend([Charge(A1, grant(1), TAX)], NOON, ZONE)
    with pytest.raises(Refusal, match="A-1 allows 1 calls a day, and today's are used up") as caught:
        await limits.spend([Charge(A1, grant(1), TAX)], NOON + timedelta(seconds=0.5), ZONE)
    assert (caught.value.code, caught.value.agency) == ("policy.quota", "interior")
    assert caught.value.retry_after == 12 * 3600 - 0.5


async def test_midnight_starts_anew(journal: Journal, limits: Limits, other: Limits) -> None:
    """E8: at midnight of the instance's zone, not of UTC, the quota is whole again, for every process."""
    late = datetime(2026, 11, 20, 16, 59, 59, tzinfo=UTC)
    assert await spend_many(4, grant(3), limits, other, at=late) == {"spent": 3, "policy.quota": 5}
    assert await spend_many(4, grant(3), limits, other, at=late + timedelta(seconds=1)) == {
        "spent": 3,
        "policy.quota": 5,
    }
    assert await taken(journal) == [("2026-11-20", 3), ("2026-11-21", 3)]


async def test_a_lower_limit_holds_at_once(limits: Limits, other: Limits) -> None:
    """E8: lowered to what was spent, nothing passes any more; raised again, the rest does."""
    assert (await spend_many(50, grant(99), limits))["spent"] == 50
    assert await spend_many(3, grant(50), limits, other) == {"policy.quota": 6}
    assert await spend_many(3, grant(20), limits, other) == {"policy.quota": 6}
    assert await spend_many(60, grant(99), limits, other) == {"spent": 49, "policy.quota": 71}


async def test_a_block_in_hand_is_spent_under_a_lower_limit(journal: Journal, limits: Limits) -> None:
    """What was handed out before the limit was lowered counts as spent, so it may be: at most one block."""
    assert (await spend_many(1, grant(1000), limits))["spent"] == 1
    assert await spend_many(20, grant(5), limits) == {"spent": 9, "policy.quota": 11}
    assert await taken(journal) == [("2026-11-20", 10)]


async def test_what_is_not_spent_is_given_back(journal: Journal, limits: Limits, other: Limits) -> None:
    """A process that stops returns its block, and the others can spend every unit of it."""
    await limits.spend([Charge(A1, grant(1000), TAX)], NOON, ZONE)
    assert await taken(journal) == [("2026-11-20", 10)]
    await limits.give_back(everything=True)
    assert await taken(journal) == [("2026-11-20", 1)]
    assert (await spend_many(1010, grant(1000), other))["spent"] == 999


async def test_an_idle_block_is_given_back_after_its_lease(journal: Journal, limits: Limits, clock: Clock) -> None:
    """Not before; and whoever gives back twice gives back once."""
    await limits.spend([Charge(A1, grant(1000), TAX)], NOON, ZONE)
    clock.now += LEASE - 1
    await limits.give_back()
    assert await taken(journal) == [("2026-11-20", 10)]
    clock.now += 1
    await limits.give_back()
    await limits.give_back(everything=True)
    assert await taken(journal) == [("2026-11-20", 1)]


async def test_giving_back_in_between_loses_and_makes_nothing(journal: Journal, limits: Limits) -> None:
    """Calls and returns all at once: what passed is what the row says in the end."""
    mixed = [work for _ in range(30) for work in (*(spend(limits, grant(1000)) for _ in range(7)), give_back(limits))]
    results = await asyncio.gather(*mixed)
    await limits.give_back(everything=True)
    assert results.count("spent") == 210
    assert await taken(journal) == [("2026-11-20", 210)]


async def give_back(limits: Limits) -> str:
    await limits.give_back(everything=True)
    return "given back"


class Losing:
    """A database that loses the answer of a commit when it is told to: it happened, and nobody can know."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.lose = False
        self.read = driver.read
        self.beside = driver.beside
        self.close = driver.close

    async def transact(self, plan: Callable[[], Plan[T]]) -> T:
        result = await self._driver.transact(plan)
        if self.lose:
            self.lose = False
            raise StoreUnsure("the answer of COMMIT was lost")
        return result


async def test_what_may_have_been_given_back_is_not_spent(opened: Open, clock: Clock) -> None:
    """Five returns whose answers are lost: not one call more than the quota is let through afterwards."""
    driver = Losing(opened())
    journal = Journal(driver)
    await journal.open("test")
    limits, spent = Limits(journal, clock), 0
    for _ in range(5):
        spent += await spend(limits, grant(1000)) == "spent"
        clock.now += LEASE
        driver.lose = True
        with pytest.raises(Refusal):
            await limits.give_back()
    spent += (await spend_many(1010, grant(1000), limits))["spent"]
    assert spent == 1000
    assert await taken(journal) == [("2026-11-20", 1000)]
    await journal.close()


async def test_a_dead_process_wastes_one_block_at_most(limits: Limits, other: Limits) -> None:
    """E8: one is killed with a block in hand: the others spend all but the rest of that block, and never more."""
    assert await spend(limits, grant(500)) == "spent"
    del limits
    assert (await spend_many(510, grant(500), other))["spent"] == 495


async def test_a_call_that_is_given_up_while_it_waits(journal: Journal, limits: Limits) -> None:
    """A caller that hangs up takes nobody's unit beyond the block it asked for, and keeps nobody out."""
    waiting = asyncio.ensure_future(spend(limits, grant(1000)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await spend_many(1, grant(1000), limits) == {"spent": 1}
    assert await taken(journal) == [("2026-11-20", 19)]


async def test_consumers_grants_and_agreements_count_apart(limits: Limits) -> None:
    """Each consumer has the quota of each grant of each agreement for itself."""
    clinic = SystemId("health.clinic")
    assert [await spend(limits, grant(1, index=index)) for index in (0, 1, 0)] == ["spent", "spent", "policy.quota"]
    assert [await spend(limits, grant(1), consumer=clinic) for _ in range(2)] == ["spent", "policy.quota"]
    await limits.spend([Charge(agreement("A-2"), grant(1), TAX)], NOON, ZONE)


async def test_how_much_is_used(limits: Limits) -> None:
    """The figure for the operators, by agreement and consumer: what was handed out of the day's quota."""
    await spend_many(3, grant(200), limits)
    assert limits.taken("2026-11-20") == {("A-1", "finance.tax"): 3 / 200}
    await spend_many(200, grant(200), limits)
    assert limits.taken("2026-11-20") == {("A-1", "finance.tax"): 1.0}
    assert limits.taken("2026-11-21") == {}


async def test_a_rate_is_asked_before_the_quota(journal: Journal, limits: Limits, clock: Clock) -> None:
    """Who calls too fast spends no quota, learns how long to wait, and passes after it."""
    terms = grant(5, Rate(2, 10))
    assert [await spend(limits, terms) for _ in range(4)] == ["spent", "spent", "policy.rate", "policy.rate"]
    assert await taken(journal) == [("2026-11-20", 2)]
    with pytest.raises(Refusal, match="A-1 allows 2 calls in 10 s") as caught:
        await limits.spend([Charge(A1, terms, TAX)], NOON, ZONE)
    assert (caught.value.retry_after, caught.value.agency) == (5.0, "interior")
    clock.now += 5
    assert [await spend(limits, terms) for _ in range(2)] == ["spent", "policy.rate"]


async def test_several_are_spent_together_or_not_at_all(limits: Limits, other: Limits) -> None:
    """Two grants, of which one is used up: the other keeps its quota and its rate, and may spend them by itself."""
    free, used = grant(2, Rate(2, 10)), grant(1, index=1)
    assert await spend(limits, used) == "spent"
    for _ in range(5):
        with pytest.raises(Refusal, match="today's are used up"):
            await limits.spend([Charge(A1, free, TAX), Charge(A1, used, TAX)], NOON, ZONE)
    await limits.give_back(everything=True)
    assert await spend_many(2, free, other) == {"spent": 2}


async def test_a_group_under_one_grant_is_counted_as_many(journal: Journal, limits: Limits, other: Limits) -> None:
    """Twenty-five fit into sixty twice, by two processes; a third twenty-five do not and cost nothing; ten do."""
    terms = grant(60)
    group = [Charge(A1, terms, TAX)] * 25
    for process in (limits, other):
        await process.spend(group, NOON, ZONE)
    for _ in range(3):
        with pytest.raises(Refusal, match="fewer than 25 of today's are left"):
            await limits.spend(group, NOON, ZONE)
    assert await taken(journal) == [("2026-11-20", 50)]
    assert await spend_many(6, terms, limits, other) == {"spent": 10, "policy.quota": 2}
    with pytest.raises(Refusal, match="A-1 allows 3 calls in 10 s"):
        await limits.spend([Charge(A1, grant(rate=Rate(3, 10)), TAX)] * 4, NOON, ZONE)
    assert await spend_many(3, grant(rate=Rate(3, 10)), limits) == {"spent": 3}


async def test_several_at_once_stay_exact(limits: Limits, other: Limits) -> None:
    """Pairs and single calls by two processes: never more than the quota, and no pair by halves."""
    one, two = grant(40), grant(60, index=1)

    async def pair(process: Limits) -> str:
        try:
            await process.spend([Charge(A1, one, TAX), Charge(A1, two, TAX)], NOON, ZONE)
        except Refusal:
            return "refused"
        return "pair"

    works = [work for _ in range(40) for each in (limits, other) for work in (pair(each), spend(each, two))]
    found = Counter(await asyncio.gather(*works))
    assert found["pair"] + found["spent"] == 60
    assert found["pair"] + (await spend_many(40, one, limits, other))["spent"] == 40


async def test_without_limits_nothing_is_counted(journal: Journal, limits: Limits) -> None:
    """A grant with neither rate nor quota costs the database nothing."""
    assert await spend_many(50, grant(), limits) == {"spent": 50}
    assert await taken(journal) == []


async def test_without_a_database_no_quota_is_spent(opened: Open, clock: Clock) -> None:
    """E7: where the block cannot be taken nothing passes, and the refusal says why."""
    journal = Journal(opened())
    await journal.open("test")
    limits = Limits(journal, clock)
    await journal.close()
    assert await spend_many(3, grant(1000), limits) == {"journal.unavailable": 3}


async def test_a_used_up_quota_is_asked_for_once_a_second(commits: tuple[Journal, list[int]], clock: Clock) -> None:
    """A hundred calls beyond it are one transaction, a second later one more; a raised quota is seen at once."""
    journal, seen = commits
    limits = Limits(journal, clock)
    await spend_many(3, grant(3), limits)
    before = len(seen)
    assert await spend_many(100, grant(3), limits) == {"policy.quota": 100}
    assert (await spend(limits, grant(2)), len(seen) - before) == ("policy.quota", 1)
    clock.now += EXHAUSTED
    assert (await spend(limits, grant(3)), len(seen) - before) == ("policy.quota", 2)
    assert (await spend(limits, grant(4)), await spend(limits, grant(4))) == ("spent", "policy.quota")


async def test_what_another_process_gives_back_is_found_within_a_second(
    limits: Limits, other: Limits, clock: Clock
) -> None:
    """A quota that was used up is asked for again."""
    assert await spend(other, grant(200)) == "spent"
    assert (await spend_many(200, grant(200), limits))["spent"] == 198
    await other.give_back(everything=True)
    assert await spend(limits, grant(200)) == "policy.quota"
    clock.now += EXHAUSTED
    assert await spend_many(2, grant(200), limits) == {"spent": 1, "policy.quota": 1}


async def test_blocks_and_buckets_are_bounded(
    journal: Journal, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More holders than are kept: the oldest block is given back first, and every unit of it is there again."""
    monkeypatch.setattr("gateway.edge.limits.MAX_KEPT", 10)
    terms = grant(1000, Rate(5, 1.0))
    for n in range(25):
        assert await spend(limits, terms, consumer=SystemId(f"a.s{n}")) == "spent"
        assert max(len(limits._blocks), len(limits._buckets), len(limits._ratios)) <= 10
    assert sorted(await taken(journal)) == [("2026-11-20", 1)] * 15 + [("2026-11-20", 10)] * 10
