"""An operator suspends somebody while gateways run: all of them refuse within two seconds, until it is lifted."""

import asyncio
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path
from urllib.parse import urlencode
from uuid import uuid4

import aiohttp
import pytest
from typer.testing import CliRunner

from deploy.demo.ministries import ministries
from deploy.demo.people import identified
from gateway.__main__ import app
from gateway.app import Gateway
from gateway.client import GatewayClient, Pace, Refused
from gateway.core.model import Standing
from gateway.edge.control import Order, hand_over
from gateway.edge.store import Rows, SqliteDriver, StoreFailed
from gateway.edge.suspensions import LATE
from gateway.footing import NotStarted, listening
from gateway.settings import Settings
from tests.behaviour.server import Server, running
from tests.fakes import idp
from tests.fakes.parties import ISSUER, LOOK_UP, PARTIES, PERSON, TAX, USUAL, Terms, catalogue_of
from tests.fakes.town import Reply, Town, opened, until
from tests.system.test_serve import PRIVATE, ROOT, served, settings

WITHIN = 2.0
"""Seconds, of which the operators' guide speaks."""
UNSURE, UNABLE = "journal.unavailable", "temporarily_unavailable"
BY = ("--reason", "a stolen laptop", "--by", "dara")


async def typed(environment: dict[str, str], *words: str, code: int = 0) -> str:
    """What a command prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *words),
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    assert process.returncode == code, told.decode()
    return told.decode()


async def answered(client: GatewayClient) -> str:
    """What the tax office's system gets: answered, or the code of the refusal."""
    body = {"identifier": identified("900100013")}
    try:
        await client.exchange(
            "interior", "population.person_lookup.v1", body, purpose="tax_assessment", case="A-1", user="clerk"
        )
    except Refused as refused:
        return refused.code
    return "answered"


async def comes(node: dict[str, str], client: GatewayClient, wanted: str) -> float:
    """Seconds until the process has the news, five at most; the very next call must be answered so."""
    begun = time.monotonic()
    many = 0 if wanted == "answered" else 1
    async with asyncio.timeout(5), aiohttp.ClientSession() as session:
        while await suspended(session, node) != many:
            pass
    seconds = time.monotonic() - begun
    assert await answered(client) == wanted
    return seconds


