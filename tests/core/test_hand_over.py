"""What a second decision means for a document, and which node may say that it is over."""

import pytest

from gateway.core.delivery import (
    SETTLED,
    Go,
    Happening,
    Moved,
    Position,
    Snapshot,
    State,
    Unmoved,
    hand_over,
    next_step,
)

OLD = Snapshot("old", adopted=100.0)


def decided(code: str | None, present: Snapshot = OLD, *, submitted: float = 200.0, now: float = 201.0) -> Go:
    return hand_over(code, submitted_by="new", submitted=submitted, present=present, now=now)


def test_a_permit_lets_it_go() -> None:
    """Whatever this node knows."""
    assert decided(None) is Go.NOW


@pytest.mark.parametrize("adopted", [100.0, 300.0])
def test_who_is_suspended_waits(adopted: float) -> None:
    """However long it takes, and however much this node knows: a suspension may be lifted."""
    assert decided("policy.suspended", Snapshot("old", adopted), now=200.0 + 10 * SETTLED) is Go.LATER


@pytest.mark.parametrize("code", ["policy.expired", "policy.no_agreement", "identity.not_mandated"])
def test_a_node_on_an_older_catalogue_gives_nothing_up(code: str) -> None:
    """E12: it has not read the agreement yet under which the document was taken in."""
    assert decided(code) is Go.LATER


def test_the_same_catalogue_knows_enough() -> None:
    """The document was taken in by it."""
    assert decided("policy.expired", Snapshot("new", adopted=100.0)) is Go.NEVER


def test_a_catalogue_taken_into_use_afterwards_knows_enough() -> None:
    """It was read after the document had come."""
    assert decided("policy.expired", Snapshot("newer", adopted=200.5)) is Go.NEVER
    assert decided("policy.expired", Snapshot("newer", adopted=200.0)) is Go.LATER


def test_no_node_stays_behind_for_ever() -> None:
    """What is older than SETTLED is given up by any node."""
    assert decided("policy.expired", now=200.0 + SETTLED) is Go.LATER
    assert decided("policy.expired", now=200.1 + SETTLED) is Go.NEVER


def test_only_what_lies_in_a_mailbox_is_given_up_after_its_arrival() -> None:
    """What was handed over is the recipient's."""
    lying = Position(State.ARRIVED, open=True, touched=False)
    handed = Position(State.ARRIVED, open=False, touched=True)
    assert next_step(lying, Happening.GIVEN_UP) == Moved(State.UNDELIVERABLE)
    assert next_step(handed, Happening.GIVEN_UP) == Unmoved()
