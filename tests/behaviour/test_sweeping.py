"""Sweeps on every database: what is over is cleared away, what changed its way is set right, nothing else changes."""

from collections.abc import AsyncIterator, Callable

import pytest

from gateway.core.life import End
from gateway.edge.documents import sweeping
from gateway.edge.documents.sweeping import DAY
from gateway.edge.store import Driver
from tests.fakes.mail import ALERT, BOX, HEALTH, INTERIOR, LETTER, PUSH, Office, fine, life, service, town, way, working

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
    """Not a day before; its row, its receipts and its reference stay; its uses of files go."""
    await registered(office, "a")
    await office.sql("insert into uses (attachment, document) values ('f', 'a'), ('f', 'other')")
    await aged(office, 99)
    assert await purged(office) == 0
    await aged(office, 2)
    assert [await purged(office), await purged(office)] == [1, 0]
    assert await office.rows("select reference, body from documents") == [("a", None)]
    assert await office.rows("select document from uses") == [("other",)]
    assert await office.steps("a") == ["submitted", "arrived", "registered"]


async def test_what_has_not_ended_everywhere_keeps_its_body(office: Office) -> None:
    """One recipient has registered it, the other has it still to do; what is held waits too."""
    await office.put("a", also=[INTERIOR])
    await office.hand_over()
    await office.say("a", "registered", number="1")
    await office.hold("h")
    await aged(office, 500)
    assert await purged(office) == 0


@pytest.mark.parametrize(("name", "count"), [(LETTER, 0), (ALERT, 1)])
async def test_a_life_ends_where_its_service_says(office: Office, name: str, count: int) -> None:
    """A disaster alert is never registered: it is done when it arrived."""
    await office.put("a")
    await office.hand_over()
    await office.sql("update documents set service = $1", name)
    await aged(office, 101)
    assert await purged(office) == count


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
    assert await office.run(sweeping.realign(office.catalogue, office.scribe)) == 1
    assert (await office.claim(HEALTH, PUSH), await office.hand_over(HEALTH, "webhook2")) == ((), ["a"])
    await office.put("b", by="webhook2")
    office.catalogue = town(way("health", BOX), services=SERVICES)
    assert [await office.run(sweeping.realign(office.catalogue, office.scribe)) for _ in range(2)] == [1, 0]
    assert (await office.steps("b"), await office.lease()) == (["submitted", "arrived"], ["b"])


async def test_a_mailbox_that_is_pushed_now_is_handed_over(office: Office) -> None:
    """What lay in it goes out by the new way, and arrives no second time."""
    await office.put("a", by=BOX)
    assert await office.run(sweeping.realign(office.catalogue, office.scribe)) == 1
    assert await office.hand_over() == ["a"]
    assert (await office.state("a"), await office.steps("a")) == ("arrived", ["submitted"])


async def test_where_no_way_is_left_a_lane_stays(office: Office) -> None:
    """Its dispatcher finds that there is none; nothing is lost."""
    await office.put("a")
    office.catalogue = town(services=SERVICES)
    assert await office.run(sweeping.realign(office.catalogue, office.scribe)) == 0
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
