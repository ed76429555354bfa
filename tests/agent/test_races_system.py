"""Races of the agent, reference/flow-and-journal.md 5.3: what the agency's system says or not, and who is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.agent.pace import Pace
from gateway.agent.ports import Final
from gateway.core.delivery import Reason
from gateway.core.handling import MAX_TRIES, Verdict
from gateway.protocols.handover import Accepted, Handed
from tests.fakes.agency import QUICK, Agent, House, SlowFiles, accepts, fails, house
from tests.fakes.brokers import Brokers


@asynccontextmanager
async def reading(kafka: Brokers, folder: Path, *, takes_key: bool = True) -> AsyncIterator[tuple[House, Agent]]:
    """An agent that is at work."""
    async with house(kafka) as agency:
        agency.takes_key = takes_key
        async with agency.agent(folder / "one") as agent:
            await agency.commits(0)  # it has its place, so that nothing that comes now is in doubt
            yield agency, agent


def at_first(does: Callable[[Handed], Awaitable[Accepted]], agency: House) -> Callable[[Handed], Awaitable[Accepted]]:
    """Only with the first one it meets."""

    async def once(handed: Handed) -> Accepted:
        return await (does if len(agency.system.met) == 1 else accepts)(handed)

    return once


async def test_a03_an_unknown_outcome_stops_until_a_person_says(kafka: Brokers, tmp_path: Path) -> None:
    """The system may have it, and takes no key: nothing is handed over behind it, nothing twice, nothing skipped."""
    async with house(kafka) as agency:
        agency.takes_key = False
        agency.system.does = at_first(fails(sent=True, whole=True), agency)
        (first, second) = await agency.write(1, 2)
        async with agency.agent(tmp_path / "one") as agent:
            await agency.bell.until(lambda: agent.figures.pauses.get(0) == "unknown")
            assert (agency.system.numbers, agency.hub.reports) == ([1], [])
        async with agency.agent(tmp_path / "one") as agent:
            await agency.bell.until(lambda: agent.figures.pauses.get(0) == "unknown")
            said = {"by": "a person", "why": "looked it up"}
            assert await agent.ledger.memory.decide(first, Verdict.TAKEN, "R-7", **said)
            await agency.commits(2)
            await agency.bell.until(lambda: len(agency.hub.reports) == 2)
        assert agency.system.numbers == [1, 2]
        told = {each.document: (each.outcome, each.register_number) for each in agency.hub.reports}
        assert told == {first: ("registered", "R-7"), second: ("retrieved", None)}


@pytest.mark.parametrize(
    ("verdict", "numbers", "outcome"), [(Verdict.AGAIN, [1, 1], "retrieved"), (Verdict.REJECTED, [1], "rejected")]
)
async def test_a03_a_person_may_have_it_handed_over_again_or_rejected(
    kafka: Brokers, tmp_path: Path, verdict: Verdict, numbers: list[int], outcome: str
) -> None:
    """Only where the system does not have it; who said so, and why, is kept."""
    async with reading(kafka, tmp_path, takes_key=False) as (agency, agent):
        agency.system.does = at_first(fails(sent=True), agency)
        (letter,) = await agency.write(1)
        await agency.bell.until(lambda: agent.figures.pauses.get(0) == "unknown")
        assert await agent.ledger.memory.decide(letter, verdict, by="a person", why="looked it up")
        assert not await agent.ledger.memory.decide(letter, verdict, by="a person", why="twice")
        await agency.bell.until(lambda: agency.hub.reports)
        assert (agency.system.numbers, agency.hub.reports[0].outcome) == (numbers, outcome)
        assert [each.verdict for each in await agent.ledger.memory.decisions(9)] == [verdict]


async def test_a05_what_is_owed_is_told_after_a_restart(kafka: Brokers, tmp_path: Path) -> None:
    """The gateway is away when the outcome is written: it waits on the disk, and is told in its order."""
    async with house(kafka) as agency:
        ids = await agency.write(1, 2, 3)
        async with agency.agent(tmp_path / "one") as agent:
            agency.hub.report = _never  # type: ignore[method-assign] # it does not answer
            await agency.commits(3)
            assert (await agent.ledger.counts()).unreported == 3
        del agency.hub.report
        async with agency.agent(tmp_path / "one") as agent:
            await agency.bell.until(lambda: len(agency.hub.reports) == 3)
        assert [each.document for each in agency.hub.reports] == ids


async def _never(report: object) -> Any:
    await asyncio.Event().wait()


async def test_a05_a_final_answer_is_kept_and_not_told_again(kafka: Brokers, tmp_path: Path) -> None:
    """The gateway will never take it: people see it, and it is not repeated for ever."""
    async with house(kafka) as agency:
        agency.hub.answers = Final("document.ended")
        (letter,) = await agency.write(1)
        for _ in range(2):
            async with agency.agent(tmp_path / "one") as agent:
                await agency.commits(1)
                await all_told(agent)
        async with agency.agent(tmp_path / "one") as agent:
            ((report, code),) = await agent.ledger.dues.refused()
            assert (report.document, code, len(agency.hub.reports)) == (letter, "document.ended", 1)


async def all_told(agent: Agent) -> None:
    """Wait until its memory owes the gateway nothing."""
    async with asyncio.timeout(30):
        while (await agent.ledger.counts()).unreported:
            pass


async def test_a05_too_many_that_wait_to_be_told_stop_the_hand_over(kafka: Brokers, tmp_path: Path) -> None:
    """While the gateway hears nothing, no more is handed over than can be told of; then it goes on."""
    async with reading(kafka, tmp_path) as (agency, agent):
        agent.clerk.full = True
        await agency.write(1)
        await agency.bell.until(lambda: agent.figures.pauses.get(0) == "reports")
        assert agency.system.met == []
        agent.clerk.full = False
        await agency.commits(1)
        assert agency.system.numbers == [1]


@pytest.mark.parametrize("reason", [Reason.REFUSED_BY_SYSTEM, Reason.STALE_RECORD])
async def test_a10_what_the_system_refuses_is_rejected(kafka: Brokers, tmp_path: Path, reason: Reason) -> None:
    """400, 409, 422: with its reason, and the next one is handed over."""
    async with reading(kafka, tmp_path) as (agency, _):
        agency.system.does = at_first(fails(reason=reason), agency)
        await agency.write(1, 2)
        await agency.bell.until(lambda: len(agency.hub.reports) == 2)
        said = [(each.outcome, each.reason) for each in agency.hub.reports]
        assert said == [("rejected", reason), ("retrieved", None)]


@pytest.mark.parametrize("takes_key", [True, False])
async def test_a10_a_system_that_takes_nothing_now_is_waited_for(
    kafka: Brokers, tmp_path: Path, *, takes_key: bool
) -> None:
    """503: nothing happened: it is handed over again, however often; it is no repetition, and wears out no tries."""
    async with reading(kafka, tmp_path, takes_key=takes_key) as (agency, agent):
        agency.system.does = fails(sent=False, whole=True)
        await agency.write(1)
        await agency.bell.until(lambda: len(agency.system.met) >= 30)
        assert (agent.figures.up, agency.hub.reports) == (False, [])
        agency.system.does = accepts
        await agency.commits(1)
        assert (agency.system.met[-1].again, agent.figures.up) == (False, True)


async def test_a10_one_document_does_not_close_the_gate_for_all_others(kafka: Brokers, tmp_path: Path) -> None:
    """To it alone the system says, again and again, that it takes nothing: it tries more and more seldom."""
    async with house(kafka, 2) as agency:

        async def does(handed: Handed) -> Accepted:
            return await (fails(sent=False, whole=True) if handed.body["n"] == 0 else accepts)(handed)

        agency.system.does = does
        pace = replace(QUICK, first=0.5, longest=30.0, longest_document=300.0)
        async with agency.agent(tmp_path / "one", pace):
            await agency.write(0)
            await agency.bell.until(lambda: agency.system.met)
            await agency.write(*range(1, 31), partition=1)
            await agency.commits(30, 1)
            assert agency.system.numbers.count(0) < 15


async def test_a10_a_document_at_which_alone_it_says_no_is_rejected_at_last(kafka: Brokers, tmp_path: Path) -> None:
    """As long as others are taken in between: their number wears out its tries, and what lies behind it goes on."""
    async with house(kafka, 2) as agency:

        async def does(handed: Handed) -> Accepted:
            if handed.body["n"] == 0:
                await agency.write(len(agency.system.met) + 1, partition=1)
                return await fails(sent=False, whole=True)(handed)
            return Accepted()

        agency.system.does = does
        (poison, _) = await agency.write(0, 1)
        async with agency.agent(tmp_path / "one", replace(QUICK, first=0.1, longest_document=0.2, patience=5)):
            await agency.commits(2)
        said = [(each.outcome, each.reason) for each in agency.hub.reports if each.document == poison]
        assert said == [("rejected", "refused_by_system")]
        assert agency.system.numbers.count(0) > 5 + MAX_TRIES


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_a10_a_document_at_which_alone_it_says_no_is_rejected_after_an_hour(chance: float) -> None:
    """As docs/agent.md has it: 40 to 80 minutes, so that people were alarmed before, and its partition goes on."""
    pace = Pace()
    minutes = sum(pace.document_pause(n, chance) for n in range(1, pace.patience + MAX_TRIES)) / 60
    assert 39 < minutes < 80


async def test_a10_what_waits_alone_wears_out_no_tries_of_a_system_that_is_down(kafka: Brokers, tmp_path: Path) -> None:
    """Others were taken once; since then it takes nothing at all."""
    async with house(kafka, 2) as agency:

        async def does(handed: Handed) -> Accepted:
            down = handed.body["n"] == 0 or len(agency.system.met) > 4
            return await (fails(sent=False, whole=True) if down else accepts)(handed)

        agency.system.does = does
        async with agency.agent(tmp_path / "one", replace(QUICK, patience=0)) as agent:
            await agency.write(0)
            await agency.bell.until(lambda: agency.system.met)
            await agency.write(*range(1, 9), partition=1)
            await agency.bell.until(lambda: agency.system.numbers.count(0) > 3 * MAX_TRIES)
            assert agent.figures.outcomes["rejected"] == 0


async def test_a10_no_answer_is_handed_over_again_where_ids_are_keys(kafka: Brokers, tmp_path: Path) -> None:
    """Nothing, or 200 after the deadline: the system may have it, and gets it again, marked as a repetition."""
    async with reading(kafka, tmp_path) as (agency, _):
        agency.system.does = at_first(fails(sent=True, whole=True), agency)
        await agency.write(1)
        await agency.commits(1)
        assert [each.again for each in agency.system.met] == [False, True]
        assert len({each.id for each in agency.system.met}) == 1


async def test_a10_a_taker_that_keeps_no_deadline_is_ended(
    kafka: Brokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a way does, a hand-over ends; its outcome is unknown then."""
    monkeypatch.setattr("gateway.agent.handing.OVERTIME_SECONDS", -19.9)
    async with reading(kafka, tmp_path, takes_key=False) as (agency, agent):
        agency.system.open.clear()
        await agency.write(1)
        await agency.bell.until(lambda: agent.figures.pauses.get(0) == "unknown")
        assert agency.system.numbers == [1]


