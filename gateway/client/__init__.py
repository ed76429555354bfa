"""The asynchronous client of the gateway, for systems that exchange records; ``docs/client.md`` is its guide.

    async with GatewayClient("https://gateway.example", client_id="finance.local_tax", key="key.jwk.json") as gateway:
        answer = await gateway.exchange("interior", "population.person_lookup.v1", body, purpose="tax_assessment")

A client belongs to the thread of one event loop. Without ``async with``, ``await gateway.close()`` ends it.
"""

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import uuid4

import orjson

from gateway.client.approvals import Deciding
from gateway.client.documents import Document, Listed, Recipient, Sending, Submitted
from gateway.client.files import Attachment, Files, NotStored
from gateway.client.inbox import Received, Receiving
from gateway.client.line import Line, encoded, head_of, named, quoted
from gateway.client.pace import Pace
from gateway.client.receipts import BadReceipt, verify_receipt
from gateway.client.refusals import (
    BadRequest,
    Conflict,
    Contact,
    NotFound,
    NotIdentified,
    NotPermitted,
    Problem,
    ProviderFailed,
    Refused,
    ShapeFault,
    TooMany,
    Unavailable,
    Unknown,
    stranger,
    told,
)
from gateway.client.subscriptions import Subscribing
from gateway.client.tokens import Signer, Tokens
from gateway.client.wire import GatewayError, Reply, Request, Unreachable, Wire

__all__ = [
    "Answer",
    "Attachment",
    "BadReceipt",
    "BadRequest",
    "Conflict",
    "Contact",
    "Document",
    "GatewayClient",
    "GatewayError",
    "Listed",
    "NotFound",
    "NotIdentified",
    "NotPermitted",
    "NotStored",
    "Pace",
    "Problem",
    "ProviderFailed",
    "Received",
    "Recipient",
    "Refused",
    "ShapeFault",
    "Submitted",
    "TooMany",
    "Unavailable",
    "Unknown",
    "Unreachable",
    "verify_receipt",
]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider answered, cut to what the agreement discloses."""

    body: Any = field(repr=False)
    exchange: str
    """The exchange's id. Keep it with your record: it is what an auditor asks for."""
    entry: str | None
    """The journal entry: writer, number and leaf hash."""
    replayed: bool
    """It is the stored answer of an earlier call with the same idempotency key."""
    headers: Mapping[str, str] = field(repr=False)
    """By name, in any case."""


