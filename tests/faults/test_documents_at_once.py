"""A document that is leased as it is taken in: its gateway is killed, or stopped, before it is handed over."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.behaviour.server import Server
from tests.fakes.addressees import TAKEN, Came, Hook, hook
from tests.fakes.district import NOTE, SENDER, District, Pushed
from tests.fakes.senders import Desk
from tests.fakes.serving import Node, pause, serving, sound
from tests.faults.campaign import MINUTE, Store

COUNT = 40
"""Documents, ten times as many as the recipient takes at once."""
SECONDS = 40.0
"""For everything to come."""


@dataclass(slots=True)
class Place:
    """A gateway, and a system that answers nothing until it may."""

    district: District
    store: Store
    hook: Hook
    session: aiohttp.ClientSession
    may: asyncio.Event

    def desk(self, node: Node) -> Desk:
        """The sender, at that gateway."""
        return Desk(self.session, lambda: node.url, self.district.token(SENDER))

    async def send(self, node: Node) -> list[str]:
        """All of them, at the same time; their ids."""
        desk = self.desk(node)
        works = (desk.send("north", f"n-{n}", {"case": f"c{n}", "n": 0}, NOTE) for n in range(COUNT))
        return list(await asyncio.gather(*works))

    async def all_come(self, documents: list[str]) -> None:
        """Until each has come."""
        async with asyncio.timeout(SECONDS):
            while self.hook.ledger.first.keys() < set(documents):
                await pause(0.02)


@pytest.fixture
async def place(tmp_path: Path, url: str | None, request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    may = asyncio.Event()

    async def once_it_may(_: Came) -> int:
        await may.wait()
        return TAKEN

    async with AsyncExitStack() as stack:
        north = await stack.enter_async_context(hook(once_it_may))
        district = District(tmp_path / "district")
        district.found([Pushed("north", north.url, deadline="30s", concurrency=4)])
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        store = Store(f"sqlite:///{tmp_path / 'gateway.sqlite3'}")
        if url is not None:
            server: Server = request.getfixturevalue("server")
            store = Store(url, server.folder)
        yield Place(district, store, north, session, may)
        may.set()
        await sound(district, store.url)


async def test_a_kill_between_answer_and_hand_over(place: Place) -> None:
    """Killed with some at the recipient and some before it: none is lost, and what comes again says that it may."""
    async with serving(place.district, place.store.url) as node:
        documents = await place.send(node)
        await node.killed()
    place.may.set()
    await place.store.passed(MINUTE)  # the leases would end by themselves
    async with serving(place.district, place.store.url) as node:
        await place.all_come(documents)
        desk = place.desk(node)
        for document in documents:
            await arrived(desk, document)
    assert (place.hook.ledger.unannounced, place.hook.ledger.twice) == (0, 0)


async def test_a_stop_gives_the_leases_back(place: Place) -> None:
    """What had not been begun is free for the next process at once, and was not touched."""
    async with serving(place.district, place.store.url) as node:
        documents = await place.send(node)
        async with asyncio.timeout(SECONDS):
            while place.hook.holding < 4:
                await pause(0.02)
        node.signal(signal.SIGTERM)
        await node.process.wait()
    place.may.set()
    begun = time.perf_counter()
    async with serving(place.district, place.store.url) as node:
        await place.all_come(documents)
        for document in documents:
            await arrived(place.desk(node), document)
    assert time.perf_counter() - begun < SECONDS  # a lease that is not given back lasts 80 s
    again = [came.id for came in place.hook.ledger.first.values() if came.again]
    assert len(again) <= 4


async def arrived(desk: Desk, document: str) -> None:
    """Wait until its sender sees it there."""
    async with asyncio.timeout(SECONDS):
        while (await desk.call("GET", f"/v1/documents/{document}")).body["recipients"][0]["state"] != "arrived":
            await pause(0.02)
