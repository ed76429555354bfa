"""A document as a CloudEvent 1.0 in Kafka's binary mode: the body is the record's value, all else stands in headers.

``docs/kafka.md`` lists the headers. CloudEvents' own begin with ``ce_`` (CloudEvents Kafka Protocol Binding 1.0,
section 3.2); ``content-type`` and ``traceparent`` have no prefix (the same, 3.2.1; W3C Trace Context). ``read`` says
whether a record is a gateway's at all, ``genuine`` whether the instance signed it, for this recipient and this body.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson

from gateway.core.kafka import MAX_HEADER_BYTES
from gateway.core.receipt import STATEMENT, TYPE, BadReceipt, UnknownKid, digest_field, verify
from gateway.core.shape import Malformed, parse

JSON = "application/json"
RECEIPT = "receipt"
"""The type of what is no service's."""
GATEWAY = "/gateway"
"""The source of receipts: no agency says them."""
MAX_ATTRIBUTE = 1024
"""Bytes of a header that is neither the envelope nor signed."""

Headers = Sequence[tuple[str, bytes]]

_VERSION = "1.0"
_STATES = ("submitted", "held")
"""Of the first receipt; ``held`` where a second person had to agree."""
_ENVELOPE, _RECEIPT, _STATEMENT = "envelope", "receipt", "statement"
_NEEDED = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_partitionkey", "content-type", _ENVELOPE)
_KNOWN = frozenset((*_NEEDED, "ce_dataschema", "ce_redelivery", "traceparent", _RECEIPT, _STATEMENT))
_LONG = frozenset((_ENVELOPE, _RECEIPT, _STATEMENT))
_MEDIA = re.compile(r"application/json\s*(;.*)?", re.IGNORECASE)
_FORMS: Mapping[str, re.Pattern[str]] = {
    "ce_specversion": re.compile(re.escape(_VERSION)),
    "ce_id": re.compile(r"[A-Za-z0-9._-]{1,128}"),
    "ce_source": re.compile(r"/agencies/[a-z0-9_]{1,64}/[a-z0-9_]{1,64}|" + GATEWAY),
    "ce_type": re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)*"),
    "ce_time": re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})", re.ASCII),
    "ce_dataschema": re.compile(r"[!-~]+"),
    "ce_partitionkey": re.compile(r"[0-9a-f]{16,128}"),
    "ce_redelivery": re.compile(r"[1-9][0-9]{0,8}"),
    "content-type": _MEDIA,
    "traceparent": re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,64}"),
    _ENVELOPE: re.compile(r"\{.*\}", re.DOTALL),
    _RECEIPT: re.compile(r"[A-Za-z0-9._-]+"),
    _STATEMENT: re.compile(r"[A-Za-z0-9._-]+"),
}


class NoEvent(ValueError):
    """A record that is no document of a gateway. The message says why, without its bytes."""


class UnknownKey(NoEvent):
    """It is signed by a key that is not among those given: newer ones may have it."""


@dataclass(frozen=True, slots=True)
class Event:
    """One record, apart from its value."""

    id: str
    source: str
    """``/agencies/<agency>/<system>``: the sender; of a receipt ``GATEWAY``."""
    type: str
    """The service, or ``receipt``."""
    time: str
    """When it was submitted; of a receipt, of what it speaks (RFC 3339)."""
    dataschema: str | None
    """Where the schema of the value is found, at the gateway; None where an event was cut: it holds for the whole."""
    partitionkey: str
    """A keyed hash of the lane: nothing personal."""
    redelivery: int
    """How often an operator had it handed over again after it had been undeliverable."""
    envelope: Mapping[str, Any]
    """What every way tells beside the body (docs/documents.md)."""
    receipt: str | None
    """The document's first receipt, which names the digest of the whole; None where an event was cut. Of a receipt,
    itself."""
    statement: str | None
    """The gateway's word that this body is for this recipient, in a receipt's form under a type of its own, where the
    first one does not say so: it speaks of several recipients, or of more than this one may see."""
    traceparent: str
    """"" where there is none."""


