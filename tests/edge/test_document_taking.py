"""Documents and events are taken in: once, durably, for those who may, with a receipt of the true state."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Obligation, Standing
from gateway.edge.documents import bounds
from gateway.edge.documents.records import own_lane
from gateway.edge.documents.sweeping import self_check
from tests.fakes.correspondents import (
    ALERT,
    ALERTS,
    CORRECTION,
    DESK,
    FLOOD,
    LAMPANG,
    LETTER,
    PLATFORM,
    POLITE,
    PURPOSE,
    SECRET,
    SILA,
    TEXT,
    Letters,
    way,
)
from tests.fakes.post_office import claims_of, founded, opened, slowly
from tests.fakes.town import until

BODY = b'{"subject":"Drainage"}'


async def test_a_document_is_taken_in_with_a_receipt(tmp_path: Path) -> None:
    """202 names document and recipients, and its receipt says the same under the sender's reference."""
    async with opened(tmp_path) as town:
        reply = await town.send(idempotency_key="OUT-1")
        (entry,) = [each for each in town.entries() if each.facts["step"] == "submitted"]
    told, receipt = reply.body, claims_of(reply.body["receipt"])
    assert (reply.status, told["state"], told["recipients"]) == (202, "submitted", ["interior"])
    assert reply.headers["Location"] == f"/v1/documents/{told['document']}"
    assert (receipt["document"], receipt["reference"], receipt["sender"]) == (told["document"], "OUT-1", DESK)
    assert (
        reply.headers["Exchange-Entry"]
        == receipt["entry"]
        == str(f"{entry.kept.writer}.{entry.kept.n} {entry.kept.leaf.hex()}")
    )
    assert (entry.facts["exchange"], entry.facts["agreement"]) == (reply.headers["Exchange-Id"], "LETTERS-INTERIOR")


async def test_bodies_and_heads_are_kept_sealed(tmp_path: Path) -> None:
    """The database holds a body nowhere, and case and user in the journal's particulars alone."""
    async with opened(tmp_path) as town:
        body = {"subject": "secret subject", "case": "secret case"}
        assert (await town.send(body, exchange_case="secret-case-7", exchange_user="secret.user")).status == 202
        kept = str(town.rows("select * from documents, deliveries, lanes, steps"))
        everything = str([*kept, *town.entries()])
    assert "secret subject" not in everything
    assert "secret" not in kept


@pytest.mark.parametrize("to", ["/documents/interior", "/documents"])
async def test_the_same_reference_again_gets_the_same_receipt(tmp_path: Path, to: str) -> None:
    """Once more, and after a restart: the same document, receipt and recipients, marked as a repetition."""
    said: dict[str, Any] = {
        "to": to,
        "idempotency_key": "OUT-1",
        "exchange_to": None if "interior" in to else "sila, interior",
    }
    async with founded(tmp_path) as town:
        async with town.serving():
            first, second = await town.send(**said), await town.send(**said)
        async with town.serving():
            third = await town.send(**said)
            assert town.rows("select count(*) from documents") == [(1,)]
    assert first.status == second.status == third.status == 202
    assert first.body == second.body == third.body
    assert [each.headers.get("Exchange-Replayed") for each in (first, second, third)] == [None, "?1", "?1"]


async def test_the_same_reference_at_the_same_time_is_one_document(tmp_path: Path) -> None:
    """Twenty at once: one is taken in, all get its receipt."""
    async with opened(tmp_path) as town:
        await town.token(DESK)
        replies = await asyncio.gather(*(town.send(idempotency_key="OUT-1") for _ in range(20)))
        assert town.rows("select count(*) from documents") == [(1,)]
    assert {reply.status for reply in replies} == {202}
    assert len({reply.body["receipt"] for reply in replies}) == 1
    assert sum("Exchange-Replayed" in reply.headers for reply in replies) == 19


