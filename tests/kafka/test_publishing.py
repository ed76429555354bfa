"""Records put on topics of a real broker: each with its own deadline, whatever producer, broker and topic do."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.core.delivery import Reason
from gateway.core.kafka import AWAY
from tests.fakes.brokers import Brokers
from tests.fakes.links import Link
from tests.fakes.puts import Desk, named, publishing
from tests.fakes.readers import read_all
from tests.fakes.town import until


@pytest.fixture
async def link(kafka: Brokers) -> AsyncIterator[Link]:
    """The wire to the broker."""
    async with kafka.linked() as wire:
        yield wire


@pytest.fixture
async def topic(kafka: Brokers) -> str:
    name = named()
    await kafka.topic(name)
    return name


async def values(kafka: Brokers, topic: str, count: int) -> list[bytes]:
    async with asyncio.timeout(20):
        return [record.value for record in await read_all(kafka.bootstrap, topic, count)]


def at(link: Link) -> str:
    return f"127.0.0.1:{link.port}"


async def test_what_is_acknowledged_can_be_read(kafka: Brokers, topic: str) -> None:
    """A record is on its topic when publish returns, with its key and headers."""
    async with publishing(kafka.bootstrap) as desk:
        await desk.put(topic, b'{"a":1}')
        (record,) = await read_all(kafka.bootstrap, topic, 1)
    assert (record.key, record.value, record.headers) == (b"ab" * 32, b'{"a":1}', (("ce_id", b"1"),))
    assert desk.notes.reach == [None]
    assert len(desk.notes.seconds) == 1


async def test_many_at_once_share_batches(kafka: Brokers, topic: str) -> None:
    """Five hundred records that come together leave in few requests, each in the order of its key."""
    async with publishing(kafka.bootstrap) as desk:
        await desk.put(topic)
        sent = _counted(desk)
        await asyncio.gather(*(desk.put(topic, b"%d" % number) for number in range(500)))
        assert sum(sent) < 50
        assert [int(value) for value in (await values(kafka, topic, 501))[1:]] == list(range(500))


def _counted(desk: Desk) -> list[int]:
    """A 1 for each request that leaves from now on."""
    sender, sent = desk.sessions[-1]._producer._sender, []
    send = sender._send_produce_req

    def counting(*request: object) -> object:
        sent.append(1)
        return send(*request)

    sender._send_produce_req = counting
    return sent


async def test_a_missing_topic_is_known_within_seconds(kafka: Brokers) -> None:
    """Not after aiokafka's forty; it is not made by the asking, and what comes after it was made goes."""
    name = named()
    async with publishing(kafka.bootstrap) as desk, asyncio.timeout(20):
        fault = await desk.refused(name)
        assert (fault.sent, fault.whole, fault.reason) == (False, True, None)
        assert f"the topic {name} does not exist" in fault.detail
        assert "does not exist" in (await desk.refused(name)).detail
        await kafka.topic(name)
        await desk.put(name)
    assert desk.notes.replacements == []
    assert desk.notes.failures == [("interior", "topic")] * 2


async def test_a_deleted_topic_stops_its_own_records_alone(kafka: Brokers, topic: str) -> None:
    """Who puts there is told soon; who puts elsewhere goes on with the same or another producer."""
    other = named()
    await kafka.topic(other)
    async with publishing(kafka.bootstrap) as desk, asyncio.timeout(40):
        await asyncio.gather(desk.put(topic), desk.put(other))
        admin = kafka.admin()
        await asyncio.to_thread(admin.delete_topics, [topic])
        admin.close()
        fault = await desk.refused(topic)
        assert fault.whole
        await desk.put(other)
        assert "does not exist" in (await desk.refused(topic)).detail


