"""Agencies that are down, with much that waits for them: their neighbours get their documents as if nothing were.

``GATEWAY_TEST_WAITING`` is how many documents wait for each. ``tests/benchmarks/neighbours.py`` measures by how much
it delays others; here is held that nobody waits for a hand-over of the ones that are down.
"""

import asyncio
import itertools
import os
import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.addressees import TAKEN, Came, Hook, hook, refusing
from tests.fakes.district import SENDER, District, Pushed
from tests.fakes.senders import Desk
from tests.fakes.serving import Node, pause, serving, sound

WAITING = int(os.environ.get("GATEWAY_TEST_WAITING", "1500"))
AT_ONCE = 32
LETTERS = 100
"""To each neighbour, one after the other."""
PLACES = 8
"""Documents that are with a hanging system at the same time."""
DEADLINE = "60s"
"""Of that one: longer than the test."""
SECONDS = 20.0
MARGIN = 4
"""Times the median without anybody down, and a twentieth of a second, on a machine with other things to do."""


@dataclass(slots=True)
class Place:
    """A gateway; two neighbours that take, one agency that hangs, one that cannot be reached."""

    node: Node
    desk: Desk
    near: Hook
    far: Hook
    hanging: Hook
    district: District
    database: str

    async def letters(self, label: str) -> list[float]:
        """One after the other to the neighbours: the seconds from each 202 to its arrival, sorted."""
        took = []
        for n, (to, system) in itertools.product(range(LETTERS), (("near", self.near), ("far", self.far))):
            document = await self.desk.send(to, f"{label}-{to}-{n}", {"case": f"{label}{n}", "n": 0})
            async with asyncio.timeout(SECONDS):
                while document not in system.ledger.at:
                    await pause(0.001)
            took.append(max(0.0, system.ledger.at[document] - self.desk.at[document]))
        return sorted(took)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """Everything runs, and nothing waits yet."""
    released = asyncio.Event()

    async def hangs(_: Came) -> int:
        await released.wait()
        return TAKEN

    async with AsyncExitStack() as stack:
        near, far, hanging = [await stack.enter_async_context(hook(*how)) for how in ((), (), (hangs,))]
        stack.callback(released.set)
        district, database = District(tmp_path / "district"), f"sqlite:///{tmp_path / 'gateway.sqlite3'}"
        silent = Pushed("silent", hanging.url, deadline=DEADLINE, concurrency=PLACES)
        district.found([Pushed("near", near.url), Pushed("far", far.url, "http"), silent, Pushed("gone", refusing())])
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        node = await stack.enter_async_context(serving(district, database))
        desk = Desk(session, lambda: node.url, district.token(SENDER))
        yield Place(node, desk, near, far, hanging, district, database)


async def loaded(place: Place) -> None:
    """So many documents for each of those that are down, each in a lane of its own."""
    left = iter([(to, n) for n in range(WAITING) for to in ("silent", "gone")])

    async def one() -> None:
        for to, n in left:
            await place.desk.send(to, f"{to}{n}", {"case": f"{to}{n}", "n": 0})

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    async with asyncio.timeout(SECONDS):
        while place.hanging.holding < PLACES:
            await pause(0.01)


async def test_neighbours_of_agencies_that_are_down(place: Place) -> None:
    """All that is for them comes while the same hand-overs hang; and about as fast as before anybody was down."""
    before = await place.letters("before")
    await loaded(place)
    hung = set(place.hanging.tries)
    during = await place.letters("during")
    assert (place.hanging.holding, set(place.hanging.tries)) == (PLACES, hung)
    middle, usual = statistics.median(during), statistics.median(before)
    print(f"{WAITING} wait for each: median {usual * 1e3:.1f} ms before, {middle * 1e3:.1f} ms during")  # noqa: T201 - figures
    assert middle < MARGIN * usual + 0.05
    await sound(place.district, place.database)
