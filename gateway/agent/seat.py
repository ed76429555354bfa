"""One consumer's place in the group: what it may read, and positions that are written only while the place is its own."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from gateway.agent.pace import Pace
from gateway.agent.partition import Lost, Unheld
from gateway.agent.ports import Desk, Gap, Unwritten
from gateway.agent.records import Incoming
from gateway.core import handling
from gateway.core.handling import Found, Start

_WAIT_MS = 500
"""That one question for records may wait for them."""
_NOBODY = -1

log = structlog.get_logger()


class Died(Exception):
    """The consumer cannot go on: another one takes its place. One sentence."""


class Seat:
    """``partition.Source`` for each partition, over one consumer."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, desk: Desk, pace: Pace) -> None:
        self._consumer = consumer
        self._topic = topic
        self._desk = desk
        self._pace = pace
        self._generation = _NOBODY
        self._confirmed: dict[int, float] = {}
        """When the group last accepted a position from here, by partition."""
        self._dirty: dict[int, int] = {}
        self._waiting = asyncio.Event()
        self._committing = asyncio.Lock()

    def assigned(self) -> None:
        """The group was divided anew."""
        self._generation = self._current()
        self._confirmed, self._dirty = {}, {}

    async def begin(self, partition: int) -> Start:
        """Where reading begins; nothing is read before the group knows that it is we who read."""
        there = self._there(partition)
        async with self._kafka():
            begins = (await self._consumer.beginning_offsets([there]))[there]
            ends = (await self._consumer.end_offsets([there]))[there]
            committed, by = await self._committed(there)
        places = self._desk.places
        reached = await places.reached(partition)
        ours = by == places.identity
        start = handling.start(Found(begins=begins, ends=ends, committed=committed, reached=reached, ours=ours))
        if start.expected is not None:
            where = {"partition": partition, "expected": start.expected, "begins": start.position}
            log.error("records_missed", **where)
            await places.missed(Gap(partition, start.expected, start.position))
        await self._desk.memory.forget(partition, begins)
        await places.finished({partition: start.position})
        self._held()
        self._consumer.seek(there, start.position)
        await self._commit({partition: start.position})
        return start

    async def records(self, partition: int) -> Sequence[Incoming]:
        """Those that have been fetched, a few at a time: the rest waits in the consumer, which holds one fetch."""
        there = self._there(partition)
        try:
            async with self._kafka(None):
                found = await self._consumer.getmany(there, timeout_ms=_WAIT_MS, max_records=self._pace.batch)
        except (OffsetOutOfRangeError, NoOffsetForPartitionError) as error:
            raise LookupError(partition) from error
        self._held()
        now = self._desk.clock()
        return [_incoming(each, now) for each in found.get(there, ())]

    async def hold(self, partition: int, position: int) -> None:
        """A position that the group accepts proves that the partition is ours: it is refused to everybody else.

        Heartbeats prove nothing here: they go on in another task, and what they learn is learnt too late by a process
        that was stopped in between (A13).
        """
        since = self._confirmed.get(partition)
        if since is not None and self._desk.clock() - since < self._pace.fresh:
            self._held()
            return
        await self._commit({partition: position})

    def finished(self, partition: int, position: int) -> None:
        """It is written to the group a little later, together with others."""
        self._dirty[partition] = position
        self._waiting.set()

    async def commit(self) -> None:
        """Write what has been finished to the disk, then to the group. Raises Lost, Unheld, Unwritten."""
        positions, self._dirty = self._dirty, {}
        self._waiting.clear()
        if not positions:
            return
        try:
            await self._desk.places.finished(positions)
            await self._commit(positions)
        except (Unheld, Unwritten):
            self._dirty = positions | self._dirty
            self._waiting.set()
            raise

    async def due(self) -> None:
        """Wait until there is something to write."""
        await self._waiting.wait()

    async def ends(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """The positions of the next records that will be written. Raises Unheld."""
        async with self._kafka():
            found = await self._consumer.end_offsets([self._there(each) for each in partitions])
        return {there.partition: end for there, end in found.items()}

    async def alive(self) -> None:
        """Ask for nothing, for a moment: the consumer must be asked all the time, and says whether it is dead."""
        try:
            await self._consumer.getmany(TopicPartition(self._topic, _NOBODY), timeout_ms=_WAIT_MS)
        except KafkaError as error:
            raise Died(f"the consumer has failed: {type(error).__name__}") from error

    async def _commit(self, positions: Mapping[int, int]) -> None:
        identity = self._desk.places.identity
        async with self._committing:
            self._held()
            since = self._desk.clock()
            async with self._kafka():
                await self._consumer.commit({self._there(each): (at, identity) for each, at in positions.items()})
            self._confirmed |= dict.fromkeys(positions, since)

    @asynccontextmanager
    async def _kafka(self, seconds: float | None = 0.0) -> AsyncIterator[None]:
        """What Kafka says. Raises Lost, Unheld; and what a position that is not there any more raises."""
        limit = self._pace.answer if seconds == 0.0 else seconds
        try:
            async with asyncio.timeout(limit):
                yield
        except (CommitFailedError, IllegalStateError) as error:
            raise Lost from error
        except (OffsetOutOfRangeError, NoOffsetForPartitionError):
            raise
        except TimeoutError as error:
            raise Unheld(f"Kafka did not answer within {self._pace.answer:.0f} s") from error
        except KafkaError as error:
            raise Unheld(f"Kafka answered with {type(error).__name__}") from error

    def _held(self) -> None:
        """Raises Lost where the group was divided anew, or has thrown this member out, since the assignment.

        A member that was thrown out would write positions as one that is in no group: Kafka takes them from it while
        the group is empty, also when they lie behind what others have finished since.
        """
        if self._generation == _NOBODY or self._current() != self._generation:
            raise Lost

    def _current(self) -> int:
        return int(self._consumer._coordinator.generation)  # noqa: SLF001 - aiokafka shows it nowhere else

    async def _committed(self, there: TopicPartition) -> tuple[int | None, str]:
        """The group's position, and by which memory it was written: aiokafka's ``committed`` leaves that out."""
        found = await self._consumer._coordinator.fetch_committed_offsets([there])  # noqa: SLF001 - see above
        said = found.get(there)
        return (None, "") if said is None or said.offset < 0 else (said.offset, said.metadata)

    def _there(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)


def _incoming(record: "ConsumerRecord[Any, Any]", now: float) -> Incoming:
    return Incoming(
        partition=record.partition,
        position=record.offset,
        written=record.timestamp / 1000,
        key=record.key,
        value=record.value,
        headers=record.headers,
        came=now,
    )
