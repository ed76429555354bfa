"""A member of the agency's consumer group, which outlives each of its consumers."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Coroutine, Iterable
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from gateway.agent.gate import Gate
from gateway.agent.life import Late, Life, Share
from gateway.agent.line import AGENT, PARTITION_BYTES, READS, Died, Line, told
from gateway.agent.pace import Pace
from gateway.agent.ports import Desk, Route
from gateway.edge.tasks import cancelled
from gateway.protocols.brokers import Brokers, Unreachable
from gateway.protocols.kafka_link import ClientOptions

FETCH_BYTES = 16 * 1024 * 1024
"""Of one answer with records of several partitions."""
_CHANCE = random.SystemRandom()

log = structlog.get_logger()


class Member(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Lives by ``run``; ``stop`` ends it in good order."""

    def __init__(self, options: ClientOptions, topic: str, group: str, desk: Desk, pace: Pace | None = None) -> None:
        # aiokafka tells what is wrong several times a second; here it is said once, with the remedy
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        self._options = options
        self._topic = topic
        self._group = group
        self._desk = desk
        self._pace = pace or Pace()
        self._gates: dict[str, Gate] = {}
        self._share = Share(Late(), self._gate, self._let_in)
        self._life: Life | None = None
        self._finishing = self._pace.finishing
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._complaint: str | None = "no partitions have been assigned yet"

    @property
    def complaint(self) -> str | None:
        """Why Kafka is not read just now, in a sentence; None: it is."""
        return self._complaint or (self._life.complaint if self._life is not None else None)

    async def run(self) -> None:
        """Until it is stopped: what happens to a consumer ends the consumer, and another one takes its place."""
        failures = 0
        self._idle.clear()
        try:
            while not self._stopping.is_set():
                since = self._desk.clock()
                try:
                    await self._live()
                except (Died, KafkaError, OSError, TimeoutError) as error:
                    lasted = self._desk.clock() - since > self._pace.longest
                    failures = 1 if lasted else failures + 1
                    self._complaint = told(error, self._topic)
                    log.warning("consumer_failed", why=self._complaint, failures=failures)
                    self._desk.meters.restarted()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._pace.pause(failures, _CHANCE.random())):
                            await self._stopping.wait()
        finally:
            await self._share.late.broken_off()
            self._idle.set()

    async def stop(self, seconds: float) -> None:
        """Take nothing more, finish what is in hand within ``seconds``, and leave the group: ``run`` has ended then."""
        self._finishing = seconds
        self._stopping.set()
        await self._idle.wait()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002 - aiokafka's name
        """Called before the group is joined anew; heartbeats go on meanwhile. It is always all of them."""
        if self._life is not None:
            await self._life.let_go(self._finishing)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called while no heartbeats are sent: it waits for nothing."""
        if self._life is not None and not self._stopping.is_set():
            self._complaint = None
            self._life.assigned(sorted(each.partition for each in assigned))

    async def _let_in(self) -> None:
        """What aiokafka does not say: why no broker lets it in, or that there is no such topic. Raises Died."""
        brokers = Brokers(self._options, AGENT, READS)
        try:
            against = await brokers.ask((self._topic,), self._pace.answer)
        except Unreachable as error:
            raise Died(str(error)) from error
        finally:
            brokers.close()
        if why := against.get(self._topic):
            raise Died(why)

    async def _live(self) -> None:
        await self._unless_stopped(self._let_in(), 0.0)
        if self._stopping.is_set():
            return
        consumer = self._consumer()
        line = Line(consumer, self._topic, self._pace.answer)
        self._life = life = Life(line, self._desk, self._pace, self._share)
        try:
            consumer.subscribe([self._topic], listener=self)
            async with asyncio.timeout(self._pace.joining):
                await self._unless_stopped(consumer.start(), self._pace.closing)
            await self._unless_stopped(life.run(), 0.0)
        finally:
            await life.let_go(self._finishing)
            self._life = None
            await _closed(consumer, self._pace.closing)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None], seconds: float) -> None:
        """At a stop it has so long to end by itself: a consumer that is cancelled at its start leaves connections."""
        stopping, working = asyncio.create_task(self._stopping.wait()), asyncio.create_task(work)
        try:
            await asyncio.wait([stopping, working], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([working], timeout=seconds)
            if working.done():
                working.result()
        finally:
            await cancelled(stopping, working)

    def _gate(self, route: Route) -> Gate:
        name = route.way.name
        if name not in self._gates:
            self._gates[name] = Gate(self._desk.clock, self._pace)
        return self._gates[name]

    def _consumer(self) -> AIOKafkaConsumer:
        pace = self._pace
        return AIOKafkaConsumer(
            **self._options,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=int(pace.session * 1000),
            heartbeat_interval_ms=int(pace.heartbeat * 1000),
            rebalance_timeout_ms=int(pace.rebalance * 1000),
            # the answer to a join comes when all have joined, or after the time that they have for it
            request_timeout_ms=int((pace.rebalance + pace.answer) * 1000),
            max_partition_fetch_bytes=PARTITION_BYTES,
            fetch_max_bytes=FETCH_BYTES,
        )


async def _closed(consumer: AIOKafkaConsumer, seconds: float) -> None:
    """Leave the group, within bounds."""
    try:
        async with asyncio.timeout(seconds):
            await consumer.stop()
    except (KafkaError, OSError, TimeoutError) as error:
        log.warning("consumer_not_closed", why=type(error).__name__)
        await _torn_down(consumer)


async def _torn_down(consumer: AIOKafkaConsumer) -> None:
    """A consumer that does not end by itself: aiokafka waits there for a coordinator that does not answer."""
    coordinator = consumer._coordinator  # noqa: SLF001 - nothing public ends its tasks
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task")
    await cancelled(*(task for name in names if (task := getattr(coordinator, name, None)) is not None))
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(1.0):
            if consumer._fetcher is not None:  # noqa: SLF001 - see above
                await consumer._fetcher.close()  # noqa: SLF001 - see above
            await consumer._client.close()  # noqa: SLF001 - see above
