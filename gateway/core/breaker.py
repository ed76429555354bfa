"""A circuit breaker: after failures in a row an endpoint is left alone for a while, then one probe goes through."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

FAILURES = 5
"""Failures in a row that open it."""
FIRST_REST = 5.0
"""Seconds for which it opens the first time; each failed probe doubles them."""
LONGEST_REST = 60.0
"""Seconds."""
PROBE_PATIENCE = 1.0
"""Seconds that others are told to wait while a probe is under way."""


class State(StrEnum):
    """Closed lets calls through, open does not, half-open waits for the outcome of its one probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Outcome(StrEnum):
    """What a call says about the provider's system."""

    ANSWERED = "answered"
    FAILED = "failed"
    SILENT = "silent"
    """Nothing: the call was given up before it reached the system."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """One endpoint's record. Times are seconds of one monotonic clock."""

    state: State = State.CLOSED
    failures: int = 0
    rest: float = FIRST_REST
    """How long it opens the next time."""
    until: float = 0.0
    """When an open one lets a probe through."""


@dataclass(frozen=True, slots=True)
class Pass:
    """The answer to a caller."""

    breaker: Breaker
    wait: float | None
    """None lets the call through; otherwise the seconds to wait."""
    probe: bool = False
    """The call is the probe: its outcome alone decides."""


def ask(breaker: Breaker, at: float) -> Pass:
    """Whether a call may go through now."""
    if breaker.state is State.CLOSED:
        return Pass(breaker, None)
    if breaker.state is State.HALF_OPEN:
        return Pass(breaker, PROBE_PATIENCE)
    if at < breaker.until:
        return Pass(breaker, breaker.until - at)
    return Pass(Breaker(State.HALF_OPEN, breaker.failures, breaker.rest, breaker.until), None, probe=True)


class _Step(StrEnum):
    STAY = "stay"
    COUNT = "count"
    CLOSE = "close"
    REST = "rest"
    RETRY = "retry"


# A late outcome of a call that began before it opened is no news: only the probe moves an open or half-open one.
_STEPS: Mapping[tuple[State, bool, Outcome], _Step] = {
    (State.CLOSED, False, Outcome.ANSWERED): _Step.CLOSE,
    (State.CLOSED, False, Outcome.FAILED): _Step.COUNT,
    (State.HALF_OPEN, True, Outcome.ANSWERED): _Step.CLOSE,
    (State.HALF_OPEN, True, Outcome.FAILED): _Step.REST,
    (State.HALF_OPEN, True, Outcome.SILENT): _Step.RETRY,
}


def settle(breaker: Breaker, outcome: Outcome, at: float, *, probe: bool) -> Breaker:
    """The record after a call that was let through has ended."""
    match _STEPS.get((breaker.state, probe, outcome), _Step.STAY):
        case _Step.STAY:
            return breaker
        case _Step.CLOSE:
            return Breaker() if breaker.failures else breaker
        case _Step.COUNT if breaker.failures + 1 < FAILURES:
            return Breaker(failures=breaker.failures + 1)
        case _Step.RETRY:
            return Breaker(State.OPEN, breaker.failures, breaker.rest, at)
        case _Step.COUNT | _Step.REST:
            longer = min(breaker.rest * 2, LONGEST_REST)
            return Breaker(State.OPEN, max(breaker.failures, FAILURES), longer, at + breaker.rest)
