"""Connections that ask: as fast as they are answered, or by a timetable."""

import asyncio
import time
from collections.abc import Callable
from typing import cast

from tests.benchmarks.contenders import Contender, processor_seconds

CONNECTIONS = 32
EXPECTED = b"HTTP/1.1 200"


class _Connection(asyncio.Protocol):
    """Asks, and says when the answer is there; anything but 200 ends the measurement."""

    def __init__(self, call: bytes, answered: "Callable[[_Connection], None]", done: "asyncio.Future[None]") -> None:
        self._call = call
        self._answered = answered
        self._done = done
        self._buffer = b""
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the connection was closed"))

    def ask(self) -> None:
        """Send one request."""
        self.transport.write(self._call)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self._buffer) < end + 4 + length:
            return
        if not self._buffer.startswith(EXPECTED) and not self._done.done():
            self._done.set_exception(RuntimeError(self._buffer[:600].decode(errors="replace")))
        self._buffer = self._buffer[end + 4 + length :]
        self._answered(self)


async def _connected(
    contender: Contender, answered: Callable[[_Connection], None], done: "asyncio.Future[None]"
) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(CONNECTIONS):
        _, protocol = await loop.create_connection(
            lambda: _Connection(contender.call, answered, done), "127.0.0.1", contender.port
        )
        made.append(protocol)
    return made


def _closed(connections: list[_Connection]) -> None:
    for each in connections:
        each.transport.close()


async def round_of(contender: Contender, calls: int) -> None:
    """So many calls as fast as they are answered: notes processor time for each, and calls a second."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    unasked, unanswered = calls, calls

    def answered(connection: _Connection) -> None:
        nonlocal unasked, unanswered
        unanswered -= 1
        if unanswered == 0 and not done.done():
            done.set_result(None)
        if unasked > 0:
            unasked -= 1
            connection.ask()

    connections = await _connected(contender, answered, done)
    before, begun = processor_seconds(*contender.pids), time.perf_counter()
    for each in connections:
        unasked -= 1
        each.ask()
    await done
    contender.rates.append(calls / (time.perf_counter() - begun))
    contender.costs.append((processor_seconds(*contender.pids) - before) / calls * 1e6)
    _closed(connections)


async def paced(contender: Contender, rate: float, calls: int) -> list[float]:
    """So many calls, ``rate`` a second by a timetable: the seconds from when each was due to its answer, sorted.

    A call that finds every connection busy waits for one, and its waiting counts (no coordinated omission).
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    took: list[float] = []
    waiting: list[float] = []
    free: list[_Connection] = []

    def go(connection: _Connection, due: float) -> None:
        connection.due = due
        connection.ask()

    def answered(connection: _Connection) -> None:
        took.append(time.perf_counter() - connection.due)
        if len(took) == calls and not done.done():
            done.set_result(None)
        if waiting:
            go(connection, waiting.pop(0))
        else:
            free.append(connection)

    connections = await _connected(contender, answered, done)
    free.extend(connections)
    begun = time.perf_counter() + 0.05
    for number in range(calls):
        due = begun + number / rate
        if (rest := due - time.perf_counter()) > 0:
            await asyncio.sleep(rest)
        if done.done():
            break
        if free:
            go(free.pop(), due)
        else:
            waiting.append(due)
    await done
    _closed(connections)
    return sorted(took)
