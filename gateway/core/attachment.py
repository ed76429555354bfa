"""What an attachment is: its digest, its media type held against its bytes, its ranges, and what a service accepts."""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.core.life import Accepted
from gateway.core.refusal import Refusal

MAX_FILE = 2**31
"""Bytes of an attachment."""
MAX_NAMED = 100
"""Attachments that one header can name; services take fewer."""
HEAD_BYTES = 1024
"""Bytes from the beginning of a file that are looked at."""

_DIGEST = re.compile(r"(sha-256|sha-512)=:([A-Za-z0-9+/]{43}=|[A-Za-z0-9+/]{86}==):")
_LENGTHS = {"sha-256": 32, "sha-512": 64}
_WORD = r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}"
_MEDIA = re.compile(rf'({_WORD}/{_WORD})(?:\s*;\s*charset=(?:utf-8|"utf-8"))?')
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class File:
    """An attachment as everybody who may know of it sees it."""

    id: str
    digest: bytes
    """SHA-256."""
    size: int
    media_type: str

    @property
    def shown(self) -> Mapping[str, str | int]:
        """As answers and envelopes name it."""
        return {
            "attachment": self.id,
            "digest": digest_field(self.digest),
            "size": self.size,
            "media_type": self.media_type,
        }

    @property
    def etag(self) -> str:
        """A strong validator (RFC 9110, section 8.8.3): the bytes' own digest."""
        return f'"{self.digest.hex()}"'


def digest_field(sha256: bytes) -> str:
    """A digest as Content-Digest and Repr-Digest say it (RFC 9530, section 2)."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"


def announced(header: str | None) -> Mapping[str, bytes]:
    """The digests of a Content-Digest by algorithm. Raises Refusal request.malformed."""
    if header is None:
        raise Refusal("request.malformed", "The header Content-Digest is missing: send sha-256=:…: of the file.")
    found: dict[str, bytes] = {}
    for member in header.split(","):
        known = _DIGEST.fullmatch(member.strip())
        value = _decoded(known[2]) if known else b""
        if known is None or known[1] in found or len(value) != _LENGTHS[known[1]]:
            raise Refusal(
                "request.malformed",
                "Content-Digest must be sha-256=:…: with the digest in base64 (RFC 9530); sha-512 is taken too, "
                "others are not.",
            )
        found[known[1]] = value
    return found


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


def hold_digests(said: Mapping[str, bytes], found: Mapping[str, bytes]) -> None:
    """Refuse bytes that are not those that were announced."""
    if not all(hmac.compare_digest(value, found[name]) for name, value in said.items()):
        raise Refusal("attachment.digest", "The bytes that arrived do not have the announced Content-Digest.")


def hold_length(length: int | None) -> None:
    """Refuse a file that is announced as empty or too large."""
    if length == 0:
        raise Refusal("request.malformed", "The file is empty: send its bytes as the body.")
    if length is not None and length > MAX_FILE:
        raise Refusal("request.too_large", f"A file may have at most {MAX_FILE} bytes.")


def media_type(content_type: str | None, content_encoding: str | None) -> str:
    """The declared media type, in lower case. Raises Refusal attachment.media_type."""
    found = _MEDIA.fullmatch((content_type or "").strip().lower())
    if found is None:
        raise Refusal(
            "attachment.media_type",
            "Content-Type must name the file's media type, such as application/pdf; charset=utf-8 may follow it.",
        )
    if content_encoding not in (None, "identity"):
        raise Refusal("attachment.media_type", "The file must be sent as it is: leave Content-Encoding out.")
    return found[1]


def listed(header: str | None) -> tuple[str, ...]:
    """The ids in Exchange-Attachments. Raises Refusal request.malformed."""
    if header is None:
        return ()
    ids = tuple(each.strip() for each in header.split(","))
    if len(ids) > MAX_NAMED or len(set(ids)) < len(ids) or not all(_ID.fullmatch(each) for each in ids):
        raise Refusal(
            "request.malformed",
            f"Exchange-Attachments must list ids that uploads gave, by commas, each once, {MAX_NAMED} at most.",
        )
    return ids


def known_id(text: str) -> str:
    """An id from an address. Raises Refusal attachment.unknown where it cannot be one."""
    if _ID.fullmatch(text) is None:
        raise unknown()
    return text


def unknown() -> Refusal:
    """The same words for a file that is not there and for one that the caller must not know of."""
    return Refusal("attachment.unknown", "No attachment with this id shows to your agency.")


def hold_accepted(service: str, accepts: Accepted | None, files: Sequence[File]) -> None:
    """Refuse what a service does not take with a document."""
    if not files:
        return
    if accepts is None:
        raise Refusal("attachment.not_accepted", f"The service {service} takes no attachments.")
    if len(files) > accepts.max_count:
        raise Refusal("attachment.not_accepted", f"{service} takes at most {accepts.max_count} attachments.")
    for place, file in enumerate(files, start=1):
        if file.media_type not in accepts.types:
            types = ", ".join(accepts.types)
            raise Refusal("attachment.not_accepted", f"Attachment {place} has a media type that is not one of {types}.")
        if file.size > accepts.max_bytes:
            raise Refusal(
                "attachment.not_accepted",
                f"Attachment {place} has {file.size} bytes; {service} takes {accepts.max_bytes} at most.",
            )


@dataclass(frozen=True, slots=True)
class Range:
    """Some of a file's bytes: from ``start``, until before ``end``."""

    start: int
    end: int

    def content_range(self, size: int) -> str:
        """As the answer says it (RFC 9110, section 14.4)."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


def asked(header: str | None, if_range: str | None, file: File) -> Range | None:
    """The range that is asked for; None: all of it. Raises Refusal attachment.range.

    RFC 9110, section 14.2: what is no range of bytes, or more than one, is passed over. Section 13.1.5: so is a range
    of a file that is not the one in If-Range; a date there never is, as the file has none.
    """
    unit, _, text = (header or "").partition("=")
    if unit.strip().lower() != "bytes" or (if_range is not None and if_range.strip() != file.etag):
        return None
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        return None
    if found[3] is not None:
        start, end = max(0, file.size - int(found[3])), file.size
    else:
        start, end = int(found[1]), file.size if found[2] is None else min(int(found[2]) + 1, file.size)
        if found[2] is not None and int(found[2]) < start:
            return None
    if start >= end:
        raise Refusal("attachment.range", f"The file has {file.size} bytes; the range holds none of them.")
    return Range(start, end)
