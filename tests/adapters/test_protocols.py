"""One conformance suite for every protocol, and what each promises beyond it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import trustme
from aiohttp import web

from gateway.catalogue.files import read
from gateway.edge.outbound import HttpOutbound
from gateway.edge.workshop import PROTOCOLS
from gateway.protocols.protocol import Call, Outbound, Provider, ProviderFault, Surroundings
from tests.fakes import systems
from tests.fakes.systems import REGISTRY, Behaviour, Seen, System, call, endpoint, hostile, registry, well_behaved


@pytest.fixture
async def outbound() -> AsyncIterator[HttpOutbound]:
    async with HttpOutbound() as opened:
        yield opened


def surroundings(root: Path, outbound: Outbound, *, python: bool = True) -> Surroundings:
    return Surroundings(outbound, python=python, files=read(root, root / "keys"))


def adapter(root: Path, text: str = REGISTRY) -> Path:
    folder = root / "adapters" / "interior"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter.py").write_text(text)
    return root


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with well_behaved(registry) as started:
        yield started


@pytest.fixture(params=sorted(PROTOCOLS))
def provider(request: pytest.FixtureRequest, tmp_path: Path, outbound: HttpOutbound, system: System) -> Provider:
    """The same registry, behind each protocol."""
    options: dict[str, dict[str, object]] = {
        "http": {"url": f"{system.url}/persons/lookup"},
        "python": {"class": "Registry"},
    }
    made = endpoint(request.param, **options[request.param])
    return PROTOCOLS[request.param](made, surroundings(adapter(tmp_path), outbound))


async def fault(provider: Provider, asked: Call) -> ProviderFault:
    with pytest.raises(ProviderFault) as caught:
        await provider.call(asked)
    assert "Sok Dara" not in caught.value.detail
    return caught.value


async def test_an_answer(provider: Provider) -> None:
    """The answer comes parsed, beside the bytes of both directions; whatever a provider does, the call stays."""
    answer = await provider.call(asked := call("Vann"))
    assert (answer.value, asked) == ({"found": "Vann"}, call("Vann"))
    assert answer.sent == call("Vann").raw
    assert orjson.loads(answer.provided) == answer.value


@pytest.mark.parametrize(
    ("ask", "code", "sent"),
    [
        ("not_found", "provider.not_found", True),
        ("later", "provider.unavailable", False),
        ("broken", "provider.broken", True),
        ("no_json", "provider.wrong_answer", True),
        ("huge", "provider.wrong_answer", True),
        ("big_number", "provider.wrong_answer", True),
    ],
)
async def test_every_no_is_a_fault(provider: Provider, ask: str, code: str, sent: bool) -> None:  # noqa: FBT001
    """Whatever goes wrong is a ProviderFault with its code, whether it was sent, and nothing of what was said."""
    found = await fault(provider, call(ask))
    assert (found.code, found.sent, found.unheard) == (code, sent, False)
    assert found.definite or ask != "not_found"
    assert found.outgoing == call(ask).raw


async def test_a_wish_to_be_asked_later_is_passed_on(provider: Provider) -> None:
    """The seconds that a provider names reach the consumer."""
    assert (await fault(provider, call("later"))).retry_after == 7.0


async def test_the_time_is_kept(provider: Provider) -> None:
    """A provider that does not answer is a timeout, and counts as sent."""
    found = await fault(provider, replace(call("slow"), seconds=0.1))
    assert (found.code, found.sent, found.definite) == ("provider.timeout", True, False)


async def test_a_cancelled_call_stays_cancelled(provider: Provider) -> None:
    """Shutting down is no fault of the provider."""
    task = asyncio.create_task(provider.call(call("slow")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_it_closes(provider: Provider) -> None:
    """Closing works, and twice."""
    await provider.close()
    await provider.close()


# --- python ---


def python(root: Path, outbound: Outbound, name: str) -> Provider:
    return PROTOCOLS["python"](endpoint("python", **{"class": name}), surroundings(adapter(root), outbound))


@pytest.mark.parametrize("ask", ["bug", "own_timeout", "exit", "own_cancel"])
async def test_whatever_an_adapter_raises(tmp_path: Path, outbound: HttpOutbound, ask: str) -> None:
    """An adapter's mistake is its own: no exception of it reaches the gateway, not even an exit."""
    made = python(tmp_path, outbound, "Registry")
    found = await fault(made, call(ask))
    assert (found.code, found.sent, found.definite) == ("provider.broken", True, False)


