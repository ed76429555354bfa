"""One exchange end to end: what leaves, what is written down before it leaves, and what never does."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from aiohttp import web

from gateway.client import GatewayClient, Pace
from gateway.core.model import Obligation, Standing
from gateway.edge import archive
from tests.fakes import idp
from tests.fakes.parties import CHANGE, IDP, LOOK_UP, MOVED, PERSON, PURPOSE, RECORD, TAX, Terms
from tests.fakes.town import Entry, Reply, Town, after, answers, opened, until, usual

RELEASED = {"identifier": RECORD["identifier"], "name": RECORD["name"], "address": {"city": "Phnom Penh"}}
MARK = "Marked-7f3a"
TODAY = datetime.now(UTC).date()


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with opened(tmp_path) as town:
        yield town


async def look_up(town: Town, **headers: str | None) -> Reply:
    return await town.call(TAX, LOOK_UP, PERSON, agency="interior", **headers)


def entry_of(town: Town, reply: Reply) -> Entry:
    (entry,) = town.entries(reply.headers["Exchange-Id"])
    return entry


def proven(entry: Entry, **bodies: bytes) -> bool:
    """Whether the entry's digests are those of exactly these bodies."""
    salts = entry.particulars["salts"]
    digests = {name: hashlib.sha256(bytes.fromhex(salts[name]) + body).hexdigest() for name, body in bodies.items()}
    return bool(entry.facts["digests"] == digests)


async def test_an_answer_is_cut_to_what_the_agreement_discloses(town: Town) -> None:
    """The provider gave the whole record; the consumer gets the members that were agreed, and nothing else."""
    reply = await look_up(town)
    assert (reply.status, reply.body) == (200, RELEASED)
    assert reply.headers["Content-Type"] == "application/json"


async def test_the_entry_of_a_permitted_call(town: Town) -> None:
    """Who, for what, on which agreement, with what outcome; and digests that prove all four bodies."""
    reply = await look_up(town, exchange_case="T 1", exchange_user="clerk 7")
    entry = entry_of(town, reply)
    facts = {name: entry.facts[name] for name in ("step", "consumer", "provider", "service", "agreement", "purpose")}
    assert list(facts.values()) == ["answered", TAX, "interior", LOOK_UP, "MOI-FIN-2024-014", PURPOSE]
    assert (entry.facts["status"], entry.facts["legal_basis"]) == (200, "Town Act, article 1")
    assert (entry.particulars["case"], entry.particulars["user"]) == ("T 1", "clerk 7")
    asked, provided = orjson.dumps(PERSON), json.dumps(RECORD).encode()
    assert town.office.seen[0].body == asked
    assert proven(entry, received=asked, sent=asked, provided=provided, released=reply.raw)


async def test_the_entry_of_a_refused_call(town: Town) -> None:
    """A refusal by policy has its code and agreement; the body was not read, so that only the answer is proven."""
    reply = await look_up(town, exchange_purpose="statistics")
    entry = entry_of(town, reply)
    assert (entry.facts["step"], entry.facts["code"], entry.facts["status"]) == ("refused", "policy.purpose", 403)
    assert (entry.facts["agreement"], entry.facts["purpose"]) == ("MOI-FIN-2024-014", "unknown")
    assert entry.particulars["said"] == {"purpose": "statistics"}
    assert proven(entry, released=reply.raw)


@pytest.mark.parametrize("status", [404, 422, 500, 503])
async def test_the_entry_of_a_failed_call_proves_what_was_sent(tmp_path: Path, status: int) -> None:
    """Under a mapping the provider gets another body than was received; both are proven, and what came back."""
    async with opened(tmp_path, Terms(options={"request": {"/number": "/identifier"}})) as town:
        town.office.react = answers({"reason": MARK}, status)
        reply = await look_up(town)
    sent, provided = b'{"number":"KH-90010001"}', json.dumps({"reason": MARK}).encode()
    assert town.office.seen[0].body == sent
    bodies = {"received": orjson.dumps(PERSON), "sent": sent, "provided": provided, "released": reply.raw}
    assert proven(entry_of(town, reply), **bodies)


async def test_nothing_is_proven_sent_that_never_left(town: Town) -> None:
    """A refused connection leaves no digest of what was sent."""
    await town.office.shut()
    reply = await look_up(town)
    assert proven(entry_of(town, reply), received=orjson.dumps(PERSON), released=reply.raw)


