"""The agent's own folder: whose it is, who runs on it, and where its memory lies."""

import contextlib
import fcntl
import stat
from collections.abc import Iterator
from pathlib import Path

from gateway.agent.manifest import NotReady

MEMORY_FILE = "agent.sqlite3"
LOCK_FILE = "agent.lock"
_LONGEST = 200
"""Characters of two names."""


def whose(agency: str, instance: str) -> str:
    """As the folder says it."""
    return f"{agency} at {instance}"


@contextlib.contextmanager
def alone(data: Path, owner: str) -> Iterator[None]:
    """Nobody else runs an agent on this folder: two would hold one memory and two places in the group.

    The folder belongs to ``owner`` from then on. Raises NotReady.
    """
    try:
        data.mkdir(0o700, parents=True, exist_ok=True)
        if data.stat().st_mode & stat.S_IWOTH:
            raise NotReady(f"Everybody may write to {data}: chmod 700 it, or name another folder by --data.")
        lock = (data / LOCK_FILE).open("a+", encoding="utf-8")
    except OSError as error:
        raise NotReady(f"{data} cannot be written ({error.strerror}): name another folder by --data.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise NotReady(f"Another agent runs on {data}: give each a folder of its own by --data.") from error
        lock.seek(0)
        written = lock.read(_LONGEST)
        if not written:
            lock.write(owner)
            lock.flush()
        elif written != owner:
            raise NotReady(f"{data} belongs to the agent of {written}, not of {owner}: name another folder by --data.")
        yield


def memory(data: Path, agency: str) -> Path:
    """The memory of an agent that has run on the folder. Raises NotReady where there is none of this agency."""
    path = data / MEMORY_FILE
    try:
        owner = (data / LOCK_FILE).read_text("utf-8")[:_LONGEST]
    except OSError as error:
        raise NotReady(f"No agent has run on {data} ({error.strerror}): name its folder by --data.") from error
    if owner.partition(" ")[0] != agency:
        raise NotReady(f"{data} belongs to the agent of {owner}: name the folder of {agency} by --data.")
    if not path.is_file():
        raise NotReady(f"{path} is missing: the agent makes it when it runs.")
    return path
