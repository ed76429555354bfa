"""HTTP with JSON bodies: how most agencies' systems are spoken to."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson

from gateway.catalogue.files import Files
from gateway.core.mapping import Address, Fields, Line, line
from gateway.core.model import Endpoint
from gateway.core.shape import Malformed, parse
from gateway.protocols.protocol import (
    LONGEST_WAIT,
    MAX_ANSWER_BYTES,
    Answer,
    Call,
    Cut,
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
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110, section 5.6.2."""
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_OURS = re.compile(
    r"(?i:exchange-.*|idempotency-key|traceparent|host|connection|content-length|transfer-encoding|te|trailer|upgrade"
    r"|expect|keep-alive|proxy-.*|accept-encoding|user-agent|cookie)"
)
"""Headers that a manifest cannot set: the evidence of the exchange, and what belongs to the connection."""


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
    tls: ssl.SSLContext | None


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
                tls=self._recipe.tls,
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
                wait = _wait(reply.headers.get("retry-after"))
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


def _wait(text: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, would need both clocks to agree (RFC 9110, section 10.2.3)."""
    if text is None or not re.fullmatch(r"[0-9]{1,9}", text):
        return None
    return min(float(text), LONGEST_WAIT)


def _recipe(endpoint: Endpoint, files: Files) -> _Recipe:
    options = endpoint.options
    if unknown := sorted(options.keys() - _OPTIONS):
        raise ValueError(f"protocol http knows no option {', '.join(unknown)}; it knows {', '.join(sorted(_OPTIONS))}")
    method = _text(options.get("method", "POST"), "method").upper()
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(sorted(_METHODS))}")
    if method in _BODILESS and "request" in options:
        raise ValueError(f"{method} sends no body: leave request out, and use placeholders in url, query or headers")
    if "url" not in options:
        raise ValueError("protocol http needs a url")
    address = Address(_text(options["url"], "url"), _texts(options, "query"))
    tls = _texts(options, "tls")
    if tls and not address.secure:
        raise ValueError("tls is given, but the url does not begin with https://")
    headers, lines = _header_options(options, files)
    given = {name.lower() for name in (*headers, *lines)}
    for name in ("Accept",) if method in _BODILESS else ("Accept", "Content-Type"):
        if name.lower() not in given:
            headers[name] = "application/json"
    return _Recipe(
        method,
        address,
        headers,
        lines,
        Fields(_texts(options, "request")) if "request" in options else None,
        Fields(_texts(options, "response")) if "response" in options else None,
        _context(tls, files) if tls else None,
    )


def _header_options(options: Mapping[str, object], files: Files) -> tuple[dict[str, str], dict[str, Line]]:
    """Fixed headers, secrets among them, and those with placeholders."""
    written, secret = _texts(options, "headers"), _texts(options, "secret_headers")
    names = [*written, *secret]
    for name in names:
        if not _TOKEN.fullmatch(name) or _OURS.fullmatch(name):
            raise ValueError(f"the header {name!r} is no header's name, or one that the gateway sets itself")
    if len({name.lower() for name in names}) < len(names):
        raise ValueError("headers and secret_headers name the same header twice")
    if "authorization" in {name.lower() for name in written}:
        raise ValueError("Authorization is a secret: put it into a file and name that in secret_headers")
    templates = {name: Line(template) for name, template in written.items()}
    fixed = {name: template.fixed for name, template in templates.items() if template.fixed is not None}
    for name, file in secret.items():
        fixed[name] = _secret(files, file)
    return fixed, {name: template for name, template in templates.items() if template.fixed is None}


def _secret(files: Files, name: str) -> str:
    try:
        text = _held(files, name).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"the secret {name!r} is not UTF-8") from error
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError(f"the secret {name!r} is empty")
    return line(text, f"the secret {name!r}")


def _held(files: Files, name: str) -> bytes:
    if not _FILE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} must be the name of a file in {files.path('keys/secrets')}, without a folder")
    try:
        return files.secret(name)
    except ValueError as error:
        raise ValueError(f"the secret {error}") from error


def _context(tls: Mapping[str, str], files: Files) -> ssl.SSLContext:
    """TLS 1.2 or newer, the server always verified; with ``ca``, by that authority alone."""
    if unknown := sorted(tls.keys() - {"client", "ca"}):
        raise ValueError(f"tls knows no {', '.join(unknown)}; it knows ca and client")
    path = {option: files.path(f"keys/secrets/{name}") for option, name in tls.items()}
    before = [_held(files, name) for name in tls.values()]
    try:
        context = ssl.create_default_context(cafile=path.get("ca"))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if "client" in tls:
            # An empty password: a key that needs one is an error here, not a question at a terminal.
            context.load_cert_chain(path["client"], password="")
    except OSError as error:
        raise ValueError(f"tls: {' or '.join(tls.values())} in keys/secrets cannot be read as PEM") from error
    if before != [_held(files, name) for name in tls.values()]:  # OpenSSL reads the files itself
        raise ValueError(f"tls: {' or '.join(tls.values())} changed while the endpoint was connected")
    return context


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text")  # noqa: TRY004 - a mistake in a manifest, not in the code
    return value


def _texts(options: Mapping[str, object], name: str) -> dict[str, str]:
    value = options.get(name, {})
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a mapping of texts")  # noqa: TRY004 - same
    return {_text(key, name): _text(inner, f"{name}: {key}") for key, inner in value.items()}
