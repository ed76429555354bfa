"""Races of the agent, reference/flow-and-journal.md 5.3: members come and go; a system is slow, or away."""

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from tests.fakes.agency import QUICK, accepts, fails, house
from tests.fakes.brokers import Brokers


async def test_a01_a_hand_over_ends_before_its_partition_goes(kafka: Brokers, tmp_path: Path) -> None:
    """Another member comes while the system works: the hand-over is finished and its position written first."""
    async with house(kafka) as agency, AsyncExitStack() as stack:
        agency.system.open.clear()
        await agency.write(1, 2)
        one = await stack.enter_async_context(agency.agent(tmp_path / "one.sqlite3"))
        await agency.bell.until(lambda: agency.system.met)
        two = await stack.enter_async_context(agency.agent(tmp_path / "two.sqlite3"))
        await agency.bell.until(lambda: one.member._life and one.member._life._letting_go.locked())
        agency.system.open.set()
        await agency.commits(2)
        assert agency.system.numbers == [1, 2]
        await agency.bell.until(lambda: len(agency.hub.reports) == 2)
        await agency.bell.until(lambda: sorted([*one.figures.partitions, *two.figures.partitions]) == [0])


async def test_a01_a_hand_over_that_is_late_is_repeated_under_its_id(kafka: Brokers, tmp_path: Path) -> None:
    """It does not end in time: its outcome is written and told all the same; a repetition says that it is one."""
    async with house(kafka) as agency, AsyncExitStack() as stack:
        agency.system.open.clear()
        (letter,) = await agency.write(1)
        hasty = replace(QUICK, finishing=0.1)
        one = await stack.enter_async_context(agency.agent(tmp_path / "one.sqlite3", hasty))
        await agency.bell.until(lambda: agency.system.met)
        two = await stack.enter_async_context(agency.agent(tmp_path / "two.sqlite3", hasty))
        await agency.bell.until(lambda: one.figures.rebalances + two.figures.rebalances >= 3)
        await agency.bell.until(lambda: one.figures.partitions or agency.system.at_once == 2)
        agency.system.open.set()
        await agency.commits(1)
        await agency.bell.until(lambda: agency.hub.reports and not agency.system.at_once)
        assert {each.document for each in agency.hub.reports} == {letter}
        assert [each.n for each in agency.system.met] == [1] * (1 if one.figures.partitions else 2)
        assert agency.system.met[-1].again


async def test_a02_what_another_member_may_have_handed_over_is_asked(kafka: Brokers, tmp_path: Path) -> None:
    """A memory that knows nothing: what the gateway calls ended is passed over, the rest is marked as a repetition."""
    async with house(kafka) as agency:
        ids = await agency.write(1, 2, 3, 4, 5)
        ends = ("registered", "retrieved", "rejected", "expired")
        agency.hub.states = dict(zip(ids, ends, strict=False))
        async with agency.agent(tmp_path / "new.sqlite3") as agent:
            await agency.commits(5)
            await agency.write(6)
            await agency.commits(6)
            assert agent.figures.duplicates == 4
        assert agency.hub.asked == ids
        assert [(each.n, each.again) for each in agency.system.met] == [(5, True), (6, False)]


async def test_a02_a_memory_that_is_still_there_asks_nothing(kafka: Brokers, tmp_path: Path) -> None:
    """The group's position says who wrote it: after a restart on the same memory nothing is in doubt, or marked."""
    async with house(kafka) as agency:
        async with agency.agent(tmp_path / "one.sqlite3"):
            await agency.write(1)
            await agency.commits(1)
        agency.hub.asked.clear()
        await agency.write(2, 3)
        async with agency.agent(tmp_path / "one.sqlite3"):
            await agency.commits(3)
        assert agency.hub.asked == []
        assert [(each.n, each.again) for each in agency.system.met][1:] == [(2, False), (3, False)]


async def test_a02_a_doubt_outlives_the_member_that_had_it(kafka: Brokers, tmp_path: Path) -> None:
    """It ends before it has asked about everything: its own name at the group's position takes no doubt away."""
    async with house(kafka) as agency:
        ids = await agency.write(1, 2, 3)
        agency.hub.up = False
        async with agency.agent(tmp_path / "one.sqlite3") as agent:
            await agency.bell.until(lambda: agent.figures.pauses.get(0) == "gateway")
        agency.hub.up = True
        agency.hub.states = {ids[1]: "registered"}
        async with agency.agent(tmp_path / "one.sqlite3"):
            await agency.commits(3)
        assert agency.hub.asked[-3:] == ids
        assert [(each.n, each.again) for each in agency.system.met] == [(1, True), (3, True)]


async def test_a02_nothing_in_doubt_is_handed_over_unasked(kafka: Brokers, tmp_path: Path) -> None:
    """While the gateway cannot be asked, the partition waits."""
    async with house(kafka) as agency:
        await agency.write(1)
        agency.hub.up = False
        async with agency.agent(tmp_path / "one.sqlite3") as agent:
            await agency.bell.until(lambda: agent.figures.pauses.get(0) == "gateway")
            assert agency.system.met == []
            agency.hub.up = True
            await agency.commits(1)
        assert agency.system.numbers == [1]


