"""Folders that change while the gateway runs: what holds, how soon, what is kept, and that nobody is dropped."""

import asyncio
import itertools
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from deploy.demo.ministries import ministries
from deploy.demo.people import identified
from deploy.demo.register import Register
from gateway.app import Gateway, compose
from gateway.client import GatewayClient, Refused
from gateway.edge import archive
from gateway.edge.reload import Reload
from gateway.footing import NotStarted, listening
from gateway.settings import read as read_settings
from tests.fakes.estate import DIRECTORY, Estate, asked, client, opened
from tests.fakes.town import until
from tests.system.test_serve import ROOT, served, settings

WITHIN = 2.0
"""Seconds, of which the operators' guide speaks."""
SAENSUK = "adapters/saensuk/agency.yaml"
SILA_FOLDER = "adapters/sila/agency.yaml"
FINANCE = "adapters/finance/agency.yaml"
INTERIOR = "adapters/interior/agency.yaml"


@dataclass
class Process:
    """`gateway serve` on folders of the test's own; its log is read all the time, lest it wait for a reader."""

    estate: Estate
    environment: dict[str, str]
    running: asyncio.subprocess.Process
    lines: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    @property
    def url(self) -> str:
        return self.environment["GATEWAY_ISSUER"]

    async def read(self) -> None:
        assert self.running.stdout
        async for line in self.running.stdout:
            told = orjson.loads(line)
            if told["event"].startswith("catalogue"):
                self.lines.put_nowait(told)

    async def event(self) -> dict[str, Any]:
        """The next line about the catalogue."""
        async with asyncio.timeout(30):
            return await self.lines.get()


@asynccontextmanager
async def process(tmp_path: Path) -> AsyncIterator[Process]:
    estate = Estate(tmp_path)
    async with ministries() as urls:
        environment = estate.among(settings(tmp_path, dict(urls)))
        async with served(environment) as running:
            started = Process(estate, environment, running)
            reading = asyncio.create_task(started.read())
            try:
                yield started
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)


async def told(environment: Mapping[str, str], path: str) -> str:
    url = f"http://{environment['GATEWAY_OPERATIONS_LISTEN']}/{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()


async def comes(url: str, token: str, wanted: str) -> tuple[float, Counter[str]]:
    """Seconds until the next call with this token is answered so, and every answer on the way."""
    begun, seen = time.monotonic(), Counter[str]()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        while (code := await given(session, url)) != wanted:
            seen[code] += 1
            assert time.monotonic() - begun < 30, seen
    return time.monotonic() - begun, seen


async def given(session: aiohttp.ClientSession, url: str) -> str:
    """What the directory of Saensuk gives: answered, or the code of the refusal."""
    purpose = {"Exchange-Purpose": "public_information"}
    where = f"{url}/v1/exchange/saensuk/places.office_directory.v1"
    async with session.post(where, json={"subdivision": "TH-20"}, headers=purpose) as answer:
        return "answered" if answer.status == 200 else str((await answer.json())["code"])


CHANGES = {
    "agreement": (DIRECTORY, "\ntitle:", "\nstanding: suspended\ntitle:", "policy.suspended"),
    "agency": (SILA_FOLDER, "class: local", "class: local\nstanding: suspended", "policy.suspended"),
    "endpoint": (SAENSUK, "    deadline: 1s", "    deadline: 1s\n    standing: suspended", "policy.suspended"),
    "system": (
        SILA_FOLDER,
        "{keys: sila.front_desk}",
        "{keys: sila.front_desk, standing: revoked}",
        "identity.revoked",
    ),
    "purpose": (DIRECTORY, "purposes: [public_information]", "purposes: [tax_assessment]", "policy.purpose"),
}