def headers(event: Event) -> Headers:
    """As a record carries them. The envelope's ``receipt`` stands in the header of that name alone."""
    envelope = orjson.dumps({name: value for name, value in event.envelope.items() if name != _RECEIPT})
    made = [
        ("ce_specversion", _VERSION.encode()),
        ("ce_id", event.id.encode()),
        ("ce_source", event.source.encode()),
        ("ce_type", event.type.encode()),
        ("ce_time", event.time.encode()),
        ("ce_partitionkey", event.partitionkey.encode()),
        ("content-type", JSON.encode()),
        (_ENVELOPE, envelope),
    ]
    if event.redelivery:
        made.append(("ce_redelivery", b"%d" % event.redelivery))
    beside = (
        ("ce_dataschema", event.dataschema),
        (_RECEIPT, event.receipt),
        (_STATEMENT, event.statement),
        ("traceparent", event.traceparent),
    )
    return (*made, *((name, text.encode()) for name, text in beside if text))


def size(key: bytes, given: Headers) -> int:
    """Bytes that a record takes beside its value; lengths of lengths are counted with the most that they can be."""
    return len(key) + 10 * len(given) + sum(map(len, chain.from_iterable(given)))


def named(given: Iterable[tuple[str, bytes]]) -> str | None:
    """The id that a record gives itself, whatever else is wrong with it."""
    try:
        return _text("ce_id", dict(given)["ce_id"])
    except (KeyError, NoEvent):
        return None


def read(key: bytes | None, value: bytes | None, given: Iterable[tuple[str, bytes]]) -> Event:
    """The event, as it says of itself. Headers that nobody here knows are passed over. Raises NoEvent."""
    said = _said(given)
    if missing := [name for name in _NEEDED if name not in said]:
        raise NoEvent(f"it has no header {missing[0]}")
    if not value:  # a null value deletes, in a compacted topic: it is no event (Kafka Protocol Binding, section 3.2.2)
        raise NoEvent("it has no value")
    if key is None or key != said["ce_partitionkey"].encode():
        raise NoEvent("its key is not its ce_partitionkey")
    event = Event(
        id=said["ce_id"],
        source=said["ce_source"],
        type=said["ce_type"],
        time=said["ce_time"],
        dataschema=said.get("ce_dataschema"),
        partitionkey=said["ce_partitionkey"],
        redelivery=int(said.get("ce_redelivery", "0")),
        envelope=_envelope(said),
        receipt=said.get(_RECEIPT),
        statement=said.get(_STATEMENT),
        traceparent=said.get("traceparent", ""),
    )
    _hold_envelope(event)
    return event


def genuine(event: Event, value: bytes, jwks: Mapping[str, Any], instance: str, agency: str) -> Mapping[str, Any]:
    """The claims that are signed and name this agency, and this body. Raises NoEvent, and UnknownKey."""
    if event.type == RECEIPT:
        return _genuine_receipt(event, value, jwks, (instance, agency))
    beside = ((event.receipt, TYPE), (event.statement, STATEMENT))
    signed = [_verified(each, jwks, instance, typ) for each, typ in beside if each is not None]
    digest = digest_field(hashlib.sha256(value).digest())
    for claims in signed:
        _hold_claims(event, claims, digest)
    if event.envelope.get("reference") != (signed[0].get("reference") if event.receipt is not None else None):
        raise NoEvent("its envelope and what is signed differ in reference")
    found = next((claims for claims in signed if claims.get("recipient") == agency), None)
    if found is None or any(claims.get("recipient") not in (None, agency) for claims in signed):
        raise NoEvent(f"nothing that is signed in it says that it is for {agency}")
    return found


