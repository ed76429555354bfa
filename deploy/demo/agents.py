"""`gateway agent` of three agencies, each a process with nothing but its own folder, key and systems."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from deploy.kafka.broker import GOES_WITH_US

AGENCIES = ("finance", "justice", "social_security")
PATIENCE = 30.0
"""Seconds for a process to say that it has started, or to end."""
_STARTED = "agent_started"


@dataclass(frozen=True, slots=True)
class Place:
    """What the agents are told."""

    root: Path
    """The repository, from which each gets its own folder."""
    data: Path
    gateway: str
    kafka: str
    systems: Mapping[str, str] = field(default_factory=dict)
    """Where the agencies' own systems are, by the variables of their manifests."""

    @classmethod
    def absolute(cls, root: Path, data: Path, gateway: str, kafka: str) -> "Place":
        """Processes have working folders of their own."""
        return cls(root.resolve(), data.resolve(), gateway, kafka)


@dataclass(slots=True)
class Agent:
    """One that runs."""

    folder: Path
    process: asyncio.subprocess.Process
    held: int
    """The other end of its standard input: when it is closed, it dies (``GOES_WITH_US``)."""
    operations: str = ""
    """Where its health and metrics are."""

    def let_go(self) -> None:
        """It has ended: nobody need see to that any more."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.held, b"\n")
        os.close(self.held)


@dataclass(slots=True)
class Agents:
    """All of them, by agency."""

    place: Place
    running: dict[str, Agent] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def housed(self) -> AsyncIterator["Agents"]:
        """Folders for them, with empty memories; those that were started end with the context."""
        try:
            for agency in AGENCIES:
                self._lay_out(agency)
            yield self
        finally:
            await asyncio.gather(*map(self._end, self.running.values()))

    async def start(self, agency: str) -> None:
        """In its folder, on what it remembers. Raises RuntimeError with its last words."""
        folder = self._folder(agency)
        ours, held = os.pipe()
        with (folder / "agent.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", GOES_WITH_US, "agent", sys.executable, "-m", "gateway", "agent"),
                *(f"--agency={agency}", f"--data={folder / 'data'}", "--operations-listen=127.0.0.1:0"),
                cwd=self.place.root,
                env=self._environment(agency, folder),
                stdin=ours,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demonstration, which ends them
            )
        os.close(ours)
        self.running[agency] = Agent(folder, process, held)
        await self._said(self.running[agency])

    async def kill(self, agency: str) -> None:
        """kill -9; what it remembers stays on the disk."""
        agent = self.running.pop(agency)
        agent.process.kill()
        await agent.process.wait()
        agent.let_go()

    async def health(self, agency: str) -> dict[str, Any]:
        """What it says of itself."""
        url = f"{self.running[agency].operations}/health/ready"
        async with aiohttp.ClientSession() as session, session.get(url) as reply:
            found: dict[str, Any] = await reply.json()
            return found

    def _folder(self, agency: str) -> Path:
        return self.place.data / "agents" / agency

    def _lay_out(self, agency: str) -> None:
        """As it would be at the agency: its own manifest and code, its own private key, no secret of anybody else."""
        folder, name = self._folder(agency), f"{agency}.agent.jwk.json"
        shutil.rmtree(folder, ignore_errors=True)
        for each in ("keys/private", "keys/secrets", "data"):
            (folder / each).mkdir(parents=True)
        shutil.copytree(
            self.place.root / "adapters" / agency,
            folder / "adapters" / agency,
            ignore=shutil.ignore_patterns("agency.yaml", "__pycache__"),
        )
        shutil.copy(self.place.root / "deploy" / "demo" / "keys" / "private" / name, folder / "keys" / "private" / name)

    def _environment(self, agency: str, folder: Path) -> dict[str, str]:
        prefix = agency.upper()
        others = tuple(f"{each.upper()}_" for each in AGENCIES)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", *others))}
        own = {name: value for name, value in self.place.systems.items() if name.startswith(f"{prefix}_")}
        return {
            **inherited,
            **own,
            f"{prefix}_GATEWAY": self.place.gateway,
            f"{prefix}_KAFKA": self.place.kafka,
            "GATEWAY_CATALOGUE": str(folder),
            "GATEWAY_KEYS": str(folder / "keys"),
            "GATEWAY_LOG_LEVEL": "INFO",
        }

    async def _said(self, agent: Agent) -> None:
        """Wait until its log says where it is."""
        async with asyncio.timeout(PATIENCE):
            while not agent.operations:
                lines = (agent.folder / "agent.log").read_text(encoding="utf-8").splitlines()
                found = [json.loads(line) for line in lines if _STARTED in line]
                if found:
                    agent.operations = found[0]["operations"]
                elif agent.process.returncode is not None:
                    raise RuntimeError(f"an agent ended: {' '.join(lines[-10:])}")
                else:
                    await asyncio.sleep(0.05)

    async def _end(self, agent: Agent) -> None:
        if agent.process.returncode is None:
            agent.process.terminate()
        try:
            async with asyncio.timeout(PATIENCE):
                await agent.process.wait()
        except TimeoutError:
            agent.process.kill()
            await agent.process.wait()
        agent.let_go()
