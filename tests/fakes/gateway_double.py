"""A stand-in for the gateway's HTTP interface that fails on demand, and what a client under test is made with."""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import jwt
import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from gateway.client import Pace

ISSUER = "https://gateway.double.example"
NOW = 1_800_000_000.0
"""Seconds since 1970 on the double's clock, which stands."""

Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""What the double does instead of answering."""


def refusal(status: int, code: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> Fault:
    """A problem document."""
    document = {"type": f"/docs/{code}", "title": f"Title of {code}", "status": status, "code": code, **members}

    async def answer(_: web.Request) -> web.StreamResponse:
        raw = orjson.dumps({"detail": "Why.", "exchange": "x-1"} | document)
        return web.Response(status=status, body=raw, content_type="application/problem+json", headers=headers)

    return answer


def page(
    status: int, text: str = "<html>", media: str = "text/html", *, headers: Mapping[str, str] | None = None
) -> Fault:
    """What a proxy, or somebody else's server, might say."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type=media, headers=headers)

    return answer


async def cut(request: web.Request) -> web.StreamResponse:
    """Lose the connection in the middle of an answer."""
    response = web.StreamResponse(headers={"Exchange-Id": "x-cut", "Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"half":')
    if request.transport is not None:
        request.transport.abort()
    return response


async def hang(_: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def garble(request: web.Request) -> web.StreamResponse:
    """Answer what is no HTTP."""
    assert request.transport is not None
    request.transport.write(b"HTTP/1.1 nonsense\r\n\r\n")
    request.transport.close()
    return await hang(request)


def private_key(*, edwards: bool = False) -> dict[str, Any]:
    """A fresh private JWK."""
    if edwards:
        jwk = OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate(), as_dict=True)
    else:
        jwk = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
    return {**jwk, "kid": "k1", "instance": "DOUBLE"}


@dataclass(slots=True)
class Watch:
    """The clocks, the chance and the sleep of a client under test: time passes when it sleeps, and when it is told."""

    now: float = 1000.0
    day: float = NOW
    chance: float = 1.0
    slept: list[float] = field(default_factory=list)

    def pace(self, **given: Any) -> Pace:
        return Pace(now=lambda: self.now, wall=lambda: self.day, chance=lambda: self.chance, sleep=self.sleep, **given)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass(slots=True)
class GatewayDouble:
    """A server on 127.0.0.1; each fault in ``faults`` and ``token_faults`` is used up by one request."""

    public: Mapping[str, Any]
    """The JWK that assertions must be signed with."""
    tls: ssl.SSLContext | None = None
    expires_in: int = 600
    metadata: bool = True
    faults: deque[Fault] = field(default_factory=deque)
    token_faults: deque[Fault] = field(default_factory=deque)
    calls: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    """Headers and body of every exchange that came."""
    grants: list[Mapping[str, str]] = field(default_factory=list)
    """The form of every request for a token."""
    assertions: list[Mapping[str, Any]] = field(default_factory=list)
    valid: dict[str, str] = field(default_factory=dict)
    """Tokens and their scopes."""
    _server: TestServer | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return str(self._server.make_url("/")).rstrip("/")

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/.well-known/oauth-authorization-server", self._describe)
        app.router.add_post("/oauth/token", self._token)
        app.router.add_post("/v1/exchange/{agency}/{service}", self._exchange)
        app.router.add_get("/v1/catalogue", self._catalogue)
        self.more(app)
        self._server = TestServer(app, host="127.0.0.1", scheme="https" if self.tls else "http")
        await self._server.start_server(ssl=self.tls, shutdown_timeout=0.1)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        await self._server.close()

    def more(self, app: web.Application) -> None:
        """What another double also answers."""

    async def _describe(self, _: web.Request) -> web.StreamResponse:
        if not self.metadata:
            raise web.HTTPNotFound
        return web.json_response({"issuer": ISSUER, "token_endpoint": f"{ISSUER}/oauth/token"})

    async def _token(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.grants.append(form)
        if self.token_faults:
            return await self.token_faults.popleft()(request)
        try:
            claims = self._proven(form["client_assertion"], {ISSUER, f"{self.url}/oauth/token"})
        except (jwt.PyJWTError, KeyError):
            said = {"error": "invalid_client", "error_description": "Unknown key."}
            return web.json_response(said, status=401, headers={"Date": formatdate(NOW, usegmt=True)})
        self.assertions.append(claims)
        token = f"token-{uuid4()}"
        self.valid[token] = form.get("scope", "")
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": self.expires_in})

    def _proven(self, assertion: str, audience: set[str]) -> Mapping[str, Any]:
        key = jwt.PyJWK(dict(self.public))
        # Whether it is in time is the test's business: clients here have clocks of their own.
        claims: dict[str, Any] = jwt.decode(
            assertion,
            key,
            algorithms=[key.algorithm_name],
            audience=audience,
            options={"verify_exp": False, "verify_iat": False},
        )
        if claims["jti"] in {earlier["jti"] for earlier in self.assertions}:
            raise jwt.InvalidTokenError("seen before")
        return claims

    async def _exchange(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.calls.append((request.headers.copy(), body))
        fault = self._fault(request)
        if fault is not None:
            return await fault(request)
        headers = {"Exchange-Id": f"x-{len(self.calls)}", "Exchange-Entry": f"w.{len(self.calls)} abc"}
        keys = [earlier["Idempotency-Key"] for earlier, _ in self.calls[:-1]]
        if request.headers["Idempotency-Key"] in keys:
            headers["Exchange-Replayed"] = "?1"
        return web.json_response({"asked": orjson.loads(body)}, headers=headers)

    async def _catalogue(self, request: web.Request) -> web.StreamResponse:
        fault = self._fault(request)
        if fault is not None:
            return await fault(request)
        return web.json_response({"instance": "DOUBLE", "digest": "d", "services": []})

    def _fault(self, request: web.Request) -> Fault | None:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.valid:
            return refusal(401, "identity.expired")
        return self.faults.popleft() if self.faults else None
