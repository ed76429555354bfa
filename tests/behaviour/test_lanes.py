"""Lanes and gates on every database: oldest first, one claimer at a time, and a late settlement changes nothing."""

import time
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.core.delivery import State
from gateway.edge.documents import gates, lanes, sweeping
from gateway.edge.documents.gatekeeping import Verdict, judging
from gateway.edge.documents.lanes import Due, waiting
from gateway.edge.documents.records import Result, Settlement
from gateway.edge.store import Driver
from tests.fakes.mail import DEAD, HEALTH, INTERIOR, LONG, PUSH, Office, fine, gathered, waits, way, working

Open = Callable[[], Driver]


@pytest.fixture
async def office(opened: Open) -> AsyncIterator[Office]:
    """One process."""
    async with working(opened(), way("health"), way("interior")) as made:
        yield made
        assert await made.faults() == ()


async def test_what_is_submitted_is_handed_over_and_done(office: Office) -> None:
    """Claimed with its body and first receipt, settled as arrived, with a step and an entry; then nothing waits."""
    await office.put("a")
    (lane,) = await office.claim()
    (out,) = lane.out
    assert (out.paper.id, out.state, out.touched, out.attempts) == ("a", State.SUBMITTED, False, 1)
    assert (office.keys.open(out.body or b"", b"document|a"), out.head) == (b'"a"', b"head")
    assert out.first_receipt.count(b".") == 2
    assert await office.settle(lane, fine(out))
    assert (await office.state("a"), await office.steps("a")) == ("arrived", ["submitted", "arrived"])
    assert (await office.entries("a"), await office.claim()) == (["submitted", "arrived"], ())


async def test_a_lane_goes_out_oldest_first(office: Office) -> None:
    """In the order in which they were taken in, a few at a time, never skipping."""
    for n in range(7):
        await office.put(f"d{n}", okey="case")
    got = [await office.hand_over(per_lane=3) for _ in range(3)]
    assert got == [["d0", "d1", "d2"], ["d3", "d4", "d5"], ["d6"]]


async def test_a_claim_takes_so_many_bytes(office: Office) -> None:
    """The first of each lane before the second of any; a larger one goes alone; the rest is as it was."""
    for n in range(6):
        await office.put(f"d{n}", okey=f"case {n % 2}")
    await office.sql("update documents set body = $1", bytes(100))
    got = [[out.paper.id for lane in await office.claim(most_bytes=250) for out in lane.out]]
    assert sorted(got[0]) == ["d0", "d1", "d2"]
    assert await office.claim() == ()  # both lanes are held
    await office.put("large")
    await office.put("larger")
    await office.sql("update documents set body = $1 where id like 'large%'", bytes(1000))
    got = [[out.paper.id for lane in await office.claim(most_bytes=250) for out in lane.out] for _ in range(3)]
    assert got == [["large"], ["larger"], []]
    assert await office.rows("select attempts, touched from deliveries where document = 'd3'") == [(0, False)]


async def test_an_open_document_holds_back_its_lane_and_nothing_else(office: Office) -> None:
    """D4: 1 of case X waits, so does 2 of X, and 1 of Y goes; 1 ends, and 2 goes."""
    for name, case in (("x1", "X"), ("x2", "X"), ("y1", "Y")):
        await office.put(name, okey=case)
    held, free = sorted(await office.claim(per_lane=1), key=lambda lane: lane.key)
    await office.settle(free, fine(free.out[0]))
    assert await office.settle(held, waits(held.out[0]), back_off=0)
    assert [await office.state(each) for each in ("x1", "x2", "y1")] == ["submitted", "submitted", "arrived"]
    (again,) = await office.claim(per_lane=1)
    assert [out.paper.id for out in again.out] == ["x1"]
    await office.settle(again, fine(again.out[0], to=State.UNDELIVERABLE, sent=False, reason="no_way"))
    assert await office.hand_over() == ["x2"]


