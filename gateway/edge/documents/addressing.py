"""Whom a submission goes to: each recipient under an agreement of its own, by the way that its folder names."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from gateway.core import document, policy
from gateway.core.document import Target
from gateway.core.identity import Caller
from gateway.core.life import Approval
from gateway.core.model import (
    Agency,
    AgencyId,
    Agreement,
    Catalogue,
    Grant,
    Kind,
    Service,
    ServiceId,
    Subscription,
    SystemId,
    Way,
    agency_of,
)
from gateway.core.refusal import Refusal
from gateway.edge.documents.records import Addressee, Hold, own_lane
from gateway.edge.evidence import Trail
from gateway.edge.front import permitted
from gateway.edge.store import Rows

SUBSCRIBED = "select system, publisher, purpose from subscriptions where service = $1 and publisher = $2 order by since"

Mac = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Permit:
    """One recipient, and what lets the document go there."""

    recipient: AgencyId
    way: Way
    facts: policy.Facts
    agreement: Agreement
    grant: Grant
    subscriber: SystemId | None = None
    """Of an event."""


def permits(trail: Trail, caller: Caller, service: ServiceId, to: Iterable[AgencyId]) -> tuple[Permit, ...]:
    """One for each recipient; the first that may not be sent to refuses all of them. Raises Refusal."""
    head = trail.head
    assert head is not None  # noqa: S101 - for the type checker; who asks has read it
    found = []
    for recipient in to:
        endpoint, _ = policy.visible(trail.catalogue, recipient, service, caller.system, Kind.DOCUMENT)
        facts = policy.Facts(
            consumer=caller.system,
            provider=recipient,
            service=endpoint.service,
            purpose=head.purpose,
            scopes=caller.scopes,
            at=trail.at,
            given=head.given(person=trail.person is not None),
            on_behalf=head.on_behalf,
        )
        decision = policy.decide(trail.catalogue, facts)
        trail.agreement, trail.grant = decision.agreement, decision.grant
        agreement, grant = permitted(decision)
        found.append(Permit(recipient, way_of(trail.catalogue, recipient, service), facts, agreement, grant))
    _hold_approval(found)
    return tuple(found)


def _hold_approval(found: Sequence[Permit]) -> None:
    asking = next((each for each in found if each.grant.approval is not None), None)
    if asking is not None and len(found) > 1:
        raise Refusal(
            "policy.obligation",
            f"{asking.agreement.id} asks for a second person's approval: send it to {asking.recipient} alone.",
            agency=asking.recipient,
        )


def hold_still(found: Iterable[Permit], target: Target, now: Catalogue, caller: Caller) -> None:
    """The same decisions by another catalogue; whom an event goes to is decided again when it goes. Raises Refusal."""
    if target.kind is Kind.EVENT:
        policy.may_publish(now, caller.system, target.service)
    for each in found:
        if each.subscriber is None:
            permitted(policy.decide(now, replace(each.facts, scopes=caller.scopes)))


def way_of(catalogue: Catalogue, recipient: AgencyId, service: ServiceId) -> Way:
    """By which it reaches the recipient. Raises Refusal catalogue.unknown."""
    agency = catalogue.agencies.get(recipient)
    way = agency.way(service) if agency else None
    if way is None:
        raise Refusal("catalogue.unknown", f"{recipient} takes no documents of {service}.")
    return way


def subscribers(
    catalogue: Catalogue, publisher: AgencyId, service: ServiceId, at: datetime, rows: Rows
) -> tuple[Permit, ...]:
    """Every agency one of whose systems subscribed, by folder or by API, under an agreement that permits it now.

    An agency gets an event once, whoever of its systems subscribed first.
    """
    found: dict[AgencyId, Permit] = {}
    for each in _subscriptions(catalogue.agencies.values(), publisher, service, rows):
        recipient = agency_of(each.system)
        agency = catalogue.agencies.get(recipient)
        way = agency.way(service) if agency else None
        if way is None or recipient in found:
            continue
        decision = policy.redecide(
            catalogue,
            consumer=each.system,
            provider=publisher,
            service=service,
            purpose=each.purpose,
            on_behalf=None,
            at=at,
        )
        if decision.permitted and decision.agreement and decision.grant:
            found[recipient] = Permit(
                recipient=recipient,
                way=way,
                facts=decision.facts,
                agreement=decision.agreement,
                grant=decision.grant,
                subscriber=each.system,
            )
    return tuple(found.values())


def _subscriptions(
    agencies: Iterable[Agency], publisher: AgencyId, service: ServiceId, rows: Rows
) -> Iterable[Subscription]:
    for agency in agencies:
        yield from (each for each in agency.subscriptions if (each.publisher, each.service) == (publisher, service))
    for system, _, purpose in rows:
        yield Subscription(service, publisher, SystemId(system), purpose)


@dataclass(frozen=True, slots=True)
class Letter:
    """A body that fits its service, on its way into the gateway."""

    id: str
    service: Service
    value: Any
    sender: AgencyId
    """Or the agency on whose behalf it is sent: whose cases keep their order."""
    at: datetime


def addressee(letter: Letter, permit: Permit, catalogue: Catalogue, mac: Mac) -> Addressee:
    """Where it waits its turn, and what is asked of the recipient."""
    life = document.life_of(letter.service)
    way = permit.way
    order = document.ordering(letter.service, letter.value, letter.sender, permit.recipient)
    overdue = life.register_within if way.pulled else None
    return Addressee(
        recipient=permit.recipient,
        okey=own_lane(letter.id) if order is None else mac(order).hex(),
        way=way.name,
        unit=way.unit or "",
        pulled=way.pulled,
        subscriber=permit.subscriber,
        overdue_seconds=None if overdue is None else document.seconds(overdue, letter.at, catalogue),
    )


def hold(trail: Trail, found: Sequence[Permit], sender: AgencyId, mac: Mac) -> Hold | None:
    """Who must agree first, and who asks."""
    asked: Approval | None = found[0].grant.approval if len(found) == 1 else None
    if asked is None:
        return None
    if trail.person is None:  # the grant requires one, and policy asked; never without all the same
        raise Refusal("policy.obligation", "The agreement asks for Exchange-User-Assertion with each call.")
    approver = approver_of(asked, found[0].recipient, sender)
    return Hold(approver, asked.role, mac(document.of_person(trail.person)))


def approver_of(asked: Approval, recipient: AgencyId, sender: AgencyId) -> AgencyId:
    """The agency whose person must agree."""
    return recipient if asked.by == "provider" else sender


def agreements(found: Sequence[Permit]) -> Mapping[str, Any]:
    """What head and journal say of them: one agreement, or that of each recipient."""
    one = {each.agreement.id for each in found}
    if len(one) == 1:
        return {"agreement": found[0].agreement.id}
    return {"agreements": {each.recipient: each.agreement.id for each in found}} if found else {}


def grounds(trail: Trail, found: Sequence[Permit]) -> Mapping[str, Any]:
    """What the entry says of them: one agreement with its grant and legal basis, or those of each recipient."""
    said: dict[str, Any] = {**trail.grounds(), "agreement": None, "grant": None, "legal_basis": None}
    said |= agreements(found)
    bases = {each.agreement.id: each.agreement.legal_basis for each in found}
    if len(bases) == 1:
        said["legal_basis"] = found[0].agreement.legal_basis
    else:
        said["legal_bases"] = {name: basis for name, basis in bases.items() if basis is not None} or None
    if len({(each.agreement.id, each.grant.index) for each in found}) == 1:
        said["grant"] = found[0].grant.index
    else:
        said["grants"] = {each.recipient: each.grant.index for each in found} or None
    return said
