"""Ports that are chosen before anybody listens there: neither another test nor the system takes one meanwhile."""

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

IN_A_ROW = 4
PORTS = range(10_000, 20_000, IN_A_ROW)
"""Below those that Linux gives away, and those from which ``deploy.kafka`` chooses by itself."""


def free() -> range:
    """So many in a row on which nobody listens, and which no other process is told while this one lives."""
    for first in _untold():
        row = range(first, first + IN_A_ROW)
        if _held(first) and _silent(row):
            return row
    raise OSError("no free ports are left")


@cache
def _untold() -> Iterator[int]:
    """Each once in a process."""
    return iter(random.sample(PORTS, len(PORTS)))


@cache
def _register() -> int:
    """A file of which each process locks the bytes of its ports; the system gives them back when it ends."""
    return os.open(Path(tempfile.gettempdir()) / f"gateway-ports-{os.getuid()}", os.O_RDWR | os.O_CREAT, 0o600)


def _held(port: int) -> bool:
    try:
        fcntl.lockf(_register(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def _silent(row: range) -> bool:
    with ExitStack() as stack:
        try:
            for port in row:
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError:
            return False
    return True
