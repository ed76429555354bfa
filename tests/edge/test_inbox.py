"""Recipients fetch what lies in their mailbox, each document by one of them at a time, and say what became of it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.delivery import Refused
from gateway.core.model import AgencyId, Standing, SystemId
from gateway.edge.documents import ends
from gateway.edge.documents.leasing import LEASE_SECONDS, MAX_AT_ONCE
from gateway.edge.documents.rounds import Rounds
from tests.fakes.correspondents import ALERTS, ARCHIVE, DESK, LAMPANG, REGISTER, SILA, TEXT, Letters, way
from tests.fakes.deliveries import push
from tests.fakes.pollers import changed, fetched, ids, recalled, steps, told, waiters, with_units
from tests.fakes.post_office import claims_of, opened
from tests.fakes.town import until

UNITS = {"interior": (way("interior"), way("interior", unit="permits", name="permits"))}


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


async def test_units_share_a_mailbox(tmp_path: Path, url: str | None) -> None:
    """A unit without a way of its own gets what is forwarded to it, and keeps it when the lanes are looked over."""
    async with opened(tmp_path, Letters(ways=UNITS), url=url) as town:
        with_units(town, "registration", "permits")
        document = (await town.send()).body["document"]
        lease = (await fetched(town)).body["lease"]
        assert (await told(town, document, outcome="forwarded", unit="registration", lease=lease)).status == 200
        room = town.gateway.mailroom
        await Rounds(room.post, room.scribe, room.second, lambda: town.gateway.catalogue).tidy()
        got = await fetched(town, query="?unit=registration")
        assert (ids(got), got.body["documents"][0]["unit"]) == ([document], "registration")


async def test_a_unit_to_which_no_way_leads_gets_nothing(tmp_path: Path) -> None:
    """Where documents are pushed, it needs a way of its own; the error says so."""
    async with opened(tmp_path, Letters(ways={"interior": (push("interior", "http://127.0.0.1:1"),)})) as town:
        with_units(town, "permits")
        document = (await town.send()).body["document"]
        refused = await told(town, document, outcome="forwarded", unit="permits")
        (error,) = refused.body["errors"]
    assert (refused.status, error["pointer"]) == (422, "/unit")
    assert "needs a way with unit: permits in deliveries" in error["detail"]


async def test_a_unit_that_is_none_gets_nothing(tmp_path: Path) -> None:
    """The error points to the unit; the document stays with who has it."""
    async with opened(tmp_path, Letters(ways=UNITS)) as town:
        with_units(town, "registration", "permits")
        document = (await town.send()).body["document"]
        lease = (await fetched(town)).body["lease"]
        refused = await told(town, document, outcome="forwarded", unit="archive", lease=lease)
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


async def test_one_document_that_cannot_be_opened_stops_no_mailbox(tmp_path: Path) -> None:
    """Its case waits, whether its body, its head or nothing is there; everything else is handed out."""
    async with opened(tmp_path) as town:
        sent = [(await town.send({**TEXT, "case": str(number)})).body["document"] for number in range(4)]
        whats = ("body = head", "head = body", "body = null")
        for what, broken in zip(whats, sent[:3], strict=True):
            await changed(town, f"update documents set {what} where id = '{broken}'")  # noqa: S608 - an id
        got, again = await fetched(town), await fetched(town)
        assert (got.status, ids(got), again.status, ids(again)) == (200, [sent[3]], 200, [])
        assert [steps(town, each) for each in sent[:3]] == [["submitted", "arrived"]] * 3


async def test_only_the_systems_of_a_mailbox_fetch_and_answer(tmp_path: Path) -> None:
    """Another system of the agency finds nothing, and what it says is said of nothing."""
    ways = {"interior": (way("interior", systems=frozenset({SystemId(REGISTER)})),)}
    async with opened(tmp_path, Letters(ways=ways)) as town:
        (document,) = [(await town.send()).body["document"]]
        other, got = await fetched(town, ALERTS), await fetched(town)
        assert (ids(other), ids(got)) == ([], [document])
        lease = got.body["lease"]
        refused = await told(town, document, ALERTS, outcome="registered", number="77", lease=lease)
        assert (refused.status, refused.body["code"]) == (404, "document.unknown")
        assert (await told(town, document, outcome="registered", number="77", lease=lease)).status == 200


async def test_only_the_systems_of_a_mailbox_get_its_files(tmp_path: Path, url: str | None) -> None:
    """Another one sees that the document came and where it stands: no file, and no id of one."""
    ways = {"interior": (way("interior", systems=frozenset({SystemId(REGISTER)})),)}
    async with opened(tmp_path, Letters(ways=ways), url=url) as town:
        file = await town.upload(b"the plan of somebody's house\n")
        document = (await town.send(exchange_attachments=file)).body["document"]
        assert ids(await fetched(town)) == [document]
        pages, files = {}, {}
        for system in (ALERTS, REGISTER):
            listed = await town.say("GET", "/documents?role=received", system)
            assert [each["document"] for each in listed.body["documents"]] == [document]
            pages[system] = (await town.say("GET", f"/documents/{document}", system)).body
            files[system] = (await town.say("GET", f"/attachments/{file}", system)).status
    assert files == {ALERTS: 404, REGISTER: 200}
    assert [each["attachment"] for each in pages[REGISTER]["attachments"]] == [file]
    assert (pages[ALERTS]["state"], pages[ALERTS]["attachments"]) == ("arrived", [])
    assert file not in str(pages[ALERTS])


async def test_a_unit_has_its_files_for_itself(tmp_path: Path) -> None:
    """Forwarded to a unit whose mailbox is another system's, they are that one's, and the first one's no more."""
    mine, theirs = frozenset({SystemId(REGISTER)}), frozenset({SystemId(ALERTS)})
    ways = (way("interior", systems=mine), way("interior", name="permits", unit="permits", systems=theirs))
    async with opened(tmp_path, Letters(ways={"interior": ways})) as town:
        file = await town.upload(b"a plan\n")
        await town.send(exchange_attachments=file)
        got = await fetched(town)
        seen = {each: (await town.say("GET", f"/attachments/{file}", each)).status for each in (REGISTER, ALERTS)}
        assert seen == {REGISTER: 200, ALERTS: 404}
        await changed(town, "update deliveries set unit = 'permits'")
        seen = {each: (await town.say("GET", f"/attachments/{file}", each)).status for each in (REGISTER, ALERTS)}
    assert (len(ids(got)), seen) == (1, {REGISTER: 404, ALERTS: 200})


async def test_a_receipt_goes_to_the_system_that_sees_its_document(tmp_path: Path, url: str | None) -> None:
    """Where documents are their systems' own: another one neither gets it, nor says that it has, nor wakes for it."""
    ways = {"saensuk": (way("saensuk", receipts=True),)}
    async with opened(tmp_path, Letters(ways=ways, by_system=True), url=url) as town:
        waiting = asyncio.create_task(fetched(town, ARCHIVE, "?wait=20"))
        await until(lambda: waiters(town).waiting)
        await town.send()
        inbox = town.gateway.mailroom.inbox
        assert inbox
        keys = {f"saensuk  {system}" for system in (ARCHIVE, DESK)}
        assert await inbox._look(keys) == {f"saensuk  {DESK}": True}
        other, got = await fetched(town, ARCHIVE), await fetched(town, DESK)
        assert (ids(other), len(ids(got)), waiting.done()) == ([], 1, False)
        for system, status in ((ARCHIVE, 404), (DESK, 200)):
            said = await told(town, ids(got)[0], system, outcome="retrieved", lease=got.body["lease"])
            assert said.status == status
        waiters(town).close()
        assert ids(await waiting) == []
