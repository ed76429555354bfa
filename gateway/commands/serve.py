"""`gateway serve`: one process, or several that share a socket; and what a process of several runs."""

import asyncio
import os
import socket
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvloop

from gateway import workers as several
from gateway.app import Gateway, compose
from gateway.catalogue.reading import render
from gateway.commands.terminal import fail, read_settings
from gateway.edge import lifeline, notify, signals
from gateway.edge.pool import Ended
from gateway.edge.tasks import cancelled
from gateway.edge.telemetry import configure_logging
from gateway.footing import NotStarted, listening, spare_garbage_collection
from gateway.settings import Settings
from gateway.workers import MAX_WORKERS

log = structlog.get_logger()


def serve(
    *,
    workers: Annotated[
        int, typer.Option(min=1, max=MAX_WORKERS, help="Processes that share the socket; more than one on PostgreSQL.")
    ] = 1,
) -> None:
    """Serve exchanges until SIGTERM. Settings are GATEWAY_* variables (docs/settings.md)."""
    signals.spared()
    chosen = read_settings()
    configure_logging(chosen.log_level)
    try:
        uvloop.run(several.serve(chosen, workers) if workers > 1 else _alone(compose(chosen, os.environ)))
    except Ended as error:  # its words are on standard error already
        raise typer.Exit(error.code) from error
    except NotStarted as error:
        fail(str(error), render(error.findings))


def worker(
    *,
    number: Annotated[int, typer.Option()],
    public: Annotated[int, typer.Option(help="The descriptor of the public socket.")],
    control: Annotated[int, typer.Option(help="The descriptor of the channel to the parent.")],
    last_good: Annotated[Path, typer.Option(help="Where the workers keep the files that worked last.")],
) -> None:
    """One process of several; `gateway serve --workers` starts it."""
    signals.spared()
    chosen = _beside(read_settings(), number)
    configure_logging(chosen.log_level, number)
    handed = [socket.socket(fileno=each) for each in (public, control)]
    for each in handed:
        each.setblocking(False)
        each.set_inheritable(False)
    try:
        uvloop.run(_among(compose(chosen, os.environ, last_good), *handed))
    except NotStarted as error:
        fail(str(error), render(error.findings))


def _beside(settings: Settings, number: int) -> Settings:
    """Each worker has an operations listener of its own, so many ports above the parent's; 0 stays any free one."""
    host, _, port = settings.operations_listen.rpartition(":")
    return settings.model_copy(update={"operations_listen": f"{host}:{int(port) and int(port) + number}"})


async def _alone(gateway: Gateway) -> None:
    stop = _answered()
    async with gateway.running():
        spare_garbage_collection()
        watched = asyncio.create_task(notify.watched())
        notify.ready()
        await stop.wait()
        notify.stopping()
    await cancelled(watched)


async def _among(gateway: Gateway, public: socket.socket, control: socket.socket) -> None:
    stop = _answered()
    async with (
        lifeline.held(control, stop.set) as serves,
        gateway.running(listening(gateway.settings, public)) as where,
    ):
        spare_garbage_collection()
        serves(where.operations)
        await stop.wait()


def _answered() -> asyncio.Event:
    """What is set when the process is to end; a gateway that runs has its own answer to SIGHUP."""
    return signals.answered(reload=_too_early, roll=_nothing_to_roll)


def _nothing_to_roll() -> None:
    log.info("roll_ignored")


def _too_early() -> None:
    log.info("reload_ignored")
