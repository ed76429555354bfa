"""How much waits for each recipient: over its bound, more is refused to senders, and nobody else notices.

Letters, each publisher's events and receipts have bounds of their own: none of them takes another's room.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import structlog

from gateway.core.model import AgencyId, Way
from gateway.core.refusal import Refusal
from gateway.edge.documents.records import LETTERS, RECEIPT
from gateway.edge.store import Reads
from gateway.edge.telemetry import place

LOOK_SECONDS = 1.0
"""Between two counts, at least."""
SHARE = 20
"""A count that took long is made more seldom: it takes at most this part of the time."""
RETRY_SECONDS = 30.0
"""What a sender is told to wait for a recipient that is full."""
MAX_EVENTS = 10_000
"""One publisher's events that wait for a subscriber; further ones do not go there, and go to the others."""
MAX_RECEIPTS = 100_000
"""Receipts that wait for an agency; further ones are not sent, and are there to be asked for."""

COUNT = "select recipient, way, bound, sum(opened) from lanes where opened > 0 group by recipient, way, bound"

log = structlog.get_logger()

Where = tuple[str, str]
"""Recipient and way."""
Heap = tuple[str, str, str]
"""The same, and what is counted together there (``records.bound_of``)."""


class Bounds:
    """What waits, as it was counted last, and what this process added since."""

    def __init__(self, reader: Reads) -> None:
        self._reader = reader
        self._counted: Mapping[Heap, int] = {}
        self._added: dict[Heap, int] = {}
        self.late = False
        """The last count failed: those before it hold."""

    @property
    def waiting(self) -> Mapping[Where, int]:
        """Open deliveries by recipient and way, as they were counted last."""
        found: dict[Where, int] = {}
        for (recipient, way, _), count in self._counted.items():
            found[recipient, way] = found.get((recipient, way), 0) + count
        return found

    @property
    def counted(self) -> Mapping[Heap, int]:
        """The same, and what is counted together."""
        return self._counted

    def full(self, way: Way, bound: str) -> bool:
        """Whether as much of that waits there as may."""
        return self._waiting(way, bound) >= most(way, bound)

    def hold(self, ways: Iterable[Way]) -> None:
        """Raises Refusal recipient.full for the first of them over its bound."""
        for way in ways:
            if self.full(way, LETTERS):
                raise Refusal(
                    "recipient.full",
                    f"As much waits for {way.agency} as it takes; others are not concerned.",
                    retry_after=RETRY_SECONDS,
                    agency=way.agency,
                )

    def add(self, ways: Iterable[tuple[AgencyId, str]], bound: str = LETTERS) -> None:
        """This process took something in for these."""
        for recipient, way in ways:
            heap = (recipient, way, bound)
            self._added[heap] = self._added.get(heap, 0) + 1

    def _waiting(self, way: Way, bound: str) -> int:
        heap = (way.agency, way.name, bound)
        return self._counted.get(heap, 0) + self._added.get(heap, 0)

    async def count(self) -> None:
        """Count anew. Raises StoreFailed, StoreRefused."""
        before = self._added
        self._added = {}
        try:
            rows = await self._reader.read(COUNT)
        except BaseException:  # whatever it was: what was added stays counted
            self._added = {heap: before.get(heap, 0) + self._added.get(heap, 0) for heap in {*before, *self._added}}
            raise
        self._counted = {(recipient, way, bound): int(opened) for recipient, way, bound, opened in rows}

    async def go_on(self, sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep) -> None:
        """Count again and again, until cancelled."""
        while True:
            begun = time.monotonic()
            try:
                await self.count()
                self.late = False
            except Exception as error:  # noqa: BLE001 - whatever goes wrong in a count, the next one must come
                if not self.late:
                    log.warning("waiting_not_counted", **place(error))
                self.late = True
            await sleep(max(LOOK_SECONDS, SHARE * (time.monotonic() - begun)))


def most(way: Way, bound: str) -> int:
    """How much of that may wait on the way."""
    return way.max_waiting if bound == LETTERS else MAX_RECEIPTS if bound == RECEIPT else MAX_EVENTS
