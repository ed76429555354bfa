"""One listening socket and the HTTP server behind it: opened, drained, closed."""

import asyncio
import socket
import ssl
from dataclasses import dataclass

from aiohttp import web, web_response

KEEPALIVE = 75.0
"""Seconds that a connection may be idle."""
MAX_HEADERS = 64
BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one listener allows."""

    shutdown_seconds: float
    """What runs at a stop has so long."""
    connections: int
    tls: ssl.SSLContext | None = None


def bound(address: str) -> socket.socket:
    """A socket that listens on ``host:port``; port 0 takes a free one. Raises OSError."""
    host, _, port = address.rpartition(":")
    found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, where = min(found, key=lambda each: each[0] != socket.AF_INET)
    made = socket.create_server(where[:2], family=family, backlog=BACKLOG)
    made.setblocking(False)
    return made


class Listener:
    """An application on a socket."""

    def __init__(self, app: web.Application, bounds: Bounds) -> None:
        # Not the versions of what it is made of; aiohttp has no option for it, and its own 400s pass no signal.
        vars(web_response)["SERVER_SOFTWARE"] = "gateway"
        self._tls = bounds.tls
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=KEEPALIVE,
            lingering_time=0,  # a body that nobody wants is not taken in; exchanges dismiss it with care
            max_headers=MAX_HEADERS,
            shutdown_timeout=bounds.shutdown_seconds,
            auto_decompress=False,
        )

    async def open(self, on: socket.socket) -> str:
        """Accept from now on; the address by which it is called."""
        await self._runner.setup()
        await web.SockSite(self._runner, on, ssl_context=self._tls, backlog=BACKLOG).start()
        host, port = on.getsockname()[:2]
        return f"{'https' if self._tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    async def close(self) -> None:
        """Accept no more, let what runs come to its end, then hang up."""
        await asyncio.shield(self._runner.cleanup())
