"""Where a document stands: who sees what of it, waiting for it to move, and recalling it."""

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.correspondents import (
    ALERT,
    ALERTS,
    ARCHIVE,
    DESK,
    FLOOD,
    LAMPANG,
    PLATFORM,
    REGISTER,
    SILA,
    Letters,
    way,
)
from tests.fakes.pollers import changed
from tests.fakes.post_office import PostTown, claims_of, founded, opened
from tests.fakes.town import Reply, until

PUSHED = Letters(ways={"interior": (way("interior", protocol="mailbox", name="pushed"),)})
NOBODY = "01a20181-268c-7e58-8061-9596f9fcd137"


async def sent(town: PostTown, **more: Any) -> str:
    """A document's id."""
    reply = await town.send(**more)
    assert reply.status == 202, reply.body
    return str(reply.body["document"])


async def look(town: PostTown, document: str, system: str = DESK, **headers: str) -> Reply:
    return await town.say("GET", f"/documents/{document}", system, **headers)


async def leased(town: PostTown, system: str) -> Any:
    """What the agency's mailbox gives."""
    return (await town.say("GET", "/inbox", system)).body


async def test_the_sender_sees_everything(tmp_path: Path) -> None:
    """State, summary, recipients, history and verifiable receipts, under its own reference."""
    async with opened(tmp_path) as town:
        document = await sent(town, to="/documents", exchange_to="sila,lampang", idempotency_key="OUT-1")
        shown = (await look(town, document)).body
    assert (shown["document"], shown["reference"], shown["sender"]) == (document, "OUT-1", DESK)
    assert (shown["state"], shown["summary"], shown["done"]) == ("arrived", {"of": 2, "arrived": 2}, False)
    assert {each["recipient"]: each["state"] for each in shown["recipients"]} == {
        "sila": "arrived",
        "lampang": "arrived",
    }
    assert [each["step"] for each in shown["history"]] == ["submitted", "arrived", "arrived"]
    assert [claims_of(each)["state"] for each in shown["receipts"]] == ["submitted", "arrived", "arrived"]


async def test_a_recipient_sees_only_itself(tmp_path: Path) -> None:
    """Neither the other recipients nor the sender's reference."""
    async with opened(tmp_path) as town:
        document = await sent(town, to="/documents", exchange_to="sila,lampang", idempotency_key="OUT-1")
        reply = await look(town, document, SILA)
    assert reply.status == 200
    assert (reply.body["reference"], [each["recipient"] for each in reply.body["recipients"]]) == (None, ["sila"])
    assert reply.body["summary"] == {"of": 1, "arrived": 1}
    assert {each["recipient"] for each in reply.body["history"]} == {None, "sila"}


async def test_nobody_else_learns_that_a_document_exists(tmp_path: Path) -> None:
    """Strangers, and whoever asks for what is not there, get the same words."""
    async with opened(tmp_path) as town:
        document = await sent(town)
        replies = [
            await look(town, document, LAMPANG),
            await look(town, document, PLATFORM),
            await look(town, NOBODY),
            await look(town, "no-id"),
            await town.say("POST", f"/documents/{document}/recall", LAMPANG),
        ]
    assert {reply.status for reply in replies} == {404}
    assert {reply.body["code"] for reply in replies} == {"document.unknown"}
    assert len({reply.body["detail"] for reply in replies}) == 1


async def test_a_recipient_sees_nothing_before_it_has_reached_it(tmp_path: Path) -> None:
    """What still waits for a hand-over, and what was withdrawn before any, does not show to the recipient."""
    stopped = way("interior", protocol="http", options={"url": "http://127.0.0.1:1/"})
    async with opened(tmp_path, Letters(ways={"interior": (stopped,)})) as town:
        town.gateway.mailroom.dispatcher = None
        document = await sent(town)
        before = await look(town, document, REGISTER)
        mine = await look(town, document)
    assert (before.status, mine.status) == (404, 200)
    assert mine.body["recipients"][0]["state"] == "submitted"


