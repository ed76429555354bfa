"""A reference that is sent again: at once, to another node, after a restart, with another body: one document."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.addressees import Hook, hook
from tests.fakes.district import SENDER, District, Pushed
from tests.fakes.senders import Desk, Reply
from tests.fakes.serving import Node, pause, serving, sound

REFERENCES = 25
"""That are sent by several connections at the same time."""
SECONDS = 30.0


@dataclass(slots=True)
class Place:
    """One gateway on a file, or two on PostgreSQL, that may be started anew."""

    district: District
    database: str
    stack: AsyncExitStack
    nodes: list[Node]
    hook: Hook
    desk: Desk

    async def restarted(self) -> None:
        """Killed, all of them, and others in their place."""
        for node in self.nodes:
            await node.killed()
        count = len(self.nodes)
        self.nodes.clear()
        await self.start(count)

    async def start(self, count: int) -> None:
        """So many gateways."""
        for _ in range(count):
            self.nodes.append(await self.stack.enter_async_context(serving(self.district, self.database)))

    async def everywhere(self, reference: str, *bodies: Any, times: int = 1) -> list[Reply]:
        """Each body to each gateway, all at the same time; who is told to come again, or nothing, does."""
        calls = [
            self._sent(node.url, reference, body)
            for node, body, _ in itertools.product(self.nodes, bodies, range(times))
        ]
        return list(await asyncio.gather(*calls))

    async def _sent(self, url: str, reference: str, body: Any) -> Reply:
        async with asyncio.timeout(SECONDS):
            while True:
                reply = await self.desk.submit("north", reference, body, url=url)
                if reply.status not in (None, 409, 503):
                    return reply
                await pause(0.02)


def body(case: str, text: str = "x") -> dict[str, Any]:
    return {"case": case, "n": 0, "text": text}


def one(replies: Sequence[Reply]) -> tuple[str, str]:
    """The document and the receipt that all of them were answered."""
    told = {(each.body["document"], each.body["receipt"]) for each in replies}
    assert (len(told), {each.status for each in replies}) == (1, {202}), replies
    return told.pop()


@pytest.fixture
async def place(tmp_path: Path, url: str | None) -> AsyncIterator[Place]:
    """They run."""
    database = url or f"sqlite:///{tmp_path / 'gateway.sqlite3'}"
    async with AsyncExitStack() as stack:
        north = await stack.enter_async_context(hook())
        district = District(tmp_path / "district")
        district.found([Pushed("north", north.url)])
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        nodes: list[Node] = []
        desk = Desk(session, lambda: nodes[0].url, district.token(SENDER))
        made = Place(district, database, stack, nodes, north, desk)
        await made.start(1 if url is None else 2)
        yield made
        await sound(district, database)


async def test_a_reference_has_one_document(place: Place) -> None:
    """Sent by several at once it is taken in once; another body is refused; after a restart it is the same receipt."""
    names = [f"r{n}" for n in range(REFERENCES)]
    first = {name: one(await place.everywhere(name, body(name), times=2)) for name in names}
    mixed = {f"b{n}": await two_bodies(place, f"b{n}") for n in range(REFERENCES)}
    await again(place, first)
    await place.restarted()
    await again(place, first)
    await came(place, {document for document, _ in (first | mixed).values()})


async def two_bodies(place: Place, reference: str) -> tuple[str, str]:
    """At the same time, everywhere: one of them is taken in, wherever it was sent, and the other one refused."""
    replies = await place.everywhere(reference, body(reference, "one"), body(reference, "other"))
    taken = [each for each in replies if each.status == 202]
    assert {(each.status, each.code) for each in replies if each not in taken} == {(422, "idempotency.reused")}
    assert len(taken) == len(place.nodes)
    return one(taken)


async def again(place: Place, first: Mapping[str, tuple[str, str]]) -> None:
    """Some of them, by every gateway: the same body, and another one."""
    for name in tuple(first)[:5]:
        replies = await place.everywhere(name, body(name))
        assert one(replies) == first[name]
        assert {each.headers.get("Exchange-Replayed") for each in replies} == {"?1"}
        others = await place.everywhere(name, body(name, "something else"))
        assert {(each.status, each.code) for each in others} == {(422, "idempotency.reused")}


async def came(place: Place, documents: set[str]) -> None:
    """Each of them, and nothing else."""
    async with asyncio.timeout(SECONDS):
        while not documents <= place.hook.ledger.first.keys():
            await pause(0.02)
    assert place.hook.ledger.first.keys() == documents
