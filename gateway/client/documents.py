"""Documents and events as their sender handles them: sent, looked at, recalled, proven."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack
from urllib.parse import urlencode

from gateway.client import refusals
from gateway.client.line import Line, encoded, head_of, named, quoted
from gateway.client.receipts import BadReceipt, verify_receipt
from gateway.client.refusals import text
from gateway.client.wire import GatewayError, Request

LONGEST_WAIT = 20
"""Seconds that the gateway lets a call wait."""
_GROUP = "group:"


class Head(TypedDict, total=False):
    """What may be said about a document beside its body; every part is explained in docs/client.md."""

    case: str | None
    user: str | None
    on_behalf_of: str | None
    user_assertion: str | None
    scope: str | None
    traceparent: str | None
    timeout: float


@dataclass(frozen=True, slots=True)
class Submitted:
    """The gateway holds the document: it will not be lost."""

    document: str
    """Its id."""
    state: str
    """``submitted``, or ``held`` where a second person must agree first."""
    reference: str
    receipt: str = field(repr=False)
    """Signed by the gateway: keep it with your record."""
    recipients: Any
    """Agencies; of an event, how many."""
    replayed: bool
    """It was taken in before, under the same reference: this is the same receipt."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Where a document stands at one recipient."""

    recipient: str
    state: str
    shown: str | None = None
    """``underway`` or ``waiting``, of one that is still to be handed over."""
    number: str | None = None
    """The register number."""
    reason: str | None = None
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A document as the gateway knows it now."""

    id: str
    service: str
    sender: str
    reference: str | None
    """The sender's; its recipients do not see it."""
    submitted: str
    state: str
    recipients: tuple[Recipient, ...]
    history: tuple[Mapping[str, Any], ...] = field(repr=False)
    receipts: tuple[str, ...] = field(repr=False)
    members: Mapping[str, Any] = field(repr=False)
    """Everything that was answered."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A document in a list."""

    id: str
    service: str
    sender: str
    reference: str | None
    submitted: str
    state: str
    members: Mapping[str, Any] = field(repr=False)


