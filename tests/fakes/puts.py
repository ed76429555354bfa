"""A publisher on a broker, with someone who writes down what it tells."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from gateway.protocols.flights import Record
from gateway.protocols.handover import NotTaken
from gateway.protocols.producing import Session
from gateway.protocols.publishing import Publisher
from gateway.protocols.supervision import Link

LANE = b"ab" * 32


class Notes:
    """What a publisher told."""

    def __init__(self) -> None:
        self.reach: list[str | None] = []
        self.replacements: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self.seconds: list[float] = []

    def reached(self, why: str | None) -> None:
        """As ``Watcher``."""
        self.reach.append(why)

    def replaced(self, why: str) -> None:
        """Same."""
        self.replacements.append(why)

    def failed(self, recipient: str, error: str) -> None:
        """Same."""
        self.failures.append((recipient, error))

    def acknowledged(self, seconds: float) -> None:
        """Same."""
        self.seconds.append(seconds)


class Desk:
    """A publisher, its notes, and every session that it had."""

    def __init__(self, bootstrap: str, max_bytes: int = 1_048_576, **login: Any) -> None:
        self.notes = Notes()
        self.sessions: list[Session] = []
        options: Any = {"bootstrap_servers": bootstrap.split(","), "security_protocol": "PLAINTEXT", **login}
        self.link = Link(options, max_bytes)
        self.publisher = Publisher(self.link, self.notes, self._made)

    def _made(self, *how: Any) -> Session:
        self.sessions.append(Session(*how))
        return self.sessions[-1]

    async def put(self, topic: str, value: bytes = b"{}", seconds: float = 20.0, key: bytes = LANE) -> None:
        """Raises NotTaken."""
        await self.publisher.publish(_record(topic, key, value), seconds)

    async def refused(self, topic: str, value: bytes = b"{}", seconds: float = 20.0) -> NotTaken:
        """Put it there, and be told why not."""
        try:
            await self.put(topic, value, seconds)
        except NotTaken as fault:
            return fault
        raise AssertionError


def _record(topic: str, key: bytes, value: bytes) -> Record:
    return Record(recipient="interior", topic=topic, key=key, value=value, headers=[("ce_id", b"1")], size=len(value))


@asynccontextmanager
async def publishing(bootstrap: str, **how: Any) -> AsyncIterator[Desk]:
    """Until the context ends, which takes a bounded time."""
    desk = Desk(bootstrap, **how)
    try:
        yield desk
    finally:
        async with asyncio.timeout(15):
            await desk.publisher.close(0.0)


def named() -> str:
    """A topic of nobody else's."""
    return f"T{uuid4().hex[:10]}.agency.interior"
