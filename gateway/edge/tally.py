"""Refusals counted: for Prometheus at once, for the journal by the minute where single entries would be too many."""

from collections import Counter
from collections.abc import Callable

import structlog

from gateway.core.limits import Bucket, draw, full
from gateway.core.model import Rate, SystemId
from gateway.edge.telemetry import Meters

SINGLY = Rate(200, 10.0)
"""Refusals of one system that get an entry each; a system that only tries must not fill the disk."""

log = structlog.get_logger()


class Tally:
    """Who was told no, at any address."""

    def __init__(self, meters: Meters, clock: Callable[[], float]) -> None:
        """``clock`` is steady."""
        self._meters = meters
        self._clock = clock
        self._buckets: dict[SystemId, Bucket] = {}
        self.unidentified: Counter[str] = Counter()
        """Refusals before identity, by code, that no journal entry has yet."""
        self.repeated: dict[SystemId, Counter[str]] = {}
        """Refusals of systems beyond SINGLY, by code, that no journal entry has yet."""

    def refused(self, code: str) -> None:
        """Somebody was told no."""
        self._meters.child(self._meters.refusals, code).inc()

    def singly(self, consumer: SystemId, code: str) -> bool:
        """Whether this refusal of a system gets an entry of its own; otherwise it is counted for the minute's."""
        now = self._clock()
        self._buckets[consumer], wait = draw(self._buckets.get(consumer, full(SINGLY, now)), SINGLY, now)
        if wait:
            self.repeated.setdefault(consumer, Counter())[code] += 1
        return not wait

    def token(self, outcome: str) -> None:
        """The token endpoint answered: ``issued``, or with an error to somebody whose identity is not proven."""
        self._meters.token(outcome)
        if outcome != "issued":
            self.unidentified[f"token.{outcome}"] += 1
            log.info("token_refused", outcome=outcome)