@pytest.mark.parametrize("to", [State.REGISTERED, State.REJECTED, State.UNDELIVERABLE])
async def test_whatever_ends_a_document_frees_its_lane(office: Office, to: State) -> None:
    """A poison document blocks nobody: what the recipient refuses is over, and the next one goes."""
    await office.put("1", okey="X")
    await office.put("2", okey="X")
    (lane,) = await office.claim(per_lane=1)
    await office.settle(lane, fine(lane.out[0], to=to, number="77", reason="defective"))
    assert (await office.state("1"), await office.steps("1")) == (to, ["submitted", to])
    assert await office.hand_over() == ["2"]


async def test_two_claims_never_hold_one_lane(opened: Open) -> None:
    """D1: many claims at the same time, each lane goes to one of them."""
    async with working(opened(), way("health")) as office:
        for n in range(40):
            await office.put(f"d{n}", okey=f"k{n % 20}")
        claimed = await gathered(*[lambda: office.claim(lanes_=3)] * 10)
        keys = [lane.key for each in claimed for lane in each]
        assert len(keys) == len(set(keys)) == 20


async def test_a_lost_claim_settles_nothing(office: Office) -> None:
    """D1: stopped beyond its lease, the first claimer wakes: what the second one did stands, with one arrival."""
    await office.put("a")
    (first,) = await office.claim(seconds=DEAD)
    (second,) = await office.claim()
    assert second.out[0].touched
    assert not await office.settle(first, fine(first.out[0], to=State.UNDELIVERABLE))
    assert (await office.state("a"), await office.claim()) == ("submitted", ())
    assert await office.settle(second, fine(second.out[0]))
    assert not await office.settle(first, fine(first.out[0]))
    assert await office.steps("a") == ["submitted", "arrived"]


async def test_a_late_settlement_that_nobody_overtook_counts(office: Office) -> None:
    """A lease that ran out and was not taken over is worth as much as a live one."""
    await office.put("a")
    (lane,) = await office.claim(seconds=DEAD)
    assert await office.settle(lane, fine(lane.out[0]))
    assert await office.state("a") == "arrived"


async def test_touched_is_given_back_only_where_nothing_was_sent(office: Office) -> None:
    """From the claim on it may have been sent; a definite no, or no attempt at all, makes it as it was."""
    for n in range(3):
        await office.put(f"d{n}", okey="k")
    (lane,) = await office.claim()
    select = "select touched, attempts from deliveries order by seq"
    assert [(bool(t), n) for t, n in await office.rows(select)] == [(True, 1)] * 3
    await office.settle(lane, waits(lane.out[0], sent=True), waits(lane.out[1], sent=False))
    assert [(bool(t), n) for t, n in await office.rows(select)] == [(True, 1), (False, 1), (False, 0)]
    (lane,) = await office.claim()
    await office.settle(lane, waits(lane.out[0], sent=False))  # a second no does not undo the first attempt
    assert [bool(t) for t, _ in await office.rows(select)] == [True, False, False]


async def test_a_back_off_leaves_one_lane_alone(office: Office) -> None:
    """A `try later` for one document moves its own lane; the others go on."""
    await office.put("a")
    (lane,) = await office.claim()
    await office.settle(lane, waits(lane.out[0]), back_off=LONG)
    await office.put("b")
    assert await office.hand_over() == ["b"]
    assert (await waiting(office.reader)).soon == pytest.approx(LONG, abs=10)


async def test_settled_for_an_arrived_one_that_was_forwarded(office: Office) -> None:
    """What had arrived before, and goes to another unit's system, leaves its lane as arrived, without a second step."""
    await office.put("a")
    await office.hand_over()
    await office.sql("update deliveries set open = true")
    await office.sql("update lanes set opened = 1")
    assert await office.hand_over() == ["a"]
    assert (await office.state("a"), await office.steps("a")) == ("arrived", ["submitted", "arrived"])


