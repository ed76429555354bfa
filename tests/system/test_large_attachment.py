"""A file of 2 GiB, the largest that is taken, goes through a process that holds a few megabytes of it.

``GATEWAY_TEST_ATTACHMENT`` (bytes) tries another size.
"""

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import pytest

from gateway.core.attachment import digest_field
from gateway.edge.documents.vault import PART_BYTES
from tests.fakes import depot
from tests.fakes.town import until

SIZE = int(os.environ.get("GATEWAY_TEST_ATTACHMENT", str(2**31)))
GROWTH = 64 * 2**20
"""Bytes by which the process may grow: what the project promises."""
BLOCK = b"%PDF-1.7\n" + bytes(2**20 - 9)


class Running:
    """A depot's process."""

    def __init__(self, process: Process, said: bytes) -> None:
        told = orjson.loads(said)
        self.process = process
        self.url: str = told["url"]
        self.headers = {"Authorization": f"Bearer {told['token']}", "Content-Type": "application/pdf"}

    def resident(self) -> int:
        """Bytes that it holds now; the highest mark begins anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")
        return self.highest()

    def highest(self) -> int:
        """The most bytes that it held since."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


@contextlib.asynccontextmanager
async def _running(folder: Path) -> AsyncIterator[Running]:
    command = (sys.executable, "-m", "tests.fakes.depot_process", str(folder))
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    try:
        yield Running(process, await asyncio.wait_for(process.stdout.readline(), 30))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def _blocks(size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, len(BLOCK)):
        yield BLOCK[: size - start]


def _digest(size: int) -> bytes:
    found = hashlib.sha256()
    for start in range(0, size, len(BLOCK)):
        found.update(BLOCK[: size - start])
    return found.digest()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc to see memory")
async def test_memory_does_not_follow_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Up and down, at full size, the process grows by less than 64 MiB."""
    digest, found = _digest(SIZE), hashlib.sha256()
    async with _running(tmp_path) as gateway, aiohttp.ClientSession() as session:
        before = gateway.resident()
        headers = {**gateway.headers, "Content-Digest": digest_field(digest), "Content-Length": str(SIZE)}
        async with session.post(f"{gateway.url}/v1/attachments", data=_blocks(SIZE), headers=headers) as answer:
            assert answer.status == 201, await answer.text()
            made = await answer.json()
        up = gateway.highest()
        url = f"{gateway.url}/v1/attachments/{made['attachment']}"
        async with session.get(url, headers=gateway.headers) as answer:
            async for chunk in answer.content.iter_any():
                found.update(chunk)
        down = gateway.highest()
    shutil.rmtree(tmp_path)  # pytest keeps the folders of its last runs
    grown = f"up +{(up - before) / 2**20:.1f} MiB, then down +{(down - before) / 2**20:.1f} MiB"
    with capsys.disabled():
        sys.stdout.write(f"\n{SIZE / 2**20:.0f} MiB: {grown}\n")
    assert found.digest() == digest
    assert max(up, down) - before < GROWTH


async def test_a_killed_upload_leaves_nothing_for_good(tmp_path: Path) -> None:
    """kill -9 in the middle of a file: its parts lie there, known to nobody, and go when they are old enough."""
    files = tmp_path / "files"
    async with _running(tmp_path) as gateway, aiohttp.ClientSession() as session:

        async def half() -> AsyncIterator[bytes]:
            yield BLOCK * (PART_BYTES // len(BLOCK) + 1)
            await until(lambda: any(files.rglob("0000")))
            gateway.process.send_signal(signal.SIGKILL)

        headers = {**gateway.headers, "Content-Digest": digest_field(_digest(SIZE)), "Content-Length": str(SIZE)}
        with pytest.raises(aiohttp.ClientError):
            await session.post(f"{gateway.url}/v1/attachments", data=half(), headers=headers)
        await gateway.process.wait()
    (left,) = {path.parent for path in files.rglob("0000*")}
    (tmp_path / "keys").rename(tmp_path / "old_keys")
    async with depot.opened(tmp_path) as again:
        assert await again.rows("select id from attachments") == []
        shelf = int(left.parent.name, 16)
        assert await again.tidying.sweep(shelf) == 0
        again.tidying._clock = lambda: 4e9
        assert (await again.tidying.sweep(shelf), again.stored()) == (1, [])
