"""Who is let in to an endpoint: places among consumers, and failures of one beside those of all."""

from dataclasses import replace

import pytest

from gateway.core.breaker import FAILURES, Outcome, State
from gateway.core.model import SystemId
from gateway.edge.turnstile import LATELY, MAX_OWN, Ticket, Turnstile
from gateway.protocols.protocol import ProviderFault
from tests.fakes.systems import endpoint

A, F, U = Outcome.ANSWERED, Outcome.FAILED, Outcome.UNREACHED
TAX, CLINIC, COURTS = map(SystemId, ("finance.tax", "health.clinic", "justice.courts"))


def turnstile(places: int = 10) -> Turnstile:
    return Turnstile(replace(endpoint("scripted"), concurrency=places))


def fill(to: Turnstile, who: SystemId, at: float) -> list[Ticket]:
    """As many places as the consumer gets."""
    tickets: list[Ticket] = []

    def take_all() -> None:
        while True:
            tickets.append(to.enter(who, at))

    with pytest.raises(ProviderFault, match="as many calls") as caught:
        take_all()
    assert (caught.value.code, caught.value.sent, caught.value.retry_after) == ("provider.unavailable", False, 1.0)
    return tickets


def calls(to: Turnstile, who: SystemId, outcome: Outcome, at: float = 0.0, *, count: int = 1) -> None:
    for _ in range(count):
        to.leave(to.enter(who, at), outcome, at)


def kept_out(to: Turnstile, who: SystemId, at: float = 0.0) -> float | None:
    """For how long; None where it is let in."""
    try:
        to.leave(to.enter(who, at), Outcome.SILENT, at)
    except ProviderFault as fault:
        return fault.retry_after
    return None


def test_who_is_alone_has_every_place() -> None:
    """And whoever comes meanwhile gets the next one that is given back, not the first one again."""
    to = turnstile()
    tickets = fill(to, TAX, 0.0)
    assert (len(tickets), kept_out(to, CLINIC)) == (10, 1.0)
    to.leave(tickets[0], A, 1.0)
    assert fill(to, TAX, 1.0) == []
    assert len(fill(to, CLINIC, 1.0)) == 1


def test_while_others_ask_nobody_takes_all() -> None:
    """Whoever fills an endpoint leaves as many places as it holds; the next one takes half of those."""
    to = turnstile()
    kept_out(to, CLINIC)
    assert [len(fill(to, who, 0.0)) for who in (TAX, CLINIC, COURTS)] == [5, 3, 1]


def test_who_no_longer_asks_is_left_nothing() -> None:
    """A while after the last call of another one all places are there for the one that asks."""
    to = turnstile()
    kept_out(to, CLINIC)
    assert len(fill(to, TAX, LATELY)) == 5
    assert len(fill(to, TAX, LATELY + 0.1)) == 5


def test_one_consumers_failures_are_its_own() -> None:
    """However often one fails, others pass; it alone waits, and one of its calls is let through to see."""
    to = turnstile()
    calls(to, TAX, F, count=FAILURES)
    assert (kept_out(to, TAX), kept_out(to, CLINIC), to.state(0.0)) == (5.0, None, State.OPEN)
    calls(to, TAX, A, 5.0)
    assert (kept_out(to, TAX, 5.0), to.state(5.0)) == (None, State.CLOSED)


def test_who_failed_and_asks_no_more_is_not_shown_for_ever() -> None:
    """A minute after it could have asked again, the endpoint counts as open to all."""
    to = turnstile()
    calls(to, TAX, F, count=FAILURES)
    assert [to.state(at) for at in (64.9, 65.0)] == [State.OPEN, State.CLOSED]


def test_failures_of_two_are_everybodys() -> None:
    """The second one's failures open it for all."""
    to = turnstile()
    calls(to, TAX, F, count=FAILURES)
    calls(to, CLINIC, F, count=2)
    assert [kept_out(to, who) for who in (TAX, CLINIC, COURTS)] == [5.0, 5.0, 5.0]


def test_what_cannot_be_reached_is_left_alone_by_all() -> None:
    """Whoever found out."""
    to = turnstile()
    calls(to, TAX, U, count=FAILURES)
    assert (kept_out(to, COURTS), to.state(0.0)) == (5.0, State.OPEN)


def test_one_consumer_does_not_keep_it_open_by_failing_every_probe() -> None:
    """Who failed one lets others probe first, and their success lets all in but itself."""
    to = turnstile()
    calls(to, CLINIC, U, count=FAILURES)
    calls(to, TAX, F, 5.0)
    assert (kept_out(to, COURTS, 14.5), kept_out(to, TAX, 15.0)) == (0.5, 1.0)
    calls(to, COURTS, A, 15.0)
    assert (kept_out(to, CLINIC, 15.0), kept_out(to, TAX, 15.0), kept_out(to, TAX, 16.0)) == (None, 1.0, None)


def test_failures_are_remembered_of_so_many() -> None:
    """The consumer that failed longest ago is forgotten first; who succeeds is not remembered at all."""
    to = turnstile()
    calls(to, TAX, F, count=FAILURES)
    for n in range(MAX_OWN):
        calls(to, SystemId(f"a.{n}"), A)
    assert kept_out(to, TAX) == 5.0
    for n in range(MAX_OWN):
        calls(to, SystemId(f"a.{n}"), A)
        calls(to, SystemId(f"a.{n}"), F)
        calls(to, COURTS, A)
    assert (kept_out(to, TAX), len(to._own)) == (None, MAX_OWN)
