"""Operators' suspensions over a catalogue: the stricter holds, nothing else changes, the caller is told the same."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import AgencyId, AgreementId, Catalogue, Endpoint, ServiceId, Standing, SystemId, catalogue
from gateway.core.policy import Decision, Facts, decide
from gateway.core.standing import Suspendable, Suspension, kinds_of, meant, names, overlay
from tests.fakes import idp
from tests.fakes.parties import LOOK_UP, PARTIES, PURPOSE, TAX, USUAL, Terms, catalogue_of

KEYS = {name: idp.key() for name in PARTIES}
AGENCY, SYSTEM, ENDPOINT, AGREEMENT = Suspendable
ACTIVE, SUSPENDED, REVOKED = Standing
TARGETS = [
    (AGENCY, "finance", "The agency finance is suspended.", "finance"),
    (AGENCY, "interior", "The agency interior is suspended.", "interior"),
    (SYSTEM, TAX, f"The system {TAX} is suspended.", "finance"),
    (ENDPOINT, f"interior/{LOOK_UP}", f"{LOOK_UP} of interior is suspended.", "interior"),
    (AGREEMENT, "MOI-FIN-2024-014", "MOI-FIN-2024-014 is suspended.", "interior"),
]


def declared(terms: Terms = USUAL) -> Catalogue:
    return catalogue_of("http://127.0.0.1:1", KEYS, terms)


def indexed(of: Catalogue) -> Catalogue:
    """The same with indexes built from the ground."""
    return catalogue(
        instance=of.instance,
        zone=of.zone,
        digest=of.digest,
        services=of.services,
        agencies=of.agencies,
        agreements=of.agreements,
        purposes=of.purposes,
    )


def asked(of: Catalogue) -> Decision:
    """The tax office asks for a record."""
    at = datetime(2026, 6, 1, tzinfo=UTC)
    scopes = frozenset({"population:read"})
    return decide(of, Facts(SystemId(TAX), AgencyId("interior"), ServiceId(LOOK_UP), PURPOSE, scopes, at, frozenset()))


@pytest.mark.parametrize(("kind", "name", "sentence", "whose"), TARGETS)
def test_a_suspension_beats_the_permit(kind: Suspendable, name: str, sentence: str, whose: str) -> None:
    """Each kind refuses the call in the words of a suspension in the file, with the contact of the same agency."""
    assert asked(declared()).permitted
    decision = asked(overlay(declared(), [Suspension(kind, name, SUSPENDED)]))
    assert (decision.code, decision.detail, decision.suspended) == ("policy.suspended", sentence, whose)


def test_the_file_says_the_same() -> None:
    """A system and an agreement that their files suspend are refused as those that an operator suspends."""
    for terms, (kind, name) in (
        (Terms(tax_office=SUSPENDED), (SYSTEM, TAX)),
        (Terms(standing=SUSPENDED), (AGREEMENT, "MOI-FIN-2024-014")),
    ):
        by_file, by_operator = asked(declared(terms)), asked(overlay(declared(), [Suspension(kind, name, SUSPENDED)]))
        assert (by_file.code, by_file.detail, by_file.suspended) == (
            by_operator.code,
            by_operator.detail,
            by_operator.suspended,
        )


@pytest.mark.parametrize("file", Standing)
@pytest.mark.parametrize("operator", [SUSPENDED, REVOKED])
def test_the_stricter_wins(file: Standing, operator: Standing) -> None:
    """What the file revoked an operator's suspension does not soften, and the other way round."""
    over = overlay(declared(Terms(tax_office=file)), [Suspension(SYSTEM, TAX, operator)])
    order = list(Standing)
    wanted = max(file, operator, key=order.index)
    assert over.systems[SystemId(TAX)].standing is wanted
    assert over.agencies[AgencyId("finance")].systems[SystemId(TAX)].standing is wanted


def test_nothing_to_do_gives_the_same_object() -> None:
    """None, names that the catalogue lacks, and what the file says already."""
    there = declared(Terms(tax_office=SUSPENDED))
    assert overlay(there, []) is there
    unknown = [
        (AGENCY, "nobody"),
        (SYSTEM, "finance.x"),
        (SYSTEM, "nobody.x"),
        (ENDPOINT, "interior/a.b.v1"),
        (AGREEMENT, "X"),
    ]
    assert overlay(there, [Suspension(kind, name, SUSPENDED) for kind, name in unknown]) is there
    assert overlay(there, [Suspension(SYSTEM, TAX, SUSPENDED)]) is there