@pytest.mark.quiet
async def test_what_the_files_take_back_holds_within_two_seconds(tmp_path: Path) -> None:
    """E9: a token verified and cached is refused when a file suspends, revokes or narrows, and taken when it is lifted.

    Nobody is dropped meanwhile: each call before is answered, and the first that is not has the right code.
    """
    slowest = 0.0
    async with process(tmp_path) as of, client(of.url) as sila:
        estate, token = of.estate, await sila.token()
        for name, old, new, code in CHANGES.values():
            tests = estate.root / name.replace(".yaml", ".decisions.yaml")
            kept = tests.read_bytes() if code == "policy.purpose" else b""
            if kept:
                tests.unlink()
            estate.edit(name, old, new)
            seconds, seen = await comes(of.url, token, code)
            assert seen.keys() <= {"answered"}
            slowest = max(slowest, seconds)
            if kept:
                tests.write_bytes(kept)
            estate.edit(name, new, old)
            seconds, seen = await comes(of.url, token, "answered")
            assert seen.keys() <= {code}
            slowest = max(slowest, seconds)
    sys.stderr.write(f"\nthe slowest of ten changes held after {slowest:.2f} s\n")
    assert slowest < WITHIN


async def test_a_broken_folder_is_seen_and_stops_nobody(tmp_path: Path) -> None:
    """It keeps its last good version; health, a metric, a log line and the journal say so, until it is mended."""
    async with process(tmp_path) as of, client(of.url) as sila:
        of.estate.edit(FINANCE, "class: gov", "class: government")
        of.estate.edit(SAENSUK, "deadline: 1s", "deadline: 2s")
        taken, kept = await of.event(), await of.event()
        assert (taken["event"], taken["folders"]) == ("catalogue_reloaded", "adapters/saensuk")
        assert (kept["event"], kept["folders"]) == ("catalogue_kept", "adapters/finance")
        assert kept["findings"][0].startswith(f"{FINANCE}:4: ")
        health = orjson.loads(await told(of.environment, "health/ready"))
        assert health["status"] == "degraded"
        assert health["checks"]["catalogue"] == "1 folder keeps its last good version: adapters/finance"
        assert 'gateway_catalogue_kept{folder="adapters/finance"} 1.0' in await told(of.environment, "metrics")
        assert await asked(sila) == "answered"
        of.estate.edit(FINANCE, "class: government", "class: gov")
        assert (await of.event())["event"] == "catalogue_whole"
        assert orjson.loads(await told(of.environment, "health/ready"))["status"] == "ready"
        metrics = await told(of.environment, "metrics")
        assert "gateway_catalogue_kept{" not in metrics
        assert 'gateway_catalogue_reloads_total{outcome="kept_part"} 1.0' in metrics
    entries = [orjson.loads(each.entry) for each in archive.entries(tmp_path / "gateway.sqlite3")]
    reload = next(each for each in entries if each.get("what") == "reload")
    assert reload["kept"] == "adapters/finance"
    assert reload["was"] == entries[0]["catalogue"] != reload["catalogue"]


async def test_sighup_reads_everything_again(tmp_path: Path) -> None:
    """Any number of them end nothing, and an operator sees that all is in use."""
    async with process(tmp_path) as of, client(of.url) as sila:
        for _ in range(3):
            of.running.send_signal(signal.SIGHUP)
            assert (await of.event())["event"] == "catalogue_whole"
        assert 'gateway_catalogue_reloads_total{outcome="unchanged"} 3.0' in await told(of.environment, "metrics")
        assert await asked(sila) == "answered"
        of.running.send_signal(signal.SIGTERM)
        assert await of.running.wait() == 0


@asynccontextmanager
async def here(tmp_path: Path, register: Register | None = None) -> AsyncIterator[tuple[Estate, Gateway, Reload, str]]:
    """The same in this process, where the reload can be had by itself."""
    estate = Estate(tmp_path)
    async with ministries(register) as urls:
        environment = estate.among(settings(tmp_path, dict(urls)))
        async with opened(environment) as (gateway, at):
            assert gateway.reload is not None
            yield estate, gateway, gateway.reload, at.public


NEW = """
  - service: places.office_directory.v1
    protocol: http
    method: GET
    url: ${FINANCE_URL}/x
    secret_headers: {X-Key: finance.directory}
"""


