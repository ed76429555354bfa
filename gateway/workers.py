"""`gateway serve --workers`: the parent of several processes that serve on one socket.

It opens the public socket, which every worker inherits, accepts nothing from it, and needs no database.
"""

import asyncio
import contextlib
import signal
import socket
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import aiohttp
import structlog
from aiohttp import web

from gateway.app import OPERATIONS_CONNECTIONS, NotStarted, listening
from gateway.edge import notify, roster
from gateway.edge.listener import Listener, inside
from gateway.edge.pool import Ended, Patience, Pool
from gateway.edge.postgres import named
from gateway.edge.roster import Roster
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
        stop, roll = _signals(pool)
        known = Roster(pool.meters, pool.addresses, wanted, lambda: pool.draining)
        aside = await _aside(stack, sockets.operations, known)
        beating = [asyncio.create_task(each) for each in (pool.watch(), notify.watched())]
        stack.push_async_callback(_cancelled, beating)
        stack.push_async_callback(_end, pool, sockets.public)
        working, told = asyncio.create_task(_work(pool, wanted, roll, aside)), asyncio.create_task(stop.wait())
        stack.push_async_callback(_cancelled, (working, told))
        await asyncio.wait((working, told), return_when=asyncio.FIRST_COMPLETED)
        if working.done():  # it ends by an error only
            await working


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


def _signals(pool: Pool) -> tuple[asyncio.Event, asyncio.Event]:
    """What is set when the workers are to end, and when they are to be replaced."""
    stop, roll = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGUSR2, roll.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, pool)
    return stop, roll


def _reload(pool: Pool) -> None:
    notify.reloading()
    pool.reload()
    notify.ready()


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
        notify.reloading()
        await pool.roll()
        notify.ready()


async def _end(pool: Pool, public: socket.socket) -> None:
    notify.stopping()
    public.close()  # or the kernel would go on taking connections that nobody answers
    await pool.end()


async def _cancelled(tasks: Collection["asyncio.Task[object]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
