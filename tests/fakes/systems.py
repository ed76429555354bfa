"""Agencies' systems as the gateway meets them on the network: one that behaves, and one that does anything but."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from gateway.core.model import AgencyId, Endpoint, ServiceId, Standing, SystemId
from gateway.protocols.protocol import MAX_ANSWER_BYTES, Call

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived."""

    method: str
    target: str
    """Path and query, percent-encoded as they came."""
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class System:
    """A server on a port of the loopback interface."""

    url: str
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """A connection has come to its end, on whichever side."""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    """A request has come in."""

    def note(self, seen: Seen) -> None:
        self.seen.append(seen)
        self.reached.set()


Answering = Callable[[Seen], Awaitable[web.Response]]


@asynccontextmanager
async def well_behaved(answering: Answering, tls: ssl.SSLContext | None = None) -> AsyncIterator[System]:
    """An HTTP server that answers each request as it is told to."""
    system = System("")

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen = Seen(request.method, request.raw_path, request.headers, await request.read())
        system.note(seen)
        return await answering(seen)

    runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    system.url = f"{'https' if tls else 'http'}://localhost:{runner.addresses[0][1]}"
    try:
        yield system
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class Line:
    """What a hostile system holds in its hand: one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    system: System

    async def request(self) -> Seen:
        """The next request on it; IncompleteReadError when the gateway hung up."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        method, target, _ = first.split(" ")
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        seen = Seen(method, target, headers, body)
        self.system.note(seen)
        return seen

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hung_up(self) -> None:
        """Wait until the gateway lets go."""
        await self.reader.read()


Behaviour = Callable[[Line], Awaitable[None]]


