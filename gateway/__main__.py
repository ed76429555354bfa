"""The commands: serve, check, explain, agreement, journal, demo."""

import asyncio
import gc
import os
import runpy
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import typer
import uvloop

from gateway import __version__, settings
from gateway.app import Gateway, NotStarted, compose
from gateway.catalogue import derived, scaffold, signatures
from gateway.catalogue.reading import render
from gateway.catalogue.snapshot import Loaded, load
from gateway.core import policy
from gateway.core.model import AgencyId, Catalogue, Obligation, ServiceId, SystemId
from gateway.edge import archive
from gateway.edge import keys as keyfiles
from gateway.edge.store import StoreFailed, database_path
from gateway.edge.telemetry import configure_logging

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The inter-agency data exchange gateway.")
agreement = typer.Typer(no_args_is_help=True, help="Agreements between agencies.")
journal = typer.Typer(no_args_is_help=True, help="The journal of decisions and exchanges.")
keys = typer.Typer(no_args_is_help=True, help="Keys: of the gateway, and of systems and signatories.")
app.add_typer(agreement, name="agreement")
app.add_typer(journal, name="journal")
app.add_typer(keys, name="keys")

Root = Annotated[
    Path | None,
    typer.Option("--root", help="The catalogue's folder (default: GATEWAY_CATALOGUE, or the present folder)"),
]


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@app.command()
def serve() -> None:
    """Serve exchanges until SIGTERM. Settings are GATEWAY_* variables (docs/settings.md)."""
    chosen = _settings()
    configure_logging(chosen.log_level)
    try:
        uvloop.run(_until_stopped(compose(chosen, os.environ)))
    except NotStarted as error:
        _fail(str(error), render(error.findings))


async def _until_stopped(gateway: Gateway) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with gateway.running():
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked through again and again
        await stopped.wait()


@app.command()
def check(
    root: Root = None,
    write: Annotated[bool, typer.Option(help="Add missing decision tests, regenerate derived files.")] = False,
) -> None:
    """Find every mistake in schemas/, adapters/ and policies/: file, line and remedy."""
    chosen = _settings(root)
    if write:
        now = datetime.now(UTC)
        for path in scaffold.write(
            chosen.catalogue, instance=chosen.instance, zone=chosen.zone, keys=chosen.keys, at=now
        ):
            print(f"wrote {path}")
    loaded = _loaded(chosen)
    findings = loaded.findings + derived.stale(chosen.catalogue)
    if findings:
        print(render(findings))
    errors = sum(finding.level == "error" for finding in findings)
    warnings = len(findings) - errors
    print(f"{'refused' if errors else 'accepted'}: {errors} errors, {warnings} warnings")
    if loaded.catalogue:
        print(_summary(loaded.catalogue))
    raise typer.Exit(1 if errors else 0)


def _summary(catalogue: Catalogue) -> str:
    return (
        f"{len(catalogue.services)} services, {len(catalogue.agencies)} agencies, {len(catalogue.systems)} systems, "
        f"{len(catalogue.agreements)} agreements; digest {catalogue.digest[:16]}"
    )


