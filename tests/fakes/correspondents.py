"""A town that writes to each other: what its catalogue says of documents and events, made of values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from gateway.core.kafka import Cluster
from gateway.core.life import Accepted, Approval, Calendar, End, Life, Span
from gateway.core.minimise import cut_of
from gateway.core.model import (
    EVENT,
    MAILBOX,
    Agency,
    AgencyId,
    Agreement,
    AgreementId,
    Catalogue,
    Effect,
    Endpoint,
    Grant,
    Kind,
    Mandate,
    Obligation,
    Pointer,
    Rate,
    Service,
    ServiceId,
    Standing,
    Subscription,
    SystemId,
    Visibility,
    Way,
)
from gateway.core.shape import Shape
from tests.fakes import catalogues, idp

LETTER = "letters.official_letter.v1"
SECRET = "letters.sealed_letter.v1"
"""Restricted."""
CORRECTION = "population.record_correction.v1"
"""Needs a registrar of the recipient."""
ALERT = "disaster.alert.v1"
PURPOSE = "correspondence"
DESK = "saensuk.front_desk"
ARCHIVE = "saensuk.archive"
"""Another system of the sender's agency."""
PLATFORM = "digital.local"
"""Acts for sila."""
ALERTS = "interior.alerts"
REGISTER = "interior.registry"
SILA = "sila.front_desk"
LAMPANG = "lampang.front_desk"
IDPS = {"saensuk": "https://idp.saensuk.example", "interior": "https://idp.interior.example"}
WRITERS = (*IDPS.values(), DESK, ARCHIVE, PLATFORM, ALERTS, REGISTER, SILA, LAMPANG)
"""Whoever has a key."""
TAKERS = ("interior", "sila", "lampang")
"""Agencies that take letters."""

TEXT: Mapping[str, Any] = {"case": "2026-17", "subject": "Drainage", "citizen": "KH-90010001"}
CHANGE: Mapping[str, Any] = {"citizen": "KH-90010001", "old": "Sok Dara", "new": "Sok Darah"}
FLOOD: Mapping[str, Any] = {"level": "red", "area": "TH-20", "duty_officer": "Chan Vanna"}

_WORD = {"type": "string", "maxLength": 200}


def _shape(required: Iterable[str], *names: str) -> Shape:
    properties = dict.fromkeys(names, _WORD)
    return Shape(
        {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}
    )


_LIFE = Life(
    order_by=None,
    done_at=End.ARRIVED,
    deliver_within=Span(seconds=3600.0),
    register_within=None,
    attachments=None,
    keep_days=365,
)
_LETTERS = replace(
    _LIFE,
    order_by="/case",
    done_at=End.REGISTERED,
    register_within=Span(working_days=3),
    attachments=Accepted(("application/pdf", "text/plain"), 1024, 2),
)


def _service(name: str, shape: Shape, life: Life, kind: Kind = Kind.DOCUMENT, **more: Any) -> Service:
    said: dict[str, Any] = {
        "id": ServiceId(name),
        "title": name.split(".")[1].replace("_", " "),
        "kind": kind,
        "effect": Effect.READ,
        "visibility": Visibility.MEMBERS,
        "personal_data": False,
        "request_subjects": (),
        "response_subjects": (),
        "max_bytes": 4096,
        "standard": None,
        "request": shape,
        "response": Shape({"not": {}}),
        "life": life,
    }
    return Service(**{**said, **more})


_LETTER_SHAPE = _shape(["subject"], "case", "subject", "citizen", "text")
SERVICES = (
    _service(LETTER, _LETTER_SHAPE, _LETTERS, personal_data=True, request_subjects=(Pointer("/citizen"),)),
    _service(SECRET, _LETTER_SHAPE, _LIFE, visibility=Visibility.RESTRICTED),
    _service(CORRECTION, _shape(["citizen"], "citizen", "old", "new"), _LIFE),
    _service(ALERT, _shape(["level"], "level", "area", "duty_officer"), _LIFE, Kind.EVENT),
)


def way(agency: str, *services: str, protocol: str = MAILBOX, **more: Any) -> Way:
    """A way with what tests do not care about filled in."""
    said: dict[str, Any] = {
        "agency": AgencyId(agency),
        "name": protocol,
        "protocol": protocol,
        "services": services or ("*",),
        "receipts": False,
        "unit": None,
        "options": {},
        "deadline": 5.0,
        "concurrency": 4,
        "max_waiting": 50_000,
        "standing": Standing.ACTIVE,
    }
    return Way(**{**said, **more})


