"""The pretend receivers of documents check what a real one would, and misbehave where the story says so."""

import base64
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from aiohttp import ClientConnectionError, ClientSession, web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from standardwebhooks.webhooks import Webhook

from deploy.demo.hooks import TOLERANCE, Receiver
from deploy.demo.ministries import KAFKA, VARIABLES, ministries
from deploy.demo.townhalls import DOWN, NUMBERED, TownHalls

ROOT = Path(__file__).parents[2]
SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes now").decode()
BODY = b'{"type":"disaster.alert.v1","data":{"id":"d-1"}}'


@pytest.fixture(name="http")
async def _http() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture(name="halls")
def _halls() -> TownHalls:
    return TownHalls()


@pytest.fixture(name="urls")
async def _urls(halls: TownHalls) -> AsyncIterator[dict[str, str]]:
    async with ministries(halls=halls) as urls:
        yield dict(urls)


def _signed(secret: str = SECRET, *, at: float | None = None, name: str = "d-1") -> dict[str, str]:
    """Headers by the independent library."""
    now = time.time() if at is None else at
    signature = Webhook(secret).sign(name, datetime.fromtimestamp(now, UTC), BODY.decode())
    return {"webhook-id": name, "webhook-timestamp": str(int(now)), "webhook-signature": signature}


async def _pushed(receiver: Receiver, headers: dict[str, str], body: bytes = BODY) -> int:
    app = web.Application()
    app.router.add_post("/hook", receiver.hook)
    async with TestServer(app) as server, ClientSession() as session:
        url = f"http://127.0.0.1:{server.port}/hook"
        async with session.post(url, data=body, headers={**headers, "Content-Type": "application/json"}) as reply:
            return reply.status


async def test_a_signature_of_the_independent_library_is_taken() -> None:
    """The receiver keeps to the specification, and takes the same id once."""
    receiver = Receiver(secret=SECRET)
    assert [await _pushed(receiver, _signed()) for _ in range(2)] == [204, 204]
    assert (list(receiver.taken), receiver.pushes, receiver.forged) == (["d-1"], 2, 0)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, BODY),
        (_signed("whsec_" + base64.b64encode(bytes(32)).decode()), BODY),
        (_signed(at=time.time() - TOLERANCE - 5), BODY),
        (_signed(), BODY.replace(b"d-1", b"d-2")),
        ({**_signed(), "webhook-id": "d-2"}, BODY),
        ({**_signed(), "webhook-signature": "v1,=== v1a,=== v2,x"}, BODY),
    ],
    ids=["none", "another_secret", "old", "another_body", "another_id", "nonsense"],
)
async def test_what_nobody_signed_is_refused(headers: dict[str, str], body: bytes) -> None:
    """A forged or recorded push is 401 and counted, and nothing of it is kept."""
    receiver = Receiver(secret=SECRET)
    assert await _pushed(receiver, headers, body) == 401
    assert (len(receiver.taken), receiver.forged) == (0, 1)


@pytest.mark.parametrize("known", [True, False])
async def test_a_published_key_verifies(known: bool) -> None:  # noqa: FBT001 - a case's value
    """v1a is checked with the key that the gateway publishes, and with no other."""
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public = base64.b64encode((key if known else other).public_key().public_bytes_raw()).decode()
    published = web.Application()

    async def keys(_: web.Request) -> web.Response:
        return web.json_response({"keys": [{"whpk": f"whpk_{public}"}]})

    published.router.add_get("/.well-known/webhook-keys.json", keys)
    now = str(int(time.time()))
    made = base64.b64encode(key.sign(b"d-1." + now.encode() + b"." + BODY)).decode()
    headers = {"webhook-id": "d-1", "webhook-timestamp": now, "webhook-signature": f"v1a,{made}"}
    async with TestServer(published) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.port}")
        assert await _pushed(receiver, headers) == (204 if known else 401)


async def test_every_variable_of_a_manifest_has_an_address(urls: dict[str, str]) -> None:
    """No agency's folder waits for an address that the demonstration does not give, and none is given in vain."""
    written = "".join(path.read_text("utf-8") for path in ROOT.glob("adapters/*/agency.yaml"))
    assert set(re.findall(r"\$\{([A-Z_]+)\}", written)) == set(urls) - set(KAFKA) == set(VARIABLES)


async def test_who_was_down_comes_back(urls: dict[str, str], halls: TownHalls, http: ClientSession) -> None:
    """Its port refuses connections, and then answers at the same address."""
    url = urls[f"{DOWN.upper()}_URL"] + "/hook"
    with pytest.raises(ClientConnectionError):
        await http.post(url)
    await halls.come_back()
    async with http.post(url) as reply:
        assert reply.status == 401


async def test_the_operations_centre_numbers_what_it_takes(
    urls: dict[str, str], halls: TownHalls, http: ClientSession
) -> None:
    """The same document has the same number, and bytes that changed on the way are refused."""
    url = urls[f"{NUMBERED.upper()}_URL"] + "/alerts"
    digest = base64.b64encode(sha256(BODY).digest()).decode()
    numbers = []
    for name in ("d-1", "d-2", "d-1"):
        headers = {"Exchange-Id": name, "Content-Digest": f"sha-256=:{digest}:", "Content-Type": "application/json"}
        async with http.post(url, data=BODY, headers=headers) as reply:
            numbers.append((await reply.json())["logbook"]["number"])
    async with http.post(url, data=BODY + b" ", headers=headers) as reply:
        assert reply.status == 400
    assert numbers == ["NK-2569/1", "NK-2569/2", "NK-2569/1"]
    assert halls.took(NUMBERED) == ["d-1", "d-2"]
