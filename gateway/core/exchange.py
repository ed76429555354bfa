"""What one exchange is: its head, its fingerprint, and what becomes of a write's idempotency key."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.core.model import AgencyId, Obligation, Service, ServiceId
from gateway.core.refusal import Refusal
from gateway.core.shape import Malformed, parse

MAX_WORDED = 65_536
"""Bytes of a body whose mistakes are looked for one by one: words cost a hundred times the verdict."""
AGENCY = re.compile(r"[a-z][a-z0-9_]{0,62}")
SERVICE = re.compile(r"[a-z][a-z0-9_]{0,62}\.[a-z][a-z0-9_]{0,62}\.v[1-9][0-9]{0,3}")

_PURPOSE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LINE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,254}[\x21-\x7e])?")
_KEY = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,128})"|([A-Za-z0-9._~:/+-]{1,128})')
_ESCAPED = re.compile(r'\\(["\\])')
_IDS = "-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_TRACE = re.compile(f"00{_IDS}|(?!00|ff)[0-9a-f]{{2}}{_IDS}(?:-.*)?")  # only later versions may say more
_MEDIA = re.compile(r'application/json(?:\s*;\s*charset=(?:utf-8|"utf-8"))?\s*', re.IGNORECASE)

ONCE = (
    "authorization",
    "content-encoding",
    "content-type",
    "exchange-case",
    "exchange-for",
    "exchange-purpose",
    "exchange-user",
    "exchange-user-assertion",
    "idempotency-key",
    "traceparent",
)
"""Headers that a call carries at most once: two of them are two stories."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a consumer says about its call, beside the body."""

    purpose: str
    case: str | None
    user: str | None
    on_behalf: AgencyId | None
    key: str | None

    def given(self, *, person: bool) -> frozenset[Obligation]:
        """What the call brings of what a grant may require; a verified person counts as its user."""
        brought = set()
        if self.case is not None:
            brought.add(Obligation.CASE)
        if self.user is not None or person:
            brought.add(Obligation.USER)
        if person:
            brought.add(Obligation.PERSON)
        return frozenset(brought)


def address(agency: str, service: str) -> tuple[AgencyId, ServiceId]:
    """The names in the URL. Raises Refusal catalogue.unknown where they cannot be names."""
    if AGENCY.fullmatch(agency) is None or SERVICE.fullmatch(service) is None:
        raise Refusal("catalogue.unknown", "The address names no agency and service of this catalogue.")
    return AgencyId(agency), ServiceId(service)


def once(names: Sequence[bytes]) -> None:
    """Refuse a header of ONCE that comes twice; ``names`` are lower case, as often as they were sent."""
    if len(set(names)) == len(names):
        return
    for name in ONCE:
        if names.count(name.encode()) > 1:
            raise Refusal("request.malformed", f"The header {name} was sent more than once.")


def read_head(headers: Mapping[str, str]) -> Head:
    """The head of a call. Raises Refusal request.malformed, naming the header and never its value."""
    purpose = headers.get("Exchange-Purpose")
    if purpose is None:
        raise Refusal("request.malformed", "The header Exchange-Purpose is missing: say what the record is for.")
    if _PURPOSE.fullmatch(purpose) is None:
        raise Refusal("request.malformed", "Exchange-Purpose must be a code such as tax_assessment.")
    behalf = headers.get("Exchange-For")
    if behalf is not None and AGENCY.fullmatch(behalf) is None:
        raise Refusal("request.malformed", "Exchange-For must be the name of an agency.")
    return Head(
        purpose,
        _line(headers, "Exchange-Case"),
        _line(headers, "Exchange-User"),
        None if behalf is None else AgencyId(behalf),
        _idempotency_key(headers.get("Idempotency-Key")),
    )


def _line(headers: Mapping[str, str], name: str) -> str | None:
    value = headers.get(name)
    if value is not None and _LINE.fullmatch(value) is None:
        raise Refusal("request.malformed", f"{name} must be 1 to 256 visible ASCII characters.")
    return value


def _idempotency_key(value: str | None) -> str | None:
    """A structured-field string (draft-ietf-httpapi-idempotency-key-header-07, section 2.1), or the bare key."""
    if value is None:
        return None
    found = _KEY.fullmatch(value)
    if found is None:
        raise Refusal(
            "request.malformed",
            'Idempotency-Key must be 1 to 128 characters in double quotes, such as "8e03978e-40d5".',
        )
    return _ESCAPED.sub(r"\1", found[1]) if found[1] else found[2]


def trace(traceparent: str | None) -> str | None:
    """The trace id of a valid ``traceparent`` (W3C Trace Context, section 3.2); None where there is none."""
    if traceparent is None or _TRACE.fullmatch(traceparent) is None:
        return None
    return traceparent[3:35]


def hold_media(content_type: str | None, content_encoding: str | None) -> None:
    """Refuse what is not plain JSON in UTF-8."""
    if content_type is None or _MEDIA.fullmatch(content_type) is None:
        raise Refusal("request.media_type", "The body must be sent as Content-Type: application/json, in UTF-8.")
    if content_encoding not in (None, "identity"):
        raise Refusal("request.media_type", "The body must not be compressed: leave Content-Encoding out.")


def hold_size(announced: int | None, limit: int) -> None:
    """Refuse an announced length over the service's limit."""
    if announced is not None and announced > limit:
        raise Refusal("request.too_large", f"The service takes bodies of at most {limit} bytes.")


def fingerprint(provider: AgencyId, service: ServiceId, head: Head, body: bytes) -> bytes:
    """What a repeated idempotency key must agree in: target, purpose, case, mandate and body.

    ``body`` is the canonical form, so that a retry may write the same JSON with other spaces or in another order.
    """
    digest = hashlib.sha256()
    for part in (provider, service, head.purpose, head.case or "", head.on_behalf or ""):
        digest.update(len(part).to_bytes(4, "big") + part.encode())
    digest.update(body)
    return digest.digest()


def shaped(service: Service, raw: bytes) -> Any:
    """The body's value. Raises Refusal request.malformed or shape.request."""
    try:
        value = parse(raw)
    except Malformed as error:
        raise Refusal("request.malformed", f"The body is {error}.") from error
    if not service.request.fits(value):
        raise Refusal(
            "shape.request",
            f"The body does not fit the request schema of {service.id}.",
            errors=service.request.faults(value) if len(raw) <= MAX_WORDED else (),
        )
    return value


class KeyState(StrEnum):
    """What is known about the call that an idempotency key belongs to."""

    RUNNING = "running"
    ANSWERED = "answered"
    UNKNOWN = "unknown"


class Next(StrEnum):
    """What a caller whose key was found in use gets."""

    REUSED = "idempotency.reused"
    RUNNING = "idempotency.running"
    UNKNOWN = "idempotency.outcome_unknown"
    REPLAY = "replay"
    AGAIN = "again"
    """Call once more with the same key: the provider takes it."""


def after_found(state: KeyState, *, same: bool, late: bool, takes_key: bool) -> Next:
    """The table of section 1.5 in the journal's design: what a second caller with the key gets."""
    if not same:
        return Next.REUSED
    if state is KeyState.RUNNING and late:
        state = KeyState.UNKNOWN
    match state:
        case KeyState.ANSWERED:
            return Next.REPLAY
        case KeyState.RUNNING:
            return Next.RUNNING
        case KeyState.UNKNOWN:
            return Next.AGAIN if takes_key else Next.UNKNOWN
