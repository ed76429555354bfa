"""Receipts: the gateway's signed statement of one state in a document's life, byte by byte.

A receipt is a JWS in compact form (RFC 7515), typed so that it passes for no token (RFC 8725, section 3.11). It is
signed once and kept as bytes. Whoever has the keys that the instance publishes can check one by ``verify``, alone.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson

from gateway.core.jwk import BadKey, verifying_key
from gateway.core.shape import Malformed, parse

TYPE = "exchange-receipt+jwt"
STATEMENT = "exchange-statement+jwt"
"""Of the word that a body is for a recipient: it has a receipt's form, another digest, and passes for none."""
MAX_RECEIPT = 16_384
"""Bytes of a receipt that is looked at."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")
_HEADER = {"alg", "kid", "typ"}
"""All that a receipt's header has: none of them lets it choose the key."""


class BadReceipt(ValueError):
    """A text that is no receipt of this instance. The message says why, without the text."""


class UnknownKid(BadReceipt):
    """The key that it names is not among those given: newer ones may have it."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a receipt states. Names, codes and a register number; nothing of the document but its digest."""

    instance: str
    document: str
    reference: str | None
    """The sender's. None: like the digest, it is not for a subscriber to an event."""
    service: str
    digest: bytes | None
    """SHA-256 of the body as it was received. None: a subscriber, who may see a part of it, could find out the rest."""
    sender: str
    on_behalf: str | None
    recipient: str | None
    """None: it concerns all of them."""
    recipients: int | None
    """How many, where it concerns several: no recipient learns who the others are."""
    state: str
    at: float
    """Seconds since 1970."""
    entry: str
    """Number and leaf hash of its journal entry, as in the header Exchange-Entry."""
    by: str | None = None
    number: str | None = None
    reason: str | None = None
    unconfirmed: bool = False
    late: int = 0
    overdue: bool = False
    """It is not registered, and the time for that has passed."""
    attachments: tuple[bytes, ...] = ()
    """SHA-256 of the files that went along, in the sender's order; in the first receipt alone."""

    def claims(self) -> dict[str, Any]:
        """As JSON; what is absent is left out."""
        said = {
            "instance": self.instance,
            "document": self.document,
            "reference": self.reference,
            "service": self.service,
            "digest": None if self.digest is None else digest_field(self.digest),
            "attachments": [digest_field(each) for each in self.attachments] or None,
            "sender": self.sender,
            "on_behalf": self.on_behalf,
            "recipient": self.recipient,
            "recipients": self.recipients,
            "state": self.state,
            "at": instant(self.at),
            "by": self.by,
            "number": self.number,
            "reason": self.reason,
            "unconfirmed": self.unconfirmed or None,
            "late": self.late or None,
            "overdue": self.overdue or None,
            "entry": self.entry,
        }
        return {name: value for name, value in said.items() if value is not None}


@lru_cache(maxsize=64)
def instant(at: float) -> str:
    """Seconds since 1970 as a receipt, or an entry, spells them."""
    return (_EPOCH + timedelta(seconds=at)).isoformat(timespec="milliseconds")


@lru_cache(maxsize=1024)
def digest_field(digest: bytes) -> str:
    """A SHA-256 as the header Content-Digest spells it (RFC 9530, section 2)."""
    return f"sha-256=:{base64.b64encode(digest).decode()}:"


def protected(kid: str, alg: str, typ: str = TYPE) -> bytes:
    """The first part of each receipt that this key signs, with its full stop."""
    return _encoded(orjson.dumps({"alg": alg, "typ": typ, "kid": kid})) + b"."


def signed_part(header: bytes, claims: Mapping[str, Any]) -> bytes:
    """What the signature is over (RFC 7515, section 5.1)."""
    return header + _encoded(orjson.dumps(claims))


def compact(signed: bytes, signature: bytes) -> bytes:
    """The receipt."""
    return signed + b"." + _encoded(signature)


def verify(receipt: str | bytes, jwks: Mapping[str, Any], instance: str, typ: str = TYPE) -> Mapping[str, Any]:
    """The claims of a receipt of this instance, signed by one of its published keys. Raises BadReceipt."""
    text = receipt.decode("ascii", "replace") if isinstance(receipt, bytes) else receipt
    segments = text.split(".")
    if len(text) > MAX_RECEIPT or len(segments) != 3:
        raise BadReceipt("it is no JWS in compact form")
    header, claims, signature = (_decoded(each) for each in segments)
    names = _object(header)
    if names.keys() != _HEADER or names["typ"] != typ:
        raise BadReceipt(f"its header is not alg, kid, and typ {typ}")
    _hold_signature(names, jwks, f"{segments[0]}.{segments[1]}".encode(), signature)
    said = _object(claims)
    if said.get("instance") != instance:
        raise BadReceipt(f"it is not of the instance {instance}")
    return said


def _hold_signature(header: Mapping[str, Any], jwks: Mapping[str, Any], signed: bytes, signature: bytes) -> None:
    keys = jwks.get("keys")
    for jwk in keys if isinstance(keys, list) else ():
        if isinstance(jwk, dict) and jwk.get("kid") == header["kid"]:
            try:
                key = verifying_key(jwk)
            except BadKey as error:
                raise BadReceipt(f"the key that it names cannot be used: {error}") from error
            if not key.made(str(header["alg"]), signed, signature):
                raise BadReceipt("its signature is not that of the key which it names")
            return
    raise UnknownKid("none of the instance's keys has the kid that it names")


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        value = parse(raw)
    except Malformed as error:
        raise BadReceipt(f"a part of it is {error}") from error
    if not isinstance(value, dict):
        raise BadReceipt("a part of it is no JSON object")
    return value


def _encoded(raw: bytes) -> bytes:
    return binascii.b2a_base64(raw, newline=False).translate(_URL_SAFE, b"=")


def _decoded(segment: str) -> bytes:
    if not _SEGMENT.fullmatch(segment):
        raise BadReceipt("a part of it is not base64url")
    try:
        raw = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error as error:
        raise BadReceipt("a part of it is not base64url") from error
    if _encoded(raw).decode() != segment:  # two spellings of one receipt would be two receipts to whoever compares
        raise BadReceipt("a part of it is not base64url in its one spelling")
    return raw
