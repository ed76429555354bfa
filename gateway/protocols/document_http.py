"""Documents posted as they are to an agency's own HTTP address, what belongs to them in headers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core.minimise import parts
from gateway.core.model import Way
from gateway.core.shape import Malformed, parse
from gateway.protocols import options
from gateway.protocols.handover import Accepted, Handed, Taker, register_number
from gateway.protocols.posting import Letterbox, letterbox, traced
from gateway.protocols.protocol import Surroundings

_OPTIONS = ("url", "secret_headers", "headers", "tls", "allow", "number")
_HEADERS: Mapping[str, str] = {
    "kind": "Exchange-Kind",
    "service": "Exchange-Service",
    "sender": "Exchange-Sender",
    "on_behalf": "Exchange-For",
    "reference": "Exchange-Reference",
    "purpose": "Exchange-Purpose",
    "case": "Exchange-Case",
    "agreement": "Exchange-Agreement",
    "submitted": "Exchange-Submitted",
    "unit": "Exchange-Unit",
    "late": "Exchange-Late",
    "attempt": "Exchange-Attempt",
    "document": "Exchange-Document",
}
"""By the envelope's member."""


def hand_over(way: Way, surroundings: Surroundings) -> Taker:
    """The system behind a way with ``protocol: http``. Raises ValueError where its options are wrong."""
    options.hold_names(way.options, _OPTIONS, "protocol http of a delivery")
    fixed, templates = options.headers(way.options, surroundings.files)
    if templates:
        raise ValueError("headers of a delivery have no placeholders: what belongs to a document is sent in any case")
    try:
        number = parts(options.text(way.options["number"], "number")) if "number" in way.options else None
    except ValueError as error:
        raise ValueError(f"number must be a JSON Pointer such as /file/number: {error}") from error
    return _Http(letterbox(way, surroundings), fixed, number)


@dataclass(frozen=True, slots=True)
class _Http:
    box: Letterbox
    headers: Mapping[str, str]
    number: tuple[str, ...] | None
    """Where the register number stands in an answer."""

    async def take(self, handed: Handed) -> Accepted:
        body = orjson.dumps(handed.body) if handed.kind == "receipt" else handed.raw
        reply = await self.box.post({**_said(handed), **self.headers}, body, handed)
        return Accepted(None if self.number is None else _number(reply.body, self.number))

    async def close(self) -> None:
        """The connections belong to Outbound."""


def _said(handed: Handed) -> dict[str, str]:
    """The envelope as headers. Only what a header can carry is sent; all of it came to the gateway in one."""
    envelope = handed.envelope
    said = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        # the same for every attempt: a system that knows the header takes no document twice
        "Idempotency-Key": f'"{handed.id}"',
        "Exchange-Id": handed.id,
        "Exchange-Redelivered": "?1" if envelope.get("redelivered") else "?0",
        **traced(handed),
    }
    if handed.receipt is not None:
        said["Exchange-Receipt"] = handed.receipt
    for member, name in _HEADERS.items():
        value = envelope.get(member)
        if value is not None and (text := str(value)).isascii() and text.isprintable():
            said[name] = text
    if attachments := envelope.get("attachments"):
        said["Exchange-Attachments"] = ", ".join(map(_named, attachments))
    if handed.kind != "receipt":
        said["Content-Digest"] = str(envelope["digest"])
    return said


def _named(attachment: Mapping[str, Any]) -> str:
    """A file's id, with the place where an agent has laid it (RFC 9651, section 3.1.2)."""
    path = attachment.get("path")
    laid = isinstance(path, str) and path.isascii() and path.isprintable()
    where = str(path).replace("\\", "\\\\").replace('"', '\\"') if laid else ""
    return f'"{attachment["attachment"]}"' + (f';path="{where}"' if where else "")


def _number(body: bytes, pointer: tuple[str, ...]) -> str | None:
    """The register number, where the answer holds one; without it the document has arrived, no more."""
    try:
        value: Any = parse(body)
    except Malformed:
        return None
    for token in pointer:
        value = value.get(token) if isinstance(value, dict) else None
    return register_number(str(value) if isinstance(value, int) and not isinstance(value, bool) else value)
