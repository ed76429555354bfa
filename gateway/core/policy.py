"""May they? One pure function from facts to a decision, with every reason.

Deny by default. What beats what: a suspension beats every permit; then the grant that comes closest to a permit
speaks, so that a refusal names the one thing that is missing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime

from gateway.core.model import (
    EVENT,
    AgencyId,
    Agreement,
    AgreementId,
    Catalogue,
    Endpoint,
    Grant,
    GrantKey,
    Kind,
    Mandate,
    Obligation,
    Service,
    ServiceId,
    Standing,
    SystemId,
    Visibility,
    agency_of,
)
from gateway.core.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a decision depends on, beside the catalogue."""

    consumer: SystemId
    provider: AgencyId
    service: ServiceId
    purpose: str | None
    scopes: frozenset[str]
    """Of the token."""
    at: datetime
    """The exchange's own time, with an offset."""
    given: frozenset[Obligation]
    """What the call brings of what a grant may require."""
    on_behalf: AgencyId | None = None
    """``Exchange-For``: the agency for which the consumer acts."""

    @property
    def spender(self) -> SystemId:
        """Under which name rate and quota are counted: the agencies for which one platform acts share none."""
        acting = _acting(self)
        return self.consumer if acting is None else SystemId(f"{self.consumer} for {acting}")


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that was looked at, and how it came out."""

    holds: bool
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """A permit (``code`` is None) or a refusal."""

    code: str | None
    agreement: Agreement | None
    grant: Grant | None
    facts: Facts
    sentence: str = ""
    """Of a refusal that no grant was weighed for."""
    suspended: str | None = None
    """The agency whose contact can lift a suspension."""

    @property
    def permitted(self) -> bool:
        """Whether the call may go on."""
        return self.code is None

    @property
    def detail(self) -> str:
        """One sentence for the caller."""
        if self.agreement is None or self.grant is None:
            return self.sentence
        if self.code is None:
            return f"{self.agreement.id} permits it."
        return _STAGES[self.code].refusal(self.agreement, self.grant, self.facts)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Everything that was looked at, up to what failed: computed when somebody asks, not for each call."""
        if self.agreement is None or self.grant is None:
            return (Reason(holds=False, text=self.sentence),)
        reasons = []
        for code, stage in _STAGES.items():
            reasons.append(Reason(code != self.code, stage.line(self.agreement, self.grant)))
            if code == self.code:
                break
        return tuple(reasons)


def decide(catalogue: Catalogue, facts: Facts) -> Decision:
    """The decision on one call. Every input is a value; the same inputs give the same decision."""
    today = facts.at.astimezone(catalogue.zone).date()
    acting = _acting(facts)
    mandated = acting is not None and mandate(catalogue, agency_of(facts.consumer), acting, facts.service, today)
    grants = _grants(catalogue, facts, acting if mandated else None)
    stopped = _stopped(catalogue, (facts.provider, facts.service, facts.consumer), acting if mandated else None)
    if stopped and grants:
        return _refuse("policy.suspended", facts, stopped[1], suspended=stopped[0])
    if acting is not None and not mandated:
        sentence = f"{agency_of(facts.consumer)} holds no mandate to act for {acting} in {facts.service} today."
        return _refuse("identity.not_mandated", facts, sentence)
    if not grants:
        sentence = f"No agreement lets {acting or facts.consumer} use {facts.service} of {facts.provider}."
        return _refuse("policy.no_agreement", facts, sentence)
    weighed = [_weigh(agreement, grant, facts, today) for agreement, grant in grants]
    for decision in weighed:
        if decision.code == "policy.suspended":
            return decision
    return weighed[0] if len(weighed) == 1 else max(weighed, key=_closeness)


