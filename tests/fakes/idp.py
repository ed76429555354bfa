"""Parties that sign: keys, tokens good and forged, and an https server of a JWKS that can misbehave."""

import asyncio
import base64
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import trustme
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm, get_default_algorithms

from gateway.core.jwk import public_part, thumbprint
from gateway.edge import keys
from gateway.edge.issuers import Jwks
from gateway.edge.keys import Keyring

NOW = 1_800_000_000.0
ISSUER = "https://gateway.example"
Claims = dict[str, Any]


@dataclass(frozen=True)
class Key:
    """A key pair of some party."""

    private: Mapping[str, str]

    @property
    def thumbprint(self) -> str:
        return thumbprint(self.private)

    @property
    def public(self) -> dict[str, str]:
        return {**public_part(self.private), "kid": self.thumbprint, "alg": self.private["alg"]}

    def sign(self, claims: Mapping[str, Any], **header: Any) -> str:
        """A token; ``header`` adds parameters, and takes away those that are None."""
        head = {"alg": self.private["alg"], "kid": self.thumbprint, **header}
        signed = unsigned({name: value for name, value in head.items() if value is not None}, claims)
        algorithm = get_default_algorithms()[self.private["alg"]]
        return signed + "." + b64(algorithm.sign(signed.encode(), algorithm.from_jwk(dict(self.private))))


def key(alg: str = "ES256") -> Key:
    """A fresh key for one of the five algorithms."""
    made: Any
    match alg:
        case "ES256" | "ES384":
            curve = ec.SECP256R1() if alg == "ES256" else ec.SECP384R1()
            made = ECAlgorithm.to_jwk(ec.generate_private_key(curve), as_dict=True)
        case "EdDSA":
            made = OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate(), as_dict=True)
        case _:
            made = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True)
    return Key({**made, "alg": alg})


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def unsigned(header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """What a signature is over."""
    return b64(orjson.dumps(header)) + "." + b64(orjson.dumps(claims))


def hmac_signed(header: Mapping[str, Any], claims: Mapping[str, Any], secret: bytes) -> str:
    """A token by HMAC, as in the attack that takes a public key for the secret."""
    signed = unsigned(header, claims)
    return signed + "." + b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())


def keyring(folder: Path, instance: str = "DEMO") -> Keyring:
    """A gateway's keys, made and read as a deployment does."""
    (folder / "gateway").mkdir(parents=True)
    keys.save(folder / "gateway/signing.jwk.json", keys.new_signing_key(instance))
    keys.save(folder / "gateway/webhook.jwk.json", keys.new_webhook_key(instance))
    keys.save(folder / "gateway/master.key.json", keys.new_master_key(instance))
    return keys.read(folder, instance)


def assertion_claims(client: str = "finance.local_tax", **changes: Any) -> Claims:
    """What a client assertion says; None takes a claim away."""
    said = {"iss": client, "sub": client, "aud": ISSUER, "jti": "one", "iat": NOW, "exp": NOW + 60}
    return _changed(said, changes)


def access_claims(**changes: Any) -> Claims:
    """What an access token of some issuer says for the system finance.local_tax."""
    said = {
        "iss": "https://idp.finance.example",
        "aud": "DEMO",
        "sub": "finance.local_tax",
        "client_id": "finance.local_tax",
        "scope": "population:read",
        "jti": "one",
        "iat": NOW,
        "exp": NOW + 600,
    }
    return _changed(said, changes)


def person_claims(**changes: Any) -> Claims:
    """What a user assertion says."""
    said = {
        "iss": "https://idp.finance.example",
        "aud": "DEMO",
        "sub": "clerk-17",
        "post": "registrar",
        "exp": NOW + 600,
    }
    return _changed(said, changes)


def _changed(said: Claims, changes: Mapping[str, Any]) -> Claims:
    return {name: value for name, value in {**said, **changes}.items() if value is not None}


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Noted:
    """What was reported."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.addresses: list[str] = []

    def keys(self, address: str, outcome: str) -> None:
        self.addresses.append(address)
        self.outcomes.append(outcome)

    def token(self, outcome: str) -> None:
        self.outcomes.append(outcome)


@dataclass
class Server:
    """A JWKS server's address, what it answers, and how often it was asked."""

    url: str = ""
    keys: list[dict[str, str]] = field(default_factory=list)
    answer: web.Response | None = None
    """Instead of the keys."""
    down: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """The answer waits for it."""
    asked: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        self.arrived.set()
        if self.down and request.transport is not None:
            request.transport.abort()
        await self.gate.wait()
        return self.answer or web.json_response({"keys": self.keys})


@asynccontextmanager
async def serving(authority: trustme.CA) -> AsyncIterator[Server]:
    """A JWKS server on https://127.0.0.1 with a certificate of that authority."""
    server = Server()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    app = web.Application()
    app.router.add_get("/jwks.json", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    server.url = f"https://127.0.0.1:{runner.addresses[0][1]}/jwks.json"
    yield server
    server.gate.set()
    await runner.cleanup()


@asynccontextmanager
async def fetching(authority: trustme.CA, clock: Clock, noted: Noted, seconds: float = 5.0) -> AsyncIterator[Jwks]:
    """The cache under test, trusting that authority."""
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    jwks = Jwks(tls=tls, events=noted, clock=clock, seconds=seconds)
    yield jwks
    await jwks.close()
