"""Recipients fetch what lies in their mailbox, each document by one of them at a time, and say what became of it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from gateway.core.delivery import Go, Refused
from gateway.core.model import AgencyId, Standing, SystemId
from gateway.edge.documents import ends
from gateway.edge.documents.inbox import MAX_POLLERS
from gateway.edge.documents.leasing import LEASE_SECONDS, MAX_AT_ONCE, Leases, Wanted
from gateway.edge.documents.records import Out
from gateway.edge.documents.second import Second, Verdict
from gateway.edge.documents.waiting import Waiters
from gateway.edge.journal import Book
from gateway.edge.store import Plan, StoreFailed
from tests.fakes.correspondents import ALERT, ALERTS, DESK, FLOOD, LAMPANG, POLITE, REGISTER, SILA, TEXT, Letters, way
from tests.fakes.databases import server, shared, url
from tests.fakes.post_office import PostTown, claims_of, opened
from tests.fakes.town import Reply, until

__all__ = ["server", "shared", "url"]

UNITS = {"interior": (way("interior"), way("interior", unit="permits", name="permits"))}


async def fetched(town: PostTown, system: str = REGISTER, query: str = "") -> Reply:
    return await town.say("GET", f"/inbox{query}", system)


async def told(town: PostTown, document: str, system: str = REGISTER, **said: Any) -> Reply:
    return await town.say("POST", f"/inbox/{document}", system, said)


def ids(reply: Reply) -> list[str]:
    return [each["id"] for each in reply.body["documents"]]


def steps(town: PostTown, document: str) -> list[str]:
    return [entry.facts["step"] for entry in town.entries() if entry.facts.get("document") == document]


async def recalled(town: PostTown, document: str) -> ends.Answer:
    return await town.gateway.mailroom.post.run(ends.recall(document, None, DESK, town.gateway.mailroom.scribe))


async def changed(town: PostTown, *statements: str) -> None:
    """What time or another node does to the database."""

    def plan(_: Book) -> Plan[None]:
        for each in statements:
            yield each, ()

    await town.gateway.mailroom.post.run(plan)


def waiters(town: PostTown) -> Waiters:
    """Of those who wait for something in a mailbox."""
    assert town.gateway.mailroom.inbox
    return town.gateway.mailroom.inbox.waiters


def with_units(town: PostTown, *units: str) -> None:
    """The ministry's folder names these units from now on."""
    now = town.gateway.catalogue
    interior = replace(now.agencies[AgencyId("interior")], units=units)
    changed = replace(now, agencies={**now.agencies, interior.id: interior})
    town.gateway._loaded = town.gateway._catalogue = changed


async def test_a_document_is_fetched_and_registered(tmp_path: Path, url: str | None) -> None:
    """Its body, its envelope with the first receipt, and a receipt for each outcome; what left is in the journal."""
    async with opened(tmp_path, url=url) as town:
        sent = await town.send(exchange_case="A-1")
        got = await fetched(town)
        (document,) = got.body["documents"]
        assert document["body"] == TEXT
        assert (document["sender"], document["case"], document["receipt"]) == (DESK, "A-1", sent.body["receipt"])
        assert (document["attempt"], document["redelivered"]) == (1, False)
        retrieved = await told(town, document["id"], outcome="retrieved", lease=got.body["lease"])
        assert claims_of(retrieved.body["receipt"])["state"] == "retrieved"
        registered = await told(town, document["id"], outcome="registered", number="77/26")
        assert claims_of(registered.body["receipt"])["number"] == "77/26"
        assert steps(town, document["id"]) == ["submitted", "arrived", "retrieved", "registered"]
        leased = next(entry for entry in town.entries() if entry.facts["step"] == "leased")
        assert (leased.facts["documents"], leased.facts["consumer"]) == ([document["id"]], REGISTER)
        assert leased.kept.leaf.hex() == got.headers["Exchange-Entry"].split()[1]
        assert town.faults() == ()


