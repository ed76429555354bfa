"""Other people's packages, pinned by their hashes: a library of Standard Webhooks, AsyncAPI's own schema."""

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_name("javascript")
SECONDS = 120.0
"""For npm, the first time."""


def there() -> Path:
    """Where it is installed; the test is skipped where it cannot be, but not in CI."""
    lock = (SOURCE / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "gateway-tests" / f"javascript-{sha256(lock).hexdigest()[:16]}"
    why = None if (place / "done").exists() else _installed(place)
    if why is None and shutil.which("node") is None:
        why = "node is not there"
    if why is not None:
        message = f"What tests/fakes/javascript names is not there: {why} (Debian: apt-get install nodejs npm)."
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return place


def _installed(place: Path) -> str | None:
    """Why not, if not."""
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not there"
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests of another process may be at it
        if (place / "done").exists():
            return None
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCE / name, place)
        install = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            subprocess.run(install, cwd=place, check=True, capture_output=True, timeout=SECONDS)  # noqa: S603 - our own
        except (subprocess.SubprocessError, OSError) as error:
            return f"npm ci failed with {type(error).__name__}"
        (place / "done").touch()
    return None


async def verified(place: Path, said: Mapping[str, Any]) -> Any:
    """What the library makes of a webhook; None where it refuses it."""
    node = shutil.which("node") or "node"
    process = await asyncio.create_subprocess_exec(
        node,
        str(SOURCE / "verify.js"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "NODE_PATH": str(place / "node_modules")},
    )
    told, _ = await asyncio.wait_for(process.communicate(json.dumps(said).encode()), 30)
    return json.loads(told) if process.returncode == 0 else None
