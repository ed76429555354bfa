"""The Python client's tokens against a gateway that fails on demand: proven, kept, shared and renewed."""

import ast
import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization

from gateway import client as module
from gateway.client import Answer, GatewayClient, NotIdentified, NotPermitted, Pace, TooMany, Unreachable
from gateway.client.tokens import MAX_SCOPE_SETS
from tests.fakes.certificates import AUTHORITY, certificate, serving
from tests.fakes.gateway_double import ISSUER, GatewayDouble, Watch, page, private_key, refusal

KEY = private_key()


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


async def ask(gateway: GatewayClient, scope: str | None = None) -> Answer:
    return await gateway.exchange("interior", "population.person_lookup.v1", {}, purpose="p", scope=scope)


async def test_assertion(gateway: GatewayClient, double: GatewayDouble, watch: Watch) -> None:
    """The assertion names the system twice and the issuer, and is good for a minute."""
    await ask(gateway)
    claims = dict(double.assertions[0])
    assert len(claims.pop("jti")) == 36
    now = int(watch.day)
    system = "finance.local_tax"
    assert claims == {"iss": system, "sub": system, "aud": ISSUER, "iat": now, "exp": now + 60}


async def test_audience_without_metadata(gateway: GatewayClient, double: GatewayDouble) -> None:
    """A gateway that publishes no metadata is named by its token endpoint."""
    double.metadata = False
    await ask(gateway)
    assert double.assertions[0]["aud"] == f"{double.url}/oauth/token"


async def test_edwards_key_from_a_file(tmp_path: Path) -> None:
    """An Ed25519 key in a file does as well."""
    key = private_key(edwards=True)
    (tmp_path / "key.json").write_bytes(orjson.dumps(key))
    path = str(tmp_path / "key.json")
    async with GatewayDouble(key) as double, GatewayClient(double.url, client_id="a.b", key=path) as gateway:
        assert (await ask(gateway)).exchange == "x-1"


async def test_token_is_kept_for_its_scopes(gateway: GatewayClient, double: GatewayDouble) -> None:
    """One token serves all calls with the same scopes, in whichever order they are written."""
    for scope in (None, None, "a b", "b a"):
        await ask(gateway, scope)
    assert [form.get("scope") for form in double.grants] == [None, "a b"]


@pytest.mark.parametrize(("lives", "kept"), [(600, 540), (30, 15)])
async def test_renewal(gateway: GatewayClient, double: GatewayDouble, watch: Watch, lives: int, kept: int) -> None:
    """A token is renewed a minute before its end; one that lives shorter, after half its life."""
    double.expires_in = lives
    await ask(gateway)
    watch.now += kept - 1
    await ask(gateway)
    assert len(double.grants) == 1
    watch.now += 1
    await ask(gateway)
    assert len(double.grants) == 2


async def test_wall_clock_may_jump(gateway: GatewayClient, double: GatewayDouble, watch: Watch) -> None:
    """A wall clock that jumps by years neither ends a token nor keeps it."""
    await ask(gateway)
    watch.day += 1e9
    await ask(gateway)
    assert len(double.grants) == 1
    watch.day -= 2e9
    watch.now += 600
    await ask(gateway)
    assert len(double.grants) == 2


async def test_many_calls_share_one_token(gateway: GatewayClient, double: GatewayDouble) -> None:
    """Fifty calls at once ask for one token, and for one more when it is refused to all of them."""
    await asyncio.gather(*(ask(gateway) for _ in range(50)))
    assert len(double.grants) == 1
    double.valid.clear()
    await asyncio.gather(*(ask(gateway) for _ in range(50)))
    assert len(double.grants) == 2


async def test_late_refusal_spares_the_new_token(gateway: GatewayClient, double: GatewayDouble) -> None:
    """A call that learns late that its token was refused takes the one that another call has fetched meanwhile."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def late(request: web.Request) -> web.StreamResponse:
        begun.set()
        await go.wait()
        return await refusal(401, "identity.expired")(request)

    double.faults.extend([late, refusal(401, "identity.expired")])
    slow = asyncio.create_task(ask(gateway))
    await begun.wait()
    await ask(gateway)
    go.set()
    await slow
    assert len(double.grants) == 2


async def test_one_caller_gives_up(gateway: GatewayClient, double: GatewayDouble) -> None:
    """A caller that is cancelled while it waits for a token takes it from nobody."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        begun.set()
        await go.wait()
        return await double._token(request)

    double.token_faults.append(slow)
    first, second = (asyncio.create_task(ask(gateway)) for _ in range(2))
    await begun.wait()
    first.cancel()
    go.set()
    assert (await second).exchange == "x-1"
    assert first.cancelled()