async def test_overdue_begins_with_the_arrival(office: Office) -> None:
    """The time to register runs from the moment at which the recipient has it."""
    await office.put("a")
    (lane,) = await office.claim()
    await office.settle(lane, Result(lane.out[0], State.ARRIVED, sent=True, overdue_seconds=500))
    ((seconds,),) = await office.rows("select overdue - {now} from deliveries")
    assert seconds == pytest.approx(500, abs=10)


async def test_a_closed_gate_lets_nothing_through_but_one_probe(office: Office) -> None:
    """While an agency does not answer, one lane goes out in each pause, whoever asks; others' gates are theirs."""
    for n in range(5):
        await office.put(f"d{n}")
    await office.put("other", INTERIOR)
    assert await office.close_gate(LONG) == 1
    assert await office.claim() == ()
    assert await office.hand_over(INTERIOR) == ["other"]
    assert await office.close_gate(DEAD) == 2
    claimed = await gathered(*[office.claim] * 10)
    (probe,) = [lane for each in claimed for lane in each]
    assert probe.probe
    assert await office.run(gates.open_(HEALTH, PUSH))
    assert not await office.run(gates.open_(HEALTH, PUSH))
    assert len(await office.claim()) == 4


async def test_a_probe_is_what_was_tried_least(office: Office) -> None:
    """Documents at which a system fails wait in their lanes; behind its closed gate a sound one goes out first."""
    for n in range(5):
        await office.put(f"bad{n}")
    for lane in await office.claim():
        await office.settle(lane, waits(lane.out[0], sent=True))
    await office.put("fresh")
    await office.close_gate(DEAD)
    (probe,) = await office.claim()
    assert [out.paper.id for out in probe.out] == ["fresh"]


async def test_a_probe_that_finds_nothing_is_given_back(office: Office) -> None:
    """It costs no pause: what comes next is tried at once."""
    await office.close_gate(DEAD)
    assert await office.claim() == ()
    await office.put("a")
    assert len(await office.claim()) == 1


async def test_what_was_in_flight_when_the_gate_closed_is_one_failure(office: Office) -> None:
    """Thirty hand-overs that fail together are one outage, not thirty in a row; a probe's failure is the next."""
    counted = [await office.close_gate(DEAD, probe=False) for _ in range(30)]
    assert (counted, await office.close_gate(LONG)) == ([1] * 30, 2)
    (gate,) = await gates.closed(office.reader)
    assert (gate.recipient, gate.way, gate.failures, gate.reason) == (HEALTH, PUSH, 2, "refused")
    assert gate.seconds == pytest.approx(LONG, abs=10)


async def test_a_settlement_that_is_run_again_counts_one_failure(office: Office) -> None:
    """The answer to its COMMIT was lost, and without entries nobody knows that it happened."""
    await office.put("a")
    await office.close_gate(DEAD)
    (lane,) = await office.claim()
    settling = lanes.settle([Settlement(lane, (waits(lane.out[0], sent=True),), 0.0)], office.scribe)
    closing = Verdict(gates.close(HEALTH, PUSH, lambda _: LONG, "refused"))
    again = judging(settling, closing)
    assert [await office.run(again) for _ in range(2)] == [([True], 2), ([False], None)]
    assert await office.rows("select failures from gates") == [(2,)]


async def test_what_waits_is_found_by_recipient_and_way(office: Office) -> None:
    """What is due and may go; how soon something else is; nothing of what somebody holds."""
    assert (await waiting(office.reader)).soon is None
    await office.put("a")
    await office.put("b", INTERIOR)
    await office.put("c", by="http")
    ways = [(HEALTH, "http"), (HEALTH, PUSH), (INTERIOR, PUSH)]
    assert sorted((await waiting(office.reader)).due, key=str) == [Due(*each, 0) for each in ways]
    await office.close_gate(DEAD)
    assert Due(HEALTH, PUSH, 1) in (await waiting(office.reader)).due
    await office.close_gate(LONG)
    found = await waiting(office.reader)
    assert found.soon == pytest.approx(LONG, abs=10)
    assert len(found.due) == 2
    await office.claim(INTERIOR)
    assert [each.way for each in (await waiting(office.reader)).due] == ["http"]


