"""The producer of a process, supervised: started, asked whether it still reaches anybody, replaced, given up.

The old one is dead before the new one sends, so that nothing of it comes behind what followed.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.protocols.brokers import Unreachable
from gateway.protocols.flights import Flights
from gateway.protocols.kafka_link import ClientOptions
from gateway.protocols.producing import LOOK_SECONDS, Session

TICK_SECONDS = 0.5
"""Between two looks of the supervisor."""
QUIET_SECONDS = 5.0
"""Without a word of the brokers, after which they are asked whether they are there."""
SLOW_SECONDS = 1.5
"""From which on an unacknowledged record makes it ask them, also about the record's topic."""
LOST_SECONDS = 10.0
"""For which no broker answers, after which the producer is given up."""
STALE_SECONDS = 60.0
"""The same of a record that is not acknowledged though brokers answer: it must not appear hours later."""
RETRY_SECONDS = 1.0
"""Between two attempts to reach a cluster that is away."""
DRAIN_SECONDS = 2.0
"""What is in flight gets before a producer that still works is replaced."""
GATHER_SECONDS = 0.01
"""For which questions for topics wait for each other: at a start there are as many as agencies."""


@dataclass(frozen=True, slots=True)
class Link:
    """How the cluster is reached, and what it takes."""

    options: ClientOptions
    max_bytes: int
    """Of a record."""
    topics: frozenset[str] = frozenset()
    """Those of the catalogue: looked at together, as each look reads what is known of all of them."""


class Watcher(Protocol):
    """Who is told what becomes of it."""

    def reached(self, why: str | None) -> None:
        """The cluster can be reached (None) or cannot; told when that changes."""

    def replaced(self, why: str) -> None:
        """A producer was given up; ``why`` is one of few words."""

    def failed(self, recipient: str, error: str) -> None:
        """A record was not acknowledged; ``error`` is one of few words."""

    def acknowledged(self, seconds: float) -> None:
        """By all replicas that are in sync, after so long."""


class Supervisor:
    """Sees to it that there is a producer that works."""

    def __init__(
        self,
        link: Link,
        watcher: Watcher,
        flights: Flights,
        session: Callable[[ClientOptions, int], Session] = Session,
    ) -> None:
        self.link = link
        self.down: str | None = None
        """Why the cluster cannot be reached; None: nobody knows that it cannot."""
        self._watcher = watcher
        self._flights = flights
        self._made = session
        self._present: Session | None = None
        self._known = asyncio.Event()
        """There is a session, or it is known that there can be none."""
        self._stir = asyncio.Event()
        self._wish: str | None = None
        """Why the present one should be replaced."""
        self._doubted = False
        self._told: bool | None = None
        self._heard = 0.0
        self._task: asyncio.Task[None] | None = None
        self._over = False

    async def session(self, until: float) -> Session:
        """The one in use. Raises Unreachable."""
        if self._over:  # what failed by the end is not tried again by a producer that nobody would end
            raise Unreachable("the gateway lets go of it")
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._go_on())
        while True:
            if self.down is not None:
                raise Unreachable(self.down)
            if self._present is not None:
                return self._present
            try:
                async with asyncio.timeout_at(until):
                    await self._known.wait()
            except TimeoutError as error:
                raise Unreachable("no producer was there in time") from error

    def heard(self) -> None:
        """A broker has answered."""
        self._heard = asyncio.get_running_loop().time()

    def doubt(self) -> None:
        """Something took too long, or failed: ask the brokers at once."""
        self._doubted = True
        self._stir.set()

    def replace(self, session: Session, why: str) -> None:
        """Do not use it any more."""
        if session is self._present:
            self._leave()
            self._wish = why
            self._stir.set()

    async def close(self, seconds: float) -> None:
        """Give what is in flight that time, and end."""
        self._over = True
        if self._task is not None:
            await self._flights.drained(seconds)
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _go_on(self) -> None:
        """One session after the other, until cancelled."""
        while True:
            link, session, why = self.link, self._made(self.link.options, self.link.max_bytes), None
            try:
                await session.open(self.doubt)
                if link.topics:
                    await session.look(sorted(link.topics))
                self.heard()
                self._wish, self._present = None, session
                self._say(None)
                why = await self._watched(session, link)
            except Unreachable as error:
                if session is self._present:
                    self._watcher.replaced("lost")
                self._say(str(error))
            except Exception as error:  # noqa: BLE001 - whatever goes wrong, the next attempt must come
                self._say(f"the gateway itself failed: {type(error).__name__}")
            finally:
                self._leave()
                with contextlib.suppress(Exception):  # whatever its end meets, another one must come
                    await session.end()
            if why is None:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._watcher.replaced(why)

    async def _watched(self, session: Session, link: Link) -> str:
        """Why it is to be replaced, when what was in flight had its time. Raises Unreachable where nobody answers."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._stir.wait()
            self._stir.clear()
            why = await self._against(session, link)
            if why is not None:
                self._leave()
                await self._flights.drained(DRAIN_SECONDS if session.sound else 0.0)
                return why

    async def _against(self, session: Session, link: Link) -> str | None:
        """What speaks for another producer. Raises Unreachable."""
        reasons = {
            "fatal": not session.sound,
            self._wish: self._wish is not None,
            "changed": (link.options, link.max_bytes) != (self.link.options, self.link.max_bytes),
            "stale": bool(self._flights.slow(STALE_SECONDS)),
        }
        if why := next((why for why, holds in reasons.items() if holds), None):
            return why
        slow = self._flights.slow(SLOW_SECONDS)
        silent = asyncio.get_running_loop().time() - self._heard
        if slow or self._doubted or self.down is not None or silent > QUIET_SECONDS:
            return await self._asked(session, slow, silent)
        return None

    async def _asked(self, session: Session, slow: frozenset[str], silent: float) -> str | None:
        self._doubted = False
        try:
            against = await session.brokers.ask(sorted(slow), LOOK_SECONDS)
        except Unreachable as error:
            if silent > LOST_SECONDS:
                raise
            self._say(str(error))
            return None
        self.heard()
        self._say(None)
        return "topic" if against else None

    def _say(self, why: str | None) -> None:
        self.down = why
        if self._told is not (why is None):
            self._told = why is None
            self._watcher.reached(why)
        if self._present is not None or why is not None:
            self._known.set()
        else:
            self._known.clear()

    def _leave(self) -> None:
        """There is no session in use."""
        self._present = None
        if self.down is None:
            self._known.clear()


class Looks:
    """Questions for topics, asked together with those of others at that moment."""

    def __init__(self) -> None:
        self._next: tuple[set[str], asyncio.Task[Mapping[str, str]]] | None = None

    async def look(self, session: Session, topic: str) -> str | None:
        """What stands against it. Raises Unreachable."""
        if self._next is None:
            asked: set[str] = set()
            task = asyncio.create_task(self._looked(session, asked))
            task.add_done_callback(_looked_at)
            self._next = asked, task
        topics, task = self._next
        topics.add(topic)
        return (await asyncio.shield(task)).get(topic)

    async def _looked(self, session: Session, topics: set[str]) -> Mapping[str, str]:
        await asyncio.sleep(GATHER_SECONDS)
        self._next = None
        return await session.look(sorted(topics))


def _looked_at(task: "asyncio.Task[Mapping[str, str]]") -> None:
    if not task.cancelled():
        task.exception()