async def test_an_endpoint_that_cannot_be_connected_keeps_its_agency(tmp_path: Path) -> None:
    """A secret that is missing is that agency's error alone; when it is there, the change is taken over."""
    async with here(tmp_path) as (estate, gateway, reload, _):
        estate.edit(FINANCE, "endpoints:", "endpoints:" + NEW.replace("${FINANCE_URL}", "http://127.0.0.1:1"))
        estate.edit(SAENSUK, "deadline: 1s", "deadline: 2s")
        await reload.take(estate.files())
        assert list(reload.kept) == ["adapters/finance"]
        (finding,) = reload.kept["adapters/finance"]
        assert "the secret 'finance.directory' cannot be read" in finding.message
        assert deadlines(gateway, "saensuk") == [2.0]
        before = deadlines(gateway, "finance")
        (estate.root / "keys/secrets/finance.directory").write_text("s3cret")
        await reload.take(estate.files())
        assert (reload.kept, len(deadlines(gateway, "finance"))) == ({}, len(before) + 1)


def deadlines(gateway: Gateway, agency: str) -> list[float]:
    endpoints: Any = gateway.catalogue.agencies[agency].endpoints  # type: ignore[index] # a plain name in a test
    return [endpoint.deadline for endpoint in endpoints.values()]


async def looked_up(of: GatewayClient) -> str:
    try:
        await of.exchange(
            "interior",
            "population.person_lookup.v1",
            {"identifier": identified("900100013")},
            purpose="tax_assessment",
            case="A-1",
            user="clerk",
        )
    except Refused as refused:
        return refused.code
    return "answered"


async def test_a_new_secret_is_used_though_its_manifest_says_the_same(tmp_path: Path) -> None:
    """The register refuses another key: what the gateway sends changes with the file, and changes back."""
    async with here(tmp_path) as (estate, _, reload, url), client(url, "finance.local_tax") as tax:
        secret = estate.root / "keys/secrets/interior.register"
        right = secret.read_text()
        for text, wanted in ((right, "answered"), ("wrong", "provider.refused"), (right, "answered")):
            secret.write_text(text)
            await reload.take(estate.files())
            assert await looked_up(tax) == wanted


async def test_new_code_is_run(tmp_path: Path) -> None:
    """An agency's adapter.py is loaded anew; one that cannot be keeps the one that runs."""
    async with here(tmp_path) as (estate, gateway, reload, _):
        code = estate.root / "adapters/finance/adapter.py"
        module = "gateway_adapter:finance:tax.compliance_check.v1"
        before = sys.modules[module]
        code.write_text(code.read_text("utf-8") + "\nMARK = 1\n", "utf-8")
        await reload.take(estate.files())
        assert sys.modules[module].MARK == 1
        code.write_text("class TaxLedger:\n    pass\n", "utf-8")
        await reload.take(estate.files())
        assert list(reload.kept) == ["adapters/finance"]
        assert before is not sys.modules[module]
        assert gateway.health().readiness == "degraded"


@asynccontextmanager
async def one_of_several(tmp_path: Path) -> AsyncIterator[tuple[Estate, dict[str, str], Path]]:
    """Folders that a process has served, which kept for others what worked."""
    estate, last_good = Estate(tmp_path), tmp_path / "files"
    async with ministries() as urls:
        environment = estate.among(settings(tmp_path, dict(urls)))
        async with opened(environment, last_good):
            await until(last_good.exists)
        yield estate, environment, last_good


async def not_started(environment: Mapping[str, str], last_good: Path) -> str:
    """Why a first process does not start."""
    chosen = read_settings(environment)
    sockets = listening(chosen)
    with closing(sockets.public), closing(sockets.operations), pytest.raises(NotStarted) as caught:
        async with compose(chosen, environment, last_good).running(sockets):
            pass
    return str(caught.value)


async def test_another_process_starts_without_what_cannot_be_connected(tmp_path: Path) -> None:
    """One agency's missing secret is its own: the others are served, and it is again when the secret is back."""
    async with one_of_several(tmp_path) as (estate, environment, last_good):
        secret = estate.root / "keys/secrets/interior.register"
        right = secret.read_text()
        secret.unlink()
        assert "the secret 'interior.register' cannot be read" in await not_started(environment, tmp_path / "first")
        async with opened(environment, last_good) as (gateway, at):
            assert gateway.health().checks["catalogue"].endswith("adapters/interior; endpoints not connected: 4")
            async with client(at.public) as sila, client(at.public, "finance.local_tax") as tax:
                assert (await asked(sila), await looked_up(tax)) == ("answered", "provider.unavailable")
                assert gateway.reload
                await gateway.reload.take(estate.files(), asked=True)
                assert list(gateway.reload.kept) == ["adapters/interior"]
                estate.edit(SAENSUK, "deadline: 1s", "deadline: 2s")
                await gateway.reload.take(estate.files())
                assert deadlines(gateway, "saensuk") == [2.0]
                secret.write_text(right)
                await gateway.reload.take(estate.files())
                assert (gateway.reload.kept, gateway.health().checks["catalogue"]) == ({}, "ok")
                assert await looked_up(tax) == "answered"


