"""When an endpoint is left alone, and how it comes back."""

import pytest

from gateway.core.breaker import (
    FAILURES,
    OF_ONE,
    Breaker,
    Outcome,
    State,
    ask,
    behind,
    settle,
    settle_all,
    settle_own,
)
from gateway.core.model import SystemId

A, F, S, U = Outcome.ANSWERED, Outcome.FAILED, Outcome.SILENT, Outcome.UNREACHED
TAX, CLINIC, COURTS = map(SystemId, ("finance.tax", "health.clinic", "justice.courts"))


def after(*outcomes: Outcome, at: float = 0.0) -> Breaker:
    breaker = Breaker()
    for outcome in outcomes:
        breaker = settle(breaker, outcome, at, probe=False)
    return breaker


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ([F] * (FAILURES - 1), State.CLOSED),
        ([F] * FAILURES, State.OPEN),
        ([F, F, F, F, A, F, F, F, F], State.CLOSED),
        ([F, F, S, F, F, F], State.OPEN),
        ([F, F, F, F, F, A, A], State.OPEN),
    ],
)
def test_it_opens_after_failures_in_a_row(outcomes: list[Outcome], state: State) -> None:
    """Five failures in a row open it; an answer ends the row, silence does not, and late answers do not close it."""
    assert after(*outcomes).state is state


def test_an_open_one_says_how_long() -> None:
    """While it is open, nobody passes, and everybody learns the seconds that are left."""
    breaker = after(*[F] * FAILURES, at=100.0)
    assert ask(breaker, 102.0).wait == 3.0
    assert ask(breaker, 105.0).wait is None


def test_one_probe_goes_through() -> None:
    """When the rest is over, exactly one call passes until its outcome is known."""
    first = ask(after(*[F] * FAILURES), 5.0)
    assert (first.wait, first.probe, first.breaker.state) == (None, True, State.HALF_OPEN)
    second = ask(first.breaker, 5.1)
    assert second.wait is not None
    assert not second.probe


def test_a_probe_that_succeeds_closes_it() -> None:
    """One answer makes everything as it was at first."""
    probe = ask(after(*[F] * FAILURES), 5.0)
    assert settle(probe.breaker, A, 5.2, probe=True) == Breaker()


def test_failed_probes_double_the_rest_up_to_a_minute() -> None:
    """5, 10, 20, 40, 60, 60 seconds."""
    breaker, at, rests = after(*[F] * FAILURES), 0.0, []
    for _ in range(6):
        rests.append(breaker.until - at)
        at = breaker.until
        breaker = settle(ask(breaker, at).breaker, F, at, probe=True)
    assert rests == [5, 10, 20, 40, 60, 60]


def test_a_probe_that_was_given_up_lets_the_next_one_try() -> None:
    """A cancelled probe says nothing, and does not keep everybody out for ever."""
    probe = ask(after(*[F] * FAILURES), 5.0)
    breaker = settle(probe.breaker, S, 5.5, probe=True)
    assert breaker.state is State.OPEN
    assert ask(breaker, 5.5).probe


@pytest.mark.parametrize("outcome", list(Outcome))
def test_late_outcomes_do_not_move_the_probe(outcome: Outcome) -> None:
    """A call that began before it opened decides nothing while the probe is under way."""
    probe = ask(after(*[F] * FAILURES), 5.0)
    assert settle(probe.breaker, outcome, 5.1, probe=False) is probe.breaker


def shared(*calls: tuple[SystemId, Outcome]) -> State:
    """The record of all consumers after these calls."""
    breaker = Breaker()
    for who, outcome in calls:
        breaker = settle_all(breaker, outcome, 0.0, probe=False, who=who)
    return breaker.state


@pytest.mark.parametrize(
    ("calls", "state"),
    [
        ([(TAX, F)] * 50, State.CLOSED),
        ([(TAX, F)] * 50 + [(CLINIC, F)] * (FAILURES - OF_ONE - 1), State.CLOSED),
        ([(TAX, F)] * 50 + [(CLINIC, F)] * (FAILURES - OF_ONE), State.OPEN),
        ([(TAX, F), (CLINIC, F), (COURTS, F)] * 2, State.OPEN),
        ([(TAX, F)] * 3 + [(CLINIC, A)] + [(CLINIC, F)] * 3 + [(TAX, F)], State.CLOSED),
        ([(TAX, U)] * FAILURES, State.OPEN),
        ([(TAX, F)] * 50 + [(TAX, U)] * (FAILURES - OF_ONE), State.OPEN),
    ],
)
def test_one_consumer_opens_it_for_itself_alone(calls: list[tuple[SystemId, Outcome]], state: State) -> None:
    """What one asks may be why it fails: for all it opens when two fail, or when the system cannot be reached."""
    assert shared(*calls) is state


def test_the_own_record_counts_own_failures() -> None:
    """Five failures of its calls; that nobody can reach the system is no fault of its calls."""
    breaker = Breaker()
    for outcome in (U, U, F, F, U, F, F, F):
        assert breaker.state is State.CLOSED
        breaker = settle_own(breaker, outcome, 0.0, probe=False)
    assert (breaker.state, breaker.until) == (State.OPEN, 5.0)


def test_who_failed_the_probe_lets_others_try_first() -> None:
    """When the rest is over, the next probe is another consumer's for a second."""
    probe = ask(after(*[F] * FAILURES), 5.0)
    everyone = settle_all(probe.breaker, F, 5.0, probe=True, who=TAX)
    own = behind(everyone)
    assert ask(everyone, everyone.until).probe
    assert (ask(own, everyone.until).wait, ask(own, everyone.until + 1.0).wait) == (1.0, None)
