"""A collector of traces: takes OTLP over HTTP as protobuf, as a real one does, keeps the spans, or misbehaves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Wire

Reaction = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Kept:
    """A span as it arrived."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    state: str
    """Its ``tracestate``."""
    attributes: Mapping[str, object]
    error: bool
    words: str
    """Of its status."""
    events: int
    begun: int
    ended: int


async def takes(_: web.BaseRequest) -> web.StreamResponse:
    """Be content."""
    return web.Response(body=b"", content_type="application/x-protobuf")


async def silent(_: web.BaseRequest) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


def says(status: int, body: bytes = b"", **headers: str) -> Reaction:
    """Answer that."""

    async def react(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return react


class Collector:
    """What a test asks and tells it."""

    def __init__(self) -> None:
        self.url = ""
        self.react: Reaction = takes
        self.spans: list[Kept] = []
        self.raw: list[bytes] = []
        """Bodies as they came."""
        self.resource: Mapping[str, object] = {}
        """Of the last request."""
        self.asked = 0
        self._came = asyncio.Condition()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Keep what came, and answer as told."""
        body = await request.read()
        told = ExportTraceServiceRequest.FromString(body)
        async with self._came:
            self.asked += 1
            self.raw.append(body)
            for group in told.resource_spans:
                self.resource = _plain(group.resource.attributes)
                self.spans += [_kept(span) for scope in group.scope_spans for span in scope.spans]
            self._came.notify_all()
        return await self.react(request)

    async def until(self, holds: Callable[["Collector"], object]) -> None:
        """Wait until it holds, for half a minute at most."""
        async with asyncio.timeout(30), self._came:
            await self._came.wait_for(lambda: bool(holds(self)))

    def named(self, name: str) -> list[Kept]:
        """The spans of that name, in the order of their begin."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.begun)


def _plain(attributes: "list[KeyValue]") -> dict[str, object]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value") for each in attributes}


def _kept(span: Wire) -> Kept:
    return Kept(
        name=span.name,
        kind=Wire.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        state=span.trace_state,
        attributes=_plain(list(span.attributes)),
        error=span.status.code == span.status.STATUS_CODE_ERROR,
        words=span.status.message,
        events=len(span.events) + len(span.links),
        begun=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
    )


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector that listens."""
    collector = Collector()
    runner = web.ServerRunner(web.Server(collector.handle, access_log=None), shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()
