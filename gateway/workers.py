"""`gateway serve --workers`: the parent of several processes that serve on one socket.

It opens the public socket, which every worker inherits, accepts nothing from it, and needs no database.
"""

import asyncio
import contextlib
import socket
import sys
import tempfile
from pathlib import Path

import aiohttp
import structlog
from aiohttp import web

from gateway.app import OPERATIONS_CONNECTIONS
from gateway.edge import notify, roster, signals
from gateway.edge.listener import Listener, inside
from gateway.edge.pool import Ended, Patience, Pool
from gateway.edge.postgres import named
from gateway.edge.roster import Roster
from gateway.edge.tasks import cancelled
from gateway.footing import NotStarted, listening
from gateway.settings import POSTGRES, Settings

MAX_WORKERS = 64
AFTER_SECONDS = 10.0
"""What a worker has beyond GATEWAY_SHUTDOWN_SECONDS to write its last entry and end."""

log = structlog.get_logger()


async def serve(settings: Settings, wanted: int) -> None:
    """Until SIGTERM or SIGINT. SIGUSR2 replaces the workers one by one; SIGHUP is passed on to them.

    Raises NotStarted, and Ended where the first worker has said itself why it cannot start.
    """
    _look(settings, wanted)
    sockets = listening(settings)
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-", ignore_cleanup_errors=True)))
        program = (*_program(), f"--last-good={folder / 'files'}")
        pool = Pool(program, sockets.public, Patience(end=settings.shutdown_seconds + AFTER_SECONDS))
        roll = asyncio.Event()
        stop = signals.answered(reload=pool.reload, roll=roll.set)
        known = Roster(pool.meters, pool.addresses, wanted, lambda: pool.draining)
        aside = await _aside(stack, sockets.operations, known)
        beating, watching = asyncio.create_task(notify.watched()), asyncio.create_task(pool.watch())
        stack.push_async_callback(cancelled, beating, watching)
        stack.push_async_callback(_end, pool, sockets.public)
        working, asked = asyncio.create_task(_work(pool, wanted, roll, aside)), asyncio.create_task(stop.wait())
        stack.push_async_callback(cancelled, working, asked)
        done, _ = await asyncio.wait((working, watching, asked), return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            await each  # the first two end by an error only, and nothing is right after it


def _look(settings: Settings, wanted: int) -> None:
    """Raises NotStarted, before anything is opened."""
    if not named(settings.database):
        raise NotStarted(
            f"--workers {wanted} needs PostgreSQL: an SQLite file serves one process, which alone knows what it holds. "
            f"Set GATEWAY_DATABASE to {POSTGRES}user@host/database?passfile=/path and run gateway migrate once, "
            "or leave --workers out."
        )
    port = int(settings.operations_listen.rpartition(":")[2])
    if port + wanted + 1 > 65535:
        raise NotStarted(
            f"GATEWAY_OPERATIONS_LISTEN: {wanted} workers take the {wanted + 1} ports above {port}, "
            "and there are not so many."
        )


def _program() -> tuple[str, ...]:
    """What a worker is started with. It imports from the present folder (-P) only where this process does."""
    return (sys.executable, *(() if str(Path.cwd()) in sys.path else ("-P",)), "-m", "gateway", "worker")


async def _aside(stack: contextlib.AsyncExitStack, on: socket.socket, known: Roster) -> str:
    session = await stack.enter_async_context(aiohttp.ClientSession())
    app = web.Application()
    app.add_routes(roster.routes(known, session))
    listener = Listener(app, inside(OPERATIONS_CONNECTIONS))
    stack.push_async_callback(listener.close)
    return await listener.open(on)


async def _work(pool: Pool, wanted: int, roll: asyncio.Event, aside: str) -> None:
    try:
        await pool.begin()
    except Ended as error:
        if error.code > 0:
            raise
        raise NotStarted(f"The first worker was ended by signal {-error.code} before it served.") from error
    notify.ready()
    await pool.fill(wanted)
    log.info("workers_started", workers=wanted, operations=aside)
    while True:
        await roll.wait()
        roll.clear()  # who asks during a roll gets another one after it
        await pool.roll()


async def _end(pool: Pool, public: socket.socket) -> None:
    notify.stopping()
    public.close()  # or the kernel would go on taking connections that nobody answers
    await pool.end()
