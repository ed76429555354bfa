"""The agent and a Kafka that goes and comes again: killed, silent, or behind a bad wire."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.agency import QUICK, House, house
from tests.fakes.brokers import Brokers, started


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """A broker of these tests' own, which nobody else needs."""
    with started(tmp_path_factory.mktemp("own")) as running:
        yield running


async def test_a_kafka_that_is_killed_is_waited_for(own: Brokers, tmp_path: Path) -> None:
    """Nothing is lost or repeated; the agent goes on by itself when it is there again."""
    async with house(own) as agency, agency.agent(tmp_path / "one", replace(QUICK, answer=3.0)) as agent:
        await agency.write(1, 2)
        await agency.commits(2)
        own.kill()
        await agency.bell.until(lambda: agent.member.complaint)
        await own.restart()
        await agency.write(3, 4)
        await agency.commits(4)
        await agency.bell.until(lambda: agent.member.complaint is None)
        assert agency.system.numbers == [1, 2, 3, 4]


async def test_a_kafka_that_is_silent_is_waited_for(own: Brokers, tmp_path: Path) -> None:
    """It stands still with a letter in hand: the letter's outcome is written, and nothing is handed over twice."""
    async with house(own) as agency, agency.agent(tmp_path / "one", replace(QUICK, answer=2.0)) as agent:
        agency.system.open.clear()
        await agency.write(1, 2)
        await agency.bell.until(lambda: agency.system.met)
        own.pause()
        try:
            agency.system.open.set()
            await agency.bell.until(lambda: agent.member.complaint)
        finally:
            own.resume()
        await agency.commits(2)
        assert agency.system.numbers == [1, 2]


async def test_a_record_that_comes_torn_costs_none_before_it(kafka: Brokers, tmp_path: Path) -> None:
    """Its checksum is wrong: aiokafka lets go of what came with it, and all of it is asked for again."""
    async with kafka.linked() as link, house(kafka) as agency:
        agency.kafka = Brokers([f"127.0.0.1:{link.port}"])
        async with agency.agent(tmp_path / "one"):
            await agency.write(1)
            await agency.commits(1)
            link.flowing.clear()
            await agency.write(*range(2, 10))
            link.spoils = b'"n":9'
            link.flowing.set()
            await agency.commits(9)
        assert link.spoils == b""
        assert agency.system.numbers == [*range(1, 10)]


async def test_a_bad_wire_makes_it_slower_and_never_wrong(kafka: Brokers, tmp_path: Path) -> None:
    """Delayed, cut again and again in the midst: each letter once, in order."""
    async with kafka.linked() as link, house(kafka) as agency:
        agency.kafka = Brokers([f"127.0.0.1:{link.port}"])
        link.delay = 0.01
        async with agency.agent(tmp_path / "one"):
            await agency.write(*range(40))
            for position in (10, 20, 30):
                await agency.bell.until(partial(_has, agency, position))
                link.drop()
            await agency.commits(40)
        assert list(dict.fromkeys(agency.system.numbers)) == list(range(40))
        assert len(agency.system.numbers) == 40


def _has(agency: House, letters: int) -> bool:
    return len(agency.system.met) >= letters


async def test_a_kafka_that_never_comes_holds_up_no_stop(tmp_path: Path) -> None:
    """Nothing listens there: it tries again and again, says so, and ends when it is told to."""
    agency = House(Brokers(["127.0.0.1:1"]), "nothing")
    async with asyncio.timeout(30), agency.agent(tmp_path / "one") as agent:
        await agency.bell.until(lambda: agent.figures.restarts > 2)
        assert agent.member.complaint
    await agency.producer.stop()  # which had nothing to do