async def test_larger_than_a_record_may_be_is_for_good(kafka: Brokers, topic: str) -> None:
    """Nothing of it was sent, nobody tries again, and no gate is closed."""
    async with publishing(kafka.bootstrap, max_bytes=20_000) as desk:
        fault = await desk.refused(topic, b"x" * 20_000)
        await desk.put(topic)
    assert (fault.sent, fault.whole, fault.reason) == (False, False, Reason.TOO_LARGE)


async def test_larger_than_the_topic_takes_hurts_no_neighbour(kafka: Brokers) -> None:
    """A topic takes less than was declared: the large one is told so, those that shared its batch arrive."""
    name = named()
    await kafka.topic(name, 1, max_message_bytes="4000")
    async with publishing(kafka.bootstrap) as desk, asyncio.timeout(40):
        await desk.put(name)
        large = asyncio.create_task(desk.refused(name, b"x" * 8000))
        await asyncio.gather(*(desk.put(name, b"%d" % number) for number in range(5)))
        assert (await large).reason is Reason.TOO_LARGE
        await desk.put(name, b"last")
        assert (await values(kafka, name, 7))[-1] == b"last"


async def test_a_broker_that_is_not_there_costs_nothing(link: Link, topic: str) -> None:
    """Everything is turned away at once, unsent; when it is there, everything goes, without a restart."""
    link.refusing = True
    async with publishing(at(link)) as desk, asyncio.timeout(40):
        for _ in range(3):
            fault = await desk.refused(topic)
            assert (fault.sent, fault.whole, fault.detail.startswith(AWAY)) == (False, True, True)
        link.refusing = False
        await until(lambda: desk.publisher.down is None)
        await desk.put(topic)
    assert [why is None for why in desk.notes.reach] == [False, True]


async def test_a_broken_wire_is_noticed_before_the_next_record(link: Link, topic: str) -> None:
    """A cut connection makes the gateway ask at once: what comes then is turned away unsent, not stuck."""
    async with publishing(at(link)) as desk, asyncio.timeout(40):
        await desk.put(topic)
        link.refusing = True
        link.drop()
        await until(lambda: desk.publisher.down is not None)
        assert not (await desk.refused(topic)).sent
        link.refusing = False
        await until(lambda: desk.publisher.down is None)
        await desk.put(topic)


async def test_no_answer_is_may_have_been_sent(kafka: Brokers, link: Link, topic: str) -> None:
    """After its deadline it counts as touched; the same again follows it, and nothing overtakes it."""
    async with publishing(at(link)) as desk, asyncio.timeout(60):
        await desk.put(topic, b"1")
        link.flowing.clear()
        fault = await desk.refused(topic, b"2", seconds=1.0)
        assert (fault.sent, fault.whole) == (True, True)
        link.flowing.set()
        await until(lambda: not desk.publisher.in_flight[0])
        await desk.put(topic, b"2")
        await desk.put(topic, b"3")
        assert await values(kafka, topic, 4) == [b"1", b"2", b"2", b"3"]


async def test_a_silent_wire_is_given_up(link: Link, topic: str) -> None:
    """No broker answers for ten seconds: the producer is thrown away, with what it still had; then a new one works."""
    async with publishing(at(link)) as desk, asyncio.timeout(90):
        await desk.put(topic)
        link.flowing.clear()
        fault = await desk.refused(topic, seconds=40.0)
        assert (fault.sent, fault.detail.startswith(AWAY)) == (True, True)
        assert desk.publisher.in_flight == (0, 0)
        assert "lost" in desk.notes.replacements
        link.flowing.set()
        await until(lambda: desk.publisher.down is None)
        await desk.put(topic)


async def test_a_producer_that_died_is_made_anew(kafka: Brokers, topic: str) -> None:
    """Its sender ends with a fatal error: without supervision every later record would fail for ever."""
    async with publishing(kafka.bootstrap) as desk, asyncio.timeout(40):
        await desk.put(topic, b"1")
        producer = desk.sessions[-1]._producer
        producer._sender._maybe_wait_for_pid = None  # a mistake in the library's own loop
        await desk.put(topic, b"2")
        await until(lambda: len(desk.sessions) > 1)
        await desk.put(topic, b"3")
        assert (await values(kafka, topic, 2))[0] == b"1"
    assert desk.notes.replacements