async def test_an_adapters_own_word_is_definite(tmp_path: Path, outbound: HttpOutbound) -> None:
    """Broken is the last word; TryLater without seconds names none."""
    made = python(tmp_path, outbound, "Registry")
    assert (await fault(made, call("broken"))).definite
    assert (await fault(made, call("soon"))).retry_after is None


async def test_what_an_adapter_gets(tmp_path: Path, outbound: HttpOutbound) -> None:
    """An adapter sees the exchange as a provider's system would."""
    made = python(tmp_path, outbound, "Registry")
    asked = replace(call("seen"), case="C-1", idempotency_key="k")
    assert (await made.call(asked)).value == {
        "seen": ["01JABC", "population.person_lookup.v1", "finance.local_tax", "tax_assessment", "C-1", "k"]
    }


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (REGISTRY, {"class": "Missing"}, "has no class Missing"),
        (REGISTRY, {"class": "Other"}, "that is a gateway.adapter.Adapter"),
        (REGISTRY, {"class": "Failing"}, "failed with OSError"),
        (REGISTRY, {}, "takes one option"),
        (REGISTRY, {"class": "Registry", "url": "x"}, "takes one option"),
        ("import nothing_of_this_name", {"class": "Registry"}, "cannot be loaded: ModuleNotFoundError"),
        ("raise SystemExit", {"class": "Registry"}, "cannot be loaded: SystemExit"),
    ],
)
def test_wrong_adapters(
    tmp_path: Path, outbound: HttpOutbound, text: str, options: Mapping[str, object], words: str
) -> None:
    """An adapter that cannot be had stops the start, with a sentence."""
    with pytest.raises(ValueError, match=words):
        PROTOCOLS["python"](endpoint("python", **options), surroundings(adapter(tmp_path, text), outbound))


def test_agencies_python_runs_only_when_allowed(tmp_path: Path, outbound: HttpOutbound) -> None:
    """Without the setting the file is not even looked for."""
    with pytest.raises(ValueError, match="GATEWAY_RUN_ADAPTERS"):
        PROTOCOLS["python"](endpoint("python", **{"class": "Registry"}), surroundings(tmp_path, outbound, python=False))


async def test_an_adapter_that_cannot_close_holds_nobody_up(tmp_path: Path, outbound: HttpOutbound) -> None:
    """Closing never fails."""
    made = python(tmp_path, outbound, "Unclosable")
    await made.close()


# --- http ---


def http(root: Path, outbound: Outbound, **options: object) -> Provider:
    return PROTOCOLS["http"](endpoint("http", **options), surroundings(root, outbound))


def secret(root: Path, name: str, text: str | bytes) -> None:
    (root / "keys/secrets").mkdir(exist_ok=True, parents=True)
    (root / "keys/secrets" / name).write_bytes(text.encode() if isinstance(text, str) else text)


