"""Who may: each code, what beats what, and that less never permits more."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from itertools import combinations
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import (
    AgencyId,
    Agreement,
    AgreementId,
    Catalogue,
    Effect,
    Endpoint,
    Grant,
    Kind,
    Obligation,
    Service,
    ServiceId,
    Standing,
    SystemId,
    Visibility,
)
from gateway.core.policy import Decision, Facts, Reason, decide, visible, who
from gateway.core.refusal import Refusal
from gateway.core.shape import Shape
from tests.fakes import catalogues

many = settings(max_examples=100, deadline=None)
LOOK_UP = ServiceId("population.person_lookup.v1")
INTERIOR = AgencyId("interior")
TAX, CLINIC = SystemId("finance.tax"), SystemId("health.clinic")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
ACTIVE, SUSPENDED, REVOKED = Standing
CASE, USER, PERSON = Obligation
BOTH = frozenset({CASE, USER})


def grant(*purposes: str, consumers: Iterable[SystemId] = (TAX,), scope: str | None = "read", **more: Any) -> Grant:
    usual: dict[str, Any] = {"disclose": None, "disclosed": None, "rate": None, "quota": None, "require": BOTH}
    named = frozenset(purposes or ("tax",))
    terms = {**usual, **more}
    return Grant(
        index=0,
        service=LOOK_UP,
        provider=INTERIOR,
        consumers=frozenset(consumers),
        purposes=named,
        scope=scope,
        **terms,
    )


def agreement(name: str, *grants: Grant, until: int = 2026, standing: Standing = ACTIVE) -> Agreement:
    """In force from 2026 to the end of a year."""
    numbered = tuple(replace(each, index=place) for place, each in enumerate(grants))
    parties, span = (INTERIOR, AgencyId("finance")), (date(2026, 1, 1), date(until, 12, 31))
    return Agreement(AgreementId(name), name, None, parties, *span, grants=numbered, standing=standing)


@dataclass(frozen=True)
class World:
    """What a catalogue is made of, as far as the policy looks at it."""

    agreements: tuple[Agreement, ...]
    down: frozenset[str] = frozenset()
    """Who and what is suspended: agencies, systems, and ``endpoint``."""

    def standing(self, name: str) -> Standing:
        return SUSPENDED if name in self.down else ACTIVE

    def catalogue(self) -> Catalogue:
        ends = Endpoint(INTERIOR, LOOK_UP, "http", {}, 1, 1, None, False, self.standing("endpoint"), ())
        members = [catalogues.agency("interior", endpoints=[ends], standing=self.standing("interior"))]
        for name in (TAX, CLINIC):
            owner = name.partition(".")[0]
            member = catalogues.system(name, standing=self.standing(name))
            members.append(catalogues.agency(owner, member, standing=self.standing(owner)))
        return catalogues.of(*members, agreements=self.agreements)


PLAIN = World((agreement("A-1", grant()),))
FACTS = Facts(TAX, INTERIOR, LOOK_UP, "tax", frozenset({"read"}), NOON, BOTH)


def asked(world: World = PLAIN, **changes: Any) -> Decision:
    return decide(world.catalogue(), replace(FACTS, **changes))


def test_a_permit_says_on_what() -> None:
    """When everything holds, the decision carries the agreement, the grant and a line for each thing looked at."""
    decision = asked()
    assert (decision.permitted, decision.code, decision.detail) == (True, None, "A-1 permits it.")
    assert decision.agreement is PLAIN.agreements[0]
    assert decision.grant is PLAIN.agreements[0].grants[0]
    assert decision.reasons == (
        Reason(holds=True, text="A-1 is in force from 2026-01-01 to 2026-12-31"),
        Reason(holds=True, text="A-1 is not suspended"),
        Reason(holds=True, text="the purpose is one of: tax"),
        Reason(holds=True, text="the token has the scope read"),
        Reason(holds=True, text="each call brings Exchange-Case and Exchange-User"),
    )


FLAWS: dict[str, tuple[str, dict[str, Any], str]] = {
    "finance": ("policy.suspended", {}, "The agency finance is suspended."),
    "interior": ("policy.suspended", {}, "The agency interior is suspended."),
    "finance.tax": ("policy.suspended", {}, "The system finance.tax is suspended."),
    "endpoint": ("policy.suspended", {}, "population.person_lookup.v1 of interior is suspended."),
    "mandate": (
        "identity.not_mandated",
        {"on_behalf": AgencyId("health")},
        "finance holds no mandate to act for health in population.person_lookup.v1 today.",
    ),
    "date": (
        "policy.expired",
        {"at": NOON.replace(year=2031)},
        "A-1 is in force only from 2026-01-01 to 2026-12-31.",
    ),
    "agreement": ("policy.suspended", {}, "A-1 is suspended."),
    "purpose": ("policy.purpose", {"purpose": "other"}, "A-1 does not cover the purpose that was given."),
    "scope": ("policy.scope", {"scopes": frozenset()}, "A-1 asks for the scope read, which the token lacks."),
    "case": ("policy.obligation", {"given": frozenset({USER})}, "A-1 asks for Exchange-Case with each call."),
}
"""What can be wrong, in the order in which it is found: the code, the facts, the sentence."""


def flawed(*flaws: str) -> Decision:
    standing = SUSPENDED if "agreement" in flaws else ACTIVE
    world = World((agreement("A-1", grant(), standing=standing),), frozenset(flaws))
    changes = {name: value for flaw in flaws for name, value in FLAWS[flaw][1].items()}
    return asked(world, **changes)


@pytest.mark.parametrize("flaw", FLAWS)
def test_each_flaw_has_its_code(flaw: str) -> None:
    """One thing that is wrong refuses the call, with the code and the sentence for it."""
    decision = flawed(flaw)
    assert (decision.permitted, decision.code, decision.detail) == (False, FLAWS[flaw][0], FLAWS[flaw][2])


@pytest.mark.parametrize(("first", "second"), [*combinations(FLAWS, 2)])
def test_the_first_flaw_speaks(first: str, second: str) -> None:
    """Of two things that are wrong the earlier one of the order is named: a suspension of a party before all."""
    assert flawed(first, second).detail == FLAWS[first][2]


@pytest.mark.parametrize("flaw", ["date", "agreement", "purpose", "scope", "case"])
def test_reasons_end_at_what_failed(flaw: str) -> None:
    """Everything before it held; nothing is said about what was not looked at."""
    reasons = flawed(flaw).reasons
    assert [reason.holds for reason in reasons] == [True] * (len(reasons) - 1) + [False]
    assert len(reasons) == ["date", "agreement", "purpose", "scope", "case"].index(flaw) + 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"consumer": CLINIC}, "policy.no_agreement"),
        ({"consumer": SystemId("nowhere.system")}, "policy.no_agreement"),
        ({"provider": AgencyId("health")}, "policy.no_agreement"),
        ({"service": ServiceId("population.person_lookup.v2")}, "policy.no_agreement"),
        ({"consumer": CLINIC, "on_behalf": AgencyId("finance")}, "identity.not_mandated"),
        ({"on_behalf": AgencyId("finance")}, None),
        ({"purpose": None}, "policy.purpose"),
        ({"given": frozenset()}, "policy.obligation"),
    ],
)
def test_other_facts(changes: dict[str, Any], code: str | None) -> None:
    """Nobody may what no grant names; acting for one's own agency is no mandate; no purpose is a wrong one."""
    decision = asked(**changes)
    assert decision.code == code
    if decision.grant is None:
        assert decision.reasons == (Reason(holds=False, text=decision.detail),)


