"""`gateway serve --workers` on PostgreSQL: one port, several processes, what becomes of them and of callers."""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from deploy.demo.ministries import SLOW, ministries
from deploy.demo.people import identified
from deploy.demo.register import Register
from gateway.client import GatewayClient
from tests.behaviour.server import Server, running
from tests.fakes.callers import Caller, asking, together
from tests.fakes.certificates import AUTHORITY
from tests.fakes.gate import reached
from tests.fakes.parent import Parent, parent
from tests.fakes.town import until
from tests.system.test_serve import PRIVATE, ROOT, SERVE, served, settings
from tests.system.test_serve_postgres import DESK, command

DATABASE = "gateway_demo"
TAX = "finance.local_tax"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as started:
        started.run(f"create database {DATABASE}", "postgres")
        yield started


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration's, but whoever reads the office directory may do so as fast as it can."""
    folder = tmp_path_factory.mktemp("catalogue")
    for name in ("schemas", "adapters", "policies"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "kafka.yaml", folder)
    for path, before, after in (
        ("policies/LOCAL-DIRECTORY-2026-001.yaml", "    limits: {rate: 20/s}\n", ""),
        ("adapters/saensuk/agency.yaml", "deadline: 1s", "deadline: 10s"),
    ):
        text = (folder / path).read_text("utf-8")
        assert before in text
        (folder / path).write_text(text.replace(before, after), "utf-8")
    return folder


@dataclass(frozen=True, slots=True)
class Node:
    """A gateway of two workers among the pretend ministries."""

    parent: Parent
    environment: dict[str, str]
    register: Register
    server: Server

    @property
    def address(self) -> str:
        return self.environment["GATEWAY_ISSUER"]

    async def reading(self) -> bytes:
        """A request that reads the office directory."""
        return await request(self.address, TAX, "saensuk/places.office_directory.v1", {"subdivision": "TH-20"})

    async def aside(self, path: str) -> tuple[int, Any]:
        """What the parent answers operators' machines."""
        return await fetched(self.environment["GATEWAY_OPERATIONS_LISTEN"], path)

    async def journal(self) -> list[tuple[str, dict[str, Any]]]:
        """Each entry, by the name that its answer gave it."""
        ((month,),) = await self.asked("select max(month) from journal_months where month <= to_char(now(), 'YYYY_MM')")
        rows = await self.asked(f"select writer, n, leaf, entry from journal_{month} order by writer, n")  # noqa: S608 - the gateway's name
        return [(f"{each[0]}.{each[1]} {each[2].hex()}", orjson.loads(each[3])) for each in rows]

    async def asked(self, statement: str, *values: object) -> Any:
        """What stands in the database."""
        connection = await self.server.connect(DATABASE)
        try:
            return await connection.fetch(statement, *values)
        finally:
            await connection.close()


@asynccontextmanager
async def node(server: Server, catalogue: Path, **more: str) -> AsyncIterator[Node]:
    register = Register()
    async with AsyncExitStack() as stack:
        urls = await stack.enter_async_context(ministries(register))
        environment = surroundings(server, catalogue, dict(urls)) | more
        await asyncio.to_thread(command, environment, "migrate")
        started = await stack.enter_async_context(parent(environment))
        yield Node(started, environment, register, server)


def surroundings(server: Server, catalogue: Path, urls: dict[str, str] | None = None) -> dict[str, str]:
    places = {"GATEWAY_CATALOGUE": str(catalogue), "GATEWAY_KEYS": str(ROOT / "deploy/demo/keys")}
    return settings(catalogue, urls) | places | {"GATEWAY_DATABASE": server.url(name=DATABASE)}