@dataclass(frozen=True, slots=True)
class Letters:
    """What tests change of the catalogue."""

    ways: Mapping[str, tuple[Way, ...]] = field(default_factory=dict)
    """Instead of one mailbox for everything, by agency."""
    rate: Rate | None = None
    quota: int | None = None
    require: frozenset[Obligation] = frozenset()
    standing: Standing = Standing.ACTIVE
    """Of the agreements on letters."""
    until: int = 2199
    takers: tuple[str, ...] = TAKERS
    """Who agreed to take saensuk's letters."""
    approver: str | None = "provider"
    post: str = "registrar"
    """Of whoever must agree."""
    by_system: bool = False
    """What saensuk sends is its systems' own."""
    subscriptions: tuple[str, ...] = (SILA, LAMPANG)
    """By folder."""
    suspended: frozenset[str] = frozenset()
    """Agencies."""
    holidays: frozenset[date] = frozenset()
    services: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fields of services that are other ones."""
    kafka: Cluster | None = None
    mandated: int = 2199
    """Until the end of which year digital acts for sila."""


POLITE = Letters()


def _grant(letters: Letters, service: str, provider: str, consumers: Iterable[str], **more: Any) -> Grant:
    said: dict[str, Any] = {
        "index": 0,
        "service": ServiceId(service),
        "provider": AgencyId(provider),
        "consumers": frozenset(map(SystemId, consumers)),
        "purposes": frozenset({PURPOSE}),
        "scope": None,
        "disclose": None,
        "disclosed": None,
        "rate": letters.rate,
        "quota": letters.quota,
        "require": letters.require,
    }
    return Grant(**{**said, **more})


def _agreement(letters: Letters, name: str, parties: Iterable[str], *grants: Grant) -> Agreement:
    return Agreement(
        id=AgreementId(name),
        title=name,
        legal_basis="Town Act, article 2",
        parties=tuple(map(AgencyId, parties)),
        valid_from=date(2024, 1, 1),
        valid_until=date(letters.until, 12, 31),
        grants=tuple(replace(each, index=index) for index, each in enumerate(grants)),
        standing=letters.standing,
    )


def _agreements(letters: Letters) -> Iterable[Agreement]:
    for taker in letters.takers:
        writers = [name for name in (DESK, SILA) if not name.startswith(taker)]
        grants = [_grant(letters, LETTER, taker, writers)]
        yield _agreement(letters, f"LETTERS-{taker.upper()}", ["saensuk", "sila", taker], *grants)
    correction = _grant(
        letters,
        CORRECTION,
        "interior",
        [DESK],
        require=letters.require | {Obligation.PERSON},
        approval=None if letters.approver is None else Approval(by=letters.approver, role=letters.post),
    )
    sealed = _grant(letters, SECRET, "interior", [SILA])
    yield _agreement(letters, "MOI-CORRECTIONS", ["interior", "saensuk", "sila"], correction, sealed)
    seen = ("/level", "/area")
    alerts = [
        _grant(letters, ALERT, "interior", [each], disclose=cut_of(seen), disclosed=tuple(map(Pointer, seen)))
        for each in (SILA, LAMPANG, DESK)
    ]
    yield _agreement(letters, "MOI-ALERTS", ["interior", "sila", "lampang", "saensuk"], *alerts)


def _endpoints(agency: str, ways: Iterable[Way]) -> Iterable[Endpoint]:
    """What makes policy know that the agency takes a service, or publishes it."""
    for service in SERVICES:
        protocol, options = "", {}
        if service.kind is Kind.EVENT:
            if agency == "interior":
                protocol, options = EVENT, {"systems": (ALERTS,)}
        else:
            probe = replace(catalogues.agency(agency), deliveries=tuple(ways))
            found = probe.way(service.id)
            protocol = found.protocol if found else ""
        if protocol:
            yield Endpoint(
                provider=AgencyId(agency),
                service=service.id,
                protocol=protocol,
                options=options,
                deadline=5.0,
                concurrency=4,
                report_until=None,
                takes_key=False,
                standing=Standing.ACTIVE,
                maintenance=(),
            )


def catalogue_of(keys: Mapping[str, idp.Key], letters: Letters) -> Catalogue:
    """Saensuk writes; the interior ministry, sila and lampang take; the ministry alerts; digital acts for sila."""

    def agency(name: str, *systems: str, groups: Iterable[str] = (), **more: Any) -> Agency:
        ways = letters.ways.get(name, (way(name),)) if name != "digital" else ()
        made = catalogues.agency(
            name,
            *(catalogues.system(each, keys[each].public, scopes=("letters:write",)) for each in systems),
            endpoints=_endpoints(name, ways),
            issuers=[catalogues.issuer(IDPS[name], name, keys[IDPS[name]].public)] if name in IDPS else (),
            standing=Standing.SUSPENDED if name in letters.suspended else Standing.ACTIVE,
        )
        subscribed = tuple(
            Subscription(ServiceId(ALERT), AgencyId("interior"), SystemId(each), PURPOSE)
            for each in systems
            if each in letters.subscriptions
        )
        return replace(made, deliveries=ways, groups=frozenset(groups), subscriptions=subscribed, **more)

    acting = Mandate(
        agency=AgencyId("sila"),
        to=AgencyId("digital"),
        services=frozenset({ServiceId(LETTER)}),
        valid_from=date(2024, 1, 1),
        valid_until=date(letters.mandated, 12, 31),
    )
    made = catalogues.of(
        agency("interior", ALERTS, REGISTER, groups=["ministries"]),
        agency("saensuk", DESK, ARCHIVE, groups=["municipalities"], documents_by_system=letters.by_system),
        agency("sila", SILA, groups=["municipalities"], mandates=(acting,)),
        agency("lampang", LAMPANG, groups=["municipalities"]),
        agency("digital", PLATFORM),
        services=[replace(each, **letters.services.get(each.id, {})) for each in SERVICES],
        agreements=_agreements(letters),
    )
    return replace(
        made, calendar=Calendar(holidays=letters.holidays), kafka=letters.kafka, purposes={PURPOSE: "Correspondence"}
    )