def redecide(
    catalogue: Catalogue,
    *,
    consumer: SystemId,
    provider: AgencyId,
    service: ServiceId,
    purpose: str | None,
    on_behalf: AgencyId | None,
    at: datetime,
) -> Decision:
    """The second decision on a document, before it is handed over: asks again what may have changed meanwhile.

    Scope and obligations were asked of the call that brought it. Of an event the consumer is the subscriber, whose
    scopes count, and the provider is who published it. What is no longer in the catalogue is ``catalogue.unknown``,
    for good; what is suspended may come back.
    """
    facts = Facts(consumer, provider, service, purpose, frozenset(), at, frozenset(Obligation), on_behalf)
    said, system = catalogue.services.get(service), catalogue.systems.get(consumer)
    if said is None or catalogue.endpoint(provider, service) is None:
        return _refuse("catalogue.unknown", facts, f"{provider} has no {service} in the catalogue any more.")
    if system is None:
        return _refuse("catalogue.unknown", facts, f"{consumer} is not in the catalogue any more.")
    scopes = system.scopes
    if said.kind is not Kind.EVENT:
        held = _grants(catalogue, facts, _acting(facts))
        scopes = frozenset(grant.scope for _, grant in held if grant.scope is not None)
    return decide(catalogue, replace(facts, scopes=scopes))


def granted(catalogue: Catalogue, facts: Facts) -> tuple[tuple[Agreement, Grant], ...]:
    """Every grant that permits what is permitted; a decision names one of them."""
    today = facts.at.astimezone(catalogue.zone).date()
    grants = _grants(catalogue, facts, _acting(facts))
    return tuple(each for each in grants if _weigh(*each, facts, today).permitted)


def may_publish(catalogue: Catalogue, system: SystemId, service: ServiceId) -> Endpoint:
    """The endpoint under which a system publishes an event. Raises Refusal."""
    agency = agency_of(system)
    endpoint, said = catalogue.endpoint(agency, service), catalogue.services.get(service)
    if endpoint is None or said is None or said.kind is not Kind.EVENT:
        raise Refusal("catalogue.unknown", f"{agency} publishes no events {service}.")
    if system not in publishers(endpoint):
        sentence = f"{agency} lets other systems of its own publish {service}, and not {system}."
        raise Refusal("policy.no_agreement", sentence, agency=agency)
    stopped = _stopped(catalogue, (agency, service, system), None)
    if stopped:
        raise Refusal("policy.suspended", stopped[1], agency=stopped[0])
    return endpoint


def publishers(endpoint: Endpoint) -> frozenset[SystemId]:
    """The systems that may publish an event; nobody where the endpoint is none of events."""
    systems = endpoint.options.get("systems", ()) if endpoint.protocol == EVENT else ()
    return frozenset(SystemId(str(each)) for each in systems) if isinstance(systems, tuple) else frozenset()


def mandate(catalogue: Catalogue, to: AgencyId, on_behalf: AgencyId, service: ServiceId, day: date) -> Mandate | None:
    """The mandate by which one agency acts for another on that day, or None."""
    held = catalogue.mandates.get((to, service), ())
    return next((each for each in held if each.agency == on_behalf and each.holds(day)), None)


def _acting(facts: Facts) -> AgencyId | None:
    """The other agency for which the consumer says that it acts; its own is none."""
    return facts.on_behalf if facts.on_behalf != agency_of(facts.consumer) else None


def _grants(catalogue: Catalogue, facts: Facts, mandator: AgencyId | None) -> tuple[tuple[Agreement, Grant], ...]:
    """What is weighed: the grants to the consumer; to whoever acts for an agency, those to any of its systems."""
    if mandator is None:
        return catalogue.grants.get((facts.provider, facts.service, facts.consumer), ())
    agency = catalogue.agencies.get(mandator)
    found = {
        (agreement.id, grant.index): (agreement, grant)
        for system in (agency.systems if agency else ())
        for agreement, grant in catalogue.grants.get((facts.provider, facts.service, system), ())
    }
    return tuple(found.values())


def _refuse(code: str, facts: Facts, sentence: str, *, suspended: str | None = None) -> Decision:
    return Decision(code, None, None, facts, sentence, suspended)


def _closeness(decision: Decision) -> int:
    return len(_STAGES) if decision.code is None else list(_STAGES).index(decision.code)


