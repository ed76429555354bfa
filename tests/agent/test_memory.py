"""The agent's memory: what it promises of its file."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.agent import memory
from gateway.agent.memory import Ledger, opened
from gateway.agent.ports import Final, Foreign, Gap, Told, Unwritten
from gateway.core.delivery import Reason
from gateway.core.handling import Known, Outcome, Record, Standing, Verdict, begun, refused, taken


def known(document: str = "id", position: int = 0) -> Known:
    """It was begun."""
    return begun(Record(document, "letters.v1", 0, position, 0, b"digest"), None)


async def test_what_is_written_is_there_after_a_restart(tmp_path: Path) -> None:
    """Every member of it, and the memory is still the same one."""
    it = refused(known(), Reason.DEFECTIVE)
    async with opened(tmp_path / "one") as ledger:
        await ledger.memory.write(it, owed=True)
        identity = ledger.places.identity
    async with opened(tmp_path / "one") as ledger:
        assert await ledger.memory.look("id") == it
        assert await ledger.memory.look("another") is None
        assert ledger.places.identity == identity
    async with opened(tmp_path / "two") as ledger:
        assert ledger.places.identity != identity


async def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    """It names documents and register numbers."""
    async with opened(tmp_path / "one") as ledger:
        await ledger.memory.write(known())
        assert _seen_by_others(tmp_path) == {0}


def _seen_by_others(folder: Path) -> set[int]:
    return {each.stat().st_mode & 0o077 for each in folder.iterdir()}


async def test_an_outcome_that_is_told_anew_is_not_covered_by_the_answer_to_the_old_one(tmp_path: Path) -> None:
    """The gateway answers the first report while the second is written: that one is still to be told."""
    async with opened(tmp_path / "one") as ledger:
        await ledger.memory.write(taken(known(), None), owed=True)
        (first,) = await ledger.dues.unreported(10)
        await ledger.memory.write(taken(known(), "R-1"), owed=True)
        await ledger.dues.reported(first, Told())
        (second,) = await ledger.dues.unreported(10)
        assert (second.outcome, second.register_number) == (Outcome.REGISTERED, "R-1")
        assert second.number > first.number


async def test_reports_come_in_the_order_of_their_outcomes(tmp_path: Path) -> None:
    """Page by page, from any one on; what has an answer is gone from them."""
    async with opened(tmp_path / "one") as ledger:
        for document in "abcd":
            await ledger.memory.write(taken(known(document), None), owed=True)
        first = await ledger.dues.unreported(2)
        rest = await ledger.dues.unreported(9, first[-1].number)
        assert [each.document for each in (*first, *rest)] == list("abcd")
        await ledger.dues.reported(first[0], Final("document.ended"))
        await ledger.dues.reported(first[1], Told())
        counts = await ledger.counts()
        assert (counts.seen, counts.unreported, counts.refused_reports) == (4, 2, 1)


async def test_a_new_try_takes_back_what_was_to_be_told(tmp_path: Path) -> None:
    """It is being handed over again: its old outcome is none any more."""
    async with opened(tmp_path / "one") as ledger:
        await ledger.memory.write(refused(known(), Reason.OTHER), owed=True)
        await ledger.memory.write(known())
        assert await ledger.dues.unreported(10) == ()


async def test_records_that_were_not_taken_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write to the topic cannot fill the disk: the oldest go; one record is one, however often read."""
    monkeypatch.setattr(memory, "MAX_FOREIGN", 3)
    async with opened(tmp_path / "one") as ledger:
        for position in (1, 2, 3, 4, 5, 5):
            await ledger.places.keep(Foreign(0, position, "no_event", "it has no value"))
        assert [each.position for each in await ledger.places.foreign()] == [5, 4, 3]
        assert (await ledger.counts()).foreign == 3
        await ledger.places.looked()
        assert ((await ledger.counts()).foreign, len(await ledger.places.foreign())) == (0, 3)


async def test_a_gap_stays_until_somebody_has_looked(tmp_path: Path) -> None:
    """A second one of the same partition does not hide where the first began."""
    async with opened(tmp_path / "one") as ledger:
        await ledger.places.missed(Gap(0, 5, 9))
        await ledger.places.missed(Gap(0, 20, 30))
        assert await ledger.places.gaps() == (Gap(0, 5, 30),)
        await ledger.places.looked()
        assert await ledger.places.gaps() == ()


async def test_two_processes_may_use_it(tmp_path: Path) -> None:
    """A person settles while the agent works."""
    async with opened(tmp_path / "one") as one, opened(tmp_path / "one") as two:
        await one.memory.write(known())
        assert await two.memory.look("id") == known()


def _of_another_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as base:
        base.execute("pragma user_version = 99")


def _no_database(path: Path) -> None:
    path.write_bytes(b"nothing of the kind" * 1000)


@pytest.mark.parametrize("spoilt", [_of_another_version, _no_database, Path.mkdir])
async def test_a_file_that_cannot_be_used_says_what_to_do(tmp_path: Path, spoilt: object) -> None:
    """It is neither overwritten nor taken for an empty one."""
    spoilt(tmp_path / "one")  # type: ignore[operator] # one of three ways
    with pytest.raises(Unwritten, match="cannot be"):
        async with opened(tmp_path / "one"):
            pass


