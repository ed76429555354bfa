"""Recipients that wait for something to come into their mailbox."""

import asyncio
from pathlib import Path

from gateway.edge.documents.inbox import MAX_POLLERS
from tests.fakes.correspondents import Letters
from tests.fakes.pollers import changed, fetched, ids, waiters
from tests.fakes.post_office import PostTown, opened
from tests.fakes.town import Reply, until


async def polling(town: PostTown, count: int) -> list[asyncio.Task[Reply]]:
    """So many calls that wait."""
    tasks = []
    for number in range(count):
        tasks.append(asyncio.create_task(fetched(town, query="?wait=20")))
        await until(lambda: waiters(town).waiting > number)  # noqa: B023 - awaited here
    return tasks


async def test_a_poller_waits_for_what_comes(tmp_path: Path) -> None:
    """It holds no place meanwhile, and gets the document that comes; those that waited in vain are told so."""
    async with opened(tmp_path, max_in_progress=4) as town:
        waiting = await polling(town, 6)
        assert town.gateway.exchanges.front.in_progress == 0
        document = (await town.send()).body["document"]
        done, late = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert [ids(each.result()) for each in done] == [[document]]
        waiters(town).close()
        assert [ids(each) for each in await asyncio.gather(*late)] == [[]] * 5


async def test_a_poller_gets_what_another_node_took_in(tmp_path: Path, url: str | None) -> None:
    """Nobody tells this process: its next look at the database finds what may be leased."""
    async with opened(tmp_path, url=url) as town:
        document = (await town.send()).body["document"]
        await changed(town, "update lanes set due = due + 3600")
        (waiting,) = await polling(town, 1)
        await changed(town, "update lanes set due = due - 3600")
        async with asyncio.timeout(18):
            assert ids(await waiting) == [document]


async def test_one_agency_does_not_take_all_waiting_places(tmp_path: Path) -> None:
    """Of too many pollers one more is answered at once."""
    async with opened(tmp_path) as town:
        waiting = await polling(town, MAX_POLLERS)
        assert ids(await fetched(town, query="?wait=20")) == []
        assert not any(each.done() for each in waiting)
        waiters(town).close()
        await asyncio.gather(*waiting)


async def test_who_is_suspended_while_they_wait_gets_nothing(tmp_path: Path) -> None:
    """The right is asked for again before anything is handed out."""
    async with opened(tmp_path) as town:
        await town.send()
        await changed(town, "update lanes set due = due + 3600")
        (waiting,) = await polling(town, 1)
        town.changed(Letters(suspended=frozenset({"interior"})))
        await changed(town, "update lanes set due = due - 3600")
        assert (await waiting).body["code"] == "policy.suspended"
        assert town.rows("select touched from deliveries") == [(0,)]
