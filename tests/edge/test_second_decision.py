"""Before anything leaves a mailbox it is decided once more, cut, and written down; what may not go lies untouched."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from zoneinfo import ZoneInfo

import orjson

from gateway.core.delivery import Go, State
from gateway.core.model import AgencyId, Kind, ServiceId, SystemId
from gateway.core.receipt import digest_field
from gateway.edge.documents import ends
from gateway.edge.documents.leasing import Leases, Wanted
from gateway.edge.documents.records import Opened, Out, Paper
from gateway.edge.documents.second import MAX_DECISIONS, Second, Verdict
from gateway.edge.store import StoreFailed
from tests.fakes.correspondents import ALERT, ALERTS, DESK, FLOOD, LETTER, POLITE, PURPOSE, REGISTER, SILA, Letters
from tests.fakes.pollers import changed, fetched, ids, recalled, told
from tests.fakes.post_office import PostTown, claims_of, opened
from tests.fakes.town import until


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


def mistaken(town: PostTown) -> None:
    """The next transaction about documents ends in an error that nobody foresaw."""
    for each in town.valve.others:
        each.mistakes = 1


async def test_what_was_leased_and_could_not_be_written_down_is_given_back(tmp_path: Path) -> None:
    """Nothing of it has left: it is as untouched as before."""
    async with opened(tmp_path) as town:
        document = (await town.send()).body["document"]
        picky = picky_of(town)
        picky.then = lambda: mistaken(town)
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
        wanted = Wanted(town.gateway.catalogue.agencies[AgencyId("interior")], SystemId(REGISTER), None, 10)
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
        wanted = Wanted(town.gateway.catalogue.agencies[AgencyId("interior")], SystemId(REGISTER), None, 10)
        leased = await leases.take(wanted)
        assert [each.told["id"] for each in leased.given] == [sent[0], *sent[2:]]
        assert [state for (state,) in town.rows("select state from deliveries order by seq")] == [
            *("arrived", "undeliverable", "arrived", "arrived")
        ]
        assert [each.told["attempt"] for each in leased.given] == [1, 1, 1]


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
    """Nothing in the envelope speaks of the rest: the digest is that of the part, and case and reference stay away."""
    async with opened(tmp_path) as town:
        await town.send(FLOOD, "/events", ALERT, ALERTS, exchange_case="C-1")
        (event,) = (await fetched(town, SILA)).body["documents"]
        part = orjson.dumps({"level": FLOOD["level"], "area": FLOOD["area"]})
        assert (orjson.dumps(event["body"]), event["digest"]) == (part, digest_field(sha256(part).digest()))
        assert (event["kind"], event["cut"], event["attachments"]) == ("event", True, [])
        assert (event["case"], event["reference"], event["receipt"]) == (None, None, None)


async def test_a_subscriber_learns_nowhere_what_the_whole_is(tmp_path: Path) -> None:
    """Neither its page nor a receipt has digest or reference of the event; its publisher's first receipt has both."""
    async with opened(tmp_path) as town:
        sent = (await town.send(FLOOD, "/events", ALERT, ALERTS, exchange_case="C-1")).body
        leased = (await fetched(town, SILA)).body["lease"]
        said = {"outcome": "retrieved", "lease": leased}
        got = (await town.say("POST", f"/inbox/{sent['document']}", SILA, said)).body
        page = (await town.say("GET", f"/documents/{sent['document']}", SILA)).body
        found = (await town.say("GET", "/documents?role=received", SILA, exchange_case="C-1")).body
    receipts = [claims_of(each) for each in (*page["receipts"], got["receipt"])]
    assert [each["state"] for each in receipts] == ["arrived", "retrieved", "retrieved"]
    assert not any({"digest", "reference"} & each.keys() for each in receipts)
    assert (page["digest"], page["reference"], found["documents"]) == (None, None, [])
    assert {"digest", "reference"} < claims_of(sent["receipt"]).keys()


def out_of(purpose: str = PURPOSE) -> Out:
    """A letter to the interior ministry that has just been taken in."""
    paper = Paper("d-1", Kind.DOCUMENT, SystemId(DESK), None, ServiceId(LETTER), "r-1", bytes(32))
    return Out(
        seq=1,
        paper=paper,
        recipient=AgencyId("interior"),
        okey="1",
        kind="document",
        state=State.SUBMITTED,
        unit="",
        subscriber=None,
        touched=False,
        attempts=1,
        requeued=0,
        submitted=0.0,
        since=0.0,
        catalogue="",
        head=b"",
        body=None,
        first_receipt=b"",
        opened=Opened({"purpose": purpose}, b"{}"),
    )


async def test_a_decision_is_remembered_for_its_day_and_catalogue(tmp_path: Path) -> None:
    """Not for longer: the agreement ends with the day, and whoever is suspended is so in another catalogue."""
    async with opened(tmp_path) as town:
        second, out = town.gateway.mailroom.second, out_of()
        ending, ended = (datetime(2025, 12, 31, hour, 30, tzinfo=UTC) for hour in (16, 17))  # midnight in Bangkok
        found = []
        for letters in (Letters(until=2025), suspended("saensuk"), Letters(until=2025)):
            present = replace(town.declared(letters), zone=ZoneInfo("Asia/Bangkok"))
            found += [second._decided(present, out, {}, at).code for at in (ending, ending, ended, ending)]
    assert found[:4] == found[8:] == [None, None, "policy.expired", None]
    assert found[4:8] == ["policy.suspended"] * 4


async def test_decisions_that_are_remembered_are_bounded(tmp_path: Path) -> None:
    """However many purposes are asked for, and each has its own answer."""
    async with opened(tmp_path) as town:
        second, present, now = town.gateway.mailroom.second, town.gateway.catalogue, datetime.now(UTC)
        for n in range(MAX_DECISIONS + 1):
            second._decided(present, out_of(f"purpose_{n}"), {}, now)
        codes = [second._decided(present, out_of(purpose), {}, now).code for purpose in (PURPOSE, "purpose_1")]
        assert (codes, len(second._decisions)) == ([None, "policy.purpose"], 3)
