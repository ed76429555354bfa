"""The agency's own system as a whole: while it takes nothing, one document at a time finds out whether it does."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway.agent.pace import Pace

_CHANCE = random.SystemRandom()


class Gate:
    """In front of one way; all partitions go through it."""

    def __init__(self, clock: Callable[[], float], pace: Pace) -> None:
        self._clock = clock
        self._pace = pace
        self.answers = 0
        """So often the system took something, or said something of a document."""
        self._failures = 0
        self._until = 0.0
        self._probing = False
        self._moved = asyncio.Event()

    @property
    def closed(self) -> bool:
        """Whoever comes has to wait, unless he is to find out."""
        return self._failures > 0

    @asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        """Wait until something may be handed over; whoever leaves without a word has found out nothing."""
        probe = await self._wait()
        try:
            yield
        finally:
            if probe:
                self._probing = False
                self._move()

    def failed(self, wish: float | None) -> None:
        """The system takes nothing; ``wish``: the seconds that it named."""
        self._failures += 1
        self._until = self._clock() + self._pace.pause(self._failures, _CHANCE.random(), wish)

    def answered(self) -> None:
        """It takes something, or has said something of a document."""
        self.answers += 1
        self._failures = 0
        self._move()

    async def _wait(self) -> bool:
        while self._failures:
            left = self._until - self._clock()
            if left <= 0 and not self._probing:
                self._probing = True
                return True
            moved = self._moved
            try:
                async with asyncio.timeout(None if self._probing else left):
                    await moved.wait()
            except TimeoutError:
                continue
        return False

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
