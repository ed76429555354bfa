"""`gateway serve` on a district, as processes to be killed, stopped and continued; and its commands."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.fakes.district import INSTANCE, District

START_SECONDS = 60.0
"""For a gateway to serve, on a machine with other things to do."""
KEPT = 40
"""Log lines, the last, that tell why it ended."""


@dataclass(slots=True)
class Node:
    """One gateway that runs."""

    process: asyncio.subprocess.Process
    url: str
    operations: str
    lines: deque[bytes] = field(default_factory=lambda: deque(maxlen=KEPT))

    def signal(self, which: signal.Signals) -> None:
        """Send it one."""
        self.process.send_signal(which)

    async def killed(self) -> None:
        """By SIGKILL; returns when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def stopped(self) -> None:
        """By SIGSTOP; returns when it stands still."""
        self.signal(signal.SIGSTOP)
        await asyncio.to_thread(os.waitid, os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)


def environment(district: District, database: str) -> dict[str, str]:
    """As the gateway's user has it."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return {
        **plain,
        "GATEWAY_INSTANCE": INSTANCE,
        "GATEWAY_CATALOGUE": str(district.folder),
        "GATEWAY_KEYS": str(district.folder / "keys"),
        "GATEWAY_DATABASE": database,
        "GATEWAY_ATTACHMENTS": str(district.folder / "files"),
        "GATEWAY_LISTEN": district.listen,
        "GATEWAY_OPERATIONS_LISTEN": "127.0.0.1:0",
        "GATEWAY_SHUTDOWN_SECONDS": "2",
    }


@asynccontextmanager
async def serving(district: District, database: str) -> AsyncIterator[Node]:
    """One that is ended with the context, also where it stands still."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve"),
        env=environment(district, database),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    reading = None
    try:
        async with asyncio.timeout(START_SECONDS):
            node = await _started(process)
        reading = asyncio.create_task(_read(node))
        yield node
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if reading is not None:
            await reading


async def _started(process: asyncio.subprocess.Process) -> Node:
    assert process.stdout
    said = b""
    async for line in process.stdout:
        told = orjson.loads(line) if line.startswith(b"{") else {}
        if told.get("event") == "started":
            return Node(process, _address(told["public"]), _address(told["operations"]))
        said += line
    raise RuntimeError(said.decode())


def _address(told: str) -> str:
    return told if told.startswith("http") else f"http://{told}"


async def _read(node: Node) -> None:
    assert node.process.stdout
    async for line in node.process.stdout:
        if b'"level":"info"' not in line:
            node.lines.append(line)


async def command(district: District, database: str, *words: str) -> tuple[int, str]:
    """What a command says, and how it ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *words),
        env=environment(district, database),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    return process.returncode or 0, told.decode()


async def sound(district: District, database: str) -> Any:
    """What the two checks find: ``("0 faults", …)`` where everything is as it should be."""
    journal, documents = await asyncio.gather(
        command(district, database, "journal", "check"), command(district, database, "documents", "check")
    )
    assert (journal[0], documents) == (0, (0, "0 faults\n")), (journal[1], documents[1])
    return journal[1].strip()


async def pause(seconds: float) -> None:
    """Let others go on."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
