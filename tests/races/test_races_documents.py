"""D1 to D28, as far as they are the queue's in SQL: two nodes, and everything that can come between them.

``tests/behaviour/test_lanes``, ``test_ends``, ``test_mailbox`` and ``test_sweeping`` play the same one after the other,
on both databases; ``tests/faults/test_queue`` with processes that are really killed and paused. Here one node stands
between its last statement and its commit, on PostgreSQL, where alone there are two.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gateway.core.delivery import Refused, State
from gateway.core.model import AgencyId
from gateway.edge.documents import deadlines, ends, gates, lanes, mailbox, opening, positions, sweeping
from gateway.edge.documents.ends import Changed, Order
from gateway.edge.postgres import PostgresDriver
from gateway.edge.store import SqliteDriver
from tests.fakes.mail import BOX, DEAD, HEALTH, INTERIOR, LONG, PUSH, Office, fine, gathered, waits, way, working
from tests.races.dying import DiedError, Dying
from tests.races.sorting import two_offices

MAY_HAVE = Refused("document.may_have_arrived")


async def test_d01_two_dispatchers_and_a_lost_claim(shared: str) -> None:
    """Both work on one recipient, claims are abandoned and settled too late: first hand-overs keep each key's order."""
    async with two_offices(shared) as two:
        for n in range(60):
            await two.here.put(f"{n:02}", okey=f"k{n % 4}")
        handed: dict[str, list[str]] = {}

        async def dispatch(office: Office, *, forgets: bool) -> None:
            while claimed := await office.claim(lanes_=2, per_lane=3, seconds=DEAD if forgets else LONG):
                for lane in claimed:
                    handed.setdefault(lane.key[1], []).extend(out.paper.id for out in lane.out)
                    await office.settle(lane, *map(fine, lane.out))

        await asyncio.gather(dispatch(two.here, forgets=True), dispatch(two.there, forgets=False))
        for key, names in handed.items():
            assert list(dict.fromkeys(names)) == [f"{n:02}" for n in range(60) if f"k{n % 4}" == key]
        assert await two.there.rows("select distinct state from deliveries") == [("arrived",)]


async def test_d02_a_later_number_is_never_handed_over_first(shared: str) -> None:
    """1 has its number and is not committed; 2 of the same key waits for it, and comes after it."""
    async with two_offices(shared) as two:
        submit = partial(two.here.put, "1", okey="k"), partial(two.there.put, "2", okey="k")
        async with two.stopped(submit[0]):
            second = asyncio.create_task(submit[1]())
            assert await two.there.hand_over() == []
        await asyncio.wait([second])
        if second.exception():  # it waited for longer than it may, and is sent again
            await submit[1]()
        assert await two.there.hand_over() == ["1", "2"]


async def test_d02_batches_with_the_same_lanes_do_not_wait_in_a_circle(shared: str) -> None:
    """Two nodes submit into the same ten lanes in opposite orders, again and again: all of it goes through."""
    async with two_offices(shared) as two:
        agencies = [AgencyId(f"a{n}") for n in range(10)]
        forwards = [partial(two.here.put, f"f{n}", agencies[0], "k", also=agencies[1:]) for n in range(20)]
        backwards = [partial(two.there.put, f"b{n}", agencies[-1], "k", also=agencies[-2::-1]) for n in range(20)]
        await gathered(*chain(*zip(forwards, backwards, strict=True)))
        assert await two.here.rows("select distinct opened from lanes") == [(40,)]


async def test_d03_what_commits_late_is_not_skipped(shared: str) -> None:
    """A lower number is committed after a higher one was read: it is open, so it is handed over."""
    async with two_offices(shared) as two:
        async with two.stopped(partial(two.here.put, "low")):
            await two.there.put("high")
            assert await two.there.hand_over() == ["high"]
        assert await two.there.hand_over() == ["low"]


