"""When a writer counts as failing: its batch could not be written, or hangs; not because the process stood still."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.core.entry import Bodies, Draft, Particulars, draft
from gateway.core.refusal import Refusal
from gateway.edge.journal import Journal
from gateway.edge.pulse import BEAT, HANGS
from gateway.edge.store import SqliteDriver
from tests.fakes.town import until
from tests.fakes.valve import Valve

BEATS = int(HANGS / BEAT)


class Clock:
    """The loop's own, put forward."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        real, self._ahead = loop.time, 0.0
        patch.setattr(loop, "time", lambda: real() + self._ahead)

    async def passes(self, seconds: float) -> None:
        """At once, as for a process that stood still meanwhile; what is due by then is done."""
        self._ahead += seconds
        for _ in range(3):
            await asyncio.sleep(0)


def drafted() -> Draft:
    return draft({"step": "administered", "what": "test"}, Bodies(), Particulars(), bytes(64))


def fails(journal: Journal) -> bool:
    return journal.failing


@pytest.fixture
async def hanging(tmp_path: Path) -> AsyncIterator[tuple[Journal, Valve]]:
    """A journal whose first batch is being written, until the valve is opened."""
    valve = Valve(SqliteDriver(tmp_path / "gateway.sqlite3", "TEST"))
    journal = Journal(valve)
    await journal.open("test")
    valve.gate.clear()
    writing = asyncio.create_task(journal.append(drafted()))
    await valve.holding.wait()
    yield journal, valve
    valve.gate.set()
    assert (await writing).n == 1
    await journal.close()


async def test_a_batch_that_was_in_flight_while_the_process_stood_still_hangs_not(
    hanging: tuple[Journal, Valve], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that was stopped refuses nobody as it wakes, and takes on what comes; a batch that does hang is told."""
    journal, valve = hanging
    clock = Clock(monkeypatch)
    await clock.passes(HANGS + 8)
    second = asyncio.create_task(journal.append(drafted()))
    await clock.passes(0)
    assert (fails(journal), second.done()) == (False, False)
    for _ in range(BEATS):
        await clock.passes(BEAT)
    assert fails(journal)
    with pytest.raises(Refusal, match=r"journal\.unavailable"):
        await journal.append(drafted())
    valve.gate.set()
    assert ((await second).n, fails(journal)) == (2, False)


async def test_a_busy_loop_finds_in_time_what_hangs(
    hanging: tuple[Journal, Valve], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A beat that is late counts as two, however late: ten of them will do, five not."""
    journal, _ = hanging
    clock = Clock(monkeypatch)
    for _ in range(BEATS // 4):
        await clock.passes(1.0)
    assert not fails(journal)
    for _ in range(BEATS // 4):
        await clock.passes(1.0)
    assert fails(journal)


async def test_the_log_says_that_a_batch_hangs(hanging: tuple[Journal, Valve], monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, however long it does, and one when it is written after all."""
    journal, valve = hanging
    clock = Clock(monkeypatch)
    with capture_logs() as lines:
        for _ in range(2 * BEATS):
            await clock.passes(BEAT)
        valve.gate.set()
        await until(lambda: not fails(journal))
    assert [(line["event"], line.get("why")) for line in lines] == [
        ("journal_failing", "a batch hangs"),
        ("journal_written", None),
    ]


async def test_the_log_says_why_nothing_can_be_written(tmp_path: Path) -> None:
    """One line as it begins, with the database's words, and one when it is over."""
    valve = Valve(SqliteDriver(tmp_path / "gateway.sqlite3", "TEST"))
    journal = Journal(valve)
    await journal.open("test")
    valve.failing = True
    with capture_logs() as lines:
        for _ in range(2):
            with pytest.raises(Refusal, match=r"journal\.unavailable"):
                await journal.append(drafted())
        valve.failing = False
        await until(lambda: not journal.failing)
    assert [(line["event"], line.get("why")) for line in lines] == [
        ("journal_failing", "disk I/O error"),
        ("journal_written", None),
    ]
    await journal.close()
