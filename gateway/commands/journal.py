"""The journal as people read it: ``gateway journal show`` and ``gateway journal check``."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date, datetime, time
from typing import Annotated
from uuid import UUID

import orjson
import typer

from gateway import settings
from gateway.commands.terminal import fail, read_settings
from gateway.core.entry import Step, facts_of
from gateway.edge import archive
from gateway.edge.archive import Kept, Place, Spoilt, Wanted
from gateway.edge.postgres import named
from gateway.edge.store import StoreFailed, database_path

app = typer.Typer(no_args_is_help=True, help="The journal of decisions and exchanges.")

Database = Annotated[str | None, typer.Option(help="The database (default: GATEWAY_DATABASE).")]


@app.command()
def show(
    *,
    exchange: Annotated[str | None, typer.Option(help="Only this exchange, by its Exchange-Id.")] = None,
    document: Annotated[str | None, typer.Option(help="Only this document, with what became of its files.")] = None,
    step: Annotated[Step | None, typer.Option(help="Only entries of this step.")] = None,
    since: Annotated[str | None, typer.Option(help="Only what is not older: a day or an instant.")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many, the latest.")] = None,
    particulars: Annotated[bool, typer.Option("--particulars", help="With what stands beside each entry.")] = False,
    database: Database = None,
) -> None:
    """Print entries, one JSON line each; by time, where only some are asked for."""
    place = _place(database)
    wanted = Wanted(
        exchange=None if exchange is None else _id("--exchange must be an Exchange-Id", exchange),
        step=step,
        since=None if since is None else _since(since),
        document=None if document is None else _id("--document must be the id of a document", document),
    )
    wanted = _with_files(place, wanted)
    rows: Iterable[Kept | Spoilt] = _rows(place, wanted)
    if wanted != Wanted() or last is not None:
        try:
            rows = archive.by_time(rows, wanted, last)
        except ValueError as error:
            fail(str(error))
    faults = 0
    for row in rows:
        if isinstance(row, Kept) and facts_of(row.entry):
            typer.echo(orjson.dumps(archive.shown(row, beside=particulars)))
        else:
            faults += 1
            why = f"{row.writer}.{row.n}: the entry is no JSON object" if isinstance(row, Kept) else row
            typer.echo(f"FAULT {why}", err=True)
    raise typer.Exit(1 if faults else 0)


@app.command()
def check(database: Database = None) -> None:
    """Hold every entry against its hash and its number."""
    try:
        found = archive.check(_place(database))
    except StoreFailed as error:
        fail(str(error))
    for fault in found.faults:
        typer.echo(f"FAULT {fault}")
    typer.echo(f"{found.entries} entries of {found.writers} writers, {len(found.faults)} faults")
    raise typer.Exit(1 if found.faults else 0)


def _rows(path: Place, wanted: Wanted) -> Iterator[Kept | Spoilt]:
    try:
        yield from archive.rows(path, wanted.words)
    except StoreFailed as error:
        fail(str(error))


def _with_files(path: Place, wanted: Wanted) -> Wanted:
    """What is wanted of a document concerns what went along with it."""
    if wanted.document is None:
        return wanted
    try:
        return replace(wanted, files=archive.files_of(path, wanted.document))
    except StoreFailed as error:
        fail(str(error))


def _id(what: str, text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        fail(f'{what}, a UUID such as 01939f5e-7b1c-7cc3-98c4-dc0c0c07398f, not "{text}".')


def _since(text: str) -> datetime:
    try:
        if len(text) == len("2026-01-31"):
            return datetime.combine(date.fromisoformat(text), time(), read_settings().zone)
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = datetime.min  # noqa: DTZ901 - it names no offset, and is refused below
    if instant.tzinfo is None:
        fail(
            f'--since must be a day such as 2026-01-31, or an instant such as 2026-01-31T22:00:00+07:00, not "{text}".'
        )
    return instant


def _place(database: str | None) -> Place:
    if database is None:
        url = read_settings().database
    else:
        try:
            url = settings.database_url(database)
        except ValueError as error:
            fail(f'--database {error}, not "{database}".')
    return url if named(url) else database_path(url)
