"""Every way in which a call can fail, as one class for each thing that a caller can do about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from gateway.client.wire import GatewayError, Reply, Unreachable


@dataclass(frozen=True, slots=True)
class ShapeFault:
    """One place where a body does not fit the service's schema."""

    pointer: str
    """A JSON Pointer (RFC 6901) into the body that was sent."""
    detail: str


@dataclass(frozen=True, slots=True)
class Contact:
    """Whom to ask: a role among an agency's contacts; without an agency, the gateway's operator."""

    role: str
    agency: str | None = None
    at: str | None = None
    """Its address, as the agency's folder has it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document (RFC 9457), read."""

    status: int
    code: str
    title: str = ""
    detail: str = ""
    type: str = "about:blank"
    """The page of the docs that explains the code."""
    exchange: str | None = None
    trace: str | None = None
    """The id of the trace (W3C Trace Context) that the call belonged to."""
    errors: tuple[ShapeFault, ...] = ()
    retry_after: float | None = None
    contact: Contact | None = None


class Refused(GatewayError):
    """The gateway said no, or reported a fault, and said why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.code = problem.code
        self.status = problem.status
        self.title = problem.title
        self.detail = problem.detail
        self.exchange = problem.exchange
        self.trace = problem.trace
        self.errors = problem.errors
        self.retry_after = problem.retry_after
        self.contact = problem.contact
        self.temporary = not _REPEATED.isdisjoint((problem.code, problem.status))

    def __str__(self) -> str:
        said = [f"{self.code} ({self.status}): {self.title}.", self.detail]
        said += ["; ".join(f"at {fault.pointer or 'the top'}: {fault.detail}" for fault in self.errors)]
        said += [f"(exchange {self.exchange})"] if self.exchange else []
        return " ".join(part for part in said if part)


class NotIdentified(Refused):
    """The key, the assertion or the token is not accepted."""


class NotPermitted(Refused):
    """No agreement covers the call as it was made."""


class Unknown(Refused):
    """There is no such agency or service, or it does not show itself to this system."""


class NotFound(Refused):
    """The provider looked and has no such record."""


class BadRequest(Refused):
    """The call must be corrected; ``errors`` points to what is wrong with its body."""


class Conflict(Refused):
    """What stands already is in the way: a call with the same key, or what became of the document."""


class TooMany(Refused):
    """The rate or the quota of the agreement is used up."""


class ProviderFailed(Refused):
    """The provider's system failed, was too slow, or gave an answer that had to be withheld."""


class Unavailable(Refused):
    """The gateway or the way to the provider is out of service."""


_MEANINGS: Mapping[str | int, type[Refused]] = {
    400: BadRequest,
    401: NotIdentified,
    403: NotPermitted,
    404: Unknown,
    405: BadRequest,
    409: Conflict,
    413: BadRequest,
    415: BadRequest,
    416: BadRequest,
    422: BadRequest,
    429: TooMany,
    500: Unavailable,
    502: ProviderFailed,
    503: Unavailable,
    504: ProviderFailed,
    # A code speaks before its status.
    "provider.not_found": NotFound,
    "idempotency.reused": Conflict,
    # The token endpoint's own words (RFC 6749, section 5.2).
    "invalid_client": NotIdentified,
    "invalid_grant": NotIdentified,
    "invalid_request": NotIdentified,
    "unauthorized_client": NotIdentified,
    "unsupported_grant_type": NotIdentified,
    "invalid_scope": NotPermitted,
}

# What is sent again, with the same idempotency key, so that a write has one effect. All else would get the same
# answer, and idempotency.outcome_unknown is for a person to settle.
_REPEATED: frozenset[str | int] = frozenset(
    {
        429,  # nothing was done
        503,  # nothing was done, or the gateway remembers the key
        "idempotency.running",  # our earlier attempt is at work: its answer will be given to this one
        "provider.broken",  # may have taken effect: the gateway then answers outcome_unknown, or the provider
        "provider.timeout",  # takes the key itself; a read has no effect
    }
)
# A proxy that says these has no answer from the gateway: as good as a lost connection.
NOT_PASSED_ON = frozenset({429, 502, 503, 504})

