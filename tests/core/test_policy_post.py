"""Who may send, publish and act for another: mandates, the second decision, kinds of services."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from gateway.core import policy
from gateway.core.life import Accepted, End, Life, Span
from gateway.core.model import (
    EVENT,
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
    Service,
    ServiceId,
    Standing,
    SystemId,
    Visibility,
)
from gateway.core.policy import Facts, decide
from gateway.core.refusal import Refusal
from gateway.core.shape import Shape
from gateway.core.standing import Suspendable, Suspension, overlay
from tests.fakes import catalogues

LETTER, ALERT, LOOK_UP = map(ServiceId, ("letters.notice.v1", "disaster.alert.v1", "population.person_lookup.v1"))
FINANCE, INTERIOR, TOWN, PLATFORM = map(AgencyId, ("finance", "interior", "town", "platform"))
DESK, SHARED, TAX, SIREN = map(SystemId, ("town.desk", "platform.shared", "finance.tax", "interior.siren"))
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
LIFE = Life("/file", End.REGISTERED, Span(3600), None, Accepted(("application/pdf",), 1, 1), 365)
SUSPENDED = Standing.SUSPENDED


def service(name: ServiceId, kind: Kind, visibility: Visibility = Visibility.MEMBERS) -> Service:
    shape, life = Shape({}), None if kind is Kind.EXCHANGE else LIFE
    return Service(name, "", kind, Effect.READ, visibility, False, (), (), 1, None, shape, shape, life)


def endpoint(provider: AgencyId, name: ServiceId, protocol: str, options: Mapping[str, object]) -> Endpoint:
    return Endpoint(provider, name, protocol, options, 0, 0, None, False, Standing.ACTIVE, ())


def grant(name: ServiceId, provider: AgencyId, consumer: SystemId, **more: Any) -> Grant:
    usual: dict[str, Any] = {"disclose": None, "disclosed": None, "rate": None, "quota": None, "require": frozenset()}
    return Grant(
        index=0,
        service=name,
        provider=provider,
        consumers=frozenset({consumer}),
        purposes=frozenset({"permits"}),
        scope=more.pop("scope", "letters:send"),
        **{**usual, **more},
    )


def agreement(name: str, one: Grant) -> Agreement:
    span = (date(2026, 1, 1), date(2026, 12, 31))
    return Agreement(AgreementId(name), name, None, (INTERIOR, TOWN), *span, grants=(one,), standing=Standing.ACTIVE)


MANDATE = Mandate(TOWN, PLATFORM, frozenset({LETTER}), date(2026, 3, 1), date(2026, 9, 30))


def world(visibility: Visibility = Visibility.MEMBERS) -> Catalogue:
    """A town whose platform may send its letters to the ministry, which publishes alerts."""
    takes, tells = endpoint(INTERIOR, LETTER, "mailbox", {}), endpoint(INTERIOR, ALERT, EVENT, {"systems": (SIREN,)})
    alert = grant(ALERT, INTERIOR, DESK, scope="alerts:read")
    return catalogues.of(
        catalogues.agency(
            "interior", catalogues.system(SIREN), catalogues.system("interior.other"), endpoints=[takes, tells]
        ),
        replace(catalogues.agency("town", catalogues.system(DESK, scopes=["alerts:read"])), mandates=(MANDATE,)),
        catalogues.agency("platform", catalogues.system(SHARED)),
        catalogues.agency("finance", catalogues.system(TAX)),
        services=[service(LETTER, Kind.DOCUMENT, visibility), service(ALERT, Kind.EVENT)],
        agreements=[agreement("L-1", grant(LETTER, INTERIOR, DESK)), agreement("E-1", alert)],
    )


def suspended(made: Catalogue, agency: AgencyId) -> Catalogue:
    held = replace(made.agencies[agency], standing=SUSPENDED)
    return replace(made, agencies={**made.agencies, agency: held})


ACTING = Facts(
    consumer=SHARED,
    provider=INTERIOR,
    service=LETTER,
    purpose="permits",
    scopes=frozenset({"letters:send"}),
    at=NOON,
    given=frozenset(),
    on_behalf=TOWN,
)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"on_behalf": None}, "policy.no_agreement"),
        ({"on_behalf": PLATFORM}, "policy.no_agreement"),
        ({"on_behalf": FINANCE}, "identity.not_mandated"),
        ({"on_behalf": AgencyId("nowhere")}, "identity.not_mandated"),
        ({"consumer": TAX}, "identity.not_mandated"),
        ({"service": ALERT}, "identity.not_mandated"),
        ({"at": NOON.replace(month=2, day=28)}, "identity.not_mandated"),
        ({"at": NOON.replace(month=3, day=1, hour=0)}, None),
        ({"at": NOON.replace(month=9, day=30, hour=23)}, None),
        ({"at": NOON.replace(month=10, day=1, hour=0)}, "identity.not_mandated"),
        ({"scopes": frozenset()}, "policy.scope"),
        ({"purpose": "other"}, "policy.purpose"),
        ({"provider": FINANCE}, "policy.no_agreement"),
    ],
)
def test_who_acts_for_another_needs_its_mandate(changes: dict[str, Any], code: str | None) -> None:
    """For that service, on that day; the grant is then the other agency's, and the scope that of the caller's token."""
    assert decide(world(), replace(ACTING, **changes)).code == code


@pytest.mark.parametrize("agency", [TOWN, PLATFORM, INTERIOR])
def test_a_suspension_of_anybody_who_takes_part_stops_it(agency: AgencyId) -> None:
    """Also of the agency for which somebody acts; that one is then whom to ask."""
    decision = decide(suspended(world(), agency), ACTING)
    assert (decision.code, decision.suspended) == ("policy.suspended", agency)


def test_an_unknown_agency_is_refused_as_one_without_mandate_is() -> None:
    """Nobody finds out by asking which agencies there are."""
    decisions = [decide(world(), replace(ACTING, on_behalf=AgencyId(name))) for name in ("finance", "nowhere")]
    assert len({(each.code, each.suspended) for each in decisions}) == 1
    assert [each.detail.replace(str(each.facts.on_behalf), "X") for each in decisions] == [
        "platform holds no mandate to act for X in letters.notice.v1 today."
    ] * 2


@pytest.mark.parametrize(
    ("on_behalf", "name"), [(TOWN, "platform.shared for town"), (None, SHARED), (PLATFORM, SHARED)]
)
def test_each_agency_has_its_own_share_of_a_platform(on_behalf: AgencyId | None, name: str) -> None:
    """Rate and quota are counted for each agency that a platform acts for."""
    assert replace(ACTING, on_behalf=on_behalf).spender == name


def again(made: Catalogue, **changes: Any) -> str | None:
    facts: dict[str, Any] = {
        "consumer": SHARED,
        "provider": INTERIOR,
        "service": LETTER,
        "purpose": "permits",
        "on_behalf": TOWN,
        "at": NOON,
    }
    return policy.redecide(made, **{**facts, **changes}).code


def without_endpoint(made: Catalogue) -> Catalogue:
    bare = replace(made.agencies[INTERIOR], endpoints={})
    return replace(made, agencies={**made.agencies, INTERIOR: bare})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda made: made, None),
        (lambda made: suspended(made, TOWN), "policy.suspended"),
        (lambda made: suspended(made, INTERIOR), "policy.suspended"),
        (without_endpoint, "catalogue.unknown"),
        (lambda made: replace(made, services={}), "catalogue.unknown"),
        (lambda made: replace(made, systems={}), "catalogue.unknown"),
        (lambda made: replace(made, mandates={}), "identity.not_mandated"),
        (lambda made: replace(made, grants={}), "policy.no_agreement"),
    ],
)
def test_the_second_decision_sees_what_changed(change: Callable[[Catalogue], Catalogue], code: str | None) -> None:
    """What is suspended may come back; what is gone is told apart from it; scope and obligations were asked before."""
    assert again(change(world())) == code


@pytest.mark.parametrize("kind", [Suspendable.ENDPOINT, Suspendable.SYSTEM, Suspendable.AGREEMENT, Suspendable.AGENCY])
def test_what_an_operator_suspends_waits(kind: Suspendable) -> None:
    """A document's endpoint is suspended by agency and service, as an exchange's is."""
    names = {
        Suspendable.ENDPOINT: f"{INTERIOR}/{LETTER}",
        Suspendable.SYSTEM: SHARED,
        Suspendable.AGREEMENT: "L-1",
        Suspendable.AGENCY: TOWN,
    }
    assert again(overlay(world(), [Suspension(kind, names[kind], SUSPENDED)])) == "policy.suspended"


def test_the_second_decision_asks_no_obligation() -> None:
    """The call that brought the document carried the case and the person; the hand-over has none."""
    made = world()
    asking = grant(LETTER, INTERIOR, DESK, require=frozenset(Obligation))
    held = replace(made, grants={(INTERIOR, LETTER, DESK): ((agreement("L-1", asking), asking),)})
    assert again(held, consumer=DESK, on_behalf=None) is None
    assert again(held, at=NOON.replace(year=2027), consumer=DESK, on_behalf=None) == "policy.expired"
    assert again(held, purpose="other", consumer=DESK, on_behalf=None) == "policy.purpose"


@pytest.mark.parametrize(("consumer", "code"), [(DESK, None), (TAX, "policy.no_agreement")])
def test_a_subscriber_is_told_under_its_agreement(consumer: SystemId, code: str | None) -> None:
    """Of an event the subscriber is the consumer."""
    facts = {"consumer": consumer, "service": ALERT, "on_behalf": None}
    assert again(world(), **facts) == code


def test_a_subscriber_needs_the_scope_that_it_could_have() -> None:
    """No token is shown when an event goes out: what the system may carry counts."""
    made = world()
    bare = replace(made.systems[DESK], scopes=frozenset())
    held = replace(made, systems={**made.systems, DESK: bare})
    assert again(held, consumer=DESK, service=ALERT, on_behalf=None) == "policy.scope"


def publishing(made: Catalogue, system: SystemId, name: ServiceId = ALERT) -> str:
    try:
        return policy.may_publish(made, system, name).provider
    except Refusal as refusal:
        return refusal.code


@pytest.mark.parametrize(
    ("system", "name", "outcome"),
    [
        (SIREN, ALERT, "interior"),
        (SystemId("interior.other"), ALERT, "policy.no_agreement"),
        (DESK, ALERT, "catalogue.unknown"),
        (SIREN, LETTER, "catalogue.unknown"),
        (SIREN, LOOK_UP, "catalogue.unknown"),
    ],
)
def test_only_those_that_the_folder_names_publish(system: SystemId, name: ServiceId, outcome: str) -> None:
    """An agency publishes what it lists, by the systems that it lists; a document is nothing to publish."""
    assert publishing(world(), system, name) == outcome


def test_a_suspended_publisher_tells_nobody() -> None:
    """The agency, its system or the event."""
    made = world()
    system = replace(made.systems[SIREN], standing=SUSPENDED)
    assert publishing(replace(made, systems={**made.systems, SIREN: system}), SIREN) == "policy.suspended"
    assert publishing(suspended(made, INTERIOR), SIREN) == "policy.suspended"


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("name", [LETTER, ALERT])
def test_an_address_serves_one_kind(kind: Kind, name: ServiceId) -> None:
    """An exchange's address finds no document, a document's no event."""
    made = world()
    if made.services[name].kind is kind:
        assert policy.visible(made, INTERIOR, name, TAX, kind)[1].id == name
    else:
        with pytest.raises(Refusal) as caught:
            policy.visible(made, INTERIOR, name, TAX, kind)
        assert caught.value.code == "catalogue.unknown"


@pytest.mark.parametrize(("system", "sees"), [(DESK, True), (SHARED, True), (TAX, False)])
def test_what_is_restricted_shows_to_whoever_acts_for_a_partner(system: SystemId, *, sees: bool) -> None:
    """A platform finds the service that it may use for others."""
    made = world(Visibility.RESTRICTED)
    assert policy.shows(made, INTERIOR, made.services[LETTER], system) is sees


def test_turned_round_the_policy_names_who_acts() -> None:
    """``who`` lists the town's own desk, and the platform for it; after the mandate's end only the desk."""
    at_noon = [(each.consumer, each.on_behalf) for each in policy.who(world(), INTERIOR, LETTER, NOON)]
    assert at_noon == [(DESK, None), (SHARED, TOWN)]
    later = policy.who(world(), INTERIOR, LETTER, NOON.replace(month=11))
    assert [(each.consumer, each.on_behalf) for each in later] == [(DESK, None)]
