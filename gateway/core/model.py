"""The words of the gateway as values: what is said, who says it, who may."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, tzinfo
from enum import StrEnum
from typing import NewType

from gateway.core.kafka import Cluster
from gateway.core.life import Approval, Calendar, Life
from gateway.core.minimise import Cut
from gateway.core.shape import Shape

AgencyId = NewType("AgencyId", str)
"""``interior``"""
SystemId = NewType("SystemId", str)
"""``finance.local_tax``: agency, dot, system. The ``client_id`` of its tokens."""
ServiceId = NewType("ServiceId", str)
"""``population.person_lookup.v1``: domain, name, major version."""
AgreementId = NewType("AgreementId", str)
"""``MOI-FIN-2026-014``"""
Pointer = NewType("Pointer", str)
"""A JSON Pointer (RFC 6901). Where it passes an array it stands for every item: no index is ever written."""


def agency_of(system: SystemId) -> AgencyId:
    """The agency that a system belongs to."""
    return AgencyId(system.partition(".")[0])


class Kind(StrEnum):
    """What a service is: asked and answered at once, handed over with receipts, or told to all who subscribe."""

    EXCHANGE = "exchange"
    DOCUMENT = "document"
    EVENT = "event"


class Effect(StrEnum):
    """Whether a call changes anything at the provider."""

    READ = "read"
    WRITE = "write"


class Visibility(StrEnum):
    """Who learns that a service exists: every member, or only those with an agreement."""

    MEMBERS = "members"
    RESTRICTED = "restricted"


class Standing(StrEnum):
    """Whether a party takes part now. ``revoked`` also ends every token at once."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


class Obligation(StrEnum):
    """What a grant asks of each call, beyond scope and purpose."""

    CASE = "case"
    USER = "user"
    PERSON = "person"
    """Somebody whom an issuer asserts (``Exchange-User-Assertion``): asked of whoever needs a second person."""


@dataclass(frozen=True, slots=True)
class Service:
    """A named, versioned definition of what is said, with its schemas."""

    id: ServiceId
    title: str
    kind: Kind
    effect: Effect
    visibility: Visibility
    personal_data: bool
    request_subjects: tuple[Pointer, ...]
    response_subjects: tuple[Pointer, ...]
    max_bytes: int
    standard: str | None
    request: Shape
    """Of what is asked; of a document or an event itself."""
    response: Shape
    """Nothing fits that of a document or an event: they are not answered."""
    life: Life | None = None
    """Of a document or an event; None of an exchange."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, from included, until excluded. ``None`` is open."""

    start: datetime
    end: datetime | None

    def holds(self, at: datetime) -> bool:
        """Whether the instant lies within."""
        return self.start <= at and (self.end is None or at < self.end)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An agency provides a service, by a protocol."""

    provider: AgencyId
    service: ServiceId
    protocol: str
    options: Mapping[str, object]
    """What only the protocol understands: url, method, headers, class."""
    deadline: float
    """Seconds that the provider has in all, retries included."""
    concurrency: int
    """Calls in flight at once, for each process."""
    report_until: date | None
    """None enforces the response schema. A date lets wrong answers pass, counted, up to and including that day."""
    takes_key: bool
    """The provider takes the idempotency key, so that a repeated call has one effect."""
    standing: Standing
    maintenance: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who acts, as an issuer that the agency trusts asserts it (DESIGN section 8)."""

    issuer: str
    subject: str
    post: str | None
    unit: str | None
    level: str | None


@dataclass(frozen=True, slots=True)
class System:
    """One information system of an agency: the client of a token."""

    id: SystemId
    agency: AgencyId
    scopes: frozenset[str]
    keys: tuple[Mapping[str, object], ...]
    """Public JWKs (RFC 7517), from the keys folder; empty where ``keys_url`` is given."""
    thumbprints: frozenset[str]
    """RFC 7638 thumbprints of ``keys``."""
    keys_url: str | None
    """An https address of a JWKS."""
    certificate_bound: bool
    """Its tokens are bound to the client certificate with which they were got (RFC 8705)."""
    standing: Standing


@dataclass(frozen=True, slots=True)
class Issuer:
    """Somebody else's issuer of tokens that an agency's folder names; it may speak for that agency alone."""

    issuer: str
    agency: AgencyId
    keys: tuple[Mapping[str, object], ...]
    keys_url: str | None
    audience: str | None
    """The audience that its tokens carry; None asks for the instance's own."""
    systems: bool
    """Its access tokens for the agency's systems are taken."""
    persons: bool
    """Its user assertions are taken."""


