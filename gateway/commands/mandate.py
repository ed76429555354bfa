"""Mandates: ``gateway mandate sign``."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.catalogue import files, mandates, signatories
from gateway.catalogue.reading import Reading
from gateway.catalogue.signatures import CannotSign
from gateway.commands.agreement import day_of, private_key
from gateway.commands.terminal import Root, fail, read_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Mandates: one agency acts for another.")


@app.command()
def sign(
    path: Annotated[Path, typer.Argument(help="The file of the agency that gives it, adapters/NAME/agency.yaml.")],
    *,
    to: Annotated[str, typer.Option(help="The agency that may act.")],
    by: Annotated[str, typer.Option(help="The title of the signatory, as the file has it.")],
    key: Annotated[Path, typer.Option(help="The signatory's private key, a JWK file.")],
    on: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day (default: today).")] = None,
    root: Root = None,
) -> None:
    """Sign an agency's mandates to another one; the signature is added to the file."""
    chosen = read_settings(root)
    day = day_of(on, chosen.zone)
    private = private_key(key)
    agency = path.absolute().parent.name
    try:
        signatories.hold(Reading(files.read(chosen.catalogue, chosen.keys)), chosen.instance, agency, by, private)
        agency = mandates.sign_mandates(path, to, by, day, key=private, instance=chosen.instance)
    except CannotSign as error:
        fail(f"not signed: {error}")
    except OSError as error:
        fail(f"not signed: {path} cannot be written ({error.strerror}); sign where the file is yours")
    typer.echo(f"the mandate of {agency} to {to} is signed by {by}")
