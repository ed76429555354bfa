"""Places that a process keeps for what it is about to take in: as many as it would claim, none where others wait."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from gateway.core.model import AgencyId, Way
from gateway.edge.documents.road import AHEAD, MAX_WAY_BYTES, Road
from tests.fakes.correspondents import DESK
from tests.fakes.deliveries import DeliveryTown, recipient
from tests.fakes.handovers import INTERIOR, comes_to, met, writing
from tests.fakes.town import Office

WAY = (AgencyId(INTERIOR), "webhook")


def way_of(town: DeliveryTown) -> Way:
    (way,) = town.gateway._catalogue.agencies[WAY[0]].deliveries
    return way


def road_of(town: DeliveryTown, *, woken: bool = False) -> Road:
    """Not under way."""
    return Road(WAY, town.gateway.dispatcher._desk, lambda _: None, woken=woken)


async def note(town: DeliveryTown) -> str:
    """A letter that keeps no order; its id."""
    answer = await town.send({"subject": "x"})
    assert answer.status == 202, answer.body
    return str(answer.body["document"])


async def test_there_are_as_many_as_a_claim_would_take(tmp_path: Path) -> None:
    """By lanes, by bytes, and fewer where the folder allows fewer than before."""
    async with recipient() as office, writing(tmp_path, office, concurrency=2) as town:
        way, road = way_of(town), road_of(town)
        kept = [road.keep(way, sizes) for sizes in ([1] * 5, [MAX_WAY_BYTES] * 5, [1], [1])]
        assert [each and each.count for each in kept] == [5, 1, None, None]
        town.gateway.dispatcher._desk.in_hand.clear()
        road = road_of(town)
        first = road.keep(way, [1] * 99)
        assert first and first.count == AHEAD * 2  # noqa: PT018 - the first for the type checker
        assert road.keep(replace(way, concurrency=1), [1]) is None


@pytest.mark.parametrize("why", ["something waits", "it stops", "its gate is closed", "it is over"])
async def test_there_is_none(tmp_path: Path, why: str) -> None:
    """What waits comes first; and nobody would hand it over otherwise."""
    async with recipient() as office, writing(tmp_path, office) as town:
        road = road_of(town, woken=why == "something waits")
        road.shut = why == "its gate is closed"
        if why == "it stops":
            road.stop()
        if why == "it is over":
            await road.go()
        assert road.keep(way_of(town), [1]) is None


async def test_places_that_nothing_was_claimed_for_are_free_again(tmp_path: Path) -> None:
    """The transaction was refused, say; the road ends when they are."""
    async with recipient() as office, writing(tmp_path, office) as town:
        road = road_of(town)
        kept = road.keep(way_of(town), [1000] * 99)
        assert kept is not None
        going = asyncio.create_task(road.go())
        await asyncio.sleep(0)
        assert (going.done(), town.gateway.dispatcher._desk.in_hand[WAY]) == (False, kept.size)
        kept.begin(kept, ())
        await asyncio.wait_for(going, 30)
        assert WAY not in town.gateway.dispatcher._desk.in_hand


async def test_what_finds_no_place_comes_later(tmp_path: Path) -> None:
    """Of ten with one place at the recipient four are claimed at once; all come, each once."""
    free = asyncio.Event()

    async def hangs(_: web.BaseRequest) -> web.StreamResponse:
        await free.wait()
        return web.json_response({})

    async with recipient() as office, writing(tmp_path, office, concurrency=1) as town:
        office.react = hangs
        ids = [await note(town) for _ in range(10)]
        await met(office)
        assert town.rows("select sum(attempts), sum(touched) from deliveries") == [(AHEAD, AHEAD)]
        free.set()
        for document in ids:
            await comes_to(town, document, "arrived")
        assert len(seen(office)) == 10


async def test_what_is_suspended_is_claimed_by_nobody(tmp_path: Path) -> None:
    """The dispatcher has no place for an agency to which nothing is handed over now, nor when it closes."""
    async with recipient() as office, writing(tmp_path, office) as town:
        dispatcher = town.gateway.dispatcher
        assert dispatcher.keep(WAY[0], "another", [1]) is None
        await dispatcher.close(0.1)
        assert dispatcher.keep(*WAY, [1]) is None
        document = await note(town)
        assert (await town.say("POST", f"/documents/{document}/recall", DESK, {})).status == 200


def seen(office: Office) -> list[str]:
    """Ids that came."""
    return [each.headers["webhook-id"] for each in office.seen]
