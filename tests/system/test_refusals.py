"""Every refusal and fault of exchanges, provoked through HTTP and compared whole with a golden file; and their order.

After a deliberate change: ``GOLDEN=write make test TESTS=tests/system/test_refusals.py``, and read the difference.
"""

import asyncio
import json
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Obligation, Rate, Window
from gateway.core.refusal import TABLE
from tests.fakes import idp
from tests.fakes.parties import ABSENT, CHANGE, ISSUER, LOOK_UP, MAX_BYTES, MOVED, PERSON, PROTECTED, TAX, USUAL, Terms
from tests.fakes.town import Reply, Town, after, answers, cuts, never, opened, usual

GOLDEN = Path(__file__).with_name("refusals")
WRITE = os.environ.get("GOLDEN") == "write"

DESIGN = {
    400: "request.malformed idempotency.key_missing",
    401: "identity.missing identity.invalid identity.expired identity.revoked",
    403: "policy.no_agreement policy.expired policy.suspended policy.purpose policy.scope policy.obligation "
    "identity.not_mandated",
    404: "catalogue.unknown provider.not_found",
    405: "request.method",
    409: "idempotency.running idempotency.outcome_unknown",
    413: "request.too_large",
    415: "request.media_type",
    422: "shape.request idempotency.reused",
    429: "policy.rate policy.quota",
    500: "gateway.broken",
    502: "provider.refused provider.broken provider.wrong_answer",
    503: "identity.unavailable provider.unavailable provider.maintenance gateway.overloaded journal.unavailable",
    504: "provider.timeout",
}
"""The table of DESIGN section 5, with the three codes that were added to it."""

OF_DOCUMENTS = ("document.", "approval.", "attachment.", "recipient.", "subscription.")
"""Provoked in ``test_document_refusals``."""
CODES = [code for code in TABLE if not code.startswith(OF_DOCUMENTS)]

