"""A wire to PostgreSQL that breaks where a test wants it: around a COMMIT."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

COMMIT = b"commit\0"
ROLLBACK = b"rollback\0"

Cut = Literal["before", "after", "late", "never"]


class Relay:
    """Passes everything on, until it is told how to break at the next COMMIT."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self.cut: Cut | None = None
        """``before``: the server never sees it. ``after``: the server does it, and its answer is lost. ``late`` and
        ``never``: the client is cut off; only when somebody has looked for the batch's numbers, waited in vain and
        rolled back, the server gets it, or the connection's end."""
        self.cuts = 0
        self.closed = False
        """Nobody gets through any more."""
        self.port = 0
        self._given_up = asyncio.Event()
        self._through: set[asyncio.StreamWriter] = set()

    def abort(self) -> None:
        """Cut every wire there is just now."""
        for each in tuple(self._through):
            each.transport.abort()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Relay"]:
        """On a free port of loopback."""
        listener = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        async with listener:
            yield self

    async def _relay(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        if self.closed:
            client_out.close()
            return
        server_in, server_out = await asyncio.open_unix_connection(str(self._socket))
        back = asyncio.create_task(_copy(server_in, client_out))
        self._through.add(client_out)
        try:
            while data := await client_in.read(65536):
                if data.endswith(ROLLBACK):
                    self._given_up.set()
                if self.cut and data.endswith(COMMIT):
                    cut, self.cut = self.cut, None
                    self.cuts += 1
                    back.cancel()
                    await asyncio.wait({back})  # two cannot read at once
                    if cut == "after":
                        server_out.write(data)
                        await server_in.read(1)
                    client_out.transport.abort()
                    if cut in ("late", "never"):
                        await self._given_up.wait()
                    if cut == "late":
                        server_out.write(data)
                        await server_in.read(1)
                    return
                server_out.write(data)
        finally:
            self._through.discard(client_out)
            back.cancel()
            for each in (client_out, server_out):
                each.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        target.write(data)
    target.close()