_MOST_FAULTS = 100


def refusal(reply: Reply, url: str, *, oauth: bool = False) -> GatewayError:
    """What an answer means that is no success; ``oauth`` also reads RFC 6749, section 5.2."""
    media = reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    members = document(reply)
    code = members.get("code")
    if oauth and code is None and media == "application/json":
        code = members.get("error")
    elif media != "application/problem+json":
        code = None
    if not isinstance(code, str) or reply.status < 400:
        return stranger(reply, url)
    meaning = _MEANINGS.get(code) or _MEANINGS.get(reply.status, Refused)
    return meaning(_problem(reply, members, code))


def document(reply: Reply) -> dict[str, Any]:
    """The JSON object of the answer; empty where there is none."""
    try:
        value = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def told(reply: Reply, url: str, **wanted: type) -> dict[str, Any]:
    """The answer, with members of these types. Raises Unreachable where it is none of the gateway's."""
    members = document(reply)
    if not (200 <= reply.status < 300 and _has(members, wanted)):
        raise stranger(reply, url)
    return members


def listed(reply: Reply, url: str, name: str, **wanted: type) -> list[dict[str, Any]]:
    """The same of a member that is a list of objects, each with members of these types."""
    entries: list[Any] = told(reply, url, **{name: list})[name]
    if not all(isinstance(each, dict) and _has(each, wanted) for each in entries):
        raise stranger(reply, url)
    return entries


def _has(members: Mapping[str, Any], wanted: Mapping[str, type]) -> bool:
    return all(isinstance(members.get(name), kind) for name, kind in wanted.items())


def instant(date: str | None) -> float | None:
    """Seconds since 1970 of an HTTP date (RFC 9110, section 5.6.7)."""
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, OverflowError):
        return None


def stranger(reply: Reply, url: str) -> Unreachable:
    error = Unreachable(
        f"What answered {reply.status} at {url} was not the gateway: look at the address, and at proxies on the way"
        + (" (it redirects; redirects are not followed)." if 300 <= reply.status < 400 else "."),
        temporary=reply.status in NOT_PASSED_ON,
        status=reply.status,
    )
    error.retry_after = _wait(reply)
    return error


def _problem(reply: Reply, members: Mapping[str, Any], code: str) -> Problem:
    contact = members.get("contact")
    errors = members.get("errors")
    asked = members.get("retry_after")
    return Problem(
        status=reply.status,
        code=code,
        title=text(members, "title") or "The gateway refused",
        detail=text(members, "detail") or text(members, "error_description") or "",
        type=text(members, "type") or "about:blank",
        exchange=text(members, "exchange") or reply.headers.get("Exchange-Id"),
        trace=text(members, "trace"),
        errors=tuple(
            ShapeFault(text(fault, "pointer") or "", text(fault, "detail") or "")
            for fault in (errors[:_MOST_FAULTS] if isinstance(errors, list) else ())
            if isinstance(fault, dict)
        ),
        retry_after=max(float(asked), 0.0) if isinstance(asked, int | float) else _wait(reply),
        contact=_contact(contact) if isinstance(contact, dict) else None,
    )


def _contact(members: Mapping[str, Any]) -> Contact | None:
    role = text(members, "role")
    return Contact(role, text(members, "agency"), text(members, "at")) if role else None


def text(members: Mapping[str, Any], name: str) -> str | None:
    """A member, where it is a text."""
    value = members.get(name)
    return value if isinstance(value, str) else None


def _wait(reply: Reply) -> float | None:
    """Retry-After in seconds (RFC 9110, section 10.2.3); a date is compared with the answer's own, not our clock."""
    said = reply.headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdigit():
        return float(said)
    until, sent = instant(said), instant(reply.headers.get("Date"))
    return None if until is None or sent is None else max(until - sent, 0.0)
