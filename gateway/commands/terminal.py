"""What commands begin and end with: the settings, the catalogue, a sentence and exit code 1."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gateway import settings
from gateway.catalogue.reading import render
from gateway.catalogue.snapshot import Loaded, load
from gateway.core.model import Catalogue

Root = Annotated[
    Path | None,
    typer.Option("--root", help="The catalogue's folder (default: GATEWAY_CATALOGUE, or the present folder)"),
]


def fail(*lines: str) -> NoReturn:
    """Say what is wrong, and end with 1."""
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(1)


def read_settings(root: Path | None = None) -> settings.Settings:
    """The settings; ``root`` stands for GATEWAY_CATALOGUE, and keys are looked for below it."""
    try:
        chosen = settings.read(os.environ)
    except settings.BadSettings as error:
        fail(f"The settings are wrong:\n{error}")
    if root is None:
        return chosen
    keys = chosen.keys if "GATEWAY_KEYS" in os.environ else root / chosen.keys
    return chosen.model_copy(update={"catalogue": root, "keys": keys})


def loaded(chosen: settings.Settings) -> Loaded:
    """The catalogue as it stands now, whatever is wrong with it, without agencies' addresses."""
    return load(
        chosen.catalogue,
        instance=chosen.instance,
        zone=chosen.zone,
        keys=chosen.keys,
        at=datetime.now(UTC),
        environment=None,
    )


def accepted(chosen: settings.Settings) -> Catalogue:
    """The catalogue; the command ends where it has errors."""
    found = loaded(chosen)
    if found.catalogue is None:
        fail("The catalogue has errors:", render(found.findings))
    return found.catalogue
