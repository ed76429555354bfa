"""A member's place in its group: where its partitions begin, and positions, written only while they are its own."""

import asyncio
from collections.abc import Mapping, Sequence

import structlog
from aiokafka import ConsumerRecord

from gateway.agent.line import Line, Lost
from gateway.agent.pace import Pace
from gateway.agent.ports import Desk, Gap
from gateway.agent.records import Incoming
from gateway.core import handling
from gateway.core.handling import Found, Start

log = structlog.get_logger()


class Seat:
    """One division of the group after the other, over one consumer. Methods raise Lost, Unheld and Unwritten."""

    def __init__(self, line: Line, desk: Desk, pace: Pace) -> None:
        self._line = line
        self._desk = desk
        self._pace = pace
        self._generation: int | None = None
        self._confirmed: dict[int, float] = {}
        """When the group last accepted a position from here, by partition."""
        self._written: dict[int, int] = {}
        """Which one it was: what is late must not move it back."""
        self._finished: dict[int, int] = {}
        self._doubtful_below: dict[int, int] = {}
        self.due = asyncio.Event()
        """There is something to write."""
        self._writing = asyncio.Lock()

    def assigned(self) -> None:
        """The group was divided anew."""
        self._generation = self._line.generation
        self._confirmed, self._written, self._finished = {}, {}, {}

    async def begin(self, partition: int) -> Start:
        """Where reading begins; nothing is read before the group knows which memory reads here."""
        line, places = self._line, self._desk.places
        begins = (await line.begins([partition]))[partition]
        ends = (await line.ends([partition]))[partition]
        committed, beside = await line.committed(partition)
        reached, doubt = await places.reached(partition), handling.doubt_of(beside, places.identity)
        start = handling.start(Found(begins=begins, ends=ends, committed=committed, reached=reached, doubt=doubt))
        if start.expected is not None:
            where = {"partition": partition, "expected": start.expected, "begins": start.position}
            log.error("records_missed", **where)
            await places.missed(Gap(partition, start.expected, start.position))
        await self._desk.memory.forget(partition, begins)
        self._written.pop(partition, None)
        self._doubtful_below[partition] = start.doubtful_below
        await self._write({partition: start.position})
        await line.seek(partition, start.position)
        return start

    async def records(self, partition: int, limit: int) -> Sequence[Incoming]:
        """Those that have been fetched, a few at a time: the rest waits in the consumer, which holds one fetch.

        Raises LookupError where the topic does not hold what comes next, and Unreadable.
        """
        found = await self._line.records(partition, limit)
        self._hold()
        now = self._desk.clock()
        return [_incoming(each, now) for each in found]

    async def unreadable(self, partition: int) -> tuple[range, str]:
        """The positions of what comes next and cannot be read, and why not."""
        found = await self._line.unreadable(partition)
        self._hold()
        return found

    async def seek(self, partition: int, position: int) -> None:
        """Go on reading there."""
        await self._line.seek(partition, position)

    async def hold(self, partition: int, position: int) -> None:
        """Make sure that the partition is ours: the group takes its position from nobody else.

        Heartbeats make sure of nothing: they go on in another task, and a process that was stopped for a while learns
        too late what became of them (A13).
        """
        self._hold()
        since = self._confirmed.get(partition)
        if since is None or self._desk.clock() - since >= self._pace.fresh:
            await self._write({partition: position})

    def finished(self, partition: int, position: int) -> None:
        """Everything below it is; it is written a little later, together with others."""
        self._finished[partition] = position
        self.due.set()

    async def write(self) -> None:
        """Write what has been finished, to the disk and then to the group; what is just being written is waited for."""
        async with self._writing:
            positions, self._finished = self._finished, {}
            self.due.clear()
            try:
                await self._written_down(positions)
            except Lost:
                raise
            except BaseException:  # not written this time, or broken off
                self._finished = positions | self._finished
                self.due.set()
                raise

    async def _write(self, positions: Mapping[int, int]) -> None:
        async with self._writing:
            await self._written_down(positions)

    async def _written_down(self, positions: Mapping[int, int]) -> None:
        if not positions:
            return
        further = {each: max(at, self._written.get(each, 0)) for each, at in positions.items()}
        await self._desk.places.finished(further)
        self._hold()
        since = self._desk.clock()
        identity, doubt = self._desk.places.identity, self._doubtful_below
        written = {each: (at, handling.beside(identity, at, doubt[each])) for each, at in further.items()}
        await self._line.commit(written)
        self._confirmed |= dict.fromkeys(further, since)
        self._written |= further

    def _hold(self) -> None:
        """Raises Lost where the group was divided anew, or has thrown this member out, since the assignment.

        One that was thrown out would write positions as somebody who is in no group, and Kafka takes them from him
        while the group is empty, also when they lie behind what others have finished meanwhile.
        """
        if self._generation is None or self._line.generation != self._generation:
            raise Lost("the group was divided anew")


def _incoming(record: "ConsumerRecord[bytes, bytes]", now: float) -> Incoming:
    return Incoming(
        partition=record.partition,
        position=record.offset,
        written=record.timestamp / 1000,
        key=record.key,
        value=record.value,
        headers=record.headers,
        came=now,
    )
