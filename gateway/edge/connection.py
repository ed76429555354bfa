"""A caller's connection: how long it may take to ask and to read, and how it is ended without losing a request.

aiohttp gives a head as long as an idle connection has, and waits for ever for a caller that reads nothing.
"""

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp.http_exceptions import LineTooLong, TransferEncodingError
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo

from gateway.edge.answering import MAX_HEAD, Answering, House
from gateway.edge.doorkeeper import Place, Watch

HEAD_SECONDS = 10.0
"""Seconds that a request's head may take to arrive: after the connection was made, or after its first byte."""
UNREAD_SECONDS = 20.0
"""Seconds in which a caller must take some of the answer that waits for it."""
UNREAD_BYTES = 16_384
"""How much of it."""
LINGER_BYTES = 262_144
"""What is thrown away of what is no request; then nothing more is taken in."""


@dataclass(frozen=True, slots=True)
class Present:
    """The connections of one listener."""

    watch: Watch
    connections: set["Connection"] = field(default_factory=set)


class Reader:
    """Whoever is to read what a connection writes: broken off when it does not."""

    __slots__ = ("_cut", "_loop", "_timer", "_wire")

    def __init__(self, wire: asyncio.Transport, cut: Callable[[str], object]) -> None:
        self._wire = wire
        self._cut = cut
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def awaited(self) -> None:
        """Something waits for it."""
        if self._timer is None and _held(self._wire):
            self._timer = self._loop.call_later(UNREAD_SECONDS, self._look, _unsent(self._wire))

    def done(self) -> None:
        """Nothing waits any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, before: int) -> None:
        self._timer = None
        now = _unsent(self._wire)
        if now and now > before - UNREAD_BYTES:
            self._cut("unread")
            self._wire.abort()
        elif now:
            self._timer = self._loop.call_later(UNREAD_SECONDS, self._look, now)


class Timed(Answering):
    """A connection on which nobody is waited for without end."""

    __slots__ = ("_deaf", "_hurry", "_part", "_reader", "_watch")

    def __init__(self, house: House, watch: Watch) -> None:
        super().__init__(house)
        self._watch = watch
        self._reader: Reader | None = None
        self._hurry: asyncio.TimerHandle | None = None
        """Runs while a head is waited for."""
        self._part = 0
        """Bytes of a head that is not whole yet; of a deaf connection, those thrown away."""
        self._deaf = False
        """Something was wrong with what came: nothing after it can be trusted to be a request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._hurry = self._loop.call_later(HEAD_SECONDS, self._too_slow)
        if self._wire is not None:
            self._reader = reader = Reader(self._wire, self._watch.cut)
            if self._task_handler is not None:  # at its end it closes, as force_close does
                self._task_handler.add_done_callback(lambda _: reader.awaited())

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None
        if self._reader is not None:
            self._reader.done()
            self._reader = None

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._part += len(data)
            if self._part > LINGER_BYTES and self._wire is not None:
                self._wire.pause_reading()
            return
        super().data_received(data)
        if self._messages:
            self._part = 0
            if self._hurry is not None:
                self._hurry.cancel()
                self._hurry = None
            if type(self._messages[-1][0]) is _ErrInfo:
                self._broken()
        elif self._waiting:
            self._piece(len(data))

    @property
    def _waiting(self) -> bool:
        """For a request; the first one may come before anybody does."""
        return not self._request_count or (self._waiter is not None and not self._waiter.done())

    def _piece(self, size: int) -> None:
        self._part += size
        if self._part > MAX_HEAD:
            self._messages.append((_ErrInfo(400, LineTooLong(b"", MAX_HEAD), ""), EMPTY_PAYLOAD))
            self._broken()
            if self._waiter is not None:
                self._waiter.set_result(None)
        elif self._hurry is None:
            self._hurry = self._loop.call_later(HEAD_SECONDS, self._too_slow)

    def _too_slow(self) -> None:
        self._hurry = None
        self._watch.cut("head")
        self.force_close()

    def _broken(self) -> None:
        """A body whose framing broke never comes to its end: whoever reads it is told at once."""
        self._deaf = True
        payload = None
        if len(self._messages) > 1:
            payload = self._messages[-2][1]
        elif self._current_request is not None:
            payload = self._current_request.content
        if payload is not None and not payload.is_eof():
            payload.set_exception(TransferEncodingError("The body's framing is broken."))

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reader is not None:
            self._reader.awaited()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reader is not None:
            self._reader.done()

    def force_close(self) -> None:
        super().force_close()
        if self._reader is not None:  # what is closed waits until the rest is taken
            self._reader.awaited()


class Connection(Timed):
    """A connection that holds a place at the door, and can be ended with care."""

    __slots__ = ("_place", "_present")

    def __init__(self, house: House, present: Present, place: Place) -> None:
        super().__init__(house, present.watch)
        self._present = present
        self._place = place

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._present.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._present.connections.discard(self)
        self._place.leave()

    def last_call(self) -> None:
        """Whatever is answered last on this connection says that it will be closed."""
        self._last = True

    def hang_up(self) -> None:
        """End it if it waits for a request of which nothing has come."""
        if self._waiting and not self._part:
            self.force_close()

    def abort(self) -> None:
        """End it now, whatever is under way."""
        if self._wire is not None:
            self._wire.abort()


def _unsent(wire: asyncio.Transport) -> int:
    """Bytes that the other side has not taken: the transport's, and those that the kernel holds."""
    sock = wire.get_extra_info("socket")
    try:
        (queued,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
    except (OSError, AttributeError, ValueError):  # it is closed, or no socket of this kind
        queued = 0
    return _held(wire) + int(queued)


def _held(wire: asyncio.Transport) -> int:
    try:
        return wire.get_write_buffer_size()
    except AttributeError:  # asyncio's TLS, once it is closed
        return 0
