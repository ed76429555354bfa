"""A wire to a server that can be made slow, thin, silent or broken while a test runs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

CHUNK = 65_536


class Link:
    """Passes everything on between a port of its own and the server's, as well as it is allowed to."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self.port = 0
        self.delay = 0.0
        """Seconds by which each piece comes later, in each direction."""
        self.rate: float | None = None
        """Bytes a second in each direction of each connection; None: as fast as it goes."""
        self.refusing = False
        """Who comes now is closed at once."""
        self.flowing = asyncio.Event()
        """Cleared: connections stay, and nothing arrives on either side."""
        self.flowing.set()
        self.spoils = b""
        """Where it comes by next, its last byte is another one, once."""
        self.connections = 0
        """So many came, ever."""
        self.passed = 0
        """Bytes, both ways."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def drop(self) -> None:
        """Cut every connection that there is just now, in the midst of whatever it carries."""
        for each in tuple(self._writers):
            each.transport.abort()

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["Link"]:
        """On this port of loopback, or on a free one."""
        listener = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            self.drop()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(client_out)
        if (own := asyncio.current_task()) is not None:
            self._tasks.add(own)
            own.add_done_callback(self._tasks.discard)
        try:
            if not self.refusing:
                await self._connect(client_in, client_out)
        except (OSError, asyncio.CancelledError):
            pass  # one side is gone, or the link, so the other goes as well
        finally:
            self._writers.discard(client_out)
            client_out.transport.abort()

    async def _connect(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        server_in, server_out = await asyncio.open_connection("127.0.0.1", self._upstream)
        self._writers.add(server_out)
        both = [asyncio.create_task(self._pass(*pair)) for pair in ((client_in, server_out), (server_in, client_out))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            self._writers.discard(server_out)
            server_out.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(CHUNK if self.rate is None else 1 + int(self.rate // 20)):
            wait = self.delay + (len(data) / self.rate if self.rate else 0)
            if wait:
                await asyncio.sleep(wait)
            await self.flowing.wait()
            if self.spoils and self.spoils in data:
                data = data.replace(self.spoils, self.spoils[:-1] + bytes([self.spoils[-1] ^ 1]), 1)
                self.spoils = b""
            target.write(data)
            await target.drain()
            self.passed += len(data)
