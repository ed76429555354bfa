"""`gateway serve` on PostgreSQL: migrated by a command, served by two processes beside each other."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest

from deploy.demo.ministries import ministries
from deploy.demo.people import identified
from deploy.demo.register import Register
from gateway.client import Answer, GatewayClient
from tests.behaviour.server import Server, running
from tests.system.test_serve import PRIVATE, ROOT, failed, served, settings

DESK = "finance.taxpayer_desk"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as started:
        started.run("create database gateway_demo", "postgres")
        yield started


def command(environment: dict[str, str], *words: str) -> str:
    """What a command prints."""
    program = [sys.executable, "-m", "gateway", *words]
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout


async def moved(address: str) -> Answer:
    """The taxpayers' desk tells the register of a move, always with the same key."""
    body = {
        "identifier": identified("900100013"),
        "address": {"lines": ["House 5"], "locality": "Phnom Penh", "subdivision": "KH-12", "country": "KH"},
        "record_version": 3,
    }
    async with GatewayClient(address, client_id=DESK, key=PRIVATE / f"{DESK}.jwk.json") as client:
        return await client.exchange(
            "interior",
            "population.change_address.v1",
            body,
            purpose="address_change",
            case="A-1",
            user="clerk",
            idempotency_key="the-move",
        )


async def test_two_gateways_share_a_server(server: Server, tmp_path: Path) -> None:
    """A write that one node made is answered again by the other, from one call; the journal has both nodes' entries."""
    register = Register()
    database = {"GATEWAY_DATABASE": server.url(name="gateway_demo")}
    async with ministries(register) as urls, AsyncExitStack() as nodes:
        environments = [{**settings(tmp_path, dict(urls)), **database} for _ in range(2)]
        told = await asyncio.to_thread(command, environments[0], "migrate")
        assert told == "the database has the tables of this version, for the instance DEMO\n"
        for environment in environments:
            await nodes.enter_async_context(served(environment))
        first, second = [await moved(environment["GATEWAY_ISSUER"]) for environment in environments]
        assert (first.replayed, second.replayed) == (False, True)
        assert (first.body, register.changes) == (second.body, 1)
    checked = await asyncio.to_thread(command, environments[0], "journal", "check")
    assert checked.endswith("entries of 2 writers, 0 faults\n")
    shown = await asyncio.to_thread(command, environments[0], "journal", "show", "--exchange", second.exchange)
    assert orjson.loads(shown)["step"] == "replayed"


AFTER = (ROOT / "deploy/postgresql/after_migrate.sql").read_text("utf-8")


async def test_a_start_without_its_rights_is_one_sentence(server: Server, tmp_path: Path) -> None:
    """Whoever forgets the file that grants them reads which file; whatever else is denied is no traceback either."""
    server.run("create role gateway_serve login", "postgres")
    server.run("create database ungranted", "postgres")
    async with ministries() as urls:
        environment = {**settings(tmp_path, dict(urls)), "GATEWAY_DATABASE": server.url(name="ungranted")}
        await asyncio.to_thread(command, environment, "migrate")
        environment["GATEWAY_DATABASE"] = server.url(user="gateway_serve", name="ungranted")
        for script, said in (
            ("", "the role that serves lacks rights in the database: run deploy/postgresql/after_migrate.sql"),
            (f"{AFTER}revoke insert on periods from gateway_serve", "The journal cannot be written: permission denied"),
        ):
            server.run(f"grant select, insert on all tables in schema public to gateway_serve; {script}", "ungranted")
            code, words = await failed(environment)
            assert code == 1
            assert words.startswith(said)
            assert len(words.strip().splitlines()) == 1
