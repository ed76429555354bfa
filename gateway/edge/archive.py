"""The journal as it is read: entries shown, and everything held against its own hashes and numbers."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import nlargest
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any, TypeAlias

import sqlalchemy as sa

from gateway.core.entry import Step, facts_of, faults
from gateway.edge import postgres
from gateway.edge.store import StoreFailed, reader

Place = Path | str
"""SQLite's file, or PostgreSQL's URL."""
MAX_SORTED = 100_000
"""Entries that are held at once, to be put in order."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One stored entry."""

    writer: int
    n: int
    leaf: bytes
    entry: bytes
    particulars: bytes | None


@dataclass(frozen=True, slots=True)
class Spoilt:
    """A row that no gateway wrote: somebody got past the database's own checks."""

    writer: int | None
    n: int | None
    why: str

    def __str__(self) -> str:
        # What stands there instead of a number is not repeated to a terminal.
        return ".".join("?" if each is None else str(each) for each in (self.writer, self.n)) + f": {self.why}"


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of the whole journal found."""

    entries: int
    writers: int
    faults: tuple[str, ...]


def entries(path: Place) -> Iterator[Kept]:
    """Every entry that can be read, in the order of ``rows``. Raises StoreFailed."""
    return (row for row in rows(path) if isinstance(row, Kept))


def rows(path: Place, holding: Sequence[str] = ()) -> Iterator[Kept | Spoilt]:
    """Everything by writer and number, month by month, without loading it all. Raises StoreFailed, also midway.

    ``holding``: only entries in which one of these words stands somewhere; the database looks.
    """
    words = [word.encode() for word in holding]
    return _of_a_file(path, words) if isinstance(path, Path) else map(_kept, postgres.journal_rows(path, words))


def _of_a_file(path: Path, words: Sequence[bytes]) -> Iterator[Kept | Spoilt]:
    engine = reader(path)
    try:
        with engine.connect() as connection:
            driver: object = connection.connection.dbapi_connection
            if isinstance(
                driver, sqlite3.Connection
            ):  # text where bytes belong is to be told, also where it is no UTF-8
                driver.text_factory = lambda raw: raw.decode("utf-8", "replace")
            for (month,) in list(connection.execute(sa.text("select month from journal_months order by month"))):
                table = sa.table(f"journal_{month}", *map(sa.column, ("writer", "n", "leaf", "entry", "particulars")))
                select = sa.select(*table.columns).order_by(table.c.writer, table.c.n)
                if words:
                    select = select.where(sa.or_(*(sa.func.instr(table.c.entry, word) > 0 for word in words)))
                for row in connection.execution_options(yield_per=1000).execute(select):
                    yield _kept(row)
    except sa.exc.SQLAlchemyError as error:
        raise StoreFailed(f"{path} cannot be read as a journal: is it the gateway's database?") from error
    finally:
        engine.dispose()


def _kept(row: Sequence[Any]) -> Kept | Spoilt:
    writer, n, leaf, entry, particulars = row
    if not isinstance(writer, int) or not isinstance(n, int):
        return Spoilt(None, None, "the number is none")
    for name, value in (
        ("entry is", entry),
        ("leaf is", leaf),
        ("particulars are", b"" if particulars is None else particulars),
    ):
        if not isinstance(value, bytes):
            return Spoilt(writer, n, f"the {name} no bytes")
    return Kept(writer, n, leaf, entry, particulars)


def check(path: Place) -> Checked:
    """Each entry's leaf, number and particulars, and that no writer's numbers have a gap. Raises StoreFailed."""
    last: dict[int, int] = {}
    wrong: list[str] = []
    count = 0
    for row in rows(path):
        count += 1
        if row.writer is None or row.n is None:
            wrong.append(str(row))
            continue
        expected = last.get(row.writer, 0) + 1
        if row.n != expected:
            wrong.append(f"{row.writer}.{expected}: missing; the next entry is {row.writer}.{row.n}")
        last[row.writer] = row.n
        wrong += [str(row)] if isinstance(row, Spoilt) else _faults(row)
    return Checked(count, len(last), tuple(wrong))


def _faults(kept: Kept) -> list[str]:
    found = faults(kept.writer, kept.n, (kept.leaf, kept.entry, kept.particulars))
    return [f"{kept.writer}.{kept.n}: {fault}" for fault in found]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are asked for; None: all."""

    exchange: str | None = None
    """Entries of it, and of calls that repeated it."""
    step: Step | None = None
    since: datetime | None = None
    """With its offset."""
    document: str | None = None
    """Entries of it, of what brought it or its receipts to somebody, and of its files."""
    files: frozenset[str] = frozenset()
    """That went along with the document, as ``files_of`` finds them."""

    @property
    def words(self) -> tuple[str, ...]:
        """One of them stands in every entry that is meant; none: they all may be."""
        if self.document is not None:
            return (self.document, *sorted(self.files))
        return () if self.exchange is None else (self.exchange,)

    def means(self, facts: Mapping[str, Any]) -> bool:
        """Whether an entry is of the exchange or the document."""
        if self.exchange is not None and self.exchange not in (facts.get("exchange"), facts.get("first")):
            return False
        if self.document is None or facts.get("attachment") in self.files:
            return True
        handed = facts.get("documents")
        named = (facts.get("document"), *(handed if isinstance(handed, list) else ()))
        # a receipt that is handed out is called by its document and the entry which it is about
        return any(isinstance(each, str) and f"{each}-".startswith(f"{self.document}-") for each in named)