def test_untouched_parts_are_shared() -> None:
    """One system's suspension copies its agency and nothing else; the digest stays, and the original is as it was."""
    there = declared()
    over = overlay(there, [Suspension(SYSTEM, TAX, REVOKED)])
    assert over.digest == there.digest
    assert over.services is there.services
    assert [name for name in there.agencies if over.agencies[name] is not there.agencies[name]] == ["finance"]
    assert all(over.grants[key] is there.grants[key] for key in there.grants)
    assert there.systems[SystemId(TAX)].standing is ACTIVE


def test_other_agreements_go_on() -> None:
    """An agreement's suspension leaves the others as they are, and the index speaks of the same agreements."""
    over = overlay(declared(), [Suspension(AGREEMENT, "MOI-FIN-2024-014", SUSPENDED)])
    assert over.agreements[AgreementId("MOI-MOJ-2024-002")].standing is ACTIVE
    for agreements in over.grants.values():
        assert all(agreement is over.agreements[agreement.id] for agreement, _ in agreements)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.builds(
            Suspension,
            st.sampled_from(Suspendable),
            st.sampled_from([*(each[1] for each in TARGETS), "nobody", "justice"]),
            st.sampled_from([SUSPENDED, REVOKED]),
        ),
        max_size=6,
    )
)
def test_indexes_agree_with_the_parts(suspensions: list[Suspension]) -> None:
    """Whatever is suspended, in any order, the indexes are those of a catalogue built from the ground."""
    over = overlay(declared(), suspensions)
    again = overlay(declared(), suspensions[::-1])
    assert over.systems == indexed(over).systems == again.systems
    assert over.grants == indexed(over).grants == again.grants
    assert over.agencies == again.agencies


def test_a_form_says_what_is_meant() -> None:
    """A word in lower case may be an agency's name or an agreement's; everything else means one thing or nothing."""
    assert kinds_of("interior") == (AGENCY, AGREEMENT)
    assert kinds_of(TAX) == (SYSTEM,)
    assert kinds_of(f"interior/{LOOK_UP}") == (ENDPOINT,)
    assert kinds_of("MOI-FIN-2026-014") == (AGREEMENT,)
    assert [kinds_of(each) for each in ("", "a/b", "a.b.c", "interior\n", "*", "a b", "é")] == [()] * 7


@pytest.mark.parametrize(
    ("row", "suspended"),
    [
        (("system", TAX, "suspended"), [Suspension(SYSTEM, TAX, SUSPENDED)]),
        (("system", TAX, "banned"), [Suspension(SYSTEM, TAX, REVOKED)]),
        (("client", TAX, "suspended"), [Suspension(SYSTEM, TAX, SUSPENDED)]),
        (("role", "interior", "revoked"), [Suspension(kind, "interior", REVOKED) for kind in (AGENCY, AGREEMENT)]),
        (("service", LOOK_UP, "suspended"), []),
        (("system", "interior", "suspended"), []),
        (("system", b"finance.tax", None), []),
        ((None, None, None), []),
    ],
)
def test_a_later_version_s_row(row: tuple[object, object, object], suspended: list[Suspension]) -> None:
    """What can be named is held, as strictly as can be; what cannot is nothing, and breaks nothing."""
    assert list(meant(*row)) == suspended


def test_every_name_of_a_catalogue_has_the_form() -> None:
    """What a catalogue has can be suspended."""
    there = declared()
    for kind in Suspendable:
        assert names(there, kind)
        assert [name for name in names(there, kind) if kind not in kinds_of(name)] == []


def test_an_endpoint_keeps_all_but_its_standing() -> None:
    """A suspended endpoint is otherwise the declared one."""

    def endpoint(of: Catalogue) -> Endpoint:
        return of.agencies[AgencyId("interior")].endpoints[ServiceId(LOOK_UP)]

    over = overlay(declared(), [Suspension(ENDPOINT, f"interior/{LOOK_UP}", SUSPENDED)])
    assert endpoint(over) == replace(endpoint(declared()), standing=SUSPENDED)
