"""How much waits for each recipient: over its bound, more is refused to senders, and nobody else notices."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import structlog

from gateway.core.model import AgencyId, Way
from gateway.core.refusal import Refusal
from gateway.edge.store import Reads
from gateway.edge.telemetry import place

LOOK_SECONDS = 1.0
"""Between two counts, at least."""
SHARE = 20
"""A count that took long is made more seldom: it takes at most this part of the time."""
RETRY_SECONDS = 30.0
"""What a sender is told to wait for a recipient that is full."""

COUNT = "select recipient, way, sum(opened) from lanes where opened > 0 group by recipient, way"

log = structlog.get_logger()

Where = tuple[str, str]
"""Recipient and way."""


class Bounds:
    """What waits, as it was counted last, and what this process added since."""

    def __init__(self, reader: Reads) -> None:
        self._reader = reader
        self._counted: Mapping[Where, int] = {}
        self._added: dict[Where, int] = {}
        self.late = False
        """The last count failed: those before it hold."""

    @property
    def waiting(self) -> Mapping[Where, int]:
        """Open deliveries by recipient and way, as they were counted last."""
        return self._counted

    def hold(self, ways: Iterable[Way]) -> None:
        """Raises Refusal recipient.full for the first of them over its bound."""
        for way in ways:
            where = (way.agency, way.name)
            if self._counted.get(where, 0) + self._added.get(where, 0) >= way.max_waiting:
                raise Refusal(
                    "recipient.full",
                    f"As much waits for {way.agency} as it takes; others are not concerned.",
                    retry_after=RETRY_SECONDS,
                    agency=way.agency,
                )

    def add(self, ways: Iterable[tuple[AgencyId, str]]) -> None:
        """This process took something in for these."""
        for where in ways:
            self._added[where] = self._added.get(where, 0) + 1

    async def count(self) -> None:
        """Count anew. Raises StoreFailed, StoreRefused."""
        before = self._added
        self._added = {}
        try:
            rows = await self._reader.read(COUNT)
        except BaseException:  # whatever it was: what was added stays counted
            self._added = {where: before.get(where, 0) + self._added.get(where, 0) for where in {*before, *self._added}}
            raise
        self._counted = {(recipient, way): int(opened) for recipient, way, opened in rows}

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
