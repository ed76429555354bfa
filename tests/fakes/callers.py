"""Consumers that ask over and over, each on a connection of its own, and count what becomes of every request."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

PAUSE = 0.005
"""Seconds between an answer and the next request, so that connections are idle now and then."""
KEPT = 40
"""Requests on one connection, then the caller hangs up and connects anew."""


class Caller:
    """One of them."""

    def __init__(self, address: str, request: bytes) -> None:
        parts = urlsplit(address)
        self._where = (parts.hostname, parts.port)
        self._request = request
        self.outcomes: Counter[str] = Counter()
        """By status, or ``refused``, ``empty`` and ``reset`` where there was none."""
        self.entries: list[str] = []
        """The journal entries that came with the answers."""

    async def ask(self) -> None:
        """For ever, until it is cancelled."""
        while True:
            await self.connection(KEPT)

    async def connection(self, requests: int) -> None:
        """So many requests on one connection; fewer where the gateway closes it in good order."""
        try:
            reader, writer = await asyncio.open_connection(*self._where)
        except OSError:
            self.outcomes["refused"] += 1
            return
        try:
            for _ in range(requests):
                writer.write(self._request)
                if not await self._answered(reader):
                    break
                await asyncio.sleep(PAUSE)
        finally:
            writer.transport.abort()

    async def _answered(self, reader: asyncio.StreamReader) -> bool:
        """Whether the connection can be used again."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            await reader.readexactly(int(fields["content-length"]))
        except asyncio.IncompleteReadError as error:
            self.outcomes["cut" if error.partial else "empty"] += 1
            return False
        except OSError:
            self.outcomes["reset"] += 1
            return False
        self.outcomes[head[0].split()[1]] += 1
        self.entries += [fields[name] for name in ("exchange-entry",) if name in fields]
        return fields.get("connection", "").lower() != "close"


@asynccontextmanager
async def asking(number: int, address: str, request: bytes) -> AsyncIterator[list[Caller]]:
    """So many, as long as the context lasts."""
    callers = [Caller(address, request) for _ in range(number)]
    tasks = [asyncio.create_task(caller.ask()) for caller in callers]
    try:
        yield callers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def together(callers: list[Caller]) -> Counter[str]:
    """What became of all their requests."""
    return sum((caller.outcomes for caller in callers), Counter())
