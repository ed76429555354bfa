"""Desks: the systems and clerks of the story that send and receive documents, by plain HTTP as any program would."""

import base64
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import orjson

from gateway.client import GatewayClient, Pace

CIVIL_SERVICE = "https://id.civil-service.example"
"""Where whoever works for the state signs in; the folders of interior and chamkar_mon name it."""
INSTANCE = "DEMO"


@dataclass(frozen=True, slots=True)
class Clerk:
    """Somebody at an agency, as the civil service's issuer would assert it."""

    agency: str
    subject: str
    post: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One call of a system."""

    client: str
    path: str
    method: str = "POST"
    body: Any = None
    """JSON; bytes are sent as they are."""
    scope: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    clerk: Clerk | None = None
    """Who decides, where a person has to."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        """As JSON; an empty object where there is none."""
        return orjson.loads(self.raw) if "json" in self.headers.get("Content-Type", "") else {}

    @property
    def code(self) -> str | None:
        """Of a refusal."""
        found: str | None = self.body.get("code") if self.status >= 400 else None
        return found


class Desks:
    """All of them, with their keys."""

    def __init__(self, gateway: str, private: Path, stack: AsyncExitStack) -> None:
        self.gateway = gateway
        self._private = private
        self._stack = stack
        self._clients: dict[str, GatewayClient] = {}
        self._session: aiohttp.ClientSession | None = None

    async def client(self, system: str) -> GatewayClient:
        """The client of a system, with its own key."""
        if system not in self._clients:
            made = GatewayClient(self.gateway, client_id=system, key=self.key(system), pace=Pace(attempts=1))
            self._clients[system] = await self._stack.enter_async_context(made)
        return self._clients[system]

    def key(self, name: str) -> dict[str, Any]:
        """A private key of the demonstration."""
        found: dict[str, Any] = orjson.loads((self._private / f"{name}.jwk.json").read_bytes())
        return found

    async def call(self, ask: Ask) -> Reply:
        """Make the call, with a token of its own."""
        token = await (await self.client(ask.client)).token(ask.scope)
        headers = {"Authorization": f"Bearer {token}", **ask.headers}
        if ask.clerk is not None:
            headers["Exchange-User-Assertion"] = self.assertion(ask.clerk)
        raw = ask.body if isinstance(ask.body, bytes | None) else orjson.dumps(ask.body)
        if raw is not None:
            headers.setdefault("Content-Type", "application/json")
        return await self._sent(ask.method, ask.path, headers, raw)

    async def receipt(self, text: str) -> dict[str, Any]:
        """What a receipt says, if the gateway's published key signed it. Raises jwt.InvalidTokenError if not."""
        published = (await self._sent("GET", "/.well-known/jwks.json", {}, None)).body
        header = jwt.get_unverified_header(text)
        jwk = next(each for each in published["keys"] if each["kid"] == header["kid"])
        raw: dict[str, Any] = jwt.PyJWS(algorithms=["ES256"]).decode_complete(
            text, jwt.PyJWK(jwk).key, algorithms=["ES256"]
        )
        if header.get("typ") != "exchange-receipt+jwt":
            raise jwt.InvalidTokenError("no receipt")
        said: dict[str, Any] = orjson.loads(raw["payload"])
        return said

    async def _sent(self, method: str, path: str, headers: Mapping[str, str], raw: bytes | None) -> Reply:
        if self._session is None:
            self._session = await self._stack.enter_async_context(aiohttp.ClientSession())
        async with self._session.request(method, self.gateway + path, headers=headers, data=raw) as reply:
            return Reply(reply.status, reply.headers, await reply.read())

    def assertion(self, clerk: Clerk) -> str:
        """What the civil service's issuer would sign for somebody who has signed in."""
        key = self.key(f"{clerk.agency}.civil_service")
        now = int(time.time())
        claims = {"iss": CIVIL_SERVICE, "aud": INSTANCE, "sub": clerk.subject, "iat": now, "exp": now + 600}
        private = jwt.PyJWK(key).key
        return jwt.encode({**claims, "post": clerk.post}, private, "ES256", {"typ": "JWT", "kid": key["kid"]})


def unsigned(receipt: str) -> dict[str, Any]:
    """What a receipt says, without asking who signed it."""
    payload = receipt.split(".")[1]
    said: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return said
