"""The HTTP client towards agencies' systems: pools of connections, one attempt, every size and time bounded."""

import asyncio
import contextlib
import os
import select
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Self, cast

from gateway.core.reach import Reach
from gateway.edge.dialing import Barred, reached
from gateway.edge.wire import Origin, Reader, parted, written
from gateway.protocols.protocol import PLAIN, Cut, Manner, Reply, TooLarge, Unsent

CONNECTIONS = 100
"""To one host and port, under one TLS configuration."""
IDLE_SECONDS = 4.0
"""A kept connection lives this long unused: less than the five seconds after which common servers hang up."""
CONNECT_SHARE = 0.75
"""Of the time: what waiting for a connection may take. It ends before the whole does, so that a call which found no
connection is known not to have been sent."""
_ENDING_SECONDS = 1.0
"""That closing waits for the connections, which are broken off and not said goodbye to."""


class _Connection(asyncio.Protocol):
    """One connection: nothing, or one request and its answer."""

    __slots__ = ("_future", "_loop", "_pool", "_readable", "_reader", "_timer", "_transport", "made", "since", "usable")

    def __init__(self, pool: "_Pool", loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._reader = Reader()
        self._future: asyncio.Future[Reply] | None = None
        self.made = self.usable = False
        self.since = 0.0
        """When it was last used, where it is idle."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._readable = select.poll()
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self.made = self.usable = True
        self._pool.connections.add(self)

    def quiet(self) -> bool:
        """Neither hung up nor spoken on, not even in what the event loop has not read yet.

        An answer that nobody asked for would be given to the next request: one person's record to another's.
        """
        return self.usable and not self._readable.poll(0)

    def ask(self, method: str, request: bytes, max_bytes: int, end: float) -> asyncio.Future[Reply]:
        """Send; ``end`` is on the loop's clock. What is given ends as ``Outbound.send`` does."""
        self._future = future = self._loop.create_future()
        self._timer = self._loop.call_at(end, self._expired)
        self._reader.expect(method, max_bytes)
        self._transport.write(request)
        return future

    def _expired(self) -> None:
        self._fail(TimeoutError("no whole answer in time"))

    def data_received(self, data: bytes) -> None:
        if self._future is None:  # nobody asked
            self.abort()
            return
        try:
            whole = self._reader.feed(data)
        except (Cut, TooLarge) as error:
            self._fail(error)
            return
        if whole:
            self._answered(self._future)

    def _answered(self, future: asyncio.Future[Reply]) -> None:
        self._future = None
        self._timer.cancel()
        if not future.done():  # its caller may have been cancelled in this very turn
            future.set_result(self._reader.reply())
        if self.usable and self._reader.reusable and not self._transport.get_write_buffer_size():
            self._pool.keep(self)
        else:
            self.abort()

    def _fail(self, error: Exception) -> None:
        future, self._future = self._future, None
        if future is not None:
            self._timer.cancel()
            if not future.done():
                future.set_exception(error)
        self.abort()

    def abandon(self, future: asyncio.Future[Reply]) -> None:
        """Its caller waits no more. By now the connection may have answered, and serve another one."""
        if self._future is future:
            self._future = None
            self._timer.cancel()
            self.abort()

    def abort(self) -> None:
        """Break it off, whatever is still to be sent or read."""
        self.usable = False
        self._transport.abort()

    def eof_received(self) -> None:
        """The stream's end, by the other side's word or by somebody who cut it off."""
        self.usable = False
        if self._future is not None and _said_goodbye(self._transport) and self._reader.end():
            self._answered(self._future)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.made:  # lost in the handshake: whoever opened it is told
            return
        self._fail(Cut(type(exc).__name__ if exc else "the connection ended before its answer"))
        self._pool.lost(self)


def _said_goodbye(transport: asyncio.BaseTransport) -> bool:
    """Over TLS the end of a stream is a message: without it, somebody on the way may have cut (RFC 9112, section 9.8).

    asyncio tells both alike, uvloop does not.
    """
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if tls is None:
        return True
    try:
        return not tls.read(1)  # nothing after the message; without it, a wish to read on
    except ssl.SSLError:
        return False


@dataclass(frozen=True, slots=True)
class _Bounds:
    connections: int
    idle_seconds: float


class _Pool:
    """The connections to one origin, in one manner: what was made in another one serves no call of this."""

    def __init__(self, origin: Origin, manner: Manner, bounds: _Bounds, emptied: Callable[[], None]) -> None:
        self.connections: set[_Connection] = set()
        self._bounds = bounds
        self._origin = origin
        self._manner = manner
        self._emptied = emptied
        self._loop = asyncio.get_running_loop()
        self._idle: deque[_Connection] = deque()
        self._waiting: deque[asyncio.Future[_Connection | None]] = deque()
        self._places = 0
        """Taken by connections, and by those that open one."""
        self._sweeping: asyncio.TimerHandle | None = None

    def unused(self) -> _Connection | None:
        """One that was kept: the one used last, so that the others grow old."""
        while self._idle:
            connection = self._idle.pop()
            if connection.quiet():
                return connection
            connection.abort()
        return None

    async def connection(self) -> _Connection:
        """One that was kept, or is new, or that somebody gave back: first come, first served."""
        while True:
            if found := self.unused():
                return found
            if self._places < self._bounds.connections:
                self._places += 1
                return await self._opened()
            handed = await self._turn()
            if handed is None:
                return await self._opened()
            if handed.quiet():
                return handed
            handed.abort()

    async def _turn(self) -> _Connection | None:
        """Wait for a connection, or for the place of one."""
        future: asyncio.Future[_Connection | None] = self._loop.create_future()
        self._waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._pass_on(future.result())
            elif future in self._waiting:
                self._waiting.remove(future)
            raise

    def _pass_on(self, handed: _Connection | None) -> None:
        if handed is None:
            self._vacate()
        elif handed.usable:
            self.keep(handed)

    async def _opened(self) -> _Connection:
        """In a place that was taken before."""
        connection = _Connection(self, self._loop)
        origin = self._origin
        try:
            await self._loop.create_connection(
                lambda: connection,
                sock=await reached(origin.host, origin.port, self._manner.reach),
                ssl=(self._manner.tls or _default_tls()) if origin.secure else None,
                server_hostname=origin.host.rstrip(".") if origin.secure else None,
            )
        except BaseException:
            if connection.made:
                connection.abort()  # and its loss gives the place back
            else:
                self._vacate()
            raise
        if not connection.usable:
            raise Unsent("the connection was over, or spoken on, before anything was asked")
        return connection

    def keep(self, connection: _Connection) -> None:
        """Its answer is whole, and it may carry another one."""
        if self._hand(connection):
            return
        connection.since = self._loop.time()
        self._idle.append(connection)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._bounds.idle_seconds, self._sweep)

    def _hand(self, what: _Connection | None) -> bool:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(what)
                return True
        return False

    def lost(self, connection: _Connection) -> None:
        """It is closed: its place is free."""
        self.connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._vacate()

    def _vacate(self) -> None:
        if self._hand(None):
            return
        self._places -= 1
        if not self._places:
            if self._sweeping is not None:
                self._sweeping.cancel()
            self._emptied()

    def _sweep(self) -> None:
        """One timer for all of them, not one for each use."""
        old = self._loop.time() - self._bounds.idle_seconds
        while self._idle and self._idle[0].since <= old:
            self._idle.popleft().abort()
        self._sweeping = None
        if self._idle:
            self._sweeping = self._loop.call_at(self._idle[0].since + self._bounds.idle_seconds, self._sweep)


