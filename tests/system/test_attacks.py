"""Attacks on the running gateway: messages hidden in messages, spellings of an address, one proof used twice."""

import asyncio
import re
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest
import structlog
from aiohttp import web

from gateway.edge import body
from tests.fakes import idp
from tests.fakes.parties import CHANGE, IDP, ISSUER, LOOK_UP, MOVED, PERSON, PURPOSE, TAX
from tests.fakes.town import Town, founded, opened

MARK = "Marked-9c1e"
BODY = orjson.dumps(PERSON)
LENGTH = f"Content-Length: {len(BODY)}"
TARGET = f"/v1/exchange/interior/{LOOK_UP}"
LAST = b"GET /nowhere HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n"
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with opened(tmp_path) as town:
        yield town


async def statuses(town: Town, said: bytes) -> list[int]:
    """Of every answer on one connection until the gateway closes it, ``said`` being all that it is sent."""
    to = urlsplit(town.at.public)
    reader, writer = await asyncio.open_connection(to.hostname, to.port)
    writer.write(said)
    async with asyncio.timeout(30):
        answers = await reader.read()
    writer.close()
    return [int(status) for status in STATUS.findall(answers)]


async def call(town: Town, *lines: str, body: bytes = BODY, target: str = TARGET) -> bytes:
    """The bytes of a call that may be made, with more header lines; they say where it ends."""
    head = [
        f"POST {target} HTTP/1.1",
        "Host: g",
        f"Authorization: Bearer {await town.token(TAX)}",
        "Content-Type: application/json",
        f"Exchange-Purpose: {PURPOSE}",
        *lines,
    ]
    return "\r\n".join([*head, "\r\n"]).encode() + body


FRAMED = {
    "a length beside chunks": ("Content-Length: 5", "Transfer-Encoding: chunked"),
    "chunks that are not last": ("Transfer-Encoding: chunked, identity",),
    "a coding that nobody knows": ("Transfer-Encoding: xchunked",),
    "a space before the colon": ("Transfer-Encoding : chunked",),
    "two lengths": (LENGTH, LENGTH),
    "a list of lengths": (f"{LENGTH}, {len(BODY)}",),
    "a length with a sign": (f"Content-Length: +{len(BODY)}",),
    "a length that is too long": ("Content-Length: 99999999999999999999999",),
    "a folded line": (LENGTH, "X: a", " Exchange-Purpose: b"),
    "a carriage return alone": (LENGTH, "X: a\rAuthorization: b"),
    "a zero character": (LENGTH, "X: a\x00b"),
    "two hosts": (LENGTH, "Host: h"),
}


@pytest.mark.parametrize("framed", FRAMED)
async def test_what_two_readers_may_frame_differently_is_refused_by_both(town: Town, framed: str) -> None:
    """One answer, 400, and the connection is closed: what comes after it is read by nobody."""
    hidden = await call(town, LENGTH)
    assert await statuses(town, await call(town, *FRAMED[framed]) + hidden + LAST) == [400]
    assert town.office.seen == []


@pytest.mark.parametrize("token", ["", "Authorization: Bearer x"], ids=["no token", "two tokens"])
async def test_a_call_in_a_refused_body_is_not_made(town: Town, token: str) -> None:
    """The refused call's body is that call's to the last byte, though nobody wanted it."""
    hidden = await call(town, LENGTH)
    head = await call(town, token or "X: y", f"Content-Length: {len(hidden)}", body=hidden)
    refused = head if token else head.replace(b"Authorization: Bearer", b"X-Authorization:", 1)
    assert await statuses(town, refused + LAST) == [401, 404]
    assert town.office.seen == []


async def test_a_call_in_a_body_that_is_not_waited_for_is_not_made(town: Town) -> None:
    """Where more is announced than came, the connection is closed with the refusal."""
    hidden = await call(town, LENGTH)
    head = b"POST /nowhere HTTP/1.1\r\nHost: g\r\nContent-Length: 1000000\r\n\r\n"
    assert await statuses(town, head + hidden) == [404]
    assert town.office.seen == []


async def test_trailers_change_nothing(town: Town) -> None:
    """Header lines after the body come too late for another purpose or token."""
    chunks = b"%x\r\n%s\r\n0\r\nAuthorization: Bearer x\r\nExchange-Purpose: statistics\r\n\r\n" % (len(BODY), BODY)
    assert await statuses(town, await call(town, "Transfer-Encoding: chunked", body=chunks) + LAST) == [200, 404]
    assert town.entries()[-1].facts["purpose"] == PURPOSE


