"""The Python client against a gateway that fails on demand: what is sent, what is repeated, what is raised."""

import asyncio
import gc
import ssl
import traceback
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import trustme

from gateway import client as module
from gateway.client import (
    BadRequest,
    Conflict,
    Contact,
    GatewayClient,
    GatewayError,
    NotFound,
    NotIdentified,
    NotPermitted,
    ProviderFailed,
    Refused,
    ShapeFault,
    TooMany,
    Unavailable,
    Unknown,
    Unreachable,
    wire,
)
from gateway.core.refusal import TABLE
from tests.fakes.gateway_double import Fault, GatewayDouble, Watch, cut, garble, hang, page, private_key, refusal

KEY = private_key()
SERVICE = "population.person_lookup.v1"
BODY = {"identifier": "body-value-4711"}


@pytest.fixture
async def double() -> AsyncIterator[GatewayDouble]:
    async with GatewayDouble(KEY) as running:
        yield running


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
async def gateway(double: GatewayDouble, watch: Watch) -> AsyncIterator[GatewayClient]:
    async with GatewayClient(double.url, client_id="finance.local_tax", key=KEY, pace=watch.pace()) as made:
        yield made


async def ask(gateway: GatewayClient, **more: object) -> module.Answer:
    return await gateway.exchange("interior", SERVICE, BODY, **{"purpose": "tax_assessment"} | more)  # type: ignore[arg-type]  # the test's own words


async def test_head_of_a_call(gateway: GatewayClient, double: GatewayDouble) -> None:
    """Every part of the head travels in its own header, and the answer carries its evidence."""
    said = {
        "case": "T-1",
        "user": "ស្មៀន 7",
        "on_behalf_of": "saensuk",
        "user_assertion": "a.b.c",
        "traceparent": "00-1",
    }
    answer = await ask(gateway, idempotency_key='k "1"', **said)
    headers, body = double.calls[0]
    assert body == b'{"identifier":"body-value-4711"}'
    assert headers["Exchange-Purpose"] == "tax_assessment"
    assert headers["Idempotency-Key"] == r'"k \"1\""'
    names = ("Exchange-Case", "Exchange-User", "Exchange-For", "Exchange-User-Assertion", "traceparent")
    assert tuple(headers[name] for name in names) == tuple(said.values())
    assert (answer.body, answer.exchange, answer.entry) == ({"asked": BODY}, "x-1", "w.1 abc")
    assert (answer.replayed, answer.headers["exchange-id"]) == (False, "x-1")


async def test_catalogue(gateway: GatewayClient) -> None:
    """The catalogue comes as it is published."""
    assert (await gateway.catalogue())["instance"] == "DOUBLE"


async def test_one_key_for_all_attempts(gateway: GatewayClient, double: GatewayDouble) -> None:
    """Every attempt of one call has the same fresh key and the same bytes; the next call has another key."""
    double.faults.extend([refusal(503, "provider.unavailable"), refusal(504, "provider.timeout")])
    await ask(gateway)
    await ask(gateway)
    keys = [headers["Idempotency-Key"] for headers, _ in double.calls]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert len({body for _, body in double.calls}) == 1


async def test_lost_connection_is_repeated(gateway: GatewayClient, double: GatewayDouble, watch: Watch) -> None:
    """An answer that breaks off is asked for again, and the stored one says that it is."""
    double.faults.append(cut)
    answer = await ask(gateway)
    assert (answer.replayed, watch.slept) == (True, [0.2])


async def test_pauses_grow_with_full_jitter(gateway: GatewayClient, double: GatewayDouble, watch: Watch) -> None:
    """The pause is a random part of a doubling time, and the attempts are four."""
    watch.chance = 0.5
    double.faults.extend([cut] * 9)
    with pytest.raises(Unreachable) as caught:
        await ask(gateway, idempotency_key="mine")
    assert (watch.slept, len(double.calls)) == ([0.1, 0.2, 0.4], 4)
    assert (caught.value.temporary, caught.value.idempotency_key) == (True, "mine")


@pytest.mark.parametrize("date", [False, True])
async def test_retry_after_is_honoured(gateway: GatewayClient, double: GatewayDouble, watch: Watch, date: bool) -> None:  # noqa: FBT001 - two cases
    """The gateway's pause comes first, in seconds or as a date that is read against the answer's own date."""
    watch.chance = 0.0
    then = datetime(2020, 1, 1, tzinfo=UTC)
    headers = {"Date": format_datetime(then, usegmt=True), "Retry-After": "7"}
    if date:
        headers["Retry-After"] = format_datetime(then + timedelta(seconds=7), usegmt=True)
    double.faults.append(refusal(503, "gateway.overloaded", headers=headers))
    await ask(gateway)
    assert watch.slept == [7.0]


