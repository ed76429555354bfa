"""A document that its recipient's system cannot stand: it ends or waits by itself, and blocks nobody else."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.addressees import CUT, TAKEN, Came, Hook, hook
from tests.fakes.district import SENDER, District, Pushed
from tests.fakes.senders import Desk
from tests.fakes.serving import pause, serving, sound

ENDS = {"poison400": 400, "poison422": 422}
"""What the system says to the first of these cases."""
WAITS = {"poison500": 500, "poisoncut": CUT}
OTHERS = 40
"""Sound documents, in lanes of their own, to each of two agencies."""
SECONDS = 30.0
"""For what must come, on a machine with other things to do; a gate that is closed once costs one."""


@dataclass(frozen=True, slots=True)
class Place:
    """A gateway and two systems, one of which gets the poison."""

    desk: Desk
    north: Hook
    south: Hook


async def _sick(came: Came) -> int:
    return {**ENDS, **WAITS}.get(came.case, TAKEN) if came.n == 0 else TAKEN


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """The one with the poison is reached by webhook, the other one by http."""
    database = f"sqlite:///{tmp_path / 'gateway.sqlite3'}"
    async with AsyncExitStack() as stack:
        north, south = await stack.enter_async_context(hook(_sick)), await stack.enter_async_context(hook())
        district = District(tmp_path / "district")
        district.found([Pushed("north", north.url), Pushed("south", south.url, "http")])
        session = await stack.enter_async_context(aiohttp.ClientSession())
        node = await stack.enter_async_context(serving(district, database))
        yield Place(Desk(session, lambda: node.url, district.token(SENDER)), north, south)
        await sound(district, database)


async def test_a_poison_document_blocks_nobody(place: Place) -> None:
    """400 and 422 reject it, and its case goes on; 500 and a cut wire hold back its case alone, tried more seldom."""
    desk = place.desk
    poisons = {case: await desk.send("north", f"{case}-0", {"case": case, "n": 0}) for case in (*ENDS, *WAITS)}
    behind = {case: await desk.send("north", f"{case}-1", {"case": case, "n": 1}) for case in poisons}
    numbers = itertools.product(("north", "south"), range(OTHERS))
    others = await asyncio.gather(*(desk.send(to, f"{to}{n}", {"case": f"c{n}", "n": 0}) for to, n in numbers))
    wanted = {*others, *(behind[case] for case in ENDS)}
    async with asyncio.timeout(SECONDS):
        while not wanted <= {*place.north.ledger.first, *place.south.ledger.first}:
            await pause(0.02)
    for case in ENDS:
        assert await _ends(desk, poisons[case]) == ("rejected", "refused_by_system", 1)
    for case in WAITS:
        assert await _stands(desk, poisons[case]) == ("submitted", None)
        assert await _stands(desk, behind[case]) == ("submitted", None)
        await _comes(place, poisons[case], 3)
        gaps = [later - earlier for earlier, later in itertools.pairwise(place.north.tries[poisons[case]])]
        assert (gaps[0] > 0.3, gaps[1] > 0.7) == (True, True)  # at least half of a second, and of two
    assert all(document not in place.north.ledger.first for document in (*poisons.values(), behind["poison500"]))


async def _stands(desk: Desk, document: str) -> tuple[str, str | None]:
    (at,) = (await desk.call("GET", f"/v1/documents/{document}")).body["recipients"]
    return at["state"], at["reason"]


async def _ends(desk: Desk, document: str) -> tuple[str, str | None, int]:
    """Its state, why, and after how many attempts."""
    async with asyncio.timeout(SECONDS):
        while True:
            (at,) = (await desk.call("GET", f"/v1/documents/{document}")).body["recipients"]
            if at["state"] != "submitted":
                return at["state"], at["reason"], at["attempts"]
            await pause(0.02)


async def _comes(place: Place, document: str, times: int) -> None:
    async with asyncio.timeout(SECONDS):
        while len(place.north.tries.get(document, ())) < times:
            await pause(0.02)
