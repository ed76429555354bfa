"""E8: a day's quota, spent by several nodes (the statements alone: tests/behaviour/test_limits_store)."""

import asyncio
import signal
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from tests.fakes.parties import LOOK_UP, PERSON, TAX, Terms
from tests.fakes.town import Town, founded
from tests.faults.nodes import asked, started
from tests.races.stage import code, two_nodes


async def spend(calls: int, *towns: Town) -> Counter[str]:
    """So many look-ups of each, all at once."""
    for town in towns:
        await town.token(TAX)
    replies = await asyncio.gather(*(town.call(TAX, LOOK_UP, PERSON) for _ in range(calls) for town in towns))
    return Counter(map(code, replies))


async def test_e08_four_nodes_spend_the_last_units(tmp_path: Path, shared: str) -> None:
    """Two hundred calls of four nodes for fifty units: fifty reach the provider, and nobody finds one more."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(founded(tmp_path, shared))
        towns = [first, *(first.beside() for _ in range(3))]
        for town in towns:
            await stack.enter_async_context(town.running(Terms(quota=50)))
        found = await spend(50, *towns)
        for _ in range(20):  # on a slow machine a node holds the row for longer than the others wait: they ask again
            found += await spend(1, *towns) if found["200"] < 50 else Counter()
        assert found["200"] == 50
        assert set(found) <= {"200", "policy.quota", "journal.unavailable"}
        assert await spend(3, *towns) == {"policy.quota": 12}
        assert (len(first.office.seen), first.rows("select taken from quotas")) == (50, [(50,)])


async def test_e08_a_killed_node_wastes_one_block_at_most(tmp_path: Path, shared: str) -> None:
    """It dies with 4 of a block of 5 in hand: of 500 units 496 are spent, on the other node, and none twice."""
    async with founded(tmp_path, shared) as town, town.running(Terms(quota=500), max_in_progress=4000):
        async with started(town, quota=500) as node:
            assert (await asked(town, node.public))[0] == 200
            node.signal(signal.SIGKILL)
            await node.killed()
        assert await spend(510, town) == {"200": 495, "policy.quota": 15}
        assert len(town.office.seen) == 496


async def test_e08_midnight_begins_anew_on_every_node(tmp_path: Path, url: str | None) -> None:
    """When it strikes in the instance's zone, wherever that is, the quota is whole again, once for all nodes."""
    terms = Terms(quota=3)
    now = datetime.now(UTC)
    to_midnight = timedelta(hours=23, minutes=45) - timedelta(hours=now.hour, minutes=now.minute)
    before = to_midnight if to_midnight < timedelta(hours=12) else to_midnight - timedelta(days=1)
    async with two_nodes(tmp_path, url, terms) as towns:
        for hours, spent in ((0, 3), (1, 6)):  # a zone in which it is a quarter to midnight, and its neighbour
            for town in towns:
                town.agree(terms, zone=timezone(before + timedelta(hours=hours)))
            assert (await spend(5, *towns))["200"] == 3
            assert len(towns[0].office.seen) == spent
        days = [day for (day,) in towns[0].rows("select day from quotas order by day")]
    assert datetime.fromisoformat(days[1]) - datetime.fromisoformat(days[0]) == timedelta(days=1)


async def test_e08_a_limit_that_is_lowered_at_noon_holds_at_once(tmp_path: Path, url: str | None) -> None:
    """Below what was taken nothing passes on any node; raised again, what is left does."""
    async with two_nodes(tmp_path, url, Terms(quota=50)) as towns:
        assert (await spend(10, *towns))["200"] == 20
        for quota, passes in ((20, 0), (7, 0), (23, 3), (50, 27)):
            for town in towns:
                town.agree(Terms(quota=quota))
            assert (await spend(20, *towns))["200"] == passes
