"""What is claimed as it is taken in, in a whole gateway: whatever happens between the place and the hand-over."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from gateway.core.model import AgencyId
from gateway.edge.documents.gates import close
from gateway.edge.documents.lanes import MAX_CLAIMED_BYTES
from gateway.edge.documents.road import AHEAD, MAX_IN_HAND_BYTES
from tests.fakes.correspondents import DESK, Letters, way
from tests.fakes.deliveries import DeliveryTown, delivering, push, recipient
from tests.fakes.handovers import comes_to, ids, met, to, writing
from tests.fakes.town import Office, until

INTERIOR, PUSH = AgencyId("interior"), "webhook"
KEY = (INTERIOR, PUSH)
ELSEWHERE = (AgencyId("elsewhere"), PUSH)
ALL = AHEAD * 4
"""Lanes ahead of a way with four places."""
ROW = "select touched, attempts, l.owner, l.lease > 0 from deliveries d join lanes l on l.okey = d.okey"


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with recipient() as made:
        yield made


async def letter(town: DeliveryTown, agency: str = INTERIOR) -> str:
    """Of no case, so that it keeps no order with others; its id."""
    answer = await town.send({"subject": "x"}, to=f"/documents/{agency}")
    assert answer.status == 202, answer.body
    return str(answer.body["document"])


async def committing(town: DeliveryTown) -> "asyncio.Task[str]":
    """A letter that is in its transaction, and has its place, until the valve's gate is open."""
    await town.token(DESK)
    town.valve.gate.clear()
    sending = asyncio.create_task(letter(town))
    await until(lambda: any(road._kept for road, _ in town.gateway.dispatcher._roads.values()))
    return sending


async def over(town: DeliveryTown) -> None:
    """Wait until nothing is on its way, and nothing kept for what might be."""
    await until(lambda: not town.gateway.dispatcher._roads)
    assert not any(town.gateway.dispatcher._desk.in_hand.values())


async def test_what_is_taken_in_is_not_looked_for(tmp_path: Path, office: Office) -> None:
    """The lease of the submission is the one that is settled: there was one claim, and one attempt."""
    names = itertools.count(1)
    async with writing(tmp_path, office) as town:
        dispatcher = town.gateway.dispatcher
        dispatcher._every = 3600
        object.__setattr__(dispatcher._desk, "claims", names.__next__)
        document = await letter(town)
        await comes_to(town, document, "arrived")
        await over(town)
        writer = dispatcher._desk.post.writer
    assert (ids(office), town.rows(ROW)) == ([document], [(1, 1, f"{writer}.1", 0)])
    assert next(names) == 2


async def test_the_bytes_of_places_are_bounded(tmp_path: Path, office: Office) -> None:
    """As those of a claim are; where others hold all that a process may, a way has one document at a time."""
    async with writing(tmp_path, office) as town:
        keep, held = town.gateway.dispatcher.keep, town.gateway.dispatcher._desk.in_hand
        large = keep(*KEY, [MAX_CLAIMED_BYTES, 1])
        assert large
        assert (large.count, held[KEY]) == (1, MAX_CLAIMED_BYTES)
        held[ELSEWHERE] = MAX_IN_HAND_BYTES
        assert keep(*KEY, [1]) is None
        large.begin(large, ())
        single = keep(*KEY, [1, 1])
        assert single
        assert single.count == 1
        single.begin(single, ())
        del held[ELSEWHERE]
        await over(town)


@pytest.mark.parametrize(
    "letters",
    [
        Letters(ways={INTERIOR: (push(INTERIOR, "http://127.0.0.1:9"),)}, suspended=frozenset({INTERIOR})),
        Letters(ways={INTERIOR: (way(INTERIOR, name=PUSH),)}),
        Letters(ways={INTERIOR: (push(INTERIOR, "http://127.0.0.1:9", name="other"),)}),
    ],
    ids=["suspended", "mailbox", "no such way"],
)
async def test_no_place_where_nothing_is_handed_over(tmp_path: Path, letters: Letters) -> None:
    """It waits as it always did."""
    async with delivering(tmp_path, letters) as town:
        assert town.gateway.dispatcher.keep(*KEY, [1]) is None


async def test_no_place_behind_a_closed_gate(tmp_path: Path, office: Office) -> None:
    """As soon as a look has found it closed; before, the transaction finds it."""
    async with writing(tmp_path, office) as town:
        await town.gateway.dispatcher._desk.post.run(close(*KEY, lambda _: 60.0, "refused"))
        await until(lambda: KEY in town.gateway.dispatcher._quiet)
        assert town.gateway.dispatcher.keep(*KEY, [1]) is None
        assert not town.gateway.dispatcher._roads


