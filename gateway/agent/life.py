"""One consumer, from its making to its end: its partitions, what is written and watched beside them."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from gateway.agent.gate import Gate
from gateway.agent.line import Died, Line, Lost, Unheld
from gateway.agent.pace import Pace
from gateway.agent.partition import Partition
from gateway.agent.ports import Desk, Route, Unreachable, Unwritten
from gateway.agent.seat import Seat
from gateway.core import handling
from gateway.edge.tasks import cancelled

_CHANCE = random.SystemRandom()

MAX_STRANDED = 100
"""Documents of one partition that were not finished here, about which the gateway is asked in one cleaning."""

log = structlog.get_logger()


class Late:
    """Hand-overs that did not end before their partition went: what becomes of them is still written."""

    def __init__(self) -> None:
        self._tasks: dict[int, set[asyncio.Task[None]]] = {}

    def add(self, number: int, task: "asyncio.Task[None]") -> None:
        """It goes on by itself."""
        late = self._tasks.setdefault(number, set())
        late.add(task)
        task.add_done_callback(late.discard)

    async def ended(self, number: int) -> None:
        """Wait for those of one partition: nobody may take what they have begun for something without an end."""
        if late := self._tasks.get(number):
            await asyncio.wait(late)

    async def broken_off(self) -> None:
        """The process ends."""
        await cancelled(*(task for late in self._tasks.values() for task in late))


@dataclass(slots=True)
class _Held:
    partition: Partition
    task: "asyncio.Task[None]"
    silent: int = 0
    """Looks in a row at which it waited for records that are there."""


@dataclass(frozen=True, slots=True)
class Share:
    """What consumers leave to those that come after them."""

    late: Late
    gates: Callable[[Route], Gate]
    let_in: Callable[[], Awaitable[None]]
    """Whether brokers take us and have the topic; raises Died where not."""


class Life:
    """The partitions of one consumer."""

    def __init__(self, line: Line, desk: Desk, pace: Pace, share: Share) -> None:
        self._line = line
        self._desk = desk
        self._pace = pace
        self._share = share
        self._seat = Seat(line, desk, pace)
        self._held: dict[int, _Held] = {}
        self._letting_go = asyncio.Lock()
        self.complaint: str | None = None
        """Why Kafka is not read just now."""

    def assigned(self, numbers: list[int]) -> None:
        """These are ours from now on."""
        self._seat.assigned()
        for number in numbers:
            partition = Partition(number, self._desk, self._seat, self._pace, self._share.gates)
            self._held[number] = _Held(partition, asyncio.create_task(self._worked(partition)))
        self._desk.meters.assigned(numbers)
        self._desk.meters.rebalanced()
        log.info("partitions_assigned", partitions=numbers)

    async def let_go(self, seconds: float) -> None:
        """Finish what is in hand, write it down, write the positions; what is not done in time goes on by itself."""
        async with self._letting_go:
            held, self._held = self._held, {}
            ended = await asyncio.gather(*(each.partition.leave(each.task, seconds) for each in held.values()))
            for (number, each), in_time in zip(held.items(), ended, strict=True):
                if not in_time:
                    self._share.late.add(number, each.task)
                    log.warning("hand_over_late", partition=number, position=each.partition.position)
            try:
                await self._seat.write()
            except (Lost, Unheld, Unwritten) as error:
                log.warning("positions_not_written", why=str(error))
            self._desk.meters.assigned(())

    async def run(self) -> None:
        """Until something ends it. Raises Died."""
        tasks = [asyncio.create_task(each) for each in (self._polled(), self._positions(), self._watched())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            await cancelled(*tasks)

    async def _worked(self, partition: Partition) -> None:
        await self._share.late.ended(partition.number)
        await partition.run()

    async def _polled(self) -> None:
        while True:
            await self._line.alive()

    async def _positions(self) -> None:
        failing = False
        while True:
            await self._seat.due.wait()
            try:
                await self._seat.write()
            except Lost:
                failing = False
            except (Unheld, Unwritten) as error:
                if not failing:
                    log.warning("positions_not_written", why=str(error))
                failing = True
            else:
                failing = False
            await asyncio.sleep(self._pace.first if failing else self._pace.commit)

    async def _watched(self) -> None:
        """Lag, and a consumer that gives nothing though there is something."""
        forgot, deaf, empty = self._desk.clock(), 0, 0
        while True:
            await asyncio.sleep(self._pace.look)
            empty = 0 if self._held else empty + 1
            if empty >= self._pace.stalls:  # others may have them all, or the topic is gone
                empty = 0
                await self._share.let_in()
            try:
                ends = await self._line.ends(sorted(self._held)) if self._held else {}
                deaf = 0
                self.complaint = next(filter(None, (each.partition.complaint for each in self._held.values())), None)
            except (Lost, Unheld) as error:
                deaf, self.complaint = deaf + 1, str(error)
                if deaf >= self._pace.stalls:
                    raise Died(str(error)) from error
                continue
            self._measured(ends)
            if self._desk.clock() - forgot >= self._pace.forget:
                forgot = self._desk.clock()
                with contextlib.suppress(Lost, Unheld, Unwritten, Unreachable, TimeoutError):
                    await self._forgotten()

    def _measured(self, ends: Mapping[int, int]) -> None:
        """Raises Died."""
        for number, held in self._held.items():
            if held.task.done() and (fault := _fault(held.task)):
                raise Died(f"partition {number} has failed: {type(fault).__name__}") from fault
            at, oldest = held.partition.position, held.partition.oldest
            behind = 0 if at is None else max(0, ends.get(number, at) - at)
            if at is not None:
                # the age of what waits is by two machines' clocks, and shown, not decided upon
                self._desk.meters.lag(number, behind, 0.0 if oldest is None else max(0.0, time.time() - oldest))
            idle = oldest is None and (at is None or behind > 0)
            held.silent = held.silent + 1 if idle else 0
            if held.silent >= self._pace.stalls:
                raise Died(f"nothing comes of partition {number}, though {behind} records are there")

    async def _forgotten(self) -> None:
        """By the beginning of the partition, never by time (A17); also of those that others read by now."""
        memory, found = self._desk.memory, await self._line.begins()
        for number, begins in found.items():
            await memory.forget(number, begins)
        async with asyncio.timeout(self._pace.answer):  # what is not asked in time is asked another time: in no order
            for number, begins in _CHANCE.sample(sorted(found.items()), len(found)):
                held = self._held.get(number)
                below = begins if held is None else min(begins, held.partition.position or 0)  # not what is in hand
                for document in await memory.stranded(number, below, MAX_STRANDED):
                    if handling.over(await self._desk.upstream.state(document)):
                        await memory.drop(document, number, below)


def _fault(task: "asyncio.Task[None]") -> BaseException | None:
    return None if task.cancelled() else task.exception()
