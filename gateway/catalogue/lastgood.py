"""The last good files, kept for a process that takes another one's place while somebody's folder is broken.

Several processes keep them in one place. They write one after the other, so that there are never more than the file in
force and the one that is being written, which the next writer begins anew where its own died.
"""

import fcntl
import os
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.catalogue.files import Files
from gateway.catalogue.renewal import Load, renewed
from gateway.catalogue.snapshot import Loaded

PATIENCE = 5.0
"""Seconds for which one process waits until others have written."""


def keep(files: Files, path: Path) -> bool:
    """Put them there whole, in place of what was kept before; False where that says the same. Raises OSError."""
    with _alone(path.with_name(f"{path.name}.lock")):
        before = kept(path)
        if before is not None and (before.root, before.keys) == (files.root, files.keys) and before.same(files):
            return False
        made = path.with_name(f"{path.name}.part")
        try:
            made.write_bytes(pickle.dumps(files))
            made.replace(path)
        except OSError:
            made.unlink(missing_ok=True)
            raise
    return True


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """While no other process is. The lock goes with its holder, however that ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def kept(path: Path) -> Files | None:
    """What was kept there; None where there is nothing that this version of the program can read."""
    try:
        found = pickle.loads(path.read_bytes())  # noqa: S301 - our own, in a folder that the parent made for itself
    except Exception:  # noqa: BLE001 - another version's, or none: then the files must do as they are
        return None
    return found if isinstance(found, Files) else None


def begun(new: Files, load: Load, path: Path | None) -> tuple[Loaded, Files]:
    """The catalogue of the files; or, where they have errors, of as much of them as goes with what was kept."""
    loaded = load(new)
    good = kept(path) if path is not None and loaded.catalogue is None else None
    found = renewed(good, new, load) if good is not None else None
    return (found.loaded, found.files) if found is not None else (loaded, new)


def without(units: frozenset[str], new: Files, load: Load, path: Path | None) -> tuple[Loaded, Files] | None:
    """The catalogue of the files with the last good version of these units, as far as that goes.

    None where nothing was kept: then this process is the first.
    """
    good = kept(path) if path is not None else None
    if good is None:
        return None
    files = new.with_units(units, good)
    loaded = load(files)
    return (loaded, files) if loaded.catalogue is not None else (load(new), new)
