"""`kill -9` between any two steps: no evidence is lost, no write happens twice, the answer afterwards is honest.

Each is played on both databases. On PostgreSQL the answer afterwards is another node's, which ran all the time.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fakes.parties import Terms
from tests.fakes.town import Town, founded
from tests.faults.nodes import Node, asked, started

HOUR = 3600.0
KEY = "the-move"
OF_A_WRITE = 10
"""Claim, its entry, end, commit; the call, its answer; settle, its entry, end, commit."""
OF_A_READ = 9
"""Under a quota: the day's row, a block, end, commit; the call, its answer; the entry, end, commit."""
QUOTA = 5
"""So small that each block is one call."""


@asynccontextmanager
async def dying(
    folder: Path, url: str | None, chosen: int, quota: int | None = None
) -> AsyncIterator[tuple[Town, Node, Terms]]:
    """A node that will die at the chosen step, and on PostgreSQL one beside it that lives."""
    terms = Terms(quota=quota)
    async with founded(folder, url) as town:
        if url is None:
            async with started(town, chosen, quota=quota) as node:
                yield town, node, terms
            return
        async with town.running(terms), started(town, chosen, quota=quota) as node:
            yield town, node, terms


@asynccontextmanager
async def living(town: Town, url: str | None, terms: Terms) -> AsyncIterator[str]:
    """The node that answers afterwards: on SQLite it is started only now."""
    if url is not None:
        yield town.at.public
        return
    async with town.running(terms):
        yield town.at.public


def entries(town: Town, step: str) -> int:
    return sum(entry.facts["step"] == step for entry in town.entries())


@pytest.mark.parametrize("chosen", range(1, OF_A_WRITE + 1))
async def test_a_write_survives_a_kill_at_every_step(tmp_path: Path, url: str | None, chosen: int) -> None:
    """Whatever the provider saw has its `admitted` entry; the retry is answered truly and never calls again."""
    async with dying(tmp_path, url, chosen) as (town, node, terms):
        assert (await asked(town, node.public, KEY))[0] is None
        await node.killed()
        seen = len(town.office.seen)
        assert len(town.keys_kept()) == entries(town, "admitted") >= seen
        async with living(town, url, terms) as address:
            status, _ = await asked(town, address, KEY)
            assert (status, len(town.office.seen)) in {
                (200, 1),  # not begun before, and done now; or done before, and its stored answer given again
                (409, seen),  # admitted before: it may have happened, so nobody tries again
            }
            town.valve.ahead = HOUR
            await town.upkeep()
            assert ((await asked(town, address, KEY))[0], len(town.office.seen)) == (
                status,
                seen if status == 409 else 1,
            )
        assert (entries(town, "answered"), entries(town, "unsettled")) == ((1, 0) if status == 200 else (0, 1))
        assert town.faults() == ()


@pytest.mark.parametrize("chosen", range(1, OF_A_READ + 1))
async def test_a_read_survives_a_kill_at_every_step(tmp_path: Path, url: str | None, chosen: int) -> None:
    """Nothing left that has no entry; of the quota one block is wasted at most, and the rest is there for others."""
    async with dying(tmp_path, url, chosen, QUOTA) as (town, node, terms):
        assert (await asked(town, node.public))[0] is None
        await node.killed()
        assert entries(town, "answered") == (chosen == OF_A_READ)
        taken = sum(row[0] for row in town.rows("select taken from quotas"))
        assert taken == (chosen > 3)
        async with living(town, url, terms) as address:
            statuses = [(await asked(town, address))[0] for _ in range(QUOTA + 2)]
        assert statuses == [200] * (QUOTA - taken) + [429] * (2 + taken)
        assert town.faults() == ()


@pytest.mark.parametrize(("key", "steps", "quota"), [(KEY, OF_A_WRITE, None), (None, OF_A_READ, QUOTA)])
async def test_there_is_no_step_after_the_last(
    tmp_path: Path, url: str | None, key: str | None, steps: int, quota: int | None
) -> None:
    """The steps above are all there are: a gateway doomed to the next one answers."""
    async with dying(tmp_path, url, steps + 1, quota) as (town, node, _):
        assert (await asked(town, node.public, key))[0] == 200
