"""Keys: ``keys gateway`` makes the gateway's own, ``keys next`` a signing key to come, ``keys party`` an agency's."""

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

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Keys: of the gateway, and of systems and signatories."
)

_WORD = "[a-z][a-z0-9_]{0,47}"
_NAME = re.compile(rf"{_WORD}\.{_WORD}")


Instance = Annotated[str, typer.Option(help="The instance that the keys are for, such as KH.")]
Folder = Annotated[Path, typer.Option(help="The keys folder, GATEWAY_KEYS.")]


@app.command("gateway")
def gateway_keys(instance: Instance, folder: Folder) -> None:
    """Make what is missing of the gateway's own keys, in gateway/: signing, webhook (.jwk.json) and master.key.json."""
    _hold_instance(instance)
    home = folder / "gateway"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"{home} cannot be made ({error.strerror}): name another folder, or make it yourself.")
    for name, make, stays in (
        (keys.SIGNING_FILE, keys.new_signing_key, "gateway keys next makes the one that is to follow it."),
        (keys.WEBHOOK_FILE, keys.new_webhook_key, "gateway keys next --webhook makes the one that is to follow it."),
        (keys.MASTER_FILE, keys.new_master_key, "without it the database cannot be opened."),
    ):
        if os.path.lexists(home / name):
            typer.echo(f"kept {home / name}: it exists and stays; {stays}")
        else:
            _saved(home / name, make(instance))


@app.command("next")
def next_key(
    instance: Instance,
    folder: Folder,
    webhook: Annotated[bool, typer.Option("--webhook", help="The key of webhooks instead.")] = False,  # noqa: FBT002 - Typer makes a flag of it
) -> None:
    """Make the key that is to follow the present one: gateway/signing.next.jwk.json, or webhook.next.jwk.json."""
    _hold_instance(instance)
    now, then = (keys.WEBHOOK_FILE, keys.WEBHOOK_NEXT_FILE) if webhook else (keys.SIGNING_FILE, keys.NEXT_FILE)
    coming, present = folder / "gateway" / then, folder / "gateway" / now
    if os.path.lexists(coming):
        fail(f"{coming} exists already: it is the key to come. Finish that change first (docs/operations.md).")
    _saved(coming, keys.new_webhook_key(instance) if webhook else keys.new_signing_key(instance))
    old = f"{present.name.partition('.')[0]}.old.jwk.json"
    if webhook:
        typer.echo("    1. Copy it to every node, and restart them all: both keys sign every webhook from then on.")
        typer.echo("    2. Let every receiver of webhooks take /.well-known/webhook-keys.json anew.")
        typer.echo(f"    3. On every node rename {coming.name} to {present.name}; restart them all.")
        return
    typer.echo("    1. Copy it to every node, and restart them all: they then verify what it will sign.")
    typer.echo(f"    2. On every node rename {present.name} to {old},")
    typer.echo(f"       and {coming.name} to {present.name}; restart them all: they sign with it.")
    typer.echo(f"    3. Ten minutes later remove {old} from every node.")


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