OTHERS: dict[str, dict[str, Any]] = {
    "body": {"body": {**TEXT, "subject": "Roads"}},
    "spelling": {"body": b'{"case": "2026-17", "subject": "Drainage", "citizen": "KH-90010001" }'},
    "target": {"to": "/documents/lampang"},
    "case": {"exchange_case": "another"},
}


@pytest.mark.parametrize("other", OTHERS)
async def test_another_document_under_the_reference_is_refused(tmp_path: Path, other: str) -> None:
    """Another body, target or case is 422; the first stays what it was."""
    async with opened(tmp_path) as town:
        await town.send(idempotency_key="OUT-1")
        reply = await town.send(**{"idempotency_key": "OUT-1", **OTHERS[other]})
    assert (reply.status, reply.body["code"]) == (422, "idempotency.reused")


ENDED = {
    "ended": replace(POLITE, until=2025),
    "suspended": replace(POLITE, standing=Standing.SUSPENDED),
    "gone": replace(POLITE, takers=()),
    "not served": replace(POLITE, ways={"interior": ()}),
    "full": replace(POLITE, ways={"interior": (way("interior", max_waiting=0),)}),
}


@pytest.mark.parametrize("ending", ENDED)
async def test_a_known_reference_is_answered_whatever_has_changed_since(tmp_path: Path, ending: str) -> None:
    """Its receipt again after the agreement ended and while the recipient is full; a new one is refused."""
    async with opened(tmp_path) as town:
        first = await town.send(idempotency_key="OUT-1")
        town.changed(ENDED[ending])
        again, other = await town.send(idempotency_key="OUT-1"), await town.send(BODY, idempotency_key="OUT-1")
        new = await town.send()
    assert (again.status, again.body) == (202, first.body)
    assert (other.status, other.body["code"]) == (422, "idempotency.reused")
    assert new.status in (403, 404, 503)


async def test_several_addressees_get_one_document(tmp_path: Path) -> None:
    """Names and a group, without the sender itself: one document, one delivery each, in one transaction."""
    async with opened(tmp_path) as town:
        reply = await town.send(to="/documents", exchange_to="interior, group:municipalities, sila")
        assert town.rows("select count(*) from documents") == [(1,)]
        kept = {recipient for (recipient,) in town.rows("select recipient from deliveries where kind = 'document'")}
    assert set(reply.body["recipients"]) == kept == {"interior", "sila", "lampang"}


@pytest.mark.parametrize("to", ["interior, sila, lampang", "group:municipalities"])
async def test_several_addressees_are_all_or_nothing(tmp_path: Path, to: str) -> None:
    """One who has no agreement refuses all of them."""
    async with opened(tmp_path, Letters(takers=("interior", "sila"))) as town:
        reply = await town.send(to="/documents", exchange_to=to)
        assert town.rows("select count(*) from documents") == [(0,)]
    assert (reply.status, reply.body["code"]) == (403, "policy.no_agreement")


async def test_an_event_goes_to_those_whose_agreement_permits_it(tmp_path: Path) -> None:
    """Subscribers by folder and by API, each once; who has no agreement, and the publisher, get none."""
    async with opened(tmp_path, Letters(subscriptions=(SILA,))) as town:
        wish = {"publisher": "interior", "service": ALERT, "purpose": "correspondence"}
        assert (await town.say("POST", "/subscriptions", DESK, wish)).status == 201
        reply = await town.send(FLOOD, "/events", ALERT, ALERTS)
        kept = town.rows("select recipient, subscriber from deliveries order by recipient")
    assert (reply.status, reply.body["recipients"]) == (202, 2)
    assert kept == [("saensuk", DESK), ("sila", SILA)]


async def test_an_event_without_subscribers_is_taken_in(tmp_path: Path) -> None:
    """Nobody is to be told: it is on record all the same."""
    async with opened(tmp_path, Letters(subscriptions=())) as town:
        reply = await town.send(FLOOD, "/events", ALERT, ALERTS)
    assert (reply.status, reply.body["recipients"]) == (202, 0)