@pytest.mark.parametrize(
    "target",
    [
        f"//v1//exchange/interior/{LOOK_UP}",
        f"{TARGET}/",
        f"{TARGET}.",
        f"{TARGET}%00",
        f"{TARGET}%0a",
        f"/v1/exchange/Interior/{LOOK_UP}",
        f"/v1/exchange/saensuk/../interior/{LOOK_UP}",
        f"/v1/exchange/saensuk/%2e%2e/interior/{LOOK_UP}",
        f"/v1/exchange/interior%2f{LOOK_UP}",
        f"/v1/exchange/interior%252f{LOOK_UP}",
        f"/v1/exchange/saensuk/..;/interior/{LOOK_UP}",
        f"/v1/exchange/interior;v=1/{LOOK_UP}",
        f"/v1/exchange/int%C3%A9rior/{LOOK_UP}",
    ],
)
async def test_no_other_spelling_of_an_address_leads_anywhere(town: Town, target: str) -> None:
    """What a proxy in front might read as another address is nobody's address here."""
    said = await call(town, LENGTH, target=target)
    assert await statuses(town, said + LAST) == [404, 404]
    assert town.office.seen == []


async def token_status(town: Town, assertion: str) -> int:
    form = (
        "grant_type=client_credentials&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        f"&client_assertion={assertion}"
    )
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return (await town.ask("POST", "/oauth/token", headers, form.encode())).status


async def test_one_assertion_is_one_token(tmp_path: Path) -> None:
    """Of twenty who send it at the same moment one gets a token; after a restart nobody does."""
    async with founded(tmp_path) as town:
        now = time.time()
        said = idp.assertion_claims(TAX, aud=ISSUER, iat=now, exp=now + 60)
        assertion = town.keys[TAX].sign(said)
        async with town.running():
            outcomes = await asyncio.gather(*(token_status(town, assertion) for _ in range(20)))
        async with town.running():
            again = await token_status(town, assertion)
    assert (Counter(outcomes), again) == (Counter({401: 19, 200: 1}), 401)


async def test_no_proof_passes_as_another(town: Town) -> None:
    """Access token, client assertion and user assertion, each good by itself, are taken for nothing else."""
    now = time.time()
    client = town.keys[TAX].sign(idp.assertion_claims(TAX, aud=[ISSUER, "DEMO"], iat=now, exp=now + 60))
    person = town.keys[IDP].sign(idp.person_claims(iss=IDP, sub=TAX, client_id=TAX, exp=now + 60))
    access = await town.token(TAX)
    assert [await token_status(town, other) for other in (access, person)] == [401, 401]
    for other in (client, person):
        assert (await town.call(None, LOOK_UP, PERSON, authorization=f"Bearer {other}")).status == 401
    for other in (client, access):
        assert (await town.call(TAX, LOOK_UP, PERSON, exchange_user_assertion=other)).status == 401
    assert (await town.call(TAX, LOOK_UP, PERSON, exchange_user_assertion=person)).status == 200


@pytest.mark.parametrize("name", ["sub", "exp"])
async def test_a_claim_that_stands_twice_is_no_claim(town: Town, name: str) -> None:
    """Two JSON readers might each believe another one of them."""
    now = time.time()
    said = orjson.dumps(idp.assertion_claims(TAX, aud=ISSUER, iat=now, exp=now + 60))
    twice = said.replace(b'"%s":' % name.encode(), b'"%s":"x","%s":' % (name.encode(), name.encode()))
    assert await token_status(town, _signed(town.keys[TAX], said)) == 200
    assert await token_status(town, _signed(town.keys[TAX], twice.replace(b'"one"', b'"two"'))) == 401


def _signed(key: idp.Key, payload: bytes) -> str:
    """A token over these very bytes."""
    header, _, signature = key.sign(orjson.Fragment(payload)).split(".")  # type: ignore[arg-type] # written out
    return f"{header}.{idp.b64(payload)}.{signature}"


