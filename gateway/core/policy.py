"""May they? One pure function from facts to a decision, with every reason.

Deny by default. What beats what: a suspension beats every permit; then the grant that comes closest to a permit
speaks, so that a refusal names the one thing that is missing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from gateway.core.model import (
    AgencyId,
    Agreement,
    Catalogue,
    Endpoint,
    Grant,
    Kind,
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
    grants = catalogue.grants.get((facts.provider, facts.service, facts.consumer), ())
    stopped = _stopped(catalogue, facts)
    if stopped and grants:
        return _refuse("policy.suspended", facts, stopped[1], suspended=stopped[0])
    if facts.on_behalf is not None and facts.on_behalf != agency_of(facts.consumer):
        sentence = f"{agency_of(facts.consumer)} holds no mandate to act for {facts.on_behalf}."
        return _refuse("identity.not_mandated", facts, sentence)
    if not grants:
        sentence = f"No agreement lets {facts.consumer} use {facts.service} of {facts.provider}."
        return _refuse("policy.no_agreement", facts, sentence)
    today = facts.at.astimezone(catalogue.zone).date()
    weighed = [_weigh(agreement, grant, facts, today) for agreement, grant in grants]
    for decision in weighed:
        if decision.code == "policy.suspended":
            return decision
    return weighed[0] if len(weighed) == 1 else max(weighed, key=_closeness)


def _refuse(code: str, facts: Facts, sentence: str, *, suspended: str | None = None) -> Decision:
    return Decision(code, None, None, facts, sentence, suspended)


def _closeness(decision: Decision) -> int:
    return len(_STAGES) if decision.code is None else list(_STAGES).index(decision.code)


def _stopped(catalogue: Catalogue, facts: Facts) -> tuple[str, str] | None:
    """The agency, and the sentence, of a suspension of a party, its system or the endpoint, or of what is missing."""
    consumer = agency_of(facts.consumer)
    system = catalogue.systems.get(facts.consumer)
    endpoint = catalogue.endpoint(facts.provider, facts.service)
    if _standing(catalogue, consumer) is not Standing.ACTIVE:
        return consumer, f"The agency {consumer} is suspended."
    if _standing(catalogue, facts.provider) is not Standing.ACTIVE:
        return facts.provider, f"The agency {facts.provider} is suspended."
    if system is None or system.standing is not Standing.ACTIVE:
        return consumer, f"The system {facts.consumer} is suspended."
    if endpoint is None or endpoint.standing is not Standing.ACTIVE:
        return facts.provider, f"{facts.service} of {facts.provider} is suspended."
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


_HEADERS = {Obligation.CASE: "Exchange-Case", Obligation.USER: "Exchange-User"}

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
    """Whether the consumer may know that the agency provides the service."""
    if service.kind is not Kind.EXCHANGE or catalogue.endpoint(provider, service.id) is None:
        return False
    return service.visibility is Visibility.MEMBERS or (provider, service.id, consumer) in catalogue.grants


def visible(catalogue: Catalogue, provider: AgencyId, said: ServiceId, consumer: SystemId) -> tuple[Endpoint, Service]:
    """The endpoint, where the caller may know of it. Raises Refusal catalogue.unknown, the same for every reason."""
    endpoint, service = catalogue.endpoint(provider, said), catalogue.services.get(said)
    if endpoint and service and shows(catalogue, provider, service, consumer):
        return endpoint, service
    raise Refusal("catalogue.unknown", f"{provider} provides no service {said} that you can see.")


@dataclass(frozen=True, slots=True)
class Entitled:
    """Somebody who could make a call now, given the token's scope and the obligations."""

    consumer: SystemId
    agreement: Agreement
    grant: Grant


def who(catalogue: Catalogue, provider: AgencyId, service: ServiceId, at: datetime) -> tuple[Entitled, ...]:
    """Everyone who could use the endpoint at that time: the policy turned round, asked of ``decide`` itself."""
    found = []
    for (owner, said, consumer), grants in sorted(catalogue.grants.items()):
        if (owner, said) != (provider, service):
            continue
        for agreement, grant in grants:
            best = Facts(
                consumer,
                provider,
                service,
                min(grant.purposes, default=None),
                frozenset({grant.scope} if grant.scope else ()),
                at,
                frozenset(Obligation),
            )
            today = at.astimezone(catalogue.zone).date()
            if decide(catalogue, best).permitted and _weigh(agreement, grant, best, today).permitted:
                found.append(Entitled(consumer, agreement, grant))
    return tuple(found)
