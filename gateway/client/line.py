"""How each call is made: with a token that is renewed, again where that has sense, within its time."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import orjson

from gateway.client.pace import Pace
from gateway.client.refusals import NotIdentified, refusal
from gateway.client.tokens import Tokens
from gateway.client.wire import UNSENDABLE, GatewayError, Reply, Request, Wire

MAX_REQUEST = 2**20
"""Bytes; no service takes more."""

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
# These may be about the token alone, which a fresh one cures.
_TOKEN_SECONDS = 30.0
_STALE = frozenset({"identity.expired", "identity.revoked", "identity.invalid"})


class Line:
    """One system's line to the gateway: connections, tokens, patience."""

    def __init__(self, wire: Wire, tokens: Tokens, pace: Pace) -> None:
        self.wire = wire
        self.tokens = tokens
        self.pace = pace

    async def call(self, request: Request, scope: str | None, seconds: float) -> Reply:
        """Attempts, until one is answered or another has no sense."""
        until = self.pace.now() + seconds
        scopes = frozenset((scope or "").split())
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._attempt(request, scopes, until)
            except GatewayError as error:
                pause = self.pace.pause(attempt, error, until - self.pace.now())
                if pause is None:
                    raise
            await self.pace.sleep(pause)

    async def _attempt(self, request: Request, scopes: frozenset[str], until: float) -> Reply:
        token = await self.tokens.get(scopes, until - self.pace.now())
        try:
            return await self._send(request, token, until)
        except NotIdentified as error:
            if error.code not in _STALE:
                raise
        self.tokens.forget(scopes, token)
        fresh = await self.tokens.get(scopes, until - self.pace.now())
        return await self._send(request, fresh, until)

    async def _send(self, request: Request, token: str, until: float) -> Reply:
        authorised = replace(request, headers={**request.headers, "Authorization": f"Bearer {token}"})
        reply = await self.wire.send(authorised, until - self.pace.now())
        if not 200 <= reply.status < 300:
            raise refusal(reply, self.wire.url)
        return reply

    @asynccontextmanager
    async def stream(self, request: Request, bounds: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer as it comes, once. Raises as ``call`` does."""
        token = await self.tokens.get(frozenset(), _TOKEN_SECONDS)
        authorised = replace(request, headers={**request.headers, "Authorization": f"Bearer {token}"})
        async with self.wire.stream(authorised, bounds) as response:
            if not 200 <= response.status < 300:
                raise refusal(Reply(response.status, response.headers, await self.wire.read(response)), self.wire.url)
            yield response


def named(what: str, text: str) -> str:
    """The text, where it can be a part of an address. Raises ValueError."""
    if not _NAME.fullmatch(text):  # it becomes a part of the address
        raise ValueError(f"The {what} is no possible name; names look like interior or population.look_up.v1.")
    return text


def sendable(name: str, value: str) -> str:
    """The value of a header. Raises ValueError."""
    if not value.strip() or UNSENDABLE.search(value):
        raise ValueError(f"{name} is empty or holds a control character; leave it out, or send one line of text.")
    return value


def quoted(key: str) -> str:
    """The key as a structured-field string (RFC 9651, section 3.3.3)."""
    if not key or not key.isascii() or not key.isprintable():
        raise ValueError("The idempotency key must be printable ASCII and not empty; a UUID is best.")
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def encoded(body: Any) -> bytes:
    """A body as JSON. Raises ValueError."""
    try:
        raw = orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise ValueError(f"The body cannot be written as JSON: {error}.") from error
    if len(raw) > MAX_REQUEST:
        raise ValueError(f"The body has {len(raw)} bytes of JSON; no service takes more than {MAX_REQUEST}.")
    return raw


def head_of(values: Mapping[str, str | None]) -> dict[str, str]:
    """The headers that were given. Raises ValueError."""
    return {header: sendable(header, value) for header, value in values.items() if value is not None}
