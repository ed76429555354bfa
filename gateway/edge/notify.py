"""What systemd is told of a service's life: datagrams to NOTIFY_SOCKET, and none where it is not set (sd_notify(3))."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Meant for the process that systemd started, and for none that this one starts."""


def ready() -> None:
    """It serves."""
    _tell("READY=1")


def stopping() -> None:
    """It begins to end."""
    _tell("STOPPING=1")


async def watched() -> None:
    """A sign of life, twice as often as systemd wants one; nothing where it wants none."""
    seconds = _watchdog(os.environ)
    while seconds:
        _tell("WATCHDOG=1")
        await asyncio.sleep(seconds / 2)


def _watchdog(environment: Mapping[str, str]) -> float:
    """Seconds between two signs of life at most, sd_watchdog_enabled(3); 0 where none is wanted of this process."""
    wanted, whose = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not wanted.isdecimal() or (whose and whose != str(os.getpid())):
        return 0.0
    return int(wanted) / 1_000_000


def _tell(line: str) -> None:
    where = os.environ.get("NOTIFY_SOCKET", "")
    if not where:
        return
    address = "\0" + where[1:] if where.startswith("@") else where  # an abstract socket
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.setblocking(False)  # a systemd that does not read must not stop what it watches
        out.sendto(line.encode(), address)
