"""Small catalogues made of values, for tests that need no files."""

from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Any

from gateway.core.jwk import thumbprint
from gateway.core.model import (
    Agency,
    AgencyId,
    Agreement,
    Catalogue,
    Endpoint,
    Issuer,
    Mandate,
    Service,
    Standing,
    System,
    SystemId,
    agency_of,
    catalogue,
)

Jwk = Mapping[str, Any]


def system(
    name: str,
    *keys: Jwk,
    scopes: Iterable[str] = (),
    keys_url: str | None = None,
    certificate_bound: bool = False,
    standing: Standing = Standing.ACTIVE,
) -> System:
    """The system ``agency.system`` with its public keys."""
    identifier = SystemId(name)
    prints = frozenset(thumbprint(key) for key in keys)
    return System(
        id=identifier,
        agency=agency_of(identifier),
        scopes=frozenset(scopes),
        keys=keys,
        thumbprints=prints,
        keys_url=keys_url,
        certificate_bound=certificate_bound,
        standing=standing,
    )


def issuer(
    url: str,
    agency: str,
    *keys: Jwk,
    keys_url: str | None = None,
    audience: str | None = None,
    issues: Iterable[str] = ("systems", "persons"),
) -> Issuer:
    """Somebody else's issuer, as the agency's folder names it."""
    return Issuer(url, AgencyId(agency), keys, keys_url, audience, "systems" in issues, "persons" in issues)


def agency(
    name: str,
    *systems: System,
    endpoints: Iterable[Endpoint] = (),
    issuers: Iterable[Issuer] = (),
    standing: Standing = Standing.ACTIVE,
    mandates: Iterable[Mandate] = (),
) -> Agency:
    """An agency of class ``gov`` with nothing but what is given."""
    return Agency(
        id=AgencyId(name),
        title={"en": name.title()},
        kind="gov",
        country="KH",
        contacts={role: f"{role} desk of {name}" for role in ("technical", "security", "data_protection")},
        units=(),
        groups=frozenset(),
        signatories={},
        systems={each.id: each for each in systems},
        endpoints={each.service: each for each in endpoints},
        issuers=tuple(issuers),
        standing=standing,
        mandates=tuple(mandates),
    )


def of(
    *agencies: Agency,
    services: Iterable[Service] = (),
    agreements: Iterable[Agreement] = (),
    instance: str = "DEMO",
) -> Catalogue:
    """A catalogue of these agencies, indexed."""
    return catalogue(
        instance=instance,
        zone=UTC,
        digest="0" * 64,
        services={each.id: each for each in services},
        agencies={each.id: each for each in agencies},
        agreements={each.id: each for each in agreements},
        purposes={"tax_assessment": "Tax assessment"},
    )
