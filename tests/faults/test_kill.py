"""`kill -9` between any two steps of a write: no evidence is lost, no write happens twice, the answer stays honest."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

from gateway.edge import archive
from tests.fakes.parties import CHANGE, MOVED, PURPOSE, TAX
from tests.fakes.town import Town, founded

KEY = '"the-move"'
STEPS = 9
"""Of one write: claim, its entry, end, commit; the call, its answer; settle, its entry, end (and commit, below)."""


@asynccontextmanager
async def victim(town: Town, folder: Path, chosen: int) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A gateway that will be killed, and its address."""
    (folder / "parties.json").write_bytes(orjson.dumps({name: key.private for name, key in town.keys.items()}))
    arguments = ("-m", "tests.faults.victim", str(folder), town.office.url, str(chosen))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr
    try:
        async for line in process.stderr:
            if line.startswith(b"ADDRESS "):
                yield process, line.decode().split()[1]
                return
        raise RuntimeError("the gateway did not start")
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def write(town: Town, address: str) -> int | None:
    """The status of a write, or None where the connection broke."""
    headers = {
        "Authorization": f"Bearer {town.crafted(TAX, scope='population:write')}",
        "Exchange-Purpose": PURPOSE,
        "Idempotency-Key": KEY,
        "Content-Type": "application/json",
    }
    url = f"{address}/v1/exchange/interior/{CHANGE}"
    try:
        async with town._session.post(url, data=orjson.dumps(MOVED), headers=headers) as answer:
            await answer.read()
            return answer.status
    except aiohttp.ClientError:
        return None


@pytest.mark.parametrize("chosen", range(1, STEPS + 2))
async def test_a_write_survives_a_kill_at_every_step(tmp_path: Path, chosen: int) -> None:
    """Whatever the provider saw has its `admitted` entry; the retry is answered truly and never calls again."""
    async with founded(tmp_path) as town:
        async with victim(town, tmp_path, chosen) as (process, address):
            assert await write(town, address) is None
            assert await process.wait() == -signal.SIGKILL
        seen = len(town.office.seen)
        admitted = [entry for entry in town.entries() if entry.facts["step"] == "admitted"]
        assert len(town.keys_kept()) == len(admitted) >= seen
        async with town.running():
            status = await write(town, town.at.public)
            await town.upkeep()
        settled = any(entry.facts["step"] == "answered" for entry in town.entries())
        assert (status, len(town.office.seen)) in {
            (200, 1),  # not begun before, and done now; or done before, and its stored answer given again
            (409, seen),  # admitted before: it may have happened, so nobody tries again
        }
        assert settled == (status == 200)
        assert archive.check(town.database).faults == ()


async def test_there_is_no_step_after_the_last(tmp_path: Path) -> None:
    """The steps above are all there are: a gateway doomed to the next one answers the write."""
    async with founded(tmp_path) as town, victim(town, tmp_path, STEPS + 2) as (_, address):
        assert await write(town, address) == 200