class GatewayClient(Sending, Receiving, Deciding, Subscribing, Files):
    """One system's way to the gateway. Calls may run beside each other; they share tokens and connections."""

    def __init__(
        self,
        url: str,
        *,
        client_id: str,
        key: Mapping[str, Any] | str | Path,
        ca_file: str | Path | None = None,
        certificate: str | Path | None = None,
        plain_http: bool = False,
        pace: Pace | None = None,
    ) -> None:
        """``key`` is the system's private JWK (ES256 or EdDSA), or the path of its file.

        ``ca_file`` holds the certificates to trust instead of the machine's own. ``certificate`` is a file with a
        client certificate and its private key (PEM), for a system whose tokens are bound to it; it is read once.
        ``plain_http`` allows an unencrypted address that is not on this machine, for a network that is protected by
        other means.
        Raises ValueError where any of them cannot be used.
        """
        self._url = _address(url, plain_http=plain_http)
        self._client_id = client_id
        self._wire = Wire(self._url, _tls(self._url, ca_file, certificate))
        patience = pace or Pace()
        self._tokens = Tokens(Signer(client_id, key), self._wire, patience)
        super().__init__(Line(self._wire, self._tokens, patience))

    def __repr__(self) -> str:
        return f"GatewayClient({self._url!r}, client_id={self._client_id!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of tokens and connections. Calls that still run end with Unreachable."""
        await self._wire.close()  # first, so that nothing new begins
        await self._tokens.close()

    async def token(self, scope: str | None = None, *, timeout: float = 30.0) -> str:  # noqa: ASYNC109 - see exchange
        """An access token, for tools that speak HTTP themselves. ``scope`` is separated by spaces; None is all."""
        return await self._tokens.get(frozenset((scope or "").split()), timeout)

    async def exchange(  # noqa: PLR0913 - the head of an exchange (DESIGN section 5), every part by its name
        self,
        agency: str,
        service: str,
        body: Any,
        *,
        purpose: str,
        case: str | None = None,
        user: str | None = None,
        on_behalf_of: str | None = None,
        user_assertion: str | None = None,
        idempotency_key: str | None = None,
        scope: str | None = None,
        traceparent: str | None = None,
        timeout: float = 30.0,  # noqa: ASYNC109 - it spans attempts and pauses, which asyncio.timeout would cut
    ) -> Answer:
        """Ask ``agency`` for what ``service`` says.

        For a write, keep your own ``idempotency_key`` with your record before you call, and send it again until you
        have an answer: it has one effect. Without one a fresh key serves the attempts of this call. ``timeout`` is
        in seconds, over all attempts. Raises a subclass of Refused, or Unreachable; ValueError for what cannot be sent.
        """
        key = str(uuid4()) if idempotency_key is None else idempotency_key
        head = {
            "Exchange-Purpose": purpose,
            "Exchange-Case": case,
            "Exchange-User": user,
            "Exchange-For": on_behalf_of,
            "Exchange-User-Assertion": user_assertion,
            "traceparent": traceparent,
        }
        headers = {**head_of(head), "Content-Type": "application/json", "Idempotency-Key": quoted(key)}
        path = f"/v1/exchange/{named('agency', agency)}/{named('service', service)}"
        try:
            return _answer(
                await self._line.call(Request("POST", path, headers, encoded(body)), scope, timeout), self._url
            )
        except GatewayError as error:
            error.idempotency_key = key
            raise

    async def catalogue(self, *, timeout: float = 30.0) -> dict[str, Any]:  # noqa: ASYNC109 - as in exchange
        """What is offered to this system: services, their providers and schemas."""
        reply = await self._line.call(Request("GET", "/v1/catalogue"), None, timeout)
        return told(reply, self._url, services=list)


def _answer(reply: Reply, url: str) -> Answer:
    exchange = reply.headers.get("Exchange-Id")
    try:
        body = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        # Not chained: the exception carries the whole answer.
        raise stranger(reply, url) from None
    if exchange is None:
        raise stranger(reply, url)
    replayed = reply.headers.get("Exchange-Replayed") == "?1"
    return Answer(body, exchange, reply.headers.get("Exchange-Entry"), replayed, reply.headers)


def _address(url: str, *, plain_http: bool) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError(
            "The gateway's address must look like https://gateway.example: no user, no query, no fragment."
        )
    if parts.scheme == "http" and not plain_http and not _here(parts.hostname):
        raise ValueError(
            f"{url} is not encrypted (RFC 6750, section 5.3): use https, or plain_http=True where the network itself "
            "is protected."
        )
    return url.rstrip("/")


def _tls(url: str, ca_file: str | Path | None, certificate: str | Path | None) -> ssl.SSLContext | None:
    if ca_file is None and certificate is None:
        return None
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ValueError(f"The ca_file {ca_file} cannot be used: {error.strerror or error}.") from error
    if certificate is None:
        return context
    if not url.startswith("https:"):
        raise ValueError(f"{url} is not encrypted, so that the certificate cannot be shown there: use https.")
    try:
        # An empty password: a key that needs one is an error here, not a question at a terminal.
        context.load_cert_chain(certificate, password="")
    except OSError as error:
        raise ValueError(
            f"The certificate {certificate} cannot be used: {error.strerror or error}. The file must hold a client "
            "certificate and its private key, in PEM and without a passphrase."
        ) from error
    return context


def _here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
