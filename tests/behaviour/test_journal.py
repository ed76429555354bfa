"""The journal's writer on every database: gapless, durable, never changed, and honest when it cannot write."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest

from gateway.core.entry import Bodies, Draft, Particulars, Stamp, draft
from gateway.core.refusal import Refusal
from gateway.edge import archive
from gateway.edge.journal import MAX_WAITING, Book, Journal
from gateway.edge.postgres import named
from gateway.edge.store import Driver, Plan, Rows, StoreFailed, StoreRefused, database_path
from tests.behaviour.server import in_a_thread

Open = Callable[[], Driver]
T = TypeVar("T")
SALTS = bytes(64)


def drafted(what: str = "test") -> Draft:
    return draft({"step": "administered", "what": what}, Bodies(received=b"body"), Particulars(case="C-1"), SALTS)


def place(database: str) -> archive.Place:
    return database if named(database) else database_path(database)


def kept(database: str) -> list[archive.Kept]:
    return in_a_thread(list, archive.entries(place(database)))


async def test_numbers_are_gapless_in_the_order_of_arrival(journal: Journal, database: str) -> None:
    """A thousand entries at once get the numbers 1 to 1000, each with the hash that its caller was told."""
    stamps = await asyncio.gather(*(journal.append(drafted(str(n))) for n in range(1000)))
    assert [stamp.n for stamp in stamps] == list(range(1, 1001))
    assert [(each.n, each.leaf) for each in kept(database)] == [(stamp.n, stamp.leaf) for stamp in stamps]
    assert [orjson.loads(each.entry)["what"] for each in kept(database)] == [str(n) for n in range(1000)]


async def test_the_database_finds_entries_by_a_word(journal: Journal, database: str) -> None:
    """What holds any of the words is read, and nothing else."""
    for what in ("one", "two", 'three "four"', "five"):
        await journal.append(drafted(what))

    def read(*words: str) -> list[archive.Kept | archive.Spoilt]:
        return list(archive.rows(place(database), words))

    assert [each.n for each in in_a_thread(read, "one", '\\"four')] == [1, 3]
    assert [each.n for each in in_a_thread(read, "%")] == []
    assert len(in_a_thread(read)) == 4


async def test_each_process_writes_under_a_number_of_its_own(opened: Open, database: str) -> None:
    """A restart begins a new writer: numbers are never continued, nor used twice."""
    for _ in range(3):
        journal = Journal(opened())
        await journal.open("test")
        await journal.append(drafted())
        await journal.close()
    assert [(each.writer, each.n) for each in kept(database)] == [(1, 1), (2, 1), (3, 1)]


async def test_what_is_true_together_is_written_together(journal: Journal, database: str) -> None:
    """A plan that fails leaves neither its rows nor its entries, and its batch's others go through."""

    def failing(book: Book) -> Plan[None]:
        yield "insert into assertions (system, jti, until) values ($1, $2, 1)", ("a", "1")
        book.write(drafted("lost"))
        raise ArithmeticError

    results = await asyncio.gather(
        journal.append(drafted("first")), journal.run(failing), journal.append(drafted("last")), return_exceptions=True
    )
    assert isinstance(results[1], ArithmeticError)
    assert [orjson.loads(each.entry)["what"] for each in kept(database)] == ["first", "last"]

    def count(_: Book) -> Plan[int]:
        rows = yield "select count(*) from assertions", ()
        return int(rows[0][0])

    assert await journal.run(count) == 0


async def test_a_refused_row_fails_alone(journal: Journal, database: str) -> None:
    """One statement that the database refuses costs its own caller a refusal, no number and nobody else anything."""

    def refused(_: Book) -> Plan[None]:
        yield "insert into assertions (system, jti, until) values ($1, null, 1)", ("a",)

    works = [journal.append(drafted(str(n))) for n in range(30)]
    works.insert(15, journal.run(refused))  # type: ignore[arg-type] # another result
    results = await asyncio.gather(*works, return_exceptions=True)
    assert [r.code for r in results if isinstance(r, Refusal)] == ["journal.unavailable"]
    assert [each.n for each in kept(database)] == list(range(1, 31))


BOTH = (
    "update journal_{m} set entry = {zero}",
    "update journal_{m} set particulars = {zero}",
    "update journal_{m} set n = n + 100, particulars = null",
    "delete from journal_{m}",
    (
        "insert into journal_{m} select writer, n, leaf, {zero}, null from journal_{m} where true "
        "on conflict (writer, n) do update set entry = excluded.entry"
    ),
)
ATTACKS = {
    "sqlite": (
        *BOTH,
        "update or replace journal_{m} set n = n + 100",
        "insert or replace into journal_{m} select writer, n, leaf, {zero}, null from journal_{m}",
        "replace into journal_{m} select writer, n, leaf, {zero}, null from journal_{m}",
    ),
    "postgresql": (
        *BOTH,
        "truncate journal_{m}",
        "truncate writers, journal_{m} cascade",
        "merge into journal_{m} j using journal_{m} k on j.n = k.n when matched then delete",
        "merge into journal_{m} j using journal_{m} k on j.n = k.n when matched then update set entry = {zero}",
    ),
}


@pytest.mark.parametrize(
    ("database", "attack"), [(name, each) for name in ATTACKS for each in ATTACKS[name]], indirect=["database"]
)
async def test_entries_are_never_changed(journal: Journal, database: str, attack: str) -> None:
    """The database itself refuses every change of what was written."""
    await journal.append(drafted())
    (before,) = kept(database)
    attack = attack.replace("{zero}", "'\\x00'::bytea" if named(database) else "x'00'")

    def attacked(_: Book) -> Plan[None]:
        rows = yield "select min(month) from journal_months", ()
        yield attack.format(m=rows[0][0]), ()

    with pytest.raises(Refusal) as caught:
        await journal.run(attacked)
    assert isinstance(caught.value.__cause__, StoreRefused)
    assert kept(database) == [before]


async def test_particulars_can_be_forgotten(journal: Journal, database: str) -> None:
    """The one permitted change takes away who, and leaves the proof that."""
    await journal.append(drafted())

    def forget(_: Book) -> Plan[None]:
        rows = yield "select min(month) from journal_months", ()
        yield f"update journal_{rows[0][0]} set particulars = null", ()  # noqa: S608 - a month's digits

    await journal.run(forget)
    assert [each.particulars for each in kept(database)] == [None]
    assert in_a_thread(archive.check, place(database)).faults == ()


class Failing:
    """A driver that fails while it is told to, in front of a real one."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.fails = False

    async def transact(self, plan: Callable[[], Plan[T]]) -> T:
        if self.fails:
            raise StoreFailed("the disk is full")
        return await self.driver.transact(plan)

    async def read(self, select: str, values: Sequence[Any] = ()) -> Rows:
        return await self.driver.read(select, values)

    def beside(self) -> Driver:
        return Failing(self.driver.beside())

    async def close(self) -> None:
        await self.driver.close()


async def test_a_database_that_fails_and_comes_back(opened: Open, database: str) -> None:
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
