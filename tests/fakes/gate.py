"""A named pipe at which a process waits that reads it: it goes on when the other end is closed."""

import os
from contextlib import suppress
from pathlib import Path

from tests.fakes.town import until


async def reached(pipe: Path) -> int:
    """Wait until somebody reads from it; its other end."""
    ends: list[int] = []
    await until(lambda: _found(pipe, ends))
    return ends[0]


def _found(pipe: Path, ends: list[int]) -> bool:
    with suppress(OSError):  # nobody reads
        ends.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    return bool(ends)
