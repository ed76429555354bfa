"""The parties of a small town: what its catalogue says, made of values."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from gateway.core.minimise import cut_of
from gateway.core.model import (
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
    System,
    SystemId,
    Visibility,
    Window,
)
from gateway.core.shape import Shape
from tests.fakes import catalogues, idp

ISSUER = "https://gateway.town.example"
IDP = "https://idp.finance.example"
ABSENT = "https://idp.justice.example"
"""An issuer whose published keys cannot be fetched."""
TAX = "finance.local_tax"
LOOK_UP = "population.person_lookup.v1"
CHANGE = "population.change_address.v1"
PROTECTED = "population.protected_lookup.v1"
PURPOSE = "tax_assessment"
AUDIT = "tax_audit"
MAX_BYTES = 16_384

PERSON: Mapping[str, Any] = {"identifier": "KH-90010001"}
"""Asks for somebody."""
RECORD: Mapping[str, Any] = {
    "identifier": "KH-90010001",
    "name": "Sok Dara",
    "birth_date": "1990-05",
    "address": {"city": "Phnom Penh", "street": "Street 271"},
}
"""What the register holds about them."""
MOVED: Mapping[str, Any] = {"identifier": "KH-90010001", "city": "Battambang"}
CHANGED: Mapping[str, Any] = {"changed_on": "2026-11-21", "record_version": 4, "clerk": "Chan Vanna"}

DISCLOSED = {LOOK_UP: ("/identifier", "/name", "/address/city"), CHANGE: ("/changed_on", "/record_version")}

_IDENTIFIER = {"type": "string", "pattern": "^KH-[0-9]{8}$"}


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


_RECORD = _object(
    "identifier",
    "name",
    identifier={"$ref": "#/$defs/identifier"},
    name={"type": "string", "maxLength": 80},
    birth_date={"type": "string", "pattern": "^[0-9]{4}(-[0-9]{2}){0,2}$"},
    address=_object("city", city={"type": "string"}, street={"type": "string"}),
)
_SCHEMAS = {
    LOOK_UP: (_object("identifier", identifier=_IDENTIFIER), {**_RECORD, "$defs": {"identifier": _IDENTIFIER}}),
    PROTECTED: (_object("identifier", identifier=_IDENTIFIER), _object("office", office={"type": "string"})),
    CHANGE: (
        _object("identifier", "city", identifier=_IDENTIFIER, city={"type": "string"}),
        _object(
            "record_version",
            changed_on={"type": "string", "format": "date"},
            record_version={"type": "integer"},
            clerk={"type": "string"},
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What tests change of the catalogue."""

    deadline: float = 5.0
    concurrency: int = 100
    report_until: date | None = None
    takes_key: bool = False
    maintenance: tuple[Window, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    """Of the protocol, beside the url."""
    require: frozenset[Obligation] = frozenset()
    rate: Rate | None = None
    quota: int | None = None
    disclosed: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: DISCLOSED)
    standing: Standing = Standing.ACTIVE
    """Of the tax office's agreement."""
    until: int = 2199
    """The last year of it."""
    tax_office: Standing = Standing.ACTIVE
    """Of its system."""
    certificate_bound: bool = False
    """The same."""
    scopes: tuple[str, ...] = ("population:read", "population:write")
    """Of every system."""
    mandates: tuple[Mandate, ...] = ()
    """Of the ministry of finance to others."""


USUAL = Terms()


def _service(name: str, effect: Effect = Effect.READ, visibility: Visibility = Visibility.MEMBERS) -> Service:
    request, response = _SCHEMAS[name]
    return Service(
        id=ServiceId(name),
        title=name.split(".")[1].replace("_", " "),
        kind=Kind.EXCHANGE,
        effect=effect,
        visibility=visibility,
        personal_data=True,
        request_subjects=(Pointer("/identifier"),),
        response_subjects=(Pointer("/identifier"),),
        max_bytes=MAX_BYTES,
        standard=None,
        request=Shape(request),
        response=Shape(response),
    )


