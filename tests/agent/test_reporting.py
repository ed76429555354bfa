"""What became of documents is told until the gateway has it: in order, with patience, never past what is final."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.agent.memory import Ledger, opened
from gateway.agent.ports import Answered, Final, Later, Report, Told
from gateway.agent.reporting import IN_A_ROW, LONGEST_PAUSE, MAX_OWED, Reporter
from gateway.core.handling import Known, Outcome, Standing


@dataclass(slots=True)
class Gate:
    """A gateway that answers as it is told."""

    answers: Callable[[Report], Answered] = lambda _: Told()
    heard: list[Report] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event | None = None

    async def report(self, report: Report) -> Answered:
        self.heard.append(report)
        self.begun.set()
        if self.go is not None:
            await self.go.wait()
        return self.answers(report)


@dataclass(slots=True)
class Desk:
    ledger: Ledger
    gate: Gate
    reporter: Reporter
    told: list[str]
    now: list[float]

    async def owes(self, *documents: str, redelivery: int = 0) -> None:
        for document in documents:
            await self.ledger.memory.write(known(document, redelivery), owed=True)
            self.reporter.owed()

    async def left(self) -> list[str]:
        """Documents of which the gateway was not told."""
        return [each.document for each in await self.ledger.dues.unreported(1000)]


def known(document: str, redelivery: int = 0) -> Known:
    return Known(document, "a.b.v1", 0, 1, redelivery, b"d", Standing.TAKEN, outcome=Outcome.RETRIEVED)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(tmp_path / "agent.sqlite3") as ledger:
        yield desk_of(ledger)


def desk_of(ledger: Ledger) -> Desk:
    """A reporter that was just started on the ledger."""
    gate, told, now = Gate(), list[str](), [1000.0]
    upstream: Any = gate
    return Desk(ledger, gate, Reporter(ledger.dues, upstream, told.append, lambda: now[0], lambda: 1.0), told, now)


async def test_everything_is_told_once(desk: Desk) -> None:
    """In the order in which it was written, and then no more."""
    await desk.owes("a", "b", "c")
    await desk.reporter.round()
    await desk.reporter.round()
    assert [each.document for each in desk.gate.heard] == ["a", "b", "c"]
    assert (desk.reporter.waiting, await desk.left(), desk.told) == (0, [], ["told"] * 3)


async def test_it_is_known_since_when_one_waits(desk: Desk) -> None:
    """The same outcome first in the table for so long: others that come meanwhile do not hide it, its end does."""
    desk.gate.answers = lambda _: Later(0.0)
    await desk.owes("a")
    for _ in range(3):
        await desk.reporter.round()
        desk.now[0] += 700.0
    await desk.owes("b")
    assert desk.reporter.oldest == 2100.0
    desk.gate.answers = lambda _: Told()
    desk.now[0] += 700.0
    await desk.reporter.round()
    await desk.reporter.round()
    assert desk.reporter.oldest == 0.0


async def test_what_is_final_is_kept_and_not_told_again(desk: Desk) -> None:
    """People see it, and the next documents go on."""
    desk.gate.answers = lambda report: Final("document.ended") if report.document == "a" else Told()
    await desk.owes("a", "b")
    await desk.reporter.round()
    await desk.reporter.round()
    assert len(desk.gate.heard) == 2
    assert [(each.document, code) for each, code in await desk.ledger.dues.refused()] == [("a", "document.ended")]


async def test_a_gateway_that_is_away_for_a_day(desk: Desk) -> None:
    """It is asked ever less often, never more seldom than twice a minute; then all of it is told."""
    desk.gate.answers = lambda _: Later(0.0)
    await desk.owes(*(f"d{number}" for number in range(50)))
    pauses = []
    for _ in range(20):
        await desk.reporter.round()
        pauses.append(desk.reporter._patience.until - desk.now[0])
        desk.now[0] = max(desk.reporter._patience.until, desk.now[0]) + LONGEST_PAUSE
    assert pauses[0] == 1.0
    assert pauses[-1] == LONGEST_PAUSE
    assert len(desk.gate.heard) < 200
    desk.gate.answers = lambda _: Told()
    await desk.reporter.round()
    assert await desk.left() == []


async def test_one_document_without_an_answer_holds_back_no_other(desk: Desk) -> None:
    """It waits alone; the gateway is not left alone for it."""
    desk.gate.answers = lambda report: Later(0.0) if report.document == "a" else Told()
    await desk.owes("a", *(f"d{number}" for number in range(40)))
    await desk.reporter.round()
    assert await desk.left() == ["a"]
    heard = len(desk.gate.heard)
    await desk.reporter.round()
    assert len(desk.gate.heard) == heard
    desk.now[0] += LONGEST_PAUSE
    await desk.reporter.round()
    assert desk.gate.heard[-1].document == "a"


async def test_a_wish_of_the_gateway_is_heeded(desk: Desk) -> None:
    """Retry-After counts for all."""
    desk.gate.answers = lambda _: Later(90.0)
    await desk.owes("a")
    await desk.reporter.round()
    assert desk.reporter._patience.until == desk.now[0] + 90.0


async def test_what_is_told_anew_meanwhile_stays_owed(desk: Desk) -> None:
    """An answer to the earlier report is none to the later one (A7)."""
    desk.gate.go = asyncio.Event()
    await desk.owes("a")
    telling = asyncio.create_task(desk.reporter.round())
    await desk.gate.begun.wait()
    await desk.owes("a", redelivery=1)
    desk.gate.go.set()
    await telling
    assert [each.number for each in desk.gate.heard] == [1, 2]
    assert await desk.left() == []


async def test_too_many_that_wait_pause_everything(desk: Desk) -> None:
    """The table is bounded by what is handed over."""
    desk.reporter.waiting = MAX_OWED - 1
    full = [desk.reporter.full]
    await desk.owes("a")
    full.append(desk.reporter.full)
    await desk.reporter.round()
    full.append(desk.reporter.full)
    assert full == [False, True, False]


async def test_it_survives_a_kill(tmp_path: Path) -> None:
    """What was not answered is told by the next process, from the file."""
    async with opened(tmp_path / "agent.sqlite3") as ledger:
        first = desk_of(ledger)
        first.gate.answers = lambda _: Later(0.0)
        await first.owes("a", "b")
        await first.reporter.round()
    async with opened(tmp_path / "agent.sqlite3") as ledger:
        second = desk_of(ledger)
        await second.reporter.round()
        assert [each.document for each in second.gate.heard] == ["a", "b"]


async def test_it_goes_on_by_itself(desk: Desk) -> None:
    """Something new wakes it."""
    going = asyncio.create_task(desk.reporter.go_on())
    async with asyncio.timeout(20):
        for document in ("a", "b"):
            desk.gate.begun.clear()
            await desk.owes(document)
            await desk.gate.begun.wait()
    going.cancel()
    await asyncio.wait({going})
    assert [each.document for each in desk.gate.heard] == ["a", "b"]


async def test_a_few_in_a_row_are_the_gateway(desk: Desk) -> None:
    """It is left alone after so many, and not asked about each of the rest."""
    desk.gate.answers = lambda _: Later(0.0)
    await desk.owes(*(f"d{number}" for number in range(200)))
    await desk.reporter.round()
    assert IN_A_ROW <= len(desk.gate.heard) < 20
