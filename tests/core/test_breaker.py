"""When an endpoint is left alone, and how it comes back."""

import pytest

from gateway.core.breaker import FAILURES, Breaker, Outcome, State, ask, settle

A, F, S = Outcome.ANSWERED, Outcome.FAILED, Outcome.SILENT


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