@pytest.mark.parametrize("code", ["identity.expired", "identity.revoked", "identity.invalid"])
async def test_refused_token_is_renewed_once(
    gateway: GatewayClient, double: GatewayDouble, watch: Watch, code: str
) -> None:
    """A token that is refused is replaced and the call repeated with the same key; the second refusal is final."""
    double.faults.append(refusal(401, code))
    await ask(gateway)
    assert double.calls[0][0]["Idempotency-Key"] == double.calls[1][0]["Idempotency-Key"]
    double.faults.extend([refusal(401, code)] * 2)
    with pytest.raises(NotIdentified):
        await ask(gateway)
    assert (len(double.calls), len(double.grants), watch.slept) == (4, 3, [])


async def test_token_endpoint_refuses(double: GatewayDouble, watch: Watch) -> None:
    """A key that the gateway does not know is NotIdentified for each caller by itself, and is not tried again."""
    async with GatewayClient(double.url, client_id="a.b", key=private_key(), pace=watch.pace()) as gateway:
        errors = await asyncio.gather(*(ask(gateway) for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in errors] == ["invalid_client (401): The gateway refused. Unknown key."] * 3
    assert len({id(error) for error in errors}) == len({error.idempotency_key for error in errors}) == 3  # type: ignore[union-attr]  # all of them are errors
    assert (len(double.grants), watch.slept) == (1, [])


async def test_scope_beyond_the_system(gateway: GatewayClient, double: GatewayDouble) -> None:
    """A scope that the system does not have is NotPermitted."""
    double.token_faults.append(page(400, '{"error": "invalid_scope"}', "application/json"))
    with pytest.raises(NotPermitted, match="invalid_scope"):
        await ask(gateway, "too:much")


async def test_wrong_clock_is_named(double: GatewayDouble, watch: Watch) -> None:
    """Where the machine's clock is off, the refusal of an assertion says by how much."""
    watch.day += 7200
    async with GatewayClient(double.url, client_id="a.b", key=private_key(), pace=watch.pace()) as gateway:
        with pytest.raises(NotIdentified, match="clock is 7200 s ahead of the gateway's"):
            await ask(gateway)


async def test_token_endpoint_is_out_of_service(gateway: GatewayClient, double: GatewayDouble, watch: Watch) -> None:
    """A token endpoint that is busy is asked again, with a fresh assertion each time."""
    busy = page(503, '{"error": "temporarily_unavailable"}', "application/json", headers={"Retry-After": "2"})
    double.token_faults.extend([busy, page(502)])
    await ask(gateway)
    assert watch.slept == [2.2, 0.4]
    assert len({form["client_assertion"] for form in double.grants}) == 3


async def test_too_many_tokens(gateway: GatewayClient, double: GatewayDouble, watch: Watch) -> None:
    """A token endpoint that is asked too often is left alone for as long as it says."""
    text = '{"error": "temporarily_unavailable", "error_description": "Keep a token."}'
    double.token_faults.append(page(429, text, "application/json", headers={"Retry-After": "3"}))
    await ask(gateway)
    assert watch.slept == [3.2]
    double.token_faults.append(page(429, text, "application/json", headers={"Retry-After": "3600"}))
    double.valid.clear()
    with pytest.raises(TooMany, match="Keep a token") as caught:
        await ask(gateway)
    assert (caught.value.retry_after, watch.slept) == (3600.0, [3.2])


@pytest.mark.parametrize("text", ["[]", '{"access_token": "a\\r\\nb", "expires_in": 600}', '{"access_token": "a"}'])
async def test_useless_token(gateway: GatewayClient, double: GatewayDouble, text: str) -> None:
    """An answer that grants nothing usable is not the gateway's."""
    double.token_faults.append(page(200, text, "application/json"))
    with pytest.raises(Unreachable, match="no token that can be used"):
        await ask(gateway)


async def test_kept_tokens_are_bounded(gateway: GatewayClient) -> None:
    """However many sets of scopes are used, only so many tokens are kept."""
    for number in range(MAX_SCOPE_SETS + 3):
        await ask(gateway, f"scope:{number}")
    assert len(gateway._tokens._kept) == MAX_SCOPE_SETS


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ({name: value for name, value in KEY.items() if name != "d"}, "no private JWK"),
        ({name: value for name, value in KEY.items() if name != "kid"}, "no private JWK"),
        ({**KEY, "crv": "P-384"}, "no private JWK"),
        ({**KEY, "kty": None}, "damaged"),
        ({**KEY, "x": "AAAA"}, "damaged"),
    ],
)
def test_keys_that_cannot_sign(key: dict[str, Any], words: str) -> None:
    """A key that cannot sign is refused at once, and the error does not show it."""
    with pytest.raises(ValueError, match=words) as caught:
        GatewayClient("https://x", client_id="a.b", key=key)
    assert KEY["d"] not in f"{caught.value!r}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("text", "words"), [("{secret", "is no JSON"), ("[]", "a JSON object"), (None, "cannot be read")]
)
def test_key_files_that_cannot_be_used(tmp_path: Path, text: str | None, words: str) -> None:
    """A key file that is missing or no JWK is named."""
    file = tmp_path / "key.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        GatewayClient("https://x", client_id="a.b", key=file)
    assert str(file) in str(caught.value)


