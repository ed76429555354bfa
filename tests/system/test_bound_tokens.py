"""Tokens bound to client certificates (RFC 8705) in a whole gateway: over its own TLS, and behind a trusted proxy."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
import pytest

from gateway.client import GatewayClient, NotIdentified
from gateway.edge import oauth
from tests.fakes import idp
from tests.fakes.certificates import AUTHORITY, Certificate, calling, certificate
from tests.fakes.parties import IDP, ISSUER, LOOK_UP, PERSON, PURPOSE, TAX, Terms
from tests.fakes.town import Reply, Town, opened

OURS, THIEF = certificate(), certificate()
BOUND = Terms(certificate_bound=True)
SHOWN_BY_A_PROXY = [OURS.sequence, OURS.escaped]


@asynccontextmanager
async def speaking_tls(folder: Path, terms: Terms = BOUND) -> AsyncIterator[Town]:
    """A town whose gateway speaks TLS and takes certificates of the authority."""
    leaf = AUTHORITY.issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "key.pem").chmod(0o600)
    leaf.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    AUTHORITY.cert_pem.write_to_path(folder / "authority.pem")
    settings = {
        "tls_certificate": folder / "certificate.pem",
        "tls_key": folder / "key.pem",
        "tls_client_ca": folder / "authority.pem",
    }
    async with opened(folder, terms, **settings) as town:
        yield town


def client(town: Town, folder: Path, shown: Certificate | None) -> GatewayClient:
    """The tax office's own program."""
    return GatewayClient(
        town.at.public,
        client_id=TAX,
        key={**town.keys[TAX].private, "kid": town.keys[TAX].thumbprint},
        ca_file=folder / "authority.pem",
        certificate=shown.saved(folder) if shown else None,
    )


async def look_up(town: Town, token: str, shown: Certificate | None = None, **headers: str) -> Reply:
    """An exchange with this token, on a connection of its own that shows this certificate."""
    sent = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Exchange-Purpose": PURPOSE,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    connector = aiohttp.TCPConnector(ssl=calling(shown))
    url = f"{town.at.public}/v1/exchange/interior/{LOOK_UP}"
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(url, headers=sent, data=orjson.dumps(PERSON)) as answer,
    ):
        raw = await answer.read()
        return Reply(answer.status, answer.headers.copy(), orjson.loads(raw), raw)


async def grant(town: Town, **headers: str) -> tuple[int, Mapping[str, Any]]:
    """What the token endpoint answers the tax office."""
    now = time.time()
    said = idp.assertion_claims(TAX, aud=ISSUER, jti=str(uuid4()), iat=now, exp=now + 60)
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": town.keys[TAX].sign(said),
    }
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"{town.at.public}/oauth/token"
    async with aiohttp.ClientSession() as session, session.post(url, data=form, headers=sent) as answer:
        return answer.status, await answer.json()


def refused(reply: Reply, words: str) -> bool:
    """Whether the answer is the refusal of a token, in these words."""
    assert reply.headers.get("WWW-Authenticate") == 'Bearer realm="gateway", error="invalid_token"'
    return (reply.status, reply.body["code"]) == (401, "identity.invalid") and words in reply.body["detail"]


async def test_bound_over_tls(tmp_path: Path) -> None:
    """A system with its certificate gets a token and uses it; nobody else can, while the gateway remembers it too."""
    async with speaking_tls(tmp_path) as town, client(town, tmp_path, OURS) as gateway:
        answer = await gateway.exchange("interior", LOOK_UP, PERSON, purpose=PURPOSE)
        assert answer.body["name"] == "Sok Dara"
        stolen = await gateway.token()
        for _ in range(2):
            assert refused(await look_up(town, stolen), "none was shown")
            assert refused(await look_up(town, stolen, THIEF), "another client certificate")
            assert refused(await look_up(town, stolen, None, Client_Cert=OURS.sequence), "none was shown")
            assert (await look_up(town, stolen, OURS)).status == 200
        assert len(town.office.seen) == 3


async def test_catalogue_with_a_stolen_token(tmp_path: Path) -> None:
    """A stolen token does not show what is offered either."""
    async with speaking_tls(tmp_path) as town, client(town, tmp_path, OURS) as gateway:
        assert (await gateway.catalogue())["services"]
        headers = {"Authorization": f"Bearer {await gateway.token()}"}
        connector = aiohttp.TCPConnector(ssl=calling(THIEF))
        async with aiohttp.ClientSession(town.at.public, connector=connector, headers=headers) as session:
            for path in ("/v1/catalogue", "/openapi.json"):
                async with session.get(path) as answer:
                    assert (answer.status, (await answer.json(content_type=None))["code"]) == (401, "identity.invalid")


async def test_no_certificate_no_token(tmp_path: Path) -> None:
    """Without a certificate such a system gets no token, and hears why."""
    async with speaking_tls(tmp_path) as town, client(town, tmp_path, None) as gateway:
        with pytest.raises(NotIdentified, match=r"bound to its client certificate.*connect with one"):
            await gateway.exchange("interior", LOOK_UP, PERSON, purpose=PURPOSE)