Provoke = Callable[[Town], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Way:
    """How to be refused: what to do, in which town."""

    provoke: Provoke
    terms: Terms = USUAL
    settings: Mapping[str, Any] = field(default_factory=dict)


def look_up(system: str | None = TAX, service: str = LOOK_UP, body: Any = PERSON, **headers: str | None) -> Provoke:
    """One call, wrong by itself."""
    return lambda town: town.call(system, service, body, agency="interior", **headers)


def answered(react: Any) -> Provoke:
    """A good call, which the provider answers badly."""

    async def provoke(town: Town) -> Reply:
        town.office.react = react
        return await town.call(TAX, LOOK_UP, PERSON)

    return provoke


def with_token(token: Callable[[Town], str]) -> Provoke:
    """A call with a token of somebody's making."""
    return lambda town: town.call(None, LOOK_UP, PERSON, authorization=f"Bearer {token(town)}")


def foreign(issuer: str, system: str) -> str:
    """A token that says all the right things, by a key that nobody published."""
    now = time.time()
    said = idp.access_claims(iss=issuer, sub=system, client_id=system, client_key="x", iat=now, exp=now + 60)
    return idp.key().sign(said, typ="at+jwt")


def twice(second: Mapping[str, Any] = PERSON, service: str = LOOK_UP) -> Provoke:
    """A good call, and then another one."""

    async def provoke(town: Town) -> Reply:
        first = await town.call(TAX, service, MOVED if service == CHANGE else PERSON, idempotency_key='"k"')
        assert first.status == 200
        return await town.call(TAX, service, second, idempotency_key='"k"')

    return provoke


def meanwhile(service: str, body: Mapping[str, Any]) -> Provoke:
    """The same call while the first one still waits for the provider."""

    async def provoke(town: Town) -> Reply:
        release = asyncio.Event()
        town.office.react = after(release, usual)
        first = asyncio.create_task(town.call(TAX, service, body, idempotency_key='"k"'))
        await town.office.arrived.acquire()
        second = await town.call(TAX, service, body, idempotency_key='"k"')
        release.set()
        assert (await first).status == 200
        return second

    return provoke


async def without_scope(town: Town) -> Reply:
    token = await town.token(TAX, "population:write")
    return await town.call(TAX, LOOK_UP, PERSON, authorization=f"Bearer {token}")


async def unknown_outcome(town: Town) -> Reply:
    town.office.react = cuts
    first = await town.call(TAX, CHANGE, MOVED, idempotency_key='"k"')
    assert first.body["code"] == "provider.broken"
    town.office.react = usual
    return await town.call(TAX, CHANGE, MOVED, idempotency_key='"k"')


async def unwritten(town: Town) -> Reply:
    town.valve.failing = True
    return await town.call(TAX, LOOK_UP, PERSON, authorization=f"Bearer {town.crafted(TAX, scope='population:read')}")


async def mistaken(town: Town) -> Reply:
    await town.token(TAX)
    town.valve.mistakes = 1
    return await town.call(TAX, LOOK_UP, PERSON)


FOR_AGES = Window(datetime(2020, 1, 1, tzinfo=UTC), datetime(2199, 1, 1, tzinfo=UTC))

WAYS: Mapping[str, Way] = {
    "request.malformed": Way(look_up(body=b'{"identifier": "KH-90010001", "identifier": 1}')),
    "idempotency.key_missing": Way(look_up(service=CHANGE, body=MOVED)),
    "identity.missing": Way(look_up(system=None)),
    "identity.invalid": Way(with_token(lambda _: foreign(ISSUER, TAX))),
    "identity.expired": Way(with_token(lambda town: town.crafted(TAX, exp=time.time() - 1))),
    "identity.revoked": Way(with_token(lambda town: town.crafted("finance.old_desk"))),
    "identity.unavailable": Way(with_token(lambda _: foreign(ABSENT, "justice.courts"))),
    "policy.no_agreement": Way(look_up("finance.audit_office")),
    "policy.expired": Way(look_up("saensuk.front_desk")),
    "policy.suspended": Way(look_up("lampang.front_desk")),
    "policy.purpose": Way(look_up(exchange_purpose="statistics")),
    "policy.scope": Way(without_scope),
    "policy.obligation": Way(look_up(), Terms(require=frozenset({Obligation.CASE, Obligation.USER}))),
    "identity.not_mandated": Way(look_up(exchange_for="lampang")),
    "catalogue.unknown": Way(look_up(service=PROTECTED)),
    "provider.not_found": Way(answered(answers("Sok Dara is not here", 404))),
    "request.method": Way(lambda town: town.ask("GET", f"/v1/exchange/interior/{LOOK_UP}")),
    "idempotency.running": Way(meanwhile(CHANGE, MOVED)),
    "idempotency.outcome_unknown": Way(unknown_outcome),
    "request.too_large": Way(look_up(body=b" " * (MAX_BYTES + 1))),
    "request.media_type": Way(look_up(content_type="application/xml")),
    "shape.request": Way(look_up(body={"identifier": "90010001", "reason": "tax"})),
    "idempotency.reused": Way(twice({**MOVED, "city": "Kampot"}, CHANGE)),
    "policy.rate": Way(twice(), Terms(rate=Rate(1, 60.0))),
    "policy.quota": Way(twice(), Terms(quota=1)),
    "provider.refused": Way(answered(answers({"reason": "Sok Dara moved"}, 422))),
    "provider.broken": Way(answered(answers({"trace": "Sok Dara"}, 500))),
    "provider.wrong_answer": Way(answered(answers({"identifier": "Sok Dara"}))),
    "provider.unavailable": Way(answered(answers({"reason": "Sok Dara"}, 503, Retry_After="7"))),
    "provider.maintenance": Way(look_up(), Terms(maintenance=(FOR_AGES,))),
    "gateway.overloaded": Way(meanwhile(LOOK_UP, PERSON), settings={"max_in_progress": 1}),
    "journal.unavailable": Way(unwritten),
    "gateway.broken": Way(mistaken),
    "provider.timeout": Way(answered(never), Terms(deadline=0.1)),
}

TIMED = ("policy.rate", "policy.quota", "provider.maintenance")
"""Their retry_after depends on when it is asked."""
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
FORMS = {
    "Exchange-Id": UUID,
    "Exchange-Entry": re.compile(r"[0-9]+\.[0-9]+ [0-9a-f]{64}"),
    "traceparent": re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]"),
}
TRACE = re.compile(r'(?<="trace":")[0-9a-f]{32}(?=")')
TECHNICAL = ("Date", "Server", "Content-Length")


def shown(reply: Reply) -> dict[str, Any]:
    """The whole answer, with what differs each time named instead."""
    headers = {name: value for name, value in reply.headers.items() if name not in TECHNICAL}
    for name, form in FORMS.items():
        if name in headers:
            assert form.fullmatch(headers[name])
            headers[name] = f"<{name}>"
    body = json.loads(TRACE.sub("<trace>", UUID.sub("<Exchange-Id>", reply.raw.decode())))
    if body["code"] in TIMED:
        headers["Retry-After"] = body["retry_after"] = "<seconds>"
    return {"status": reply.status, "headers": dict(sorted(headers.items())), "body": body}


def test_every_code_has_its_golden_file_and_the_status_of_the_design() -> None:
    """The table of the code, that of the design, the ways to provoke them and the files name the same codes."""
    designed = {code: status for status, codes in DESIGN.items() for code in codes.split()}
    assert {code: TABLE[code].status for code in CODES} == designed
    assert set(WAYS) == set(CODES)
    assert WRITE or {path.stem for path in GOLDEN.glob("*.json")} == set(TABLE)


