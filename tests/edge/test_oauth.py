"""The token endpoint and what is published, over HTTP."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.core.model import Standing
from gateway.core.refusal import Refusal
from gateway.edge import oauth
from gateway.edge.identity import Identity
from gateway.edge.keys import Keyring
from gateway.edge.peer import Peers
from gateway.edge.strangers import Strangers
from tests.fakes import catalogues
from tests.fakes.certificates import certificate
from tests.fakes.idp import ISSUER, NOW, Clock, Noted, assertion_claims, fetching, key, keyring

KEY = key()
CERTIFICATE = certificate()
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Memory:
    """Ids of assertions, in memory."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], float] = {}
        self.down = False

    async def first(self, system: str, jti: str, until: float) -> bool:
        if self.down:
            raise Refusal("journal.unavailable", "The store does not answer.", retry_after=2.5)
        new = (system, jti) not in self.seen
        self.seen[system, jti] = until
        return new


class Site:
    """The endpoint with what surrounds it."""

    def __init__(self, ring: Keyring) -> None:
        self.ring = ring
        self.now = NOW
        self.steady = Clock()
        self.once = Memory()
        self.noted = Noted()
        self.standing = Standing.ACTIVE
        self.scopes = ["population:read", "tax:read"]
        self.certificate_bound = False
        self.client: TestClient[Any, Any]
        self.identity: Identity

    def catalogue(self) -> Any:
        system = catalogues.system(
            "finance.local_tax",
            KEY.public,
            scopes=self.scopes,
            certificate_bound=self.certificate_bound,
            standing=self.standing,
        )
        other = catalogues.system("finance.audit_office", KEY.public)
        return catalogues.of(catalogues.agency("finance", system, other))

    async def post(self, headers: Mapping[str, str] | None = None, **changes: Any) -> tuple[int, dict[str, Any]]:
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": KEY.sign(assertion_claims()),
            **changes,
        }
        sent = aiohttp.FormData({name: value for name, value in form.items() if value is not None})
        async with self.client.post("/oauth/token", data=sent, headers=headers) as response:
            assert response.headers["Cache-Control"] == "no-store"
            return response.status, await response.json()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with fetching(trustme.CA(), Clock(), Noted()) as jwks:
        site = Site(keyring(tmp_path))
        site.identity = Identity(site.ring, ISSUER, jwks)
        peers = Peers([ip_network("127.0.0.1/32")])
        around = oauth.Surroundings(
            catalogue=site.catalogue,
            clock=lambda: site.now,
            steady=site.steady,
            peers=peers,
            once=site.once,
            events=site.noted,
            strangers=Strangers(site.steady),
        )
        app = web.Application()
        app.add_routes(oauth.routes(site.ring, ISSUER, site.identity, around))
        async with TestClient(TestServer(app)) as site.client:
            yield site


async def test_issued(site: Site) -> None:
    """A system that proves its key gets a token that the gateway takes, for ten minutes and all its scopes."""
    status, body = await site.post()
    assert (status, body["token_type"], body["expires_in"]) == (200, "Bearer", 600)
    assert body["scope"] == "population:read tax:read"
    caller = await site.identity.caller("Bearer " + body["access_token"], None, site.catalogue(), NOW + 599)
    assert (caller.system, caller.client_key) == ("finance.local_tax", KEY.thumbprint)
    assert site.noted.outcomes == ["issued"]


async def test_part_of_the_scopes(site: Site) -> None:
    """A token may be for less than the system may."""
    _, body = await site.post(scope="tax:read", client_id="finance.local_tax")
    caller = await site.identity.caller("Bearer " + body["access_token"], None, site.catalogue(), NOW)
    assert caller.scopes == {"tax:read"}


async def test_system_without_scopes(site: Site) -> None:
    """A system without scopes gets a token without any."""
    site.scopes = []
    status, body = await site.post()
    assert (status, body["scope"]) == (200, "")
    assert not (await site.identity.caller("Bearer " + body["access_token"], None, site.catalogue(), NOW)).scopes


async def test_token_is_fresh_each_time(site: Site) -> None:
    """No two tokens are the same."""
    _, one = await site.post()
    _, two = await site.post(client_assertion=KEY.sign(assertion_claims(jti="two")))
    assert one["access_token"] != two["access_token"]


