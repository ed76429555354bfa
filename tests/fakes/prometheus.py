"""A real Prometheus for the tests, on our own rules with their windows scaled down."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
DEPLOYED = ROOT / "deploy" / "prometheus"
FASTER = 100
"""How many times: five minutes become three seconds."""
SCRAPES = "400ms"
"""Between two scrapes, and what a target has to answer one: 15 s faster by as much would be 150 ms, and too few for a
process that shares its processor."""
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

_DURATION = re.compile(r"\b(\d+)([smhd])\b")
_SCALED = re.compile(r"(?<=\[)\d+[smhd](?=\])|(?<=for: )\d+[smhd]|(?<=interval: )\d+[smhd]")
_LISTENING = re.compile(r'msg="Listening on" address=(\S+)')


def there(tool: str) -> str:
    """The program's path; the test is skipped where there is none, but not in CI."""
    found = shutil.which(tool)
    if found is None:
        message = f"{tool} is not there: install Prometheus (Debian: apt-get install prometheus)."
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


def scaled(text: str, faster: int = FASTER) -> str:
    """The same configuration or rules with every window, pause and interval shorter."""

    def shorter(found: re.Match[str]) -> str:
        return _DURATION.sub(lambda each: f"{int(each[1]) * SECONDS[each[2]] * 1000 // faster}ms", found[0])

    return _SCALED.sub(shorter, text)


@dataclass(frozen=True, slots=True)
class Alert:
    """One that fires."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


class Prometheus:
    """What a running one can be asked."""

    def __init__(self, url: str, session: aiohttp.ClientSession, agents: Path) -> None:
        self.url = url
        self._session = session
        self._agents = agents

    def watch(self, *agents: str) -> None:
        """Scrape these agents from now on."""
        targets = [each.removeprefix("http://") for each in agents]
        self._agents.write_bytes(orjson.dumps([{"targets": targets}]))

    async def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API; a query that it does not take fails the test in its words."""
        async with self._session.get(f"{self.url}/api/v1/{path}", params=parameters) as answer:
            said = await answer.json()
            assert said["status"] == "success", f"{parameters}: {said}"
            return said["data"]

    async def query(self, expression: str) -> Sequence[Mapping[str, Any]]:
        """The samples of an instant query."""
        data = await self.ask("query", query=expression)
        return data["result"] if data["resultType"] != "scalar" else [{"metric": {}, "value": data["result"]}]

    async def rules(self) -> Sequence[Mapping[str, Any]]:
        """Every rule as it was loaded, with its health."""
        return [rule for group in (await self.ask("rules"))["groups"] for rule in group["rules"]]

    async def firing(self) -> Sequence[Alert]:
        """Every alert that fires now."""
        return [
            Alert(each["labels"]["alertname"], each["labels"], each["annotations"])
            for each in (await self.ask("alerts"))["alerts"]
            if each["state"] == "firing"
        ]


@asynccontextmanager
async def watching(folder: Path, *operations: str) -> AsyncIterator[Prometheus]:
    """One that finds its targets where these operations listeners tell, under our own configuration and rules."""
    program = there("prometheus")
    _lay_out(folder, operations)
    process = await asyncio.create_subprocess_exec(
        *(program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
        "--web.listen-address=127.0.0.1:0",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr
    reading = None
    try:
        url = f"http://{await _address(process.stderr)}"
        reading = asyncio.create_task(process.stderr.read())  # so that it never waits for us to read
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
            yield Prometheus(url, session, folder / "agents.json")
    finally:
        process.terminate()
        await process.wait()
        if reading is not None:
            await reading


def _lay_out(folder: Path, operations: Sequence[str]) -> None:
    """Our own configuration: other addresses, nobody to be told, everything faster."""
    (folder / "rules").mkdir(parents=True)
    for path in (DEPLOYED / "rules").glob("*.yml"):
        (folder / "rules" / path.name).write_text(scaled(path.read_text("utf-8")), "utf-8")
    configuration = YAML(typ="safe", pure=True).load(scaled((DEPLOYED / "prometheus.yml").read_text("utf-8")))
    configuration["alerting"].pop("alertmanagers")
    (job,) = configuration["scrape_configs"]
    (found,) = job["http_sd_configs"]
    job["http_sd_configs"] = [{**found, "url": f"{url}/targets"} for url in operations]
    (agents,) = YAML(typ="safe", pure=True).load((DEPLOYED / "agent.yml").read_text("utf-8"))["scrape_configs"]
    del agents["static_configs"]
    configuration["scrape_configs"].append({**agents, "file_sd_configs": [{"files": [str(folder / "agents.json")]}]})
    configuration["global"]["scrape_interval"] = SCRAPES
    (folder / "prometheus.yml").write_bytes(orjson.dumps(configuration))  # JSON is YAML


async def _address(lines: asyncio.StreamReader) -> str:
    """Where it listens, once it answers."""
    said = ""
    while line := (await lines.readline()).decode():
        said += line
        if "Server is ready" in line and (found := _LISTENING.search(said)):
            return found[1]
    raise AssertionError(f"Prometheus ended:\n{said}")
