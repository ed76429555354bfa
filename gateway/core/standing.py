"""What operators suspended, laid over what the catalogue's files say: the stricter of both holds."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from gateway.core.model import (
    Agency,
    AgencyId,
    Agreement,
    AgreementId,
    Catalogue,
    Endpoint,
    Grant,
    GrantKey,
    ServiceId,
    Standing,
    System,
    SystemId,
    agency_of,
)

T = TypeVar("T", Agency, System, Endpoint, Agreement)


class Suspendable(StrEnum):
    """What can be suspended."""

    AGENCY = "agency"
    SYSTEM = "system"
    ENDPOINT = "endpoint"
    AGREEMENT = "agreement"


@dataclass(frozen=True, slots=True)
class Suspension:
    """One thing that an operator suspended or revoked."""

    kind: Suspendable
    name: str
    """An endpoint's is agency, slash, service."""
    standing: Standing


_WORD = "[a-z][a-z0-9_]{0,47}"
_FORMS = {
    Suspendable.AGENCY: re.compile(_WORD),
    Suspendable.SYSTEM: re.compile(rf"{_WORD}\.{_WORD}"),
    Suspendable.ENDPOINT: re.compile(rf"{_WORD}/{_WORD}\.{_WORD}\.v[1-9][0-9]{{0,3}}"),
    Suspendable.AGREEMENT: re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,63}"),
}
_ORDER = (Standing.ACTIVE, Standing.SUSPENDED, Standing.REVOKED)
"""From the mildest to the strictest."""


def kinds_of(name: str) -> tuple[Suspendable, ...]:
    """What a name can mean by its form; a word in lower case may be an agency's or an agreement's."""
    return tuple(kind for kind, form in _FORMS.items() if form.fullmatch(name))


def meant(kind: object, name: object, standing: object) -> tuple[Suspension, ...]:
    """What one row of the table suspends; nothing where the name is none.

    A later version may write kinds and standings that this one does not know: whatever the name can mean is then
    held, as strictly as this version can.
    """
    possible = kinds_of(name) if isinstance(name, str) else ()
    known = standing in (Standing.SUSPENDED, Standing.REVOKED)
    return tuple(
        Suspension(each, str(name), Standing(str(standing)) if known else Standing.REVOKED)
        for each in possible
        if each == kind or kind not in tuple(Suspendable)
    )


def names(catalogue: Catalogue, kind: Suspendable) -> Collection[str]:
    """Everything of that kind that the catalogue has."""
    match kind:
        case Suspendable.AGENCY:
            return catalogue.agencies.keys()
        case Suspendable.SYSTEM:
            return catalogue.systems.keys()
        case Suspendable.ENDPOINT:
            return {f"{each.id}/{service}" for each in catalogue.agencies.values() for service in each.endpoints}
        case Suspendable.AGREEMENT:
            return catalogue.agreements.keys()


def overlay(catalogue: Catalogue, suspensions: Iterable[Suspension]) -> Catalogue:
    """The catalogue as it is in force. What it does not have is passed over; where nothing changes, it is the same."""
    agencies, agreements = dict(catalogue.agencies), dict(catalogue.agreements)
    for each in suspensions:
        if each.kind is Suspendable.AGREEMENT:
            if agreement := agreements.get(AgreementId(each.name)):
                agreements[agreement.id] = _held(agreement, each.standing)
        elif agency := agencies.get(_agency(each)):
            agencies[agency.id] = _within(agency, each)
    changed = [each for each in agencies.values() if each is not catalogue.agencies[each.id]]
    moved = [each for each in agreements.values() if each is not catalogue.agreements[each.id]]
    if not changed and not moved:
        return catalogue
    systems = {system.id: system for agency in changed for system in agency.systems.values()}
    return replace(
        catalogue,
        agencies=agencies,
        agreements=agreements,
        systems={**catalogue.systems, **systems},
        grants={**catalogue.grants, **_grants(catalogue, {each.id: each for each in moved})},
    )


def _agency(of: Suspension) -> AgencyId:
    """The agency in whose folder it stands."""
    return agency_of(SystemId(of.name)) if of.kind is Suspendable.SYSTEM else AgencyId(of.name.partition("/")[0])


def _within(agency: Agency, suspension: Suspension) -> Agency:
    """The agency with what is suspended of it, or the same."""
    match suspension.kind:
        case Suspendable.SYSTEM:
            system = agency.systems.get(SystemId(suspension.name))
            if system and (held := _held(system, suspension.standing)) is not system:
                return replace(agency, systems={**agency.systems, held.id: held})
        case Suspendable.ENDPOINT:
            endpoint = agency.endpoints.get(ServiceId(suspension.name.partition("/")[2]))
            if endpoint and (closed := _held(endpoint, suspension.standing)) is not endpoint:
                return replace(agency, endpoints={**agency.endpoints, closed.service: closed})
        case _:
            return _held(agency, suspension.standing)
    return agency


def _held(one: T, standing: Standing) -> T:
    """The same where it is held as strictly already."""
    return one if _ORDER.index(standing) <= _ORDER.index(one.standing) else replace(one, standing=standing)


def _grants(
    catalogue: Catalogue, moved: dict[AgreementId, Agreement]
) -> dict[GrantKey, tuple[tuple[Agreement, Grant], ...]]:
    """The entries of the index that speak of these agreements."""
    keys = {
        (grant.provider, grant.service, consumer)
        for agreement in moved.values()
        for grant in agreement.grants
        for consumer in grant.consumers
    }
    return {
        key: tuple((moved.get(agreement.id, agreement), grant) for agreement, grant in catalogue.grants[key])
        for key in keys
    }