async def test_replayed_assertion(site: Site) -> None:
    """An assertion is good once; its id is remembered for as long as it lives."""
    assertion = KEY.sign(assertion_claims())
    assert (await site.post(client_assertion=assertion))[0] == 200
    status, body = await site.post(client_assertion=assertion)
    assert (status, body["error"]) == (401, "invalid_client")
    assert site.once.seen == {("finance.local_tax", "one"): NOW + 60}
    assert site.noted.outcomes == ["issued", "invalid_client"]


async def test_only_what_is_signed_is_remembered(site: Site) -> None:
    """A forged assertion does not use up the id of a good one."""
    assert (await site.post(client_assertion=key().sign(assertion_claims())))[0] == 401
    assert (await site.post(client_id="interior.civil_registry"))[0] == 401
    assert site.once.seen == {}


async def test_store_unavailable(site: Site) -> None:
    """Where ids cannot be remembered no token is given, and the answer says when to try again."""
    site.once.down = True
    status, body = await site.post()
    assert (status, body["error"]) == (503, "temporarily_unavailable")
    async with site.client.post("/oauth/token", data=_form()) as response:
        assert response.headers["Retry-After"] == "3"


def _form() -> dict[str, str]:
    return {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": KEY.sign(assertion_claims()),
    }


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"grant_type": None}, 400, "invalid_request"),
        ({"grant_type": ""}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"client_assertion_type": None}, 401, "invalid_client"),
        ({"client_assertion_type": "urn:saml"}, 401, "invalid_client"),
        ({"client_assertion": None}, 401, "invalid_client"),
        ({"client_assertion": "x"}, 401, "invalid_client"),
        ({"client_assertion": "é.b.c"}, 401, "invalid_client"),
        ({"client_assertion": "a" * 9000}, 401, "invalid_client"),
        ({"client_assertion": KEY.sign(assertion_claims(exp=NOW))}, 401, "invalid_client"),
        ({"client_assertion": KEY.sign(assertion_claims(nbf=NOW + 31))}, 401, "invalid_client"),
        ({"client_assertion": KEY.sign(assertion_claims(aud="https://other.example"))}, 401, "invalid_client"),
        ({"client_id": "interior.civil_registry"}, 401, "invalid_client"),
        ({"scope": "population:read admin"}, 400, "invalid_scope"),
        ({"scope": "population:read  tax:read"}, 400, "invalid_scope"),
        ({"padding": "a" * 17_000}, 413, "invalid_request"),
    ],
)
async def test_denied(site: Site, changes: dict[str, Any], status: int, error: str) -> None:
    """Every wrong request is answered by the error that RFC 6749 has for it, and counted."""
    answered, body = await site.post(**changes)
    assert (answered, body["error"]) == (status, error)
    assert body["error_description"].isascii()
    assert site.noted.outcomes == [error]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"grant_type=client_credentials&grant_type=client_credentials", {}),
        (b"grant_type", {}),
        (b"", {}),
        (b"\xff=\xff", {}),
        (b"a=%ff", {}),
        (b"&".join(b"p%d=1" % number for number in range(40)), {}),
        (b"{}", {"Content-Type": "application/json"}),
        (b"grant_type=client_credentials", {"Content-Encoding": "gzip"}),
        (b"grant_type=client_credentials", {"Authorization": "Basic YTpi"}),
    ],
)
async def test_malformed_request(site: Site, body: bytes, headers: dict[str, str]) -> None:
    """What is no form, says a thing twice, or authenticates in two ways, is refused."""
    sent = {"Content-Type": "application/x-www-form-urlencoded", **headers}
    async with site.client.post("/oauth/token", data=body, headers=sent) as response:
        assert (response.status, (await response.json())["error"]) == (400, "invalid_request")


async def test_announced_gibibyte(site: Site) -> None:
    """A body that is announced as too large is answered before any of it comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.client.port)
    writer.write(
        b"POST /oauth/token HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1073741824\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413")
    assert b"Connection: close" in head
    writer.close()
    await writer.wait_closed()


async def test_endless_body(site: Site) -> None:
    """A body that does not say its length is read as far as the limit, and no further."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 2**24:
            sent += 4096
            yield b"a" * 4096

    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    try:
        async with site.client.post("/oauth/token", data=endless(), headers=headers) as response:
            assert response.status == 413
    except aiohttp.ClientOSError:  # the gateway had hung up while the rest was being sent
        assert site.noted.outcomes == ["invalid_request"]
    assert sent < 2**24


async def test_revoked_system(site: Site) -> None:
    """A revoked system gets no token."""
    site.standing = Standing.REVOKED
    assert (await site.post())[1]["error"] == "invalid_client"