def files_of(path: Place, document: str) -> frozenset[str]:
    """Ids of the files that went along with it, as long as that is not forgotten. Raises StoreFailed."""
    wanted = Wanted(document=document)
    found = (row for row in rows(path, wanted.words) if isinstance(row, Kept) and wanted.means(facts_of(row.entry)))
    return frozenset(file for row in found for file in _attached(row.particulars or b"{}"))


def _attached(particulars: bytes) -> Iterator[str]:
    files = facts_of(particulars).get("attachments")
    for each in files if isinstance(files, list) else ():
        if isinstance(each, dict) and isinstance(each.get("attachment"), str):
            yield each["attachment"]


def by_time(found: Iterable[Kept | Spoilt], wanted: Wanted, last: int | None) -> Sequence[Kept | Spoilt]:
    """Those that are wanted, the oldest first; ``last``: so many, the latest.

    What has no time, as it is spoilt, stands behind the entry before it. ValueError: too many to be put in order.
    """
    timed = _timed(found, wanted)
    if last is not None:
        return [row for *_, row in sorted(nlargest(last, timed, key=_moment), key=_moment)]
    held = list(islice(timed, MAX_SORTED + 1))
    if len(held) > MAX_SORTED:
        raise ValueError(f"More than {MAX_SORTED} entries are meant: add --since, or --last NUMBER.")
    return [row for *_, row in sorted(held, key=_moment)]


_Timed: TypeAlias = tuple[float, int, Kept | Spoilt]


def _timed(found: Iterable[Kept | Spoilt], wanted: Wanted) -> Iterator[_Timed]:
    """With its time, and its place among all, which orders what happened at one time."""
    earliest = -inf if wanted.since is None else wanted.since.timestamp()
    at = -inf
    for place, row in enumerate(found):
        facts = facts_of(row.entry) if isinstance(row, Kept) else {}
        at = _seconds(facts.get("at"), at)
        if wanted.means(facts) and wanted.step in (None, facts.get("step")) and at >= earliest:
            yield at, place, row


def _moment(timed: _Timed) -> tuple[float, int]:
    return timed[:2]


def _seconds(at: object, otherwise: float) -> float:
    try:
        instant = datetime.fromisoformat(str(at))
    except ValueError:
        return otherwise
    return otherwise if instant.tzinfo is None else instant.timestamp()


def shown(kept: Kept, *, beside: bool = False) -> dict[str, object]:
    """An entry with its leaf. Its particulars only where they are asked for: a terminal is no place for them."""
    said = {**facts_of(kept.entry), "leaf": kept.leaf.hex(), "forgotten": kept.particulars is None}
    return {**said, "beside": facts_of(kept.particulars)} if beside and kept.particulars is not None else said