async def test_a11_a_system_that_is_down_costs_no_place_in_the_group(kafka: Brokers, tmp_path: Path) -> None:
    """A member comes meanwhile, and finds out by itself; nobody is thrown out, nothing is skipped; then all goes."""
    async with house(kafka, 2) as agency, AsyncExitStack() as stack:
        agency.system.does = fails(sent=False, whole=True)
        for partition in (0, 1):
            await agency.write(*range(10 * partition, 10 * partition + 10), partition=partition, case=str(partition))
        brief = replace(QUICK, session=4.0)
        one = await stack.enter_async_context(agency.agent(tmp_path / "one.sqlite3", brief))
        await agency.bell.until(lambda: set(one.figures.pauses.values()) == {"system"})
        two = await stack.enter_async_context(agency.agent(tmp_path / "two.sqlite3", brief))
        await agency.bell.until(lambda: "system" in two.figures.pauses.values())
        rebalances = one.figures.rebalances + two.figures.rebalances
        late = asyncio.get_running_loop().time() + 2 * brief.session
        await agency.bell.until(lambda: asyncio.get_running_loop().time() > late)  # the looks at the lag ring it
        assert one.figures.rebalances + two.figures.rebalances == rebalances
        assert (sum(one.figures.lags[each][0] for each in one.figures.partitions), two.figures.up) == (10, False)
        agency.system.does, before = accepts, len(agency.system.met)
        await agency.commits(10)
        await agency.commits(10, 1)
        assert _firsts(n for n in agency.system.numbers[before:] if n < 10) == list(range(10))
        assert _firsts(n for n in agency.system.numbers[before:] if n >= 10) == list(range(10, 20))


def _firsts(numbers: Iterable[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


async def test_a12_a_slow_system_costs_no_place_in_the_group(kafka: Brokers, tmp_path: Path) -> None:
    """A hand-over takes longer than the group waits for a sign of life: it polls beside, and nothing is repeated."""
    async with house(kafka) as agency:
        await agency.write(*range(50))
        agency.system.open.clear()
        brief = replace(QUICK, session=4.0)
        async with agency.agent(tmp_path / "one.sqlite3", brief) as agent:
            await agency.bell.until(lambda: agency.system.met)
            late = asyncio.get_running_loop().time() + 2 * brief.session
            await agency.bell.until(lambda: asyncio.get_running_loop().time() > late)
            assert (agent.figures.lags[0][0], len(agency.system.met)) == (50, 1)
            agency.system.open.set()
            await agency.commits(50)
            assert agent.figures.rebalances == 1
        assert agency.system.numbers == list(range(50))


async def test_a12_partitions_do_not_wait_for_each_other(kafka: Brokers, tmp_path: Path) -> None:
    """One hand-over at a time of each partition, and as many as there are partitions."""
    async with house(kafka, 3) as agency:
        agency.system.open.clear()
        for partition in range(3):
            await agency.write(*range(partition, 9, 3), partition=partition, case=str(partition))
        async with agency.agent(tmp_path / "one.sqlite3"):
            await agency.bell.until(lambda: agency.system.at_once == 3)
            agency.system.open.set()
            for partition in range(3):
                await agency.commits(3, partition)
        assert agency.system.most_at_once == 3
        assert [n for n in agency.system.numbers if n % 3 == 0] == [0, 3, 6]


async def test_a19_two_agents_share_the_partitions(kafka: Brokers, tmp_path: Path) -> None:
    """Each record goes to one of them, whichever version each is of."""
    async with house(kafka, 2) as agency, AsyncExitStack() as stack:
        one = await stack.enter_async_context(agency.agent(tmp_path / "one.sqlite3"))
        two = await stack.enter_async_context(agency.agent(tmp_path / "two.sqlite3"))
        await agency.bell.until(lambda: len(one.figures.partitions) == len(two.figures.partitions) == 1)
        for partition in (0, 1):
            await agency.write(*range(partition, 20, 2), partition=partition, case=str(partition))
        await agency.commits(10)
        await agency.commits(10, 1)
        assert sorted(agency.system.numbers) == list(range(20))
        assert one.figures.outcomes == two.figures.outcomes == {"retrieved": 10}


async def test_a20_a_stop_ends_what_is_in_hand_and_leaves_at_once(kafka: Brokers, tmp_path: Path) -> None:
    """The hand-over is finished and its position written; another member has the partition without waiting for it."""
    async with house(kafka) as agency, AsyncExitStack() as stack:
        await agency.write(1, 2)
        agency.system.open.clear()
        patient = replace(QUICK, session=25.0)
        one = await stack.enter_async_context(agency.agent(tmp_path / "one.sqlite3", patient))
        await agency.bell.until(lambda: agency.system.met)
        stopping = asyncio.create_task(one.member.stop(10))
        await agency.bell.until(lambda: one.member._life and one.member._life._letting_go.locked())
        agency.system.open.set()
        await stopping
        assert (agency.system.numbers, await agency.committed()) == ([1], 1)
        since = asyncio.get_running_loop().time()
        async with agency.agent(tmp_path / "two.sqlite3", patient):
            await agency.commits(2)
        assert asyncio.get_running_loop().time() - since < 20
        assert agency.system.numbers == [1, 2]


async def test_a20_a_stop_is_bounded(kafka: Brokers, tmp_path: Path) -> None:
    """A system that never answers holds nobody up: what is in hand stays ``begun``, in doubt at the next start."""
    async with house(kafka) as agency:
        agency.system.open.clear()
        (letter,) = await agency.write(1)
        async with agency.agent(tmp_path / "one.sqlite3", grace=0.1):
            await agency.bell.until(lambda: agency.system.met)
        agency.system.open.set()
        agency.takes_key = False
        async with agency.agent(tmp_path / "one.sqlite3") as agent:
            await agency.bell.until(lambda: agent.figures.pauses.get(0) == "unknown")
            assert [each.document for each in await agent.ledger.memory.unsettled()] == [letter]
        assert agency.system.numbers == [1]