async def test_a_platform_sends_for_the_agency_that_mandates_it(tmp_path: Path) -> None:
    """Both names stand in receipt and journal; without a mandate it is refused."""
    async with opened(tmp_path) as town:
        reply = await town.send(system=PLATFORM, exchange_for="sila")
        refused = await town.send(system=PLATFORM, exchange_for="saensuk")
        (entry,) = [each.facts for each in town.entries() if each.facts["step"] == "submitted"]
    receipt = claims_of(reply.body["receipt"])
    assert (receipt["sender"], receipt["on_behalf"]) == (entry["sender"], entry["on_behalf"]) == (PLATFORM, "sila")
    assert (refused.status, refused.body["code"]) == (403, "identity.not_mandated")


async def test_without_its_mandate_a_platform_withdraws_nothing(tmp_path: Path) -> None:
    """After its end it sees where it stands; the agency that it acted for recalls it."""
    async with opened(tmp_path) as town:
        document = (await town.send(system=PLATFORM, exchange_for="sila")).body["document"]
        town.changed(Letters(mandated=2025))
        refused = await town.say("POST", f"/documents/{document}/recall", PLATFORM, {})
        shown = await town.say("GET", f"/documents/{document}", PLATFORM)
        own = await town.say("POST", f"/documents/{document}/recall", SILA, {})
    assert (refused.status, refused.body["code"], shown.status) == (403, "identity.not_mandated", 200)
    assert (own.status, own.body["state"]) == (200, "recalled")


async def test_one_full_recipient_is_refused_and_no_other(tmp_path: Path) -> None:
    """503 with Retry-After for the one over its bound, also among several; its neighbours take more."""
    async with opened(tmp_path, Letters(ways={"sila": (way("sila", max_waiting=2),)})) as town:
        for _ in range(2):
            assert (await town.send(to="/documents/sila")).status == 202
        full, both = (
            await town.send(to="/documents/sila"),
            await town.send(to="/documents", exchange_to="interior,sila"),
        )
        await town.gateway.mailroom.bounds.count()
        counted, other = await town.send(to="/documents/sila"), await town.send()
    assert {reply.body["code"] for reply in (full, both, counted)} == {"recipient.full"}
    assert int(full.headers["Retry-After"]) > 0
    assert other.status == 202


async def test_events_take_no_room_of_letters(tmp_path: Path) -> None:
    """However many events wait for an agency, letters are bounded by letters: four events, a bound of two."""
    async with opened(tmp_path, Letters(ways={"sila": (way("sila", max_waiting=2),)})) as town:
        for _ in range(4):
            assert (await town.send(FLOOD, to="/events", service=ALERT, system=ALERTS)).status == 202
        await town.gateway.mailroom.bounds.count()
        letters = [(await town.send(to="/documents/sila")).status for _ in range(3)]
        events = town.rows("select sum(opened) from lanes where recipient = 'sila' and bound = 'event:interior'")
    assert (letters, events) == ([202, 202, 503], [(4,)])


async def test_receipts_take_no_room_of_letters(tmp_path: Path) -> None:
    """The receipts that an agency has not fetched keep nobody from writing to it."""
    ways = {"saensuk": (way("saensuk", receipts=True, max_waiting=2),)}
    async with opened(tmp_path, Letters(ways=ways)) as town:
        for _ in range(4):
            assert (await town.send()).status == 202
        await town.gateway.mailroom.bounds.count()
        counted = town.gateway.mailroom.bounds.counted
        assert counted["saensuk", "mailbox", "receipt"] == 4
        town.gateway.mailroom.bounds.hold(ways["saensuk"])


