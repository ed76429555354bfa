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
        self._under_way: dict[asyncio.Future[Any], tuple[float, Record, asyncio.Future[None]]] = {}
        """In the order of their beginning."""
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._under_way)

    def has_room(self, record: Record) -> bool:
        """Whether it may set out too."""
        return len(self) < MAX_RECORDS and self.bytes + record.size <= MAX_BYTES

    def begin(self, flight: "asyncio.Future[Any]", record: Record) -> "asyncio.Future[None]":
        """It is under way, until the future is done. What is given ends as that does: who waits for it may leave."""
        loop = asyncio.get_running_loop()
        ending: asyncio.Future[None] = loop.create_future()
        self._under_way[flight] = loop.time(), record, ending
        self.bytes += record.size
        flight.add_done_callback(self._over)
        return ending

    def slow(self, seconds: float) -> frozenset[str]:
        """Topics of those that have been under way for longer."""
        before = asyncio.get_running_loop().time() - seconds
        found = set()
        for since, record, _ in self._under_way.values():
            if since > before:
                break
            found.add(record.topic)
        return frozenset(found)

    async def drained(self, seconds: float) -> None:
        """Wait until nothing of what is under way now is so any more, for so long at most."""
        if self._under_way:
            await asyncio.wait(tuple(self._under_way), timeout=seconds)

    def _over(self, flight: "asyncio.Future[Any]") -> None:
        _, record, ending = self._under_way.pop(flight)
        self.bytes -= record.size
        if flight.cancelled():
            ending.cancel()
            return
        error = flight.exception()  # somebody has looked at it now, even where nobody waits for it any more
        if ending.done():
            return
        if error is None:
            ending.set_result(None)
        else:
            ending.set_exception(error)
            ending.exception()  # the same
