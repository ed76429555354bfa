"""Keys: ``gateway keys gateway`` makes the gateway's own, ``gateway keys party`` those of a system or signatory."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import orjson
import typer

from gateway import settings
from gateway.commands.terminal import fail
from gateway.edge import keys

app = typer.Typer(no_args_is_help=True, help="Keys: of the gateway, and of systems and signatories.")

_WORD = "[a-z][a-z0-9_]{0,47}"
_NAME = re.compile(rf"{_WORD}\.{_WORD}")


@app.command("gateway")
def gateway_keys(
    instance: Annotated[str, typer.Option(help="The instance that the keys are for, such as KH.")],
    folder: Annotated[Path, typer.Option(help="The keys folder, GATEWAY_KEYS.")],
) -> None:
    """Make the gateway's own keys: gateway/signing.jwk.json and gateway/master.key.json."""
    _hold_instance(instance)
    home = folder / "gateway"
    signing, master = home / "signing.jwk.json", home / "master.key.json"
    _hold_absent(signing, master)
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"{home} cannot be made ({error.strerror}): name another folder, or make it yourself.")
    _saved(signing, keys.new_signing_key(instance))
    _saved(master, keys.new_master_key(instance))


@app.command("party")
def party_keys(
    name: Annotated[str, typer.Argument(help="As agency.yaml names it, such as finance.local_tax.")],
    instance: Annotated[str, typer.Option(help="The instance that the key is for, such as KH.")],
    folder: Annotated[Path, typer.Option(help="Where both files go.")] = Path(),
) -> None:
    """Make a system's or signatory's key: NAME.jwk.json stays with its owner, NAME.jwks.json goes to the gateway."""
    _hold_instance(instance)
    if not _NAME.fullmatch(name):
        fail(
            f'NAME must be agency.name, such as finance.local_tax, not "{name}": '
            "lower-case letters, digits and _ on both sides of the dot."
        )
    private, public = folder / f"{name}.jwk.json", folder / f"{name}.jwks.json"
    _hold_absent(private, public)
    made, published = keys.new_client_key(instance)
    _saved(private, made)
    typer.echo(f"    The private key. It stays here, with whoever runs or is {name}; nobody else may have it.")
    _saved(public, published, mode=0o644)
    typer.echo("    The public key. Send it to the gateway's operator, who puts it into agencies/ of the keys folder;")
    typer.echo(f"    adapters/{name.partition('.')[0]}/agency.yaml names it: keys: {name}")


def _hold_instance(text: str) -> None:
    try:
        settings.instance_name(text)
    except ValueError as error:
        fail(f'--instance {error}, not "{text}".')


def _hold_absent(*paths: Path) -> None:
    """Before anything is written, so that no half of a pair is."""
    there = [str(path) for path in paths if os.path.lexists(path)]
    if there:
        fail(f"{' and '.join(there)} exists already. A key is never overwritten: move the old one away first.")


def _saved(path: Path, document: Mapping[str, object], *, mode: int | None = None) -> None:
    """``mode`` None: readable by its owner alone."""
    try:
        if mode is None:
            keys.save(path, document)
        else:
            with path.open("xb") as file:
                file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            path.chmod(mode)
    except OSError as error:
        fail(f"{path} cannot be written ({error.strerror}): name a folder that exists and is yours.")
    typer.echo(f"wrote {path}")
