"""May they? One pure function from facts to a decision, with every reason.

Deny by default. What beats what: a suspension beats every permit; then the grant that comes closest to a permit
speaks, so that a refusal names the one thing that is missing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

from gateway.core.model import (
    AgencyId,
    Agreement,
    Catalogue,
    Grant,
    Obligation,
    ServiceId,
    Standing,
    SystemId,
    agency_of,
)


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
    """A permit (``code`` is None) or a refusal, and why."""

    code: str | None
    detail: str
    agreement: Agreement | None
    grant: Grant | None
    reasons: tuple[Reason, ...]
    suspended: str | None = None
    """The agency whose contact can lift a suspension."""

    @property
    def permitted(self) -> bool:
        """Whether the call may go on."""
        return self.code is None


# How close a grant came to a permit: the later the stage that failed, the closer.
_STAGES = ("policy.expired", "policy.suspended", "policy.purpose", "policy.scope", "policy.obligation")


def decide(catalogue: Catalogue, facts: Facts) -> Decision:
    """The decision on one call. Every input is a value; the same inputs give the same decision."""
    grants = catalogue.grants.get((facts.provider, facts.service, facts.consumer), ())
    stopped = _stopped(catalogue, facts)
    if stopped and grants:
        return _refuse("policy.suspended", stopped[1], suspended=stopped[0])
    if facts.on_behalf is not None and facts.on_behalf != agency_of(facts.consumer):
        return _refuse(
            "identity.not_mandated",
            f"{agency_of(facts.consumer)} holds no mandate to act for {facts.on_behalf}.",
        )
    if not grants:
        return _refuse(
            "policy.no_agreement",
            f"No agreement lets {facts.consumer} use {facts.service} of {facts.provider}.",
        )
    today = facts.at.astimezone(catalogue.zone).date()
    weighed = [_weigh(agreement, grant, facts, today) for agreement, grant in grants]
    for decision in weighed:
        if decision.code == "policy.suspended":
            return decision
    return max(weighed, key=_closeness)


def _refuse(code: str, detail: str, *, suspended: str | None = None) -> Decision:
    return Decision(code, detail, None, None, (Reason(holds=False, text=detail),), suspended)


def _closeness(decision: Decision) -> int:
    return len(_STAGES) if decision.code is None else _STAGES.index(decision.code)


def _stopped(catalogue: Catalogue, facts: Facts) -> tuple[str, str] | None:
    """The agency, and the sentence, of a suspension of a party, its system or the endpoint."""
    consumer = agency_of(facts.consumer)
    system = catalogue.systems.get(facts.consumer)
    endpoint = catalogue.endpoint(facts.provider, facts.service)
    for agency, what, standing in (
        (consumer, f"The agency {consumer}", _standing(catalogue, consumer)),
        (facts.provider, f"The agency {facts.provider}", _standing(catalogue, facts.provider)),
        (consumer, f"The system {facts.consumer}", system.standing if system else Standing.ACTIVE),
        (
            facts.provider,
            f"{facts.service} of {facts.provider}",
            endpoint.standing if endpoint else Standing.ACTIVE,
        ),
    ):
        if standing is not Standing.ACTIVE:
            return agency, f"{what} is suspended."
    return None


def _standing(catalogue: Catalogue, agency: AgencyId) -> Standing:
    found = catalogue.agencies.get(agency)
    return found.standing if found else Standing.SUSPENDED


def _weigh(agreement: Agreement, grant: Grant, facts: Facts, today: date) -> Decision:
    """One grant against the facts: the stages in order, ending at the first that fails."""
    reasons = []
    for code, holds, text, detail in _stages(agreement, grant, facts, today):
        reasons.append(Reason(holds, text))
        if not holds:
            return Decision(code, detail, agreement, grant, tuple(reasons), _suspender(code, agreement))
    return Decision(None, f"{agreement.id} permits it.", agreement, grant, tuple(reasons))


def _suspender(code: str, agreement: Agreement) -> str | None:
    return agreement.parties[0] if code == "policy.suspended" else None


def _stages(agreement: Agreement, grant: Grant, facts: Facts, today: date) -> Iterator[tuple[str, bool, str, str]]:
    """Code, verdict, the line for explain, the sentence for a refusal."""
    in_force = agreement.valid_from <= today <= agreement.valid_until
    span = f"{agreement.valid_from} to {agreement.valid_until}"
    yield (
        "policy.expired",
        in_force,
        f"{agreement.id} is in force from {span}",
        f"{agreement.id} is in force only from {span}; today is {today}.",
    )
    active = agreement.standing is Standing.ACTIVE
    yield "policy.suspended", active, f"{agreement.id} is not suspended", f"{agreement.id} is suspended."
    purposes = ", ".join(sorted(grant.purposes))
    yield (
        "policy.purpose",
        facts.purpose in grant.purposes,
        f"the purpose is one of: {purposes}",
        f"{agreement.id} does not cover the purpose that was given.",
    )
    yield (
        "policy.scope",
        grant.scope is None or grant.scope in facts.scopes,
        f"the token has the scope {grant.scope}" if grant.scope else "no scope is asked for",
        f"{agreement.id} asks for the scope {grant.scope}, which the token does not have.",
    )
    missing = sorted(grant.require - facts.given)
    headers = " and ".join(_HEADERS[each] for each in missing)
    asked = ", ".join(_HEADERS[each] for each in sorted(grant.require))
    yield (
        "policy.obligation",
        not missing,
        f"each call brings {asked}" if asked else "nothing more is asked of each call",
        f"{agreement.id} asks for {headers} with each call.",
    )


_HEADERS = {Obligation.CASE: "Exchange-Case", Obligation.USER: "Exchange-User"}


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
