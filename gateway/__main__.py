"""The commands: serve, check, explain, migrate, agreement, journal, keys, demo."""

import asyncio
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from gateway import __version__
from gateway.app import Gateway, NotStarted, compose, spare_garbage_collection
from gateway.catalogue.reading import render
from gateway.commands import agreement, journal, keys
from gateway.commands.check import check
from gateway.commands.explain import explain
from gateway.commands.migrate import migrate
from gateway.commands.terminal import fail, read_settings
from gateway.edge.telemetry import configure_logging

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The inter-agency data exchange gateway.")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def serve() -> None:
    """Serve exchanges until SIGTERM. Settings are GATEWAY_* variables (docs/settings.md)."""
    chosen = read_settings()
    configure_logging(chosen.log_level)
    try:
        uvloop.run(_until_stopped(compose(chosen, os.environ)))
    except NotStarted as error:
        fail(str(error), render(error.findings))


async def _until_stopped(gateway: Gateway) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with gateway.running():
        spare_garbage_collection()
        await stopped.wait()


app.command()(check)
app.command()(explain)
app.command()(migrate)
app.add_typer(agreement.app, name="agreement")
app.add_typer(journal.app, name="journal")
app.add_typer(keys.app, name="keys")


@app.command()
def demo(
    *,
    port: Annotated[int, typer.Option(help="Of the gateway; 0 picks a free one.")] = 8080,
    ops_port: Annotated[int, typer.Option(help="Of metrics and health; 0 picks a free one.")] = 9090,
    data: Annotated[Path, typer.Option(help="The folder for the database and demo.json.")] = Path("demo-data"),
    once: Annotated[bool, typer.Option("--once", help="Play the story, then exit 0 if every step held.")] = False,
    root: Annotated[Path, typer.Option(help="The repository.")] = Path(),
) -> None:
    """Start the gateway among pretend ministries and play a story."""
    stage = root / "deploy" / "demo" / "story.py"
    if not stage.exists():
        fail(f"{stage} is missing: run the demonstration in a clone of the repository.")
    sys.path.insert(0, str(root.resolve()))
    play = runpy.run_path(str(stage))["play"]
    raise typer.Exit(play(root=root, data=data, port=port, ops_port=ops_port, once=once))


if __name__ == "__main__":
    app()