@lru_cache(maxsize=1)
def _default_tls() -> ssl.SSLContext:
    """Reading the system's authorities takes milliseconds."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


_Key = tuple[tuple[bool, str, int], ssl.SSLContext | None, Reach | None]
"""Of a pool: its origin and manner."""


class HttpOutbound:
    """Outbound over HTTP/1.1; an async context manager, to be opened inside the event loop."""

    def __init__(self, connections: int = CONNECTIONS, idle_seconds: float = IDLE_SECONDS) -> None:
        """Both bounds hold for each host and port under one TLS configuration and one rule of addresses."""
        self._bounds = _Bounds(connections, idle_seconds)
        self._pools: dict[_Key, _Pool] = {}
        self._arriving: set[asyncio.Timeout] = set()
        """Of the calls that have no connection yet."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loop = None
        self._ended.clear()
        for limit in self._arriving:
            if not limit.expired():
                limit.reschedule(0)
        for pool in self._pools.values():
            for connection in tuple(pool.connections):
                connection.abort()
        if self._pools:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ENDING_SECONDS):
                    await self._ended.wait()

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        seconds: float,
        max_bytes: int,
        manner: Manner = PLAIN,
    ) -> Reply:
        """See ``protocols.protocol.Outbound``."""
        if self._loop is None:
            raise Unsent("the gateway is shutting down")
        if seconds <= 0:
            raise Unsent("no time is left")
        end = self._loop.time() + seconds
        try:
            origin, target = parted(url)
            request = written(method, origin, target, headers, body)
        except ValueError as error:
            raise Unsent(str(error)) from None
        pool = self._pool(origin, manner)
        connection = pool.unused() or await self._connected(pool, end - seconds * (1 - CONNECT_SHARE))
        future = connection.ask(method, request, max_bytes, end)
        try:
            return await future
        except asyncio.CancelledError:
            connection.abandon(future)
            raise

    def _pool(self, origin: Origin, manner: Manner) -> _Pool:
        key = (origin.key, manner.tls if origin.secure else None, manner.reach)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = _Pool(origin, manner, self._bounds, lambda: self._drop(key))
        return pool

    def _drop(self, key: _Key) -> None:
        """So that neither addresses nor certificates that are used no more pile up."""
        del self._pools[key]
        if not self._pools:
            self._ended.set()

    async def _connected(self, pool: _Pool, end: float) -> _Connection:
        """A connection by the loop's time ``end``; whatever goes wrong, nothing was sent."""
        try:
            async with asyncio.timeout_at(end) as limit:
                self._arriving.add(limit)
                try:
                    return await pool.connection()
                finally:
                    self._arriving.discard(limit)
        except (ssl.SSLCertVerificationError, Barred) as error:
            raise Unsent(str(error)) from None
        except OSError as error:  # TimeoutError is one
            refused = isinstance(error, ConnectionError) and error.errno  # asyncio's own words quote the address
            raise Unsent(os.strerror(refused) if refused else error.strerror or type(error).__name__) from None
        except (ValueError, RuntimeError) as error:  # a name that no name server takes; uvloop's sock_connect
            raise Unsent(type(error).__name__) from None
