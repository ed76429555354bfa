"""A worker's end of the channel to its parent: signs of life go out, and its end says that the parent is gone."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

from gateway.edge.tasks import cancelled

BEAT_SECONDS = 1.0
"""Between two signs of life."""
READY = b"ready "
"""Begins the line by which a worker says that it serves, before the address of its operations listener."""


@contextlib.asynccontextmanager
async def held(channel: socket.socket, gone: Callable[[], None]) -> AsyncIterator[Callable[[str], None]]:
    """Give signs of life as long as the context lasts; ``gone`` is called when the parent is. Says that it serves."""
    reader, writer = await asyncio.open_connection(sock=channel)

    async def beat() -> None:
        while True:
            writer.write(b"\n")
            await asyncio.sleep(BEAT_SECONDS)

    async def listen() -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        gone()

    def serves(address: str) -> None:
        writer.write(READY + address.encode() + b"\n")

    tasks = [asyncio.create_task(beat()), asyncio.create_task(listen())]
    try:
        yield serves
    finally:
        await cancelled(*tasks)
        writer.close()
