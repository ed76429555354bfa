"""The token endpoint (RFC 6749, RFC 7523), the gateway's JWKS, and its metadata (RFC 8414)."""

import asyncio
import math
import secrets
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp
import orjson
import structlog
from aiohttp import web

from gateway.core.identity import confirmation
from gateway.core.jwk import ALGORITHMS
from gateway.core.limits import Bucket, draw, full
from gateway.core.model import Catalogue, Rate, System, SystemId
from gateway.core.refusal import Refusal
from gateway.edge import keys
from gateway.edge.body import dismiss
from gateway.edge.evidence import new_id
from gateway.edge.identity import Client, Identity, token_endpoint
from gateway.edge.keys import Keyring
from gateway.edge.peer import Peer, Peers
from gateway.edge.strangers import Strangers
from gateway.edge.telemetry import place
from gateway.edge.tracing import PassingOn, Tracer

log = structlog.get_logger()

ADDRESS = "/oauth/token"
LIFE = 600
"""Seconds that a token lives."""
MAX_FORM = 16_384
"""Bytes of a token request."""
FORM_SECONDS = 5.0
"""In which its body must have arrived."""
MAX_TOKENS = 30
"""Tokens of one system, at once and then again in each TOKENS_SECONDS, in each process."""
TOKENS_SECONDS = 10.0

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_FORM = "application/x-www-form-urlencoded"
_PACE = Rate(MAX_TOKENS, TOKENS_SECONDS)
_NOT_STORED = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_PUBLIC = {"Cache-Control": "public, max-age=300"}


class Once(Protocol):
    """What remembers the ids of client assertions, on all nodes together."""

    async def first(self, system: str, jti: str, until: float) -> bool:
        """True for one call only, until ``until`` (epoch seconds). Raises Refusal ``journal.unavailable``."""


class TokenEvents(Protocol):
    """Who counts what becomes of token requests."""

    def token(self, outcome: str) -> None:
        """``issued``, ``too_many``, or the error code of the answer."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the endpoint uses of the process that it runs in."""

    catalogue: Callable[[], Catalogue]
    """The present one. Raises Refusal ``journal.unavailable`` while nobody knows what is suspended."""
    clock: Callable[[], float]
    """Epoch seconds."""
    steady: Callable[[], float]
    """Seconds of a clock that nobody sets."""
    peers: Peers
    once: Once
    events: TokenEvents
    strangers: Strangers
    tracer: Tracer = field(default_factory=PassingOn)


