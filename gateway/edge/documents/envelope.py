"""What a recipient is told beside the body: the envelope, the same on every way."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.cloudevent import receipt_id
from gateway.core.receipt import digest_field, instant
from gateway.edge.documents.records import RECEIPT, Opened, Out, Seal, body_context, opened_head
from gateway.protocols.handover import Handed


def head_of(out: Out, unseal: Seal) -> Mapping[str, Any]:
    """Raises ``keys.NotOpened``."""
    if out.opened is not None:
        return out.opened.head
    return opened_head(out.paper.id, out.head, unseal)


def unsealed(out: Out, unseal: Seal) -> Opened:
    """Raises ``keys.NotOpened``."""
    if out.opened is not None:
        return out.opened
    head = head_of(out, unseal)
    if out.kind == RECEIPT:
        return Opened(head, out.first_receipt)
    return Opened(head, None if out.body is None else unseal(out.body, body_context(out.paper.id)))


def delivery_id(out: Out) -> str:
    """What a recipient looks at, so as to take nothing twice: the document's id; a receipt has one of its own."""
    if out.kind != RECEIPT:
        return out.paper.id
    return receipt_id(out.paper.id, str(claims(out.first_receipt)["entry"]))


def envelope(out: Out, head: Mapping[str, Any], part: bytes | None = None) -> dict[str, Any]:
    """As JSON. ``part``: what leaves of an event, where the subscriber may not see the whole of it.

    Then nothing speaks of the rest: by the digest of the whole what was cut away could be guessed, and checked.
    """
    paper, cut = out.paper, part is not None
    told: dict[str, Any] = {
        "id": delivery_id(out),
        "kind": out.kind,
        "service": paper.service,
        "sender": paper.sender,
        "on_behalf": paper.on_behalf,
        "reference": None if cut else paper.reference,
        "submitted": instant(out.submitted),
        "digest": digest_field(paper.digest if part is None else hashlib.sha256(part).digest()),
        "unit": out.unit or None,
        "late": out.requeued,
        "attempt": out.attempts,
        "redelivered": out.touched or out.requeued > 0,
        "receipt": None if cut else out.first_receipt.decode(),
    }
    if out.kind == RECEIPT:
        told["document"] = paper.id
    else:
        agreements = head.get("agreements") or {}
        told["purpose"] = head.get("purpose")
        told["case"] = None if cut else head.get("case")
        told["agreement"] = head.get("agreement") or agreements.get(out.recipient)
        told["attachments"] = [] if cut else head.get("attachments") or []
        told["cut"] = cut
    return told


def handed(out: Out, opened: Opened, released: bytes, seconds: float, *, cut: bool) -> Handed:
    """What a way gets to hand over; ``released`` is what the recipient may see of the body, ``cut``: not the whole."""
    receipt = out.kind == RECEIPT
    told = envelope(out, opened.head, released if cut else None)
    return Handed(
        id=told["id"],
        kind=out.kind,
        service=out.paper.service,
        envelope=told,
        body=claims(released) if receipt else orjson.loads(released),  # it was held to be strict JSON when it came
        raw=released,
        receipt=told["receipt"],
        traceparent=str(opened.head.get("traceparent", "")),
        seconds=seconds,
        lane=out.okey,
    )


def claims(receipt: bytes) -> dict[str, Any]:
    """What one of the gateway's own receipts says; its signature is for others to check (RFC 7515, section 7.1)."""
    payload = receipt.split(b".")[1]
    said: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    return said
