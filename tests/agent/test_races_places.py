"""Races of the agent, reference/flow-and-journal.md 5.3: lost positions, clocks, a full disk, a lost memory."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from gateway.agent.memory import opened
from gateway.agent.ports import Gap, Unreachable
from gateway.core.handling import Known, Outcome, Standing
from tests.fakes.agency import QUICK, Agent, House, house
from tests.fakes.brokers import Brokers


async def without(agency: House, below: int, partition: int = 0) -> None:
    """The topic's retention takes everything below this position."""
    await agency.admin.delete_records({TopicPartition(agency.topic, partition): RecordsToDelete(below)})


async def worked_off(agency: House, memory: Path, position: int) -> None:
    """An agent works until the group stands there."""
    async with agency.agent(memory):
        await agency.commits(position)


async def known(memory: Path) -> int:
    """How many documents a memory holds."""
    async with opened(memory) as ledger:
        return (await ledger.counts()).seen


async def test_a15_records_that_went_unread_are_an_alarm(kafka: Brokers, tmp_path: Path) -> None:
    """The agent was down longer than the topic keeps: it goes on at the oldest, and says what it never saw."""
    async with house(kafka) as agency:
        await agency.write(1)
        await worked_off(agency, tmp_path / "one", 1)
        await agency.write(2, 3, 4)
        await without(agency, 3)
        async with agency.agent(tmp_path / "one") as agent:
            await agency.commits(4)
            assert await agent.ledger.places.gaps() == (Gap(0, 1, 3),)
        assert agency.system.numbers == [1, 4]


async def test_a15_records_that_go_while_the_agent_waits_are_an_alarm(kafka: Brokers, tmp_path: Path) -> None:
    """It holds a few records ready; what the topic loses behind them is noticed when it comes to it."""
    async with house(kafka) as agency:
        agency.system.open.clear()
        await agency.write(*range(10))
        async with agency.agent(tmp_path / "one", replace(QUICK, batch=1)) as agent:
            await agency.bell.until(lambda: agency.system.met)
            # a fetch brings no more than this one, so that the rest is asked for when it is gone
            await agency.write(*range(10, 30), value=b'{"n": 0, "of": "' + b"x" * 900_000 + b'"}', case="B")
            await without(agency, 29)
            agency.system.open.set()
            await agency.commits(30)
            assert [each.begins for each in await agent.ledger.places.gaps()] == [29]


async def test_a15_a_group_whose_position_is_lost_begins_at_the_oldest(kafka: Brokers, tmp_path: Path) -> None:
    """Never at the newest: what was handed over is known, what came meanwhile is handed over, and people are told."""
    async with house(kafka) as agency:
        await agency.write(1, 2)
        await worked_off(agency, tmp_path / "one", 2)
        await asyncio.to_thread(forgotten, agency)
        await agency.write(3)
        async with agency.agent(tmp_path / "one") as agent:
            await agency.commits(3)
            assert await agent.ledger.places.gaps() == (Gap(0, 2, 0),)
        assert agency.system.numbers == [1, 2, 3]


def forgotten(agency: House) -> None:
    """Kafka keeps no position of a group that was away for too long."""
    client = agency.kafka.admin()
    try:
        client.delete_groups([agency.group])
    finally:
        client.close()


async def test_a15_a_topic_that_was_made_anew_is_read_from_its_beginning(kafka: Brokers, tmp_path: Path) -> None:
    """Its positions begin at 0 again, and the group's belongs to nothing: an alarm, and nothing is passed over."""
    async with house(kafka) as agency:
        await agency.write(1, 2)
        await worked_off(agency, tmp_path / "one", 2)
        await agency.admin.delete_topics([agency.topic])
        await made_again(agency)
        await agency.write(3)
        async with agency.agent(tmp_path / "one") as agent:
            await agency.bell.until(lambda: agency.system.numbers == [1, 2, 3])
            assert [each.begins for each in await agent.ledger.places.gaps()] == [0]


