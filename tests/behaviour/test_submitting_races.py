"""Taking documents in while other connections do the same, hold what is needed, or break; on PostgreSQL."""

import asyncio
import itertools
import math
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.core.model import AgencyId
from gateway.core.refusal import Refusal
from gateway.edge.documents.post import HandsOver, Post
from gateway.edge.documents.records import Kept, Lane, Place, Submission, Taken, own_lane
from gateway.edge.journal import Book
from gateway.edge.postgres import PostgresDriver
from gateway.edge.store import LanesHeld, Plan
from tests.behaviour.server import Server
from tests.fakes.mail import LONG, Office, fine, working
from tests.fakes.mail import way as push
from tests.fakes.relay import Cut, Relay
from tests.fakes.submissions import addressee, submission


@dataclass(slots=True)
class Roomy:
    """Has a place for everything, and notes what it is to hand over."""

    begun: list[Lane] = field(default_factory=list)
    names: Iterator[int] = field(default_factory=itertools.count)
    waiting: int = 0
    """Places that were not given back."""

    def keep(self, recipient: AgencyId, way: str, sizes: Sequence[int]) -> Kept | None:
        """As many as are wanted."""
        self.waiting += 1
        place = Place(way, f"claim {next(self.names)}", LONG)
        return Kept(push(recipient), place, len(sizes), sum(sizes), math.inf, self._begin)

    def _begin(self, _: Kept, claimed: Sequence[Lane]) -> None:
        self.waiting -= 1
        self.begun += claimed


@dataclass(slots=True)
class House:
    """One process that takes documents in."""

    office: Office
    post: Post


@pytest.fixture
def database(server: Server) -> str:
    return server.emptied()


async def opened(
    stack: AsyncExitStack, url: str, *, patience: float = 10, dispatcher: HandsOver | None = None
) -> House:
    office = await stack.enter_async_context(working(PostgresDriver(url, "TEST")))
    post = Post(office.journal, office.reader, office.scribe, patience=patience, dispatcher=lambda: dispatcher)
    stack.push_async_callback(post.close)
    return House(office, post)


@pytest.fixture
async def houses(database: str) -> AsyncIterator[list[House]]:
    """Two processes, as far as the database can tell, with the same keys."""
    async with AsyncExitStack() as stack:
        made = [await opened(stack, database) for _ in range(2)]
        made[1].office.keys = made[0].office.keys
        yield made
        assert await made[0].office.faults() == ()


@pytest.fixture
async def house(houses: list[House]) -> House:
    return houses[0]


@pytest.fixture
async def other(server: Server, database: str) -> AsyncIterator[Any]:
    """A connection beside them: a node that was stopped within a transaction."""
    connection = await server.connect()
    yield connection
    await connection.close()


SOCKET = ".s.PGSQL.5432"
THROUGH = "postgresql+asyncpg://postgres@127.0.0.1:{}/behaviour?sslmode=disable"


def alone(reference: str) -> Submission:
    """It keeps no order with others."""
    made = submission(reference)
    return replace(made, to=(addressee(okey=own_lane(made.paper.id)),))


def taken(outcome: object) -> Taken:
    assert isinstance(outcome, Taken)
    return outcome


def many(count: int, seed: int) -> list[Submission]:
    """Each to three of five lanes, in some order."""
    chosen = random.Random(seed)
    return [
        submission(f"{seed}-{n}", *(addressee("health", f"lane {lane}") for lane in chosen.sample(range(5), 3)))
        for n in range(count)
    ]


async def test_numbers_are_in_the_order_of_commits(houses: list[House], other: Any) -> None:
    """D2: two writers with the same few lanes in any order: no deadlock, and no number appears behind a higher one."""
    before = await other.fetchval("select deadlocks from pg_stat_database where datname = current_database()")
    works = [
        asyncio.ensure_future(house.post.submit(each)) for seed, house in enumerate(houses) for each in many(400, seed)
    ]
    highest: dict[str, int] = {}
    seen: set[int] = set()
    looks = 0
    async with asyncio.timeout(20):
        while not all(each.done() for each in works) or len(seen) < 2400:
            for lane, seq in await other.fetch("select okey, seq from deliveries order by seq"):
                assert seq in seen or seq > highest.get(lane, 0)
                seen.add(seq)
            most = "select okey, max(seq) from deliveries where seq = any($1) group by 1"
            highest = dict(await other.fetch(most, seen))
            looks += 1
    assert all(taken(each).new for each in await asyncio.gather(*works))
    assert looks > 3
    after = await other.fetchval("select deadlocks from pg_stat_database where datname = current_database()")
    assert after == before


