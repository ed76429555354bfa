"""HTTP with JSON bodies: how most agencies' systems are spoken to."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson

from gateway.catalogue.files import Files
from gateway.core.mapping import Address, Fields, Line, line
from gateway.core.model import Endpoint
from gateway.core.shape import Malformed, parse
from gateway.protocols import options as given
from gateway.protocols.protocol import (
    MAX_ANSWER_BYTES,
    Answer,
    Call,
    Cut,
    Manner,
    Outbound,
    Provider,
    ProviderFault,
    Reply,
    Surroundings,
    TooLarge,
    Unsent,
)

_OPTIONS = frozenset({"url", "method", "headers", "query", "secret_headers", "request", "response", "tls"})
_BODILESS = frozenset({"GET", "DELETE"})
"""Content of a GET or DELETE has no meaning, and some servers refuse it (RFC 9110, sections 9.3.1 and 9.3.5)."""
_METHODS = _BODILESS | {"POST", "PUT", "PATCH"}


@dataclass(frozen=True, slots=True)
class _Recipe:
    """An endpoint's options, read and compiled."""

    method: str
    address: Address
    headers: Mapping[str, str]
    """The same in every request, secrets among them."""
    lines: Mapping[str, Line]
    """Those with placeholders."""
    request: Fields | None
    response: Fields | None
    manner: Manner


def connect(endpoint: Endpoint, surroundings: Surroundings) -> Provider:
    """The system behind an endpoint with ``protocol: http``.

    Raises ValueError with a sentence where the options are wrong or a secret cannot be read.
    """
    return _Http(endpoint, _recipe(endpoint, surroundings.files), surroundings.outbound)