async def test_certificate_is_shown(tmp_path: Path) -> None:
    """A client with a certificate shows it, wherever it connects."""
    tls = serving()
    tls.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.cert_pem.write_to_path(tmp_path / "authority.pem")
    given: dict[str, Any] = {
        "client_id": "a.b",
        "key": KEY,
        "ca_file": tmp_path / "authority.pem",
        "pace": Pace(attempts=1),
    }
    async with GatewayDouble(KEY, tls=tls) as double:
        async with GatewayClient(double.url, **given, certificate=str(certificate().saved(tmp_path))) as gateway:
            assert (await ask(gateway)).exchange == "x-1"
        async with GatewayClient(double.url, **given) as gateway:
            with pytest.raises(Unreachable):
                await ask(gateway)


@pytest.mark.parametrize("url", ["https://gateway.example", "http://127.0.0.1:8080"])
@pytest.mark.parametrize("what", ["missing", "nothing", "encrypted", "of another", "sound"])
def test_certificates_that_cannot_be_used(tmp_path: Path, url: str, what: str) -> None:
    """A certificate that cannot be shown is an error at once: the file is named, its key is not, nobody is asked."""
    files = _certificates(tmp_path)
    words = "https" if url.startswith("http:") else "cannot be used.*without a passphrase"
    if what == "sound" and url.startswith("https:"):
        GatewayClient(url, client_id="a.b", key=KEY, certificate=files[what])
        return
    with pytest.raises(ValueError, match=words) as caught:
        GatewayClient(url, client_id="a.b", key=KEY, certificate=files[what])
    assert str(files[what]) in str(caught.value) or url in str(caught.value)


def _certificates(folder: Path) -> dict[str, Path]:
    """Files with and without what a client certificate needs."""
    mine = certificate()
    key = serialization.load_pem_private_key(mine.leaf.private_key_pem.bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (folder / "nothing.pem").write_text("nothing")
    (folder / "locked.pem").write_bytes(locked + mine.pem.encode())
    (folder / "mixed.pem").write_bytes(certificate().leaf.private_key_pem.bytes() + mine.pem.encode())
    return {
        "missing": folder / "missing.pem",
        "nothing": folder / "nothing.pem",
        "encrypted": folder / "locked.pem",
        "of another": folder / "mixed.pem",
        "sound": mine.saved(folder),
    }


def test_client_stands_alone() -> None:
    """The client imports nothing of the gateway but its version, so that it can be used without the rest."""
    for file in Path(module.__file__ or "").parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gateway"):
                own = (node.module or "").startswith("gateway.client")
                assert own or [name.name for name in node.names] == ["__version__"], file