WRONG = ("provider.wrong_answer", True, False)
REFUSED = ("provider.refused", True, True)
NOT_FOUND = ("provider.not_found", True, True)
BROKEN = ("provider.broken", True, False)
NOT_TAKEN = ("provider.unavailable", False, False)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        *((status, WRONG) for status in (101, 204, 302, 304)),
        *((status, REFUSED) for status in (400, 401, 403, 409, 422)),
        *((status, NOT_FOUND) for status in (404, 410)),
        *((status, NOT_TAKEN) for status in (429, 503)),
        *((status, BROKEN) for status in (500, 502, 504, 599)),
    ],
)
async def test_every_status(
    tmp_path: Path, outbound: HttpOutbound, status: int, verdict: tuple[str, bool, bool]
) -> None:
    """What each status says about the call: its code, whether it may have taken effect, whether it is the last word."""

    async def says(line: systems.Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nLocation: /x\r\n\r\n" % status)

    async with hostile(says) as system:
        found = await fault(http(tmp_path, outbound, url=system.url), call("x"))
    assert (found.code, found.sent, found.definite) == verdict
    assert (len(system.seen), found.unheard) == (1, False)


@pytest.mark.parametrize(
    ("behaviour", "code", "unheard"),
    [
        (systems.hangs_up_at_once, "provider.broken", True),
        (systems.answers_half, "provider.broken", True),
        (systems.never_stops, "provider.wrong_answer", False),
        (systems.drips, "provider.timeout", False),
    ],
)
async def test_every_broken_line(
    tmp_path: Path,
    outbound: HttpOutbound,
    behaviour: Behaviour,
    code: str,
    unheard: bool,  # noqa: FBT001
) -> None:
    """What breaks after the request may have left counts as sent."""
    async with hostile(behaviour) as system:
        provider = http(tmp_path, outbound, url=system.url)
        found = await fault(provider, replace(call("x"), seconds=0.3 if code == "provider.timeout" else 5.0))
    assert (found.code, found.sent, found.definite, found.unheard) == (code, True, False, unheard)


async def test_nobody_there(tmp_path: Path, outbound: HttpOutbound) -> None:
    """A system that cannot be reached has not seen the call."""
    found = await fault(http(tmp_path, outbound, url="http://nowhere.invalid/"), call("x"))
    assert (found.code, found.sent, found.unheard) == ("provider.unavailable", False, True)


@pytest.mark.parametrize(
    ("value", "wait"), [("7", 7.0), ("999999", 3600.0), ("-1", None), ("soon", None), ("9" * 400, None), ("١", None)]
)
async def test_retry_after(tmp_path: Path, outbound: HttpOutbound, value: str, wait: float | None) -> None:
    """Seconds are passed on, up to an hour; whatever else stands there is not."""

    async def says(line: systems.Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\nRetry-After: " + value.encode() + b"\r\n\r\n")

    async with hostile(says) as system:
        assert (await fault(http(tmp_path, outbound, url=system.url), call("x"))).retry_after == wait


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/html"},
        {"Content-Type": "application/jsonp"},
        {},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
async def test_only_json_is_an_answer(tmp_path: Path, outbound: HttpOutbound, headers: dict[str, str]) -> None:
    """Another media type, none, or a compressed body is withheld."""

    async def says(_: Seen) -> web.Response:
        return web.Response(body=b"{}", headers=headers)

    async with well_behaved(says) as system:
        assert (await fault(http(tmp_path, outbound, url=system.url), call("x"))).code == "provider.wrong_answer"


async def test_what_arrives(tmp_path: Path, outbound: HttpOutbound, system: System) -> None:
    """A provider gets the evidence headers, its secret, and the body as it was received."""
    secret(tmp_path, "interior.api", "s3cret\n")
    provider = http(
        tmp_path,
        outbound,
        url=f"{system.url}/persons/{{/id}}",
        method="PUT",
        query={"who": "{/ask}"},
        headers={"X-Ask": "for {/ask}", "Accept": "application/vnd.x+json"},
        secret_headers={"X-Api-Key": "interior.api"},
    )
    asked = replace(call("Vann"), raw=b'{"ask" : "Vann"}', case="C-1", idempotency_key='a"b\\c')
    answer = await provider.call(asked)
    (seen,) = system.seen
    assert (seen.method, seen.target) == ("PUT", "/persons/12%2F34?who=Vann")
    assert seen.body == answer.sent == b'{"ask" : "Vann"}'
    ours = ("Host", "Content-Length", "User-Agent", "Accept-Encoding")
    assert {name: value for name, value in seen.headers.items() if name not in ours} == {
        "Accept": "application/vnd.x+json",
        "Content-Type": "application/json",
        "X-Ask": "for Vann",
        "X-Api-Key": "s3cret",
        "Exchange-Id": "01JABC",
        "Exchange-Purpose": "tax_assessment",
        "Exchange-Consumer": "finance.local_tax",
        "Exchange-Service": "population.person_lookup.v1",
        "Exchange-Case": "C-1",
        "Idempotency-Key": r'"a\"b\\c"',
        "traceparent": "00-1-2-01",
    }


async def test_a_get_sends_no_body(tmp_path: Path, outbound: HttpOutbound, system: System) -> None:
    """GET has neither a body nor its media type, and no idempotency key that was not given."""
    answer = await http(tmp_path, outbound, url=system.url + "/x?id={/id}", method="get").call(call("x"))
    (seen,) = system.seen
    assert (seen.method, seen.target, seen.body, answer.sent) == ("GET", "/x?id=12%2F34", b"", b"")
    assert not {"Content-Type", "Idempotency-Key"} & set(seen.headers)


async def test_fields_are_mapped(tmp_path: Path, outbound: HttpOutbound, system: System) -> None:
    """The body is made from the request mapping, the value from the response mapping; the bytes stay as they were."""
    provider = http(tmp_path, outbound, url=system.url, request={"/ask": "/id"}, response={"/record/name": "/found"})
    answer = await provider.call(call("x"))
    assert answer.value == {"record": {"name": "12/34"}}
    assert (answer.sent, orjson.loads(answer.provided)) == (b'{"ask":"12/34"}', {"found": "12/34"})


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"url": "http://h.test/{/absent}"}, call("x")),
        ({"url": "http://h.test/{/id}"}, call("x", id="..")),
        ({"url": "http://h.test/", "headers": {"X-A": "{/ask}"}}, call("Sok Dara\r\nX-B: 1")),
        ({"url": "http://h.test/"}, replace(call("x"), case="Sok Dara\n")),
        ({"url": "http://h.test/"}, replace(call("x"), idempotency_key="Sok Dara\n")),
    ],
)
async def test_a_request_that_cannot_be_made(
    tmp_path: Path, outbound: HttpOutbound, options: Mapping[str, object], asked: Call
) -> None:
    """What cannot be filled in is not sent, and the sentence holds no value."""
    found = await fault(http(tmp_path, outbound, **options), asked)
    assert (found.code, found.sent, found.definite) == ("provider.refused", False, False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs a url"),
        ({"url": 1}, "url must be a text"),
        ({"url": "http://h/", "verb": "GET"}, "knows no option verb"),
        ({"url": "http://h/", "method": "TRACE"}, "method must be one of"),
        ({"url": "http://h/", "method": "GET", "request": {"/a": "/b"}}, "sends no body"),
        ({"url": "http://h/", "headers": {"Exchange-Id": "x"}}, "sets itself"),
        ({"url": "http://h/", "headers": {"X-A": "x"}, "secret_headers": {"x-a": "key"}}, "twice"),
        ({"url": "http://h/", "headers": {"authorization": "x"}}, "secret_headers"),
        ({"url": "http://h/", "secret_headers": {"X-A": "../key"}}, "without a folder"),
        ({"url": "http://h/", "secret_headers": {"X-A": "missing"}}, "cannot be read"),
        ({"url": "http://h/", "secret_headers": {"X-A": "empty"}}, "is empty"),
        ({"url": "http://h/", "secret_headers": {"X-A": "two_lines"}}, "no header can carry"),
        ({"url": "http://h/", "tls": {"ca": "ca.pem"}}, "https"),
        ({"url": "https://h/", "tls": {"ca": "missing"}}, "cannot be read from"),
        ({"url": "https://h/", "tls": {"client": "two_lines"}}, "cannot be read as PEM"),
        ({"url": "https://h/", "tls": {"password": "x"}}, "tls knows no password"),
        ({"url": "http://h/", "response": ["/a"]}, "response must be a mapping"),
    ],
)
def test_wrong_options(tmp_path: Path, outbound: HttpOutbound, options: Mapping[str, object], words: str) -> None:
    """A mistake in a manifest stops the start, with a sentence that never holds a secret."""
    secret(tmp_path, "key", "s3cret")
    secret(tmp_path, "empty", "\n")
    secret(tmp_path, "two_lines", "s3cret\ns3cret\n")
    with pytest.raises(ValueError, match=words) as caught:
        http(tmp_path, outbound, **options)
    assert "s3cret" not in str(caught.value)


async def test_mutual_tls(tmp_path: Path, outbound: HttpOutbound) -> None:
    """With client and ca the two sides know each other; without them nothing is sent to a stranger."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(server)
    secret(tmp_path, "client.pem", authority.issue_cert("gateway.test").private_key_and_cert_chain_pem.bytes())
    secret(tmp_path, "ca.pem", authority.cert_pem.bytes())
    async with well_behaved(registry, server) as system:
        both = http(tmp_path, outbound, url=system.url, tls={"client": "client.pem", "ca": "ca.pem"})
        assert (await both.call(call("Vann"))).value == {"found": "Vann"}
        nameless = http(tmp_path, outbound, url=system.url, tls={"ca": "ca.pem"})
        assert (await fault(nameless, call("x"))).code in {"provider.broken", "provider.unavailable"}
        trusting_nobody = http(tmp_path, outbound, url=system.url)
        assert (await fault(trusting_nobody, call("x"))).sent is False
    assert len(system.seen) == 1
