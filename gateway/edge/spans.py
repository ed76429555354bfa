"""Spans of exchanges and token requests, sent to a collector by OpenTelemetry's SDK (OTLP over HTTP).

A span says when, how long, between whom and with which outcome: names of the catalogue and of the program, and never
anything of a body, a case, a user, a token or an exception's text. ``tracing`` loads this module.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import requests
import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from gateway import __version__
from gateway.core.exchange import trace
from gateway.core.limits import Bucket, draw, full
from gateway.core.model import Rate
from gateway.edge.tracing import PROVIDER, Losses, Untraced
from gateway.edge.tracing import Span as Noted

MAX_TRACES = 200
"""Requests of one system in a second that become spans; all whose identity is not proven are one system here."""
MAX_SPANS = 2048
"""Spans that wait for the collector."""
FLUSH_SECONDS = 2.0
"""What a stop gives the spans that wait."""
TELLING_SECONDS = 60.0
"""From one log line about lost spans to the next of the same reason."""

_SHARE = Rate(MAX_TRACES, 1.0)
RANDOM = RandomIdGenerator()

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Noted:
    """A span that is not made yet: most that a caller asks for beyond its share never are."""

    name: str
    id: int
    kind: SpanKind
    said: Mapping[str, str | int]
    begun: int
    """Nanoseconds since 1970."""
    ended: int
    failed: bool


class Recording:
    """The tracer that keeps spans and has them sent by a thread of the SDK."""

    def __init__(self, instance: str, losses: Losses) -> None:
        """Raises ValueError where the SDK's variables are wrong."""
        for library in ("opentelemetry", "urllib3"):  # their lines quote addresses, headers and a collector's words
            logging.getLogger(library).setLevel(logging.CRITICAL + 1)
        ours = Resource.create({"service.name": "exchange-gateway", "service.version": __version__})
        own = Resource({"gateway.instance": instance})
        self._lost = _Lost(losses)
        self._exporter = _Exporter(self._lost.at_the_collector)
        self._ids = _Ids()
        # the resource's variables count more than what we call ourselves
        resource = ours.merge(own).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter, max_queue_size=MAX_SPANS))
        self._sdk = self._provider.get_tracer("gateway", __version__)
        self._given = 0
        self._shares: dict[str | None, Bucket] = {}

    def begin(self, route: str, theirs: str | None, _exchange: str, /) -> Noted:
        # A trace of our own gets a random id and not the exchange's: samplers by ratio look at its last 64 bits.
        followed = trace(theirs)
        number = int(followed, 16) if followed else RANDOM.generate_trace_id()
        parent = _parent(number, theirs) if theirs and followed else Context()
        decided = self._provider.sampler.should_sample(parent, number, route, SpanKind.SERVER)
        if decided.decision is not Decision.RECORD_AND_SAMPLE:
            return Untraced(_written(number, RANDOM.generate_span_id(), 0))
        return _Request(self, route, number, parent)

    def keep(self, whose: str | None, number: int, parent: Context, noted: Sequence[_Noted]) -> None:
        """Have the spans of one request sent, all or none, where its system has a share left and they have room.

        The first is the request's own, the others are its parts.
        """
        now = time.monotonic()
        self._shares[whose], wait = draw(self._shares.get(whose, full(_SHARE, now)), _SHARE, now)
        if wait:
            self._lost.note("share", len(noted))
        elif self._given - self._exporter.taken + len(noted) > MAX_SPANS:
            self._lost.note("queue", len(noted))
        else:
            self._given += len(noted)
            self._ids.trace = number
            for each in noted:
                span = self._made(each, parent)
                if each is noted[0]:
                    parent = set_span_in_context(span, Context())

    def _made(self, noted: _Noted, parent: Context) -> Span:
        self._ids.span = noted.id
        span = self._sdk.start_span(
            noted.name, context=parent, kind=noted.kind, attributes=noted.said, start_time=noted.begun
        )
        if noted.failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end(noted.ended)
        return span

    async def close(self) -> None:
        """Send what waits; a collector that does not take it within FLUSH_SECONDS gets it no more."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(sent.set)

        # no pool's thread: those are waited for without a bound when the program ends
        threading.Thread(target=send, name="last spans", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(sent.wait(), FLUSH_SECONDS)
        self._exporter.shutdown()


class _Ids(IdGenerator):
    """Gives a span the ids that were told to the provider and to the caller while it was only noted."""

    trace = span = 0

    def generate_trace_id(self) -> int:
        return self.trace

    def generate_span_id(self) -> int:
        return self.span


class _Request:
    """One request that is noted. Its spans are made when it is answered."""

    __slots__ = ("_begun", "_id", "_parent", "_parts", "_recording", "_route", "_trace", "_wall", "traceparent")

    def __init__(self, recording: Recording, route: str, number: int, parent: Context) -> None:
        self._recording = recording
        self._route = route
        self._trace = number
        self._parent = parent
        self._id = RANDOM.generate_span_id()
        self._parts: list[_Noted] = []
        self._wall = time.time_ns() - time.monotonic_ns()
        self._begun = self.now()
        self.traceparent = self.written(self._id)

    @property
    def sampled(self) -> bool:
        return True

    def now(self) -> int:
        """Nanoseconds since 1970, on a clock that nobody sets while the request runs."""
        return self._wall + time.monotonic_ns()

    def written(self, span: int) -> str:
        """The ``traceparent`` under a span of this request."""
        return _written(self._trace, span, TraceFlags.SAMPLED)

    def part(self, name: str, /, **said: str) -> "_Part":
        return _Part(self, name, said)

    def over(self, part: _Noted) -> None:
        """A part has ended."""
        self._parts.append(part)

    def end(self, status: int, /, **said: str | None) -> None:
        about = _named(said) | {"http.request.method": self._route.partition(" ")[0]}
        about["http.route"] = self._route.partition(" ")[2]
        about["http.response.status_code"] = status
        failed = status >= 500  # what the caller did wrong is no error of the server
        if failed:
            about["error.type"] = said.get("outcome") or str(status)
        own = _Noted(
            name=self._route,
            id=self._id,
            kind=SpanKind.SERVER,
            said=about,
            begun=self._begun,
            ended=self.now(),
            failed=failed,
        )
        self._recording.keep(said.get("consumer"), self._trace, self._parent, (own, *self._parts))


class _Part:
    __slots__ = ("_begun", "_id", "_name", "_of", "_said")

    def __init__(self, of: _Request, name: str, said: Mapping[str, str]) -> None:
        self._of = of
        self._name = name
        self._said = said
        self._id = RANDOM.generate_span_id()
        self._begun = of.now()

    def __enter__(self) -> str:
        return self._of.written(self._id)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        said = _named(self._said)
        if kind is not None:
            code = getattr(error, "code", None)
            said["error.type"] = code if isinstance(code, str) else kind.__name__
        self._of.over(
            _Noted(
                name=self._name,
                id=self._id,
                kind=SpanKind.CLIENT if self._name == PROVIDER else SpanKind.INTERNAL,
                said=said,
                begun=self._begun,
                ended=self._of.now(),
                failed=kind is not None,
            )
        )


class _Session(requests.Session):
    """How the collector is spoken to: without proxies and passwords of the environment. What it answers is not read."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.said = "nothing"
        """What became of the last attempt: a status, or the name of what went wrong."""
        self.took = False

    def request(self, *args: Any, **options: Any) -> requests.Response:
        self.took = False
        try:
            response = super().request(*args, **{**options, "stream": True})
        except Exception as error:
            self.said = type(error).__name__
            raise
        response.close()
        self.said = f"HTTP status {response.status_code}"
        self.took = response.ok and not response.is_redirect
        return response


