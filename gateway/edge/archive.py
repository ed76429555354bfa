"""The journal as it is read: entries shown, and everything held against its own hashes and numbers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import sqlalchemy as sa

from gateway.core.entry import faults
from gateway.edge.store import StoreFailed, reader


@dataclass(frozen=True, slots=True)
class Kept:
    """One stored entry."""

    writer: int
    n: int
    leaf: bytes
    entry: bytes
    particulars: bytes | None


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of the whole journal found."""

    entries: int
    writers: int
    faults: tuple[str, ...]


def entries(path: Path) -> Iterator[Kept]:
    """Every entry by writer and number, month by month, without loading them all. Raises StoreFailed."""
    engine = reader(path)
    try:
        with engine.connect() as connection:
            for (month,) in list(connection.execute(sa.text("select month from journal_months order by month"))):
                table = sa.table(f"journal_{month}", *map(sa.column, ("writer", "n", "leaf", "entry", "particulars")))
                rows = connection.execution_options(yield_per=1000).execute(
                    sa.select(*table.columns).order_by(table.c.writer, table.c.n)
                )
                for row in rows:
                    yield Kept(*row)
    except sa.exc.SQLAlchemyError as error:
        raise StoreFailed(f"{path.name} cannot be read as a journal") from error
    finally:
        engine.dispose()


def check(path: Path) -> Checked:
    """Each entry's leaf, number and particulars, and that no writer's numbers have a gap. Raises StoreFailed."""
    last: dict[int, int] = {}
    wrong: list[str] = []
    count = 0
    for kept in entries(path):
        count += 1
        expected = last.get(kept.writer, 0) + 1
        if kept.n != expected:
            wrong.append(f"{kept.writer}.{expected}: missing; the next entry is {kept.writer}.{kept.n}")
        last[kept.writer] = kept.n
        found = faults(kept.writer, kept.n, (kept.leaf, kept.entry, kept.particulars))
        wrong += [f"{kept.writer}.{kept.n}: {fault}" for fault in found]
    return Checked(count, len(last), tuple(wrong))


def shown(kept: Kept) -> dict[str, object]:
    """An entry with its leaf; its particulars are left out, as a terminal is no place for them."""
    facts: dict[str, object] = orjson.loads(kept.entry)
    return {**facts, "leaf": kept.leaf.hex(), "forgotten": kept.particulars is None}
