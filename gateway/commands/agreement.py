"""Agreements: ``gateway agreement sign``."""

from collections.abc import Mapping
from datetime import date, datetime, tzinfo
from pathlib import Path
from typing import Annotated

import typer

from gateway.catalogue import files, signatories, signatures
from gateway.catalogue.reading import Reading
from gateway.catalogue.signatures import CannotSign
from gateway.commands.terminal import Root, fail, read_settings
from gateway.core.shape import Malformed, parse

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Agreements between agencies.")


@app.command()
def sign(
    path: Annotated[Path, typer.Argument(help="The agreement, policies/NAME.yaml.")],
    *,
    agency: Annotated[str, typer.Option(help="The party that signs.")],
    by: Annotated[str, typer.Option(help="The title of the signatory, as the agency's folder has it.")],
    key: Annotated[Path, typer.Option(help="The signatory's private key, a JWK file.")],
    on: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day (default: today).")] = None,
    root: Root = None,
) -> None:
    """Sign an agreement for one party; the signature is added to the file."""
    chosen = read_settings(root)
    day = day_of(on, chosen.zone)
    private = private_key(key)
    try:
        signatories.hold(Reading(files.read(chosen.catalogue, chosen.keys)), chosen.instance, agency, by, private)
        signatures.sign_agreement(path, agency, by, day, key=private, instance=chosen.instance)
    except CannotSign as error:
        fail(f"not signed: {error}")
    except OSError as error:
        fail(f"not signed: {path} cannot be written ({error.strerror}); sign where the file is yours")
    typer.echo(f"{path.name} is signed by {by} of {agency}")


def day_of(on: datetime | None, zone: tzinfo) -> date:
    """The day that a signature names; the command ends where it lies in the future."""
    today = datetime.now(zone).date()
    day = on.date() if on else today
    if day > today:
        fail(f"not signed: {day} lies in the future; a signature names the day on which it is made, or an earlier one.")
    return day


def private_key(path: Path) -> Mapping[str, object]:
    """The signatory's private key; the command ends where the file holds none."""
    try:
        document = parse(path.read_bytes())
    except OSError as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else "it cannot be read"
        fail(f"not signed: --key {path}: {why}. Name the signatory's NAME.jwk.json, made by gateway keys party.")
    except Malformed as error:
        fail(f"not signed: --key {path} is {error}. Name the signatory's NAME.jwk.json, made by gateway keys party.")
    if not isinstance(document, dict) or "keys" in document:
        fail(f"not signed: --key {path} is no private key. Name the signatory's NAME.jwk.json, not the .jwks.json.")
    return document