async def made_again(agency: House) -> None:
    """Once the old one is gone everywhere."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await agency.kafka.topic(agency.topic, 1)
            except Exception:  # noqa: BLE001, S112 - as long as Kafka says anything against it
                continue


async def test_a15_a_first_start_is_no_alarm(kafka: Brokers, tmp_path: Path) -> None:
    """Everything that the topic holds is read from its beginning."""
    async with house(kafka) as agency:
        await agency.write(1)
        async with agency.agent(tmp_path / "one") as agent:
            await agency.commits(1)
            assert await agent.ledger.places.gaps() == ()


@pytest.mark.parametrize("years", [-50.0, -1 / 8766, 1 / 8766, 70.0])
async def test_a16_no_clock_but_the_own_decides_anything(kafka: Brokers, tmp_path: Path, years: float) -> None:
    """A record and a receipt of an hour ahead, of an hour ago, of another century: handed over as any other."""
    async with house(kafka) as agency:
        at = time.time() + years * 365.25 * 86400
        # Kafka itself takes no record of more than an hour ahead
        await agency.send(agency.pen.letter(1, at=at), written=min(max(at, 1.0), time.time() + 3000))
        async with agency.agent(tmp_path / "one") as agent:
            await agency.commits(1)
            assert all(age >= 0 for _, age in agent.figures.lags.values())
        assert agency.system.numbers == [1]


async def test_a17_documents_are_forgotten_by_the_beginning_of_the_topic(kafka: Brokers, tmp_path: Path) -> None:
    """However late it is by any clock: what the topic still holds is still known, what it has lost is not."""
    async with house(kafka) as agency:
        await agency.write(1, 2, 3)
        await worked_off(agency, tmp_path / "one", 3)
        assert await known(tmp_path / "one") == 3
        await without(agency, 2)
        async with agency.agent(tmp_path / "one", replace(QUICK, forget=0.0)) as agent:
            await agency.write(4)
            await agency.commits(4)
            await agency.bell.until(lambda: agent.figures.lags.get(0) == (0, 0.0))
        assert await known(tmp_path / "one") == 2


async def test_a17_what_is_not_finished_or_not_told_is_never_forgotten(tmp_path: Path) -> None:
    """Neither a document whose outcome is unknown, nor one of which the gateway was not told."""
    async with opened(tmp_path / "one") as ledger:
        for document, standing in (("a", "unknown"), ("b", "begun"), ("c", "free"), ("d", "taken"), ("e", "taken")):
            await ledger.memory.write(written(document, standing), owed=document == "d")
        await ledger.memory.forget(0, 100)
        assert await ledger.memory.unknown(["a", "b", "c", "d", "e"]) == ("e",)


async def test_a17_what_another_agent_finished_is_forgotten(kafka: Brokers, tmp_path: Path) -> None:
    """It was begun here, and its partition went: once its record is gone the gateway is asked, whoever reads it now."""
    async with house(kafka, partitions=2) as agency:
        ids = [*await agency.write(1), *await agency.write(2, partition=1)]
        async with opened(tmp_path / "one") as ledger:
            for n, document in enumerate(("open", *ids)):
                await ledger.memory.write(written(document, "free" if n else "begun", position=0, partition=n // 2))
        async with agency.agent(tmp_path / "two") as two:
            await agency.commits(1)
            await agency.commits(1, 1)
            agency.hub.states = dict.fromkeys(ids, "registered")
            async with agency.agent(tmp_path / "one", replace(QUICK, forget=0.0)) as one:
                await agency.bell.until(lambda: len(one.figures.partitions) == len(two.figures.partitions) == 1)
                assert await one.ledger.memory.unknown(ids) == ()
                await without(agency, 1)
                await without(agency, 1, 1)
                async with asyncio.timeout(30):
                    while await one.ledger.memory.unknown(["open", *ids]) != tuple(ids):
                        pass
                await agency.bell.until(lambda: "open" in agency.hub.asked)
                assert await one.ledger.memory.unknown(["open"]) == ()
        assert sorted(agency.system.numbers) == [1, 2]


async def test_a17_what_comes_again_meanwhile_is_not_forgotten(tmp_path: Path) -> None:
    """The gateway's answer was of the record before."""
    async with opened(tmp_path / "one") as ledger:
        await ledger.memory.write(written("a", "begun"))
        assert await ledger.memory.stranded(0, 5, 9) == ("a",)
        await ledger.memory.write(written("a", "begun", position=7))
        await ledger.memory.drop("a", 0, 5)
        assert await ledger.memory.unknown(["a"]) == ()
        await ledger.memory.drop("a", 0, 8)
        assert await ledger.memory.unknown(["a"]) == ("a",)


async def test_a17_what_is_in_hand_is_not_forgotten(kafka: Brokers, tmp_path: Path) -> None:
    """Whatever the gateway says of it meanwhile: its tries would begin anew. What was left behind it is asked about."""
    async with house(kafka) as agency:
        await agency.write(1)
        await worked_off(agency, tmp_path / "one", 1)
        async with opened(tmp_path / "one") as ledger:
            await ledger.memory.write(written("open", "begun", position=0))
        agency.system.open.clear()
        (document,) = await agency.write(2)
        agency.hub.states[document] = "registered"
        async with agency.agent(tmp_path / "one", replace(QUICK, forget=0.0)) as agent:
            await agency.bell.until(lambda: agency.system.numbers == [1, 2])
            await without(agency, 2)
            agency.hub.asked.clear()
            await agency.bell.until(lambda: agency.hub.asked.count("open") > 3)
            assert await agent.ledger.memory.unknown([document]) == ()
            agency.system.open.set()
            await agency.commits(2)


