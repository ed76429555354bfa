"""What operators see of an agent on Prometheus; labels are bounded, and nothing of a document is in them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from gateway import __version__
from gateway.agent.ports import Counts
from gateway.core.handling import Why

MAX_SERVICES = 1000
"""Services that have a series of their own; the others share one."""
OTHER = "other"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
REPORTS = ("told", "final", "later")
"""What becomes of a report."""


class AgentMeters:
    """Every metric of one agent, in a registry of its own; ``ports.Meters`` for the parts of it."""

    def __init__(self, agency: str, instance: str) -> None:
        # Prometheus would store them: a second series for each counter and histogram
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library's own lack
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        counter, gauge = partial(Counter, registry=self.registry), partial(Gauge, registry=self.registry)
        self.info = gauge("gateway_agent_info", "The agent.", ["agency", "instance", "version"])
        self.info.labels(agency, instance, __version__).set(1)
        self.handovers = counter(
            "gateway_agent_handed_over", "Hand-overs to the agency's systems, by outcome.", ["service", "outcome"]
        )
        self.duration = Histogram(
            "gateway_agent_handover_duration_seconds",
            "Handing one over.",
            ["service"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.duplicates = counter("gateway_agent_duplicates", "Records whose document had been handed over before.")
        self.refused_records = counter(
            "gateway_agent_refused_records", "Records that were no document for this agency.", ["why"]
        )
        self.lag_records = gauge("gateway_agent_lag_records", "Records not yet finished.", ["partition"])
        self.lag_seconds = gauge("gateway_agent_lag_seconds", "Age of the oldest of them.", ["partition"])
        self.partitions = gauge("gateway_agent_partitions", "Partitions that this agent reads.")
        self.rebalances = counter("gateway_agent_rebalances", "Times that the group was divided anew.")
        self.waiting = gauge("gateway_agent_paused", "1 for each partition that waits, and why.", ["partition", "why"])
        self.systems = gauge("gateway_agent_system_up", "1 while the agency's own system takes documents.", ["way"])
        self.restarts = counter("gateway_agent_consumer_restarts", "Consumers that had died and were made anew.")
        self.reports = counter("gateway_agent_reports", "Outcomes told to the gateway, by its answer.", ["outcome"])
        self.unreported = gauge("gateway_agent_unreported", "Outcomes that the gateway was not told yet.")
        self.unreported_oldest = gauge(
            "gateway_agent_unreported_oldest_seconds", "For how long the oldest of them could not be told."
        )
        self.unlooked = gauge("gateway_agent_unlooked_records", "Refused records that nobody has looked at yet.")
        self.unknown = gauge("gateway_agent_unknown", "Documents whose outcome a person must settle.")
        self.refused_reports = gauge("gateway_agent_refused_reports", "Outcomes that the gateway will never take.")
        self.gaps = gauge("gateway_agent_gaps", "Partitions of which records went unread.")
        self.gateway = gauge("gateway_agent_gateway_up", "1 while the gateway answers.")
        self.kafka = gauge("gateway_agent_kafka_up", "1 while the cluster can be reached.")
        self.memory = gauge("gateway_agent_memory_up", "1 while the agent's own database can be written.")
        self.down: set[str] = set()
        """Ways whose system takes nothing now."""
        self.why: dict[int, str] = {}
        """Partitions that wait."""
        self._services: set[str] = set()
        for outcome in REPORTS:
            self.reports.labels(outcome)  # from 0 on: of a series that begins with 1, a rate does not see the first
        for why in Why:
            self.refused_records.labels(why)

    def handed_over(self, service: str, outcome: str, seconds: float) -> None:
        """See ``ports.Meters``."""
        if service not in self._services and len(self._services) >= MAX_SERVICES:
            service = OTHER
        self._services.add(service)
        self.handovers.labels(service, outcome).inc()
        self.duration.labels(service).observe(seconds)

    def duplicate(self) -> None:
        """See ``ports.Meters``."""
        self.duplicates.inc()

    def refused(self, why: str) -> None:
        """See ``ports.Meters``."""
        self.refused_records.labels(why).inc()

    def lag(self, partition: int, records: int, age: float) -> None:
        """See ``ports.Meters``."""
        self.lag_records.labels(partition).set(records)
        self.lag_seconds.labels(partition).set(age)

    def assigned(self, partitions: Sequence[int]) -> None:
        """See ``ports.Meters``."""
        self.partitions.set(len(partitions))
        for each in (self.lag_records, self.lag_seconds, self.waiting):
            each.clear()
        self.why = {each: why for each, why in self.why.items() if each in partitions}
        for partition, why in self.why.items():
            self.waiting.labels(partition, why).set(1)

    def rebalanced(self) -> None:
        """See ``ports.Meters``."""
        self.rebalances.inc()

    def paused(self, partition: int, why: str | None) -> None:
        """See ``ports.Meters``."""
        before = self.why.pop(partition, None)
        if before is not None and before != why:
            self.waiting.remove(partition, before)
        if why is not None:
            self.why[partition] = why
            self.waiting.labels(partition, why).set(1)

    def system(self, way: str, *, up: bool) -> None:
        """See ``ports.Meters``."""
        self.systems.labels(way).set(up)
        (self.down.discard if up else self.down.add)(way)

    def restarted(self) -> None:
        """See ``ports.Meters``."""
        self.restarts.inc()

    def told(self, outcome: str) -> None:
        """The gateway answered a report, or did not."""
        self.reports.labels(outcome).inc()

    def show(self, counts: Counts | None, **up: bool) -> None:
        """Before each scrape; ``counts`` None: they could not be had."""
        self.memory.set(counts is not None)
        if counts is not None:
            self.unreported.set(counts.unreported)
            self.unknown.set(counts.unsettled)
            self.unlooked.set(counts.foreign)
            self.refused_reports.set(counts.refused_reports)
            self.gaps.set(counts.gaps)
        gauges: dict[str, Any] = {"gateway": self.gateway, "kafka": self.kafka}
        for name, value in up.items():
            gauges[name].set(value)