async def test_a_subscriber_with_too_many_events_misses_one_and_no_other_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is undeliverable there at once, signed; where there is room it arrives, and letters do."""
    monkeypatch.setattr(bounds, "MAX_EVENTS", 1)
    async with opened(tmp_path, Letters(subscriptions=(SILA,))) as town:
        await town.send(FLOOD, to="/events", service=ALERT, system=ALERTS)
        await town.gateway.mailroom.bounds.count()
        wish = {"publisher": "interior", "service": ALERT, "purpose": PURPOSE}
        assert (await town.say("POST", "/subscriptions", LAMPANG, wish)).status == 201
        sent = (await town.send(FLOOD, to="/events", service=ALERT, system=ALERTS)).body
        page = (await town.say("GET", f"/documents/{sent['document']}", ALERTS)).body
        hidden = await town.say("GET", f"/documents/{sent['document']}", SILA)
        assert await self_check(town.gateway.mailroom.reader) == ()
    states = {each["recipient"]: (each["state"], each["reason"]) for each in page["recipients"]}
    assert states == {"sila": ("undeliverable", "recipient_full"), "lampang": ("arrived", None)}
    assert (sent["recipients"], hidden.status) == (2, 404)
    assert "undeliverable" in {claims_of(each)["state"] for each in page["receipts"]}


async def test_receipts_beyond_their_bound_are_there_to_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing more is sent to an agency that fetches none; the page shows all."""
    monkeypatch.setattr(bounds, "MAX_RECEIPTS", 1)
    async with opened(tmp_path, Letters(ways={"saensuk": (way("saensuk", receipts=True),)})) as town:
        first = await town.send()
        await town.gateway.mailroom.bounds.count()
        second = (await town.send()).body["document"]
        told = town.rows("select document from deliveries where kind = 'receipt'")
        page = (await town.say("GET", f"/documents/{second}")).body
    assert (told, len(page["receipts"])) == ([(first.body["document"],)], 2)


async def test_documents_of_a_case_share_a_lane_and_others_do_not(tmp_path: Path) -> None:
    """Order is kept for one sender's agency, recipient, service and case; its key says nothing of the case."""
    async with opened(tmp_path) as town:
        for case in ("A", "A", "B", None, None):
            body = {"subject": "x", **({"case": case} if case else {})}
            assert (await town.send(body)).status == 202
        await town.send({"subject": "x", "case": "A"}, to="/documents/lampang", system=SILA)
        lanes = sorted(opened for (opened,) in town.rows("select opened from lanes"))
        keys = {key for (key,) in town.rows("select okey from lanes")}
    assert lanes == [1, 1, 1, 1, 2]
    own = {own_lane(document) for (document,) in town.rows("select id from documents")}
    assert len(keys & own) == 2
    assert all(len(bytes.fromhex(key)) == 32 for key in keys - own)


async def test_persons_are_in_the_journal_by_pseudonym_alone(tmp_path: Path) -> None:
    """The entry's particulars name the citizen by pseudonym, and the log line and metrics nobody."""
    async with opened(tmp_path) as town:
        await town.send(exchange_case="C-1", exchange_user="dara")
        (entry,) = [each for each in town.entries() if each.facts["step"] == "submitted"]
        await town.gateway.mailroom.bounds.count()
        await town.gateway.mailroom.gauges.look()
        metrics = (await town.ask("GET", f"{town.at.operations}/metrics")).raw.decode()
    assert (entry.particulars["case"], entry.particulars["user"], len(entry.particulars["subjects"])) == (
        "C-1",
        "dara",
        1,
    )
    assert "KH-90010001" not in str(entry.particulars) + str(entry.facts) + metrics
    assert f'gateway_documents_total{{service="{LETTER}",step="submitted"}} 1.0' in metrics
    assert 'gateway_documents_waiting{recipient="interior",way="mailbox"} 1.0' in metrics
    assert 'gateway_documents_oldest_seconds{recipient="interior"}' in metrics