@asynccontextmanager
async def hostile(
    behaviour: Behaviour, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[System]:
    """A raw server: each connection is handed to the behaviour, and closed when that ends."""
    system = System("")
    going: set[asyncio.Task[None] | None] = set()  # what waits for ever would be collected as garbage otherwise

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        system.connections += 1
        going.add(asyncio.current_task())
        try:
            await behaviour(Line(reader, writer, system))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            system.ended.set()

    server = await asyncio.start_server(connected, host, 0, ssl=tls)
    name = "localhost" if tls else f"[{host}]" if ":" in host else host
    system.url = f"{'https' if tls else 'http'}://{name}:{server.sockets[0].getsockname()[1]}"
    try:
        yield system
    finally:
        server.close()


async def hangs_up_at_once(line: Line) -> None:
    """Accepts and closes, without reading."""
    line.writer.close()


async def resets(line: Line) -> None:
    """Reads the request, then breaks the connection off."""
    await line.request()
    line.writer.transport.abort()


async def never_answers(line: Line) -> None:
    await line.request()
    await line.hung_up()


async def talks_garbage(line: Line) -> None:
    await line.request()
    await line.say(b"\x16\x03\x01 this is no HTTP at all\r\n\r\n")
    await line.hung_up()


async def answers_half(line: Line) -> None:
    await line.request()
    await line.say(OK + b'Content-Length: 100\r\n\r\n{"half": ')


async def announces_too_much(line: Line) -> None:
    await line.request()
    await line.say(OK + b"Content-Length: 10000000000\r\n\r\n" + b"x" * 5000)
    await line.hung_up()


async def never_stops(line: Line) -> None:
    """Chunk after chunk, as fast as they are taken."""
    await line.request()
    await line.say(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        await line.say(b"1000\r\n" + b"x" * 4096 + b"\r\n")


async def drips(line: Line) -> None:
    """A byte now and then: never silent, never done."""
    await line.request()
    await line.say(OK + b"Content-Length: 1000\r\n\r\n")
    while True:
        await line.say(b" ")
        await asyncio.sleep(0.01)


async def only_ever_continues(line: Line) -> None:
    await line.request()
    while True:
        await line.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0.01)


async def switches_protocols(line: Line) -> None:
    await line.request()
    await line.say(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nbytes")
    await line.hung_up()


async def endless_header(line: Line) -> None:
    await line.request()
    await line.say(OK + b"X: " + b"x" * 100_000)
    await line.hung_up()


async def echoes(line: Line) -> None:
    """What a good system does, on connections that can be counted."""
    while True:
        seen = await line.request()
        await line.say(OK + b"Content-Length: %d\r\n\r\n" % len(seen.body) + seen.body)


async def echoes_twice_at_once(line: Line) -> None:
    while True:
        seen = await line.request()
        await line.say((OK + b"Content-Length: %d\r\n\r\n" % len(seen.body) + seen.body) * 2)


async def echoes_byte_by_byte(line: Line) -> None:
    seen = await line.request()
    for byte in OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(seen.body) + seen.body + b"\r\n0\r\n\r\n":
        await line.say(bytes((byte,)))
        await asyncio.sleep(0)


async def echoes_and_hangs_up(line: Line) -> None:
    """Without having said so."""
    seen = await line.request()
    await line.say(OK + b"Content-Length: %d\r\n\r\n" % len(seen.body) + seen.body)


async def refuses_early(line: Line) -> None:
    """Answers at the first byte of a request, and reads no more of it."""
    await line.reader.read(1)
    await line.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    await asyncio.Event().wait()


async def reads_nothing(line: Line) -> None:
    line.writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's transport is both ways
    line.system.reached.set()
    await asyncio.Event().wait()


async def ends_with_the_stream(line: Line) -> None:
    """Neither length nor chunks: the end says that it is the end."""
    await line.request()
    await line.say(OK + b"\r\n12")


async def is_cut_off(line: Line) -> None:
    """The same, but somebody on the way breaks it off after the first digit."""
    await line.request()
    await line.say(OK + b"\r\n1")
    line.writer.transport.abort()


async def answers_once(line: Line) -> None:
    """Answers, keeps the connection, and hangs up on the second request of it, unanswered."""
    await line.request()
    await line.say(OK + b"Content-Length: 2\r\n\r\n{}")
    await line.request()


def answers_twice(again: asyncio.Event) -> Behaviour:
    """Answers what was asked and, when the event is set, sends an answer that nobody asked for."""

    async def behaviour(line: Line) -> None:
        while True:
            seen = await line.request()
            await line.say(OK + b"Content-Length: %d\r\n\r\n" % len(seen.body) + seen.body)
            await again.wait()
            await line.say(OK + b"Content-Length: 5\r\n\r\n" + b'"old"')

    return behaviour


def endpoint(protocol: str, **options: object) -> Endpoint:
    """The population register of the interior ministry, by some protocol."""
    return Endpoint(
        provider=AgencyId("interior"),
        service=ServiceId("population.person_lookup.v1"),
        protocol=protocol,
        options=options,
        deadline=5.0,
        concurrency=20,
        report_until=None,
        takes_key=False,
        standing=Standing.ACTIVE,
        maintenance=(),
    )


def call(ask: str, **more: object) -> Call:
    """The local tax system asks; ``ask`` says how the registry below is to answer."""
    value = {"ask": ask, "id": "12/34", **more}
    return Call(
        exchange="01JABC",
        service=ServiceId("population.person_lookup.v1"),
        consumer=SystemId("finance.local_tax"),
        purpose="tax_assessment",
        case=None,
        value=value,
        raw=orjson.dumps(value),
        idempotency_key=None,
        traceparent="00-1-2-01",
        seconds=5.0,
    )


async def registry(seen: Seen) -> web.Response:
    """An HTTP system that answers as it is asked to; its error bodies hold a name."""
    ask = orjson.loads(seen.body)["ask"] if seen.body else None
    if ask == "slow":
        await asyncio.Event().wait()
    made: Mapping[str | None, web.Response] = {
        "not_found": web.Response(status=404, text="Sok Dara"),
        "later": web.Response(status=503, text="Sok Dara", headers={"Retry-After": "7"}),
        "broken": web.Response(status=500, text="Sok Dara"),
        "no_json": web.Response(text="Sok Dara", content_type="application/json"),
        "huge": web.json_response("x" * MAX_ANSWER_BYTES),
        "big_number": web.json_response(2**60),
    }
    return made.get(ask) or web.json_response({"found": ask})


REGISTRY = """
import asyncio
from dataclasses import dataclass
from gateway.adapter import Adapter, Broken, NotFound, Request, TryLater

SECRET = "Sok Dara"

@dataclass
class Found:
    found: str

class Registry(Adapter):
    async def answer(self, request: Request) -> object:
        ask = request.body.pop("ask")
        match ask:
            case "not_found": raise NotFound
            case "later": raise TryLater(7)
            case "soon": raise TryLater
            case "broken": raise Broken(SECRET)
            case "bug": raise KeyError(SECRET)
            case "own_timeout": raise TimeoutError(SECRET)
            case "exit": raise SystemExit(SECRET)
            case "own_cancel": raise asyncio.CancelledError
            case "slow": await asyncio.Event().wait()
            case "no_json": return object()
            case "huge": return "x" * 1_048_576
            case "big_number": return 2 ** 60
            case "seen": return {"seen": [request.exchange, request.service, request.consumer, request.purpose,
                                          request.case, request.idempotency_key]}
        return Found(ask)

class Failing(Adapter):
    def __init__(self) -> None:
        raise OSError(SECRET)

class Unclosable(Adapter):
    async def close(self) -> None:
        raise RuntimeError

class Other: ...
"""
"""The same as an adapter, and classes that are none or fail."""
