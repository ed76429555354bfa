"""One partition in this member's hands: its records one after the other, each to its end before the next."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from gateway.agent.gate import Gate
from gateway.agent.handing import Handing, Hold, Pause
from gateway.agent.line import Lost, Unheld, Unreadable
from gateway.agent.pace import Pace
from gateway.agent.ports import Desk, Foreign, Route, Unreachable, Unwritten
from gateway.agent.records import Incoming
from gateway.core.handling import Start, Why

_CHANCE = random.SystemRandom()
_WHY: dict[type[Exception], str] = {Unwritten: "disk", Unreachable: "gateway", Unheld: "kafka"}

log = structlog.get_logger()


class Source(Hold, Protocol):
    """The group, as one partition sees it (``seat``)."""

    async def begin(self, partition: int) -> Start:
        """Find where reading begins, and write to the group that it does. Raises Lost, Unheld, Unwritten."""

    async def records(self, partition: int, limit: int) -> Sequence[Incoming]:
        """The next ones; none after a while in which nothing came.

        Raises Lost, Unheld, LookupError where the topic does not hold what comes next, and Unreadable.
        """

    async def unreadable(self, partition: int) -> tuple[range, str]:
        """The positions of what comes next and cannot be read, and why not. Raises Lost, Unheld."""

    async def seek(self, partition: int, position: int) -> None:
        """Go on reading there. Raises Lost."""

    def finished(self, partition: int, position: int) -> None:
        """Everything below it is."""


class Partition:
    """Worked off by ``run``; ``leave`` ends it."""

    def __init__(self, number: int, desk: Desk, source: Source, pace: Pace, gates: Callable[[Route], Gate]) -> None:
        self.number = number
        self._meters = desk.meters
        self._source = source
        self._pace = pace
        self._handing = Handing(desk, source, pace, gates)
        self._doubtful_below = 0
        self._leaving = False
        self._singly = 0
        """Records that are still to be read one by one."""
        self._misreads = 0
        self._late = False
        """The partition has gone: its position is somebody else's to write."""
        self.position: int | None = None
        """The first record that is not finished."""
        self.oldest: float | None = None
        """When that was written, if it is in hand: seconds since 1970."""
        self.complaint: str | None = None
        """Why Kafka gives nothing of it just now."""

    async def run(self) -> None:
        """Until the partition is lost or left."""
        batch: Sequence[Incoming] = ()
        try:
            await self._begin()
            while not self._leaving:
                try:
                    batch = await self._read()
                except LookupError:  # what comes next is gone from the topic (A15)
                    await self._begin()
                    continue
                except (Unheld, Unwritten) as error:
                    await self._wait(Pause(_WHY[type(error)]), 1, str(error))
                    continue
                if self.complaint is not None and not self._misreads:
                    self._goes_on()
                for incoming in batch:
                    await self._finish(incoming)
        except Lost as error:
            log.info("partition_lost", partition=self.number, position=self.position, why=str(error))

    async def leave(self, task: "asyncio.Task[None]", seconds: float) -> bool:
        """Take nothing more, finish what is in hand. False: it is not finished in time, and goes on by itself."""
        self._leaving = True
        if not self._handing.busy:
            task.cancel()
        done, _ = await asyncio.wait([task], timeout=seconds)
        self._late = not done
        return bool(done)

    async def _begin(self) -> None:
        failures = 0
        while True:
            try:
                start = await self._source.begin(self.number)
                break
            except (Unheld, Unwritten) as error:
                failures += 1
                await self._wait(Pause(_WHY[type(error)]), failures, str(error))
        self.position, self._doubtful_below = start.position, start.doubtful_below
        self._goes_on()

    async def _read(self) -> Sequence[Incoming]:
        """Some; where they cannot be read, one by one, and at last past those that cannot (A9)."""
        try:
            batch = await self._source.records(self.number, 1 if self._singly else self._pace.batch)
        except Unreadable as error:
            self._misreads += self._singly > 0
            self._singly = self._pace.batch
            if self._misreads >= self._pace.misreads:
                await self._passed_over()
            elif self._misreads:
                await self._wait(Pause("kafka"), self._misreads, str(error))
            return ()
        if batch:
            self._singly, self._misreads = max(0, self._singly - 1), 0
        return batch

    async def _passed_over(self) -> None:
        where, why = await self._source.unreadable(self.number)
        said = f"{len(where)} from here on cannot be read: {why}"
        await self._handing.alarm(Foreign(self.number, where.start, Why.UNREADABLE, said))
        await self._source.seek(self.number, where.stop)
        self._misreads, self.position = 0, where.stop
        self._goes_on()
        if not self._late:
            self._source.finished(self.number, where.stop)

    async def _finish(self, incoming: Incoming) -> None:
        """One record to its end, however long that takes. Raises Lost."""
        self.oldest = incoming.written
        failures = 0
        while True:
            if self._leaving:
                raise Lost("it was left")
            pause, detail = await self._tried(incoming)
            if pause is None:
                break
            failures += 1
            await self._wait(pause, failures, detail)
        self._goes_on()
        self.position, self.oldest = incoming.position + 1, None
        if not self._late:
            self._source.finished(self.number, self.position)

    async def _tried(self, incoming: Incoming) -> tuple[Pause | None, str]:
        try:
            return await self._handing.done(incoming, self._doubtful_below), ""
        except (Unwritten, Unreachable, Unheld) as error:
            return Pause(_WHY[type(error)]), str(error)

    def _goes_on(self) -> None:
        self.complaint = None
        self._meters.paused(self.number, None)

    async def _wait(self, pause: Pause, failures: int, detail: str) -> None:
        self.complaint = detail if pause.why == "kafka" else None
        self._meters.paused(self.number, pause.why)
        if failures == 1:
            log.info("partition_paused", partition=self.number, position=self.position, why=pause.why, detail=detail)
        if pause.wish is None:
            await asyncio.sleep(self._pace.pause(failures, _CHANCE.random()))
        else:
            await asyncio.sleep(pause.wish)