async def test_the_same_answer_gives_the_same_receipt(tmp_path: Path, url: str | None) -> None:
    """D10: another number is 409, kept as disputed with who said it, and the sender can read of it."""
    async with opened(tmp_path, url=url) as town:
        await town.send()
        got = await fetched(town)
        (document,) = ids(got)
        first = await told(town, document, outcome="registered", number="77", lease=got.body["lease"])
        again = await told(town, document, outcome="registered", number="77")
        assert (again.status, again.body) == (200, first.body)
        assert again.headers["Exchange-Replayed"] == "?1"
        other = await told(town, document, outcome="registered", number="78")
        assert (other.status, other.body["code"]) == (409, "document.ended")
        disputed = next(entry for entry in town.entries() if entry.facts["step"] == "disputed")
        assert (disputed.facts["by"], disputed.particulars["number"]) == (REGISTER, "78")


async def test_two_pollers_never_hold_one_lane(tmp_path: Path, url: str | None) -> None:
    """D11: of one case one poller gets both documents, in order, and the others none; another case goes besides."""
    async with opened(tmp_path, url=url) as town:
        first, second = [(await town.send()).body["document"] for _ in range(2)]
        other = (await town.send({**TEXT, "case": "2026-18"})).body["document"]
        got = await asyncio.gather(*(fetched(town, query="?max=2") for _ in range(4)))
        held = [ids(each) for each in got if ids(each)]
        assert sorted(held, key=len) in ([[other], [first, second]], [[first, second, other]])
        assert len({each.body["lease"] for each in got if ids(each)}) == len(held)


async def test_a_lane_is_held_until_its_document_is_answered(tmp_path: Path) -> None:
    """The second letter of a case waits for the first one's answer, and comes at once afterwards."""
    async with opened(tmp_path) as town:
        first, second = [(await town.send()).body["document"] for _ in range(2)]
        got = await fetched(town, query="?max=1")
        assert (ids(got), ids(await fetched(town))) == ([first], [])
        await told(town, first, outcome="rejected", reason="duplicate", lease=got.body["lease"])
        assert ids(await fetched(town)) == [second]


async def test_an_expired_lease_returns_the_lane(tmp_path: Path, url: str | None) -> None:
    """D10: whose lease has ended is refused, the new holder's word counts; the document says that it comes again."""
    async with opened(tmp_path, url=url) as town:
        await town.send()
        late = await fetched(town)
        (document,) = ids(late)
        town.valve.ahead = LEASE_SECONDS + 1
        got = await fetched(town)
        assert (ids(got), got.body["documents"][0]["redelivered"]) == ([document], True)
        refused = await told(town, document, outcome="registered", number="77", lease=late.body["lease"])
        assert (refused.status, refused.body["code"]) == (409, "document.lease")
        counted = await told(town, document, outcome="registered", number="78", lease=got.body["lease"])
        assert claims_of(counted.body["receipt"])["number"] == "78"


async def test_a_lease_is_renewed_while_it_holds(tmp_path: Path, url: str | None) -> None:
    """Once it has ended nobody can revive it."""
    async with opened(tmp_path, url=url) as town:
        await town.send()
        lease = (await fetched(town)).body["lease"]
        town.valve.ahead = LEASE_SECONDS - 10
        renewed = await town.say("POST", "/inbox/lease", REGISTER, {"lease": lease})
        assert (renewed.status, renewed.body) == (200, {"lease": lease, "seconds": LEASE_SECONDS})
        town.valve.ahead = LEASE_SECONDS + 10
        assert ids(await fetched(town)) == []
        town.valve.ahead = 3 * LEASE_SECONDS
        refused = await town.say("POST", "/inbox/lease", REGISTER, {"lease": lease})
        assert (refused.status, refused.body["code"]) == (409, "document.lease")