@dataclass(frozen=True, slots=True)
class Signatory:
    """A post that may sign agreements for its agency."""

    name: str
    title: str
    keys: tuple[Mapping[str, object], ...]


MAILBOX = "mailbox"
"""The protocol of a way by which an agency fetches what there is for it; all others hand over."""
KAFKA = "kafka"
"""The protocol of a way by which the agency's own topic gets them."""
EVENT = "event"
"""The protocol of an endpoint that publishes events: nobody calls it."""


@dataclass(frozen=True, slots=True)
class Way:
    """How documents, events and receipts reach an agency: one entry of ``deliveries`` in its folder."""

    agency: AgencyId
    name: str
    """The protocol's, unless the folder gives another one."""
    protocol: str
    """``mailbox``, ``webhook``, ``http``, ``kafka`` or ``python``."""
    services: tuple[str, ...]
    """Services, or patterns such as ``permits.*``."""
    receipts: bool
    """Also takes the receipts of what the agency sent."""
    unit: str | None
    options: Mapping[str, object]
    """What only the protocol understands."""
    deadline: float
    """Seconds that one hand-over may take."""
    concurrency: int
    """Hand-overs at once, for each process."""
    max_waiting: int
    """Documents that may wait for the agency on this way; more are refused to the sender."""
    standing: Standing
    systems: frozenset[SystemId] = frozenset()
    """Of a mailbox: who alone may fetch and answer; none named: every system of the agency."""

    @property
    def pulled(self) -> bool:
        """The agency fetches; nothing is handed over to it."""
        return self.protocol == MAILBOX

    def admits(self, system: SystemId) -> bool:
        """Whether a system of the agency may fetch here, and say what became of it."""
        return not self.systems or system in self.systems


@dataclass(frozen=True, slots=True)
class Subscription:
    """A system of the agency is told of another's events."""

    service: ServiceId
    publisher: AgencyId
    system: SystemId
    purpose: str


@dataclass(frozen=True, slots=True)
class Mandate:
    """Another agency may act for this one, for these services, until then; signed by this one."""

    agency: AgencyId
    """For whom."""
    to: AgencyId
    """Who acts."""
    services: frozenset[ServiceId]
    valid_from: date
    valid_until: date
    """Both inclusive, in the instance's time zone."""

    def holds(self, day: date) -> bool:
        """Whether it is in force on that day."""
        return self.valid_from <= day <= self.valid_until