async def test_a_file_that_takes_its_time_holds_up_no_other_partition(kafka: Brokers, tmp_path: Path) -> None:
    """It is fetched before its document's turn: the system has room for one, and takes another one meanwhile."""
    async with house(kafka, partitions=2) as agency:
        agency.room, agency.files = asyncio.Semaphore(1), (files := SlowFiles())
        async with agency.agent(tmp_path / "one"):
            await agency.write(1, files=[b"%PDF"])
            await files.asked.wait()
            await agency.write(2, partition=1)
            await agency.bell.until(lambda: agency.system.numbers == [2])
            files.there.set()
            await agency.bell.until(lambda: agency.system.numbers == [2, 1])


async def test_a10_a_register_number_is_told(kafka: Brokers, tmp_path: Path) -> None:
    """A system that answers with one has registered the document."""

    async def registers(handed: Handed) -> Accepted:
        return Accepted(f"R-{handed.body['n']}")

    async with reading(kafka, tmp_path) as (agency, _):
        agency.system.does = registers
        await agency.write(7)
        await agency.bell.until(lambda: agency.hub.reports)
        assert (agency.hub.reports[0].outcome, agency.hub.reports[0].register_number) == ("registered", "R-7")


async def test_a_consumer_that_dies_is_replaced(kafka: Brokers, tmp_path: Path) -> None:
    """aiokafka's own task ends for whatever reason: another consumer takes its place, and nothing is repeated."""
    async with reading(kafka, tmp_path) as (agency, agent):
        await agency.write(1)
        await agency.commits(1)
        consumer: Any = agent.member._life._line._consumer  # type: ignore[union-attr] # it runs
        consumer._coordinator._coordination_task.cancel()
        await agency.bell.until(lambda: agent.figures.restarts)
        await agency.write(2)
        await agency.commits(2)
        assert agency.system.numbers == [1, 2]


async def test_a_consumer_that_gives_nothing_is_replaced(kafka: Brokers, tmp_path: Path) -> None:
    """Records are there and none come, though nothing has failed: that is noticed, too."""
    async with house(kafka) as agency, agency.agent(tmp_path / "one", replace(QUICK, stalls=60)) as agent:
        await agency.write(1)
        await agency.commits(1)
        consumer: Any = agent.member._life._line._consumer  # type: ignore[union-attr] # it runs
        consumer._fetcher._fetch_task.cancel()
        await agency.write(2)  # comes with the question that was under way
        await agency.commits(2)
        await agency.write(3)
        await agency.commits(3)
        assert agency.system.numbers == [1, 2, 3]
        assert agent.figures.restarts >= 1