@pytest.mark.parametrize(("by_system", "status"), [(False, 200), (True, 404)])
async def test_an_agency_may_keep_its_systems_apart(tmp_path: Path, *, by_system: bool, status: int) -> None:
    """Another system of the sender's agency sees the document, unless the folder says that it belongs to one."""
    async with opened(tmp_path, Letters(by_system=by_system)) as town:
        document = await sent(town)
        other, own = await look(town, document, ARCHIVE), await look(town, document)
        listed = (await town.say("GET", "/documents", ARCHIVE)).body["documents"]
    assert (own.status, other.status, len(listed)) == (200, status, int(not by_system))


async def test_the_agency_on_whose_behalf_it_was_sent_sees_it(tmp_path: Path) -> None:
    """It and the platform both; it lists it, and may recall it."""
    async with opened(tmp_path) as town:
        document = await sent(town, system=PLATFORM, exchange_for="sila")
        mine, theirs = await look(town, document, SILA), await look(town, document, PLATFORM)
        listed = (await town.say("GET", "/documents", SILA)).body["documents"]
        recalled = await town.say("POST", f"/documents/{document}/recall", SILA)
    assert (mine.body["on_behalf"], theirs.status) == ("sila", 200)
    assert [each["document"] for each in listed] == [document]
    assert (recalled.status, recalled.body["state"]) == (200, "recalled")


async def test_what_the_recipient_said_is_shown(tmp_path: Path) -> None:
    """The register number stands with the recipient, in the history and in the receipt."""
    async with opened(tmp_path) as town:
        document = await sent(town)
        lease = (await leased(town, REGISTER))["lease"]
        said = {"outcome": "registered", "number": "R-77", "lease": lease}
        assert (await town.say("POST", f"/inbox/{document}", REGISTER, said)).status == 200
        shown = (await look(town, document)).body
    assert (shown["state"], shown["recipients"][0]["number"]) == ("registered", "R-77")
    assert (shown["history"][-1]["by"], shown["history"][-1]["number"]) == (REGISTER, "R-77")
    assert claims_of(shown["receipts"][-1])["number"] == "R-77"


async def _never(_: Any) -> Any:
    await asyncio.Event().wait()


async def test_a_waiting_call_is_answered_when_something_happens(tmp_path: Path) -> None:
    """It takes nobody's place meanwhile, and shows at once what this process did: no look at the database is needed."""
    async with opened(tmp_path) as town:
        document, waiters = await sent(town), town.gateway.mailroom.waiters
        waiters._look = _never
        waiting = asyncio.create_task(look(town, document, prefer="wait=30"))
        await until(lambda: waiters.waiting)
        assert town.gateway.exchanges.in_progress == 0
        assert (await town.say("POST", f"/documents/{document}/recall")).status == 200
        reply = await asyncio.wait_for(waiting, 20)
    assert reply.body["state"] == "recalled"
    assert reply.headers["Preference-Applied"] == "wait=30"


async def test_a_change_of_another_process_is_seen_too(tmp_path: Path) -> None:
    """One look at the database wakes those who wait for what changed, and nobody else."""
    async with opened(tmp_path) as town:
        first, second, waiters = await sent(town), await sent(town), town.gateway.mailroom.waiters
        waiting = [asyncio.create_task(look(town, each, prefer="wait=30")) for each in (first, second)]
        await until(lambda: waiters.waiting == 2)
        town.gateway.mailroom.post._tell = lambda _: None  # as if another process did it
        assert (await town.say("POST", f"/documents/{first}/recall")).status == 200
        reply = await asyncio.wait_for(waiting[0], 20)
        assert not waiting[1].done()
        waiting[1].cancel()
    assert reply.body["state"] == "recalled"


async def test_what_did_not_change_is_not_sent_again(tmp_path: Path) -> None:
    """With the validator of the last answer: 304 at the end of the time, 200 where it is another one already."""
    async with opened(tmp_path) as town:
        document = await sent(town)
        tag = (await look(town, document)).headers["ETag"]
        same = await look(town, document, if_none_match=tag)
        other = await look(town, document, if_none_match='"other"', prefer="wait=30")
    assert (same.status, same.raw, other.status) == (304, b"", 200)
    assert "Preference-Applied" not in other.headers