async def test_d04_one_case_waits_and_others_go(shared: str) -> None:
    """1 of X stands in a claim on one node; the other one hands over Y, not 2 of X."""
    async with two_offices(shared) as two:
        for name, case in (("x1", "X"), ("x2", "X"), ("y1", "Y")):
            await two.here.put(name, okey=case)
        async with two.stopped(partial(two.here.claim, lanes_=1, per_lane=1)):
            assert await two.there.hand_over() == ["y1"]
        assert await two.there.hand_over() == []


async def test_d06_a_recall_races_the_claim(shared: str) -> None:
    """The claim is not committed yet: the recall waits for it, and is refused."""
    async with two_offices(shared) as two:
        await two.here.put("a")
        claimed, answer = await two.meanwhile(two.here.claim, partial(two.there.recall, "a"))
        assert (len(claimed), answer) == (1, MAY_HAVE)


async def test_d07_a_claim_races_the_recall(shared: str) -> None:
    """The recall is not committed yet: the claim leaves that lane alone, and nothing of it goes out, now or later."""
    async with two_offices(shared) as two:
        await two.here.put("a")
        async with two.stopped(partial(two.here.recall, "a")) as recall:
            assert await two.there.claim() == ()
        assert isinstance(await recall, Changed)
        assert await two.there.claim() == ()


async def test_d07_nothing_sent_races_the_recall(shared: str) -> None:
    """Either the recall is refused, or the claimer's `nothing sent` came first and it holds; never both."""
    async with two_offices(shared) as two:
        await two.here.put("a")
        (lane,) = await two.here.claim(seconds=DEAD)
        assert await two.there.recall("a") == MAY_HAVE
        settle = partial(two.here.settle, lane, waits(lane.out[0]))
        kept, answer = await two.meanwhile(settle, partial(two.there.recall, "a"))
        assert (kept, type(answer), await two.there.claim()) == (True, Changed, ())


@pytest.mark.parametrize("outcome_first", [False, True])
async def test_d08_an_outcome_races_the_answer_to_the_push(shared: str, *, outcome_first: bool) -> None:
    """Whichever commits first, the document is registered, and the lane's counter is right."""
    async with two_offices(shared) as two:
        await two.here.put("a")
        (lane,) = await two.here.claim()
        say = partial(two.here.say, "a", "registered", number="77")
        settle = partial(two.there.settle, lane, fine(lane.out[0]))
        if outcome_first:
            results = await two.meanwhile(say, settle)
        else:
            say = partial(two.there.say, "a", "registered", number="77")
            results = await two.meanwhile(partial(two.here.settle, lane, fine(lane.out[0])), say)
        assert {type(each) for each in results} == {bool, Changed}
        assert await two.there.state("a") == "registered"


@pytest.mark.parametrize("end", ["recall", "expire"])
async def test_d09_an_outcome_races_an_end(shared: str, end: str) -> None:
    """The end is not committed yet: the outcome waits for it, is refused, and is kept as disputed."""
    async with two_offices(shared) as two:
        await two.here.put("a", seconds=DEAD)
        ending = partial(two.here.recall, "a") if end == "recall" else two.here.expire
        _, answer = await two.meanwhile(ending, partial(two.there.say, "a", "registered", number="7"))
        assert answer == Refused("document.ended", disputed=True)
        assert (await two.there.steps("a"))[-1] == "disputed"


async def test_d09_two_ends_are_one(shared: str) -> None:
    """Recall and expiry of one document on two nodes: the sweep leaves the lane alone, and finds nothing later."""
    async with two_offices(shared) as two:
        await two.here.put("a", seconds=DEAD)
        async with two.stopped(partial(two.here.recall, "a")):
            assert await two.there.expire() == 0
        assert (await two.there.expire(), await two.there.steps("a")) == (0, ["submitted", "recalled"])


async def test_d10_two_outcomes_race(shared: str) -> None:
    """77 and 78 on two nodes: one is the truth, the other one is disputed."""
    async with two_offices(shared) as two:
        await two.here.put("a")
        await two.here.hand_over()
        say = [partial(office.say, "a", "registered", number=n) for office, n in ((two.here, "77"), (two.there, "78"))]
        first, second = await two.meanwhile(*say)
        assert (type(first), second) == (Changed, Refused("document.ended", disputed=True))


