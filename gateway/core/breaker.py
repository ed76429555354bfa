"""A circuit breaker: after failures in a row an endpoint is left alone for a while, then one probe goes through.

An endpoint has one for all consumers, and one for each consumer whose own calls fail: what one of them asks may be
why the system fails, and must not shut the others out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.core.model import SystemId

FAILURES = 5
"""Failures in a row that open it."""
OF_ONE = 3
"""Failures in a row of one consumer that count where all are concerned: it takes another one's to open it for all."""
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
    UNREACHED = "unreached"
    """The system could not be reached, whatever was to be asked."""
    FAILED = "failed"
    """It was reached, and failed: what was asked may be the reason."""
    SILENT = "silent"
    """Nothing: the call was given up before it reached the system."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """The record of one endpoint, or of one consumer there. Times are seconds of one monotonic clock."""

    state: State = State.CLOSED
    failed: tuple[SystemId | None, ...] = ()
    """The failures in a row that count: whose call each was, None where that does not matter."""
    rest: float = FIRST_REST
    """How long it opens the next time."""
    until: float = 0.0
    """When an open one lets a probe through."""


SOUND = Breaker()
"""The record of whoever has not failed."""


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
    return Pass(Breaker(State.HALF_OPEN, breaker.failed, breaker.rest, breaker.until), None, probe=True)


class _Step(StrEnum):
    STAY = "stay"
    COUNT = "count"
    CLOSE = "close"
    REST = "rest"
    RETRY = "retry"


# A late outcome of a call that began before it opened is no news: only the probe moves an open or half-open one.
_STEPS: Mapping[tuple[State, bool, Outcome], _Step] = {
    (State.CLOSED, False, Outcome.ANSWERED): _Step.CLOSE,
    (State.CLOSED, False, Outcome.UNREACHED): _Step.COUNT,
    (State.CLOSED, False, Outcome.FAILED): _Step.COUNT,
    (State.HALF_OPEN, True, Outcome.ANSWERED): _Step.CLOSE,
    (State.HALF_OPEN, True, Outcome.UNREACHED): _Step.REST,
    (State.HALF_OPEN, True, Outcome.FAILED): _Step.REST,
    (State.HALF_OPEN, True, Outcome.SILENT): _Step.RETRY,
}


def settle(breaker: Breaker, outcome: Outcome, at: float, *, probe: bool, who: SystemId | None = None) -> Breaker:
    """The record after a call that was let through has ended; ``who`` asked, where that matters."""
    match _STEPS.get((breaker.state, probe, outcome), _Step.STAY):
        case _Step.STAY:
            return breaker
        case _Step.CLOSE:
            return SOUND if breaker.failed else breaker
        case _Step.RETRY:
            return Breaker(State.OPEN, breaker.failed, breaker.rest, at)
        case _Step.COUNT:
            counts = who is None or breaker.failed.count(who) < OF_ONE
            failed = (*breaker.failed, who) if counts else breaker.failed
            return Breaker(failed=failed) if len(failed) < FAILURES else _opened(breaker, failed, at)
        case _Step.REST:
            return _opened(breaker, breaker.failed, at)


def _opened(breaker: Breaker, failed: tuple[SystemId | None, ...], at: float) -> Breaker:
    return Breaker(State.OPEN, failed, min(breaker.rest * 2, LONGEST_REST), at + breaker.rest)


def settle_all(breaker: Breaker, outcome: Outcome, at: float, *, probe: bool, who: SystemId) -> Breaker:
    """The record of all consumers: a system that cannot be reached counts whoever asks."""
    return settle(breaker, outcome, at, probe=probe, who=who if outcome is Outcome.FAILED else None)


def settle_own(breaker: Breaker, outcome: Outcome, at: float, *, probe: bool) -> Breaker:
    """The record of one consumer: that the system cannot be reached says nothing of its calls."""
    return settle(breaker, Outcome.SILENT if outcome is Outcome.UNREACHED else outcome, at, probe=probe)


def behind(breaker: Breaker) -> Breaker:
    """The record of a consumer whose call was the probe for all and failed: the next probe is another one's."""
    return Breaker(State.OPEN, until=breaker.until + PROBE_PATIENCE)
