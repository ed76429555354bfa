"""The commands: serve, check, explain, migrate, suspend, agreement, mandate, documents, journal, keys, demo, others."""

import runpy
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway import __version__
from gateway.commands import agent, agreement, documents, journal, keys, mandate, topics
from gateway.commands.check import check
from gateway.commands.explain import explain
from gateway.commands.migrate import migrate
from gateway.commands.send import send
from gateway.commands.serve import serve, worker
from gateway.commands.suspend import lift, listing, suspend
from gateway.commands.terminal import fail

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The inter-agency data exchange gateway.")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


app.command()(serve)
app.command(hidden=True)(worker)
app.command()(check)
app.command()(explain)
app.command()(migrate)
app.command()(send)
app.command()(suspend)
app.command()(lift)
app.command("suspensions")(listing)
app.add_typer(agent.app, name="agent")
app.add_typer(agreement.app, name="agreement")
app.add_typer(mandate.app, name="mandate")
app.add_typer(documents.app, name="documents")
app.add_typer(journal.app, name="journal")
app.add_typer(keys.app, name="keys")
app.add_typer(topics.app, name="topics")


@app.command()
def demo(
    *,
    port: Annotated[int, typer.Option(help="Of the gateway; 0 picks a free one.")] = 8080,
    ops_port: Annotated[int, typer.Option(help="Of metrics and health; 0 picks a free one.")] = 9090,
    data: Annotated[Path, typer.Option(help="The folder for the database and demo.json.")] = Path("demo-data"),
    once: Annotated[bool, typer.Option("--once", help="Play the story, then exit 0 if every step held.")] = False,
    kafka: Annotated[
        str | None, typer.Option(help="host:port of a fresh Kafka: the story goes on over it (make demo-kafka).")
    ] = None,
    root: Annotated[Path, typer.Option(help="The repository.")] = Path(),
) -> None:
    """Start the gateway among pretend ministries and play a story."""
    stage = root / "deploy" / "demo" / "story.py"
    if not stage.exists():
        fail(f"{stage} is missing: run the demonstration in a clone of the repository.")
    sys.path.insert(0, str(root.resolve()))
    play = runpy.run_path(str(stage))["play"]
    raise typer.Exit(play(root=root, data=data, port=port, ops_port=ops_port, once=once, kafka=kafka))


if __name__ == "__main__":
    app()