BROKEN = {
    "no HTTP": f"{MARK}\r\n\r\n",
    "a broken status": f"HTTP/1.1 {MARK} OK\r\n\r\n",
    "a reason and a header": f"HTTP/1.1 500 {MARK}\r\n{MARK}: {MARK}\r\nContent-Length: 0\r\n\r\n",
    "a broken header": f"HTTP/1.1 200 OK\r\n{MARK} : x\r\n\r\n",
    "a broken length": f"HTTP/1.1 200 OK\r\nContent-Length: {MARK}\r\n\r\n",
    "a broken chunk": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{MARK}\r\n",
    "an early end": f'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{{"{MARK}": "{MARK}',
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("service", [LOOK_UP, CHANGE])
async def test_nothing_of_a_broken_answer_is_quoted(
    town: Town, service: str, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What a provider says against the rules of HTTP stands in no problem, log line, metric or entry."""

    async def react(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(BROKEN[broken].encode())
        request.transport.close()
        return web.Response()

    town.office.react = react
    with structlog.testing.capture_logs() as lines:
        reply = await town.call(TAX, service, MOVED if service == CHANGE else PERSON, idempotency_key='"k"')
    assert reply.status == 502
    for shown in (reply, lines, caplog.text, await town.metrics(), town.entries()):
        assert MARK not in str(shown)


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("exchange_purpose", "Tax_assessment", 400),
        ("exchange_purpose", "tax_assessment,tax_audit", 400),
        ("exchange_for", "Finance", 400),
        ("exchange_for", "", 400),
        ("exchange_for", "interior", 403),
        ("exchange_case", " ", 400),
        ("idempotency_key", '"a\\b"', 400),
        ("idempotency_key", "a%20b, c", 400),
        ("content_type", "application/json; charset=utf-16", 415),
        ("content_encoding", "gzip", 415),
    ],
)
async def test_headers_are_taken_literally_or_not_at_all(town: Town, name: str, value: str, status: int) -> None:
    """No spelling of a header is mended into one that would be permitted."""
    assert (await town.call(TAX, LOOK_UP, PERSON, **{name: value})).status == status
    assert town.office.seen == []


async def heard(town: Town, said: bytes) -> bytes:
    """Everything on one connection until the gateway closes it."""
    to = urlsplit(town.at.public)
    reader, writer = await asyncio.open_connection(to.hostname, to.port)
    writer.write(said)
    async with asyncio.timeout(30):
        answers = await reader.read()
    writer.close()
    return answers


@pytest.mark.parametrize(
    "said",
    [
        f"{MARK}\r\n\r\n",
        f"CONNECT {MARK}:443 HTTP/1.1\r\nHost: g\r\n\r\n",
        f"GET http://{MARK}/v1/catalogue HTTP/1.1\r\nHost: g\r\n\r\n",
        f"GET /v1/catalogue HTTP/1.1\r\nHost: g\r\nExpect: {MARK}\r\n\r\n",
        f"GET /{MARK} HTTP/1.1\r\nHost: g\r\nX: {'a' * 9000}\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_counted_and_not_quoted(
    town: Town, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A problem with an Exchange-Id and a page to read, one refusal in the metrics, not a word of it anywhere."""
    answer = await heard(town, said.encode())
    head, _, document = answer.partition(b"\r\n\r\n")
    problem = orjson.loads(document)
    assert (problem["status"], problem["code"]) == (400, "request.malformed")
    assert problem["type"] == f"{ISSUER}/docs/refusals#request.malformed"
    assert f"Exchange-Id: {problem['exchange']}".encode() in head
    assert (await town.metrics())['gateway_refusals_total{code="request.malformed"}'] == 1
    shown = capfd.readouterr()
    assert MARK not in f"{answer!r}{shown.out}{shown.err}"


async def test_chunks_with_endless_extensions_are_no_way_around_the_time(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands behind a chunk's size is no body: it is thrown away, and the body's time ends."""
    monkeypatch.setattr(body, "SECONDS", 0.3)
    monkeypatch.setattr(body, "LINGER", 0.1)
    to = urlsplit(town.at.public)
    reader, writer = await asyncio.open_connection(to.hostname, to.port)
    writer.write(await call(town, "Transfer-Encoding: chunked", body=b"5;"))
    answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
    while not answer.done():
        writer.write(b"a" * 1000)
        await asyncio.wait([answer], timeout=0.01)
    assert answer.result().startswith(b"HTTP/1.1 400")
    writer.transport.abort()
    assert town.office.seen == []


async def until_refused(town: Town) -> None:
    async with asyncio.timeout(30):
        while not (await town.metrics())['gateway_connections_refused_total{reason="address"}']:
            pass


async def test_connections_are_counted(tmp_path: Path) -> None:
    """Sixteen in all, four from one address: the fifth is ended and operators see it."""
    async with opened(tmp_path, max_connections=16) as town:
        to = urlsplit(town.at.public)
        here = ("127.0.0.2", 0)
        lines = [await asyncio.open_connection(to.hostname, to.port, local_addr=here) for _ in range(4)]
        with socket.create_connection((to.hostname or "", to.port or 0), source_address=here):
            await until_refused(town)
        metrics = await town.metrics()
        assert metrics['gateway_connections_refused_total{reason="address"}'] == 1
        assert metrics["gateway_connections"] == 4
        for _, writer in lines:
            writer.transport.abort()
