"""`gateway serve` as an operator runs it: a process with settings, signals and an exit code."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson

from deploy.demo.ministries import KAFKA, SLOW, VARIABLES, ministries
from deploy.demo.people import identified
from gateway.client import GatewayClient, Pace, Refused
from gateway.edge import archive
from tests.fakes import ports

ROOT = Path(__file__).parents[2]
PRIVATE = ROOT / "deploy" / "demo" / "keys" / "private"
SERVE = (sys.executable, "-m", "gateway", "serve")


def settings(folder: Path, urls: dict[str, str] | None = None) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    port, aside, *_ = ports.free()  # two workers take the next ones
    return {
        **plain,
        **(urls or {**dict.fromkeys(VARIABLES, "http://127.0.0.1:1"), **KAFKA}),
        "GATEWAY_ISSUER": f"http://127.0.0.1:{port}",
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "GATEWAY_OPERATIONS_LISTEN": f"127.0.0.1:{aside}",
        "GATEWAY_DATABASE": f"sqlite:///{folder / 'gateway.sqlite3'}",
        "GATEWAY_ATTACHMENTS": str(folder / "attachments"),
        "GATEWAY_RUN_ADAPTERS": "true",
    }


@asynccontextmanager
async def served(environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A gateway process that says that it has started."""
    process = await asyncio.create_subprocess_exec(
        *SERVE, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout
    try:
        first = orjson.loads(await process.stdout.readline())["event"]
        if first == "database_unguarded":  # the tests' PostgreSQL is served as its superuser
            first = orjson.loads(await process.stdout.readline())["event"]
        assert first == "started"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def failed(environment: dict[str, str]) -> tuple[int, str]:
    """The exit code and the words of a start that must not succeed."""
    process = await asyncio.create_subprocess_exec(
        *SERVE, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, words = await process.communicate()
    return process.returncode or 0, words.decode()


async def test_a_stop_finishes_what_runs(tmp_path: Path) -> None:
    """SIGTERM in the middle of an exchange: it is answered, the journal is closed, the exit code is 0."""
    async with ministries() as urls:
        environment = settings(tmp_path, dict(urls))
        async with (
            served(environment) as process,
            GatewayClient(
                environment["GATEWAY_ISSUER"],
                client_id="finance.local_tax",
                key=PRIVATE / "finance.local_tax.jwk.json",
                pace=Pace(attempts=1),
            ) as client,
        ):
            await client.token()
            running = asyncio.ensure_future(
                client.exchange(
                    "interior",
                    "population.person_lookup.v1",
                    {"identifier": identified(SLOW)},
                    purpose="tax_assessment",
                    case="T-1",
                    user="clerk",
                )
            )
            await in_progress(environment)
            process.send_signal(signal.SIGTERM)
            (refused,) = await asyncio.gather(running, return_exceptions=True)
            assert isinstance(refused, Refused)
            assert refused.code == "provider.timeout"
            assert await process.wait() == 0
    steps = [orjson.loads(kept.entry)["step"] for kept in archive.entries(tmp_path / "gateway.sqlite3")]
    assert steps == ["administered", "answered", "administered"]


async def in_progress(environment: dict[str, str]) -> None:
    """Until the gateway works on an exchange."""
    url = f"http://{environment['GATEWAY_OPERATIONS_LISTEN']}/metrics"
    async with aiohttp.ClientSession() as session:
        for _ in range(1000):
            async with session.get(url) as answer:
                if "gateway_exchanges_in_progress 1.0" in await answer.text():
                    return
    raise TimeoutError


async def test_a_second_gateway_on_the_file_is_told_why(tmp_path: Path) -> None:
    """SQLite serves one process: the next one stops with a sentence that says what to do."""
    environment = settings(tmp_path)
    async with served(environment):
        code, words = await failed({**environment, **settings(tmp_path)})
    assert code == 1
    assert "in use by another gateway process" in words
    assert "Traceback" not in words


async def test_a_broken_catalogue_stops_the_start(tmp_path: Path) -> None:
    """Every error is printed with its remedy, and nothing listens."""
    environment = settings(tmp_path)
    del environment["INTERIOR_URL"]
    code, words = await failed(environment)
    assert code == 1
    assert "adapters/interior/agency.yaml" in words
    assert "Set INTERIOR_URL where the gateway is started." in words


async def test_adapters_run_only_where_a_setting_allows_it(tmp_path: Path) -> None:
    """An agency's Python is other people's code: without the setting the start stops and names it."""
    environment = settings(tmp_path)
    del environment["GATEWAY_RUN_ADAPTERS"]
    code, words = await failed(environment)
    assert code == 1
    assert "GATEWAY_RUN_ADAPTERS" in words


async def test_wrong_settings_are_named(tmp_path: Path) -> None:
    """A misspelled setting, a wrong value and the demonstration's instance in public are refused by name."""
    environment = settings(tmp_path)
    code, words = await failed({**environment, "GATEWAY_LISTN": "x", "GATEWAY_MAX_IN_PROGRESS": "many"})
    assert code == 1
    assert "GATEWAY_LISTN is no setting of the gateway" in words
    assert "GATEWAY_MAX_IN_PROGRESS" in words
    code, words = await failed({**environment, "GATEWAY_LISTEN": "0.0.0.0:8080"})
    assert code == 1
    assert "the instance DEMO listens on loopback only" in words