class _Http:
    __slots__ = ("_outbound", "_recipe", "_where", "_who")

    def __init__(self, endpoint: Endpoint, recipe: _Recipe, outbound: Outbound) -> None:
        self._who = f"The system of {endpoint.provider}"
        self._where = f"the system of {endpoint.provider}"
        self._recipe = recipe
        self._outbound = outbound

    async def call(self, call: Call) -> Answer:
        recipe = self._recipe
        try:
            url = recipe.address.filled(call.value)
            headers = self._headers(call)
        except ValueError as error:
            raise ProviderFault("provider.refused", f"The call was not made: {error}.", sent=False) from error
        body = self._body(call)
        try:
            reply = await self._send(url, headers, body, call.seconds)
            if not 200 <= reply.status < 300:
                self._no(reply)
            value = self._value(reply)
        except ProviderFault as fault:
            fault.outgoing = body or b""
            raise
        if recipe.response is not None:
            value = recipe.response.of(value)
        return Answer(value, body or b"", reply.body)

    async def close(self) -> None:
        """The connections belong to Outbound."""

    def _body(self, call: Call) -> bytes | None:
        if self._recipe.method in _BODILESS:
            return None
        return call.raw if self._recipe.request is None else orjson.dumps(self._recipe.request.of(call.value))

    def _headers(self, call: Call) -> dict[str, str]:
        headers = {
            **self._recipe.headers,
            "Exchange-Id": call.exchange,
            "Exchange-Purpose": call.purpose,
            "Exchange-Consumer": call.consumer,
            "Exchange-Service": call.service,
            "traceparent": call.traceparent,
        }
        if call.case is not None:
            headers["Exchange-Case"] = line(call.case, "Exchange-Case")
        if call.idempotency_key is not None:
            # A string of structured fields (RFC 9651, section 3.3.3; draft-ietf-httpapi-idempotency-key-header).
            key = line(call.idempotency_key, "Idempotency-Key").replace("\\", "\\\\").replace('"', '\\"')
            headers["Idempotency-Key"] = f'"{key}"'
        for name, template in self._recipe.lines.items():
            headers[name] = template.filled(call.value)
        return headers

    async def _send(self, url: str, headers: Mapping[str, str], body: bytes | None, seconds: float) -> Reply:
        try:
            return await self._outbound.send(
                self._recipe.method,
                url,
                headers=headers,
                body=body,
                seconds=seconds,
                max_bytes=MAX_ANSWER_BYTES,
                manner=self._recipe.manner,
            )
        except Unsent as error:
            detail = f"{self._who} cannot be reached."
            raise ProviderFault("provider.unavailable", detail, sent=False, unheard=True) from error
        except Cut as error:
            detail = f"The connection to {self._where} broke before its answer was complete."
            raise ProviderFault("provider.broken", detail, sent=True, unheard=True) from error
        except TimeoutError as error:
            raise ProviderFault("provider.timeout", f"{self._who} did not answer in time.", sent=True) from error
        except TooLarge as error:
            detail = f"{self._who} answered with more than {MAX_ANSWER_BYTES} bytes."
            raise ProviderFault("provider.wrong_answer", detail, sent=True) from error

    def _no(self, reply: Reply) -> NoReturn:
        """Every status that is no success. Its body goes into the digest and nowhere else."""
        said = f"{self._who} answered with HTTP status {reply.status}"
        match reply.status:
            case 404 | 410:
                raise ProviderFault("provider.not_found", f"{said}.", sent=True, definite=True, provided=reply.body)
            case 429 | 503:
                # Its own word that it did not take the call: nothing happened there.
                wait = given.wait(reply.headers.get("retry-after"))
                raise ProviderFault(
                    "provider.unavailable", f"{said}.", sent=False, retry_after=wait, provided=reply.body
                )
            case status if 400 <= status < 500:
                raise ProviderFault("provider.refused", f"{said}.", sent=True, definite=True, provided=reply.body)
            case status if status >= 500:
                raise ProviderFault("provider.broken", f"{said}.", sent=True, provided=reply.body)
            case _:
                # A redirect could lead anywhere, a body with personal data in hand.
                detail = f"{said}, which the gateway does not follow."
                raise ProviderFault("provider.wrong_answer", detail, sent=True, provided=reply.body)

    def _value(self, reply: Reply) -> Any:
        media_type = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json" and not re.fullmatch(r"application/[^\s/]+\+json", media_type):
            detail = f"{self._who} answered with another media type than application/json."
        elif reply.headers.get("content-encoding", "identity").lower() != "identity":
            detail = f"{self._who} answered with a compressed body, which the gateway did not ask for."
        else:
            try:
                return parse(reply.body)
            except Malformed as error:
                detail = f"{self._who} answered with {error}."
                raise ProviderFault("provider.wrong_answer", detail, sent=True, provided=reply.body) from error
        raise ProviderFault("provider.wrong_answer", detail, sent=True, provided=reply.body)


def _recipe(endpoint: Endpoint, files: Files) -> _Recipe:
    options = endpoint.options
    given.hold_names(options, _OPTIONS, "protocol http")
    method = given.text(options.get("method", "POST"), "method").upper()
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(sorted(_METHODS))}")
    if method in _BODILESS and "request" in options:
        raise ValueError(f"{method} sends no body: leave request out, and use placeholders in url, query or headers")
    if "url" not in options:
        raise ValueError("protocol http needs a url")
    address = Address(given.text(options["url"], "url"), given.texts(options, "query"))
    tls = given.texts(options, "tls")
    if tls and not address.secure:
        raise ValueError("tls is given, but the url does not begin with https://")
    headers, lines = given.headers(options, files)
    named = {name.lower() for name in (*headers, *lines)}
    for name in ("Accept",) if method in _BODILESS else ("Accept", "Content-Type"):
        if name.lower() not in named:
            headers[name] = "application/json"
    return _Recipe(
        method,
        address,
        headers,
        lines,
        Fields(given.texts(options, "request")) if "request" in options else None,
        Fields(given.texts(options, "response")) if "response" in options else None,
        Manner(given.context(tls, files) if tls else None),
    )