class _Denied(Exception):
    """An error answer (RFC 6749, section 5.2)."""

    def __init__(self, error: str, description: str, status: int = 400, retry_after: float | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status
        self.retry_after = retry_after

    @property
    def outcome(self) -> str:
        """As it is counted. RFC 6749 has no error of its own for who asks too often; operators must tell it apart."""
        return "too_many" if self.status == web.HTTPTooManyRequests.status_code else self.error


def routes(keyring: Keyring, issuer: str, identity: Identity, around: Surroundings) -> tuple[web.RouteDef, ...]:
    """The four addresses. ``issuer`` is the gateway's own issuer URL."""
    desk = _Desk(keyring, issuer, identity, around)
    jwks = orjson.dumps({"keys": keyring.published})
    webhook_keys = orjson.dumps(keys.webhook_keys(keyring))
    metadata = orjson.dumps(_metadata(issuer))

    async def verifying(_request: web.Request) -> web.Response:
        return web.Response(body=webhook_keys, content_type="application/jwk-set+json", headers=_PUBLIC)

    async def published(_request: web.Request) -> web.Response:
        return web.Response(body=jwks, content_type="application/jwk-set+json", headers=_PUBLIC)

    async def described(_request: web.Request) -> web.Response:
        return web.Response(body=metadata, content_type="application/json", headers=_PUBLIC)

    return (
        web.post(ADDRESS, desk.token),
        web.get("/.well-known/jwks.json", published),
        web.get("/.well-known/webhook-keys.json", verifying),
        web.get("/.well-known/oauth-authorization-server", described),
    )


def _metadata(issuer: str) -> dict[str, object]:
    return {
        "issuer": issuer,
        "token_endpoint": token_endpoint(issuer),
        "jwks_uri": issuer.rstrip("/") + "/.well-known/jwks.json",
        "response_types_supported": [],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "tls_client_certificate_bound_access_tokens": True,
    }


class _Desk:
    def __init__(self, keyring: Keyring, issuer: str, identity: Identity, around: Surroundings) -> None:
        self._keyring = keyring
        self._issuer = issuer
        self._identity = identity
        self._around = around
        self._buckets: dict[SystemId, Bucket] = {}
        """Of systems of the catalogue alone: only who is proven draws."""

    async def token(self, request: web.Request) -> web.Response:
        """Answer a token request, whatever becomes of it, and have it counted."""
        span = self._around.tracer.begin(f"POST {ADDRESS}", request.headers.get("traceparent"), new_id())
        answer, outcome = await self._answered(request)
        self._around.events.token(outcome)
        span.end(answer.status, outcome=outcome)
        if answer.status == web.HTTPUnauthorized.status_code:
            await self._around.strangers.hold(self._around.peers.of(request).address)
        if not request.content.is_eof():
            await dismiss(request, answer)
        return answer

    async def _answered(self, request: web.Request) -> tuple[web.Response, str]:
        try:
            form = await _form(request)
            issued = await self._issued(form, self._around.peers.of(request))
        except _Denied as denied:
            return _answer(denied), denied.outcome
        except Exception as error:  # noqa: BLE001 - a client must get JSON, whatever breaks
            log.error("token_broken", **place(error))  # noqa: TRY400 - a traceback quotes values
            return _answer(_Denied("server_error", "The gateway failed to work on the request.", 500)), "server_error"
        body = orjson.dumps(issued)
        return web.Response(body=body, content_type="application/json", headers=_NOT_STORED), "issued"

    async def _issued(self, form: dict[str, str], peer: Peer) -> dict[str, object]:
        assertion = _asked(form)
        now = self._around.clock()
        try:
            shown = peer.certificate
            client = await self._identity.authenticate(assertion, self._around.catalogue(), now)
            if form.get("client_id", client.system.id) != client.system.id:
                raise _Denied("invalid_client", "The client_id is not the client assertion's sub.", 401)
            certificate = _binding(client.system, shown)
            # Only what is signed is counted and remembered: others cannot use up a system's tokens and ids.
            self._draw(client.system.id)
            first = await self._around.once.first(client.system.id, client.jti, client.exp)
        except Refusal as refusal:
            raise _denied(refusal) from refusal
        if not first:
            raise _Denied("invalid_client", "The client assertion was used before; make one for each request.", 401)
        scopes = _scopes(form, client)
        return {
            "access_token": self._signed(client, scopes, certificate, int(now)),
            "token_type": "Bearer",
            "expires_in": LIFE,
            "scope": scopes,
        }

    def _draw(self, system: SystemId) -> None:
        now = self._around.steady()
        self._buckets[system], wait = draw(self._buckets.get(system, full(_PACE, now)), _PACE, now)
        if wait:
            raise _Denied(
                "temporarily_unavailable",
                f"{system} asks for more than {MAX_TOKENS} tokens in {TOKENS_SECONDS:.0f} s. "
                "Keep a token until shortly before its end, and ask again after the time given.",
                web.HTTPTooManyRequests.status_code,
                wait,
            )

    def _signed(self, client: Client, scopes: str, certificate: str | None, now: int) -> str:
        said: dict[str, object] = {
            "iss": self._issuer,
            "aud": self._keyring.instance,
            "sub": client.system.id,
            "client_id": client.system.id,
            "scope": scopes,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + LIFE,
            "client_key": client.key,  # so that taking the key out of the agency's folder ends the token
        }
        if certificate is not None:
            said["cnf"] = confirmation(certificate)
        return self._keyring.signing.jwt(said, "at+jwt")


async def _form(request: web.Request) -> dict[str, str]:
    """The parameters; one given twice is refused, one without a value counts as absent (RFC 6749, section 3.2)."""
    if request.content_type != _FORM or "Content-Encoding" in request.headers:
        raise _Denied("invalid_request", f"Send the parameters as a plain {_FORM} body.")
    if "Authorization" in request.headers:
        raise _Denied("invalid_request", "Authenticate by client_assertion alone, without an Authorization header.")
    try:
        async with asyncio.timeout(FORM_SECONDS):
            body = await _body(request)
    except TimeoutError as error:
        raise _Denied("invalid_request", f"The body did not arrive within {FORM_SECONDS:.0f} s.", 408) from error
    except (aiohttp.ClientError, OSError) as error:
        raise _Denied("invalid_request", "The body did not arrive whole.") from error
    try:
        pairs = urllib.parse.parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=32
        )
    except ValueError as error:
        raise _Denied("invalid_request", f"The body is not {_FORM}.") from error
    form = dict(pairs)
    if len(form) != len(pairs):
        raise _Denied("invalid_request", "A parameter is given more than once.")
    return {name: value for name, value in form.items() if value}