def test_a_suspension_is_not_told_to_strangers() -> None:
    """Who has no agreement learns that, and not that somebody is suspended."""
    world = World(PLAIN.agreements, frozenset({"interior", "health"}))
    assert asked(world, consumer=CLINIC).code == "policy.no_agreement"


@pytest.mark.parametrize("flaw", ["finance", "interior", "finance.tax", "endpoint", "agreement"])
def test_who_can_lift_a_suspension(flaw: str) -> None:
    """The agency that suspended, or that the agreement names first, is the one to ask."""
    assert flawed(flaw).suspended == ("finance" if flaw.startswith("finance") else "interior")


@pytest.mark.parametrize("missing", [SystemId("finance.gone"), SystemId("gone.system")])
def test_what_is_not_in_the_catalogue_is_not_permitted(missing: SystemId) -> None:
    """A grant alone lets nobody in: a system without its agency's word is refused."""
    world = World((agreement("A-1", grant(consumers=[missing])),))
    assert asked(world, consumer=missing).code == "policy.suspended"


def test_an_endpoint_that_is_gone_is_not_permitted() -> None:
    """A grant on a service that its provider no longer provides is worth nothing."""
    made = PLAIN.catalogue()
    interior = replace(made.agencies[INTERIOR], endpoints={})
    assert decide(replace(made, agencies={**made.agencies, INTERIOR: interior}), FACTS).code == "policy.suspended"


def test_a_revoked_system_is_stopped_too() -> None:
    """Revoked is more than suspended, never less."""
    made = PLAIN.catalogue()
    revoked = replace(made.systems[TAX], standing=REVOKED)
    assert decide(replace(made, systems={TAX: revoked}), FACTS).code == "policy.suspended"