async def test_one_reference_from_two_connections(houses: list[House]) -> None:
    """D16, D5: forty references, each at the same time by both: one document, and one receipt for both callers."""
    for turn in range(5):
        names = [f"{turn}-{n}" for n in range(40)]
        works = [
            house.post.submit(submission(name, addressee("health", f"lane {place}")))
            for place, house in enumerate(houses)
            for name in names[:: 1 - 2 * place]
        ]
        got = list(map(taken, await asyncio.gather(*works)))
        assert sum(each.new for each in got) == len({each.receipt for each in got}) == 40
        assert [each.id for each in got[:40]] == [each.id for each in got[:39:-1]]


INSERT = (
    "insert into documents (id, kind, state, sender, agency, service, reference, fingerprint, digest, catalogue, "
    "submitted, expires, head) select 'other', kind, state, sender, agency, service, 'r', fingerprint, digest, "
    "catalogue, submitted, expires, head from documents; "
    "insert into steps (document, step, at, entry, receipt) values ('other', 'recalled', 0, '9.9', 'first')"
)


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("long", [False, True])
async def test_who_meets_an_open_submission_waits_for_its_end(
    house: House, other: Any, end: str, *, long: bool
) -> None:
    """The other's receipt after its commit, or the first place after its rollback; meanwhile others are taken in."""
    await house.post.submit(submission("before"))
    await other.execute(f"begin; {INSERT}")
    work = asyncio.ensure_future(house.post.submit(submission("r")))
    if long:  # it does not end within lock_timeout
        await asyncio.gather(*(house.post.submit(submission(f"r-{n}")) for n in range(30)))
    else:
        await somebody_waits(other)
    assert not work.done()
    await other.execute(end)
    got = taken(await work)
    assert (got.receipt == b"first", got.new) == ((True, False) if end == "commit" else (False, True))
    await other.execute("delete from documents where id = 'other'; delete from steps where document = 'other'")


async def somebody_waits(connection: Any) -> None:
    """Returns when a connection waits for another's row."""
    async with asyncio.timeout(30):
        while not await connection.fetchval("select count(*) from pg_stat_activity where wait_event_type = 'Lock'"):
            pass


LANE = "insert into lanes values ('health', $name, 's', 'w', '', 0, 0, null, 0)"
HELD, OTHER = (LANE.replace("$name", name) for name in ("'held'", "'other'"))
HOLDS = {
    "a lane that is there": (HELD, "begin", "select * from lanes for update"),
    "one in the making": ("begin", HELD),
}


async def hold(connection: Any, lane: str) -> None:
    for each in HOLDS[lane]:  # one by one: together they would be one transaction
        await connection.execute(each)


@pytest.mark.parametrize("lane", HOLDS)
async def test_a_held_lane_delays_only_its_own(house: House, other: Any, lane: str) -> None:
    """D29: the thirty others of the batch are taken in, and those after them; it goes on when the lane is free."""
    await hold(other, lane)
    mine = asyncio.ensure_future(house.post.submit(submission("mine", addressee("health", "held"))))
    await asyncio.gather(*(house.post.submit(submission(f"r-{n}")) for n in range(30)))
    begun = asyncio.get_running_loop().time()
    for n in range(30, 50):
        await house.post.submit(submission(f"r-{n}"))
    assert asyncio.get_running_loop().time() - begun < 0.3 * 5  # five waits for the lane would be more
    assert not mine.done()
    await other.execute("rollback")
    assert taken(await mine).new


@pytest.mark.parametrize("lane", HOLDS)
async def test_works_on_a_held_lane_are_refused_alone(house: House, other: Any, lane: str) -> None:
    """The journal tells those who need it at once, writes the others, and asks no more than a moment the next time."""
    await hold(other, lane)
    lanes = [addressee("health", f"lane {n}" if n % 10 else "held").lane for n in range(30)]

    def number(_: Book) -> Plan[int]:
        rows = yield "select 1", ()
        return int(rows[0][0])

    took = []
    for _ in range(4):
        begun = asyncio.get_running_loop().time()
        works = [house.office.journal.run(number, lanes=[lane]) for lane in lanes]
        outcomes = await asyncio.gather(*works, return_exceptions=True)
        took.append(asyncio.get_running_loop().time() - begun)
        assert [n for n, each in enumerate(outcomes) if each != 1] == [0, 10, 20]
    assert min(took[1:]) < 0.3 < took[0]  # lock_timeout
    await other.execute("rollback")
    assert await house.office.journal.run(number, lanes=[lanes[0]]) == 1


