"""The last good files, kept for a process that takes another one's place while somebody's folder is broken."""

import os
import pickle
from pathlib import Path

from gateway.catalogue.files import Files
from gateway.catalogue.renewal import Load, renewed
from gateway.catalogue.snapshot import Loaded


def keep(files: Files, path: Path) -> None:
    """Put them there whole, in place of what was kept before. Raises OSError."""
    made = path.with_name(f"{path.name}.{os.getpid()}")
    made.write_bytes(pickle.dumps(files))
    made.replace(path)


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