@app.command()
def explain(  # noqa: PLR0913, PLR0917 - a call has this many facts
    provider: Annotated[str, typer.Option(help="The agency that provides, such as interior.")],
    service: Annotated[str, typer.Option(help="Such as population.person_lookup.v1.")],
    client: Annotated[str | None, typer.Option(help="The system that asks, such as finance.local_tax.")] = None,
    purpose: Annotated[str | None, typer.Option(help="A code of schemas/common/purposes.yaml.")] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="A scope of the token (default: all that the system has).")
    ] = None,
    without: Annotated[list[Obligation] | None, typer.Option(help="What the call lacks.")] = None,
    at: Annotated[datetime | None, typer.Option(help="A day or an instant (default: now).")] = None,
    who: Annotated[bool, typer.Option("--who", help="Print everyone who could call now.")] = False,
    root: Root = None,
) -> None:
    """Say why a call would be allowed or refused, or who could make it."""
    chosen = _settings(root)
    catalogue = _accepted(chosen)
    instant = _instant(at, chosen)
    if who:
        _print_entitled(policy.who(catalogue, AgencyId(provider), ServiceId(service), instant), provider, service)
        return
    if client is None or purpose is None:
        _fail("Give --client and --purpose, or --who.")
        return
    system = catalogue.systems.get(SystemId(client))
    facts = policy.Facts(
        consumer=SystemId(client),
        provider=AgencyId(provider),
        service=ServiceId(service),
        purpose=purpose,
        scopes=frozenset(scope) if scope is not None else (system.scopes if system else frozenset()),
        at=instant,
        given=frozenset(Obligation) - frozenset(without or ()),
    )
    decision = policy.decide(catalogue, facts)
    print(f"{'PERMITTED' if decision.permitted else 'REFUSED ' + str(decision.code)}: {decision.detail}")
    for reason in decision.reasons:
        print(f"  {'yes' if reason.holds else 'NO '}  {reason.text}")
    if decision.permitted and decision.grant:
        shown = decision.grant.disclosed
        print(f"  discloses {', '.join(shown) if shown else 'the whole answer'}")
    raise typer.Exit(0 if decision.permitted else 2)


def _instant(at: datetime | None, chosen: settings.Settings) -> datetime:
    if at is None:
        return datetime.now(UTC)
    if at.time() == time():  # a day means its noon, where it is certainly that day
        at = at.replace(hour=12)
    return at if at.tzinfo else at.replace(tzinfo=chosen.zone)


def _print_entitled(entitled: tuple[policy.Entitled, ...], provider: str, service: str) -> None:
    if not entitled:
        print(f"Nobody may use {service} of {provider}.")
    for each in entitled:
        asks = ", ".join(sorted(each.grant.require)) or "nothing more"
        shown = ", ".join(each.grant.disclosed) if each.grant.disclosed else "the whole answer"
        purposes = ", ".join(sorted(each.grant.purposes))
        print(f"{each.consumer}  by {each.agreement.id}, until {each.agreement.valid_until}")
        print(f"  for {purposes}; scope {each.grant.scope or 'none'}; asks {asks}; sees {shown}")


@agreement.command("sign")
def sign(  # noqa: PLR0917 - a signature has this many facts
    path: Annotated[Path, typer.Argument(help="The agreement, policies/NAME.yaml.")],
    agency: Annotated[str, typer.Option(help="The party that signs.")],
    by: Annotated[str, typer.Option(help="The title of the signatory, as the agency's folder has it.")],
    key: Annotated[Path, typer.Option(help="The signatory's private key, a JWK file.")],
    on: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day (default: today).")] = None,
    root: Root = None,
) -> None:
    """Sign an agreement for one party; the signature is added to the file."""
    chosen = _settings(root)
    day = on.date() if on else datetime.now(chosen.zone).date()
    try:
        private = orjson.loads(key.read_bytes())
        signatures.sign_agreement(path, agency, by, day, key=private, instance=chosen.instance)
    except (OSError, ValueError) as error:
        _fail(f"not signed: {error}")
    print(f"{path.name} is signed by {by} of {agency}")


@journal.command("show")
def show(
    exchange: Annotated[str | None, typer.Option(help="Only this exchange.")] = None,
    last: Annotated[int | None, typer.Option(help="Only so many, the latest.")] = None,
    database: Annotated[str | None, typer.Option(help="The database (default: GATEWAY_DATABASE).")] = None,
) -> None:
    """Print entries, one JSON line each, without their particulars."""
    kept = (each for each in _read(database, archive.entries) if exchange is None or exchange.encode() in each.entry)
    chosen = list(kept)[-last:] if last else kept
    for each in chosen:
        sys.stdout.write(orjson.dumps(archive.shown(each)).decode() + "\n")