async def fastest(office: Office) -> float:
    """Seconds that a look takes, at best of some."""
    times = []
    for _ in range(20):
        begun = time.perf_counter()
        await waiting(office.reader)
        times.append(time.perf_counter() - begun)
    return min(times)


@pytest.mark.quiet
async def test_looking_costs_as_much_with_ten_thousand_lanes(office: Office) -> None:
    """One agency's gate is closed and 10,000 lanes wait behind it: a look takes about as long as with a hundred."""
    fill = (
        "insert into lanes (recipient, okey, service, way, unit, opened, due, lease) "
        "with recursive n(i) as (select {0} union all select i + 1 from n where i < {1}) "
        "select 'health', 'k' || i, 's', 'webhook', '', 1, 1.0 * i, 0 from n"
    )
    await office.close_gate(LONG)
    await office.sql(fill.format(1, 100))
    few = await fastest(office)
    await office.sql(fill.format(101, 10_000))
    many = await fastest(office)
    assert many < 3 * few + 0.002
    await office.sql("delete from lanes")


OF_DOCUMENTS = "kind, state, sender, agency, service, fingerprint, digest, catalogue, submitted, expires, head, body"
OF_DELIVERIES = (
    "recipient, okey, kind, service, unit, state, open, touched, attempts, requeued, since, expires, changed"
)


async def copied(office: Office, name: str, first: int, last: int) -> None:
    """So many more like it, in its lane."""
    numbers = f"with recursive n(i) as (select {first} union all select i + 1 from n where i < {last}) "  # noqa: S608
    named = numbers + "select cast(i as text)"
    into = f"insert into documents (id, reference, {OF_DOCUMENTS}) {named}, cast(i as text), {OF_DOCUMENTS} "
    await office.sql(f"{into} from documents, n where id = $1", name)
    into = f"insert into deliveries (document, {OF_DELIVERIES}) {named}, {OF_DELIVERIES} "
    await office.sql(f"{into} from deliveries, n where document = $1 order by i", name)
    await office.sql("update lanes set opened = (select count(*) from deliveries where open)")


@pytest.mark.quiet
async def test_a_claim_costs_as_much_behind_ten_thousand(office: Office) -> None:
    """One case has 10,000 documents that wait: the oldest of it are claimed about as fast as of a hundred."""
    await office.put("a", okey="k")
    costs = []
    for first, last in ((1, 100), (101, 10_000)):
        await copied(office, "a", first, last)
        times = []
        for _ in range(15):
            begun = time.perf_counter()
            (lane,) = await office.claim(per_lane=5)
            times.append(time.perf_counter() - begun)
            assert len(lane.out) == 5
            await office.settle(lane)
        costs.append(min(times))
    assert costs[1] < 3 * costs[0] + 0.002


async def test_an_empty_lane_is_forgotten(office: Office) -> None:
    """Not one that somebody holds, nor one in which something waits."""
    for name in ("done", "held", "waits"):
        await office.put(name)
    claimed = {lane.key[1]: lane for lane in await office.claim()}
    await office.settle(claimed["done"], fine(claimed["done"].out[0]))
    await office.settle(claimed["waits"], waits(claimed["waits"].out[0]))
    assert await office.run(sweeping.purge_lanes(100)) == 1
    assert await office.rows("select okey from lanes order by okey") == [("held",), ("waits",)]


async def test_a_settlement_of_many_lanes_is_one_transaction(office: Office) -> None:
    """Lost ones among them change nothing, kept ones are settled."""
    for n in range(30):
        await office.put(f"d{n}")
    dead = await office.claim(lanes_=10, seconds=DEAD)
    live = await office.claim()
    settlements = [Settlement(lane, tuple(map(fine, lane.out)), 0.0) for lane in (*dead, *live)]
    kept = await office.run(lanes.settle(settlements, office.scribe))
    assert kept == [False] * 10 + [True] * 30
    assert await office.rows("select state, count(*) from deliveries group by state") == [("arrived", 30)]