def claims(body: Mapping[str, Any]) -> Any:
    """What a token says."""
    part = body["access_token"].split(".")[1]
    return orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


async def test_bound_token(site: Site) -> None:
    """The token of a system whose folder asks for it is bound to the certificate that came with the request."""
    site.certificate_bound = True
    status, body = await site.post({"Client-Cert": CERTIFICATE.sequence})
    assert (status, claims(body)["cnf"]) == (200, {"x5t#S256": CERTIFICATE.thumbprint})
    header = "Bearer " + body["access_token"]
    await site.identity.caller(header, CERTIFICATE.thumbprint, site.catalogue(), NOW)
    with pytest.raises(Refusal, match="none was shown"):
        await site.identity.caller(header, None, site.catalogue(), NOW)


async def test_no_certificate_for_a_bound_token(site: Site) -> None:
    """Without a certificate such a system gets no token, hears what to do, and its assertion is not used up."""
    site.certificate_bound = True
    status, body = await site.post()
    assert (status, body["error"]) == (400, "invalid_request")
    assert "connect with one" in body["error_description"]
    assert site.once.seen == {}


async def test_certificate_that_nobody_asked_for(site: Site) -> None:
    """Other systems' tokens are not bound, whatever certificate they show."""
    _, body = await site.post({"Client-Cert": CERTIFICATE.sequence})
    assert "cnf" not in claims(body)


async def test_nonsense_for_a_certificate(site: Site) -> None:
    """What a trusted proxy passes on must be a certificate."""
    status, body = await site.post({"Client-Cert": "nonsense"})
    assert (status, body["error"]) == (400, "invalid_request")
    assert "nonsense" not in body["error_description"]


async def storm(site: Site, first: int, count: int, system: str = "finance.local_tax") -> list[int]:
    """That many requests, each with an assertion of its own."""
    made = [KEY.sign(assertion_claims(system, jti=str(number))) for number in range(first, first + count)]
    return [(await site.post(client_assertion=assertion))[0] for assertion in made]


async def test_token_storm(site: Site) -> None:
    """Beyond thirty tokens in ten seconds a system gets 429, the database is not asked, and others get theirs."""
    assert await storm(site, 0, oauth.MAX_TOKENS + 2) == [200] * oauth.MAX_TOKENS + [429] * 2
    assert len(site.once.seen) == oauth.MAX_TOKENS
    assert site.noted.outcomes[-2:] == ["too_many"] * 2
    assert await storm(site, 0, 1, "finance.audit_office") == [200]
    site.steady.now += 1.0
    assert await storm(site, 100, 4) == [200] * 3 + [429]


async def test_answer_to_a_token_storm(site: Site) -> None:
    """Who asks too often is told when to ask again, in a form that OAuth clients read."""
    await storm(site, 0, oauth.MAX_TOKENS)
    async with site.client.post("/oauth/token", data=_form()) as response:
        body = await response.json()
        assert (response.status, response.headers["Retry-After"]) == (429, "1")
    assert body["error"] == "temporarily_unavailable"
    assert "more than 30 tokens in 10 s" in body["error_description"]


async def test_others_cannot_use_up_a_systems_tokens(site: Site) -> None:
    """Requests that prove nothing draw nothing."""
    forged = key().sign(assertion_claims())
    for _ in range(oauth.MAX_TOKENS + 1):
        assert (await site.post(client_assertion=forged))[0] == 401
    assert (await site.post())[0] == 200


async def test_published_keys(site: Site) -> None:
    """The JWKS has the public keys alone, and what it has verifies the tokens."""
    async with site.client.get("/.well-known/jwks.json") as response:
        assert response.content_type == "application/jwk-set+json"
        body = await response.json(content_type=None)
    assert [jwk["kid"] for jwk in body["keys"]] == [site.ring.signing.kid]
    assert set(body["keys"][0]) == {"kty", "crv", "x", "y", "kid", "alg", "use"}


async def test_metadata(site: Site) -> None:
    """The metadata say where everything is (RFC 8414), and only what is offered."""
    async with site.client.get("/.well-known/oauth-authorization-server") as response:
        body = await response.json()
    assert body == {
        "issuer": ISSUER,
        "token_endpoint": ISSUER + "/oauth/token",
        "jwks_uri": ISSUER + "/.well-known/jwks.json",
        "response_types_supported": [],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["ES256", "ES384", "EdDSA", "RS256", "PS256"],
        "tls_client_certificate_bound_access_tokens": True,
    }