async def _body(request: web.Request) -> bytes:
    too_large = _Denied("invalid_request", f"The body is larger than {MAX_FORM} bytes.", 413)
    if (request.content_length or 0) > MAX_FORM:
        raise too_large
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MAX_FORM:
            raise too_large
    return bytes(body)


def _asked(form: dict[str, str]) -> str:
    """The client assertion of a request that asks for what is offered."""
    grant = form.get("grant_type")
    if grant is None:
        raise _Denied("invalid_request", "The parameter grant_type is missing; it must be client_credentials.")
    if grant != "client_credentials":
        raise _Denied("unsupported_grant_type", "The grant_type must be client_credentials.")
    if form.get("client_assertion_type") != _ASSERTION_TYPE:
        raise _Denied("invalid_client", f"The client_assertion_type must be {_ASSERTION_TYPE}.", 401)
    assertion = form.get("client_assertion")
    if assertion is None:
        raise _Denied("invalid_client", "The parameter client_assertion is missing.", 401)
    return assertion


def _binding(system: System, shown: str | None) -> str | None:
    """The certificate that the token is to be bound to; None for a system whose tokens are not."""
    if not system.certificate_bound:
        return None
    if shown is None:
        raise _Denied(
            "invalid_request",  # RFC 8705, section 3.4, leaves it to the server
            f"The tokens of {system.id} are bound to its client certificate, and none was shown: connect with one that "
            "the gateway's operator takes, or have certificate_bound taken out of its agency's folder.",
        )
    return shown


def _scopes(form: dict[str, str], client: Client) -> str:
    """What the token is for: the scopes asked for, or all that the system has."""
    asked = frozenset(form["scope"].split(" ")) if "scope" in form else client.system.scopes
    if not asked <= client.system.scopes:
        raise _Denied("invalid_scope", "A scope was asked for that the agency's folder does not give the system.")
    return " ".join(sorted(asked))


def _denied(refusal: Refusal) -> _Denied:
    if refusal.retry_after is not None or refusal.kind.retry:
        return _Denied("temporarily_unavailable", refusal.detail, 503, refusal.retry_after or 5.0)
    if refusal.code == "request.malformed":
        return _Denied("invalid_request", refusal.detail)
    return _Denied("invalid_client", refusal.detail, 401)


def _answer(denied: _Denied) -> web.Response:
    body = {"error": denied.error, "error_description": denied.description}
    response = web.Response(
        body=orjson.dumps(body), status=denied.status, content_type="application/json", headers=_NOT_STORED
    )
    if denied.retry_after is not None:
        response.headers["Retry-After"] = str(math.ceil(denied.retry_after))
    return response
