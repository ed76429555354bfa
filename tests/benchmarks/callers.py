"""Connections that ask: as fast as they are answered, or by a timetable."""

import asyncio
import time
from collections import deque
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


class _Timetable:
    """Calls that are due, whichever connection is free."""

    def __init__(self, calls: int, done: "asyncio.Future[None]") -> None:
        self.took: list[float] = []
        self.free: deque[_Connection] = deque()
        """In turn: one that never asks is hung up on."""
        self._waiting: deque[float] = deque()
        self._calls = calls
        self._done = done

    def ask(self, due: float) -> None:
        """A call is due; one that finds every connection busy waits for one, and its waiting counts."""
        if self.free:
            self._go(self.free.popleft(), due)
        else:
            self._waiting.append(due)

    def answered(self, connection: _Connection) -> None:
        self.took.append(time.perf_counter() - connection.due)
        if len(self.took) == self._calls and not self._done.done():
            self._done.set_result(None)
        if self._waiting:
            self._go(connection, self._waiting.popleft())
        else:
            self.free.append(connection)

    def _go(self, connection: _Connection, due: float) -> None:
        connection.due = due
        connection.ask()


async def paced(contender: Contender, rate: float, calls: int) -> list[float]:
    """So many calls, ``rate`` a second: the seconds from when each was due to its answer, sorted."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    timetable = _Timetable(calls, done)
    connections = await _connected(contender, timetable.answered, done)
    timetable.free.extend(connections)
    begun = time.perf_counter() + 0.05
    for number in range(calls):
        due = begun + number / rate
        if (rest := due - time.perf_counter()) > 0:
            await asyncio.sleep(rest)
        if done.done():
            break
        timetable.ask(due)
    await done
    _closed(connections)
    return sorted(timetable.took)
