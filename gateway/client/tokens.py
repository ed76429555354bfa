"""Access tokens: asked for with the system's own key (RFC 7523), kept, and renewed before their end."""

import asyncio
import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import jwt
import orjson

from gateway.client.pace import Pace
from gateway.client.refusals import NOT_PASSED_ON, NotIdentified, document, instant, refusal
from gateway.client.wire import UNSENDABLE, GatewayError, Reply, Request, Unreachable, Wire

MAX_SCOPE_SETS = 64
"""Tokens kept, one for each set of scopes."""
_TOKEN_SECONDS = 10.0
_RENEW_BEFORE = 60.0
_SKEW_SECONDS = 30.0
_ALGORITHMS = {"P-256": "ES256", "Ed25519": "EdDSA"}


class Signer:
    """The system's private key, and the assertions that it signs."""

    def __init__(self, client_id: str, key: Mapping[str, Any] | str | Path) -> None:
        self.client_id = client_id
        jwk = key if isinstance(key, Mapping) else _read(Path(key))
        self._algorithm = _ALGORITHMS.get(str(jwk.get("crv")))
        self._kid = jwk.get("kid")
        if self._algorithm is None or not isinstance(self._kid, str) or not isinstance(jwk.get("d"), str):
            raise ValueError(
                f"The key of {client_id} is no private JWK that can sign: it needs kty, kid, d and the curve P-256 "
                "or Ed25519 (crv)."
            )
        try:
            self._key = jwt.PyJWK(dict(jwk), self._algorithm).key
        except (jwt.PyJWTError, ValueError, TypeError):
            # Not chained: PyJWT writes the whole JWK into some of its messages.
            raise ValueError(f"The key of {client_id} is a damaged JWK: write its file anew.") from None

    def assertion(self, audience: str, at: int) -> str:
        """RFC 7523, section 3: good for one minute and once."""
        claims = {"iss": self.client_id, "sub": self.client_id, "aud": audience, "jti": str(uuid4())}
        return jwt.encode(claims | {"iat": at, "exp": at + 60}, self._key, self._algorithm, {"kid": self._kid})


def _read(file: Path) -> Mapping[str, Any]:
    try:
        jwk = orjson.loads(file.read_bytes())
    except OSError as error:
        raise ValueError(f"The key file {file} cannot be read: {error.strerror}.") from error
    except orjson.JSONDecodeError:
        # Not chained: the exception carries the file's text.
        raise ValueError(f"The key file {file} is no JSON: it must hold one private JWK.") from None
    if not isinstance(jwk, dict):
        raise ValueError(f"The key file {file} must hold one private JWK, a JSON object.")  # noqa: TRY004 - a wrong file
    return jwk


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    until: float
    """On the monotonic clock: when it is time for the next one."""


class Tokens:
    """Access tokens by scopes: kept, renewed before their end, fetched once for all who wait."""

    def __init__(self, signer: Signer, wire: Wire, pace: Pace) -> None:
        self._signer = signer
        self._wire = wire
        self._pace = pace
        self._kept: dict[frozenset[str], _Token] = {}
        self._fetching: dict[frozenset[str], asyncio.Task[_Token]] = {}

    async def get(self, scopes: frozenset[str], seconds: float) -> str:
        kept = self._kept.get(scopes)
        if kept is not None and self._pace.now() < kept.until:
            return kept.text
        task = self._fetching.get(scopes)
        if task is None:
            task = self._fetching[scopes] = asyncio.create_task(self._fetch(scopes))
            task.add_done_callback(lambda done: self._settle(scopes, done))
        # A caller that gives up leaves the fetch to the others: asyncio.wait cancels nothing.
        await asyncio.wait({task}, timeout=max(seconds, 0.0))
        if not task.done():
            raise Unreachable(f"{self._wire.url} gave no token in time; allow the call more.", temporary=True)
        if task.cancelled():
            raise Unreachable("This client was closed while the call ran.")
        error = task.exception()
        if isinstance(error, GatewayError):
            raise copy.copy(error) from error  # each caller gets one of its own
        return task.result().text

    def forget(self, scopes: frozenset[str], text: str) -> None:
        """Keep this token no longer, unless another one has taken its place."""
        kept = self._kept.get(scopes)
        if kept is not None and kept.text == text:
            del self._kept[scopes]

    async def close(self) -> None:
        running = set(self._fetching.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _settle(self, scopes: frozenset[str], done: asyncio.Task[_Token]) -> None:
        del self._fetching[scopes]
        if done.cancelled() or done.exception() is not None:
            return
        while len(self._kept) >= MAX_SCOPE_SETS:
            del self._kept[next(iter(self._kept))]
        self._kept[scopes] = done.result()

    async def _fetch(self, scopes: frozenset[str]) -> _Token:
        began = self._pace.now()
        assertion = self._signer.assertion(await self._audience(), int(self._pace.wall()))
        form = {
            "grant_type": "client_credentials",
            "client_id": self._signer.client_id,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
        }
        if scopes:
            form["scope"] = " ".join(sorted(scopes))
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        request = Request("POST", "/oauth/token", headers, urlencode(form).encode())
        reply = await self._wire.send(request, _TOKEN_SECONDS)
        if reply.status != 200:
            raise self._with_skew(refusal(reply, self._wire.url, oauth=True), reply)
        granted = document(reply)
        text, seconds = granted.get("access_token"), granted.get("expires_in")
        if not isinstance(text, str) or not text or UNSENDABLE.search(text) or not isinstance(seconds, int):
            raise Unreachable(f"{self._wire.url}/oauth/token gave no token that can be used; is it the gateway?")
        return _Token(text, began + seconds - min(_RENEW_BEFORE, seconds / 2))

    async def _audience(self) -> str:
        """The issuer's name (RFC 8414); the address of the token endpoint where the gateway publishes none.

        The assertion itself goes only to the address that the client was made with.
        """
        reply = await self._wire.send(Request("GET", "/.well-known/oauth-authorization-server"), _TOKEN_SECONDS)
        if reply.status in NOT_PASSED_ON:
            raise refusal(reply, self._wire.url)
        issuer = document(reply).get("issuer")
        return issuer if isinstance(issuer, str) else f"{self._wire.url}/oauth/token"

    def _with_skew(self, error: GatewayError, reply: Reply) -> GatewayError:
        """A wrong clock is the commonest reason for a refused assertion, and the hardest to see: name it."""
        there = instant(reply.headers.get("Date"))
        if not isinstance(error, NotIdentified) or there is None:
            return error
        ahead = round(self._pace.wall() - there)
        if abs(ahead) <= _SKEW_SECONDS:
            return error
        way = "ahead of" if ahead > 0 else "behind"
        (problem,) = error.args
        note = f"This machine's clock is {abs(ahead)} s {way} the gateway's: set it right."
        return NotIdentified(replace(problem, detail=f"{problem.detail} {note}".strip()))