async def test_an_outcome_in_a_mailbox_needs_the_lease(tmp_path: Path) -> None:
    """Nobody answers for what lies there and was not given to them; another agency does not learn that it is there."""
    async with opened(tmp_path) as town:
        document = (await town.send()).body["document"]
        for lease in ({}, {"lease": "made-up"}):
            refused = await told(town, document, outcome="retrieved", **lease)
            assert (refused.status, refused.body["code"]) == (409, "document.lease")
        stranger = await told(town, document, LAMPANG, outcome="registered", number="1")
        assert (stranger.status, stranger.body["code"]) == (404, "document.unknown")
        absent = await told(town, document[::-1], LAMPANG, outcome="registered", number="1")
        assert absent.body["detail"] == stranger.body["detail"]


async def test_nobody_else_uses_the_lease(tmp_path: Path) -> None:
    """Another agency's system that learned it changes nothing with it."""
    async with opened(tmp_path) as town:
        document = (await town.send()).body["document"]
        lease = (await fetched(town)).body["lease"]
        assert (await town.say("POST", "/inbox/lease", LAMPANG, {"lease": lease})).status == 409
        assert (await told(town, document, LAMPANG, outcome="retrieved", lease=lease)).status == 404
        assert sorted(steps(town, document)) == ["arrived", "refused", "submitted"]


async def test_a_recall_before_the_first_lease_and_after_it(tmp_path: Path, url: str | None) -> None:
    """D12: before, the document leaves the mailbox; from the first lease on it may have been read."""
    async with opened(tmp_path, url=url) as town:
        first = (await town.send()).body["document"]
        assert isinstance(await recalled(town, first), ends.Changed)
        assert ids(await fetched(town)) == []
        second = (await town.send()).body["document"]
        assert ids(await fetched(town)) == [second]
        town.valve.ahead = LEASE_SECONDS + 1
        assert (await recalled(town, second)) == Refused("document.may_have_arrived")


async def test_an_outcome_after_the_end_is_disputed(tmp_path: Path) -> None:
    """D9: what was recalled stays so; what the recipient says is kept, and the sender can see it."""
    async with opened(tmp_path) as town:
        document = (await town.send()).body["document"]
        await recalled(town, document)
        late = await told(town, document, outcome="registered", number="77")
        assert (late.status, late.body["code"]) == (409, "document.ended")
        assert "disputed" in steps(town, document)
        ((state,),) = town.rows("select state from deliveries")
        assert state == "recalled"


async def test_wrongly_addressed(tmp_path: Path) -> None:
    """The receipt says why; what a person typed goes to the particulars, with who it was."""
    async with opened(tmp_path) as town:
        document = (await town.send()).body["document"]
        lease = (await fetched(town)).body["lease"]
        clerk = {"exchange_user_assertion": town.says("interior", sub="u-7", post="registrar")}
        said = {"outcome": "rejected", "reason": "wrongly_addressed", "text": "Ask Ms Sok.", "lease": lease}
        rejected = await town.say("POST", f"/inbox/{document}", REGISTER, said, **clerk)
        claims = claims_of(rejected.body["receipt"])
        assert (claims["state"], claims["reason"], claims["by"]) == ("rejected", "wrongly_addressed", REGISTER)
        entry = next(entry for entry in town.entries() if entry.facts["step"] == "rejected")
        assert (entry.particulars["reason"], entry.particulars["person"]["subject"]) == ("Ask Ms Sok.", "u-7")
        assert b"Sok" not in entry.kept.entry


