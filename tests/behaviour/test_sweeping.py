"""Sweeps on every database: what is over is cleared away, what changed its way is set right, nothing else changes."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from gateway.core.delivery import State
from gateway.core.life import End
from gateway.edge.documents import gates, sweeping
from gateway.edge.documents.sweeping import DAY
from gateway.edge.store import Driver
from tests.fakes.mail import (
    ALERT,
    BOX,
    DEAD,
    HEALTH,
    INTERIOR,
    LETTER,
    PUSH,
    SENDING,
    Office,
    fine,
    life,
    service,
    town,
    way,
    working,
)

Open = Callable[[], Driver]
SERVICES = (service(LETTER, life(End.REGISTERED, keep_days=100)), service(ALERT, life(End.ARRIVED, keep_days=100)))


@pytest.fixture
async def office(opened: Open) -> AsyncIterator[Office]:
    """One process."""
    async with working(opened(), way("health"), way("interior"), services=SERVICES) as made:
        yield made


async def aged(office: Office, days: float) -> None:
    """Let so many days pass."""
    seconds = days * DAY
    await office.sql("update documents set submitted = submitted - $1", seconds)
    await office.sql("update deliveries set changed = changed - $1, since = since - $1", seconds)


async def purged(office: Office, limit: int = 100) -> int:
    return await office.run(sweeping.purge_bodies(office.catalogue, limit))


async def registered(office: Office, name: str) -> None:
    await office.put(name)
    await office.hand_over()
    await office.say(name, "registered", number="1")


async def test_a_body_goes_when_its_time_has_passed(office: Office) -> None:
    """Not a day before; with it its head, in which the case and the person stand, and its uses of files.

    Its row, its receipts and its reference stay; of who asked, where a second person decided, not even a hash.
    """
    await registered(office, "a")
    await office.sql("update documents set approver = 'health', requester = $1", b"hash")
    await office.sql("insert into uses (attachment, document) values ('f', 'a'), ('f', 'other')")
    await aged(office, 99)
    assert await purged(office) == 0
    await aged(office, 2)
    assert [await purged(office), await purged(office)] == [1, 0]
    ((reference, body, head, asked),) = await office.rows("select reference, body, head, requester from documents")
    assert (reference, body, bytes(head), asked) == ("a", None, b"", None)
    assert await office.rows("select document from uses") == [("other",)]
    assert await office.steps("a") == ["submitted", "arrived", "registered"]


async def test_what_has_not_ended_everywhere_keeps_its_body(office: Office) -> None:
    """One recipient has registered it, for the other it still waits; what is held waits too."""
    await office.put("a", also=[INTERIOR])
    await office.hand_over()
    await office.say("a", "registered", number="1")
    await office.hold("h")
    assert await office.states("a") == {"health": "registered", "interior": "submitted"}
    await aged(office, 500)
    assert await purged(office) == 0


@pytest.mark.parametrize("said", [None, "retrieved", "registered"])
async def test_a_body_goes_wherever_its_document_stopped(office: Office, said: str | None) -> None:
    """What nobody ever registers is not kept for ever."""
    await office.put("a")
    await office.hand_over()
    if said:
        await office.say("a", said, number="1" if said == "registered" else None)
    await aged(office, 101)
    assert [await purged(office), await purged(office)] == [1, 0]


async def test_delivered_receipts_go_with_the_body(opened: Open) -> None:
    """Not before the last of them has been delivered; what they say stays with the steps."""
    ways = (way("health"), way("finance", receipts=True))
    async with working(opened(), *ways, services=SERVICES) as office:
        await office.put("a")
        await office.hand_over()
        await aged(office, 101)
        assert await purged(office) == 0
        await office.hand_over(SENDING)
        await aged(office, 101)
        assert await purged(office) == 1
        assert await office.rows("select kind from deliveries") == [("document",)]
        assert await office.rows("select count(receipt) from steps") == [(2,)]


async def test_the_time_runs_from_the_end(office: Office) -> None:
    """What was registered yesterday is kept, however long it took."""
    await office.put("a")
    await office.hand_over()
    await aged(office, 500)
    await office.say("a", "registered", number="1")
    assert await purged(office) == 0


@pytest.mark.parametrize(("days", "count"), [(200, 0), (400, 1)])
async def test_a_service_that_is_gone_keeps_what_it_had_for_a_year(office: Office, days: int, count: int) -> None:
    """Nobody says any more how long; a folder that was removed loses no letter."""
    await registered(office, "a")
    await office.sql("update documents set service = 'old.form.v1'")
    await aged(office, days)
    assert await purged(office) == count


async def test_a_sweep_does_so_much_at_a_time(office: Office) -> None:
    """The oldest first, over all services."""
    for name in ("a", "b", "c"):
        await registered(office, name)
    await aged(office, 101)
    assert [await purged(office, 2), await purged(office, 2)] == [2, 1]


async def test_lanes_go_the_way_that_the_folder_names_now(office: Office) -> None:
    """Two processes may both set it right: what lies in a mailbox now has arrived there, once."""
    await office.put("a")
    office.catalogue = town(way("health", "webhook2"), services=SERVICES)
    assert await office.realign() == 1
    assert (await office.claim(HEALTH, PUSH), await office.hand_over(HEALTH, "webhook2")) == ((), ["a"])
    await office.put("b", by="webhook2")
    office.catalogue = town(way("health", BOX), services=SERVICES)
    assert [await office.realign() for _ in range(2)] == [2, 0]
    assert (await office.steps("b"), await office.lease()) == (["submitted", "arrived"], ["b"])


async def test_a_mailbox_that_is_pushed_now_is_handed_over(office: Office) -> None:
    """What lay in it goes out by the new way, and arrives no second time."""
    await office.put("a", by=BOX)
    assert await office.realign() == 1
    assert await office.hand_over() == ["a"]
    assert (await office.state("a"), await office.steps("a")) == ("arrived", ["submitted"])


async def test_so_much_of_a_lane_arrives_at_a_time(office: Office) -> None:
    """No transaction does more than it may, and a long lane moves when all of it has arrived."""
    for n in range(7):
        await office.put(f"a{n}", okey="case")
    await office.put("b")
    office.catalogue = town(way("health", BOX), services=SERVICES)
    (lanes,) = await office.run(sweeping.astray(office.catalogue))
    step = sweeping.realign(lanes, office.scribe, 3, None)
    assert await office.run(step) == 3
    assert await office.rows("select count(*) from deliveries where state = 'arrived'") == [(3,)]
    assert [await office.run(step) for _ in range(4)] == [3, 4, 0, 0]
    assert not await office.run(sweeping.remains(lanes))
    assert sorted(await office.lease()) == [*(f"a{n}" for n in range(7)), "b"]
    assert (await office.steps("a6"), await office.faults()) == (["submitted", "arrived"], ())


async def test_a_lane_that_somebody_has_in_hand_moves_afterwards(office: Office) -> None:
    """What its system answers counts; only then is the rest of the lane put on the way that the folder names now."""
    await office.put("a", okey="case")
    await office.put("b", okey="case")
    await office.put("c")
    (held,) = [lane for lane in await office.claim(per_lane=1) if lane.key[1] == "case"]
    office.catalogue = town(way("health", BOX), services=SERVICES)
    assert await office.realign() == 0
    (lanes,) = await office.run(sweeping.astray(office.catalogue))
    assert await office.run(sweeping.remains(lanes))
    assert await office.settle(held, fine(held.out[0], to=State.REGISTERED, number="77"))
    assert await office.realign() == 2
    assert (await office.steps("a"), await office.lease()) == (["submitted", "registered"], ["b"])


async def test_a_claim_whose_time_is_over_is_lost_with_the_way(office: Office) -> None:
    """Its lane has moved: the late settlement learns that nothing of it counted, instead of being believed."""
    await office.put("a")
    (lane,) = await office.claim(seconds=DEAD)
    office.catalogue = town(way("health", BOX), services=SERVICES)
    await office.realign()
    assert not await office.settle(lane, fine(lane.out[0], to=State.REJECTED, reason="refused_by_system"))
    assert (await office.state("a"), await office.lease()) == ("arrived", ["a"])


async def test_what_a_former_folder_put_into_a_mailbox_arrives(office: Office) -> None:
    """A node that has not read the new folder yet submitted it into a lane that goes to the mailbox already."""
    await office.put("a", okey="case", by=BOX)
    await office.put("b", okey="case")
    office.catalogue = town(way("health", BOX), services=SERVICES)
    assert [await office.realign(), await office.realign()] == [2, 0]
    assert (await office.states("b"), await office.steps("b")) == ({"health": "arrived"}, ["submitted", "arrived"])


async def test_a_gate_goes_with_its_way(office: Office) -> None:
    """Not while anything waits behind it, nor while the folder names the way; a mailbox has none."""
    await office.close_gate(60.0)
    await office.put("a")
    for named, gone in ((way("health"), 0), (way("health", "other"), 0)):
        assert await office.run(sweeping.purge_gates(town(named))) == gone
    assert await office.run(sweeping.purge_gates(town(replace(way("health"), protocol=BOX)))) == 1
    await office.close_gate(60.0)
    office.catalogue = town(way("health", BOX), services=SERVICES)
    await office.realign()
    assert await office.run(sweeping.purge_gates(office.catalogue)) == 1
    assert await gates.closed(office.reader) == ()


async def test_where_no_way_is_left_a_lane_stays(office: Office) -> None:
    """Its dispatcher finds that there is none; nothing is lost."""
    await office.put("a")
    office.catalogue = town(services=SERVICES)
    assert await office.realign() == 0
    (lane,) = await office.claim()
    assert await office.settle(lane, fine(lane.out[0]))


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        ("update lanes set opened = 2", "does not count"),
        ("delete from lanes", "is not there"),
        ("update deliveries set state = 'recalled'", "has ended is open"),
        ("update deliveries set open = false", "does not count"),
        ("update documents set body = null", "no body"),
    ],
)
async def test_the_self_check_finds_what_is_wrong(office: Office, broken: str, fault: str) -> None:
    """Nothing on a sound database; a sentence with the lane, or the document, on a broken one."""
    await office.put("a")
    assert await office.faults() == ()
    await office.sql(broken)
    found = await office.faults()
    assert any(each.startswith("health a: ") and fault in each for each in found)