async def request(address: str, client_id: str, target: str, body: dict[str, Any], **headers: str) -> bytes:
    """An exchange as bytes, with a token of its own."""
    async with GatewayClient(address, client_id=client_id, key=PRIVATE / f"{client_id}.jwk.json") as client:
        token = await client.token()
    content = orjson.dumps(body)
    fields = {
        "Host": address.removeprefix("http://"),
        "Authorization": f"Bearer {token}",
        "Exchange-Purpose": "public_information",
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST /v1/exchange/{target} HTTP/1.1\r\n{head}\r\n".encode() + content


async def fetched(place: str, path: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{place}{path}") as answer:
        text = await answer.text()
        return answer.status, orjson.loads(text) if answer.content_type == "application/json" else text


async def until_seen(callers: list[Caller], seen: Callable[[], bool]) -> None:
    """Until what they got is enough."""
    async with asyncio.timeout(20):
        await until(seen)


def writers(callers: list[Caller]) -> set[str]:
    """Which processes answered them."""
    return {entry.partition(".")[0] for caller in callers for entry in caller.entries}


async def test_two_workers_answer_on_one_port(server: Server, catalogue: Path) -> None:
    """Both take connections of the one address, and say on addresses of their own how they are."""
    async with node(server, catalogue) as gateway:
        async with asking(8, gateway.address, await gateway.reading()) as callers:
            await until_seen(callers, lambda: len(writers(callers)) == 2)
        assert set(together(callers)) == {"200"}
        gateway.parent.process.send_signal(signal.SIGHUP)
        status, targets = await gateway.aside("/targets")
        assert (status, [each["labels"] for each in targets]) == (200, [{"worker": w} for w in ("parent", "1", "2")])
        port = int(gateway.environment["GATEWAY_OPERATIONS_LISTEN"].rpartition(":")[2])
        assert [each["targets"] for each in targets] == [[f"127.0.0.1:{port + each}"] for each in range(3)]
        for each in targets:
            assert 'gateway_build_info{version="' in (await fetched(each["targets"][0], "/metrics"))[1]
        assert await gateway.aside("/health/ready") == (
            200,
            {"status": "ready", "workers": {"1": "ready", "2": "ready"}},
        )
        assert (await gateway.aside("/health/live"))[0] == 200
        assert {"gateway_workers 2.0", "gateway_workers_wanted 2.0"} <= set(
            (await gateway.aside("/metrics"))[1].split("\n")
        )
    assert {line["worker"] for line in gateway.parent.lines if line["event"] == "exchange"} == {1, 2}
    assert gateway.parent.process.returncode == 0
    assert "worker_lost" not in {line["event"] for line in gateway.parent.lines}


async def test_a_killed_worker_is_back(server: Server, catalogue: Path) -> None:
    """kill -9 under load: callers of the other one notice nothing, and the journal has all that left or was sent."""
    async with node(server, catalogue) as gateway:
        async with asking(8, gateway.address, await gateway.reading()) as callers:
            await until_seen(callers, lambda: len(writers(callers)) == 2)
            lost, written = await killed_while_writing(gateway)
            assert [each["reason"] for each in await gateway.parent.said("worker_lost")] == ["killed"]
            await gateway.parent.said("worker_started", 3)
            await until_seen(callers, lambda: len(writers(callers)) == 3)
        mine = [each for each in callers if lost in writers([each])]
        assert all(unanswered(each) <= (each in mine) for each in callers)
        entries = await gateway.journal()
        admitted = [name.partition(".")[0] for name, entry in entries if entry["step"] == "admitted"]
        assert lost in admitted
        assert len(admitted) == written
        assert {name for each in callers for name in each.entries} <= {name for name, _ in entries}
        assert 'gateway_worker_exits_total{reason="killed"} 1.0' in (await gateway.aside("/metrics"))[1]
    checked = await asyncio.to_thread(command, gateway.environment, "journal", "check")
    assert checked.endswith(", 0 faults\n")


async def killed_while_writing(gateway: Node) -> tuple[str, int]:
    """Which writer was killed while it waited for a register's answer to a write; and how many writes were sent."""
    writing = [Caller(gateway.address, await move(gateway.address, f"move-{each}")) for each in range(4)]
    sent = asyncio.gather(*(each.connection(1) for each in writing))
    await until(lambda: gateway.register.calls["change_address"] == len(writing))
    lost = next(name for name, entry in await gateway.journal() if entry["step"] == "admitted").partition(".")[0]
    program = await gateway.asked("select program from writers where writer = $1", int(lost))
    os.kill(int(program[0]["program"].rpartition(" ")[2]), signal.SIGKILL)
    await sent
    assert sum(unanswered(each) for each in writing) > 0
    return lost, len(writing)


def unanswered(caller: Caller) -> int:
    """Requests that got no answer."""
    return caller.outcomes.total() - sum(caller.outcomes[status] for status in caller.outcomes if status.isdecimal())


async def move(address: str, key: str) -> bytes:
    """A write to somebody whose register is silent for half a minute."""
    body = {
        "identifier": identified(SLOW),
        "address": {"lines": ["House 5"], "locality": "Phnom Penh", "subdivision": "KH-12", "country": "KH"},
        "record_version": 3,
    }
    about = {"Exchange_Purpose": "address_change", "Exchange_Case": "A-1", "Exchange_User": "clerk"}
    return await request(address, DESK, "interior/population.change_address.v1", body, **about, Idempotency_Key=key)


async def test_rolling_restarts_are_not_noticed(server: Server, catalogue: Path, tmp_path: Path) -> None:
    """Three under load: all workers are new ones, and no caller was reset, refused, answered 5xx or not at all."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        async with node(server, catalogue, NOTIFY_SOCKET=str(tmp_path / "notify")) as gateway:
            async with asking(8, gateway.address, await gateway.reading()) as callers:
                await until_seen(callers, lambda: len(writers(callers)) == 2)
                for roll in range(3):
                    gateway.parent.process.send_signal(signal.SIGUSR2)
                    await gateway.parent.said("rolled", roll + 1)
                await until_seen(callers, lambda: len(writers(callers)) >= 6)
            assert set(together(callers)) == {"200"}
            assert len(await gateway.parent.said("worker_ended", 6, reason="clean")) == 6
            assert len({line["pid"] for line in await gateway.parent.said("worker_started")}) == 8
            assert (await gateway.aside("/health/ready"))[1]["status"] == "ready"
        assert [received(told) for _ in range(2)] == ["READY", "STOPPING"]
        with pytest.raises(BlockingIOError):
            received(told)  # it served all the time


def received(told: socket.socket) -> str:
    """What systemd would have been told next."""
    return told.recv(1000, socket.MSG_DONTWAIT).decode().partition("=")[0]


async def test_workers_end_with_their_parent(server: Server, catalogue: Path) -> None:
    """kill -9 of the parent: each worker writes its last entry and ends, as at SIGTERM."""
    async with node(server, catalogue) as gateway:
        gateway.parent.process.kill()
    last = {name.partition(".")[0]: entry for name, entry in await gateway.journal()}
    present = {
        str(each["writer"])
        for each in await gateway.asked(
            "select writer from writers where program not like '% documents' order by 1 desc limit 2"
        )
    }
    assert [last[writer]["what"] for writer in present] == ["stop", "stop"]


async def test_a_worker_is_back_while_a_folder_is_broken(server: Server, catalogue: Path, tmp_path: Path) -> None:
    """Killed then, its successor begins with the version of the folder that the other one goes on with."""
    own = shutil.copytree(catalogue, tmp_path / "catalogue")
    async with node(server, own) as gateway:
        (own / "adapters/saensuk/agency.yaml").write_text("agency: [", "utf-8")
        await gateway.parent.said("catalogue_kept", 2)
        os.kill(gateway.parent.pids()[1], signal.SIGKILL)
        await gateway.parent.said("worker_started", 3)
        await gateway.parent.said("catalogue_kept", 3)
        status, told = await gateway.aside("/health/ready")
        assert (status, told["workers"]) == (200, {"1": "degraded", "2": "degraded"})
        async with asking(4, gateway.address, await gateway.reading()) as callers:
            await until_seen(callers, lambda: len(writers(callers)) == 2)
        assert set(together(callers)) == {"200"}


async def test_a_single_process_names_itself(tmp_path: Path) -> None:
    """It is its own and only target, tells systemd that it serves, and cannot be rolled."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        environment = settings(tmp_path) | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        aside = environment["GATEWAY_OPERATIONS_LISTEN"]
        async with served(environment) as process:
            assert await fetched(aside, "/targets") == (200, [{"targets": [aside], "labels": {"worker": "1"}}])
            process.send_signal(signal.SIGUSR2)
            assert process.stdout
            assert orjson.loads(await process.stdout.readline())["event"] == "roll_ignored"
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        assert [received(told) for _ in range(2)] == ["READY", "STOPPING"]


@pytest.mark.parametrize("name", ["serve", "worker"])
async def test_signals_during_the_start_end_nothing(tmp_path: Path, name: str) -> None:
    """SIGHUP and SIGUSR2 reach a process that still puts its parts together: it goes on, and serves."""
    os.mkfifo(file := tmp_path / "authorities")
    async with beginning(name, settings(tmp_path) | {"GATEWAY_CA_FILE": str(file)}, tmp_path) as process:
        pipe = await reached(file)
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGHUP):
            process.send_signal(number)
        file.unlink()
        AUTHORITY.cert_pem.write_to_path(file)
        os.write(pipe, AUTHORITY.cert_pem.bytes())
        os.close(pipe)
        assert process.stdout
        assert orjson.loads(await process.stdout.readline())["event"] == "started"
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 0


@asynccontextmanager
async def beginning(name: str, environment: dict[str, str], folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A single process or one of several, just started."""
    ours, theirs = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as public, ours, theirs:
        handed = (public.fileno(), theirs.fileno())
        among = ("--number=1", f"--public={handed[0]}", f"--control={handed[1]}", f"--last-good={folder / 'good'}")
        process = await asyncio.create_subprocess_exec(
            *(*SERVE[:-1], name, *(among if name == "worker" else ())),
            cwd=ROOT,
            env=environment,
            pass_fds=handed,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def test_sqlite_serves_one_process(tmp_path: Path) -> None:
    """More are refused before anything is opened, with what to do instead."""
    code, words = await failed(settings(tmp_path))
    assert code == 1
    assert "--workers 2 needs PostgreSQL" in words
    assert "gateway migrate" in words
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - one folder, looked at once


async def test_a_first_worker_that_cannot_start_ends_all(server: Server, catalogue: Path) -> None:
    """Its findings are told once, and its code is that of the command."""
    environment = surroundings(server, catalogue)
    del environment["INTERIOR_URL"]
    code, words = await failed(environment)
    assert code == 1
    assert words.count("The catalogue has errors:") == 1
    assert "Set INTERIOR_URL where the gateway is started." in words


async def failed(environment: dict[str, str]) -> tuple[int, str]:
    """The exit code and the words of a start of two workers that must not succeed."""
    process = await asyncio.create_subprocess_exec(
        *(*SERVE, "--workers=2"), cwd=ROOT, env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, words = await process.communicate()
    return process.returncode or 0, words.decode()