async def test_forwarded_to_another_unit(tmp_path: Path, url: str | None) -> None:
    """It lies in that unit's mailbox, says so, and is registered there; who forwarded it has it no longer."""
    async with opened(tmp_path, Letters(ways=UNITS), url=url) as town:
        with_units(town, "registration", "permits")
        document = (await town.send()).body["document"]
        assert ids(await fetched(town, query="?unit=permits")) == []
        lease = (await fetched(town)).body["lease"]
        forwarded = await told(town, document, outcome="forwarded", unit="permits", lease=lease)
        assert (forwarded.status, forwarded.body["state"]) == (200, "arrived")
        assert ids(await fetched(town, query="?unit=registration")) == []
        got = await fetched(town, query="?unit=permits")
        assert (ids(got), got.body["documents"][0]["unit"]) == ([document], "permits")
        registered = await told(town, document, outcome="registered", number="5", lease=got.body["lease"])
        assert registered.body["state"] == "registered"
        assert steps(town, document) == ["submitted", "arrived", "forwarded", "registered"]


async def test_a_unit_without_a_mailbox_of_its_own_gets_nothing(tmp_path: Path) -> None:
    """The error points to the unit; the document stays with who has it."""
    async with opened(tmp_path, Letters(ways=UNITS)) as town:
        with_units(town, "registration", "permits")
        document = (await town.send()).body["document"]
        lease = (await fetched(town)).body["lease"]
        for unit in ("registration", "archive"):
            refused = await told(town, document, outcome="forwarded", unit=unit, lease=lease)
            assert (refused.status, refused.body["errors"][0]["pointer"]) == (422, "/unit")
        assert (await told(town, document, outcome="retrieved", lease=lease)).status == 200


@pytest.mark.parametrize(
    "query",
    ["?max=0", "?max=101", "?max=ten", "?wait=61", "?wait=-1", "?unit=A%20B", "?unit=tax", "?max=1&max=2", "?x=1"],
)
async def test_a_query_is_held_to_its_words(tmp_path: Path, query: str) -> None:
    """What is not understood is refused, and nothing is leased."""
    async with opened(tmp_path) as town:
        await town.send()
        refused = await fetched(town, query=query)
        assert (refused.status, refused.body["code"]) == (400, "request.malformed")
        assert len(ids(await fetched(town))) == 1


async def test_who_may_not(tmp_path: Path) -> None:
    """No token; a suspended system; a suspended agency. Who is identified and refused stands in the journal."""
    async with opened(tmp_path) as town:
        document = (await town.send()).body["document"]
        assert (await town.say("GET", "/inbox", None)).status == 401
        assert (await town.say("POST", f"/inbox/{document}", None, {"outcome": "retrieved"})).status == 401
        await town.token(REGISTER)
        town.changed(Letters(suspended=frozenset({"interior"})))
        for refused in (await fetched(town), await told(town, document, outcome="retrieved")):
            assert (refused.status, refused.body["code"]) == (403, "policy.suspended")
        assert [entry.facts["code"] for entry in town.entries() if entry.facts["step"] == "refused"] == [
            "policy.suspended"
        ] * 2


async def test_a_suspended_system_reads_nothing(tmp_path: Path) -> None:
    """The agency's other systems go on."""
    async with opened(tmp_path) as town:
        await town.send()
        await town.token(ALERTS)
        now = town.gateway.catalogue
        interior = now.agencies[AgencyId("interior")]
        held = replace(interior.systems[SystemId(ALERTS)], standing=Standing.SUSPENDED)
        systems = {**interior.systems, held.id: held}
        agencies = {**now.agencies, interior.id: replace(interior, systems=systems)}
        town.gateway._loaded = town.gateway._catalogue = replace(now, agencies=agencies)
        assert (await fetched(town, ALERTS)).body["code"] == "policy.suspended"
        assert len(ids(await fetched(town))) == 1


async def polling(town: PostTown, count: int) -> list[asyncio.Task[Reply]]:
    """So many calls that wait."""
    tasks = []
    for number in range(count):
        tasks.append(asyncio.create_task(fetched(town, query="?wait=20")))
        await until(lambda: waiters(town).waiting > number)  # noqa: B023 - awaited here
    return tasks


