"""Gateways as processes of their own on a town's database, to be killed, stopped and continued."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from tests.fakes.parties import CHANGE, LOOK_UP, MOVED, PERSON, PURPOSE, TAX
from tests.fakes.town import Town


@dataclass(frozen=True, slots=True)
class Node:
    """A gateway that runs somewhere else."""

    process: asyncio.subprocess.Process
    public: str
    operations: str

    def signal(self, which: signal.Signals) -> None:
        """Send it one."""
        self.process.send_signal(which)

    async def killed(self) -> None:
        """Returns when it was killed by SIGKILL."""
        assert await self.process.wait() == -signal.SIGKILL

    async def stopped(self) -> None:
        """Returns when it stands still."""
        await asyncio.to_thread(os.waitid, os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)


@asynccontextmanager
async def started(
    town: Town, chosen: int = 0, how: signal.Signals = signal.SIGKILL, **terms: Any
) -> AsyncIterator[Node]:
    """One on the town's database, which ends with the context; see ``victim`` for what is chosen."""
    parties = {name: key.private for name, key in town.keys.items()}
    (town.folder / "parties.json").write_bytes(orjson.dumps(parties))
    wanted = orjson.dumps({"chosen": chosen, "how": int(how), "terms": terms}).decode()
    arguments = ("-m", "tests.faults.victim", str(town.folder), town.office.url, town.url, wanted)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr
    try:
        said = b""
        async for line in process.stderr:
            if line.startswith(b"ADDRESS "):
                yield Node(process, *line.decode().split()[1:])
                return
            said += line
        raise RuntimeError(said.decode())
    finally:
        if process.returncode is None:
            process.kill()  # also one that stands still
        await process.communicate()


async def asked(
    town: Town, address: str, key: str | None = None, *, system: str = TAX, seconds: float = 30
) -> tuple[int | None, Any]:
    """A write under the key, which moves somebody to there, or a look-up: status and body, or None where none came."""
    service, scope, body = (CHANGE, "write", {**MOVED, "city": key}) if key else (LOOK_UP, "read", PERSON)
    headers = {
        "Authorization": f"Bearer {town.permit(system, f'population:{scope}')}",
        "Exchange-Purpose": PURPOSE,
        "Content-Type": "application/json",
        **({"Idempotency-Key": f'"{key}"'} if key else {}),
    }
    url, limit = f"{address}/v1/exchange/interior/{service}", aiohttp.ClientTimeout(seconds)
    try:
        async with town._session.post(url, data=orjson.dumps(body), headers=headers, timeout=limit) as answer:
            return answer.status, await answer.json(content_type=None)
    except (aiohttp.ClientError, ConnectionError, TimeoutError, ValueError):
        return None, None