@pytest.mark.parametrize("broken", [("", "raise OSError"), ("nonsense: 1", "MARK = 1")])
async def test_another_process_runs_the_code_that_was_adopted(tmp_path: Path, broken: tuple[str, str]) -> None:
    """Where an adapter.py fails, or stands beside a broken manifest, the last good one is run, and not the new one."""
    async with one_of_several(tmp_path) as (estate, environment, last_good):
        for name, more in zip((FINANCE, "adapters/finance/adapter.py"), broken, strict=True):
            estate.write(name, (estate.root / name).read_text("utf-8") + f"\n{more}\n")
        async with opened(environment, last_good) as (gateway, _):
            assert not hasattr(sys.modules["gateway_adapter:finance:tax.compliance_check.v1"], "MARK")
            assert gateway.reload
            await until(lambda: gateway.reload and gateway.reload.kept)
            assert list(gateway.reload.kept) == ["adapters/finance"]
            assert "not connected" not in gateway.health().checks["catalogue"]


@pytest.mark.quiet
async def test_code_that_takes_its_time_stops_nobody(tmp_path: Path) -> None:
    """While an agency's adapter.py is loaded, others' calls are answered."""
    async with here(tmp_path) as (estate, _, reload, url), client(url) as sila:
        assert await asked(sila) == "answered"
        code = "import time\ntime.sleep(1.5)\n"
        path = estate.root / "adapters/finance/adapter.py"
        path.write_text(path.read_text("utf-8") + code, "utf-8")
        loading = asyncio.create_task(reload.take(estate.files()))
        slowest = 0.0
        while not loading.done():
            begun = time.monotonic()
            assert await asked(sila) == "answered"
            slowest = max(slowest, time.monotonic() - begun)
        assert slowest < 1.0
        assert not reload.kept


async def test_a_folder_that_never_rests_holds_up_nobody(tmp_path: Path) -> None:
    """What somebody writes without end keeps its last good version, and a suspension beside it holds."""
    async with here(tmp_path) as (estate, gateway, reload, url), client(url) as sila:
        assert gateway.health().readiness == "ready"
        path = estate.root / "adapters/lampang/agency.yaml"
        text = path.read_text("utf-8")
        writing = asyncio.create_task(written(path, text))
        estate.edit(SILA_FOLDER, "class: local", "class: local\nstanding: suspended")
        seconds, _ = await comes(url, await sila.token(), "policy.suspended")
        async with asyncio.timeout(30):
            while list(reload.kept) != ["adapters/lampang"]:
                await asked(sila)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            path.write_text(text, "utf-8")  # nothing is kept though nothing changed in the end
            while reload.kept:
                await asked(sila)
    sys.stderr.write(f"\nbeside a folder that never rests a suspension held after {seconds:.2f} s\n")


async def written(path: Path, text: str) -> None:
    for number in itertools.count():
        await asyncio.to_thread(path.write_text, f"{text}# {number}\n", "utf-8")


async def test_five_hundred_reloads_under_load(tmp_path: Path) -> None:
    """In a process of its own: no call fails, memory grows by no more than 5 %, and old catalogues are let go."""
    program = (sys.executable, "-m", "tests.system.reloading", str(tmp_path))
    running = await asyncio.create_subprocess_exec(*program, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    told, _ = await running.communicate()
    found = orjson.loads(told.splitlines()[-1])
    sys.stderr.write(f"\n{found}\n")
    assert (running.returncode, found["calls"]) == (0, {"answered": 2000})
    assert found["grown"] <= 0.05
    assert found["catalogues"] <= 3