class _Exporter(SpanExporter):
    """The SDK's exporter, and how many spans it took and lost."""

    def __init__(self, lost: Callable[[int, str], None]) -> None:
        self._lost = lost
        self._session = _Session()
        self._inner: SpanExporter = OTLPSpanExporter(session=self._session)
        self._shut = False
        self.taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = self._inner.export(spans)
        if result is not SpanExportResult.SUCCESS or not self._session.took:
            self._lost(len(spans), self._session.said)
        return result

    def shutdown(self) -> None:
        if not self._shut:
            self._shut = True
            self._inner.shutdown()


class _Lost:
    """Counts what is lost, and says so now and then."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._loop = asyncio.get_running_loop()
        self._untold: Counter[str] = Counter()
        self._told: dict[str, float] = {}

    def at_the_collector(self, count: int, said: str) -> None:
        """In the SDK's thread: log lines are written by the loop's alone."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.note, "export", count, said)

    def note(self, why: str, count: int, said: str | None = None) -> None:
        self._losses.spans_dropped(why, count)
        self._untold[why] += count
        now = self._loop.time()
        if now - self._told.get(why, -TELLING_SECONDS) >= TELLING_SECONDS:
            self._told[why] = now
            log.warning("spans_dropped", why=why, count=self._untold.pop(why), collector=said)


def _parent(number: int, theirs: str) -> Context:
    """The caller's span. Its ``tracestate`` is neither kept nor passed on: anything may stand there."""
    flags = TraceFlags(int(theirs[53:55], 16) & TraceFlags.SAMPLED)
    parent = SpanContext(number, int(theirs[36:52], 16), is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _written(number: int, span: int, flags: int) -> str:
    return f"00-{number:032x}-{span:016x}-{flags:02x}"


def _named(said: Mapping[str, str | None]) -> dict[str, str | int]:
    return {f"gateway.{name}": value for name, value in said.items() if value is not None}