async def test_what_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    """A call about a recalled document is answered at once."""
    async with opened(tmp_path) as town:
        document = await sent(town)
        await town.say("POST", f"/documents/{document}/recall")
        reply = await asyncio.wait_for(look(town, document, prefer="wait=30"), 20)
    assert (reply.body["state"], reply.headers.get("Preference-Applied")) == ("recalled", None)


async def test_a_stop_wakes_whoever_waits(tmp_path: Path) -> None:
    """The process does not wait for its callers' patience."""
    async with opened(tmp_path, shutdown_seconds=20) as town:
        document = await sent(town)
        waiting = asyncio.create_task(look(town, document, prefer="wait=60"))
        await until(lambda: town.gateway.mailroom.waiters.waiting)
    assert (await asyncio.wait_for(waiting, 20)).status == 200


async def test_a_recall_leaves_what_may_have_arrived(tmp_path: Path) -> None:
    """Of three recipients one has fetched it: the two others lose it, the sender learns which one keeps it."""
    async with opened(tmp_path) as town:
        document = await sent(town, to="/documents", exchange_to="sila,lampang,interior")
        await leased(town, SILA)
        reply = await town.say("POST", f"/documents/{document}/recall")
        again = await town.say("POST", f"/documents/{document}/recall", DESK, {"recipient": "sila"})
        shown = (await look(town, document)).body
        inbox = await leased(town, LAMPANG)
    assert (reply.status, reply.body["state"], reply.body["kept"]) == (200, "recalled", ["sila"])
    assert (again.status, again.body["code"]) == (409, "document.may_have_arrived")
    assert shown["summary"] == {"of": 3, "recalled": 2, "arrived": 1}
    assert inbox["documents"] == []


async def test_a_recall_again_gives_the_same_receipt(tmp_path: Path) -> None:
    """Twice the same answer; after another end it is refused."""
    async with opened(tmp_path) as town:
        document = await sent(town)
        first = await town.say("POST", f"/documents/{document}/recall")
        second = await town.say("POST", f"/documents/{document}/recall")
    assert first.body == second.body
    assert claims_of(first.body["receipt"])["state"] == "recalled"


async def test_lists_are_newest_first_and_paged(tmp_path: Path) -> None:
    """Every document once, page after page, for the sender and for the recipient."""
    async with opened(tmp_path) as town:
        documents = [await sent(town) for _ in range(5)]
        for role, system in (("sent", DESK), ("received", REGISTER)):
            found: list[str] = []
            after: str | None = ""
            while after is not None:
                path = f"/documents?role={role}&max=2" + (f"&after={after}" if after else "")
                page = (await town.say("GET", path, system)).body
                found += [each["document"] for each in page["documents"]]
                after = page["next"]
            assert found == documents[::-1]


WANTED = {
    "state=recalled": [1],
    "state=arrived": [2, 0],
    "service=letters.official_letter.v1": [2, 1, 0],
    "service=disaster.alert.v1": [],
    "since=2020-01-01T00:00:00Z": [2, 1, 0],
    "since=2199-01-01T00:00:00%2B07:00": [],
}


@pytest.mark.parametrize("query", WANTED)
async def test_lists_are_narrowed(tmp_path: Path, query: str) -> None:
    """By state, service and time."""
    async with opened(tmp_path) as town:
        documents = [await sent(town, exchange_case=f"C-{place}") for place in range(3)]
        await town.say("POST", f"/documents/{documents[1]}/recall")
        found = (await town.say("GET", f"/documents?{query}")).body["documents"]
    assert [each["document"] for each in found] == [documents[place] for place in WANTED[query]]


