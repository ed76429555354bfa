"""Records that brokers have not acknowledged yet: how many, how large, for how long, and on which topics."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAX_RECORDS = 16_384
MAX_BYTES = 67_108_864
"""Of records that are not acknowledged yet, counted on when nobody waits for them any more."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is put on a topic."""

    recipient: str
    topic: str
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    size: int
    """Bytes of all that, about."""


class Flights:
    """What is in flight."""

    def __init__(self) -> None:
        self._under_way: dict[asyncio.Future[Any], tuple[float, Record]] = {}
        """In the order of their beginning."""
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._under_way)

    def has_room(self, record: Record) -> bool:
        """Whether it may set out too."""
        return len(self) < MAX_RECORDS and self.bytes + record.size <= MAX_BYTES

    def begin(self, flight: "asyncio.Future[Any]", record: Record) -> None:
        """It is under way, until the future is done."""
        self._under_way[flight] = asyncio.get_running_loop().time(), record
        self.bytes += record.size
        flight.add_done_callback(self._over)

    def slow(self, seconds: float) -> frozenset[str]:
        """Topics of those that have been under way for longer."""
        before = asyncio.get_running_loop().time() - seconds
        found = set()
        for since, record in self._under_way.values():
            if since > before:
                break
            found.add(record.topic)
        return frozenset(found)

    async def drained(self, seconds: float) -> None:
        """Wait until nothing of what is under way now is so any more, for so long at most."""
        if self._under_way:
            await asyncio.wait(tuple(self._under_way), timeout=seconds)

    def _over(self, flight: "asyncio.Future[Any]") -> None:
        _, record = self._under_way.pop(flight)
        self.bytes -= record.size
        if not flight.cancelled():
            flight.exception()  # somebody has looked at it now, even where nobody waits for it any more
