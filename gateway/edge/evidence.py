"""What is known of one exchange so far, and the journal entry that it makes wherever it stops."""

import os
import threading
import time
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.core.entry import (
    MAX_SUBJECTS,
    SALTS_BYTES,
    Bodies,
    Draft,
    Particulars,
    Stamp,
    Step,
    canonical,
    draft,
    pseudonym,
    values_at,
)
from gateway.core.exchange import Head
from gateway.core.minimise import parts
from gateway.core.model import AgencyId, Agreement, Catalogue, Grant, Person, Pointer, ServiceId, SystemId
from gateway.edge.peer import Peer
from gateway.edge.tracing import Span, trace_of


@dataclass(slots=True)
class Trail:
    """Grows as an exchange goes on; nobody but its own request touches it."""

    exchange: str
    catalogue: Catalogue
    at: datetime
    """The exchange's own time: read once."""
    begun: float
    """The same on a steady clock."""
    peer: Peer
    span: Span
    period_key: bytes
    provider: AgencyId | None = None
    service: ServiceId | None = None
    consumer: SystemId | None = None
    document: str | None = None
    """The document that the call is about."""
    person: Person | None = None
    head: Head | None = None
    agreement: Agreement | None = None
    grant: Grant | None = None
    received: bytes | None = None
    sent: bytes | None = None
    provided: bytes | None = None
    subjects: dict[bytes, str] = field(default_factory=dict, repr=False)
    """Pseudonyms by identifier, in the order in which they were met."""
    more_subjects: int = 0
    provider_seconds: float = 0.0
    called: bool = False
    concluded: bool = False
    """Its last word was drafted, and is written whatever becomes of the request."""
    stamp: Stamp | None = None
    sound: tuple[Pointer, ...] | None = None
    """Of an answer that breaks its schema and is reported: what may leave."""
    first: str | None = None
    """The exchange whose stored answer is given again."""

    @property
    def trace(self) -> str:
        """The id of the trace that it belongs to."""
        return trace_of(self.span.traceparent)

    @property
    def ids(self) -> Mapping[str, str]:
        """What every log line about it says."""
        return {"exchange": self.exchange, "trace": self.trace}

    def note_subjects(self, pointers: tuple[Pointer, ...], value: Any) -> None:
        """Note the persons that a body is about."""
        for pointer in pointers:
            for identifier in values_at(value, parts(pointer)):
                spelled = canonical(identifier)
                if spelled in self.subjects:
                    continue
                if len(self.subjects) >= MAX_SUBJECTS:
                    self.more_subjects += 1
                else:
                    self.subjects[spelled] = pseudonym(self.period_key, spelled)

    def draft(
        self,
        step: Step,
        *,
        status: int | None,
        code: str | None = None,
        released: bytes | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Draft:
        """The entry of this exchange at this step; ``more`` are facts that only its kind of call has."""
        self.concluded = self.concluded or step is Step.ANSWERED
        head = self.head
        facts = {
            "step": step,
            "instance": self.catalogue.instance,
            "exchange": self.exchange,
            "first": self.first,
            "at": self.at.isoformat(timespec="milliseconds"),
            "consumer": self.consumer,
            "on_behalf": self._known(head.on_behalf if head else None, self.catalogue.agencies),
            "provider": self._known(self.provider, self.catalogue.agencies),
            "service": self._known(self.service, self.catalogue.services),
            "document": self.document,
            "agreement": self.agreement.id if self.agreement else None,
            "grant": self.grant.index if self.grant else None,
            "legal_basis": self.agreement.legal_basis if self.agreement else None,
            "purpose": self._known(head.purpose if head else None, self.catalogue.purposes),
            "catalogue": self.catalogue.digest[:16],
            "remote": self.peer.address,
            "status": status,
            "code": code,
            **(more or {}),
        }
        bodies = Bodies(self.received, self.sent, self.provided, released)
        return draft(facts, bodies, self.particulars(), random_bytes(SALTS_BYTES))

    def grounds(self) -> Mapping[str, Any]:
        """On what a document was let in, for the entry that says so."""
        head, agreement = self.head, self.agreement
        return {
            "exchange": self.exchange,
            "agreement": agreement.id if agreement else None,
            "grant": self.grant.index if self.grant else None,
            "legal_basis": agreement.legal_basis if agreement else None,
            "purpose": self._known(head.purpose if head else None, self.catalogue.purposes),
            "catalogue": self.catalogue.digest[:16],
            "remote": self.peer.address,
        }

    def _known(self, name: str | None, names: Container[str]) -> str | None:
        """A name of the catalogue; what a caller made up may be somebody's name, and goes to the particulars."""
        return name if name is None or name in names else "unknown"

    def _said(self) -> Mapping[str, str] | None:
        """The names that the catalogue does not know."""
        head, all_of = self.head, self.catalogue
        said = {}
        if self.provider is not None and self.provider not in all_of.agencies:
            said["provider"] = str(self.provider)
        if self.service is not None and self.service not in all_of.services:
            said["service"] = str(self.service)
        if head is not None and head.purpose not in all_of.purposes:
            said["purpose"] = head.purpose
        if head is not None and head.on_behalf is not None and head.on_behalf not in all_of.agencies:
            said["on_behalf"] = str(head.on_behalf)
        return said or None

    def particulars(self) -> Particulars:
        """What stands beside its entry, as it may have to be forgotten."""
        head = self.head
        return Particulars(
            user=head.user if head else None,
            person=shown(self.person) if self.person else None,
            case=head.case if head else None,
            key=head.key if head else None,
            said=self._said(),
            subjects=tuple(self.subjects.values()),
            more_subjects=self.more_subjects,
        )


def shown(person: Person) -> Mapping[str, str | None]:
    """A person as entries and heads name them."""
    said = {
        "issuer": person.issuer,
        "subject": person.subject,
        "post": person.post,
        "unit": person.unit,
        "level": person.level,
    }
    return {name: value for name, value in said.items() if value is not None}


def administered(catalogue: Catalogue, what: str, **facts: str | int | None) -> Draft:
    """The entry of something that was done to the gateway itself."""
    return _aside(Step.ADMINISTERED, catalogue, what=what, catalogue=catalogue.digest, **facts)


def ordered(instance: str, what: str, who: str, reason: str, **facts: str) -> Draft:
    """The entry of an operator's order; who gave it and why may have to be forgotten."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    known = {"step": Step.ADMINISTERED, "instance": instance, "at": at, "what": what, **facts}
    return draft(known, Bodies(), Particulars(user=who, reason=reason), random_bytes(SALTS_BYTES))


def unsettled(catalogue: Catalogue, system: str, exchange: str) -> Draft:
    """The entry of a write whose process ended before its outcome was stored."""
    return _aside(Step.UNSETTLED, catalogue, consumer=system, exchange=exchange)


def repeated(catalogue: Catalogue, consumer: str, refusals: Mapping[str, int]) -> Draft:
    """The entry of a minute's refusals of one system beyond those written one by one, by code."""
    return _aside(Step.REPEATED, catalogue, consumer=consumer, refusals=dict(refusals))


def unidentified(catalogue: Catalogue, refusals: Mapping[str, int]) -> Draft:
    """The entry of a minute's refusals before identity, by code."""
    return _aside(Step.UNIDENTIFIED, catalogue, refusals=dict(refusals))


def _aside(step: Step, about: Catalogue, **facts: Any) -> Draft:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    known = {"step": step, "instance": about.instance, "at": at, **facts}
    return draft(known, Bodies(), Particulars(), random_bytes(SALTS_BYTES))


class _Pool:
    """The system's random bytes, fetched many at a time: a system call for each draft costs more than its hashes."""

    def __init__(self, size: int = 8192) -> None:
        self._size = size
        self._bytes = b""
        self._used = 0
        self._one = threading.Lock()  # plans on SQLite run in a thread of their own

    def empty(self) -> None:
        self._bytes, self._used, self._one = b"", 0, threading.Lock()

    def take(self, count: int) -> bytes:
        with self._one:
            if self._used + count > len(self._bytes):
                self._bytes, self._used = os.urandom(self._size), 0
            self._used += count
            return self._bytes[self._used - count : self._used]


_pool = _Pool()
os.register_at_fork(after_in_child=_pool.empty)  # two processes never give out the same bytes


def random_bytes(count: int) -> bytes:
    """Unpredictable bytes, each given out once; at most 8192."""
    return _pool.take(count)


def new_id() -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): sorts by time, 74 random bits."""
    millis = time.time_ns() // 1_000_000 & 0xFFFFFFFFFFFF
    random = int.from_bytes(random_bytes(10), "big")
    value = millis << 80 | 0x7 << 76 | (random >> 64 & 0xFFF) << 64 | 0x2 << 62 | random & (1 << 62) - 1
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
