"""What only SQLite does: one process for one file, and a file that somebody else touches."""

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.commands.ordering import carried_out_at
from gateway.core.entry import Bodies, Draft, Particulars, draft, numbered
from gateway.core.refusal import Refusal
from gateway.edge import archive
from gateway.edge.control import Order
from gateway.edge.journal import Journal
from gateway.edge.migration import migrate
from gateway.edge.store import Driver, SqliteDriver, StoreFailed, remove

Open = Callable[[], Driver]


def drafted() -> Draft:
    return draft({"step": "administered"}, Bodies(received=b"body"), Particulars(case="C-1"), bytes(64))


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    return lambda: SqliteDriver(tmp_path / "gateway.sqlite3", "TEST")


async def test_two_processes_do_not_share_a_sqlite_file(opened: Open) -> None:
    """The second one is told why and what to do."""
    first = opened()
    with pytest.raises(StoreFailed, match=r"in use by another gateway process.*SQLite serves one process"):
        opened()
    await first.close()
    await opened().close()


def test_a_check_finds_what_was_tampered_with(tmp_path: Path) -> None:
    """Somebody who gets past the triggers is found: a changed byte, a missing number, other particulars."""
    path = tmp_path / "copy.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("create table journal_months (month text)")
    connection.execute("insert into journal_months values ('2026_11')")
    connection.execute("create table journal_2026_11 (writer, n, leaf, entry, particulars)")
    for n in (1, 2, 4):
        entry, stamp = numbered(drafted(), 7, n)
        row = (7, n, stamp.leaf, entry + b" " if n == 2 else entry, b"{}" if n == 1 else drafted().particulars)
        connection.execute("insert into journal_2026_11 values (?, ?, ?, ?, ?)", row)
    connection.commit()
    connection.close()
    assert archive.check(path).faults == (
        "7.1: the particulars are not those of the entry",
        "7.2: the leaf is not the hash of the entry",
        "7.3: missing; the next entry is 7.4",
    )


@pytest.mark.parametrize("name", ["gateway.sqlite3", "gateway.sqlite3.lock"])
async def test_a_file_that_is_taken_away_is_noticed(opened: Open, tmp_path: Path, name: str) -> None:
    """Nothing is said to be written that no file holds; put back, the file is used again."""
    journal = Journal(opened())
    await journal.open("test")
    (tmp_path / name).rename(tmp_path / "elsewhere")
    with pytest.raises(Refusal) as caught:
        await journal.append(drafted())
    assert "was removed or replaced" in str(caught.value.__cause__)
    assert journal.failing is True
    (tmp_path / "elsewhere").rename(tmp_path / name)
    assert (await journal.append(drafted())).n == 1
    await journal.close()


FOREIGN = ["create table payroll (person text)", "create table alembic_version (version_num text)", None]


def listing(folder: Path) -> dict[str, bytes]:
    """Every file, and what it holds."""
    return {each.name: each.read_bytes() for each in folder.iterdir()}


@pytest.mark.parametrize("table", FOREIGN)
async def test_no_order_makes_tables_in_a_file_that_is_none_of_ours(tmp_path: Path, table: str | None) -> None:
    """A slip in GATEWAY_DATABASE: nothing is written, not even a lock file; nor in a file that is empty."""
    path = tmp_path / "gateway.sqlite3"
    foreign(path, table)
    before = listing(tmp_path)
    with pytest.raises(StoreFailed, match="is no gateway's database, and nothing was made in it"):
        await carried_out_at(f"sqlite:///{path}", "TEST", Order("lift", {}), dict)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("table", FOREIGN[:2])
def test_no_gateway_is_made_in_a_file_of_others(opened: Open, tmp_path: Path, table: str) -> None:
    """Neither by serving nor by `migrate`."""
    path = tmp_path / "gateway.sqlite3"
    foreign(path, table)
    before = path.read_bytes()
    with pytest.raises(StoreFailed, match="is no gateway's database"):
        migrate(f"sqlite:///{path}", "TEST")
    assert listing(tmp_path) == {path.name: before}
    with pytest.raises(StoreFailed, match="is no gateway's database"):
        opened()
    assert path.read_bytes() == before


def foreign(path: Path, table: str | None) -> None:
    path.touch(0o600)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(table or "select 1")


async def test_a_database_in_use_is_not_removed(opened: Open, tmp_path: Path) -> None:
    """`remove` takes the lock first, and leaves the lock file where it is."""
    driver = opened()
    with pytest.raises(StoreFailed):
        remove(tmp_path / "gateway.sqlite3")
    await driver.close()
    remove(tmp_path / "gateway.sqlite3")
    assert os.listdir(tmp_path) == ["gateway.sqlite3.lock"]  # noqa: PTH208 - a list of names is what is meant