SERVICES = (_service(LOOK_UP), _service(CHANGE, Effect.WRITE), _service(PROTECTED, visibility=Visibility.RESTRICTED))


def _grant(terms: Terms, index: int, service: str, consumer: str) -> Grant:
    disclosed = terms.disclosed.get(service)
    return Grant(
        index=index,
        service=ServiceId(service),
        provider=AgencyId("interior"),
        consumers=frozenset({SystemId(consumer)}),
        purposes=frozenset({PURPOSE, AUDIT}),
        scope="population:write" if service == CHANGE else "population:read",
        disclose=None if disclosed is None else cut_of(disclosed),
        disclosed=None if disclosed is None else tuple(map(Pointer, disclosed)),
        rate=terms.rate,
        quota=terms.quota,
        require=terms.require,
    )


def _agreement(name: str, consumer: str, *services: str, terms: Terms, until: int = 2199) -> Agreement:
    return Agreement(
        id=AgreementId(name),
        title=f"{consumer} may ask the register",
        legal_basis="Town Act, article 1",
        parties=(AgencyId("interior"), AgencyId(consumer.partition(".")[0])),
        valid_from=date(2024, 1, 1),
        valid_until=date(until, 12, 31),
        grants=tuple(_grant(terms, index, service, consumer) for index, service in enumerate(services)),
        standing=terms.standing,
    )


def _endpoint(service: str, url: str, terms: Terms) -> Endpoint:
    return Endpoint(
        provider=AgencyId("interior"),
        service=ServiceId(service),
        protocol="http",
        options={"url": f"{url}/{service}", **terms.options},
        deadline=terms.deadline,
        concurrency=terms.concurrency,
        report_until=terms.report_until,
        takes_key=terms.takes_key,
        standing=Standing.ACTIVE,
        maintenance=terms.maintenance,
    )


def catalogue_of(url: str, keys: Mapping[str, idp.Key], terms: Terms) -> Catalogue:
    """The interior ministry provides; others ask, each under an agreement of its own, or none."""

    def system(name: str, **more: Any) -> System:
        return catalogues.system(name, keys[name].public, scopes=terms.scopes, **more)

    issuer = catalogues.issuer(IDP, "finance", keys[IDP].public)
    return catalogues.of(
        catalogues.agency("interior", endpoints=[_endpoint(each.id, url, terms) for each in SERVICES]),
        catalogues.agency(
            "finance",
            system(TAX, standing=terms.tax_office, certificate_bound=terms.certificate_bound),
            system("finance.audit_office"),
            system("finance.old_desk", standing=Standing.REVOKED),
            issuers=[issuer],
            mandates=terms.mandates,
        ),
        catalogues.agency("saensuk", system("saensuk.front_desk")),
        catalogues.agency("lampang", system("lampang.front_desk")),
        catalogues.agency(
            "justice",
            system("justice.courts"),
            issuers=[catalogues.issuer(ABSENT, "justice", keys_url="https://127.0.0.1:1/jwks.json")],
        ),
        services=SERVICES,
        agreements=(
            _agreement("MOI-FIN-2024-014", TAX, LOOK_UP, CHANGE, terms=terms, until=terms.until),
            _agreement("MOI-SAENSUK-2024-001", "saensuk.front_desk", LOOK_UP, terms=USUAL, until=2025),
            _agreement(
                "MOI-LAMPANG-2024-005",
                "lampang.front_desk",
                LOOK_UP,
                terms=replace(USUAL, standing=Standing.SUSPENDED),
            ),
            _agreement("MOI-MOJ-2024-002", "justice.courts", PROTECTED, CHANGE, terms=USUAL),
        ),
    )


PARTIES = (
    IDP,
    TAX,
    "finance.audit_office",
    "finance.old_desk",
    "saensuk.front_desk",
    "lampang.front_desk",
    "justice.courts",
)
