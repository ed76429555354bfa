"""The journal's writer on every database: gapless, durable, never changed, and honest when it cannot write."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import orjson
import pytest

from gateway.core.entry import Bodies, Draft, Particulars, Stamp, draft, numbered
from gateway.core.refusal import Refusal
from gateway.edge import archive
from gateway.edge.journal import MAX_WAITING, Book, Journal
from gateway.edge.store import Driver, Plan, StoreFailed, StoreRefused, remove

Open = Callable[[], Driver]
T = TypeVar("T")
SALTS = bytes(64)


def drafted(what: str = "test") -> Draft:
    return draft({"step": "administered", "what": what}, Bodies(received=b"body"), Particulars(case="C-1"), SALTS)


def kept(folder: Path) -> list[archive.Kept]:
    return list(archive.entries(folder / "gateway.sqlite3"))


async def test_numbers_are_gapless_in_the_order_of_arrival(journal: Journal, tmp_path: Path) -> None:
    """A thousand entries at once get the numbers 1 to 1000, each with the hash that its caller was told."""
    stamps = await asyncio.gather(*(journal.append(drafted(str(n))) for n in range(1000)))
    assert [stamp.n for stamp in stamps] == list(range(1, 1001))
    assert [(each.n, each.leaf) for each in kept(tmp_path)] == [(stamp.n, stamp.leaf) for stamp in stamps]
    assert [orjson.loads(each.entry)["what"] for each in kept(tmp_path)] == [str(n) for n in range(1000)]


async def test_each_process_writes_under_a_number_of_its_own(opened: Open, tmp_path: Path) -> None:
    """A restart begins a new writer: numbers are never continued, nor used twice."""
    for _ in range(3):
        journal = Journal(opened())
        await journal.open("test")
        await journal.append(drafted())
        await journal.close()
    assert [(each.writer, each.n) for each in kept(tmp_path)] == [(1, 1), (2, 1), (3, 1)]


async def test_what_is_true_together_is_written_together(journal: Journal, tmp_path: Path) -> None:
    """A plan that fails leaves neither its rows nor its entries, and its batch's others go through."""

    def failing(book: Book) -> Plan[None]:
        yield "insert into assertions (system, jti, until) values ($1, $2, 1)", ("a", "1")
        book.write(drafted("lost"))
        raise ArithmeticError

    results = await asyncio.gather(
        journal.append(drafted("first")), journal.run(failing), journal.append(drafted("last")), return_exceptions=True
    )
    assert isinstance(results[1], ArithmeticError)
    assert [orjson.loads(each.entry)["what"] for each in kept(tmp_path)] == ["first", "last"]

    def count(_: Book) -> Plan[int]:
        rows = yield "select count(*) from assertions", ()
        return int(rows[0][0])

    assert await journal.run(count) == 0


async def test_a_refused_row_fails_alone(journal: Journal, tmp_path: Path) -> None:
    """One statement that the database refuses costs its own caller a refusal, no number and nobody else anything."""

    def refused(_: Book) -> Plan[None]:
        yield "insert into assertions (system, jti, until) values ($1, null, 1)", ("a",)

    works = [journal.append(drafted(str(n))) for n in range(30)]
    works.insert(15, journal.run(refused))  # type: ignore[arg-type] # another result
    results = await asyncio.gather(*works, return_exceptions=True)
    assert [r.code for r in results if isinstance(r, Refusal)] == ["journal.unavailable"]
    assert [each.n for each in kept(tmp_path)] == list(range(1, 31))


@pytest.mark.parametrize(
    "attack",
    [
        "update journal_{m} set entry = x'00'",
        "update journal_{m} set particulars = x'00'",
        "update or replace journal_{m} set n = n + 100",
        "delete from journal_{m}",
        "insert or replace into journal_{m} select writer, n, leaf, x'00', null from journal_{m}",
        "replace into journal_{m} select writer, n, leaf, x'00', null from journal_{m}",
        (
            "insert into journal_{m} select writer, n, leaf, x'00', null from journal_{m} where true "
            "on conflict do update set entry = excluded.entry"
        ),
    ],
)
async def test_entries_are_never_changed(journal: Journal, tmp_path: Path, attack: str) -> None:
    """The database itself refuses every change of what was written."""
    await journal.append(drafted())
    (before,) = kept(tmp_path)

    def attacked(_: Book) -> Plan[None]:
        rows = yield "select month from journal_months", ()
        yield attack.format(m=rows[0][0]), ()

    with pytest.raises(Refusal) as caught:
        await journal.run(attacked)
    assert isinstance(caught.value.__cause__, StoreRefused)
    assert kept(tmp_path) == [before]


async def test_particulars_can_be_forgotten(journal: Journal, tmp_path: Path) -> None:
    """The one permitted change takes away who, and leaves the proof that."""
    await journal.append(drafted())

    def forget(_: Book) -> Plan[None]:
        rows = yield "select month from journal_months", ()
        yield f"update journal_{rows[0][0]} set particulars = null", ()  # noqa: S608 - a month's digits

    await journal.run(forget)
    assert [each.particulars for each in kept(tmp_path)] == [None]
    assert archive.check(tmp_path / "gateway.sqlite3").faults == ()


class Failing:
    """A driver that fails while it is told to, in front of a real one."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.fails = False

    async def transact(self, plan: Callable[[], Plan[T]]) -> T:
        if self.fails:
            raise StoreFailed("the disk is full")
        return await self.driver.transact(plan)

    async def close(self) -> None:
        await self.driver.close()


async def test_a_database_that_fails_and_comes_back(opened: Open, tmp_path: Path) -> None:
    """While it fails every caller is told and `failing` holds; afterwards numbers go on without a gap."""
    driver = Failing(opened())
    journal = Journal(driver)
    await journal.open("test")
    await journal.append(drafted())
    driver.fails = True
    results = await asyncio.gather(*(journal.append(drafted()) for _ in range(5)), return_exceptions=True)
    assert {type(result) for result in results} == {Refusal}
    assert journal.failing is True
    driver.fails = False
    stamp = await journal.append(drafted())
    assert (stamp.n, journal.failing) == (2, False)
    await journal.close()


async def test_the_queue_is_bounded(journal: Journal) -> None:
    """More works than the queue takes are refused at once, not gathered without end."""
    works = [asyncio.ensure_future(journal.append(drafted())) for _ in range(MAX_WAITING + 50)]
    results = await asyncio.gather(*works, return_exceptions=True)
    assert sum(isinstance(result, Refusal) for result in results) == 50
    assert sum(isinstance(result, Stamp) for result in results) == MAX_WAITING


async def test_closing_writes_what_waits(opened: Open, tmp_path: Path) -> None:
    """A stop loses nothing that was handed over before it, and takes nothing more."""
    journal = Journal(opened())
    await journal.open("test")
    works = [asyncio.ensure_future(journal.append(drafted())) for _ in range(100)]
    await asyncio.sleep(0)
    await journal.close()
    assert [stamp.n for stamp in await asyncio.gather(*works)] == list(range(1, 101))
    with pytest.raises(Refusal):
        await journal.append(drafted())


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
