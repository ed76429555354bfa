"""Entries that wait for a journal that cannot be written, of what goes on all the same."""

import asyncio
import contextlib
from collections import deque

import structlog

from gateway.core.entry import Draft
from gateway.core.refusal import Refusal
from gateway.edge.journal import Journal

MAX_OWED = 64
"""Entries that wait."""
LAST_SECONDS = 2.0
"""What a stop gives those that wait still."""

log = structlog.get_logger()


class Owed:
    """In order; none is lost without a line in the log."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._entries: deque[Draft] = deque()
        self._writing: asyncio.Task[None] | None = None

    def add(self, entry: Draft) -> None:
        """One more; the oldest makes room for it."""
        self._entries.append(entry)
        if len(self._entries) > MAX_OWED:
            self._entries.popleft()
            log.warning("reload_entries_lost", count=1)

    async def write(self) -> None:
        """What can be written, by a task of its own: who is cancelled meanwhile loses no entry and repeats none."""
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await asyncio.shield(self._writing)

    async def _write(self) -> None:
        while self._entries:
            entry = self._entries.popleft()
            try:
                await self._journal.append(entry)
            except Refusal:
                self._entries.appendleft(entry)
                return

    async def end(self) -> None:
        """Once more, for a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self.write()
        if self._entries:
            log.warning("reload_entries_lost", count=len(self._entries))