def _stopped(catalogue: Catalogue, key: GrantKey, mandator: AgencyId | None) -> tuple[str, str] | None:
    """The agency, and the sentence, of a suspension of a party, its system or the endpoint, or of what is missing.

    Systems of an agency that another acts for do not matter here: none of them takes part.
    """
    provider, service, name = key
    consumer, system, endpoint = agency_of(name), catalogue.systems.get(name), catalogue.endpoint(provider, service)
    if _standing(catalogue, consumer) is not Standing.ACTIVE:
        return consumer, f"The agency {consumer} is suspended."
    if mandator is not None and _standing(catalogue, mandator) is not Standing.ACTIVE:
        return mandator, f"The agency {mandator} is suspended."
    if _standing(catalogue, provider) is not Standing.ACTIVE:
        return provider, f"The agency {provider} is suspended."
    if system is None or system.standing is not Standing.ACTIVE:
        return consumer, f"The system {name} is suspended."
    if endpoint is None or endpoint.standing is not Standing.ACTIVE:
        return provider, f"{service} of {provider} is suspended."
    return None


def _standing(catalogue: Catalogue, agency: AgencyId) -> Standing:
    found = catalogue.agencies.get(agency)
    return found.standing if found else Standing.SUSPENDED


def _weigh(agreement: Agreement, grant: Grant, facts: Facts, today: date) -> Decision:
    """One grant against the facts: the stages in order, ending at the first that fails."""
    for code, stage in _STAGES.items():
        if not stage.holds(agreement, grant, facts, today):
            suspender = agreement.parties[0] if code == "policy.suspended" else None
            return Decision(code, agreement, grant, facts, suspended=suspender)
    return Decision(None, agreement, grant, facts)


@dataclass(frozen=True, slots=True)
class _Stage:
    """One thing that a grant is weighed by."""

    holds: Callable[[Agreement, Grant, Facts, date], bool]
    line: Callable[[Agreement, Grant], str]
    """What explain prints."""
    refusal: Callable[[Agreement, Grant, Facts], str]


def _span(agreement: Agreement) -> str:
    return f"{agreement.valid_from} to {agreement.valid_until}"


def _headers(require: Iterable[Obligation]) -> str:
    return " and ".join(_HEADERS[each] for each in sorted(require))


_HEADERS = {
    Obligation.CASE: "Exchange-Case",
    Obligation.USER: "Exchange-User",
    Obligation.PERSON: "Exchange-User-Assertion",
}

# By the code of the refusal, in the order in which they are asked: the later the one that failed, the closer the call.
_STAGES: Mapping[str, _Stage] = {
    "policy.expired": _Stage(
        lambda agreement, _grant, _facts, today: agreement.valid_from <= today <= agreement.valid_until,
        lambda agreement, _grant: f"{agreement.id} is in force from {_span(agreement)}",
        lambda agreement, _grant, _facts: f"{agreement.id} is in force only from {_span(agreement)}.",
    ),
    "policy.suspended": _Stage(
        lambda agreement, _grant, _facts, _today: agreement.standing is Standing.ACTIVE,
        lambda agreement, _grant: f"{agreement.id} is not suspended",
        lambda agreement, _grant, _facts: f"{agreement.id} is suspended.",
    ),
    "policy.purpose": _Stage(
        lambda _agreement, grant, facts, _today: facts.purpose in grant.purposes,
        lambda _agreement, grant: f"the purpose is one of: {', '.join(sorted(grant.purposes))}",
        lambda agreement, _grant, _facts: f"{agreement.id} does not cover the purpose that was given.",
    ),
    "policy.scope": _Stage(
        lambda _agreement, grant, facts, _today: grant.scope is None or grant.scope in facts.scopes,
        lambda _agreement, grant: f"the token has the scope {grant.scope}" if grant.scope else "no scope is asked for",
        lambda agreement, grant, _facts: f"{agreement.id} asks for the scope {grant.scope}, which the token lacks.",
    ),
    "policy.obligation": _Stage(
        lambda _agreement, grant, facts, _today: grant.require <= facts.given,
        lambda _agreement, grant: f"each call brings {_headers(grant.require) or 'nothing more'}",
        lambda agreement, grant, facts: (
            f"{agreement.id} asks for {_headers(grant.require - facts.given)} with each call."
        ),
    ),
}


