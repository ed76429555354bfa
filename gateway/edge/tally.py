"""Refusals counted: for Prometheus at once, and for the journal by the minute where nobody was identified."""

from collections import Counter

import structlog

from gateway.edge.telemetry import Meters

log = structlog.get_logger()


class Tally:
    """Who was told no, at any address."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self.unidentified: Counter[str] = Counter()
        """Refusals before identity, by code, that no journal entry has yet."""

    def refused(self, code: str) -> None:
        """Somebody was told no."""
        self._meters.child(self._meters.refusals, code).inc()

    def token(self, outcome: str) -> None:
        """The token endpoint answered: ``issued``, or with an error to somebody whose identity is not proven."""
        self._meters.token(outcome)
        if outcome != "issued":
            self.unidentified[f"token.{outcome}"] += 1
            log.info("token_refused", outcome=outcome)
