"""What bounds a hand-over: its lease, the bytes in hand, and a document at which the recipient's system hangs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from gateway.core.model import AgencyId
from gateway.edge.documents.road import MAX_IN_HAND_BYTES
from tests.fakes.deliveries import delivering, push, recipient
from tests.fakes.handovers import INTERIOR, closed, comes_to, sent, to, writing
from tests.fakes.town import Office

ELSEWHERE = AgencyId("elsewhere"), "webhook"


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with recipient() as made:
        yield made


async def test_nothing_is_begun_that_could_outlast_80_percent_of_its_lease(tmp_path: Path, office: Office) -> None:
    """A lease of 30 s and a deadline of 10 s: what would begin 21 s after the claim waits for the next one."""
    now, claimed, begun = [0.0], list[float](), list[float]()

    def name() -> int:
        claimed.append(now[0])
        return len(claimed)

    async def takes(_: web.BaseRequest) -> web.StreamResponse:
        begun.append(now[0] - claimed[-1])
        now[0] += 7
        return web.json_response({})

    office.react = takes
    async with writing(tmp_path, office, deadline=10.0) as town:
        dispatcher = town.gateway.dispatcher
        dispatcher._closing = True  # so that all five are there at the first claim
        waiting = [await sent(town) for _ in range(5)]
        desk = dispatcher._desk
        dispatcher._desk = replace(desk, hand=replace(desk.hand, clock=lambda: now[0]), claims=name)
        dispatcher._closing = False
        await comes_to(town, waiting[-1], "arrived")
    assert begun == [0, 7, 14, 0, 7]


async def test_with_too_many_bytes_in_hand_each_way_has_one_document(tmp_path: Path, office: Office) -> None:
    """Others hold all that a process may: one that hangs takes no more than one, and a neighbour's all arrive."""
    hang = asyncio.Event()

    async def hangs(_: web.BaseRequest) -> web.StreamResponse:
        await hang.wait()
        return web.json_response({})

    office.react = hangs
    async with AsyncExitStack() as stack:
        neighbour = await stack.enter_async_context(recipient())
        ways = push(INTERIOR, office.url), push("lampang", neighbour.url)
        town = await stack.enter_async_context(delivering(tmp_path, to(*ways)))
        desk = town.gateway.dispatcher._desk
        desk.in_hand[ELSEWHERE] = MAX_IN_HAND_BYTES
        stuck = [await sent(town, f"S{n}") for n in range(4)]
        free = [await sent(town, f"F{n}", "lampang") for n in range(10)]
        for document in free:
            await comes_to(town, document, "arrived")
        assert len(office.seen) == 1
        hang.set()
        for document in stuck:
            await comes_to(town, document, "arrived")
        assert desk.in_hand[ELSEWHERE] == sum(desk.in_hand.values())


async def test_a_document_at_which_the_system_hangs_makes_way(tmp_path: Path, office: Office) -> None:
    """No answer in time: its lane is left alone too, so that the next one to be asked about is another one."""
    never = asyncio.Event()

    async def hangs(_: web.BaseRequest) -> web.StreamResponse:
        await never.wait()
        return web.json_response({})

    office.react = hangs
    async with writing(tmp_path, office, deadline=0.1) as town:
        await sent(town)
        await closed(town)
        ((wait,),) = town.rows("select due - (julianday('now') - 2440587.5) * 86400.0 from lanes")
        assert 0.2 < wait <= 1
        never.set()
