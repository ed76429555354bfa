"""A listener with a small application, and callers that say to it whatever the test wants, byte by byte."""

import asyncio
import contextlib
import re
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from gateway.core.refusal import Refusal
from gateway.edge import body, problem
from gateway.edge.doorkeeper import Bounds, Watch
from gateway.edge.listener import Listener, bound

STATUS = re.compile(rb"^HTTP/[01]\.[0-9] (\d{3})", re.MULTILINE)
MOST = 1_000_000
"""Bytes of the large answer: more than every buffer on the way holds of a dozen of them."""


SOME = 50_000
"""Bytes of an answer that a transport keeps without asking the writer to wait."""


def asked(path: str = "/", *lines: str, method: str = "GET") -> bytes:
    """A head."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: g", *lines, "\r\n"]).encode()


@dataclass(frozen=True, slots=True)
class Wire:
    """A connection to the listener."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, bytes, bytes]:
        """The next one: its status, head and body."""
        async with asyncio.timeout(30):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"\r\nContent-Length: (\d+)", head)
            assert length, head
            rest = await self.reader.readexactly(int(length[1]))
        found = STATUS.match(head)
        assert found, head
        return int(found[1]), head, rest

    async def ask(self, *said: str) -> int:
        """One request and its status."""
        self.send(asked(*said))
        return (await self.answer())[0]

    async def rest(self) -> bytes:
        """Everything until the other side hangs up; a reset is an error."""
        async with asyncio.timeout(30):
            return await self.reader.read()

    async def closed(self) -> bool:
        """Whether the other side hangs up, or resets, without a word."""
        try:
            return await self.rest() == b""
        except ConnectionError:
            return True

    async def quiet(self, seconds: float) -> bool:
        """Whether it stays open so long, and nothing comes."""
        try:
            async with asyncio.timeout(seconds):
                await self.reader.read(1)
        except TimeoutError:
            return True
        except ConnectionResetError:  # it was closed while something of ours had not been read
            return False
        return False


@dataclass(slots=True)
class Place:
    """A listener, what was seen of it, and what holds it up."""

    bounds: Bounds
    on: socket.socket
    listener: Listener
    port: int
    seen: Counter[str]
    held: list[int]
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    wires: list[Wire] = field(default_factory=list)

    async def connect(self, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Wire:
        """A connection from that address of this machine."""
        name = "127.0.0.1" if tls else None
        streams = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(source, 0), ssl=tls, server_hostname=name
        )
        self.wires.append(Wire(*streams))
        return self.wires[-1]

    async def refused(self, source: str = "127.0.0.1") -> bool:
        """Whether a connection from there is ended at once."""
        try:
            return await (await self.connect(source)).closed()
        except ConnectionError:
            return True

    async def until_held(self, connections: int) -> None:
        """The listener holds so many now."""
        await self.until(lambda: self.held[-1:] == [connections])

    async def until_running(self) -> None:
        """A request has come as far as the application."""
        await self.until(lambda: self.seen["running"])

    async def until(self, holds: Callable[[], object]) -> None:
        """Let others run until it holds."""
        async with asyncio.timeout(30):
            while not holds():  # noqa: ASYNC110 - there is nothing to wait for
                await asyncio.sleep(0)


def _app(place: list[Place]) -> web.Application:
    async def fine(_: web.Request) -> web.Response:
        return web.Response(text="fine")

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=bytes(MOST))

    async def some(_: web.Request) -> web.Response:
        return web.Response(body=bytes(SOME))

    async def waits(_: web.Request) -> web.Response:
        place[0].seen["running"] += 1
        await place[0].go_on.wait()
        return web.Response(text="at last")

    async def reads(request: web.Request) -> web.Response:
        place[0].seen["running"] += 1
        try:
            return web.Response(body=await body.read(request, 100_000))
        except Refusal as refusal:
            return problem.response(refusal, orjson.dumps({"code": refusal.code}))

    async def shown(request: web.Request) -> web.Response:
        assert request.transport is not None
        return web.Response(body=request.transport.get_extra_info("ssl_object").getpeercert(binary_form=True) or b"")

    app = web.Application()
    app.add_routes(
        [
            web.get("/", fine),
            web.get("/some", some),
            web.get("/large", large),
            web.get("/wait", waits),
            web.post("/read", reads, expect_handler=body.expect_nothing),
            web.get("/shown", shown),
        ]
    )
    return app


@contextlib.asynccontextmanager
async def listening(bounds: Bounds, on: socket.socket | None = None) -> AsyncIterator[Place]:
    """The listener open, until the context ends or it is closed before."""
    sock = on or bound("127.0.0.1:0")
    port = sock.getsockname()[1]
    seen: Counter[str] = Counter()
    held: list[int] = []

    def told(reason: str) -> None:
        seen[reason] += 1

    places: list[Place] = []
    listener = Listener(_app(places), bounds, watch=Watch(held.append, told, told))
    await listener.open(sock)
    place = Place(bounds, sock, listener, port, seen, held)
    places.append(place)
    try:
        yield place
    finally:
        for wire in place.wires:
            wire.writer.transport.abort()
        await listener.close()
