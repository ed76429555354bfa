"""One listening socket and the HTTP server behind it: opened, drained, closed."""

import asyncio
import socket

import orjson
from aiohttp import web, web_response

from gateway.core.refusal import Refusal
from gateway.edge.answering import House, Refuse
from gateway.edge.connection import Connection, Present
from gateway.edge.doorkeeper import Bounds, Doorkeeper, Place, Watch, room, watching

__all__ = ["Bounds", "Listener", "bound", "inside", "room", "watching"]

BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted."""
HANG_UP_SECONDS = 1.0
"""Seconds that closed connections have to be gone."""

_AT_ONCE = 0.01
"""aiohttp's own wait at a stop: what runs had its time before, and 0 would be for ever."""


def bound(address: str) -> socket.socket:
    """A socket that listens on ``host:port``; port 0 takes a free one. Raises OSError."""
    host, _, port = address.rpartition(":")
    found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, where = min(found, key=lambda each: each[0] != socket.AF_INET)
    made = socket.create_server(where[:2], family=family, backlog=BACKLOG)
    made.setblocking(False)
    return made


def inside(connections: int) -> Bounds:
    """For a listener that only operators' machines reach: few ask, each as often as it likes, and ask again."""
    return Bounds(1.0, connections, shares=1, last_call=0.0)


def plain(refusal: Refusal) -> web.Response:
    """A refusal where nobody looks for a problem document."""
    body = {"title": refusal.kind.title, "status": refusal.kind.status, "detail": refusal.detail, "code": refusal.code}
    return web.Response(body=orjson.dumps(body), status=refusal.kind.status, content_type="application/problem+json")


class Listener:
    """An application on a socket."""

    def __init__(
        self,
        app: web.Application,
        bounds: Bounds,
        refuse: Refuse = plain,
        watch: Watch | None = None,
    ) -> None:
        """``refuse`` answers what never reaches the application."""
        # Not the versions of what it is made of; aiohttp has no option for it.
        vars(web_response)["SERVER_SOFTWARE"] = "gateway"
        self._bounds = bounds
        self._refuse = refuse
        self._present = Present(watch or Watch())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_AT_ONCE)
        self._closing = False
        self._door: Doorkeeper | None = None

    async def open(self, on: socket.socket) -> str:
        """Accept from now on; the address by which it is called."""
        await self._runner.setup()
        server = self._runner.server
        if server is None:
            raise RuntimeError("a listener is opened once")
        house = House(server, server.request_handler, self._refuse)

        def greeted(place: Place) -> Connection:
            connection = Connection(house, self._present, place)
            if self._closing:
                connection.last_call()
            return connection

        host, port = on.getsockname()[:2]
        self._door = Doorkeeper(self._bounds, greeted, self._present.watch)
        self._door.open(on)
        return f"{'https' if self._bounds.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    async def close(self) -> None:
        """Accept no more, let what runs come to its end, then hang up."""
        await asyncio.shield(self._wind_up())

    async def _wind_up(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._bounds.shutdown_seconds
        self._closing = True
        if self._door is not None:
            self._door.shut()
            for connection in tuple(self._present.connections):
                connection.last_call()
            await self._door.empty(min(self._bounds.last_call, self._bounds.shutdown_seconds))
            for connection in tuple(self._present.connections):
                connection.hang_up()
            await self._door.empty(end - loop.time())
            self._door.give_up()
        await self._runner.cleanup()
        if self._door is not None:
            for connection in tuple(self._present.connections):  # its time is over, or nobody reads what it says
                connection.abort()
            await self._door.empty(HANG_UP_SECONDS)
