"""`gateway serve --workers` as a process, with the lines that it and its workers write."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0
"""Seconds for what takes a few on a machine with nothing else to do: processes start, and end."""


class Parent:
    """One that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    async def read(self) -> None:
        """Every line, to the end."""
        assert self.process.stdout
        async for line in self.process.stdout:
            self.lines.append(orjson.loads(line))
            self._news.set()

    async def said(self, event: str, times: int = 1, **about: object) -> list[dict[str, Any]]:
        """Wait until so many lines said it."""
        async with asyncio.timeout(PATIENCE):
            while len(found := self._found(event, about)) < times:
                self._news.clear()
                await self._news.wait()
        return found

    def _found(self, event: str, about: Mapping[str, object]) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event and about.items() <= line.items()]

    def pids(self) -> dict[int, int]:
        """Of each worker that was started under a number, the last one's process."""
        return {line["number"]: line["pid"] for line in self._found("worker_started", {})}


@asynccontextmanager
async def parent(environment: Mapping[str, str], workers: int = 2) -> AsyncIterator[Parent]:
    """One whose workers all serve; it is ended with the context, as an operator ends it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve", f"--workers={workers}"),
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    started = Parent(process)
    reading = asyncio.create_task(started.read())
    try:
        await started.said("workers_started")
        yield started
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), PATIENCE)
        await reading