@dataclass(frozen=True, slots=True)
class Agency:
    """A member organisation."""

    id: AgencyId
    title: Mapping[str, str]
    """By language tag (BCP 47)."""
    kind: str
    """Its class: ``gov``, ``local``, ``soe`` or ``private``."""
    country: str
    contacts: Mapping[str, str]
    """By role: technical, security, data_protection."""
    units: tuple[str, ...]
    groups: frozenset[str]
    signatories: Mapping[str, Signatory]
    systems: Mapping[SystemId, System]
    endpoints: Mapping[ServiceId, Endpoint]
    """What can be permitted and suspended: exchanges that it answers, documents that it takes (one for each service
    that ``deliveries`` name), events that it publishes."""
    issuers: tuple[Issuer, ...]
    standing: Standing
    deliveries: tuple[Way, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()
    mandates: tuple[Mandate, ...] = ()
    documents_by_system: bool = False
    """What one of its systems sent is seen and recalled by that system alone, not by all of the agency's."""

    def way(self, service: ServiceId, unit: str | None = None) -> Way | None:
        """The first that takes the service; with a unit, that unit's own, or a mailbox, which all units share."""
        ways = [each for each in self.deliveries if any(fits(service, pattern) for pattern in each.services)]
        if unit is None or not ways:
            return next(iter(ways), None)
        shared = replace(ways[0], unit=unit) if ways[0].pulled and unit in self.units else ways[0]
        return next((each for each in ways if each.unit == unit), shared)

    def admits(self, system: SystemId, service: ServiceId, unit: str | None) -> bool:
        """Whether a system may have what came to the unit; where no way takes it any more, those that all admit."""
        way = self.way(service, unit)
        return way.admits(system) if way else all(each.admits(system) for each in self.deliveries)

    @property
    def receipts(self) -> Way | None:
        """The way by which receipts reach it; None: it asks for them."""
        return next((each for each in self.deliveries if each.receipts), None)


def fits(service: ServiceId, pattern: str) -> bool:
    """Whether a service is meant by a pattern: itself, ``domain.*`` or ``*``."""
    return pattern in (service, "*") or (pattern.endswith(".*") and service.startswith(pattern[:-1]))


@dataclass(frozen=True, slots=True)
class Rate:
    """``calls`` at once, and ``calls`` more in each ``seconds``, spread over them; for each process."""

    calls: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Grant:
    """One permission inside an agreement."""

    index: int
    """Its place in the agreement, from 0. One that is written for a group of providers stands there once for each."""
    service: ServiceId
    provider: AgencyId
    consumers: frozenset[SystemId]
    """Groups are resolved when the catalogue is read."""
    purposes: frozenset[str]
    scope: str | None
    disclose: Cut | None
    """What leaves of an answer; None is the whole answer."""
    disclosed: tuple[Pointer, ...] | None
    """``disclose`` as it was written."""
    rate: Rate | None
    quota: int | None
    """Calls in a day of the instance's time zone, for each consumer, exactly."""
    require: frozenset[Obligation]
    approval: Approval | None = None
    """A second person must agree; of documents alone."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Who may use which endpoints, for which purposes, seeing which fields; signed by both sides."""

    id: AgreementId
    title: str
    legal_basis: str | None
    parties: tuple[AgencyId, ...]
    valid_from: date
    valid_until: date
    """Both inclusive, in the instance's time zone."""
    grants: tuple[Grant, ...]
    standing: Standing


GrantKey = tuple[AgencyId, ServiceId, SystemId]
MandateKey = tuple[AgencyId, ServiceId]


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """Everything that people declared, at one moment: immutable and digested. Equal only to itself."""

    instance: str
    zone: tzinfo
    digest: str
    """SHA-256 in hex over the names and bytes of every file that was read."""
    services: Mapping[ServiceId, Service]
    agencies: Mapping[AgencyId, Agency]
    agreements: Mapping[AgreementId, Agreement]
    purposes: Mapping[str, str]
    """Code to title."""
    systems: Mapping[SystemId, System] = field(default_factory=dict)
    grants: Mapping[GrantKey, tuple[tuple[Agreement, Grant], ...]] = field(default_factory=dict)
    """By provider, service and consumer: what ``policy`` looks up."""
    calendar: Calendar = field(default_factory=Calendar)
    mandates: Mapping[MandateKey, tuple[Mandate, ...]] = field(default_factory=dict)
    """By who acts and service."""
    kafka: Cluster | None = None
    """Where documents are handed over for agencies that read Kafka; None where nobody does."""

    def endpoint(self, provider: AgencyId, service: ServiceId) -> Endpoint | None:
        """The endpoint, or None."""
        agency = self.agencies.get(provider)
        return agency.endpoints.get(service) if agency else None


def catalogue(  # noqa: PLR0913 - what a catalogue is made of
    *,
    instance: str,
    zone: tzinfo,
    digest: str,
    services: Mapping[ServiceId, Service],
    agencies: Mapping[AgencyId, Agency],
    agreements: Mapping[AgreementId, Agreement],
    purposes: Mapping[str, str],
    calendar: Calendar | None = None,
    kafka: Cluster | None = None,
) -> Catalogue:
    """A catalogue with its indexes: systems by id, grants by provider, service and consumer, mandates by who acts."""
    systems = {system.id: system for agency in agencies.values() for system in agency.systems.values()}
    grants: dict[GrantKey, tuple[tuple[Agreement, Grant], ...]] = {}
    for agreement in agreements.values():
        for grant in agreement.grants:
            for consumer in grant.consumers:
                key = (grant.provider, grant.service, consumer)
                grants[key] = (*grants.get(key, ()), (agreement, grant))
    mandates: dict[MandateKey, tuple[Mandate, ...]] = {}
    for agency in agencies.values():
        for mandate in agency.mandates:
            for service in mandate.services:
                mandates[mandate.to, service] = (*mandates.get((mandate.to, service), ()), mandate)
    return Catalogue(
        instance=instance,
        zone=zone,
        digest=digest,
        services=services,
        agencies=agencies,
        agreements=agreements,
        purposes=purposes,
        systems=systems,
        grants=grants,
        calendar=calendar or Calendar(),
        mandates=mandates,
        kafka=kafka,
    )