def shows(catalogue: Catalogue, provider: AgencyId, service: Service, consumer: SystemId) -> bool:
    """Whether the consumer may know that the agency provides the service: answers it, takes it or publishes it."""
    if catalogue.endpoint(provider, service.id) is None:
        return False
    if service.visibility is Visibility.MEMBERS or (provider, service.id, consumer) in catalogue.grants:
        return True
    if provider == agency_of(consumer) and provides(catalogue, provider, service):
        return True
    return any(
        (provider, service.id, system) in catalogue.grants
        for held in catalogue.mandates.get((agency_of(consumer), service.id), ())
        for system in (catalogue.agencies[held.agency].systems if held.agency in catalogue.agencies else ())
    )


def provides(catalogue: Catalogue, agency: AgencyId, service: Service) -> bool:
    """Whether the agency answers, takes or publishes it, and knows: its folder names it, or an agreement does.

    A way for all services takes restricted ones too, of which the agency may have nothing to know.
    """
    if catalogue.endpoint(agency, service.id) is None:
        return False
    if service.visibility is Visibility.MEMBERS or service.kind is not Kind.DOCUMENT:
        return True
    named = any(service.id in way.services for way in catalogue.agencies[agency].deliveries)
    return named or any((agency, service.id, each) in catalogue.grants for each in catalogue.systems)


def visible(
    catalogue: Catalogue, provider: AgencyId, said: ServiceId, consumer: SystemId, kind: Kind = Kind.EXCHANGE
) -> tuple[Endpoint, Service]:
    """The endpoint of a service of that kind, where the caller may know of it.

    Raises Refusal catalogue.unknown, the same for every reason: an address of exchanges serves no document.
    """
    endpoint, service = catalogue.endpoint(provider, said), catalogue.services.get(said)
    if endpoint and service and service.kind is kind and shows(catalogue, provider, service, consumer):
        return endpoint, service
    raise Refusal("catalogue.unknown", f"{provider} {_PROVIDES[kind]} {said} that you can see.")


_PROVIDES = {
    Kind.EXCHANGE: "provides no service",
    Kind.DOCUMENT: "takes no documents",
    Kind.EVENT: "publishes no events",
}


@dataclass(frozen=True, slots=True)
class Entitled:
    """Somebody who could make a call now, given the token's scope and the obligations."""

    consumer: SystemId
    agreement: Agreement
    grant: Grant
    on_behalf: AgencyId | None = None
    """For whom, by a mandate."""


def who(catalogue: Catalogue, provider: AgencyId, service: ServiceId, at: datetime) -> tuple[Entitled, ...]:
    """Everyone who could use the endpoint at that time: the policy turned round, asked of ``decide`` itself."""
    found: dict[tuple[SystemId, AgencyId | None, AgreementId, int], Entitled] = {}
    for (owner, said, consumer), grants in sorted(catalogue.grants.items()):
        if (owner, said) != (provider, service):
            continue
        for caller, on_behalf in ((consumer, None), *_actors(catalogue, agency_of(consumer), service)):
            for agreement, grant in grants:
                best = _best(caller, grant, at, on_behalf)
                today = at.astimezone(catalogue.zone).date()
                if decide(catalogue, best).permitted and _weigh(agreement, grant, best, today).permitted:
                    key = (caller, on_behalf, agreement.id, grant.index)
                    found.setdefault(key, Entitled(caller, agreement, grant, on_behalf))
    return tuple(found.values())


def _best(caller: SystemId, grant: Grant, at: datetime, on_behalf: AgencyId | None) -> Facts:
    """A call that brings everything that the grant asks for."""
    purpose, scopes = min(grant.purposes, default=None), frozenset({grant.scope} if grant.scope else ())
    return Facts(caller, grant.provider, grant.service, purpose, scopes, at, frozenset(Obligation), on_behalf)


def _actors(catalogue: Catalogue, agency: AgencyId, service: ServiceId) -> Iterable[tuple[SystemId, AgencyId]]:
    """The systems of those whom the agency gave a mandate for the service, on whatever days."""
    member = catalogue.agencies.get(agency)
    for held in member.mandates if member else ():
        actor = catalogue.agencies.get(held.to)
        if service in held.services and actor is not None:
            yield from ((system, agency) for system in sorted(actor.systems))
