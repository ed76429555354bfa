"""Times that pass, on every database: what is too late expires, never in somebody's hands, and is told once."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from gateway.core.delivery import State
from gateway.core.document import Side
from gateway.core.life import Span
from gateway.edge.documents import deadlines, view
from gateway.edge.documents.ends import Changed, Unchanged, claims_of
from gateway.edge.documents.orders import orders
from gateway.edge.store import Driver
from tests.fakes.mail import BOX, DEAD, INTERIOR, SENDING, Office, fine, life, service, town, waits, way, working

Open = Callable[[], Driver]


@pytest.fixture
async def office(opened: Open) -> AsyncIterator[Office]:
    """One process."""
    async with working(opened(), way("health"), way("interior")) as made:
        yield made
        assert await made.faults() == ()


async def test_what_waits_too_long_expires(office: Office) -> None:
    """Untouched: `expired`; touched: `unconfirmed` in the receipt; the next of the lane goes."""
    await office.put("new", seconds=DEAD)
    await office.put("sent", seconds=DEAD)
    await office.put("after", okey="sent")
    claimed = {lane.key[1]: lane for lane in await office.claim(seconds=DEAD, per_lane=1)}
    await office.settle(claimed["new"], waits(claimed["new"].out[0]))
    await office.settle(claimed["sent"], waits(claimed["sent"].out[0], sent=True))
    assert [await office.expire(), await office.expire()] == [2, 0]
    unconfirmed = [
        claims_of(row[0]).get("unconfirmed")
        for row in await office.rows("select receipt from steps where step = 'expired' order by document")
    ]
    assert unconfirmed == [None, True]
    assert await office.hand_over() == ["after"]


async def test_nothing_expires_under_a_live_lease(office: Office) -> None:
    """Whoever has it in hand may finish; what was handed over when its lease had ended, and it too, is written down."""
    await office.put("a", seconds=DEAD)
    await office.put("b", seconds=DEAD)
    (a,) = await office.claim(lanes_=1)
    (b,) = await office.claim(seconds=DEAD)
    assert await office.expire() == 1
    assert await office.settle(a, fine(a.out[0]))
    assert await office.settle(b, fine(b.out[0]))
    assert [await office.steps(lane.out[0].paper.id) for lane in (a, b)] == [
        ["submitted", "arrived"],
        ["submitted", "expired", "disputed"],
    ]


async def test_what_is_held_too_long_expires(office: Office) -> None:
    """The second person did not decide in time."""
    await office.hold("a", seconds=DEAD)
    await office.hold("b")
    assert await office.expire() == 1
    assert await office.rows("select id, state from documents order by id") == [("a", "expired"), ("b", "held")]


async def test_what_is_not_registered_in_time_is_overdue_once(office: Office) -> None:
    """One step with a receipt; the state stays; what was registered in time is never overdue."""
    for name in ("late", "done"):
        await office.put(name, by=BOX, overdue=DEAD)
    await office.lease(claim="c")
    await office.say("done", "registered", number="1", lease="c")
    assert [await office.run(deadlines.overdue(100, office.scribe)) for _ in range(2)] == [1, 0]
    assert (await office.state("late"), await office.steps("late")) == ("arrived", ["submitted", "overdue"])
    ((receipt,),) = await office.rows("select receipt from steps where step = 'overdue'")
    assert (claims_of(receipt)["overdue"], claims_of(receipt)["state"]) == (True, "arrived")


async def due(office: Office, name: str) -> float | None:
    """Seconds until it is overdue."""
    ((seconds,),) = await office.rows(f"select overdue - {{now}} from deliveries where document = '{name}'")  # noqa: S608
    return None if seconds is None else round(float(seconds), -2)


async def test_the_time_to_register_begins_on_every_road(office: Office) -> None:
    """Requeued into a mailbox; in one by a change of the folder; fetched before the push was answered. Once each."""
    registering = service(of_life=replace(life(), register_within=Span(seconds=5000)))
    for name in ("requeued", "realigned", "early"):
        await office.put(name)
    claimed = {lane.out[0].paper.id: lane for lane in await office.claim()}
    assert isinstance(await office.say("early", "retrieved", to_register=lambda _: 5000.0), Changed)
    assert isinstance(await office.say("early", "retrieved", to_register=lambda _: 9000.0), Unchanged)
    await office.settle(claimed["early"], fine(claimed["early"].out[0]))
    gone = claimed["requeued"]
    await office.settle(gone, fine(gone.out[0], to=State.UNDELIVERABLE, sent=False, reason="no_way"))
    await office.settle(claimed["realigned"], waits(claimed["realigned"].out[0]))
    office.catalogue = town(way("health", BOX), services=[registering])
    order = orders(office.scribe, lambda: office.catalogue)["requeue_document"]
    fields = {"document": "requeued", "recipient": "*", "reason": "a mailbox is there", "who": "dara"}
    assert (await office.run(order(fields))).done
    await office.realign()
    assert {name: (await office.state(name), await due(office, name)) for name in claimed} == {
        "requeued": ("arrived", 5000),
        "realigned": ("arrived", 5000),
        "early": ("retrieved", 5000),
    }


async def test_what_was_said_to_be_overdue_is_not_said_again(office: Office) -> None:
    """Fetched after its time had passed in the mailbox: it gets no second one."""
    await office.put("late", by=BOX, overdue=DEAD)
    assert await office.run(deadlines.overdue(100, office.scribe)) == 1
    await office.lease(claim="c")
    await office.say("late", "retrieved", lease="c", to_register=lambda _: 5000.0)
    assert (await office.state("late"), await due(office, "late")) == ("retrieved", None)


async def lost(office: Office, name: str) -> None:
    """Its recipient has lost it: an operator has it handed over again."""
    order = orders(office.scribe, lambda: office.catalogue)["requeue_document"]
    fields = {"document": name, "recipient": "health", "reason": "a disk has died", "who": "dara"}
    assert (await office.run(order(fields))).done


async def test_after_a_requeue_the_former_time_is_over(office: Office) -> None:
    """What its recipient has lost is never late before it has arrived again, and then has all of its time."""
    await office.put("a")
    (lane,) = await office.claim()
    await office.settle(lane, fine(lane.out[0], overdue_seconds=500.0))
    assert await due(office, "a") == 500
    await lost(office, "a")
    assert await due(office, "a") is None
    await office.claim()
    await office.say("a", "retrieved", to_register=lambda _: 5000.0)
    assert (await office.state("a"), await due(office, "a")) == ("retrieved", 5000)


async def shown_overdue(office: Office, name: str) -> bool:
    """As its sender sees it."""
    found = await view.find(office.reader, name)
    assert found is not None
    happened = await view.steps(office.reader, found, office.keys.open, None)
    kept = view.Kept(happened, await view.standing(office.reader, found, office.keys.open, happened), ())
    (recipient,) = view.shown(found, Side.SENDER, SENDING, kept)["recipients"]
    return bool(recipient["overdue"])


@pytest.mark.parametrize("most", [1000, 1])
async def test_what_was_overdue_before_a_requeue_is_so_no_more(
    office: Office, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Not until its new time has passed; also where an answer has no room for all of its steps."""
    monkeypatch.setattr(view, "MAX_STEPS", most)
    await office.put("a")
    seen = []
    for again in (False, True):
        if again:
            await lost(office, "a")
        (lane,) = await office.claim()
        await office.settle(lane, fine(lane.out[0], overdue_seconds=DEAD))
        seen.append(await shown_overdue(office, "a"))
        assert await office.run(deadlines.overdue(100, office.scribe)) == 1
        seen.append(await shown_overdue(office, "a"))
    assert seen == [False, True, False, True]


async def test_a_held_lane_does_not_stop_the_time_of_others(office: Office) -> None:
    """A poller holds more expired documents than one sweep ends; somebody else's expires all the same."""
    for n in range(4):
        await office.put(f"h{n}", okey="case", seconds=DEAD - n)
    await office.claim(per_lane=1)
    await office.put("other", INTERIOR, seconds=DEAD / 2)
    assert [await office.expire(2), await office.state("other"), await office.state("h0")] == [
        1,
        "expired",
        "submitted",
    ]


async def test_a_sweep_of_deadlines_does_so_much_at_a_time(office: Office) -> None:
    """Also of one long lane."""
    for n in range(5):
        await office.put(f"h{n}", okey="case", seconds=DEAD)
    assert [await office.expire(2) for _ in range(4)] == [2, 2, 1, 0]
