"""``gateway check``: every mistake in what people declared, in one run."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway import settings
from gateway.catalogue import derived, scaffold
from gateway.catalogue.reading import render
from gateway.commands.holdings import lacking
from gateway.commands.terminal import Root, fail, loaded, read_settings
from gateway.core.model import Catalogue


def check(
    *,
    root: Root = None,
    write: Annotated[bool, typer.Option(help="Add missing decision tests, regenerate derived files.")] = False,
) -> None:
    """Find every mistake in schemas/, adapters/ and policies/: file, line and remedy."""
    chosen = read_settings(root)
    if write:
        _write(chosen)
    found = loaded(chosen)
    findings = found.findings + derived.stale(chosen.catalogue)
    if found.catalogue:
        findings += lacking(chosen.catalogue, chosen.keys, found.catalogue)
    if findings:
        typer.echo(render(findings))
    errors = sum(finding.level == "error" for finding in findings)
    warnings = len(findings) - errors
    typer.echo(f"{'refused' if errors else 'accepted'}: {errors} errors, {warnings} warnings")
    if found.catalogue:
        typer.echo(_summary(found.catalogue))
    raise typer.Exit(1 if errors else 0)


def _write(chosen: settings.Settings) -> None:
    try:
        written = scaffold.write(
            chosen.catalogue, instance=chosen.instance, zone=chosen.zone, keys=chosen.keys, at=datetime.now(UTC)
        )
    except OSError as error:
        fail(f"{error.filename} cannot be written ({error.strerror}): run gateway check --write as whoever owns it.")
    for path in written:
        typer.echo(f"wrote {path}")


def _summary(catalogue: Catalogue) -> str:
    return (
        f"{len(catalogue.services)} services, {len(catalogue.agencies)} agencies, {len(catalogue.systems)} systems, "
        f"{len(catalogue.agreements)} agreements; digest {catalogue.digest[:16]}"
    )
