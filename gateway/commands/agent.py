"""``gateway agent``: runs an agency's agent; shows what it holds, and takes a person's word on what it cannot know."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar
from uuid import UUID

import typer
import uvloop

from gateway.agent import folder
from gateway.agent.manifest import NotReady, Setup, setup
from gateway.agent.memory import Ledger, opened
from gateway.agent.ports import Unreachable, Unwritten
from gateway.agent.showing import missed, shown
from gateway.agent.upstream import Gateway, client_of
from gateway.catalogue.reading import render
from gateway.commands.ordering import user
from gateway.commands.terminal import fail, read_settings
from gateway.core.handling import Verdict
from gateway.core.line import is_line
from gateway.edge import signals
from gateway.edge.telemetry import configure_logging
from gateway.protocols.handover import register_number

T = TypeVar("T")

app = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    help="An agency's agent: run it; what it holds; unknown outcomes.",
)

Whose = Annotated[str, typer.Option("--agency", help="The agency, as adapters/ has it.")]
Data = Annotated[Path, typer.Option(help="The agent's own folder: its memory, and the files that come with documents.")]
By = Annotated[str | None, typer.Option(help="Who says so (default: the user of the operating system).")]

DATA = Path("agent-data")


@app.callback()
def agent(
    context: typer.Context,
    *,
    agency: Annotated[str | None, typer.Option(help="The agency, as adapters/ has it.")] = None,
    data: Data = DATA,
    operations_listen: Annotated[str, typer.Option(help="Address and port for metrics and health.")] = "127.0.0.1:9091",
) -> None:
    """Read the agency's topic, hand documents to its own systems and report what became of them, until SIGTERM."""
    if context.invoked_subcommand is not None:
        return
    if agency is None:
        fail("Name the agency: gateway agent --agency treasury.")
    plan = _setup(agency)
    signals.spared()
    chosen = read_settings()
    configure_logging(chosen.log_level)
    # by name: only an agent needs a Kafka client, which every other command would load with it
    running = import_module("gateway.agent.run")
    try:
        uvloop.run(running.agent(plan, running.Chosen(data, operations_listen, chosen.shutdown_seconds)))
    except running.Failed as error:
        fail(f"The agent's {error} ended by itself: its log says why.")
    except NotReady as error:
        _not_ready(error)


@app.command()
def show(*, agency: Whose, data: Data = DATA) -> None:
    """Print what waits for a person: unknown outcomes, unread and refused records. It ends with 1 if there is any."""
    lines, waits = _of(agency, data, shown)
    for line in lines:
        typer.echo(line)
    raise typer.Exit(1 if waits else 0)


@app.command()
def settle(
    document: Annotated[str, typer.Argument(help="Its id, as `gateway agent show` prints it.")],
    *,
    agency: Whose,
    verdict: Annotated[
        Verdict,
        typer.Option("--as", help="taken: your system has it; again: it has not, hand it over; rejected: neither."),
    ],
    reason: Annotated[str, typer.Option(help="How you know, in a line; it is kept.")],
    number: Annotated[str | None, typer.Option(help="With taken: the register number that it got.")] = None,
    data: Data = DATA,
    by: By = None,
) -> None:
    """Say what became of a document whose outcome is unknown; a running agent goes on with its partition."""
    try:
        known = str(UUID(document))
    except ValueError:
        fail(f'"{document}" is no id of a document: `gateway agent show` prints them.')
    who = by or user()
    if not is_line(reason) or not is_line(who):
        fail("--reason and --by must each be one line with something to see.")
    if number is not None and (verdict is not Verdict.TAKEN or register_number(number) is None):
        fail("--number goes with --as taken, and is one line of at most 64 characters, with something to see.")

    async def decided(ledger: Ledger) -> bool:
        return await ledger.memory.decide(known, verdict, number, by=who, why=reason)

    if not _of(agency, data, decided):
        fail(f"{document} is no document whose outcome is unknown here: `gateway agent show` lists them.")
    typer.echo(f"{document}: {verdict}, as {who} says")


@app.command()
def missing(
    *,
    agency: Whose,
    data: Data = DATA,
    looked: Annotated[bool, typer.Option("--looked", help="You have seen to it: alarm of it no more.")] = False,
) -> None:
    """Print what has arrived for the agency at the gateway, and was never read here; it ends with 1 if there is any."""
    plan = _setup(agency)

    async def asked(ledger: Ledger) -> list[str]:
        async with contextlib.aclosing(Gateway(client_of(plan), agency)) as gateway:
            found = await missed(ledger, gateway)
        if looked:
            await ledger.places.looked()
        return found

    found = _of(agency, data, asked)
    for document in found:
        typer.echo(document)
    if found:
        typer.echo(f"{len(found)} documents never came here: docs/agent.md says how to get them", err=True)
    raise typer.Exit(1 if found else 0)


def _setup(agency: str) -> Setup:
    chosen = read_settings()
    try:
        return setup(chosen.catalogue, chosen.keys, agency, os.environ)
    except NotReady as error:
        _not_ready(error)


def _not_ready(error: NotReady) -> NoReturn:
    fail(str(error), *([render(error.findings)] if error.findings else []))


def _of(agency: str, data: Path, work: Callable[[Ledger], Coroutine[Any, Any, T]]) -> T:
    """What the agent's memory holds, beside the agent that may be running on it."""

    async def run() -> T:
        async with opened(folder.memory(data, agency)) as ledger:
            return await work(ledger)

    try:
        return asyncio.run(run())
    except NotReady as error:
        _not_ready(error)
    except (Unreachable, Unwritten) as error:
        fail(str(error))
