"""The JWKS cache against an https server that behaves, and misbehaves."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme
from aiohttp import web

from gateway.edge import issuers
from gateway.edge.issuers import Jwks, KeysUnavailable
from tests.fakes import catalogues
from tests.fakes.idp import Clock, Key, Noted, Server, fetching, key, serving

KEY, OTHER = key(), key("EdDSA")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def server(authority: trustme.CA) -> AsyncIterator[Server]:
    async with serving(authority) as server:
        server.keys = [KEY.public]
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
async def jwks(authority: trustme.CA, clock: Clock, noted: Noted) -> AsyncIterator[Jwks]:
    async with fetching(authority, clock, noted, seconds=2) as jwks:
        yield jwks


async def settle(jwks: Jwks) -> None:
    """Let what runs in the background end."""
    await asyncio.gather(*jwks._tasks)


async def has(jwks: Jwks, server: Server, wanted: Key) -> bool:
    found = await jwks.key(server.url, wanted.thumbprint)
    return found is not None and found.thumbprint == wanted.thumbprint


async def test_fetched_once(jwks: Jwks, server: Server, noted: Noted) -> None:
    """A key is fetched when it is first asked for, and then remembered."""
    assert await has(jwks, server, KEY)
    assert await has(jwks, server, KEY)
    assert (server.asked, noted.outcomes, noted.addresses) == (1, ["fetched"], [server.url])


async def test_single_flight(jwks: Jwks, server: Server) -> None:
    """Many who wait for the same address share one fetch."""
    server.gate.clear()
    waiting = [asyncio.create_task(has(jwks, server, KEY)) for _ in range(50)]
    await server.arrived.wait()
    server.gate.set()
    assert all(await asyncio.gather(*waiting))
    assert server.asked == 1


async def test_waiter_that_goes_away(jwks: Jwks, server: Server) -> None:
    """A caller that gives up does not take the fetch away from the others."""
    server.gate.clear()
    first, second = (asyncio.create_task(has(jwks, server, KEY)) for _ in range(2))
    await server.arrived.wait()
    first.cancel()
    server.gate.set()
    assert await second


async def test_flood_of_unknown_kids(jwks: Jwks, server: Server, clock: Clock) -> None:
    """A thousand unknown kids in a minute cost at most one fetch in ten seconds."""
    for number in range(1000):
        clock.now = 1000 + number * 0.06
        assert await jwks.key(server.url, f"forged-{number}") is None
    assert server.asked <= 6
    assert len(jwks._places[server.url].unknown) <= issuers.MAX_UNKNOWN


async def test_same_unknown_kid(jwks: Jwks, server: Server, clock: Clock) -> None:
    """A kid that a good set lacked is not looked for again for a minute, then it is."""
    assert await jwks.key(server.url, "forged") is None
    clock.now += 59
    assert await jwks.key(server.url, "forged") is None
    assert server.asked == 1
    clock.now += 2
    assert await jwks.key(server.url, "forged") is None
    assert server.asked == 2


async def test_many_unknown_kids_are_forgotten(jwks: Jwks, server: Server, clock: Clock) -> None:
    """What is remembered of unknown kids is bounded."""
    for number in range(issuers.MAX_UNKNOWN + 5):
        clock.now += issuers.COOL_DOWN
        await jwks.key(server.url, f"forged-{number}")
    assert len(jwks._places[server.url].unknown) == issuers.MAX_UNKNOWN


async def test_new_key_is_found(jwks: Jwks, server: Server, clock: Clock) -> None:
    """A key that its owner has just published is found once the cool-down has passed."""
    assert await has(jwks, server, KEY)
    server.keys = [KEY.public, OTHER.public]
    assert not await has(jwks, server, OTHER)
    clock.now += issuers.COOL_DOWN
    assert await has(jwks, server, OTHER)


async def test_stale_while_renewing(jwks: Jwks, server: Server, clock: Clock) -> None:
    """After five minutes the old set still answers at once, and a new one is fetched in the background."""
    assert await has(jwks, server, KEY)
    server.keys = [OTHER.public]
    clock.now += issuers.FRESH + 1
    assert await has(jwks, server, KEY)
    await settle(jwks)
    assert jwks.lists(server.url, KEY.thumbprint) is False
    assert jwks.lists(server.url, OTHER.thumbprint) is True


async def test_last_good_set_is_kept_for_a_day(jwks: Jwks, server: Server, clock: Clock, noted: Noted) -> None:
    """While the address fails the last good set holds, for a day and no longer."""
    assert await has(jwks, server, KEY)
    server.answer = web.Response(status=500)
    clock.now += issuers.KEPT
    assert await has(jwks, server, KEY)
    await settle(jwks)
    assert noted.outcomes == ["fetched", "the address answered 500, not 200; redirects are not followed"]
    clock.now += 20
    assert jwks.lists(server.url, KEY.thumbprint) is None
    server.answer = None
    assert await has(jwks, server, KEY)


async def test_down(jwks: Jwks, server: Server, clock: Clock, noted: Noted) -> None:
    """A server that breaks off leaves nothing to verify with, and is left in peace until the cool-down has passed."""
    server.down = True
    for _ in range(3):
        with pytest.raises(KeysUnavailable) as caught:
            await jwks.key(server.url, KEY.thumbprint)
        assert caught.value.retry_after == issuers.COOL_DOWN
    assert noted.outcomes == ["the address cannot be reached (ServerDisconnectedError)"]
    server.down = False
    clock.now += issuers.COOL_DOWN
    assert await has(jwks, server, KEY)


async def test_slow(authority: trustme.CA, server: Server, clock: Clock, noted: Noted) -> None:
    """A server that does not answer is waited for as long as was said, and no longer."""
    server.gate.clear()
    async with fetching(authority, clock, noted, seconds=0.05) as jwks:
        with pytest.raises(KeysUnavailable):
            await jwks.key(server.url, KEY.thumbprint)
    assert noted.outcomes == ["the address did not answer within 0.05 s"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (web.Response(body=b" " * 65_537), "larger than 65536 bytes"),
        (web.Response(body=gzip.compress(b'{"keys": []}'), headers={"Content-Encoding": "gzip"}), "no JSON"),
        (web.Response(status=302, headers={"Location": "/jwks.json"}), "redirects are not followed"),
        (web.Response(text="[]"), "no list"),
        (web.Response(text='{"keys": {}}'), "no list"),
        (web.json_response({"keys": [{}] * 65}), "at most 64 keys"),
        (web.Response(text='{"keys": [], "keys": []}'), "same name twice"),
    ],
)
async def test_answer_that_is_no_set(
    jwks: Jwks, server: Server, noted: Noted, answer: web.Response, words: str
) -> None:
    """Too much, a redirect, a compressed answer, or no JWKS: nothing of it is used."""
    server.answer = answer
    with pytest.raises(KeysUnavailable):
        await jwks.key(server.url, KEY.thumbprint)
    assert words in noted.outcomes[0]
    assert server.asked == 1


async def test_certificate_of_a_stranger(server: Server, noted: Noted) -> None:
    """A server that the given TLS context does not trust is not believed."""
    jwks = Jwks(tls=ssl.create_default_context(), events=noted)
    with pytest.raises(KeysUnavailable):
        await jwks.key(server.url, KEY.thumbprint)
    await jwks.close()
    assert "Certificate" in noted.outcomes[0]


async def test_only_https(jwks: Jwks, server: Server, noted: Noted) -> None:
    """Keys that came in the clear would be anybody's."""
    with pytest.raises(KeysUnavailable):
        await jwks.key(server.url.replace("https", "http"), KEY.thumbprint)
    assert (server.asked, noted.outcomes) == (0, ["the address is not https"])


