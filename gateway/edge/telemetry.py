"""What operators see: Prometheus metrics with bounded labels, and one JSON log line for each exchange.

No metric, label or line carries anything of a body, a case, a user or a key.
"""

import asyncio
import atexit
import logging
import sys
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, BinaryIO

import orjson
import structlog
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
from gateway.core.refusal import TABLE

log = structlog.get_logger()

UNKNOWN = "unknown"
"""The one label value for every name that the catalogue does not know."""
TOKENS = ("issued", "invalid_client", "invalid_request", "invalid_scope", "too_many", "temporarily_unavailable")
"""What becomes of most token requests."""
RELOADS = ("taken", "kept_part", "failed", "unchanged")
"""What becomes of changed folders."""
PRODUCERS = ("lost", "fatal", "failed", "refused", "topic", "stale", "changed")
"""Why a Kafka producer was given up."""
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SLOW = 1.0
"""Seconds from which on an exchange is an exemplar of its bucket, traced or not."""
ARRIVALS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 28800.0, 86400.0, 604800.0)
"""Seconds that documents are under way: those of a mailbox wait for office hours."""
ALARMING = ("disputed", "expired", "overdue", "undeliverable")
"""Steps of documents of which somebody is told."""
BYTES = (256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0)


@dataclass(frozen=True, slots=True)
class Series:
    """What is observed of each exchange of one endpoint."""

    duration: Histogram
    own: Histogram
    provider: Histogram
    request: Histogram
    response: Histogram