async def test_no_entry_has_a_personal_value(town: Town) -> None:
    """Identifiers, names, cases, users and keys stand in no entry; beside it the person is a pseudonym, the same."""
    await look_up(town, exchange_case="Case-77", exchange_user="User-88")
    await look_up(town, exchange_case="Case-77", exchange_purpose="statistics")
    await town.call(TAX, CHANGE, MOVED, idempotency_key='"Key-99"', exchange_user="User-88")
    await town.call(TAX, LOOK_UP, {"identifier": "Sok Dara"})
    everything = b"".join(entry.kept.entry for entry in town.entries())
    for value in (b"90010001", b"Sok Dara", b"Phnom Penh", b"Battambang", b"Case-77", b"User-88", b"Key-99"):
        assert value not in everything
    about = [entry for entry in town.entries() if "subjects" in entry.particulars]
    assert len(about) == 3
    assert len({pseudonym for entry in about for pseudonym in entry.particulars["subjects"]}) == 1
    assert b"90010001" not in b"".join(entry.kept.particulars or b"" for entry in about)


async def test_the_answer_names_its_entry(town: Town) -> None:
    """Exchange-Entry is the writer, the number and the leaf hash of what is stored; the whole journal checks."""
    for purpose in (PURPOSE, "statistics"):
        reply = await look_up(town, exchange_purpose=purpose)
        kept = entry_of(town, reply).kept
        assert reply.headers["Exchange-Entry"] == f"{kept.writer}.{kept.n} {kept.leaf.hex()}"
        assert kept.leaf == hashlib.sha256(b"\0" + kept.entry).digest()
    assert archive.check(town.database).faults == ()


@pytest.mark.parametrize("purpose", [PURPOSE, "statistics"], ids=["permitted", "refused"])
async def test_nothing_leaves_before_its_entry_is_durable(town: Town, purpose: str) -> None:
    """While the commit is held the answer does not come, though the gateway answers everything else."""
    await town.token(TAX)
    before = len(town.entries())
    town.valve.gate.clear()
    call = asyncio.create_task(look_up(town, exchange_purpose=purpose))
    await town.valve.holding.wait()
    for _ in range(5):
        assert (await town.ask("GET", "/docs/refusals")).status == 200
    assert (call.done(), len(town.entries())) == (False, before)
    town.valve.gate.set()
    assert (await call).headers["Exchange-Entry"].startswith(f"{town.entries()[-1].facts['entry']} ")


def _plain(raw: bytes) -> Any:
    async def react(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=raw, content_type="application/json", headers={"X-Note": MARK})

    return react