async def test_renewed_certificate(tmp_path: Path) -> None:
    """A program that comes with a new certificate gets a new token by itself; the old token stays with the old one."""
    async with speaking_tls(tmp_path) as town, client(town, tmp_path, OURS) as gateway:
        old = await gateway.token()
        renewed = certificate()
        async with client(town, tmp_path, renewed) as again:
            assert (await again.exchange("interior", LOOK_UP, PERSON, purpose=PURPOSE)).body["name"] == "Sok Dara"
            assert refused(await look_up(town, old, renewed), "another client certificate")


async def test_binding_of_another_issuer(tmp_path: Path) -> None:
    """What another issuer bound to a certificate is held to it, also for a system that need not be bound."""
    for terms in (Terms(), BOUND):
        (folder := tmp_path / str(terms.certificate_bound)).mkdir()
        async with speaking_tls(folder, terms) as town:
            now = time.time()
            claims = idp.access_claims(iat=now, exp=now + 60, cnf={"x5t#S256": OURS.thumbprint})
            token = town.keys[IDP].sign(claims, typ="at+jwt")
            assert (await look_up(town, token, OURS)).status == 200
            assert refused(await look_up(town, token, THIEF), "another client certificate")
            assert refused(await look_up(town, token), "none was shown")


async def test_unbound_token_of_a_bound_system(tmp_path: Path) -> None:
    """From the moment at which a folder asks for bound tokens, others are refused, whoever made them."""
    async with speaking_tls(tmp_path, Terms()) as town:
        now = time.time()
        theirs = town.keys[IDP].sign(idp.access_claims(iat=now, exp=now + 60), typ="at+jwt")
        tokens = [theirs, town.crafted(TAX, scope="population:read")]
        assert [(await look_up(town, token, OURS)).status for token in tokens] == [200, 200]
        town.agree(BOUND)
        for token in tokens:
            assert refused(await look_up(town, token, OURS), "bound to no client certificate")


@pytest.mark.parametrize("shown", SHOWN_BY_A_PROXY)
async def test_bound_behind_a_proxy(tmp_path: Path, shown: str) -> None:
    """A trusted proxy's word on the certificate binds, in both forms; the journal has the caller's address."""
    async with opened(tmp_path, BOUND, trusted_proxies="127.0.0.1/32") as town:
        status, granted = await grant(town, Client_Cert=shown)
        assert status == 200
        stolen = granted["access_token"]
        used = await look_up(town, stolen, Client_Cert=shown, X_Forwarded_For="10.9.9.9, 203.0.113.9")
        assert used.status == 200
        assert town.entries(used.headers["Exchange-Id"])[0].facts["remote"] == "203.0.113.9"
        assert refused(await look_up(town, stolen), "none was shown")
        assert refused(await look_up(town, stolen, Client_Cert=THIEF.escaped), "another client certificate")
        assert (await look_up(town, stolen, Client_Cert=OURS.sequence)).status == 200


async def test_nonsense_behind_a_proxy(tmp_path: Path) -> None:
    """A proxy that passes on nonsense for a certificate is told so before anybody is identified."""
    async with opened(tmp_path, BOUND, trusted_proxies="127.0.0.1/32") as town:
        token = town.crafted(TAX, scope="population:read", cnf={"x5t#S256": OURS.thumbprint})
        reply = await look_up(town, token, Client_Cert="nonsense")
        assert (reply.status, reply.body["code"]) == (400, "request.malformed")
        assert "nonsense" not in reply.body["detail"]
        assert (await grant(town, Client_Cert=""))[1]["error"] == "invalid_request"


@pytest.mark.parametrize("shown", SHOWN_BY_A_PROXY)
async def test_a_stranger_shows_no_certificate(tmp_path: Path, shown: str) -> None:
    """Who is no trusted proxy gets nothing by a header: no token, no use of one, no other address in the journal."""
    async with opened(tmp_path, BOUND, trusted_proxies="192.0.2.0/24") as town:
        status, answer = await grant(town, Client_Cert=shown)
        assert (status, answer["error"]) == (400, "invalid_request")
        token = town.crafted(TAX, scope="population:read", cnf={"x5t#S256": OURS.thumbprint})
        assert refused(await look_up(town, token, Client_Cert=shown), "none was shown")
        town.agree(Terms())
        free = town.crafted(TAX, scope="population:read")
        reply = await look_up(
            town, free, Client_Cert="nonsense", X_Forwarded_For="203.0.113.9", Forwarded="for=1.2.3.4"
        )
        assert reply.status == 200
        assert town.entries(reply.headers["Exchange-Id"])[0].facts["remote"] == "127.0.0.1"


async def test_token_storm(tmp_path: Path) -> None:
    """A system that asks for tokens in a loop is slowed down, which operators see by a count of its own."""
    async with opened(tmp_path) as town:
        statuses: list[int] = []
        while 429 not in statuses and len(statuses) < 10 * oauth.MAX_TOKENS:
            statuses.append((await grant(town))[0])
        assert statuses == [200] * (len(statuses) - 1) + [429]
        assert len(statuses) > oauth.MAX_TOKENS
        assert (await town.metrics())['gateway_tokens_total{outcome="too_many"}'] == 1