async def test_a_mistake_gives_the_places_back(tmp_path: Path, office: Office) -> None:
    """Its transaction was undone: as often as it may happen, what comes next is on its way at once."""
    async with writing(tmp_path, office) as town:
        await town.token(DESK)
        for each in town.valve.others:
            each.mistakes = 1000
        assert (await town.send({"subject": "x"})).status == 500
        for each in town.valve.others:
            each.mistakes = 0
        await over(town)
        await comes_to(town, await letter(town), "arrived")
        await over(town)


async def test_a_stop_while_it_is_being_committed(tmp_path: Path, office: Office) -> None:
    """The dispatcher waits for what it kept places for, and gives it back: untouched, free for another process."""
    async with writing(tmp_path, office) as town:
        sending = await committing(town)
        stopping = asyncio.create_task(town.gateway.dispatcher.close(10))
        await until(lambda: town.gateway.dispatcher._closing)
        town.valve.gate.set()
        await sending
        await stopping
    assert (office.seen, [row[:2] + row[3:] for row in town.rows(ROW)]) == ([], [(0, 0, 0)])


async def test_a_commit_that_used_up_the_lease(tmp_path: Path, office: Office) -> None:
    """Of 30 s 24 may be used, and 10 are for the hand-over: what would begin at the 15th is claimed anew."""
    now = [0.0]
    async with writing(tmp_path, office, deadline=10.0) as town:
        desk = town.gateway.dispatcher._desk
        town.gateway.dispatcher._desk = replace(desk, hand=replace(desk.hand, clock=lambda: now[0]))
        sending = await committing(town)
        now[0] = 15.0
        town.valve.gate.set()
        await comes_to(town, await sending, "arrived")
        await over(town)
    assert town.rows(ROW) == [(1, 1, f"{desk.post.writer}.2", 0)]


async def test_a_suspension_between_commit_and_hand_over(tmp_path: Path, office: Office) -> None:
    """The second decision is asked of what was claimed at once as well: it waits untouched, and goes when lifted."""
    async with writing(tmp_path, office) as town:
        permitted = to(push(INTERIOR, office.url))
        sending = await committing(town)
        await town.readjusted(to(push(INTERIOR, office.url), suspended=frozenset({"saensuk"})))
        town.valve.gate.set()
        document = await sending
        await over(town)
        assert (office.seen, town.rows("select touched from deliveries")) == ([], [(0,)])
        await town.readjusted(permitted)
        town.valve.ahead = 120.0
        await comes_to(town, document, "arrived")
    assert ids(office) == [document]


async def test_each_of_several_recipients_gets_its_own(tmp_path: Path, office: Office) -> None:
    """Claimed by one transaction, and carried by the way of each."""
    async with recipient() as neighbour:
        ways = push(INTERIOR, office.url), push("lampang", neighbour.url)
        async with delivering(tmp_path, to(*ways)) as town:
            town.gateway.dispatcher._every = 3600
            answer = await town.send({"subject": "x"}, to="/documents", exchange_to="interior,lampang")
            document = answer.body["document"]
            await comes_to(town, document, "arrived")
            await over(town)
            assert ids(office) == ids(neighbour) == [document]
            assert town.rows("select state from deliveries") == [("arrived",)] * 2


async def test_a_flood_of_one_way_leaves_places_to_others(tmp_path: Path, office: Office) -> None:
    """What there is no place for waits to be claimed; its neighbour's all go at once, and nothing comes twice."""
    hang = asyncio.Event()

    async def hangs(_: web.BaseRequest) -> web.StreamResponse:
        await hang.wait()
        return web.json_response({})

    office.react = hangs
    async with recipient() as neighbour:
        ways = push(INTERIOR, office.url, concurrency=4), push("lampang", neighbour.url)
        async with delivering(tmp_path, to(*ways)) as town:
            await town.token(DESK)
            stuck = await asyncio.gather(*(letter(town) for _ in range(2 * ALL)))
            await met(office, 4)
            free = await asyncio.gather(*(letter(town, "lampang") for _ in range(ALL)))
            await met(neighbour, ALL)
            ((touched,),) = town.rows("select count(*) from deliveries where touched and recipient = 'interior'")
            assert (touched, len(office.seen)) == (ALL, 4)
            hang.set()
            for document in stuck:
                await comes_to(town, document, "arrived")
            await over(town)
    assert (sorted(ids(office)), sorted(ids(neighbour))) == (sorted(stuck), sorted(free))