async def test_numbers_that_brokers_refuse_are_mended(kafka: Brokers, topic: str) -> None:
    """A gap in a producer's numbers (after a refused batch) costs one attempt, not the topic."""
    async with publishing(kafka.bootstrap) as desk, asyncio.timeout(40):
        await desk.put(topic, b"1")
        numbers = desk.sessions[-1]._producer._txn_manager._sequence_numbers
        for partition in list(numbers):
            numbers[partition] += 7
        await desk.put(topic, b"2")
        assert await values(kafka, topic, 2) == [b"1", b"2"]
    assert desk.notes.replacements == ["failed"]


async def test_the_old_producer_is_dead_before_the_new_one_sends(link: Link, topic: str) -> None:
    """Nothing of a producer that was replaced can come behind what followed."""
    async with publishing(at(link)) as desk, asyncio.timeout(60):
        await desk.put(topic)
        first = desk.sessions[0]._producer
        desk.publisher._supervisor.replace(desk.sessions[0], "failed")
        await desk.put(topic)
        assert first._sender.sender_task.done()
        assert not any(each.connected() for each in first.client._conns.values())
        assert first.client.ended


async def test_the_end_is_bounded_while_nothing_answers(link: Link, topic: str) -> None:
    """A stop does not wait for brokers: aiokafka's own would, for ever."""
    async with publishing(at(link)) as desk:
        await desk.put(topic)
        link.flowing.clear()
        waiting = asyncio.create_task(desk.refused(topic, seconds=30.0))
        await until(lambda: desk.publisher.in_flight[0] == 1)
        async with asyncio.timeout(20):
            await desk.publisher.close(0.5)
            assert (await waiting).sent
    assert desk.publisher.in_flight == (0, 0)


async def test_another_cluster_is_followed(kafka: Brokers, link: Link, topic: str) -> None:
    """A reload that names other addresses replaces the producer; one that does not leaves it."""
    async with publishing(at(link)) as desk, asyncio.timeout(40):
        await desk.put(topic)
        desk.publisher.follow(Desk(at(link)).link)
        await desk.put(topic)
        assert len(desk.sessions) == 1
        desk.publisher.follow(Desk(kafka.bootstrap).link)
        await until(lambda: len(desk.sessions) == 2)
        link.refusing = True
        link.drop()
        await desk.put(topic)
    assert desk.notes.replacements == ["changed"]


async def test_questions_for_topics_are_asked_together(kafka: Brokers) -> None:
    """A thousand agencies whose topics are missing cost one question, not a thousand."""
    async with publishing(kafka.bootstrap) as desk:
        await desk.refused(named())
        brokers, asked = desk.sessions[-1].brokers, []
        ask = brokers.ask

        async def counting(topics: list[str], seconds: float) -> object:
            asked.append(len(topics))
            return await ask(topics, seconds)

        brokers.ask = counting  # type: ignore[assignment,method-assign] # counts, and does the same
        await asyncio.gather(*(desk.refused(named()) for _ in range(1000)))
    assert len(asked) <= 3
    assert max(asked) > 300


async def test_a_producer_that_is_replaced_while_it_looks_costs_nobody_his_record(kafka: Brokers, topic: str) -> None:
    """Who waits for its answer asks the next one, and no connection of it stays."""
    other = named()
    await kafka.topic(other)
    async with publishing(kafka.bootstrap) as desk:
        await desk.put(topic)
        first, put = desk.sessions[-1], asyncio.create_task(desk.put(other))
        await asyncio.sleep(0)
        desk.publisher._supervisor.replace(first, "failed")
        await put
        assert len(desk.sessions) == 2
        assert first.brokers._connection is None
    assert await values(kafka, other, 1) == [b"{}"]