@pytest.mark.parametrize(
    ("at", "permitted"),
    [
        ("2025-12-31T16:59:59.999999+00:00", False),
        ("2025-12-31T17:00:00+00:00", True),
        ("2026-12-31T16:59:59.999999+00:00", True),
        ("2026-12-31T17:00:00+00:00", False),
        ("2026-12-31T23:59:59+07:00", True),
        ("2027-01-01T00:00:00+09:00", True),
        ("2026-12-31T20:00:00-05:00", False),
    ],
)
def test_days_are_those_of_the_instance(at: str, permitted: bool) -> None:  # noqa: FBT001 - a column of the table
    """Both days count from midnight to midnight in Phnom Penh, whatever offset the instant is written with."""
    made = replace(PLAIN.catalogue(), zone=ZoneInfo("Asia/Phnom_Penh"))
    assert decide(made, replace(FACTS, at=datetime.fromisoformat(at))).permitted is permitted


GOOD = grant("tax")
OLD = agreement("OLD", GOOD, until=2025)
STOPPED = agreement("STOPPED", GOOD, standing=SUSPENDED)


@pytest.mark.parametrize(
    ("agreements", "spoken"),
    [
        ([agreement("A", grant("audit")), agreement("B", GOOD)], (None, "B")),
        ([agreement("A", grant("audit"), GOOD)], (None, "A")),
        ([OLD, agreement("B", grant("audit"))], ("policy.purpose", "B")),
        ([agreement("A", grant("audit")), agreement("B", grant(scope="more"))], ("policy.scope", "B")),
        ([agreement("A", GOOD), agreement("B", GOOD)], (None, "A")),
        ([OLD, agreement("B", grant("audit", scope="more"))], ("policy.purpose", "B")),
        ([agreement("A", GOOD), STOPPED], ("policy.suspended", "STOPPED")),
        ([replace(OLD, standing=SUSPENDED), agreement("B", GOOD)], (None, "B")),
    ],
)
def test_the_closest_grant_speaks(agreements: list[Agreement], spoken: tuple[str | None, str]) -> None:
    """Any grant that holds permits; otherwise the one that lacks least says what; one suspended today beats all."""
    decision = asked(World(tuple(agreements)))
    assert (decision.code, decision.agreement and decision.agreement.id) == spoken


def test_two_purposes_have_two_grants() -> None:
    """The grant that the purpose belongs to is the one that counts, so that its disclosure and limits apply."""
    world = World((agreement("A-1", grant("tax"), grant("audit", quota=5)),))
    assert [getattr(asked(world, purpose=each).grant, "quota", 0) for each in ("tax", "audit")] == [None, 5]


def service(kind: Kind = Kind.EXCHANGE, visibility: Visibility = Visibility.MEMBERS) -> Service:
    shape = Shape({})
    return Service(LOOK_UP, "", kind, Effect.READ, visibility, False, (), (), 1, None, shape, shape)


@pytest.mark.parametrize(
    ("said", "consumer", "seen"),
    [
        (service(), TAX, True),
        (service(), CLINIC, True),
        (service(visibility=Visibility.RESTRICTED), TAX, True),
        (service(visibility=Visibility.RESTRICTED), CLINIC, False),
        (service(Kind.DOCUMENT), TAX, False),
        (None, TAX, False),
    ],
)
def test_who_may_know_of_a_service(said: Service | None, consumer: SystemId, seen: bool) -> None:  # noqa: FBT001 - a column
    """Members know of what is open to members; what is restricted is, to others, just what does not exist."""
    made = replace(PLAIN.catalogue(), services={LOOK_UP: said} if said else {})
    if seen:
        assert visible(made, INTERIOR, LOOK_UP, consumer) == (made.endpoint(INTERIOR, LOOK_UP), said)
    else:
        with pytest.raises(Refusal, match=r"interior provides no service \S+ that you can see") as caught:
            visible(made, INTERIOR, LOOK_UP, consumer)
        assert caught.value.code == "catalogue.unknown"