async def test_d11_two_pollers_at_the_same_time(shared: str) -> None:
    """One node's lease is not committed yet: the other one's poller gets other cases."""
    async with two_offices(shared, way("health", BOX)) as two:
        for name, case in (("1", "X"), ("2", "X"), ("y", "Y")):
            await two.here.put(name, okey=case, by=BOX)
        async with two.stopped(partial(two.here.lease, most=2, claim="c")) as first:
            assert await two.there.lease(claim="d") in (["y"], [])  # what the first looked at may be held a moment
        assert await first == ["1", "2"]
        assert await two.there.state("1") == "arrived"


async def test_d12_a_recall_races_a_lease(shared: str) -> None:
    """The poller's lease is not committed yet: the recall waits, and is refused."""
    async with two_offices(shared, way("health", BOX)) as two:
        await two.here.put("a", by=BOX)
        got, answer = await two.meanwhile(partial(two.here.lease, claim="c"), partial(two.there.recall, "a"))
        assert (got, answer) == (["a"], MAY_HAVE)


async def requeued(office: Office, name: str) -> ends.Answer:
    order = Order("operator.one", "again")
    return await office.run(ends.requeue(name, HEALTH, order, ends.Anew(PUSH, "", pulled=False), office.scribe))


async def undeliverable(office: Office, name: str) -> None:
    await office.put(name)
    (lane,) = await office.claim()
    await office.settle(lane, fine(lane.out[0], to=State.UNDELIVERABLE, sent=False, reason="no_way"))


async def test_d14_two_operators_requeue(shared: str) -> None:
    """Once: the second one waits, and finds it submitted."""
    async with two_offices(shared) as two:
        await undeliverable(two.here, "a")
        first, second = await two.meanwhile(partial(requeued, two.here, "a"), partial(requeued, two.there, "a"))
        assert (type(first), second) == (Changed, Refused("document.state"))
        (lane,) = await two.there.claim()
        assert lane.out[0].requeued == 1


async def test_d15_one_of_many_recipients_is_down(tmp_path: Path, url: str | None) -> None:
    """1,400 recipients: one is down, of one it is recalled, all others have it; each by its own way and state."""
    many = [AgencyId(f"town{n}") for n in range(1398)]
    async with _anywhere(tmp_path, url) as office:
        await office.put("alert", HEALTH, also=[INTERIOR, *many])
        await office.close_gate(LONG)
        assert isinstance(await office.recall("alert", INTERIOR), Changed)
        for name in many[:20]:
            assert await office.hand_over(name) == ["alert"]
        assert (await office.claim(), await office.hand_over(INTERIOR)) == ((), [])
        found = await office.rows("select state, count(*) from deliveries group by state order by state")
        assert found == [("arrived", 20), ("recalled", 1), ("submitted", 1379)]
        assert await office.faults() == ()


QUEUE = (deadlines, ends, gates, lanes, mailbox, opening, positions, sweeping)


@pytest.mark.parametrize("module", QUEUE, ids=lambda module: module.__name__.rpartition(".")[2])
def test_d25_no_clock_but_the_databases(module: ModuleType) -> None:
    """A node's clock may step as it likes: nothing in the queue looks at it."""
    assert not {"time", "datetime", "monotonic", "loop"} & vars(module).keys()


async def recalled(office: Office, name: str) -> None:
    await office.put(name)
    await office.recall(name)


async def leased(office: Office, name: str) -> None:
    await office.put(name, by=BOX)
    await office.lease(claim=name)
    await office.say(name, "registered", number="1", lease=name)


async def expired(office: Office, name: str) -> None:
    await office.put(name, seconds=DEAD)
    await office.expire()


async def handed_over(office: Office, name: str) -> None:
    await office.put(name)
    await office.hand_over()
    await office.run(sweeping.purge_lanes(10))


async def sent_again(office: Office, name: str) -> None:
    await undeliverable(office, name)
    await requeued(office, name)
    await office.hand_over()


