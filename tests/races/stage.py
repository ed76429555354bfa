"""What races are played with: two nodes of a town, calls to them, and a commit that is held back."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from gateway.edge.postgres import dsn_of, named
from tests.fakes.parties import CHANGE, CHANGED, MOVED, TAX, USUAL, Terms
from tests.fakes.town import Reaction, Reply, Town, founded, usual

HOUR = 3600.0
RELEASED = {"changed_on": CHANGED["changed_on"], "record_version": CHANGED["record_version"]}
HELD = ("set local lock_timeout = 0", "select pg_advisory_xact_lock(7)")


@asynccontextmanager
async def two_nodes(
    folder: Path, url: str | None, terms: Terms = USUAL, **settings: Any
) -> AsyncIterator[tuple[Town, Town]]:
    """Two gateways on one PostgreSQL; on SQLite, which serves one process, the same one twice."""
    async with founded(folder, url) as here, here.running(terms, **settings):
        if url is None:
            yield here, here
            return
        there = here.beside()
        async with there.running(terms, **settings):
            yield here, there


async def write(town: Town, key: str = "k", body: Any = MOVED) -> Reply:
    """The tax office tells the register of a move."""
    return await town.call(TAX, CHANGE, body, idempotency_key=f'"{key}"')


async def met_with(town: Town, react: Reaction, key: str = "k") -> Reply:
    """A write that the provider meets with that; afterwards it is as usual."""
    town.office.react = react
    reply = await write(town, key)
    town.office.react = usual
    return reply


def code(reply: Reply) -> str:
    """The refusal's, or the status."""
    return str(reply.body.get("code", reply.status))


def replayed(reply: Reply) -> bool:
    """Whether it is a stored answer."""
    return reply.headers.get("Exchange-Replayed") == "?1"


def steps(town: Town) -> Counter[str]:
    """The journal's entries of exchanges, by step."""
    return Counter(entry.facts["step"] for entry in town.entries() if "consumer" in entry.facts)


@asynccontextmanager
async def held(town: Town) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Every transaction of the node stops between its last statement and its commit until the context ends.

    What is given waits until one does.
    """
    if not named(town.url):
        town.valve.gate.clear()
        try:
            yield town.valve.holding.wait
        finally:
            town.valve.gate.set()
        return
    async with beside(town.url) as connection:
        await connection.execute("select pg_advisory_lock(7)")
        town.valve.last = HELD
        try:
            yield lambda: waited_for(town.url, "%pg_advisory%")
        finally:
            town.valve.last = ()
            await connection.execute("select pg_advisory_unlock(7)")


@asynccontextmanager
async def beside(url: str) -> AsyncIterator[Any]:
    """A connection of nobody's."""
    connection = await asyncpg.connect(dsn_of(url))
    try:
        yield connection
    finally:
        await connection.close()


async def waited_for(url: str, query: str) -> None:
    """Returns when a statement like that waits for a lock of another transaction."""
    waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like $1"
    async with beside(url) as connection:
        while not await connection.fetchval(waits, query):
            pass