ORDER: list[tuple[str, dict[str, Any], Letters]] = [
    ("catalogue.unknown", {"service": "letters"}, POLITE),
    ("identity.missing", {"system": None}, POLITE),
    ("catalogue.unknown", {"service": "letters.unheard_of.v1"}, POLITE),
    ("catalogue.unknown", {"service": SECRET}, POLITE),
    ("catalogue.unknown", {"service": ALERT}, POLITE),
    ("request.malformed", {"exchange_purpose": None}, POLITE),
    ("request.malformed", {"exchange_attachments": "not an id"}, POLITE),
    ("request.malformed", {"exchange_to": "sila"}, POLITE),
    ("policy.expired", {}, Letters(until=2025)),
    ("policy.purpose", {"exchange_purpose": "curiosity"}, POLITE),
    ("policy.obligation", {}, Letters(require=frozenset({Obligation.CASE}))),
    ("policy.obligation", {"service": CORRECTION}, POLITE),
    ("recipient.full", {}, Letters(ways={"interior": (way("interior", max_waiting=0),)})),
    ("request.too_large", {"body": b" " * 5000}, POLITE),
    ("request.media_type", {"content_type": "text/plain"}, POLITE),
    ("request.malformed", {"body": b"{"}, POLITE),
    ("shape.request", {"body": {"subject": 1}}, POLITE),
    ("attachment.unknown", {"exchange_attachments": "01a20181-268c-7e58-8061-9596f9fcd137"}, POLITE),
    ("idempotency.key_missing", {"idempotency_key": None}, POLITE),
]


@pytest.mark.parametrize("place", range(len(ORDER)))
async def test_the_first_check_that_fails_answers(tmp_path: Path, place: int) -> None:
    """Each refusal comes, though everything that is checked later is wrong too, and nothing is kept."""
    code, wrong, letters = ORDER[place]
    later = {"body": b"{", "content_type": "text/plain", "idempotency_key": None} if place < 13 else {}
    async with opened(tmp_path, letters) as town:
        reply = await town.send(**{**later, **wrong})
        assert town.rows("select count(*) from documents") == [(0,)]
    assert reply.body["code"] == code, reply.body
    assert reply.headers["Exchange-Id"] == reply.body["exchange"]
    assert "traceparent" in reply.headers
    assert ("Exchange-Entry" in reply.headers) == (place > 1)


async def test_events_are_published_by_the_systems_that_the_folder_names(tmp_path: Path) -> None:
    """Another system of the publisher, and another agency, are refused."""
    async with opened(tmp_path) as town:
        other = await town.send(FLOOD, "/events", ALERT, "interior.registry")
        stranger = await town.send(FLOOD, "/events", ALERT, SILA)
    assert other.status in (403, 404)
    assert stranger.status in (403, 404)


async def test_nothing_is_taken_in_while_the_database_fails(tmp_path: Path) -> None:
    """503 journal.unavailable, and afterwards the same reference is taken in."""
    async with opened(tmp_path) as town:
        await town.token(DESK)
        town.valve.failing = True
        refused = await town.send(idempotency_key="OUT-1")
        town.valve.failing = False
        await until(lambda: not (town.gateway.mailroom.post.failing or town.gateway.journal.failing))
        taken = await town.send(idempotency_key="OUT-1")
    assert (refused.status, refused.body["code"]) == (503, "journal.unavailable")
    assert "Exchange-Replayed" not in taken.headers


@pytest.mark.parametrize("path", ["/documents/interior/" + LETTER, "/documents/" + LETTER, "/events/" + ALERT])
async def test_another_method_is_told_which_one_it_takes(tmp_path: Path, path: str) -> None:
    """405 names the methods of the address."""
    async with opened(tmp_path) as town:
        reply = await town.say("PUT", path)
    assert (reply.status, reply.body["code"]) == (405, "request.method")
    assert "POST" in reply.headers["Allow"]


async def test_a_publisher_that_is_suspended_while_its_event_comes_tells_nobody(tmp_path: Path) -> None:
    """Also where it would have gone to nobody: who publishes is asked about again."""
    for letters in (POLITE, Letters(subscriptions=())):
        async with opened(tmp_path / str(len(letters.subscriptions)), letters) as town:
            status, said = await slowly(
                town,
                f"/events/{ALERT}",
                ALERTS,
                FLOOD,
                lambda: town.changed(Letters(suspended=frozenset({"interior"}))),
                exchange_purpose=PURPOSE,
                idempotency_key="E-1",
            )
        assert (status, said["code"]) == (403, "policy.suspended")