async def test_unusable_keys_are_passed_over(jwks: Jwks, server: Server) -> None:
    """Symmetric, private and ambiguous keys of a set are not used; the good ones beside them are."""
    twin = {**OTHER.public, "kid": "twin"}
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"}
    server.keys = [KEY.public, secret, twin, {**key().public, "kid": "twin"}, {**key().private, "kid": "leaked"}]
    assert await has(jwks, server, KEY)
    assert list(jwks._places[server.url].keys) == [KEY.thumbprint]


async def test_key_without_kid(jwks: Jwks, server: Server) -> None:
    """A key that names itself not goes by its thumbprint."""
    server.keys = [{name: value for name, value in KEY.public.items() if name not in ("kid", "alg")}]
    assert await has(jwks, server, KEY)


async def test_lists_asks_nobody(jwks: Jwks, server: Server) -> None:
    """Where nothing was fetched nothing is known, and asking that fetches nothing."""
    assert jwks.lists(server.url, KEY.thumbprint) is None
    assert server.asked == 0


async def test_follows_the_catalogue(jwks: Jwks, server: Server) -> None:
    """An address that the catalogue no longer names is forgotten; one that it names is kept."""
    await has(jwks, server, KEY)
    named = catalogues.agency("finance", catalogues.system("finance.local_tax", keys_url=server.url))
    jwks.follow(catalogues.of(named))
    assert jwks.lists(server.url, KEY.thumbprint) is True
    jwks.follow(catalogues.of())
    assert jwks.lists(server.url, KEY.thumbprint) is None


async def test_closed_while_fetching(jwks: Jwks, server: Server) -> None:
    """Closing ends what runs; who waits is told that there are no keys."""
    server.gate.clear()
    waiting = asyncio.create_task(jwks.key(server.url, KEY.thumbprint))
    await server.arrived.wait()
    await jwks.close()
    with pytest.raises(KeysUnavailable):
        await waiting