WRONG = {
    "a member too many": answers({**RECORD, MARK: MARK}),
    "every value": answers({"identifier": MARK, "name": [MARK], "birth_date": MARK, "address": {"city": {MARK: 1}}}),
    "an address in an address": answers({**RECORD, "name": MARK, "address": {"city": MARK, MARK: {MARK: MARK}}}),
    "a list": answers([{**RECORD, "name": MARK}]),
    "a text": answers(MARK),
    "no JSON": _plain(MARK.encode()),
    "the same name twice": _plain(b'{"name": "%s", "name": "%s"}' % (MARK.encode(), MARK.encode())),
    "nothing": _plain(b""),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_nothing_of_a_wrong_answer_leaves(town: Town, wrong: str, caplog: pytest.LogCaptureFixture) -> None:
    """Under enforce no name and no value of it is in the answer, a log line, a metric or the journal."""
    town.office.react = WRONG[wrong]
    with structlog.testing.capture_logs() as lines:
        reply = await look_up(town)
    entry = entry_of(town, reply)
    assert (reply.status, reply.body["code"]) == (502, "provider.wrong_answer")
    assert "exchange" in {line["event"] for line in lines}
    for shown in (reply, lines, caplog.text, await town.metrics(), entry):
        assert MARK not in str(shown)


async def test_a_withheld_answer_is_counted(town: Town) -> None:
    """A deviation from the schema is counted and logged with the rules that it breaks."""
    town.office.react = answers({**RECORD, "name": 7})
    with structlog.testing.capture_logs() as lines:
        await look_up(town)
    labels = f'{{mode="withheld",provider="interior",service="{LOOK_UP}"}}'
    assert (await town.metrics())[f"gateway_answer_deviations_total{labels}"] == 1
    (deviation,) = [line for line in lines if line["event"] == "answer_deviates"]
    assert deviation["rules"] == ("/properties/name/type",)


async def test_a_reported_answer_leaves_minimised_and_counted(tmp_path: Path) -> None:
    """Until the date a wrong answer passes, cut as ever, and the deviation is a figure of data quality."""
    async with opened(tmp_path, Terms(report_until=TODAY + timedelta(days=1))) as town:
        town.office.react = answers({**RECORD, "name": 7, MARK: MARK, "address": {"city": "Kep", MARK: 1}})
        reply = await look_up(town)
        metrics = await town.metrics()
    assert (reply.status, reply.body) == (200, {**RELEASED, "name": 7, "address": {"city": "Kep"}})
    labels = f'{{mode="reported",provider="interior",service="{LOOK_UP}"}}'
    assert metrics[f"gateway_answer_deviations_total{labels}"] == 1


async def test_reporting_ends(tmp_path: Path) -> None:
    """After the date the same answer is withheld."""
    async with opened(tmp_path, Terms(report_until=TODAY - timedelta(days=1))) as town:
        town.office.react = answers({**RECORD, "name": 7})
        assert (await look_up(town)).body["code"] == "provider.wrong_answer"


async def test_what_the_provider_is_told(town: Town) -> None:
    """It learns the exchange, purpose, consumer and case, and goes on with the trace; never the token or the user."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    reply = await look_up(town, traceparent=trace, exchange_case="T 1", exchange_user="clerk 7")
    told = town.office.seen[0].headers
    assert told["traceparent"] == reply.headers["traceparent"]
    assert (told["traceparent"][:36], told["traceparent"][-2:]) == (trace[:36], "01")
    assert told["traceparent"] != trace
    assert told["Exchange-Id"] == reply.headers["Exchange-Id"]
    assert (told["Exchange-Consumer"], told["Exchange-Purpose"], told["Exchange-Case"]) == (TAX, PURPOSE, "T 1")
    assert not {"Authorization", "Exchange-User", "Cookie"} & set(told)


async def test_a_broken_trace_is_begun_anew(town: Town) -> None:
    """What is no traceparent is not passed on (W3C Trace Context, section 3.2)."""
    await look_up(town, traceparent="00-zz-1-01")
    assert "zz" not in town.office.seen[0].headers["traceparent"]


@pytest.mark.parametrize("status", [301, 400, 401, 404, 409, 410, 418, 422, 429, 500, 503])
async def test_a_providers_error_is_its_own(town: Town, status: int) -> None:
    """Neither the body nor a header of a provider's error passes on; what it means is a code of ours."""
    town.office.react = answers(
        {"name": MARK}, status, Location=f"http://{MARK}", Set_Cookie=MARK, WWW_Authenticate=MARK
    )
    reply = await look_up(town)
    assert reply.body["code"].startswith("provider.")
    assert MARK not in str(reply)
    assert len(town.office.seen) == 1


async def test_a_providers_headers_stay_with_it(town: Town) -> None:
    """Nothing beside the body passes on of a good answer either."""
    town.office.react = answers(RECORD, Set_Cookie=f"a={MARK}", X_Note=MARK, Cache_Control="public")
    reply = await look_up(town)
    assert (reply.status, MARK in str(reply), reply.headers.get("Cache-Control")) == (200, False, None)


def asserted(town: Town, by: idp.Key | None = None) -> str:
    now = time.time()
    return (by or town.keys[IDP]).sign(idp.person_claims(iss=IDP, exp=now + 60, unit="registry"), typ="JWT")


async def test_an_asserted_person_counts_as_the_user(tmp_path: Path) -> None:
    """Where a user is required a verified assertion is enough; the person stands beside the entry."""
    async with opened(tmp_path, Terms(require=frozenset({Obligation.USER}))) as town:
        without = await look_up(town)
        reply = await look_up(town, exchange_user_assertion=asserted(town))
        assert (without.body["code"], reply.status) == ("policy.obligation", 200)
        person = entry_of(town, reply).particulars["person"]
    assert person == {"issuer": IDP, "subject": "clerk-17", "post": "registrar", "unit": "registry"}


async def test_a_false_person_is_no_person(town: Town) -> None:
    """An assertion that is given must hold, also where none is required."""
    reply = await look_up(town, exchange_user_assertion=asserted(town, idp.key()))
    assert (reply.status, reply.body["code"]) == (401, "identity.invalid")


async def test_refusals_before_identity_are_one_entry_a_minute(town: Town) -> None:
    """Anonymous callers cannot fill the journal: they are counted at once and written down together."""
    before = len(town.entries())
    for authorization in (None, None, None, "Bearer x.y.z", "Bearer x.y.z"):
        await town.call(None, LOOK_UP, PERSON, authorization=authorization)
    metrics = await town.metrics()
    assert len(town.entries()) == before
    await town.upkeep(minute=True)
    await town.upkeep(minute=True)
    (entry,) = town.entries()[before:]
    assert entry.facts["refusals"] == {"identity.missing": 3, "identity.invalid": 2}
    assert entry.facts["step"] == "unidentified"
    assert metrics['gateway_refusals_total{code="identity.missing"}'] == 3


@pytest.mark.parametrize(
    ("standing", "code"), [(Standing.REVOKED, "identity.revoked"), (Standing.SUSPENDED, "policy.suspended")]
)
async def test_a_verified_token_is_no_standing_permit(town: Town, standing: Standing, code: str) -> None:
    """The cache remembers the proof alone: whose system is revoked or suspended is refused with its next call."""
    assert (await look_up(town)).status == 200
    town.agree(Terms(tax_office=standing))
    assert (await look_up(town)).body["code"] == code


@pytest.mark.parametrize(
    ("name", "code"), [("Exchange-Purpose", "request.malformed"), ("Authorization", "identity.invalid")]
)
async def test_a_header_that_comes_twice_is_two_stories(town: Town, name: str, code: str) -> None:
    """Two readers might believe one each, so nobody believes either."""
    given = {"Authorization": f"Bearer {await town.token(TAX)}", "Exchange-Purpose": PURPOSE}
    twice = [*given.items(), (name, given[name]), ("Content-Type", "application/json")]
    reply = await town.ask("POST", f"/v1/exchange/interior/{LOOK_UP}", twice, orjson.dumps(PERSON))
    assert reply.body["code"] == code


async def test_strange_characters_spoil_nobodys_batch(town: Town) -> None:
    """A zero character passes, half of a surrogate pair is refused, and those who share the batch are answered."""
    await town.token(TAX)
    bodies = [orjson.dumps({**MOVED, "city": "\0"}), rb'{"identifier": "KH-90010001", "city": "\ud800"}']
    bodies += [orjson.dumps(MOVED)] * 30
    calls = (town.call(TAX, CHANGE, body, idempotency_key=f'"k{n}"') for n, body in enumerate(bodies))
    statuses = [reply.status for reply in await asyncio.gather(*calls)]
    assert statuses == [200, 400, *[200] * 30]
    assert archive.check(town.database).faults == ()


async def test_the_client_and_the_gateway_understand_each_other(town: Town) -> None:
    """gateway.client gets its token and its answer from the real thing."""
    key = town.keys[TAX]
    private = {**key.private, "kid": key.thumbprint}
    async with GatewayClient(town.at.public, client_id=TAX, key=private, pace=Pace(attempts=1)) as client:
        answer = await client.exchange("interior", LOOK_UP, PERSON, purpose=PURPOSE)
    assert (answer.body, answer.exchange) == (RELEASED, town.entries()[-1].facts["exchange"])


async def test_what_runs_is_finished_before_the_gateway_stops(tmp_path: Path) -> None:
    """A stop waits for the exchange in hand, whose entry comes before that of the stop."""
    release = asyncio.Event()
    async with opened(tmp_path, shutdown_seconds=5) as town:
        town.office.react = after(release, usual)
        call = asyncio.create_task(look_up(town))
        await town.office.arrived.acquire()
        asyncio.get_running_loop().call_soon(release.set)
    assert (await call).status == 200
    assert [entry.facts.get("what") or entry.facts["step"] for entry in town.entries()] == ["start", "answered", "stop"]


async def test_a_caller_that_goes_away_leaves_its_entry(town: Town) -> None:
    """Who hangs up while the provider works is journaled all the same, and holds no place."""
    release = asyncio.Event()
    town.office.react = after(release, usual)
    call = asyncio.create_task(look_up(town))
    await town.office.arrived.acquire()
    call.cancel()
    release.set()
    await until(lambda: not town.gateway.exchanges.in_progress)
    assert town.entries()[-1].facts["step"] == "answered"