async def test_a_poller_waits_for_what_comes(tmp_path: Path) -> None:
    """It holds no place meanwhile, and gets the document that comes; those that waited in vain are told so."""
    async with opened(tmp_path, max_in_progress=4) as town:
        waiting = await polling(town, 6)
        assert town.gateway.exchanges.front.in_progress == 0
        document = (await town.send()).body["document"]
        done, late = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert [ids(each.result()) for each in done] == [[document]]
        waiters(town).close()
        assert [ids(each) for each in await asyncio.gather(*late)] == [[]] * 5


async def test_a_poller_gets_what_another_node_took_in(tmp_path: Path, url: str | None) -> None:
    """Nobody tells this process: its next look at the database finds what may be leased."""
    async with opened(tmp_path, url=url) as town:
        document = (await town.send()).body["document"]
        await changed(town, "update lanes set due = due + 3600")
        (waiting,) = await polling(town, 1)
        await changed(town, "update lanes set due = due - 3600")
        async with asyncio.timeout(10):
            assert ids(await waiting) == [document]


async def test_one_agency_does_not_take_all_waiting_places(tmp_path: Path) -> None:
    """Of too many pollers one more is answered at once."""
    async with opened(tmp_path) as town:
        waiting = await polling(town, MAX_POLLERS)
        assert ids(await fetched(town, query="?wait=20")) == []
        assert not any(each.done() for each in waiting)
        waiters(town).close()
        await asyncio.gather(*waiting)


async def test_who_is_suspended_while_they_wait_gets_nothing(tmp_path: Path) -> None:
    """The right is asked for again before anything is handed out."""
    async with opened(tmp_path) as town:
        await town.send()
        await changed(town, "update lanes set due = due + 3600")
        (waiting,) = await polling(town, 1)
        town.changed(Letters(suspended=frozenset({"interior"})))
        await changed(town, "update lanes set due = due - 3600")
        assert (await waiting).body["code"] == "policy.suspended"
        assert town.rows("select touched from deliveries") == [(0,)]


async def test_more_than_one_step_takes_at_once(tmp_path: Path) -> None:
    """All that was asked for comes in one answer under one lease, each document once."""
    async with opened(tmp_path) as town:
        many = MAX_AT_ONCE + 5
        sent = [(await town.send({"subject": str(number)})).body["document"] for number in range(many)]
        got = await fetched(town, query=f"?max={many}")
        assert sorted(ids(got)) == sorted(sent)
        for document in sent:
            answered = await told(town, document, outcome="retrieved", lease=got.body["lease"])
            assert answered.status == 200


async def test_nothing_is_handed_out_unwritten(tmp_path: Path) -> None:
    """While the journal cannot be written the answer is 503, and what was leased lies untouched when it can."""
    async with opened(tmp_path) as town:
        document = (await town.send()).body["document"]
        await town.token(REGISTER)
        town.valve.failing = True
        refused = await fetched(town)
        assert (refused.status, refused.body["code"]) == (503, "journal.unavailable")
        town.valve.failing = False
        await until(lambda: not town.gateway.mailroom.post.failing)
        assert isinstance(await recalled(town, document), ends.Changed)


async def test_an_event_is_cut_to_what_the_subscriber_may_see(tmp_path: Path) -> None:
    """The envelope says that it was cut: the digest is that of the whole."""
    async with opened(tmp_path) as town:
        await town.send(FLOOD, "/events", ALERT, ALERTS)
        (event,) = (await fetched(town, SILA)).body["documents"]
        assert event["body"] == {"level": FLOOD["level"], "area": FLOOD["area"]}
        assert (event["kind"], event["cut"]) == ("event", True)