async def others_go_on(office: Office) -> None:
    """The dead one's leases run out, and everything that is left is done."""
    await office.sql("update lanes set lease = 0, due = 0")
    await office.expire()
    for by in (PUSH, BOX):
        await office.hand_over(by=by)


@pytest.mark.parametrize("life", [recalled, leased, expired, handed_over, sent_again])
async def test_d27_killed_between_any_two_statements(
    tmp_path: Path, url: str | None, life: Callable[[Office, str], Awaitable[None]]
) -> None:
    """At every statement and commit of a life: what was not committed never happened, and the self-check is empty."""
    driver = Dying(SqliteDriver(tmp_path / "post.sqlite3", "DEMO") if url is None else PostgresDriver(url, "DEMO"))
    async with working(driver, way("health")) as office:
        deaths = 0
        while deaths < 200:
            driver.left = deaths + 1
            try:
                await life(office, f"d{deaths}")
            except DiedError:
                deaths += 1
                assert await office.faults() == ()
                await others_go_on(office)
            else:
                break
        assert deaths >= 10
        assert await office.rows("select count(*) from deliveries where open") == [(0,)]
        submitted = await office.rows("select document from steps where step = 'submitted' order by 1")
        assert submitted == await office.rows("select id from documents order by 1")


@pytest.mark.parametrize("work", ["requeue", "submit"])
async def test_d28_a_lane_is_purged_while_something_comes_into_it(shared: str, work: str) -> None:
    """The purge is not committed yet: who comes waits, and makes the lane anew; its counter is right."""
    async with two_offices(shared) as two:
        await undeliverable(two.here, "a")
        coming = partial(requeued, two.there, "a") if work == "requeue" else partial(two.there.put, "b", okey="a")
        plan = sweeping.purge_lanes(10)
        gone, _ = await two.meanwhile(partial(two.here.run, plan), coming)
        assert (gone, await two.there.rows("select opened from lanes")) == (1, [(1,)])
        assert await two.there.hand_over() == ["a" if work == "requeue" else "b"]


@pytest.mark.parametrize("work", ["requeue", "submit"])
async def test_d28_a_lane_that_something_comes_into_is_not_purged(shared: str, work: str) -> None:
    """What comes is not committed yet: the purge leaves the lane alone."""
    async with two_offices(shared) as two:
        await undeliverable(two.here, "a")
        coming = partial(requeued, two.here, "a") if work == "requeue" else partial(two.here.put, "b", okey="a")
        async with two.stopped(coming):
            assert await two.there.run(sweeping.purge_lanes(10)) == 0
        assert await two.there.rows("select opened from lanes") == [(1,)]


async def aged(office: Office) -> None:
    for column, table in (("submitted", "documents"), ("changed", "deliveries"), ("since", "deliveries")):
        await office.sql(f"update {table} set {column} = {column} - 400 * 86400.0")  # noqa: S608 - names above


@pytest.mark.parametrize("purge_first", [False, True])
async def test_d28_a_requeue_races_the_purge_of_its_body(shared: str, *, purge_first: bool) -> None:
    """Either the body is gone and nothing is requeued, or it is requeued and the body stays."""
    async with two_offices(shared) as two:
        await undeliverable(two.here, "a")
        await aged(two.here)
        plan = sweeping.purge_bodies(two.here.catalogue, 10)
        if purge_first:
            async with two.stopped(partial(two.here.run, plan)):
                answer = asyncio.create_task(requeued(two.there, "a"))
                await asyncio.sleep(0)
            assert await answer == Refused("document.state")
            return
        async with two.stopped(partial(requeued, two.here, "a")):
            assert await two.there.run(plan) == 0
        assert await two.there.hand_over() == ["a"]


def _anywhere(tmp_path: Path, url: str | None) -> Any:
    driver = SqliteDriver(tmp_path / "post.sqlite3", "DEMO") if url is None else PostgresDriver(url, "DEMO")
    return working(driver, way("health"))