@pytest.mark.parametrize("standing", Standing)
async def test_only_an_unknown_outcome_can_be_settled(tmp_path: Path, standing: Standing) -> None:
    """Nobody overrules what is known."""
    async with opened(tmp_path / "one") as ledger:
        await ledger.memory.write(replace(known(), standing=standing))
        decided = await ledger.memory.decide("id", Verdict.TAKEN, by="a person", why="looked it up")
        assert decided == (standing is Standing.UNKNOWN)
        assert len(await ledger.memory.decisions(9)) == decided


async def test_forgetting_goes_through_more_than_one_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are."""
    monkeypatch.setattr(memory, "FORGOTTEN_AT_ONCE", 2)
    documents: Sequence[str] = "abcdefg"
    async with opened(tmp_path / "one") as ledger:
        for position, document in enumerate(documents):
            await ledger.memory.write(taken(known(document, position), None))
        await ledger.memory.forget(0, 5)
        assert await ledger.memory.unknown(documents) == tuple("abcde")


@asynccontextmanager
async def busy(ledger: Ledger) -> AsyncIterator[list[str]]:
    """What is asked for within waits, and goes to the disk at the end. Gives the statements that were made for it."""
    go, said = threading.Event(), list[str]()

    def first(base: sqlite3.Connection) -> None:
        go.wait()
        base.set_trace_callback(said.append)

    one = asyncio.create_task(ledger.base.transact(first))
    await asyncio.sleep(0)
    try:
        yield said
        await asyncio.sleep(0)
    finally:
        go.set()
    await one


async def test_what_waits_goes_to_the_disk_together(tmp_path: Path) -> None:
    """Documents of many partitions wait for the disk once, and each is there for others when its call ends."""
    documents = [str(n) for n in range(20)]
    async with opened(tmp_path / "one") as ledger, opened(tmp_path / "one") as other:
        async with busy(ledger) as said:
            together = asyncio.gather(*(ledger.memory.write(known(each)) for each in documents))
        await together
        assert await other.memory.unknown(documents) == ()
        assert [each for each in said if each.lower() in ("begin immediate", "commit")] == [
            "commit",
            "begin immediate",
            "commit",
        ]


async def test_what_fails_takes_back_itself_alone(tmp_path: Path) -> None:
    """Also what it had written before; whoever asked for it is told what it was."""

    def wrong(base: sqlite3.Connection) -> None:
        base.execute("delete from seen")
        raise LookupError

    async with opened(tmp_path / "one") as ledger:
        await ledger.memory.write(known("a"))
        async with busy(ledger):
            works = (ledger.memory.write(known("b")), ledger.base.transact(wrong), ledger.base.do("no statement"))
            together = asyncio.gather(*works, ledger.memory.write(known("c")), return_exceptions=True)
        assert [type(each) for each in await together] == [type(None), LookupError, Unwritten, type(None)]
        assert await ledger.memory.unknown("abc") == ()


async def test_whatever_one_raises_the_others_are_answered(tmp_path: Path) -> None:
    """Also what no future takes."""
    async with opened(tmp_path / "one") as ledger:
        async with busy(ledger):
            works = (ledger.memory.write(known("a")), ledger.base.transact(lambda _: next(iter(()))))
            together = asyncio.gather(*works, ledger.memory.write(known("b")), return_exceptions=True)
        async with asyncio.timeout(30):
            assert [type(each) for each in await together] == [type(None), RuntimeError, type(None)]


async def test_a14_what_a_full_disk_takes_back_was_there_for_nobody(tmp_path: Path) -> None:
    """None of those that shared the transaction is told that it is written, and none can read what is not."""
    async with opened(tmp_path / "one") as ledger:
        await ledger.base.rows("pragma max_page_count = 1")
        async with busy(ledger):
            long = [replace(known(each), number="n" * 9000) for each in "abc"]
            together = asyncio.gather(*map(ledger.memory.write, long), ledger.memory.look("a"), return_exceptions=True)
        *refused, seen = await together
        assert [isinstance(each, Unwritten) and "disk is full" in str(each) for each in refused] == [True] * 3
        assert seen is None
        await ledger.base.rows("pragma max_page_count = 1000000")
        assert await ledger.memory.unknown("abc") == ("a", "b", "c")
        await ledger.memory.write(known("a"))
        assert await ledger.memory.look("a") == known("a")


async def test_what_was_asked_for_is_written_before_the_end(tmp_path: Path) -> None:
    """Whoever closes the file waits for it; whoever did not wait for the answer is no reason to leave it out."""
    go = threading.Event()
    async with opened(tmp_path / "one") as ledger:
        works = (ledger.base.transact(lambda _: go.wait()), *(ledger.memory.write(known(each)) for each in "ab"))
        left = asyncio.gather(*works)
        await asyncio.sleep(0)
        go.set()
    await left
    async with opened(tmp_path / "one") as ledger:
        assert await ledger.memory.unknown("ab") == ()