purposes = st.sampled_from(["tax", "audit", "census"])
scopes = st.sampled_from(["read", "more"])
consumers = st.sampled_from([TAX, CLINIC])
obligations = st.frozensets(st.sampled_from([CASE, USER]))
grants = st.builds(
    lambda many_, for_, scope, require: grant(*many_, consumers=for_, scope=scope, require=require),
    st.sets(purposes, min_size=1),
    st.sets(consumers, min_size=1),
    st.none() | scopes,
    obligations,
)
agreements_ = st.builds(
    lambda number, held, until, standing: agreement(f"A-{number}", *held, until=until, standing=standing),
    st.integers(1, 9),
    st.lists(grants, min_size=1, max_size=3),
    st.sampled_from([2025, 2026, 2026, 2027]),
    st.sampled_from([ACTIVE, ACTIVE, ACTIVE, SUSPENDED]),
)
downs = st.frozensets(st.sampled_from(["finance", "health", "interior", TAX, CLINIC, "endpoint"]), max_size=1)
worlds = st.builds(
    World, st.lists(agreements_, max_size=3, unique_by=lambda each: each.id).map(tuple), st.just(frozenset()) | downs
)
facts = st.builds(
    Facts,
    consumers,
    st.just(INTERIOR),
    st.just(LOOK_UP),
    st.none() | purposes,
    st.frozensets(scopes),
    st.sampled_from([NOON, NOON.replace(year=2027), NOON.replace(year=2025)]),
    obligations,
    st.sampled_from([None, None, AgencyId("finance"), AgencyId("health")]),
)


@many
@given(worlds, facts)
def test_who_lists_whoever_is_permitted(world: World, call: Facts) -> None:
    """Everybody that some facts permit is listed, with the very grant."""
    made = world.catalogue()
    decision = decide(made, call)
    listed = [(each.consumer, each.agreement, each.grant) for each in who(made, INTERIOR, LOOK_UP, call.at)]
    assert not decision.permitted or (call.consumer, decision.agreement, decision.grant) in listed


@many
@given(worlds, facts)
def test_whoever_is_listed_is_permitted(world: World, call: Facts) -> None:
    """Everybody that is listed may call for each purpose of the grant, with its scope and all that it requires."""
    made = world.catalogue()
    for each in who(made, INTERIOR, LOOK_UP, call.at):
        token = frozenset({each.grant.scope} if each.grant.scope else ())
        for purpose in each.grant.purposes:
            full = Facts(each.consumer, INTERIOR, LOOK_UP, purpose, token, call.at, BOTH)
            assert decide(made, full).permitted


@many
@given(worlds, facts, st.data())
def test_a_suspension_never_opens(world: World, call: Facts, data: st.DataObject) -> None:
    """Suspending an agency, a system, the endpoint or an agreement turns no refusal into a permit."""
    before = decide(world.catalogue(), call)
    also = data.draw(downs)
    stopped = tuple(data.draw(st.sampled_from([each, replace(each, standing=SUSPENDED)])) for each in world.agreements)
    after = decide(replace(world, agreements=stopped, down=world.down | also).catalogue(), call)
    assert before.permitted or not after.permitted


@many
@given(worlds, facts, st.data())
def test_less_never_permits_more(world: World, call: Facts, data: st.DataObject) -> None:
    """Without one of its grants, scopes or headers a call that was refused stays refused.

    Grants are taken from agreements that are not suspended: taking one from a suspended agreement lifts its
    suspension as far as that call goes, and a suspension beats every permit.
    """
    before = decide(world.catalogue(), call)
    fewer = replace(
        call,
        scopes=data.draw(st.frozensets(st.sampled_from(sorted(call.scopes)))) if call.scopes else call.scopes,
        given=data.draw(st.frozensets(st.sampled_from(sorted(call.given)))) if call.given else call.given,
    )
    left = tuple(
        each if each.standing is SUSPENDED else replace(each, grants=each.grants[data.draw(st.integers(0, 3)) :])
        for each in world.agreements
    )
    assert before.permitted or not decide(replace(world, agreements=left).catalogue(), fewer).permitted


@many
@given(worlds, facts, st.sampled_from(["purpose", "scopes"]))
def test_no_answer_repeats_what_the_caller_sent(world: World, call: Facts, where: str) -> None:
    """Neither the sentence nor the reasons hold the purpose or the scopes of a call: they may be anything."""
    marker = "marker_7f3a"
    marked = replace(call, purpose=marker) if where == "purpose" else replace(call, scopes=call.scopes | {marker})
    decision = decide(world.catalogue(), marked)
    assert marker not in decision.detail + "".join(reason.text for reason in decision.reasons)


@many
@given(worlds, facts)
def test_every_decision_explains_itself(world: World, call: Facts) -> None:
    """A decision has a sentence, and reasons that all hold in a permit and end with the failed one in a refusal."""
    decision = decide(world.catalogue(), call)
    assert decision.detail.endswith(".")
    assert [reason.holds for reason in decision.reasons][-1] is decision.permitted
    assert all(reason.holds for reason in decision.reasons[:-1])
