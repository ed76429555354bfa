"""The journal as people read it: ``gateway journal show`` and ``gateway journal check``."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from typing import Annotated
from uuid import UUID

import orjson
import typer

from gateway import settings
from gateway.commands.ordering import carried_out_at, user
from gateway.commands.terminal import fail, read_settings
from gateway.core.entry import Step, facts_of
from gateway.edge import archive, lookups
from gateway.edge.archive import Kept, Place, Spoilt, Wanted
from gateway.edge.control import Order
from gateway.edge.database import instance_of
from gateway.edge.postgres import named
from gateway.edge.store import StoreFailed, database_path

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The journal of decisions and exchanges.")

Database = Annotated[str | None, typer.Option(help="The database (default: GATEWAY_DATABASE).")]


@app.command()
def show(  # noqa: PLR0913 - its options
    *,
    exchange: Annotated[str | None, typer.Option(help="Only this exchange, by its Exchange-Id.")] = None,
    document: Annotated[str | None, typer.Option(help="Only this document, with what became of its files.")] = None,
    step: Annotated[Step | None, typer.Option(help="Only entries of this step.")] = None,
    since: Annotated[str | None, typer.Option(help="Only what is not older: a day or an instant.")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many, the latest.")] = None,
    particulars: Annotated[bool, typer.Option("--particulars", help="With what stands beside each entry.")] = False,
    reason: Annotated[str | None, typer.Option(help="With --particulars: why, in a line of the journal.")] = None,
    by: Annotated[str | None, typer.Option(help="Who looks (default: the user of the operating system).")] = None,
    database: Database = None,
) -> None:
    """Print entries, one JSON line each; by time, where only some are asked for."""
    if particulars != (reason is not None) or (by is not None and not particulars):
        fail("Whoever looks at particulars says why: --particulars and --reason go together, and --by with them.")
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
    if reason is not None:
        _write_down(place, rows, wanted, {"reason": reason, "who": by or user()})
    raise typer.Exit(1 if _print(rows, beside=particulars) else 0)


def _print(rows: Iterable[Kept | Spoilt], *, beside: bool) -> int:
    """How many of them are none."""
    faults = 0
    for row in rows:
        if isinstance(row, Kept) and facts_of(row.entry):
            typer.echo(orjson.dumps(archive.shown(row, beside=beside)))
        else:
            faults += 1
            why = f"{row.writer}.{row.n}: the entry is no JSON object" if isinstance(row, Kept) else row
            typer.echo(f"FAULT {why}", err=True)
    return faults


def _write_down(place: Place, rows: Iterable[Kept | Spoilt], wanted: Wanted, said: Mapping[str, str]) -> None:
    """Who looks at what, and why, before anything of it is shown; where that cannot be written, nothing is."""
    url = place if isinstance(place, str) else f"sqlite:///{place}"
    about = {name: each for name, each in (("exchange", wanted.exchange), ("document", wanted.document)) if each}
    entries = (lookups.named(rows) or "none") if isinstance(rows, Sequence) else lookups.ALL
    try:
        instance = asyncio.run(instance_of(url))
        order = Order(lookups.SHOW, {"entries": entries, **about, **said})
        outcome = asyncio.run(carried_out_at(url, instance, order, lambda: lookups.orders(instance)))
    except (StoreFailed, ValueError) as error:
        fail(f"Nothing is shown, as that cannot be written down: {error}")
    if not outcome.done:
        fail(f"Nothing is shown, as that cannot be written down: {outcome.text}")


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