async def test_a17_no_partition_waits_behind_another(kafka: Brokers, tmp_path: Path) -> None:
    """What of one is never over may take all the time that there is for asking: each has its turn."""
    async with house(kafka, partitions=2) as agency:
        async with opened(tmp_path / "one") as ledger:
            for partition in (0, 1):
                await ledger.memory.write(written(str(partition), "begun", position=0, partition=partition))
        await agency.write(1)
        await agency.write(2, partition=1)
        async with agency.agent(tmp_path / "one", replace(QUICK, forget=0.0)):
            await agency.commits(1)
            await agency.commits(1, 1)
            asked: set[str] = set()

            async def away(document: str) -> str | None:
                asked.add(document)
                raise Unreachable("a cleaning ends with the first that it asks about")

            agency.hub.state = away  # type: ignore[method-assign] # of this test alone
            await without(agency, 1)
            await without(agency, 1, 1)
            await agency.bell.until(lambda: asked == {"0", "1"})


def written(document: str, standing: str, position: int = 1, partition: int = 0) -> Known:
    """A document at the beginning of a partition."""
    outcome = Outcome.RETRIEVED if standing == "taken" else None
    return Known(
        document=document,
        service="s",
        partition=partition,
        position=position,
        redelivery=0,
        digest=b"",
        standing=Standing(standing),
        outcome=outcome,
    )


@contextmanager
def full(memory: Path) -> Iterator[None]:
    """No document can be written down."""
    with closing(sqlite3.connect(memory, timeout=10, isolation_level=None)) as base:
        base.execute("create trigger disk_full before insert on seen begin select raise(abort, 'disk is full'); end")
        yield
        base.execute("drop trigger disk_full")


async def paused(agency: House, agent: Agent, why: str) -> None:
    """Wait until its partition is."""
    await agency.bell.until(lambda: agent.figures.pauses.get(0) == why)


async def test_a18_nothing_is_handed_over_that_cannot_be_written_down(kafka: Brokers, tmp_path: Path) -> None:
    """The disk is full: the partition waits, keeps its place, and goes on by itself."""
    async with house(kafka) as agency:
        async with agency.agent(tmp_path / "one") as agent:
            await agency.write(1)
            await agency.commits(1)
            with full(tmp_path / "one"):
                await agency.write(2)
                await paused(agency, agent, "disk")
                assert agency.system.numbers == [1]
            await agency.commits(2)
        assert agency.system.numbers == [1, 2]


async def test_a18_an_outcome_that_cannot_be_written_is_written_later(kafka: Brokers, tmp_path: Path) -> None:
    """The disk fills up during the hand-over: no position is written before the outcome is, and no second hand-over."""
    async with house(kafka) as agency:
        agency.system.open.clear()
        await agency.write(1)
        async with agency.agent(tmp_path / "one") as agent:
            await agency.bell.until(lambda: agency.system.met)
            with full(tmp_path / "one"):
                agency.system.open.set()
                await paused(agency, agent, "disk")
                assert await agency.committed() == 0
            await agency.commits(1)
        assert (agency.system.numbers, len(agency.hub.reports)) == ([1], 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root may mount a small disk.")
async def test_a18_a_disk_that_is_really_full_is_waited_for(kafka: Brokers, tmp_path: Path) -> None:
    """A file system without a free block, and then with some."""
    disk, ballast = tmp_path / "disk", tmp_path / "disk" / "ballast"
    disk.mkdir()
    mount = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk))
    if await mount.wait():
        pytest.skip("This machine does not let anybody mount a small disk.")
    try:
        async with house(kafka) as agency, agency.agent(disk / "one") as agent:
            await agency.write(1)
            await agency.commits(1)
            with ballast.open("wb", 0) as file:
                _filled(file.fileno())
            await agency.write(*range(2, 30))
            await paused(agency, agent, "disk")
            ballast.unlink()
            await agency.commits(29)
            assert agency.system.numbers == list(range(1, 30))
    finally:
        await (await asyncio.create_subprocess_exec("umount", "-l", str(disk))).wait()


def _filled(file: int) -> None:
    try:
        while True:
            os.write(file, bytes(4096))
    except OSError:
        pass


async def test_a18_a_lost_memory_asks_about_what_lies_above_the_position(kafka: Brokers, tmp_path: Path) -> None:
    """A new one is put in its place: what the gateway knows as taken is passed over, the rest handed over, marked."""
    async with house(kafka) as agency:
        await agency.write(1)
        await worked_off(agency, tmp_path / "one", 1)
        ids = await agency.write(2, 3)
        agency.hub.states[ids[0]] = "retrieved"
        agency.hub.asked.clear()
        await worked_off(agency, tmp_path / "another", 3)
        assert agency.hub.asked == ids
        assert [(each.n, each.again) for each in agency.system.met][1:] == [(3, True)]


async def test_a18_an_older_copy_of_the_memory_asks_too(kafka: Brokers, tmp_path: Path) -> None:
    """It was set up from yesterday's backup: the group stands further than it remembers."""
    async with house(kafka) as agency:
        await agency.write(1)
        await worked_off(agency, tmp_path / "one", 1)
        copy = (tmp_path / "one").read_bytes()
        await agency.write(2)
        await worked_off(agency, tmp_path / "one", 2)
        (tmp_path / "older").write_bytes(copy)
        (letter,) = await agency.write(3)
        agency.hub.asked.clear()
        await worked_off(agency, tmp_path / "older", 3)
        assert agency.hub.asked == [letter]
