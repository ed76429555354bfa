"""Two post offices on one PostgreSQL, of which one can be stopped between its last statement and its commit."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from gateway.core.model import Way
from gateway.edge.postgres import PostgresDriver
from tests.fakes.mail import Office, way, working
from tests.fakes.valve import Valve
from tests.races.stage import HELD, beside, waited_for

PATIENCE = 30.0
"""Seconds after which what should have come does not."""
WAYS = (way("health"), way("interior"), way("finance"))


@dataclass(frozen=True, slots=True)
class Two:
    """Nodes of one instance."""

    here: Office
    there: Office
    valve: Valve
    """Of the first one."""
    url: str

    @asynccontextmanager
    async def stopped(self, work: Callable[[], Awaitable[Any]]) -> AsyncIterator["asyncio.Task[Any]"]:
        """``here`` does the work and stops before its commit, holding what it holds, until the context ends."""
        async with beside(self.url) as connection:
            await connection.execute("select pg_advisory_lock(7)")
            self.valve.last = HELD
            task = asyncio.create_task(_awaited(work))
            try:
                async with asyncio.timeout(PATIENCE):
                    await waited_for(self.url, "%pg_advisory%")
                self.valve.last = ()
                yield task
            finally:
                await connection.execute("select pg_advisory_unlock(7)")
        await task

    async def meanwhile(self, first: Callable[[], Awaitable[Any]], second: Callable[[], Awaitable[Any]]) -> list[Any]:
        """``there`` begins the second while the first stands before its commit; it has to wait. Gives both results."""
        async with self.stopped(first) as begun:
            waiting = asyncio.create_task(_awaited(second))
            watch = asyncio.create_task(waited_for(self.url, "%lanes%"))
            await asyncio.wait({waiting, watch}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            assert watch.done(), "the second did not wait for the first"
        return [await begun, await waiting]


async def _awaited(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()


@asynccontextmanager
async def two_offices(url: str, *ways: Way) -> AsyncIterator[Two]:
    """The database is that of the town, whose instance is DEMO."""
    valve = Valve(PostgresDriver(url, "DEMO"))
    async with working(valve, *(ways or WAYS)) as here, working(PostgresDriver(url, "DEMO"), *(ways or WAYS)) as there:
        yield Two(here, there, valve, url)
        assert await there.faults() == ()