async def test_a_case_is_asked_for_by_its_header(tmp_path: Path) -> None:
    """As in a submission: a case's number may be somebody's, and stands in no address."""
    async with opened(tmp_path) as town:
        documents = [await sent(town, exchange_case=f"C-{place}") for place in range(3)]
        found = (await town.say("GET", "/documents", exchange_case="C-2")).body["documents"]
        refused = await town.say("GET", "/documents?case=C-2")
    assert [each["document"] for each in found] == [documents[2]]
    assert refused.status == 400


@pytest.mark.parametrize(
    "query", ["role=all", "state=lost", "max=0", "max=101", "after=x", "since=today", "name=Dara", "max=1&max=2"]
)
async def test_a_list_that_is_asked_for_wrongly_is_refused(tmp_path: Path, query: str) -> None:
    """The refusal names the parameter and never its value."""
    async with opened(tmp_path) as town:
        reply = await town.say("GET", f"/documents?{query}")
    assert (reply.status, reply.body["code"]) == (400, "request.malformed")
    assert "Dara" not in reply.body["detail"]


async def test_lists_show_nobody_elses_documents(tmp_path: Path) -> None:
    """An agency that neither sent nor got it lists nothing; a withdrawn one leaves the recipient's list."""
    async with opened(tmp_path) as town:
        document = await sent(town)
        lists = [(await town.say("GET", f"/documents?role={role}", LAMPANG)).body for role in ("sent", "received")]
        await town.say("POST", f"/documents/{document}/recall")
        after = (await town.say("GET", "/documents?role=received", REGISTER)).body
    assert [each["documents"] for each in [*lists, after]] == [[], [], []]


async def test_the_publisher_sees_each_subscriber(tmp_path: Path) -> None:
    """An event shows as a document does, one line for each recipient."""
    async with opened(tmp_path) as town:
        document = await sent(town, body=FLOOD, to="/events", service=ALERT, system=ALERTS)
        shown = (await look(town, document, ALERTS)).body
    assert shown["kind"] == "event"
    assert {each["recipient"] for each in shown["recipients"]} == {"sila", "lampang"}


async def test_a_suspended_agency_sees_nothing(tmp_path: Path) -> None:
    """Reading is taking part."""
    async with opened(tmp_path) as town:
        document = await sent(town)
        town.changed(Letters(suspended=frozenset({"saensuk"})))
        reply = await look(town, document)
    assert (reply.status, reply.body["code"]) == (403, "policy.suspended")


async def test_a_recall_takes_the_lane_of_its_receipts_first(tmp_path: Path) -> None:
    """Beside the letter's own, in the order in which everybody takes them: also where then nothing is recalled."""
    receipts = Letters(ways={"saensuk": (way("saensuk", receipts=True),)})
    async with opened(tmp_path, receipts) as town:
        document = await sent(town)
        await leased(town, REGISTER)
        await changed(town, "delete from lanes where recipient = 'saensuk'")
        assert (await town.say("POST", f"/documents/{document}/recall")).status == 409
        assert town.rows("select recipient from lanes order by 1") == [("interior",), ("saensuk",)]


async def test_a_page_tells_nothing_of_documents_that_do_not_show(tmp_path: Path) -> None:
    """Where ``after`` names one of others, or of another system's, it is like one that is not there."""
    async with opened(tmp_path, Letters(by_system=True)) as town:
        await sent(town)
        of_others = await sent(town, to="/documents/lampang", system=SILA)
        on_its_way = await sent(town)  # nobody has fetched it
        await town.say("GET", "/inbox?max=1", REGISTER)
        pages = [await town.say("GET", f"/documents?after={each}") for each in (of_others, NOBODY)]
        pages += [await town.say("GET", f"/documents?after={of_others}", ARCHIVE)]
        pages += [await town.say("GET", f"/documents?after={on_its_way}", system) for system in (ARCHIVE, LAMPANG)]
        own = await town.say("GET", f"/documents?after={on_its_way}")
        await changed(
            town,
            f"update deliveries set state = 'submitted', touched = false where document = '{on_its_way}'",  # noqa: S608 - an id
        )
        before = await town.say("GET", f"/documents?role=received&after={on_its_way}", REGISTER)
    assert {(each.status, each.body["code"], each.body["detail"]) for each in pages} == {
        (400, "request.malformed", "The parameter after must be the value of next on the page before.")
    }
    assert [len(each.body["documents"]) for each in (own, before)] == [1, 1]


