"""How a client waits and repeats."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.client.wire import GatewayError


@dataclass(frozen=True, slots=True)
class Pace:
    """How a client waits and repeats. The clocks, the chance and the sleep are here so that a test brings its own."""

    attempts: int = 4
    first_pause: float = 0.2
    """Seconds; doubled each time, and each time a random part of it (full jitter) is slept."""
    longest_pause: float = 5.0
    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    chance: Callable[[], float] = random.SystemRandom().random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    def pause(self, attempt: int, error: GatewayError, left: float) -> float | None:
        """Seconds before the next attempt; None when there is to be none."""
        if not error.temporary or attempt >= self.attempts:
            return None
        drawn = self.chance() * min(self.longest_pause, self.first_pause * 2.0 ** (attempt - 1))
        wait = drawn + (error.retry_after or 0.0)
        return wait if wait < left else None
