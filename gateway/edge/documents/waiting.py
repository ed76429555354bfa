"""Callers that wait for something to happen: one look at the database each quarter of a second serves all of them.

A change that this process made itself wakes them at once.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping

import structlog

from gateway.edge.store import StoreFailed, StoreRefused
from gateway.edge.telemetry import place

LOOK_SECONDS = 0.25
"""Between two looks at what is waited for."""
MAX_WAITED = 1000
"""Things that are waited for at once, which is what a look costs; who waits for one more is answered at once."""

log = structlog.get_logger()

Look = Callable[[Collection[str]], Awaitable[Mapping[str, Hashable]]]
"""For each key that there is something of: what is there now."""


class Waiters:
    """Who waits for what."""

    def __init__(self, look: Look, *, most: int = MAX_WAITED) -> None:
        self._look = look
        self._most = most
        self._by_key: dict[str, dict[asyncio.Event, Hashable]] = {}
        self._some = asyncio.Event()
        """Somebody waits."""
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._by_key.values()))

    async def wait(self, key: str, seconds: float, seen: Hashable) -> bool:
        """Wait until there is something else than what was ``seen``, or for so long; False: there is no room to wait.

        Who is woken looks again: it may have been for nothing.
        """
        if self._closed or seconds <= 0 or (key not in self._by_key and len(self._by_key) >= self._most):
            return False
        woken = asyncio.Event()
        self._by_key.setdefault(key, {})[woken] = seen
        self._some.set()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await woken.wait()
        finally:
            waiting = self._by_key[key]
            del waiting[woken]
            if not waiting:
                del self._by_key[key]
        return True

    def tell(self, keys: Iterable[str]) -> None:
        """This process changed something of these."""
        for key in keys:
            for woken in self._by_key.get(key, ()):
                woken.set()

    def close(self) -> None:
        """Wake everybody, and let nobody wait any more: the process stops."""
        self._closed = True
        self.tell(list(self._by_key))

    async def go_on(self) -> None:
        """Look as long as somebody waits, until cancelled."""
        while True:
            await self._some.wait()
            await asyncio.sleep(LOOK_SECONDS)
            if not self._by_key:
                self._some.clear()
                continue
            await self.round()

    async def round(self) -> None:
        """One look. Whoever waits for something that changed meanwhile is woken."""
        try:
            now = await self._look(tuple(self._by_key))
        except (StoreFailed, StoreRefused):  # who waits gets an answer when its time is over
            log.warning("waiting_not_looked")
            return
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in a look, the next one must come
            log.error("waiting_broken", **place(error))  # noqa: TRY400 - no traceback in a log line
            return
        for key, waiting in self._by_key.items():
            there = now.get(key)
            for woken, seen in waiting.items():
                if there != seen:
                    woken.set()