@pytest.mark.parametrize(("role", "system"), [("sent", DESK), ("received", REGISTER)])
async def test_a_list_since_an_instant_leaves_out_what_is_older(tmp_path: Path, role: str, system: str) -> None:
    """Also where the first one of them was held for long: its delivery is younger than those of later ones."""
    async with opened(tmp_path) as town:
        old, new = await sent(town), await sent(town)
        await changed(
            town,
            f"update documents set id = '0190{old[4:]}', submitted = submitted - 86400 * 365 where id = '{old}'",  # noqa: S608 - an id
            f"update deliveries set document = '0190{old[4:]}' where document = '{old}'",  # noqa: S608 - the same
        )
        since = (datetime.now(UTC) - timedelta(hours=1)).isoformat().replace("+", "%2B")
        some = (await town.say("GET", f"/documents?role={role}&since={since}", system)).body["documents"]
        every = (await town.say("GET", f"/documents?role={role}", system)).body["documents"]
    assert [each["document"] for each in some] == [new]
    assert len(every) == 2


async def test_nobody_waits_for_an_event_that_goes_to_nobody(tmp_path: Path) -> None:
    """Nothing will happen to it any more: the answer comes at once."""
    async with opened(tmp_path, Letters(subscriptions=())) as town:
        event = await sent(town, body=FLOOD, to="/events", service=ALERT, system=ALERTS)
        async with asyncio.timeout(20):
            shown = await look(town, event, ALERTS, prefer="wait=30")
    assert (shown.status, "Preference-Applied" in shown.headers) == (200, False)


async def test_a_file_shows_as_its_document_does(tmp_path: Path) -> None:
    """Where documents are their systems' own, so are uploads; the agency for which a platform sent may read them."""
    async with opened(tmp_path, Letters(by_system=True)) as town:
        own, passed = await town.upload(b"plan"), await town.upload(b"map", PLATFORM)
        await sent(town, exchange_attachments=own)
        await sent(town, system=PLATFORM, exchange_for="sila", exchange_attachments=passed)
        refused = await town.send(system=ARCHIVE, exchange_attachments=own)
        got = [
            (await town.say("GET", f"/attachments/{file}", system)).status
            for file, system in ((own, DESK), (own, ARCHIVE), (passed, PLATFORM), (passed, SILA), (passed, LAMPANG))
        ]
    assert got == [200, 404, 200, 200, 404]
    assert refused.status in (403, 404)


async def test_what_is_left_of_a_document_is_shown_and_can_end(tmp_path: Path) -> None:
    """Its time has passed: body and head are gone. It is looked at, registered, and the receipt reaches its sender."""
    back = Letters(ways={"saensuk": (way("saensuk", receipts=True),)})
    async with founded(tmp_path) as town:
        async with town.serving(back):
            document = await sent(town, exchange_case="2026/17")
            said = {"outcome": "retrieved", "lease": (await leased(town, REGISTER))["lease"]}
            assert (await town.say("POST", f"/inbox/{document}", REGISTER, said)).status == 200
        with sqlite3.connect(town.place) as base:
            base.execute("update documents set body = null, head = x''")
        async with town.serving(back):
            said = {"outcome": "registered", "number": "R-7"}
            assert (await town.say("POST", f"/inbox/{document}", REGISTER, said)).status == 200
            shown = (await look(town, document)).body
            receipt = (await leased(town, DESK))["documents"][-1]
    assert (shown["state"], shown["recipients"][0]["number"], shown["attachments"]) == ("registered", "R-7", [])
    assert (receipt["kind"], receipt["body"]["state"], receipt["document"]) == ("receipt", "registered", document)
