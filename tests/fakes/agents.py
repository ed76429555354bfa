"""`gateway agent` as a process beside an agency's system: started, killed, ended; and its commands."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from ruamel.yaml import YAML

from gateway.core.jwk import thumbprint
from gateway.edge import keys
from tests.fakes.district import INSTANCE, District

START_SECONDS = 60.0
"""For an agent to start, on a machine with other things to do."""
KEPT = 60
"""Log lines, the last, that tell why it ended."""
_SYSTEM = "register"


@dataclass(slots=True)
class Site:
    """An agency's own machine: what its agent reads, and where it keeps what it knows."""

    folder: Path
    agency: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """The agent's own folder."""
        return self.folder / "data"

    def found(self, district: District, gateway: str, *deliveries: Mapping[str, Any], adapter: str = "") -> None:
        """Write agent.yaml, the key and the adapter."""
        home = self.folder / "adapters" / self.agency
        home.mkdir(parents=True, exist_ok=True)
        said = {
            "agency": self.agency,
            "instance": INSTANCE,
            "gateway": gateway,
            "system": _SYSTEM,
            "kafka": {"bootstrap": [district.kafka]},
            "deliveries": [dict(each) for each in deliveries],
        }
        with (home / "agent.yaml").open("w", encoding="utf-8") as file:
            YAML().dump(said, file)
        if adapter:
            (home / "adapter.py").write_text(adapter, "utf-8")
        private = self.folder / "keys" / "private"
        if not private.exists():
            private.mkdir(parents=True)
            key = district.key(f"{self.agency}.{_SYSTEM}").private
            named = {"instance": INSTANCE, **key, "kid": thumbprint(key)}
            keys.save(private / f"{self.agency}.{_SYSTEM}.jwk.json", named)

    def words(self, *command: str) -> tuple[str, ...]:
        """A command line."""
        named = ("--agency", self.agency, "--data", str(self.data))
        return (sys.executable, "-m", "gateway", "agent", *command, *named)

    def variables(self) -> dict[str, str]:
        """As the agent's user has it."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        own = {"GATEWAY_CATALOGUE": str(self.folder), "GATEWAY_KEYS": str(self.folder / "keys")}
        return {**plain, **own, "GATEWAY_SHUTDOWN_SECONDS": "5", **self.environment}


@dataclass(slots=True)
class Process:
    """One agent that runs."""

    process: asyncio.subprocess.Process
    operations: str
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT))

    async def killed(self) -> None:
        """By SIGKILL; returns when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def ended(self) -> int:
        """By SIGTERM; how."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(START_SECONDS):
            return await self.process.wait()

    async def health(self) -> Mapping[str, Any]:
        """What /health/ready says."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.operations}/health/ready") as answer:
            told: Mapping[str, Any] = await answer.json()
            return told

    async def metrics(self) -> Mapping[str, float]:
        """By name and labels as they are written."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.operations}/metrics") as answer:
            lines = (line.rpartition(" ") for line in (await answer.text()).splitlines() if line[:1] != "#")
            return {name: float(value) for name, _, value in lines}


@asynccontextmanager
async def agent(site: Site) -> AsyncIterator[Process]:
    """One that is ended with the context."""
    process = await asyncio.create_subprocess_exec(
        *site.words(),
        *("--operations-listen", "127.0.0.1:0"),
        env=site.variables(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    reading = None
    try:
        async with asyncio.timeout(START_SECONDS):
            made = await _started(process)
        reading = asyncio.create_task(_read(made))
        yield made
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if reading is not None:
            await reading


async def _started(process: asyncio.subprocess.Process) -> Process:
    assert process.stdout
    said = b""
    async for line in process.stdout:
        told = orjson.loads(line) if line.startswith(b"{") else {}
        if told.get("event") == "agent_started":
            return Process(process, told["operations"])
        said += line
    raise RuntimeError(said.decode())


async def _read(made: Process) -> None:
    assert made.process.stdout
    async for line in made.process.stdout:
        made.lines.append(line.decode())


async def command(site: Site, *words: str) -> tuple[int, str]:
    """What `gateway agent <words>` says, and how it ends."""
    process = await asyncio.create_subprocess_exec(
        *site.words(*words), env=site.variables(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    told, _ = await process.communicate()
    return process.returncode or 0, told.decode()
