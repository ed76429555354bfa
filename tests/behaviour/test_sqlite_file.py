"""What only SQLite does: one process for one file, and a file that somebody else touches."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.core.entry import Bodies, Draft, Particulars, draft, numbered
from gateway.core.refusal import Refusal
from gateway.edge import archive
from gateway.edge.journal import Journal
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


async def test_a_database_in_use_is_not_removed(opened: Open, tmp_path: Path) -> None:
    """`remove` takes the lock first, and leaves the lock file where it is."""
    driver = opened()
    with pytest.raises(StoreFailed):
        remove(tmp_path / "gateway.sqlite3")
    await driver.close()
    remove(tmp_path / "gateway.sqlite3")
    assert os.listdir(tmp_path) == ["gateway.sqlite3.lock"]  # noqa: PTH208 - a list of names is what is meant
