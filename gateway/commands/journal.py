"""The journal as people read it: ``gateway journal show`` and ``gateway journal check``."""

from collections.abc import Iterable, Iterator
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
    step: Annotated[Step | None, typer.Option(help="Only entries of this step.")] = None,
    since: Annotated[str | None, typer.Option(help="Only what is not older: a day or an instant.")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many, the latest.")] = None,
    database: Database = None,
) -> None:
    """Print entries, one JSON line each, without their particulars; by time, where only some are asked for."""
    wanted = Wanted(None if exchange is None else _exchange(exchange), step, None if since is None else _since(since))
    rows: Iterable[Kept | Spoilt] = _rows(_place(database))
    if wanted != Wanted() or last is not None:
        try:
            rows = archive.by_time(rows, wanted, last)
        except ValueError as error:
            fail(str(error))
    faults = 0
    for row in rows:
        if isinstance(row, Kept) and facts_of(row.entry):
            typer.echo(orjson.dumps(archive.shown(row)))
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


def _rows(path: Place) -> Iterator[Kept | Spoilt]:
    try:
        yield from archive.rows(path)
    except StoreFailed as error:
        fail(str(error))


def _exchange(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        fail(f'--exchange must be an Exchange-Id, a UUID such as 01939f5e-7b1c-7cc3-98c4-dc0c0c07398f, not "{text}".')


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
