"""The commands: serve, check, explain, migrate, suspend, agreement, mandate, documents, journal, keys, demo, others.

Each is loaded when it is asked for: a look at a catalogue needs neither a server nor a database.
"""

import runpy
import sys
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gateway import __version__
from gateway.commands.terminal import fail

PLACES = {
    "serve": "serve.serve",
    "worker": "serve.worker",
    "check": "check.check",
    "explain": "explain.explain",
    "migrate": "migrate.migrate",
    "send": "send.send",
    "suspend": "suspend.suspend",
    "lift": "suspend.lift",
    "suspensions": "suspend.listing",
    "agent": "agent.app",
    "agreement": "agreement.app",
    "mandate": "mandate.app",
    "documents": "documents.app",
    "journal": "journal.app",
    "keys": "keys.app",
    "topics": "topics.app",
}
"""Where in ``gateway.commands`` each one is: a function, or an application with commands of its own."""
HIDDEN = ("worker",)


class _Commands(MutableMapping[str, Any]):
    """By their names, those of this module and those that are still to be loaded."""

    def __init__(self, loaded: MutableMapping[str, Any]) -> None:
        self._loaded = loaded
        self._names = dict.fromkeys((*PLACES, *loaded))

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded and name in PLACES:
            self._loaded[name] = _loaded(name)
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name], self._names[name] = command, None

    def __delitem__(self, name: str) -> None:
        del self._names[name], self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _Program(TyperGroup):
    def __init__(self, **said: Any) -> None:
        super().__init__(**said)
        self.commands = _Commands(self.commands)


def _loaded(name: str) -> Any:
    module, _, what = PLACES[name].partition(".")
    found = getattr(import_module(f"gateway.commands.{module}"), what)
    command: Any
    if isinstance(found, typer.Typer):
        command = typer.main.get_group(found)
    else:
        alone = typer.Typer(add_completion=False)
        alone.command(hidden=name in HIDDEN)(found)
        command = typer.main.get_command(alone)
    command.name = name
    return command


app = typer.Typer(
    cls=_Program, no_args_is_help=True, add_completion=False, help="The inter-agency data exchange gateway."
)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


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