async def test_a_lane_that_stays_held_is_refused(database: str, other: Any) -> None:
    """In the end the caller is told to come back."""
    async with AsyncExitStack() as stack:
        house = await opened(stack, database, patience=0.1)
        await hold(other, "a lane that is there")
        with pytest.raises(Refusal) as caught:
            await house.post.submit(submission("mine", addressee("health", "held")))
        assert (caught.value.code, type(caught.value.__cause__)) == ("journal.unavailable", LanesHeld)
        assert isinstance(caught.value.__cause__, LanesHeld)
        assert caught.value.__cause__.lanes == {("health", "held")}
        assert caught.value.detail.startswith("Another process of the gateway holds")


async def test_among_many_new_lanes_the_held_ones_are_found(house: House, other: Any) -> None:
    """An event to 700 for whom no lane is there yet, two of which somebody else is making: it waits for those two."""
    await other.execute(f"begin; {HELD}; {OTHER}")
    lanes = {addressee("health", name).lane for name in ("held", "other", *(f"lane {n}" for n in range(700)))}
    held = {addressee("health", name).lane for name in ("held", "other")}
    assert await house.office.journal._holds.among(lanes) == held
    await other.execute("rollback")
    assert await house.office.journal._holds.among(lanes) == frozenset()
    assert await other.fetchval("select count(*) from lanes") == 0


@pytest.mark.parametrize("cut", ["before", "after", "late", "never"])
async def test_a_lost_answer_to_commit_is_found_out(server: Server, database: str, cut: Cut) -> None:
    """D30: one effect, and the caller gets the receipt that is on record."""
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Relay(server.folder / SOCKET).running())
        house = await opened(stack, THROUGH.format(relay.port), patience=1)
        await house.post.submit(submission("before"))
        relay.cut = cut
        got = await asyncio.gather(*(house.post.submit(submission(f"r-{n % 3}")) for n in range(6)))
        assert (relay.cuts, sum(taken(each).new for each in got)) == (1, 3)
        rows = await house.office.rows("select receipt from steps order by seq")
        assert {taken(each).receipt for each in got} == {row[0] for row in rows[1:]}
        assert await house.office.faults() == ()


TOUCHED = "select okey, owner from lanes where lease > 0 and okey in (select okey from deliveries where touched)"


@pytest.mark.parametrize("cut", ["before", "after", "late", "never"])
async def test_what_is_claimed_by_a_commit_without_an_answer(server: Server, database: str, cut: Cut) -> None:
    """Each is handed over once, by whoever holds its lane, whether it happened at first or had to be repeated."""
    async with AsyncExitStack() as stack:
        relay, roomy = await stack.enter_async_context(Relay(server.folder / SOCKET).running()), Roomy()
        house = await opened(stack, THROUGH.format(relay.port), patience=1, dispatcher=roomy)
        await house.post.submit(alone("before"))
        relay.cut = cut
        got = list(map(taken, await asyncio.gather(*(house.post.submit(alone(f"r-{n}")) for n in range(6)))))
        assert (relay.cuts, len(got), roomy.waiting) == (1, 6, 0)
        held = {(lane.key[1], lane.claim) for lane in roomy.begun}
        assert (len(roomy.begun), held) == (7, set(await house.office.rows(TOUCHED)))
        settled = [await house.office.settle(lane, fine(lane.out[0])) for lane in roomy.begun]
        assert settled == [True] * 7
        assert await house.office.faults() == ()


async def test_where_nobody_can_tell_what_became_of_it(server: Server, database: str) -> None:
    """The sender is told to come again and gets its receipt then; what was claimed is free when its lease ends."""
    async with AsyncExitStack() as stack:
        relay, roomy = await stack.enter_async_context(Relay(server.folder / SOCKET).running()), Roomy()
        house = await opened(stack, THROUGH.format(relay.port), patience=1, dispatcher=roomy)
        await house.post.submit(alone("before"))
        relay.cut, relay.closed = "after", True
        with pytest.raises(Refusal, match=r"journal.unavailable"):
            await house.post.submit(alone("r-1"))
        assert (len(roomy.begun), roomy.waiting) == (1, 0)
        relay.closed = False
        again = await come_back(house, alone("r-1"))
        assert (again.new, again.lanes) == (False, ())
        await house.office.sql("update lanes set due = due - 61, lease = lease - 61 where lease > 0")
        assert again.id in {out.paper.id for lane in await house.office.claim() for out in lane.out if out.touched}


async def come_back(house: House, sent: Submission) -> Taken:
    """As a sender does who was refused: until the database is there again."""
    async with asyncio.timeout(20):
        while True:
            with suppress(Refusal):
                return taken(await house.post.submit(sent))
            await asyncio.sleep(0)
