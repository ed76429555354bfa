"""A member of the agency's consumer group: it takes its partitions, lets go of them in time, and outlives its consumer."""

import asyncio
import contextlib
import random
import time
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from gateway.agent.gate import Gate
from gateway.agent.pace import Pace
from gateway.agent.partition import Lost, Partition, Unheld
from gateway.agent.ports import Desk, Route, Unwritten
from gateway.agent.seat import Died, Seat
from gateway.edge.tasks import cancelled

FETCH_BYTES = 16 * 1024 * 1024
"""Of one answer with records of several partitions."""
PARTITION_BYTES = 1024 * 1024
"""The same of one partition; a record that is larger comes alone."""
_CHANCE = random.SystemRandom()

log = structlog.get_logger()


@dataclass(slots=True)
class _Held:
    """A partition and its task."""

    partition: Partition
    task: "asyncio.Task[None]"


@dataclass(slots=True)
class _Life:
    """One consumer, from its making to its end."""

    seat: Seat
    held: dict[int, _Held] = field(default_factory=dict)
    silent: dict[int, int] = field(default_factory=dict)
    """Looks in a row at which a partition waited for records that are there."""


class Member(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Run it by ``run``; ``stop`` ends it in good order."""

    def __init__(
        self, options: Mapping[str, Any], topic: str, group: str, desk: Desk, pace: Pace | None = None
    ) -> None:
        self._options = options
        self._topic = topic
        self._group = group
        self._desk = desk
        self._pace = pace or Pace()
        self._gates: dict[str, Gate] = {}
        self._life: _Life | None = None
        self._stopping = asyncio.Event()
        self._late: dict[int, set[asyncio.Task[None]]] = {}
        """Hand-overs that did not end before their partition went: what becomes of them is still written."""
        self._finishing = self._pace.finishing

    async def run(self) -> None:
        """Until it is stopped. What happens to a consumer ends the consumer and not this."""
        failures = 0
        while not self._stopping.is_set():
            since = self._desk.clock()
            try:
                await self._live()
            except (Died, KafkaError, OSError, TimeoutError) as error:
                quick = self._desk.clock() - since < self._pace.longest
                failures = failures + 1 if quick else 1
                log.warning("consumer_failed", why=str(error) or type(error).__name__, failures=failures)
                self._desk.meters.restarted()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pace.pause(failures, _CHANCE.random())):
                        await self._stopping.wait()

    async def stop(self, seconds: float) -> None:
        """Take nothing more, finish what is in hand within ``seconds``, leave the group; ``run`` returns."""
        self._finishing = seconds
        self._stopping.set()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Called by the consumer before it joins the group anew; heartbeats go on meanwhile."""
        if self._life is not None:
            await self._let_go(self._life)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called while no heartbeats are sent: it must not wait for anything."""
        life = self._life
        if life is None or self._stopping.is_set():
            return
        life.seat.assigned()
        numbers = sorted(each.partition for each in assigned)
        for number in numbers:
            partition = Partition(number, self._desk, life.seat, self._pace, self._gate)
            life.held[number] = _Held(partition, asyncio.create_task(self._work(partition)))
        self._desk.meters.rebalanced()
        self._desk.meters.assigned(numbers)
        log.info("partitions_assigned", partitions=numbers)

    async def _live(self) -> None:
        consumer = self._consumer()
        self._life = life = _Life(Seat(consumer, self._topic, self._desk, self._pace))
        try:
            consumer.subscribe([self._topic], listener=self)
            async with asyncio.timeout(self._pace.joining):
                await self._unless_stopped(consumer.start())
            await self._unless_stopped(self._beside(life))
        finally:
            await self._let_go(life)
            self._life = None
            await _closed(consumer, self._pace.closing)

    async def _beside(self, life: _Life) -> None:
        """What goes on beside the partitions; the first that fails ends this consumer."""
        tasks = [asyncio.create_task(each) for each in (_polled(life), self._committed(life), self._watched(life))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            await cancelled(*tasks)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        stopping, working = asyncio.create_task(self._stopping.wait()), asyncio.create_task(work)
        try:
            await asyncio.wait([stopping, working], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            await cancelled(stopping, working)

    async def _work(self, partition: Partition) -> None:
        """A document that is still being handed over from before must not be met as one whose outcome is unknown."""
        if late := self._late.get(partition.number):
            await asyncio.wait(late)
        await partition.run()

    async def _let_go(self, life: _Life) -> None:
        """Finish what is in hand, write it down, write the positions; what is late goes on by itself."""
        held, life.held = life.held, {}
        life.silent.clear()
        left = await asyncio.gather(*(each.partition.leave(each.task, self._finishing) for each in held.values()))
        for each, ended in zip(held.values(), left, strict=True):
            if not ended:
                self._overdue(each)
        try:
            await life.seat.commit()
        except (Lost, Unheld, Unwritten) as error:
            log.info("positions_not_written", why=str(error) or "the group was divided anew")
        self._desk.meters.assigned(())

    def _overdue(self, held: _Held) -> None:
        number = held.partition.number
        late = self._late.setdefault(number, set())
        late.add(held.task)
        held.task.add_done_callback(late.discard)
        log.warning("hand_over_late", partition=number, position=held.partition.position)

    async def _committed(self, life: _Life) -> None:
        failing = False
        while True:
            await life.seat.due()
            try:
                await life.seat.commit()
            except Lost:
                continue
            except (Unheld, Unwritten) as error:
                if not failing:
                    log.warning("positions_not_written", why=str(error))
                failing = True
            else:
                failing = False
            await asyncio.sleep(self._pace.first if failing else self._pace.commit)

    async def _watched(self, life: _Life) -> None:
        """Lag, and consumers that give nothing though there is something."""
        forgotten, deaf = self._desk.clock(), 0
        while True:
            await asyncio.sleep(self._pace.look)
            held = {number: each.partition for number, each in life.held.items()}
            try:
                ends = await life.seat.ends(sorted(held)) if held else {}
                deaf = 0
            except Unheld as error:
                deaf += 1
                if deaf >= self._pace.stalls:
                    raise Died(str(error)) from error
                continue
            for number, end in ends.items():
                self._measured(life, held[number], end)
            if self._desk.clock() - forgotten >= self._pace.forget:
                forgotten = self._desk.clock()
                await self._forgotten(life, sorted(held))

    def _measured(self, life: _Life, partition: Partition, end: int) -> None:
        if partition.position is None:
            return
        behind = max(0, end - partition.position)
        age = 0.0 if partition.oldest is None else max(0.0, time.time() - partition.oldest)
        self._desk.meters.lag(partition.number, behind, age)
        waits = behind > 0 and partition.oldest is None
        silent = life.silent[partition.number] = life.silent.get(partition.number, 0) + 1 if waits else 0
        if silent >= self._pace.stalls:
            raise Died(f"no records come of partition {partition.number}, though {behind} are there")

    async def _forgotten(self, life: _Life, partitions: list[int]) -> None:
        with contextlib.suppress(Unheld, Unwritten):
            for number, begins in (await life.seat.begins(partitions)).items():
                await self._desk.memory.forget(number, begins)

    def _gate(self, route: Route) -> Gate:
        return self._gates.setdefault(route.way.name, Gate(self._desk.clock, self._pace))

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
            request_timeout_ms=int(max(pace.answer, pace.rebalance + pace.session) * 1000),
            max_partition_fetch_bytes=PARTITION_BYTES,
            fetch_max_bytes=FETCH_BYTES,
        )


async def _polled(life: _Life) -> None:
    while True:
        await life.seat.alive()


async def _closed(consumer: AIOKafkaConsumer, seconds: float) -> None:
    """Leave the group, within bounds."""
    try:
        async with asyncio.timeout(seconds):
            await consumer.stop()
    except (KafkaError, OSError, TimeoutError) as error:
        log.warning("consumer_not_closed", why=type(error).__name__)