async def test_retry_after_beyond_the_time_left(gateway: GatewayClient, double: GatewayDouble, watch: Watch) -> None:
    """Who asks for more patience than there is, is not waited for."""
    double.faults.append(refusal(429, "policy.quota", retry_after=3600))
    with pytest.raises(TooMany) as caught:
        await ask(gateway, timeout=30.0)
    assert (watch.slept, caught.value.retry_after, caught.value.temporary) == ([], 3600.0, True)


@pytest.mark.parametrize(("where", "words"), [("faults", "did not answer in time"), ("token_faults", "gave no token")])
async def test_time_is_bounded(gateway: GatewayClient, double: GatewayDouble, where: str, words: str) -> None:
    """A gateway that never answers costs the call's timeout and no more."""
    if where == "faults":
        await gateway.token()
    getattr(double, where).extend([hang] * 10)  # each attempt: the test's clock stands
    with pytest.raises(Unreachable, match=words):
        await ask(gateway, timeout=0.1)


REPEATED = {"idempotency.running", "provider.broken", "provider.timeout"}
MEANINGS = {
    "request": BadRequest,
    "idempotency.key_missing": BadRequest,
    "shape": BadRequest,
    "identity": NotIdentified,
    "identity.not_mandated": NotPermitted,
    "identity.unavailable": Unavailable,
    "policy": NotPermitted,
    "policy.rate": TooMany,
    "policy.quota": TooMany,
    "catalogue.unknown": Unknown,
    "provider.not_found": NotFound,
    "idempotency": Conflict,
    "provider": ProviderFailed,
    "provider.unavailable": Unavailable,
    "provider.maintenance": Unavailable,
    "gateway": Unavailable,
    "journal": Unavailable,
    "recipient": Unavailable,
    "document": Conflict,
    "subscription": Conflict,
    "document.unknown": Unknown,
    "approval": NotPermitted,
    "approval.decided": Conflict,
    "attachment": BadRequest,
    "attachment.unknown": Unknown,
    "attachment.unavailable": Unavailable,
}


@pytest.mark.parametrize("code", TABLE)
async def test_each_refusal(gateway: GatewayClient, double: GatewayDouble, code: str) -> None:
    """Every code of the gateway's table raises the class of its meaning, and is repeated only where that is safe."""
    status = TABLE[code].status
    double.faults.extend([refusal(status, code)] * 4)
    with pytest.raises(Refused) as caught:
        await ask(gateway)
    assert type(caught.value) is MEANINGS.get(code, MEANINGS.get(code.partition(".")[0]))
    assert (caught.value.code, caught.value.status) == (code, status)
    again = code in REPEATED or status in (429, 503)
    renewed = code in ("identity.invalid", "identity.expired", "identity.revoked")
    assert len(double.calls) == (4 if again else 2 if renewed else 1)
    assert caught.value.temporary is again


async def test_problem_is_read_whole(gateway: GatewayClient, double: GatewayDouble) -> None:
    """What the gateway says about a refusal is there as values, and readable in one line."""
    faults = [{"pointer": "/identifier", "detail": "is too short"}, "nonsense"]
    double.faults.append(
        refusal(422, "shape.request", errors=faults, contact={"agency": "interior", "role": "technical"})
    )
    with pytest.raises(BadRequest) as caught:
        await ask(gateway)
    error = caught.value
    assert (error.title, error.detail, error.exchange) == ("Title of shape.request", "Why.", "x-1")
    assert (error.errors, error.contact) == (
        (ShapeFault("/identifier", "is too short"),),
        Contact("technical", "interior"),
    )
    assert str(error) == (
        "shape.request (422): Title of shape.request. Why. at /identifier: is too short (exchange x-1)"
    )


@pytest.mark.parametrize(
    ("fault", "attempts", "words"),
    [
        (page(502), 4, "502"),
        (page(404), 1, "was not the gateway"),
        (page(401, '{"code": "identity.expired"}', "application/json"), 1, "was not the gateway"),
        (page(307, headers={"Location": "/elsewhere"}), 1, "redirects are not followed"),
        (page(200), 1, "was not the gateway"),
        (page(200, "{}", "application/json"), 1, "was not the gateway"),
        (page(403, "x" * (wire.MAX_PROBLEM + 1)), 1, "more than 262144 bytes"),
        (page(200, "x" * (wire.MAX_ANSWER + 1)), 1, "more than 16777216 bytes"),
        (garble, 4, "was lost"),
    ],
)
async def test_strangers(
    gateway: GatewayClient, double: GatewayDouble, fault: Fault, attempts: int, words: str
) -> None:
    """What is no answer of the gateway is Unreachable, with words about what to look at."""
    double.faults.extend([fault] * 4)
    with pytest.raises(Unreachable, match=words):
        await ask(gateway)
    assert len(double.calls) == attempts


