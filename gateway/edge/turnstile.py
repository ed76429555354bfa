"""The way into one endpoint: how many calls it gets at once, from whom, and who is kept out after failures."""

from collections import Counter, OrderedDict
from dataclasses import dataclass

from gateway.core.breaker import LONGEST_REST, SOUND, Breaker, Outcome, State, ask, behind, settle_all, settle_own
from gateway.core.limits import has_turn
from gateway.core.model import Endpoint, SystemId
from gateway.protocols.protocol import ProviderFault

LATELY = 10.0
"""Seconds for which a consumer that asked counts as one that wants places."""
MAX_OWN = 256
"""Consumers of one endpoint whose own failures are remembered."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A call that was let in."""

    consumer: SystemId
    probe: bool
    """Its outcome decides for all consumers."""
    own_probe: bool
    """Its outcome decides for its own consumer."""


class Turnstile:
    """Times are seconds of one monotonic clock."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._all = SOUND
        self._own: OrderedDict[SystemId, Breaker] = OrderedDict()
        """Of those whose calls failed."""
        self._holds: Counter[SystemId] = Counter()
        self.running = 0
        self._last: SystemId | None = None
        self._last_at = self._other_at = float("-inf")

    def state(self, at: float) -> State:
        """Of all consumers; where that is closed, of one that is kept out alone and asked a while ago at most."""
        if self._all.state is not State.CLOSED:
            return self._all.state
        kept_out = (each.state for each in self._own.values() if at < each.until + LONGEST_REST)
        return next((state for state in kept_out if state is not State.CLOSED), State.CLOSED)

    def enter(self, consumer: SystemId, at: float) -> Ticket:
        """Take a place. Raises ProviderFault: nobody queues, as waiting callers would pile up."""
        self._hold_places(consumer, at)
        provider = self._endpoint.provider
        everyone = ask(self._all, at)
        if everyone.wait is not None:
            raise _not_now(f"The system of {provider} has failed repeatedly and is left alone for now.", everyone.wait)
        own = ask(self._own.get(consumer, SOUND), at)
        if own.wait is not None:
            detail = f"The system of {provider} has failed repeatedly at calls of yours and gets none for now."
            raise _not_now(detail, own.wait)
        self._all = everyone.breaker
        self._keep(consumer, own.breaker)
        self._holds[consumer] += 1
        self.running += 1
        return Ticket(consumer, everyone.probe, own.probe)

    def leave(self, ticket: Ticket, outcome: Outcome, at: float) -> None:
        """Give the place back, and say how it went."""
        consumer = ticket.consumer
        self.running -= 1
        self._holds[consumer] -= 1
        if not self._holds[consumer]:
            del self._holds[consumer]
        self._all = settle_all(self._all, outcome, at, probe=ticket.probe, who=consumer)
        if ticket.probe and outcome is Outcome.FAILED:
            self._keep(consumer, behind(self._all))
        else:
            own = self._own.get(consumer, SOUND)
            self._keep(consumer, settle_own(own, outcome, at, probe=ticket.own_probe))

    def _hold_places(self, consumer: SystemId, at: float) -> None:
        if consumer != self._last:
            self._last, self._other_at = consumer, self._last_at
        self._last_at = at
        free = self._endpoint.concurrency - self.running
        if not has_turn(self._holds[consumer], free, alone=at - self._other_at > LATELY):
            whose = "calls" if free <= 0 else "calls of yours"
            rest = "" if free <= 0 else " while others ask"
            detail = f"{self._endpoint.provider} has as many {whose} in hand as it takes{rest}."
            raise _not_now(detail, 1.0)

    def _keep(self, consumer: SystemId, own: Breaker) -> None:
        if own is SOUND:  # nearly always: nothing to compare
            if self._own:
                self._own.pop(consumer, None)
            return
        self._own.pop(consumer, None)
        if own != SOUND:
            self._own[consumer] = own
        if len(self._own) > MAX_OWN:
            self._own.popitem(last=False)


def _not_now(detail: str, seconds: float) -> ProviderFault:
    return ProviderFault("provider.unavailable", detail, sent=False, retry_after=seconds)