async def test_receipts_lie_in_the_sender_s_mailbox(tmp_path: Path, url: str | None) -> None:
    """Each has an id of its own, is taken out once, and leaves no further step."""
    mailbox = {"saensuk": (way("saensuk", receipts=True),)}
    async with opened(tmp_path, Letters(ways=mailbox), url=url) as town:
        document = (await town.send()).body["document"]
        got = await fetched(town, DESK)
        (receipt,) = got.body["documents"]
        assert (receipt["kind"], receipt["document"], receipt["body"]["state"]) == ("receipt", document, "arrived")
        assert claims_of(receipt["receipt"]) == receipt["body"]
        refused = await told(town, receipt["id"], DESK, outcome="registered", number="1", lease=got.body["lease"])
        assert refused.body["code"] == "request.malformed"
        before = steps(town, document)
        taken = await told(town, receipt["id"], DESK, outcome="retrieved", lease=got.body["lease"])
        assert (taken.status, taken.body["document"]) == (200, receipt["id"])
        assert ids(await fetched(town, DESK)) == []
        assert steps(town, document) == before


async def test_a_copy_of_another_agency_is_not_its_own(tmp_path: Path) -> None:
    """Of one document to several each recipient answers for itself."""
    async with opened(tmp_path) as town:
        sent = await town.send(to="/documents", exchange_to="interior, sila")
        document = sent.body["document"]
        lease = (await fetched(town, SILA)).body["lease"]
        await told(town, document, SILA, outcome="registered", number="9", lease=lease)
        assert ids(await fetched(town)) == [document]
        states = dict(town.rows("select recipient, state from deliveries"))
        assert states == {"interior": "arrived", "sila": "registered"}


def suspended(*names: str) -> Letters:
    return replace(POLITE, suspended=frozenset(names))


def kept(town: PostTown, letters: Letters) -> None:
    """Other terms under the same digest, as when an operator suspends, or a day passes."""
    digest = town.gateway.catalogue.digest
    town.changed(letters)
    town.gateway._loaded = town.gateway._catalogue = replace(town.gateway.catalogue, digest=digest)


async def test_a_suspended_sender_s_letter_waits(tmp_path: Path, url: str | None) -> None:
    """D20: it is not handed out and counts as untouched; lifted, it goes."""
    async with opened(tmp_path, url=url) as town:
        document = (await town.send()).body["document"]
        kept(town, suspended("saensuk"))
        assert ids(await fetched(town)) == []
        assert town.rows("select state, touched, attempts from deliveries") == [("arrived", 0, 0)]
        kept(town, POLITE)
        town.valve.ahead = 30.0
        assert ids(await fetched(town)) == [document]


async def test_what_is_no_longer_permitted_is_undeliverable(tmp_path: Path, url: str | None) -> None:
    """D20: with the policy's code, and a receipt for the sender; what comes behind it in the case is looked at too."""
    async with opened(tmp_path, url=url) as town:
        sent = [(await town.send()).body["document"] for _ in range(2)]
        kept(town, Letters(until=2025))
        assert ids(await fetched(town)) == []
        assert town.rows("select state, open from deliveries") == [("undeliverable", 0)] * 2
        for document in sent:
            entry = next(
                each for each in town.entries() if each.facts.get("document") == document and each.facts.get("reason")
            )
            assert (entry.facts["step"], entry.facts["reason"]) == ("undeliverable", "policy.expired")


async def test_a_node_that_knows_less_gives_nothing_up(tmp_path: Path) -> None:
    """E12: on an older catalogue a refusal makes it wait; when everybody must know, it is final."""
    async with opened(tmp_path) as town:
        await town.send()
        town.changed(Letters(until=2025))
        assert ids(await fetched(town)) == []
        assert town.rows("select state, open from deliveries") == [("arrived", 1)]
        await changed(town, "update documents set submitted = submitted - 700", "update lanes set due = 0")
        assert ids(await fetched(town)) == []
        assert town.rows("select state, open from deliveries") == [("undeliverable", 0)]