class Meters:
    """Every metric of this process, in a registry of its own."""

    def __init__(self) -> None:
        # Prometheus would store them: a second series for each counter and histogram
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library's own lack
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        made: dict[str, Any] = {"registry": self.registry}
        self.exchanges = Counter(
            "gateway_exchanges",
            "Exchanges of identified systems, by outcome: answered, replayed, or the refusal's code.",
            ["consumer", "provider", "service", "outcome"],
            **made,
        )
        self.refusals = Counter(
            "gateway_refusals", "Refusals and faults, by code, also before identity.", ["code"], **made
        )
        where = ["provider", "service"]
        self.duration = Histogram(
            "gateway_exchange_duration_seconds", "From the head to the answer.", where, buckets=SECONDS, **made
        )
        self.own = Histogram(
            "gateway_exchange_own_duration_seconds", "The same without the provider.", where, buckets=SECONDS, **made
        )
        self.provider = Histogram(
            "gateway_exchange_provider_duration_seconds", "Waiting for the provider.", where, buckets=SECONDS, **made
        )
        self.bytes = Histogram("gateway_body_bytes", "Sizes of bodies.", [*where, "direction"], buckets=BYTES, **made)
        self.deviations = Counter(
            "gateway_answer_deviations",
            "Answers that broke their schema, released or withheld.",
            [*where, "mode"],
            **made,
        )
        self._of_documents(made)
        self._of_kafka(made)
        self.in_progress = Gauge("gateway_exchanges_in_progress", "Exchanges being worked on.", **made)
        self.commit = Histogram("gateway_journal_commit_seconds", "A durable batch.", buckets=SECONDS, **made)
        self.entries = Counter("gateway_journal_entries", "Entries written.", **made)
        self.tokens = Counter("gateway_tokens", "Answers of the token endpoint.", ["outcome"], **made)
        self.jwks = Counter("gateway_jwks_fetches", "Fetches of other parties' keys.", ["outcome"], **made)
        self.breakers = Gauge(
            "gateway_breaker_open", "1 while calls are held back, 0.5 while one probes.", where, **made
        )
        self.quota = Gauge(
            "gateway_quota_leased_ratio", "Of a day's quota, what was handed out.", ["agreement", "consumer"], **made
        )
        self.unsettled = Counter("gateway_writes_unsettled", "Writes whose outcome is not known.", **made)
        self.deadline = Gauge(
            "gateway_endpoint_deadline_seconds", "What the endpoint's folder gives it to answer.", where, **made
        )
        self.clock = Gauge("gateway_clock_timestamp_seconds", "This machine's clock at the scrape.", **made)
        self.catalogue = Gauge("gateway_catalogue_info", "The catalogue in use.", ["digest"], **made)
        self.reloads = Counter(
            "gateway_catalogue_reloads", "Changed folders, by what became of it.", ["outcome"], **made
        )
        self.kept = Gauge(
            "gateway_catalogue_kept", "1 for what runs on an older version than its files.", ["folder"], **made
        )
        self.catalogue_loaded = Gauge(
            "gateway_catalogue_loaded_timestamp_seconds", "When it was taken into use.", **made
        )
        self.build = Gauge("gateway_build_info", "The program.", ["version"], **made)
        self.build.labels(__version__).set(1)
        self.spans = Counter("gateway_spans_dropped", "Spans that were made and not delivered.", ["why"], **made)
        self.waiting = Gauge("gateway_journal_waiting", "Works that wait for a journal batch.", **made)
        self.failing = Gauge("gateway_journal_failing", "1 while the journal cannot be written.", **made)
        self.suspensions = Gauge("gateway_suspensions", "What operators suspended, by kind.", ["kind"], **made)
        self.suspensions_late = Gauge("gateway_suspensions_late", "1 while nobody knows what is suspended.", **made)
        self.connections = Gauge("gateway_connections", "Connections held on the public listener.", **made)
        self.connections_refused = Counter(
            "gateway_connections_refused", "Connections that found no room.", ["reason"], **made
        )
        self.connections_cut = Counter(
            "gateway_connections_cut", "Connections ended because nothing came or was read.", ["reason"], **made
        )
        self.certificate = Gauge(
            "gateway_certificate_expiry_timestamp_seconds", "When what is served expires.", ["listener"], **made
        )
        from_nothing = (
            (self.refusals, TABLE),
            (self.tokens, TOKENS),
            (self.jwks, ("fetched", "failed")),
            (self.reloads, RELOADS),
            (self.connections_refused, ("full", "address", "descriptors")),
            (self.connections_cut, ("handshake", "head", "unread")),
            (self.attachment_bytes, ("upload", "download")),
            (self.kafka_restarts, PRODUCERS),
        )
        for counter, values in from_nothing:
            for value in values:
                counter.labels(value)  # from 0 on: of a series that begins with 1, a rate does not see the first
        # .labels() takes longer than the observation itself; the label sets are bounded by the catalogue
        self.series: Callable[[str, str], Series] = lru_cache(maxsize=20_000)(self._series)
        self.child: Callable[..., Any] = lru_cache(maxsize=20_000)(lambda metric, *labels: metric.labels(*labels))

    def _of_documents(self, made: dict[str, Any]) -> None:
        """Documents, events, and the files that go with them."""
        self.documents = Counter(
            "gateway_documents", "Documents and events, by what happened to them.", ["service", "step"], **made
        )
        to = ["recipient", "protocol", "outcome"]
        self.deliveries = Counter("gateway_delivery_attempts", "Attempts to hand something over.", to, **made)
        self.handovers = Histogram(
            "gateway_handover_duration_seconds", "Handing one over.", ["protocol"], buckets=SECONDS, **made
        )
        self.arrivals = Histogram(
            "gateway_documents_arrival_seconds", "Until it had arrived.", ["protocol"], buckets=ARRIVALS, **made
        )
        where = ["recipient", "way"]
        self.documents_waiting = Gauge("gateway_documents_waiting", "Open deliveries, as counted last.", where, **made)
        self.documents_bound = Gauge("gateway_documents_bound_ratio", "The same, of what may wait.", where, **made)
        self.documents_oldest = Gauge(
            "gateway_documents_oldest_seconds", "Age of the oldest of them.", ["recipient"], **made
        )
        self.documents_due = Gauge(
            "gateway_documents_due_seconds", "For how long something could have been handed over.", where, **made
        )
        self.undeliverable = Gauge(
            "gateway_documents_undeliverable", "Not delivered, and not requeued.", ["recipient"], **made
        )
        self.approvals = Gauge("gateway_approvals_waiting", "Held for a second person.", ["agency"], **made)
        self.approvals_oldest = Gauge("gateway_approvals_oldest_seconds", "Age of the oldest.", ["agency"], **made)
        self.documents_faults = Gauge("gateway_documents_faults", "What the last self-check found.", **made)
        self.documents_failing = Gauge("gateway_documents_failing", "1 while documents cannot be written.", **made)
        self.gates = Gauge("gateway_gates_closed", "1 for each way that is left alone.", [*where, "why"], **made)
        self.dispatch_looked = Gauge(
            "gateway_dispatch_look_timestamp_seconds", "When it was last looked for what is due.", **made
        )
        self.inbox = Counter(
            "gateway_inbox_outcomes", "What recipients said of documents.", ["recipient", "outcome"], **made
        )
        self.attachments = Counter(
            "gateway_attachments", "Files taken in and given out.", ["direction", "outcome"], **made
        )
        self.attachment_bytes = Counter("gateway_attachment_bytes", "Their bytes.", ["direction"], **made)
        self.attachments_failing = Gauge("gateway_attachments_failing", "1 while their store fails.", **made)

    def _of_kafka(self, made: dict[str, Any]) -> None:
        """The cluster on which documents are put for agencies that read it."""
        self.kafka_up = Gauge("gateway_kafka_up", "0 while the Kafka cluster cannot be reached.", **made)
        self.kafka_up.set(1)
        self.kafka_handover = Histogram(
            "gateway_kafka_handover_seconds", "Until all replicas had it.", buckets=SECONDS, **made
        )
        self.kafka_errors = Counter(
            "gateway_kafka_errors",
            "Records that were not acknowledged, by what failed.",
            ["recipient", "error"],
            **made,
        )
        self.kafka_restarts = Counter(
            "gateway_kafka_producer_restarts", "Producers that were given up, by why.", ["why"], **made
        )
        self.kafka_records = Gauge("gateway_kafka_in_flight_records", "Records that are not acknowledged.", **made)
        self.kafka_bytes = Gauge("gateway_kafka_in_flight_bytes", "Their bytes.", **made)

    def _series(self, provider: str, service: str) -> Series:
        where = (provider, service)
        return Series(
            duration=self.duration.labels(*where),
            own=self.own.labels(*where),
            provider=self.provider.labels(*where),
            request=self.bytes.labels(*where, "request"),
            response=self.bytes.labels(*where, "response"),
        )

    def committed(self, seconds: float, entries: int) -> None:
        """A journal batch is durable."""
        self.commit.observe(seconds)
        self.entries.inc(entries)

    def delivery(self, recipient: str, protocol: str, outcome: str) -> None:
        """Something was handed over, or was to be."""
        self.child(self.deliveries, recipient, protocol, outcome).inc()

    def arrived(self, protocol: str, seconds: float) -> None:
        """So long after it was sent on its way; of a mailbox, when it was first fetched."""
        self.child(self.arrivals, protocol).observe(max(0.0, seconds))

    def expect(self, services: Iterable[str]) -> None:
        """Documents of these may be sent: their alarming steps are counted from 0 on, as above."""
        for service in services:
            for step in ALARMING:
                self.child(self.documents, service, step)

    def handed_over(self, protocol: str, seconds: float) -> None:
        """A recipient's system had it in hand for so long, whatever it made of it."""
        self.child(self.handovers, protocol).observe(seconds)

    def token(self, outcome: str) -> None:
        """The token endpoint answered."""
        self.child(self.tokens, outcome).inc()

    def spans_dropped(self, why: str, count: int) -> None:
        """Spans did not reach the collector."""
        self.child(self.spans, why).inc(count)

    def keys(self, address: str, outcome: str) -> None:
        """Somebody's JWKS was fetched; or not, and ``outcome`` says why."""
        fetched = outcome == "fetched"
        self.child(self.jwks, "fetched" if fetched else "failed").inc()
        if not fetched:
            log.warning("jwks_not_fetched", address=address, why=outcome)


