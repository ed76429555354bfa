"""What operators see of documents, on every database: what waits, how old it is, what could not be delivered."""

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
from prometheus_client import Gauge

from gateway.core.delivery import State
from gateway.core.model import AgencyId
from gateway.edge.documents import gauges, lanes, sweeping
from gateway.edge.documents.bounds import Bounds
from gateway.edge.documents.gauges import MAX_SHOWN, OTHERS, Gauges, shown
from gateway.edge.store import Driver, SqliteDriver
from gateway.edge.telemetry import Meters
from tests.fakes.mail import BOX, DAY, HEALTH, INTERIOR, PUSH, Office, fine, town, way, working

Open = Callable[[], Driver]


@pytest.fixture
async def office(opened: Open) -> AsyncIterator[Office]:
    """One process."""
    async with working(opened(), way("health"), way("interior", BOX)) as made:
        yield made


def made(office: Office) -> tuple[Gauges, Meters]:
    """What shows it, and where."""
    meters = Meters()
    bounds = Bounds(office.reader)
    return Gauges(office.reader, bounds, lambda: office.catalogue, meters), meters


def values(gauge: Gauge) -> Mapping[tuple[str, ...], float]:
    """By labels."""
    return {tuple(each.labels.values()): each.value for metric in gauge.collect() for each in metric.samples}


async def looked(office: Office) -> Meters:
    """After a count and a look."""
    meters = Meters()
    bounds = Bounds(office.reader)
    await bounds.count()
    await Gauges(office.reader, bounds, lambda: office.catalogue, meters).look()
    return meters


async def test_what_waits_is_shown_with_its_age(office: Office) -> None:
    """By recipient and way, as a part of what may wait; what has left is gone."""
    for name in ("a", "b"):
        await office.put(name)
    await office.put("c", INTERIOR, by=BOX)
    await office.sql("update deliveries set since = since - 3600 where document = 'b'")
    meters = await looked(office)
    assert values(meters.documents_waiting) == {("health", PUSH): 2, ("interior", BOX): 1}
    assert values(meters.documents_bound)["health", PUSH] == 2 / 50_000
    ages = values(meters.documents_oldest)
    assert (3600 <= ages["health",] < 3660, ages["interior",] < 60) == (True, True)
    assert sorted(await office.hand_over()) == ["a", "b"]
    assert values((await looked(office)).documents_oldest).keys() == {("interior",)}


async def test_what_cannot_be_delivered_is_counted_until_it_is_requeued(office: Office) -> None:
    """Thirty days at most; a fresh gateway shows none."""
    assert values((await looked(office)).undeliverable) == {}
    for name in ("a", "b"):
        await office.put(name)
    for lane in await office.claim():
        await office.settle(lane, *(fine(out, to=State.UNDELIVERABLE, sent=False) for out in lane.out))
    assert values((await looked(office)).undeliverable) == {("health",): 2}
    await office.sql("update deliveries set changed = changed - $1 where document = 'a'", 31 * DAY)
    assert values((await looked(office)).undeliverable) == {("health",): 1}


async def test_approvals_that_wait_are_shown_by_agency(office: Office) -> None:
    """The agency of the second person, how many, and how long."""
    await office.hold("a")
    await office.hold("b")
    await office.sql("update documents set approver = 'interior', submitted = submitted - $1", DAY)
    meters = await looked(office)
    assert values(meters.approvals) == {("interior",): 2}
    assert DAY <= values(meters.approvals_oldest)["interior",] < DAY + 60


async def test_the_self_check_is_seen(office: Office) -> None:
    """Nothing is wrong; then a lane does not count what is in it, and something is neither open nor ended."""
    for name in ("a", "b"):
        await office.put(name)
    shows, meters = made(office)
    await shows.check()
    assert values(meters.documents_faults) == {(): 0}
    await office.sql("update lanes set opened = 7 where okey = 'a'")
    await office.sql("update deliveries set open = false where document = 'b'")
    await shows.check()
    assert values(meters.documents_faults) == {(): 3}  # b's lane counts wrong as well


async def test_how_late_a_lane_is_stands_beside_it(office: Office) -> None:
    """From when it could have been handed over; one that somebody holds is not late."""
    await office.put("a")
    await office.sql("update lanes set due = due - 600")
    (due,) = (await lanes.waiting(office.reader)).due
    assert 600 <= due.late < 660
    await office.claim()
    assert (await lanes.waiting(office.reader)).due == ()


async def test_names_are_bounded(office: Office) -> None:
    """A few hundred at most have a series of their own, those with the highest values; the rest are one."""
    gauge = Meters().documents_waiting
    shown(gauge, {(f"agency{n}", "mailbox"): float(n) for n in range(1, MAX_SHOWN + 4)}, sum)
    seen = values(gauge)
    assert (len(seen), seen[OTHERS, OTHERS]) == (MAX_SHOWN + 1, 1 + 2 + 3)
    shown(gauge, {}, sum)
    assert values(gauge) == {}
    assert AgencyId(OTHERS) not in office.catalogue.agencies


LOOKS = {
    "deliveries_oldest": gauges.OLDEST,
    "deliveries_lost": gauges.UNDELIVERABLE,
    "documents_held": gauges.APPROVALS,
}
CHECKS = {f"check {number}": select for number, select in enumerate(sweeping.CHECKS.values())}


@pytest.mark.parametrize(("index", "select"), {**LOOKS, **CHECKS}.items())
async def test_a_look_reads_no_more_than_it_shows(tmp_path: Path, index: str, select: str) -> None:
    """Each statement goes by indexes of what is open, held or wrong, and through all deliveries never."""
    async with working(SqliteDriver(tmp_path / "gateway.sqlite3", "TEST"), way("health")) as office:
        plan = [row[3] for row in await office.rows(f"explain query plan {select}", *([1.0] if "$1" in select else []))]
    assert not {"SCAN d", "SCAN deliveries", "SCAN documents"} & set(plan)
    assert index in CHECKS or any(index in step for step in plan)


async def test_a_recipient_may_have_left(opened: Open) -> None:
    """What waits for an agency that the catalogue has no more is shown still, without a bound."""
    async with working(opened(), way("health")) as office:
        await office.put("a", HEALTH)
        office.catalogue = town()
        meters = await looked(office)
        assert (values(meters.documents_waiting), values(meters.documents_bound)) == ({("health", PUSH): 1}, {})