@journal.command("check")
def check_journal(
    database: Annotated[str | None, typer.Option(help="The database (default: GATEWAY_DATABASE).")] = None,
) -> None:
    """Hold every entry against its hash and its number."""
    found = _read(database, archive.check)
    for fault in found.faults:
        print(f"FAULT {fault}")
    print(f"{found.entries} entries of {found.writers} writers, {len(found.faults)} faults")
    raise typer.Exit(1 if found.faults else 0)


@keys.command("gateway")
def gateway_keys(
    instance: Annotated[str, typer.Option(help="The instance that the keys are for, such as KH.")],
    folder: Annotated[Path, typer.Option(help="The keys folder, GATEWAY_KEYS.")],
) -> None:
    """Make the gateway's own keys: gateway/signing.jwk.json and gateway/master.key.json."""
    home = folder / "gateway"
    home.mkdir(parents=True, exist_ok=True)
    _saved(home / "signing.jwk.json", keyfiles.new_signing_key(instance))
    _saved(home / "master.key.json", keyfiles.new_master_key(instance))


@keys.command("party")
def party_keys(
    name: Annotated[str, typer.Argument(help="As agency.yaml names it, such as finance.local_tax.")],
    instance: Annotated[str, typer.Option(help="The instance that the key is for, such as KH.")],
    folder: Annotated[Path, typer.Option(help="Where both files go.")] = Path(),
) -> None:
    """Make a system's or signatory's key: NAME.jwk.json stays with its owner, NAME.jwks.json goes to the gateway."""
    private, public = keyfiles.new_client_key(instance)
    _saved(folder / f"{name}.jwk.json", private)
    _saved(folder / f"{name}.jwks.json", public)


def _saved(path: Path, document: Mapping[str, object]) -> None:
    try:
        keyfiles.save(path, document)
    except OSError as error:
        _fail(f"{path} was not written: {error.strerror}. A key is never overwritten: move the old one away first.")
    print(f"wrote {path}")


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="Of the gateway; 0 picks a free one.")] = 8080,
    ops_port: Annotated[int, typer.Option(help="Of metrics and health; 0 picks a free one.")] = 9090,
    data: Annotated[Path, typer.Option(help="The folder for the database and demo.json.")] = Path("demo-data"),
    once: Annotated[bool, typer.Option("--once", help="Play the story, then exit 0 if every step held.")] = False,
    root: Annotated[Path, typer.Option(help="The repository.")] = Path(),
) -> None:
    """Start the gateway among pretend ministries and play a story."""
    stage = root / "deploy" / "demo" / "story.py"
    if not stage.exists():
        _fail(f"{stage} is missing: run the demonstration in a clone of the repository.")
    sys.path.insert(0, str(root.resolve()))
    play = runpy.run_path(str(stage))["play"]
    raise typer.Exit(play(root=root, data=data, port=port, ops_port=ops_port, once=once))


def _settings(root: Path | None = None) -> settings.Settings:
    try:
        chosen = settings.read(os.environ)
    except settings.BadSettings as error:
        _fail(f"The settings are wrong:\n{error}")
        raise
    if root is None:
        return chosen
    keys = chosen.keys if "GATEWAY_KEYS" in os.environ else root / chosen.keys
    return chosen.model_copy(update={"catalogue": root, "keys": keys})


def _loaded(chosen: settings.Settings) -> Loaded:
    return load(
        chosen.catalogue,
        instance=chosen.instance,
        zone=chosen.zone,
        keys=chosen.keys,
        at=datetime.now(UTC),
        environment=None,
    )


def _accepted(chosen: settings.Settings) -> Catalogue:
    loaded = _loaded(chosen)
    if loaded.catalogue is None:
        _fail("The catalogue has errors:", render(loaded.findings))
        raise typer.Exit(1)
    return loaded.catalogue


def _read(database: str | None, what: Callable[[Path], T]) -> T:
    try:
        return what(database_path(database or _settings().database))
    except (StoreFailed, ValueError) as error:
        _fail(str(error))
        raise


def _fail(*lines: str) -> Any:
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