def exemplar(took: float, exchange: str, trace: str, *, sampled: bool) -> dict[str, str] | None:
    """What an observation points to; OpenMetrics takes 128 characters, names included, and this is 84."""
    return {"trace_id": trace, "exchange": exchange} if sampled or took >= SLOW else None


def place(error: Exception) -> dict[str, str]:
    """Where the gateway's own code broke: type and line. Never the message, which may quote values."""
    step = error.__traceback__
    while step and step.tb_next:
        step = step.tb_next
    at = f"{step.tb_frame.f_code.co_name}:{step.tb_lineno}" if step else "unknown"
    return {"error": type(error).__name__, "place": at}


class _Wordless(logging.Filter):
    """A library's record without its traceback and arguments: they quote what a client sent, tokens included."""

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else "no exception"
        record.msg, record.args, record.exc_info, record.exc_text = f"a request broke off: {kind}", (), None, None
        return True


class _Lines:
    """Log lines on their way out: gathered for a moment where a loop runs, so that a line costs no system call."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._waiting: list[bytes] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        """Where a flush is under way."""

    def msg(self, line: bytes) -> None:
        """Take one line."""
        self._waiting.append(line)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        if loop is not self._loop:
            self._loop = loop
            loop.call_later(GATHERING, self.flush)

    debug = info = warning = error = critical = msg

    def flush(self) -> None:
        """Write what waits, as whole lines that fit into one piece: what another process writes stands between two."""
        lines, self._waiting, self._loop = self._waiting, [], None
        piece: list[bytes] = []
        size = 0
        for line in lines:
            if size + len(line) + 1 > PIECE:
                self._write(piece)
                piece, size = [], 0
            piece.append(line)
            size += len(line) + 1
        self._write(piece)

    def _write(self, lines: list[bytes]) -> None:
        if lines:
            self._out.write(b"\n".join(lines) + b"\n")
            self._out.flush()


PIECE = 4096
"""Bytes that a pipe takes without another process's between them (PIPE_BUF, pipe(7)); a longer line goes alone."""
GATHERING = 0.05
"""Seconds that a log line may wait. What must not be lost stands in the journal."""


def _line(_logger: object, level: str, event: MutableMapping[str, Any]) -> bytes:
    """One line: what structlog's own three processors would make of it, in one step."""
    event["level"] = level
    event["timestamp"] = datetime.now(UTC).isoformat(timespec="microseconds")
    return orjson.dumps(event)


def _of(worker: int) -> structlog.typing.Processor:
    """Says in each line which of several workers wrote it."""

    def numbered(_logger: object, _level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["worker"] = worker
        return event

    return numbered


def configure_logging(level: str = "INFO", worker: int | None = None) -> None:
    """JSON lines on standard output, by structlog; the libraries' own warnings go to standard error.

    ``worker`` is this process's number, where several write to one output.
    """
    lines = _Lines(sys.stdout.buffer)
    atexit.register(lines.flush)
    structlog.configure(
        processors=[_line] if worker is None else [_of(worker), _line],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s", force=True
    )
    logging.getLogger("aiohttp.server").addFilter(_Wordless())