class Sending:
    """What a system that sends documents can do."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._published: dict[str, Any] = {}

    async def send(
        self,
        agency: str | Sequence[str],
        service: str,
        body: Any,
        *,
        purpose: str,
        reference: str,
        attachments: Sequence[str] = (),
        **head: Unpack[Head],
    ) -> Submitted:
        """Hand a document over to an agency, or to several, also ``group:municipalities``.

        ``reference`` is your own number of it: store it before you call, and send again with the same one until you
        have an answer. ``attachments`` are ids of uploads. Raises as ``exchange`` does.
        """
        headers: dict[str, str] = {}
        several = (agency,) if isinstance(agency, str) and agency.startswith(_GROUP) else agency
        if isinstance(several, str):
            path = f"/v1/documents/{named('agency', several)}/{named('service', service)}"
        else:
            path = f"/v1/documents/{named('service', service)}"
            headers["Exchange-To"] = ", ".join(several)
        if attachments:
            headers["Exchange-Attachments"] = ", ".join(attachments)
        return await self._submit(path, body, {"Exchange-Purpose": purpose, **headers}, reference, head)

    async def publish(
        self, service: str, body: Any, *, purpose: str, reference: str, **head: Unpack[Head]
    ) -> Submitted:
        """Tell all who subscribe. ``reference`` and what is raised as in ``send``."""
        path = f"/v1/events/{named('service', service)}"
        return await self._submit(path, body, {"Exchange-Purpose": purpose}, reference, head)

    async def _submit(self, path: str, body: Any, said: Mapping[str, str], reference: str, head: Head) -> Submitted:
        headers = head_of(
            {
                **said,
                "Exchange-Case": head.get("case"),
                "Exchange-User": head.get("user"),
                "Exchange-For": head.get("on_behalf_of"),
                "Exchange-User-Assertion": head.get("user_assertion"),
                "traceparent": head.get("traceparent"),
            }
        )
        headers |= {"Content-Type": "application/json", "Idempotency-Key": quoted(reference)}
        request = Request("POST", path, headers, encoded(body))
        try:
            reply = await self._line.call(request, head.get("scope"), head.get("timeout", 30.0))
        except GatewayError as error:
            error.idempotency_key = reference
            raise
        wanted = {"document": str, "state": str, "reference": str, "receipt": str}
        told = refusals.told(reply, self._line.wire.url, **wanted)
        return Submitted(
            told["document"],
            told["state"],
            told["reference"],
            told["receipt"],
            told.get("recipients"),
            replayed=reply.headers.get("Exchange-Replayed") == "?1",
        )

    async def document(self, document: str, *, wait: int = 0, timeout: float = 30.0) -> Document:  # noqa: ASYNC109 - as in exchange
        """Where a document stands. With ``wait``, the answer comes when something changed, or after so many seconds."""
        if not 0 <= wait <= LONGEST_WAIT:
            raise ValueError(f"wait must be a number of seconds from 0 to {LONGEST_WAIT}.")
        headers = {"Prefer": f"wait={wait}"} if wait else {}
        path = f"/v1/documents/{named('document', document)}"
        reply = await self._line.call(Request("GET", path, headers), None, timeout + wait)
        url = self._line.wire.url
        told = refusals.told(reply, url, document=str, state=str)
        return _document(told, refusals.listed(reply, url, "recipients", recipient=str, state=str))

    async def documents(
        self,
        *,
        role: str = "sent",
        state: str | None = None,
        service: str | None = None,
        case: str | None = None,
        since: str | None = None,
        timeout: float = 30.0,  # noqa: ASYNC109 - as in exchange, of each page
    ) -> AsyncIterator[Listed]:
        """Your agency's documents, newest first, ``sent`` or ``received``; pages are fetched as you go on."""
        after: str | None = None
        while True:
            asked = {"role": role, "state": state, "service": service, "since": since, "after": after}
            listed, after = await self.page(case=case, timeout=timeout, **asked)
            for each in listed:
                yield each
            if after is None:
                return

    async def page(
        self,
        *,
        role: str | None = None,
        state: str | None = None,
        service: str | None = None,
        case: str | None = None,
        since: str | None = None,
        after: str | None = None,
        timeout: float = 30.0,  # noqa: ASYNC109 - as in exchange
    ) -> tuple[list[Listed], str | None]:
        """One page of that list, and what ``after`` must be for the next one; None: it was the last."""
        given = {"role": role, "state": state, "service": service, "since": since, "after": after}
        query = urlencode({name: value for name, value in given.items() if value is not None})
        headers = {} if case is None else {"Exchange-Case": case}
        reply = await self._line.call(Request("GET", f"/v1/documents?{query}", headers), None, timeout)
        listed = refusals.listed(reply, self._line.wire.url, "documents", document=str)
        return [_listed(each) for each in listed], refusals.text(refusals.document(reply), "next") or None

    async def recall(self, document: str, recipient: str | None = None, *, timeout: float = 30.0) -> dict[str, Any]:  # noqa: ASYNC109 - as in exchange
        """Withdraw a document that nobody has fetched; from one recipient, or from all. Raises Conflict otherwise."""
        path = f"/v1/documents/{named('document', document)}/recall"
        body = encoded({"recipient": recipient} if recipient else {})
        reply = await self._line.call(Request("POST", path, {"Content-Type": "application/json"}, body), None, timeout)
        return refusals.told(reply, self._line.wire.url, document=str, state=str)

    async def verify(self, receipt: str, instance: str, *, timeout: float = 30.0) -> dict[str, Any]:  # noqa: ASYNC109 - as in exchange
        """What a receipt states, held against the keys that the gateway publishes now. Raises BadReceipt."""
        if self._published:
            try:
                return verify_receipt(receipt, self._published, instance)
            except BadReceipt:  # the keys may be others by now
                self._published = {}
        self._published = await self.published(timeout=timeout)
        return verify_receipt(receipt, self._published, instance)

    async def published(self, *, timeout: float = 30.0) -> dict[str, Any]:  # noqa: ASYNC109 - as in exchange
        """The keys with which the gateway signs receipts, now, as a JWKS: keep them with your receipts."""
        reply = await self._line.wire.send(Request("GET", "/.well-known/jwks.json"), timeout)
        return refusals.told(reply, self._line.wire.url, keys=list)


def _document(told: Mapping[str, Any], recipients: Iterable[Mapping[str, Any]]) -> Document:
    return Document(
        id=told["document"],
        service=text(told, "service") or "",
        sender=text(told, "sender") or "",
        reference=text(told, "reference"),
        submitted=text(told, "submitted") or "",
        state=told["state"],
        recipients=tuple(map(_recipient, recipients)),
        history=tuple(_all(told, "history", dict)),
        receipts=tuple(_all(told, "receipts", str)),
        members=told,
    )


def _recipient(told: Mapping[str, Any]) -> Recipient:
    return Recipient(
        told["recipient"],
        told["state"],
        text(told, "shown"),
        text(told, "number"),
        text(told, "reason"),
        overdue=bool(told.get("overdue")),
    )


def _listed(told: Mapping[str, Any]) -> Listed:
    return Listed(
        id=told["document"],
        service=text(told, "service") or "",
        sender=text(told, "sender") or "",
        reference=text(told, "reference"),
        submitted=text(told, "submitted") or "",
        state=text(told, "state") or "",
        members=told,
    )


def _all(told: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    given = told.get(name)
    return [each for each in given if isinstance(each, kind)] if isinstance(given, list) else []