def _said(given: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """What is known of the headers. Raises NoEvent."""
    said: dict[str, str] = {}
    total = 0
    for name, value in given:
        if name not in _KNOWN:
            continue
        if name in said:
            raise NoEvent(f"it has the header {name} twice")
        said[name] = _text(name, value)
        total += len(value)
    if total > MAX_HEADER_BYTES:
        raise NoEvent(f"its headers have more than {MAX_HEADER_BYTES} bytes")
    return said


def _text(name: str, value: bytes | None) -> str:
    if value is None or len(value) > (MAX_HEADER_BYTES if name in _LONG else MAX_ATTRIBUTE):
        raise NoEvent(f"its header {name} is empty, or too long")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise NoEvent(f"its header {name} is no UTF-8") from error
    if not _FORMS[name].fullmatch(text):
        raise NoEvent(f"its header {name} does not have the form that it must have")
    return text


def _envelope(said: Mapping[str, str]) -> Mapping[str, Any]:
    try:
        value: dict[str, Any] = parse(said[_ENVELOPE].encode())
    except Malformed as error:
        raise NoEvent(f"its header envelope is {error}") from error
    return {**value, _RECEIPT: said.get(_RECEIPT)}


def _hold_envelope(event: Event) -> None:
    """The envelope says the same as the headers. Raises NoEvent."""
    told, receipt = event.envelope, event.type == RECEIPT
    sender = GATEWAY if receipt else source(str(told.get("sender")))
    kinds = (RECEIPT,) if receipt else ("document", "event")
    same = {
        "id": told.get("id") == event.id,
        "kind": told.get("kind") in kinds,
        "service": receipt or told.get("service") == event.type,
        "sender": sender == event.source,
        "late": told.get("late") == event.redelivery,
        "attachments": isinstance(told.get("attachments", []), list),
    }
    if wrong := [name for name, holds in same.items() if not holds]:
        raise NoEvent(f"its envelope and its other headers differ in {', '.join(wrong)}")


def source(sender: str) -> str:
    """Of what a system sent."""
    return f"/agencies/{sender.replace('.', '/', 1)}"


def _verified(signed: str, jwks: Mapping[str, Any], instance: str, typ: str = TYPE) -> Mapping[str, Any]:
    try:
        return verify(signed, jwks, instance, typ)
    except UnknownKid as error:
        raise UnknownKey(f"what is signed in it cannot be checked: {error}") from error
    except BadReceipt as error:
        raise NoEvent(f"what is signed in it does not hold: {error}") from error


def _hold_claims(event: Event, claims: Mapping[str, Any], digest: str) -> None:
    """What is signed speaks of this record. Raises NoEvent."""
    told = event.envelope
    files = [each.get("digest") if isinstance(each, dict) else None for each in told.get("attachments", [])]
    same = {
        "document": claims.get("document") == event.id,
        "service": claims.get("service") == event.type,
        "sender": claims.get("sender") == told.get("sender"),
        "on_behalf": claims.get("on_behalf") == told.get("on_behalf"),
        "state": claims.get("state") in _STATES,
        "attachments": claims.get("attachments", []) == files,
        "digest": claims.get("digest") == digest,
    }
    if wrong := [name for name, holds in same.items() if not holds]:
        raise NoEvent(f"the record and what is signed in it differ in {', '.join(wrong)}")


def _genuine_receipt(event: Event, value: bytes, jwks: Mapping[str, Any], to: tuple[str, str]) -> Mapping[str, Any]:
    instance, agency = to
    if event.receipt is None:
        raise NoEvent("it has no header receipt")
    claims = _verified(event.receipt, jwks, instance)
    try:
        said = parse(value)
    except Malformed as error:
        raise NoEvent(f"its value is {error}") from error
    if said != claims:
        raise NoEvent("its value is not what is signed in it")
    if str(claims.get("sender")).partition(".")[0] != agency:
        raise NoEvent(f"it is no receipt of what {agency} sent")
    if event.id != receipt_id(str(claims.get("document")), str(claims.get("entry"))):
        raise NoEvent("its id is not that of the receipt")
    return claims


def receipt_id(document: str, entry: str) -> str:
    """What a reader of receipts looks at, so as to take none twice.

    It holds no full stop: webhooks sign it with one behind it.
    """
    return f"{document}-{entry.partition(' ')[0].replace('.', '-')}"
