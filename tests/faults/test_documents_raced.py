"""Two things happen to a document at the same time, over HTTP, again and again: one truth, the same on every read.

On PostgreSQL the two are asked of two nodes.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import aiohttp
import pytest
import pytest_asyncio

from tests.behaviour.server import Server
from tests.fakes.addressees import TAKEN, Came, Hook, hook
from tests.fakes.district import BRIEF, CHANGE, CLERK, HALL, LETTER, NOTE, PERSONS, REGISTRARS, SENDER, District, Pushed
from tests.fakes.senders import Desk, Reply
from tests.fakes.serving import Node, pause, serving, sound
from tests.fakes.truths import Truth, journaled, one_truth

pytestmark = pytest.mark.asyncio(loop_scope="module")
"""All races of one database are run on the same gateways: a start costs seconds."""

TIMES = 20
"""Repetitions of each race."""
SECONDS = 30.0
LEASED = {"outcome": "registered", "number": "7"}


@dataclass(slots=True)
class Place:
    """Gateways, and everybody who has a say."""

    district: District
    database: str
    nodes: Sequence[Node]
    hook: Hook
    sender: Desk
    clerk: Desk
    """Of the hall, which has a mailbox."""
    north: Desk
    """Of the agency to which is pushed."""
    chance: random.Random

    @property
    def one(self) -> str:
        """A gateway."""
        return self.nodes[0].url

    @property
    def other(self) -> str:
        """Another one, where there are two."""
        return self.nodes[-1].url

    async def agreed(self, documents: Mapping[str, str], recipient: Desk, end: str = "recalled") -> list[Truth]:
        """What is true of them, as is expected: told by every node and the journal, and where it came to both sides.

        What ended so before it came does not show to its recipient.
        """
        urls = [each.url for each in self.nodes]
        truths = []
        for document, state in documents.items():
            readers = (self.sender,) if state in (end, "declined") else (self.sender, recipient)
            truths.append(await one_truth(document, readers, urls))
        assert [each.state for each in truths] == list(documents.values())
        entries = await asyncio.to_thread(journaled, self.database)
        assert [entries[each] for each in documents] == [each.steps for each in truths]
        return truths


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["sqlite", "postgresql"])
async def place(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """One gateway on a file, or two on PostgreSQL."""
    folder = tmp_path_factory.mktemp("raced")
    database, count = f"sqlite:///{folder / 'gateway.sqlite3'}", 1
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("server")
        database, count = server.emptied("town"), 2
    async with AsyncExitStack() as stack:
        pushed = await stack.enter_async_context(hook(slowly))
        district = District(folder / "district")
        district.found([Pushed("north", pushed.url, concurrency=1)])
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        nodes = [await stack.enter_async_context(serving(district, database)) for _ in range(count)]

        def desk(system: str) -> Desk:
            return Desk(session, lambda: nodes[0].url, district.token(system))

        sender, clerk, north = (desk(each) for each in (SENDER, CLERK, "north.register"))
        yield Place(district, database, nodes, pushed, sender, clerk, north, random.Random(3))
        await sound(district, database)


async def slowly(_: Came) -> int:
    """So that some wait while others are handed over."""
    await pause(0.005)
    return TAKEN


async def at_once(place: Place, *works: Callable[[], Awaitable[Reply]]) -> list[Reply]:
    """In any order, within milliseconds."""

    async def soon(work: Callable[[], Awaitable[Reply]]) -> Reply:
        await pause(place.chance.uniform(0, 0.004))
        reply = await work()
        while reply.status == 503:  # whose row somebody else holds is told to come again
            reply = await work()
        return reply

    return list(await asyncio.gather(*map(soon, works)))


def told(what: str, answers: Counter[str]) -> None:
    print(f"{what}: {dict(answers)}")  # noqa: T201 - who won how often


def said(reply: Reply) -> str:
    return str(reply.code or (reply.body["state"] if reply.status == 200 else reply.status))


@pytest.mark.parametrize("service", [LETTER, NOTE])
async def test_a_recall_races_the_push(place: Place, service: str) -> None:
    """Recalled, it never came; otherwise it came, and the sender is told that it may have."""
    names = [f"{service}{n}" for n in range(TIMES)]
    works = [place.sender.send("north", each, {"case": each, "n": 0}, service) for each in names]
    documents = await asyncio.gather(*works)
    at = [f"/v1/documents/{each}/recall" for each in documents]
    replies = await at_once(place, *(partial(place.sender.call, "POST", each, {}, url=place.other) for each in at))
    ends = {
        each: "recalled" if reply.status == 200 else "arrived" for each, reply in zip(documents, replies, strict=True)
    }
    async with asyncio.timeout(SECONDS):
        for each, end in ends.items():
            while (await place.sender.call("GET", f"/v1/documents/{each}")).body["state"] != end:
                await pause(0.02)
    await place.agreed(ends, place.north)
    assert set(documents) & place.hook.tries.keys() == {each for each, end in ends.items() if end == "arrived"}
    told(f"recall and push of {service}", Counter(map(said, replies)))


async def test_a_recall_races_the_lease(place: Place) -> None:
    """Either the sender has it back and no poller ever sees it, or the poller has it and registers it."""
    answers: Counter[str] = Counter()
    documents = {}
    for n in range(TIMES):
        document = await place.sender.send(HALL, f"l{n}", {"case": f"l{n}", "n": 0})
        recalled, leased = await at_once(
            place,
            partial(place.sender.call, "POST", f"/v1/documents/{document}/recall", {}, url=place.one),
            partial(place.clerk.call, "GET", "/v1/inbox", url=place.other),
        )
        ids = [each["id"] for each in leased.body["documents"]]
        assert (ids == [document]) is (recalled.status != 200), (recalled, leased)
        answers[said(recalled)] += 1
        if ids:
            outcome = {**LEASED, "lease": leased.body["lease"]}
            reply = await place.clerk.call("POST", f"/v1/inbox/{document}", outcome, url=place.one)
            assert reply.status == 200, reply
        documents[document] = "registered" if ids else "recalled"
    await place.agreed(documents, place.clerk)
    told("recall and lease", answers)


async def test_an_expiry_races_the_lease(place: Place) -> None:
    """Around the end of its time it is expired or leased: what is leased may be registered still, what expired not."""
    numbers = range(2 * TIMES)
    documents = await asyncio.gather(
        *(place.sender.send(HALL, f"x{n}", {"case": f"x{n}", "n": 0}, BRIEF) for n in numbers)
    )
    leases: dict[str, str] = {}
    ends: set[str] = set()
    await pause(1.9)  # it ends after two seconds, and is swept within three more
    async with asyncio.timeout(SECONDS):
        while leases.keys() | ends < set(documents):
            await pause(0.15)
            got = await place.clerk.call("GET", "/v1/inbox?max=3", url=place.other)
            leases |= {each["id"]: got.body["lease"] for each in got.body["documents"]}
            listed = await place.sender.call("GET", "/v1/documents?role=sent&state=expired&max=100", url=place.one)
            ends |= {each["document"] for each in listed.body["documents"]}
    assert not leases.keys() & ends
    for document in documents:
        outcome = {**LEASED, **({"lease": leases[document]} if document in leases else {})}
        reply = await place.clerk.call("POST", f"/v1/inbox/{document}", outcome, url=place.one)
        assert said(reply) == ("registered" if document in leases else "document.ended"), reply
    wanted = {each: "registered" if each in leases else "expired" for each in documents}
    truths = await place.agreed(wanted, place.clerk, "expired")
    assert ["disputed" in each.steps for each in truths] == [each in ends for each in documents]
    told("expiry and lease", Counter(wanted.values()))


async def test_an_approval_races_a_recall(place: Place) -> None:
    """Declined, recalled or out: whoever was first counts; what was approved may be recalled from the mailbox still."""
    answers: Counter[str] = Counter()
    documents = {}
    asks = {"Exchange_User_Assertion": place.district.person(PERSONS, "dara", "clerk")}
    decides = {"Exchange_User_Assertion": place.district.person(REGISTRARS, "vanna", "registrar")}
    for n in range(TIMES):
        document = await place.sender.send(HALL, f"a{n}", {"case": f"a{n}", "n": 0}, CHANGE, **asks)
        word = {"decision": "approved" if n % 3 else "declined"}
        decided, recalled = await at_once(
            place,
            partial(place.clerk.call, "POST", f"/v1/approvals/{document}", word, url=place.other, **decides),
            partial(place.sender.call, "POST", f"/v1/documents/{document}/recall", {}, url=place.one),
        )
        pair = f"{said(decided)}, {said(recalled)}"
        assert pair in {
            "submitted, recalled",
            "approval.decided, recalled",
            "declined, document.ended",
        }, (decided, recalled)
        answers[pair] += 1
        documents[document] = "declined" if pair.startswith("declined") else "recalled"
    await place.agreed(documents, place.clerk)
    told("approval and recall", answers)


async def test_two_outcomes_race(place: Place) -> None:
    """One is first and counts; the other one is told so and kept as a dispute; the first one again gets its receipt."""
    answers: Counter[str] = Counter()
    documents = {}
    for n in range(TIMES):
        document = await place.sender.send("north", f"o{n}", {"case": f"o{n}", "n": 0})
        async with asyncio.timeout(SECONDS):
            while document not in place.hook.ledger.first:
                await pause(0.001)
        words = (LEASED, {"outcome": "rejected", "reason": "incomplete"})
        replies = await at_once(
            place,
            partial(place.north.call, "POST", f"/v1/inbox/{document}", words[0], url=place.one),
            partial(place.north.call, "POST", f"/v1/inbox/{document}", words[1], url=place.other),
        )
        (won,) = (which for which, reply in enumerate(replies) if reply.status == 200)
        assert said(replies[1 - won]) == "document.ended"
        again = await place.north.call("POST", f"/v1/inbox/{document}", words[won], url=place.other)
        assert (again.status, again.body["receipt"]) == (200, replies[won].body["receipt"])
        answers[said(replies[won])] += 1
        documents[document] = said(replies[won])
    truths = await place.agreed(documents, place.north)
    assert all(each.steps.count("disputed") == 1 for each in truths)
    told("two outcomes", answers)


async def test_an_outcome_after_the_time_is_over(place: Place) -> None:
    """Pushed without an answer, expired as unconfirmed: the recipient's word comes too late, is refused and kept."""

    async def fails(_: Came) -> int:
        return 500

    place.hook.reacts = fails  # the last test of these gateways
    documents = [await place.sender.send("north", f"e{n}", {"case": f"e{n}", "n": 0}, BRIEF) for n in range(3)]
    async with asyncio.timeout(SECONDS):
        for each in documents:
            while (found := await place.sender.call("GET", f"/v1/documents/{each}")).body["state"] != "expired":
                await pause(0.05)
            assert found.body["history"][-1]["unconfirmed"] is True
    for each in documents:
        replies = [await place.north.call("POST", f"/v1/inbox/{each}", LEASED, url=place.other) for _ in range(2)]
        assert [said(reply) for reply in replies] == ["document.ended"] * 2
    truths = await place.agreed(dict.fromkeys(documents, "expired"), place.north)
    assert {each.steps for each in truths} == {("submitted", "expired", "disputed", "disputed")}