class Picky(Second):
    """Decides by document, as if everything else had been looked at; then does what a test wants to happen."""

    words: Mapping[str, Go] = MappingProxyType({})
    then: Callable[[], None] = staticmethod(lambda: None)

    async def ask(self, outs: Sequence[Out]) -> tuple[Verdict, ...]:
        self.then()
        return tuple(Verdict(self.words.get(out.paper.id, Go.NOW), "policy.suspended") for out in outs)


def picky_of(town: PostTown) -> Picky:
    """The inbox decides by it from now on."""
    room = town.gateway.mailroom
    picky = Picky(room.reader, lambda: town.gateway.catalogue, town.gateway._keyring.open)
    assert room.inbox
    room.inbox._leases._second = picky
    return picky


async def test_what_was_leased_and_could_not_be_decided_is_given_back(tmp_path: Path) -> None:
    """The answer is 503, and the document lies there untouched for whoever comes next."""
    async with opened(tmp_path) as town:
        document = (await town.send()).body["document"]
        picky = picky_of(town)

        def gone() -> None:
            raise StoreFailed("the database is gone")

        picky.then = gone
        assert (await fetched(town)).body["code"] == "journal.unavailable"
        assert town.rows("select touched, attempts from deliveries") == [(0, 0)]
        picky.then = lambda: None
        assert ids(await fetched(town)) == [document]


async def test_what_was_leased_and_could_not_be_written_down_is_given_back(tmp_path: Path) -> None:
    """Nothing of it has left: it is as untouched as before."""
    async with opened(tmp_path) as town:
        document = (await town.send()).body["document"]
        picky = picky_of(town)
        post = town.valve.others[0]
        picky.then = lambda: setattr(post, "mistakes", 1)
        assert (await fetched(town, query="?max=1")).body["code"] == "gateway.broken"
        assert town.rows("select touched, attempts from deliveries") == [(0, 0)]
        picky.then = lambda: None
        assert ids(await fetched(town)) == [document]


async def test_what_stands_before_one_that_must_wait_goes(tmp_path: Path, url: str | None) -> None:
    """The lane is leased up to it; itself and what comes after it stay untouched, and come when it may go."""
    async with opened(tmp_path, url=url) as town:
        sent = [(await town.send()).body["document"] for _ in range(4)]
        picky = picky_of(town)
        picky.words = {sent[1]: Go.LATER}
        room = town.gateway.mailroom
        leases = Leases(room.post, room.scribe, picky, town.gateway._keyring.open)
        wanted = Wanted(town.gateway.catalogue.agencies[AgencyId("interior")], None, 10)
        leased = await leases.take(wanted)
        assert [each.told["id"] for each in leased.given] == sent[:1]
        touched = town.rows("select touched, attempts from deliveries order by seq")
        assert touched == [(1, 1), (0, 0), (0, 0), (0, 0)]
        await told(town, sent[0], outcome="retrieved", lease=leased.claim)
        assert (await leases.take(wanted)).given == ()
        picky.words = {}
        town.valve.ahead = 30.0
        assert [each.told["id"] for each in (await leases.take(wanted)).given] == sent[1:]


async def test_one_that_never_may_go_holds_nobody_back(tmp_path: Path, url: str | None) -> None:
    """It is given up in the middle of its lane; those around it come in order, in the same answer."""
    async with opened(tmp_path, url=url) as town:
        sent = [(await town.send()).body["document"] for _ in range(4)]
        picky = picky_of(town)
        picky.words = {sent[1]: Go.NEVER}
        room = town.gateway.mailroom
        leases = Leases(room.post, room.scribe, picky, town.gateway._keyring.open)
        wanted = Wanted(town.gateway.catalogue.agencies[AgencyId("interior")], None, 10)
        leased = await leases.take(wanted)
        assert [each.told["id"] for each in leased.given] == [sent[0], *sent[2:]]
        assert [state for (state,) in town.rows("select state from deliveries order by seq")] == [
            *("arrived", "undeliverable", "arrived", "arrived")
        ]
        assert [each.told["attempt"] for each in leased.given] == [1, 1, 1]
