"""Who may connect: takes connections from a listening socket, so many in all and so many from one address."""

import asyncio
import contextlib
import resource
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from gateway.edge.telemetry import Meters
from gateway.edge.tls import Tls

SHARES = 4
"""One address has at most this part of the connections."""
HANDSHAKE_SECONDS = 10.0
"""Seconds that a TLS handshake may take."""
GOODBYE_SECONDS = 20.0
"""Seconds that a caller has to take what was written before TLS is ended."""
LAST_CALL_SECONDS = 2.0
"""Seconds at a stop in which a connection that is idle may bring one more request."""
REST_SECONDS = 1.0
"""Seconds for which nothing is accepted when the process has no file descriptor left."""
SPARE_DESCRIPTORS = 256
"""Files that are open beside connections and calls to providers: database, operations listener, log, keys."""

_ACCEPTS = 1
"""Connections taken in one turn of the loop: with 16, one of two workers took all of 32 that came at once."""
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: close by a reset, of which the kernel keeps nothing."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one listener allows."""

    shutdown_seconds: float
    """What runs at a stop has so long."""
    connections: int
    tls: Tls | None = None
    shares: int = SHARES
    trusted: tuple[IPv4Network | IPv6Network, ...] = ()
    """Proxies: they speak for many, so one address of theirs may have all connections."""
    last_call: float = LAST_CALL_SECONDS
    """What waits for its next request at a stop has so long, within ``shutdown_seconds``."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Whom a listener tells what happens at the door."""

    held: Callable[[int], object] = lambda _: None
    refused: Callable[[str], object] = lambda _: None
    """By reason: ``full``, ``address``, or ``descriptors``."""
    cut: Callable[[str], object] = lambda _: None
    """By reason: ``handshake``, ``head``, or ``unread``."""


def watching(meters: Meters) -> Watch:
    """Metrics."""

    def refused(reason: str) -> None:
        meters.child(meters.connections_refused, reason).inc()

    def cut(reason: str) -> None:
        meters.child(meters.connections_cut, reason).inc()

    return Watch(meters.connections.set, refused, cut)


def room(connections: int, calls: int) -> None:
    """Let the process open as many files as it may, which must be enough. Raises ValueError."""
    wanted = connections + calls + SPARE_DESCRIPTORS
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (hard, wanted):  # where there is no hard limit, the system has one of its own that it does not tell
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            break
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        raise ValueError(
            f"GATEWAY_MAX_CONNECTIONS {connections} and GATEWAY_MAX_IN_PROGRESS {calls} need {wanted} open files, "
            f"and this process may have {soft}. Raise its limit (LimitNOFILE= in systemd, ulimit -n), "
            "or lower the settings."
        )


Whose = int
"""An address as connections are counted by it."""


class Place:
    """One connection's place among those held: given back once, whatever ends the connection."""

    __slots__ = ("_door", "_whose")

    def __init__(self, door: "Doorkeeper", whose: Whose) -> None:
        self._door: Doorkeeper | None = door
        self._whose = whose

    def leave(self) -> None:
        """The connection is no more."""
        if self._door is not None:
            door, self._door = self._door, None
            door.left(self._whose)


class Doorkeeper:
    """Takes connections and counts them; a further one is reset before anything is spent on it."""

    def __init__(self, bounds: Bounds, greeted: Callable[[Place], asyncio.Protocol], watch: Watch) -> None:
        self._bounds = bounds
        self._share = max(1, bounds.connections // bounds.shares)
        self._greeted = greeted
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None
        self._by: Counter[Whose] = Counter()
        self._held = 0
        self._greetings: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def open(self, on: socket.socket) -> None:
        """Accept from now on."""
        self._sock = on
        on.setblocking(False)
        self._loop.add_reader(on.fileno(), self._take, _ACCEPTS)

    def shut(self) -> None:
        """Accept no more, except what the kernel has taken already.

        Other processes may listen to the same socket: this one only lets go of it.
        """
        if self._sock is not None:
            self._take(self._bounds.connections)
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None

    async def empty(self, seconds: float) -> None:
        """Wait until no connection is left, but no longer than that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()

    def give_up(self) -> None:
        """End what has not come as far as a first request."""
        for greeting in self._greetings:
            greeting.cancel()

    def left(self, whose: Whose) -> None:
        """A connection is no more."""
        self._held -= 1
        self._by[whose] -= 1
        if not self._by[whose]:
            del self._by[whose]
        if not self._held:
            self._empty.set()
        self._watch.held(self._held)

    def _take(self, most: int) -> None:
        for _ in range(most):
            if self._sock is None:
                return
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:  # it went away while it waited
                continue
            except OSError:  # EMFILE and its like: the connection waits on, and would wake the loop for ever
                self._rest()
                return
            self._meet(sock, ip_address(address[0].partition("%")[0]))

    def _meet(self, sock: socket.socket, address: IPv4Address | IPv6Address) -> None:
        whose = _counted(address)
        reason = None
        if self._held >= self._bounds.connections:
            reason = "full"
        elif self._by[whose] >= self._share and not any(address in each for each in self._bounds.trusted):
            reason = "address"
        if reason is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            sock.close()
            self._watch.refused(reason)
            return
        self._held += 1
        self._by[whose] += 1
        self._empty.clear()
        self._watch.held(self._held)
        greeting = self._loop.create_task(self._greet(sock, Place(self, whose)))
        self._greetings.add(greeting)
        greeting.add_done_callback(self._greetings.discard)

    async def _greet(self, sock: socket.socket, place: Place) -> None:
        sock.setblocking(False)
        make = partial(self._greeted, place)
        try:
            if self._bounds.tls is None:
                await self._loop.connect_accepted_socket(make, sock)
            else:
                await self._loop.connect_accepted_socket(
                    make,
                    sock,
                    ssl=self._bounds.tls.context,
                    ssl_handshake_timeout=HANDSHAKE_SECONDS,
                    ssl_shutdown_timeout=GOODBYE_SECONDS,
                )
        except OSError:  # no TLS, not in time, or no certificate of ours; the transport closes the socket
            place.leave()
            self._watch.cut("handshake")
        except BaseException:
            place.leave()
            raise

    def _rest(self) -> None:
        if self._sock is not None:
            self._watch.refused("descriptors")
            self._loop.remove_reader(self._sock.fileno())
            self._loop.call_later(REST_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if self._sock is not None:
            self._loop.add_reader(self._sock.fileno(), self._take, _ACCEPTS)


def counted(text: str) -> Whose:
    """IPv6 by its network of 64 bits, which is what one subscriber has; IPv4 in its clothes as itself.

    Raises ValueError.
    """
    return _counted(ip_address(text.partition("%")[0]))


def _counted(address: IPv4Address | IPv6Address) -> Whose:
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped
        return int(inner) if inner is not None else -(int(address) >> 64) - 1
    return int(address)