@pytest.mark.parametrize("code", CODES)
async def test_a_refusal_is_what_its_golden_file_says(tmp_path: Path, code: str) -> None:
    """Status, headers and body of each code, whole; the body names the exchange that the header names."""
    way, golden = WAYS[code], GOLDEN / f"{code}.json"
    async with opened(tmp_path, way.terms, **way.settings) as town:
        reply = await way.provoke(town)
    if WRITE:
        golden.write_text(json.dumps(shown(reply), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    assert shown(reply) == json.loads(golden.read_text(encoding="utf-8"))
    assert reply.body["exchange"] == reply.headers["Exchange-Id"]
    assert reply.body["trace"] == reply.headers.get("traceparent", f"00-{reply.body['trace']}")[3:35]
    assert reply.headers.get("Retry-After", "None") == str(reply.body.get("retry_after"))


@pytest.mark.parametrize("code", [code for code, kind in TABLE.items() if kind.retry])
def test_what_may_succeed_later_says_when(code: str) -> None:
    """Each code that the table says may be retried carries Retry-After in its golden file."""
    assert "Retry-After" in json.loads((GOLDEN / f"{code}.json").read_text(encoding="utf-8"))["headers"]


@dataclass
class Asking:
    """A call about to be made, good so far."""

    system: str | None = TAX
    agency: str = "interior"
    body: Any = field(default_factory=lambda: MOVED)
    headers: dict[str, str | None] = field(default_factory=lambda: {"idempotency_key": '"k2"'})


def _no_address(call: Asking) -> None:
    call.agency = "Interior-1"


def _no_token(call: Asking) -> None:
    call.system = None


def _no_endpoint(call: Asking) -> None:
    call.agency = "lampang" if call.agency == "interior" else call.agency


def _no_head(call: Asking) -> None:
    call.headers["exchange_case"] = "x" * 257


def _no_right(call: Asking) -> None:
    call.headers["exchange_purpose"] = "statistics"


def _too_often(call: Asking) -> None:
    """The only call of the minute was made before."""


def _too_large(call: Asking) -> None:
    call.body = b"x" * (MAX_BYTES + 1)


def _no_json(call: Asking) -> None:
    call.headers["content_type"] = "text/plain"


def _no_body(call: Asking) -> None:
    call.body = call.body if isinstance(call.body, bytes) else b"{"


def _no_shape(call: Asking) -> None:
    call.body = call.body if isinstance(call.body, bytes) else {"city": 7}


def _no_key(call: Asking) -> None:
    call.headers["idempotency_key"] = None


ORDER: tuple[tuple[Callable[[Asking], None], str, str], ...] = (
    (_no_address, "catalogue.unknown", "The address names"),
    (_no_token, "identity.missing", ""),
    (_no_endpoint, "catalogue.unknown", "lampang provides no"),
    (_no_head, "request.malformed", "Exchange-Case"),
    (_no_right, "policy.purpose", ""),
    (_too_often, "policy.rate", ""),
    (_too_large, "request.too_large", ""),
    (_no_json, "request.media_type", ""),
    (_no_body, "request.malformed", "The body is"),
    (_no_shape, "shape.request", ""),
    (_no_key, "idempotency.key_missing", ""),
)
"""How to be wrong at each check, in the order of DESIGN section 5, and how its refusal is known."""


async def _asked(town: Town, wrongs: tuple[Callable[[Asking], None], ...]) -> Reply:
    call = Asking()
    for wrong in wrongs:
        wrong(call)
    if _too_often in wrongs:
        assert (await town.call(TAX, CHANGE, MOVED, idempotency_key='"k1"')).status == 200
    return await town.call(call.system, CHANGE, call.body, agency=call.agency, **call.headers)


@pytest.mark.parametrize(("first", "second"), list(pairwise(ORDER)), ids=lambda row: row[0].__name__)
async def test_the_earlier_check_answers(tmp_path: Path, first: Any, second: Any) -> None:
    """A call that is wrong in two ways gets the refusal of the check that comes first; by itself, each gets its own."""
    async with opened(tmp_path, Terms(rate=Rate(1, 60.0))) as town:
        both = await _asked(town, (first[0], second[0]))
    async with opened(tmp_path / "alone", Terms(rate=Rate(1, 60.0))) as town:
        alone = await _asked(town, (second[0],))
    assert (both.body["code"], both.body["detail"][: len(first[2])]) == first[1:]
    assert (alone.body["code"], alone.body["detail"][: len(second[2])]) == second[1:]


async def test_a_call_that_is_wrong_in_every_way_is_put_right_one_check_after_the_other(tmp_path: Path) -> None:
    """Each mistake that is mended brings the next check's refusal."""
    wrongs = tuple(row[0] for row in ORDER)
    async with opened(tmp_path, Terms(rate=Rate(1, 60.0))) as town:
        assert (await town.call(TAX, CHANGE, MOVED, idempotency_key='"k1"')).status == 200
        for place, (_, code, _) in enumerate(ORDER[:6]):
            left = tuple(wrong for wrong in wrongs[place:] if wrong is not _too_often)
            assert (await _asked(town, left)).body["code"] == code


async def test_what_is_restricted_looks_like_what_does_not_exist(tmp_path: Path) -> None:
    """Only the names that the caller itself sent differ between the two answers."""
    async with opened(tmp_path) as town:
        hidden = await town.call(TAX, PROTECTED, PERSON)
        absent = await town.call(TAX, "population.nothing_here.v1", PERSON)
    same = json.dumps(shown(hidden)).replace(PROTECTED, "population.nothing_here.v1")
    assert json.loads(same) == shown(absent)