async def suspended(session: aiohttp.ClientSession, node: dict[str, str]) -> float:
    """How many suspensions a process counts."""
    async with session.get(f"http://{node['GATEWAY_OPERATIONS_LISTEN']}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("gateway_suspensions{"))


def tax_office(environment: dict[str, str]) -> GatewayClient:
    key = PRIVATE / f"{TAX}.jwk.json"
    return GatewayClient(environment["GATEWAY_ISSUER"], client_id=TAX, key=key, pace=Pace(attempts=1))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as started:
        started.run("create database gateway_demo", "postgres")
        yield started


@pytest.mark.quiet
async def test_two_processes_on_postgresql(server: Server, tmp_path: Path) -> None:
    """An order, typed once, holds in both processes within two seconds; lifted, both answer again."""
    async with ministries() as urls, AsyncExitStack() as stack:
        database = {"GATEWAY_DATABASE": server.url(name="gateway_demo")}
        nodes = [{**settings(tmp_path, dict(urls)), **database} for _ in range(2)]
        await typed(nodes[0], "migrate")
        clients = []
        for node in nodes:
            await stack.enter_async_context(served(node))
            clients.append(await stack.enter_async_context(tax_office(node)))
        for what, *more, code in (
            ("interior/population.person_lookup.v1", "policy.suspended"),
            ("MOI-FIN-2026-014", "policy.suspended"),
            (TAX, "--revoke", "invalid_client"),  # its token is refused; it asks for another one, in vain
        ):
            assert [await answered(client) for client in clients] == ["answered", "answered"]
            await typed(nodes[0], "suspend", what, *BY, *more)
            assert max(await asyncio.gather(*map(comes, nodes, clients, [code] * 2))) < WITHIN
            assert what in await typed(nodes[1], "suspensions")
            await typed(nodes[1], "lift", what, *BY)
            assert max(await asyncio.gather(*map(comes, nodes, clients, ["answered"] * 2))) < WITHIN
    assert (await typed(nodes[0], "journal", "check")).endswith(" 0 faults\n")


@pytest.mark.quiet
async def test_a_file_that_a_gateway_serves(tmp_path: Path) -> None:
    """The command hands its order to the process that has the file, also after one was killed."""
    async with ministries() as urls:
        node = settings(tmp_path, dict(urls))
        async with served(node) as process:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        assert (tmp_path / "gateway.sqlite3.control").exists()
        async with served(node), tax_office(node) as client:
            assert await answered(client) == "answered"
            await typed(node, "suspend", TAX, *BY)
            assert await comes(node, client, "policy.suspended") < WITHIN
            assert "by dara: a stolen laptop" in await typed(node, "suspensions")
            again = await typed(node, "suspend", TAX, *BY, code=1)
            assert again == f"the system {TAX} is suspended or revoked already: `gateway suspensions` says by whom.\n"
            await typed(node, "lift", TAX, *BY)
            assert await comes(node, client, "answered") < WITHIN
    assert (await typed(node, "journal", "check")).endswith("entries of 2 writers, 0 faults\n")
    shown = await typed(node, "journal", "show")
    assert (shown.count('"what":"suspend"'), shown.count('"what":"lift"'), shown.count("laptop")) == (1, 1, 0)


async def test_a_file_that_nobody_serves(tmp_path: Path) -> None:
    """The command writes it itself; the next gateway begins with the suspension. No file is made by mistake."""
    async with ministries() as urls:
        node = settings(tmp_path, dict(urls))
        assert (await typed(node, "suspend", TAX, *BY, code=1)).startswith("there is no database at")
        await typed(node, "migrate")
        await typed(node, "suspend", TAX, *BY)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve"), cwd=ROOT, env=node, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout
        first, second = [await process.stdout.readline() for _ in range(2)]
        assert b'"kind":"system","name":"finance.local_tax","standing":"suspended","event":"suspended"' in first
        assert b'"event":"started"' in second
        async with tax_office(node) as client:
            assert await answered(client) == "policy.suspended"
        process.terminate()
        await process.communicate()
    assert (await typed(node, "journal", "check")).endswith("entries of 2 writers, 0 faults\n")


def test_a_name_that_nobody_has(tmp_path: Path) -> None:
    """It is refused with the one that was probably meant; --anyway does it all the same."""
    environment = settings(tmp_path)

    def tried(*words: str) -> str:
        return CliRunner().invoke(app, words, env=environment, catch_exceptions=False).output

    tried("migrate")
    told = tried("suspend", "finance.local_tx", *BY)
    assert told.startswith('The catalogue has no system finance.local_tx. Did you mean "finance.local_tax"?')
    assert "is no name of an agency" in tried("suspend", "Finance!", *BY)
    assert "is no system" in tried("suspend", "finance", "--revoke", *BY)
    assert tried("suspensions").startswith("operators suspended nothing")
    tried("suspend", "finance.local_tx", "--anyway", *BY)
    assert "system finance.local_tx suspended since" in tried("suspensions")


def test_a_name_that_may_mean_several(tmp_path: Path) -> None:
    """It is not guessed, but asked which is meant; what is printed says what was suspended."""
    environment = settings(tmp_path)

    def tried(*words: str) -> str:
        return CliRunner().invoke(app, words, env=environment, catch_exceptions=False).output

    tried("migrate")
    told = tried("suspend", "fin2026", "--anyway", *BY)
    assert told == "fin2026 may mean several: say which with --kind agency or --kind agreement.\n"
    assert '--kind system does not fit "fin2026"' in tried("suspend", "fin2026", "--kind", "system", "--anyway", *BY)
    assert "no agency fin2026" in tried("suspend", "fin2026", "--kind", "agency", *BY)
    assert tried("suspensions").startswith("operators suspended nothing")
    told = tried("suspend", "fin2026", "--kind", "agreement", "--anyway", *BY)
    assert told.startswith("the agreement fin2026 is suspended: within 2 seconds")
    told = tried("lift", "fin2026", "--kind", "agreement", "--anyway", *BY)
    assert told.startswith("the agreement fin2026 is no longer suspended by operators: within 2 seconds")
    assert tried("suspend", "finance", *BY).startswith("the agency finance is suspended")


async def ordered(town: Town, kind: str, **more: str) -> None:
    """An order about the tax office's system, which is in force when this returns."""
    fields = {"kind": "system", "name": TAX, "reason": "a stolen laptop", "who": "dara", **more}
    assert (await hand_over(town.database, Order(kind, fields))).done
    async with asyncio.timeout(30):
        for _ in iter(lambda: bool(town.gateway.suspensions.known) is (kind == "suspend"), True):
            await asyncio.sleep(0)


async def asked(town: Town) -> Reply:
    return await town.call(TAX, LOOK_UP, PERSON)


async def test_both_must_be_lifted(tmp_path: Path) -> None:
    """What the file suspends stays suspended when an operator lifts his own; the caller is told the same each time."""
    async with opened(tmp_path, Terms(tax_office=Standing.SUSPENDED)) as town:
        told = [(await asked(town)).body]
        for kind, more in (("suspend", {"standing": "suspended"}), ("lift", {})):
            await ordered(town, kind, **more)
            told.append((await asked(town)).body)
        assert [each["code"] for each in told] == ["policy.suspended"] * 3
        once = {str({name: each[name] for name in ("code", "detail", "contact", "status")}) for each in told}
        assert len(once) == 1


async def test_a_revoked_system_uses_no_token_that_was_remembered(tmp_path: Path) -> None:
    """The token worked, was remembered, and is refused; no new one is given. Metrics show how many there are."""
    async with opened(tmp_path) as town:
        assert (await asked(town)).status == 200
        await ordered(town, "suspend", standing="revoked")
        refused = await asked(town)
        assert (refused.status, refused.body["code"]) == (401, "identity.revoked")
        assert (await town.metrics())['gateway_suspensions{kind="system"}'] == 1
        await ordered(town, "lift")
        assert (await asked(town)).status == 200
        assert (await town.metrics())['gateway_suspensions{kind="system"}'] == 0


def renamed(town: Town, old: str, new: str) -> None:
    """As somebody does who may change the database."""
    with closing(sqlite3.connect(town.database)) as connection:
        connection.execute(f"alter table {old} rename to {new}")


async def token_asked(town: Town) -> Reply:
    now = time.time()
    said = idp.assertion_claims(TAX, aud=ISSUER, jti=str(uuid4()), iat=now, exp=now + 60)
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": town.keys[TAX].sign(said),
    }
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return await town.ask("POST", "/oauth/token", kind, urlencode(form).encode())


async def test_nothing_is_let_through_while_nobody_knows_what_is_suspended(tmp_path: Path) -> None:
    """The journal works, the table is gone: after ten seconds neither exchanges nor tokens, until it is back."""
    async with opened(tmp_path) as town:
        assert [(await asked(town)).status, (await token_asked(town)).status] == [200, 200]
        renamed(town, "suspensions", "elsewhere")
        await until(lambda: town.gateway.suspensions._failing)
        assert (await asked(town)).status == 200
        town.gateway.suspensions._sure_at -= LATE
        refused, denied = await asked(town), await token_asked(town)
        assert (refused.status, refused.body["code"], refused.headers["Retry-After"]) == (
            503,
            "journal.unavailable",
            "2",
        )
        assert (denied.status, denied.body["error"], denied.headers["Retry-After"]) == (503, UNABLE, "2")
        for told in (refused.body["detail"], denied.body["error_description"]):
            assert told == "The gateway cannot read now who and what is suspended, so that nothing is let through."
        assert len(town.office.seen) == 2
        ready = await town.ask("GET", f"{town.at.operations}/health/ready")
        assert (ready.status, ready.body["status"], ready.body["checks"]["journal"]) == (503, "unready", "ok")
        assert ready.body["checks"]["suspensions"].startswith("cannot be read")
        assert (await town.metrics())["gateway_suspensions_late"] == 1
        renamed(town, "elsewhere", "suspensions")
        await until(lambda: not town.gateway.suspensions.late)
        assert [(await asked(town)).status, (await token_asked(town)).status] == [200, 200]


class Unreadable(SqliteDriver):
    """A database that is written and not read."""

    async def read(self, select: str, values: Sequence[object] = ()) -> Rows:
        raise StoreFailed(f"no answer to {select[:6]} with {len(values)} values")


async def test_nothing_is_served_before_suspensions_are_read(tmp_path: Path) -> None:
    """A gateway that cannot learn who is suspended does not start."""
    place = tmp_path / "gateway.sqlite3"
    database = f"sqlite:///{place}"
    chosen = Settings(issuer=ISSUER, listen="127.0.0.1:0", operations_listen="127.0.0.1:0", database=database)
    keys = {name: idp.key() for name in PARTIES}
    catalogue = catalogue_of("http://127.0.0.1:1", keys, USUAL)
    gateway = Gateway(chosen, catalogue, idp.keyring(tmp_path / "keys"), Unreadable(place, chosen.instance))
    sockets = listening(chosen)
    with closing(sockets.public), closing(sockets.operations), pytest.raises(NotStarted, match="no answer to select"):
        async with gateway.running(sockets):
            pass