async def test_nobody_listens(watch: Watch) -> None:
    """A closed port is tried as often as a lost connection."""
    async with GatewayClient("http://127.0.0.1:9", client_id="a.b", key=KEY, pace=watch.pace()) as gateway:
        with pytest.raises(Unreachable, match="cannot be reached"):
            await ask(gateway)
    assert len(watch.slept) == 3


@pytest.mark.parametrize(
    "fault", [cut, garble, page(200), refusal(403, "policy.purpose"), refusal(401, "identity.invalid")]
)
async def test_errors_hold_no_secrets(gateway: GatewayClient, double: GatewayDouble, fault: Fault) -> None:
    """Neither the key nor a token nor a value of the body is in an error, its causes, or a representation."""
    double.faults.extend([fault] * 4)
    with pytest.raises(GatewayError) as caught:
        await ask(gateway)
    double.faults.clear()
    shown = "".join(traceback.format_exception(caught.value)) + repr((caught.value, caught.value.__cause__))
    shown += repr(vars(gateway))
    answer = await ask(gateway)
    shown += repr(gateway) + repr(answer) + repr(gateway._tokens._kept)
    for secret in (KEY["d"], BODY["identifier"], "token-"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"purpose": "a\r\nX: y"}, "Exchange-Purpose"),
        ({"user": " "}, "Exchange-User"),
        ({"idempotency_key": "schlüssel"}, "printable ASCII"),
        ({"idempotency_key": ""}, "printable ASCII"),
        ({"agency": ".."}, "agency is no possible name"),
        ({"service": "a/b?c"}, "service is no possible name"),
        ({"body": {"x": object()}}, "cannot be written as JSON"),
        ({"body": "x" * 2**20}, "no service takes more"),
    ],
)
async def test_what_cannot_be_sent(
    gateway: GatewayClient, double: GatewayDouble, more: dict[str, object], words: str
) -> None:
    """A call that cannot be put on the wire is the caller's mistake, and nothing of it leaves."""
    call = {"agency": "interior", "service": SERVICE, "body": BODY, "purpose": "p"} | more
    with pytest.raises(ValueError, match=words):
        await gateway.exchange(**call)  # type: ignore[arg-type]  # the wrong arguments are the test
    assert double.grants == []


@pytest.mark.parametrize("url", ["ftp://x", "gateway", "https://u:p@x", "https://x/?q", "http://10.1.2.3:8080"])
def test_addresses(url: str) -> None:
    """An address that is none, or that sends tokens unencrypted over a network, is refused at once."""
    with pytest.raises(ValueError, match="https"):
        GatewayClient(url, client_id="a.b", key=KEY)
    assert "10.1.2.3" in repr(GatewayClient("http://10.1.2.3", client_id="a.b", key=KEY, plain_http=True))


async def test_certificates(tmp_path: Path, watch: Watch) -> None:
    """A gateway is believed only on the certificates that the client was given; distrust is not tried again."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with GatewayDouble(KEY, tls=context) as double:
        async with GatewayClient(double.url, client_id="a.b", key=KEY, ca_file=tmp_path / "ca.pem") as gateway:
            assert (await ask(gateway)).exchange == "x-1"
        async with GatewayClient(double.url, client_id="a.b", key=KEY, pace=watch.pace()) as gateway:
            with pytest.raises(Unreachable, match="not trusted"):
                await ask(gateway)
    assert watch.slept == []
    with pytest.raises(ValueError, match="ca_file"):
        GatewayClient("https://x", client_id="a.b", key=KEY, ca_file=tmp_path / "none.pem")


async def test_close_is_clean(double: GatewayDouble) -> None:
    """After close nothing is left open (a ResourceWarning would fail this), and the client says that it is closed."""
    gateway = GatewayClient(double.url, client_id="finance.local_tax", key=KEY)
    await ask(gateway)
    await gateway.close()
    await gateway.close()
    gc.collect()
    with pytest.raises(Unreachable, match="was closed"):
        await ask(gateway)


@pytest.mark.parametrize("where", ["faults", "token_faults"])
async def test_close_ends_running_calls(double: GatewayDouble, where: str) -> None:
    """A call that runs while the client is closed ends with Unreachable, whatever it was waiting for."""
    begun = asyncio.Event()

    async def stall(request: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    getattr(double, where).append(stall)
    gateway = GatewayClient(double.url, client_id="a.b", key=KEY, pace=Watch().pace())
    running = asyncio.create_task(ask(gateway))
    await begun.wait()
    await gateway.close()
    with pytest.raises(Unreachable, match="was closed"):
        await running
