"""An agent put together: what it says of itself, what stops its start, how it ends."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.agent.folder import MEMORY_FILE
from gateway.agent.manifest import NotReady
from gateway.agent.ports import Counts
from gateway.agent.run import Agent, Chosen, routing
from tests.fakes.premises import Premises, premises
from tests.fakes.upstream_double import UpstreamDouble

REGISTRY = """
from gateway.adapter import Adapter

class Registry(Adapter):
    async def take(self, document):
        return "R-1"
"""


@dataclass(slots=True)
class Running:
    """An agent in this process, and the gateway's double that it reports to."""

    agent: Agent
    at: Premises
    double: UpstreamDouble
    session: aiohttp.ClientSession
    stop: asyncio.Event
    task: asyncio.Task[None]

    async def asked(self, path: str) -> tuple[int, str]:
        """Of its operations listener."""
        async with self.session.get(f"{self.agent.address}{path}") as answer:
            return answer.status, await answer.text()

    async def ready(self, status: str, **checks: str) -> Mapping[str, Any]:
        """Wait until it says so; a check must begin with what is given."""
        async with asyncio.timeout(30):
            while True:
                async with self.session.get(f"{self.agent.address}/health/ready") as answer:
                    told: Mapping[str, Any] = await answer.json()
                    fits = all(told["checks"][name].startswith(said) for name, said in checks.items())
                    if told["status"] == status and fits:
                        assert answer.status == (503 if status in ("unready", "draining") else 200)
                        return told


@asynccontextmanager
async def running(folder: Path, **changes: Any) -> AsyncIterator[Running]:
    """One whose Kafka is not there."""
    at = premises(folder, **changes)
    double = UpstreamDouble(at.key.public)
    stop = asyncio.Event()
    async with double, aiohttp.ClientSession() as session:
        at.environment["TREASURY_GATEWAY"] = double.url
        agent = Agent(at.setup(), Chosen(at.data, "127.0.0.1:0", 5.0))
        task = asyncio.create_task(agent.serve(stop))
        try:
            await started(agent, task)
            yield Running(agent, at, double, session, stop, task)
        finally:
            stop.set()
            async with asyncio.timeout(60):
                await asyncio.wait({task})
            if not task.cancelled() and task.exception() is None:
                assert task.done()


async def started(agent: Agent, task: asyncio.Task[None]) -> None:
    """It listens, or its end says why not."""
    async with asyncio.timeout(30):
        while not agent.address:
            if task.done():
                task.result()
            await asyncio.sleep(0)


async def refused(agent: Agent) -> str:
    """Why it does not start; one that does ends at once, and the test fails."""
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(30):
        with pytest.raises(NotReady) as wrong:
            await agent.serve(stop)
    return str(wrong.value)


async def test_it_says_what_is_wrong(tmp_path: Path) -> None:
    """Kafka is away: degraded, and it lives; metrics say the same."""
    async with running(tmp_path) as agent:
        told = await agent.ready("degraded", kafka="", memory="ok", gateway="ok")
        assert told["checks"]["kafka"] != "ok"
        assert await agent.asked("/health/live") == (200, '{"status":"live"}')
        _, metrics = await agent.asked("/metrics")
        assert 'gateway_agent_info{agency="treasury",instance="DEMO"' in metrics
        assert "gateway_agent_kafka_up 0.0" in metrics
        assert "gateway_agent_memory_up 1.0" in metrics


async def test_a_gateway_that_does_not_take_the_key_is_seen(tmp_path: Path) -> None:
    """Before the first document comes."""
    async with running(tmp_path) as agent:
        await agent.ready("degraded", gateway="ok")
        agent.double.valid.clear()
        agent.double.public = {**agent.double.public, "x": agent.double.public["y"]}
        agent.agent.gateway._client._tokens._kept.clear()
        assert not await agent.agent.gateway.seen()
        await agent.ready("degraded", gateway="invalid_client")


async def test_a_memory_that_fails_is_unready(tmp_path: Path) -> None:
    """Nothing may be handed over that cannot be written down first."""
    async with running(tmp_path) as agent:
        with closing(sqlite3.connect(agent.at.data / MEMORY_FILE)) as base:
            base.execute("drop table seen")
        await agent.ready("unready", memory="cannot be written")


async def test_unknown_outcomes_are_said(tmp_path: Path) -> None:
    """With the command that lists them."""
    async with running(tmp_path) as agent:
        agent.agent._counts = Counts(1, 0, 2, 0, 0, 0)
        told = await agent.ready("degraded", outcomes="2 unknown")
        assert "gateway agent show" in told["checks"]["outcomes"]


async def test_two_agents_have_two_folders(tmp_path: Path) -> None:
    """One memory cannot serve two members of a group; nor those of two agencies, one after the other."""
    async with running(tmp_path) as agent:
        other = Agent(agent.at.setup(), Chosen(agent.at.data, "127.0.0.1:0", 1.0))
        assert "Another agent runs on" in await refused(other)
    (agent.at.data / "agent.lock").write_text("interior at DEMO")
    assert "belongs to the agent of interior at DEMO" in await refused(other)


async def test_a_folder_of_everybodys_is_refused(tmp_path: Path) -> None:
    """Whoever could lay a memory there could say that documents were handed over."""
    async with running(tmp_path) as agent:
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        theirs.chmod(0o777)
        assert "Everybody may write to" in await refused(Agent(agent.at.setup(), Chosen(theirs, "127.0.0.1:0", 1.0)))


async def test_an_end_is_bounded(tmp_path: Path) -> None:
    """SIGTERM's event ends it, though Kafka is away; the folder is free afterwards."""
    async with running(tmp_path) as agent:
        agent.stop.set()
        async with asyncio.timeout(30):
            await agent.task
    async with running(tmp_path / "again"):
        pass


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"deliveries": [{"services": ["*"], "protocol": "python", "class": "Registry"}]}, "Boom"),
        (
            {"deliveries": [{"services": ["*"], "protocol": "webhook", "url": "http://a", "secret": "treasury.hook"}]},
            "treasury.hook",
        ),
    ],
    ids=["an adapter that breaks", "a secret that is none"],
)
async def test_a_system_that_cannot_be_connected(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """It does not start, and says which way; nothing of a secret is told."""
    at = premises(tmp_path, **changes)
    at.adapter("class Boom(Exception): pass\nclass Registry: pass\nraise Boom('very-secret')\n")
    at.secret("treasury.hook", "very-secret")
    told = await refused(Agent(at.setup(), Chosen(at.data, "127.0.0.1:0", 1.0)))
    assert (said in told, "very-secret" in told) == (True, False)


async def test_an_address_that_is_taken(tmp_path: Path) -> None:
    """It says which option names another one."""
    async with running(tmp_path) as agent:
        at = premises(tmp_path / "other")
        taken = agent.agent.address.removeprefix("http://")
        assert "--operations-listen" in await refused(Agent(at.setup(), Chosen(at.data, taken, 1.0)))


def test_the_first_way_that_matches_takes_a_service(tmp_path: Path) -> None:
    """By name, by domain, by everything; or none does."""
    http = {"protocol": "http", "url": "http://127.0.0.1:9"}
    at = premises(
        tmp_path,
        deliveries=[
            {**http, "name": "one", "services": ["permits.construction.v1"]},
            {**http, "name": "two", "services": ["permits.*"], "takes_key": True},
            {**http, "name": "three", "services": ["letters.*"]},
        ],
    )
    takers: Any = {"one": None, "two": None, "three": None}
    route = routing(at.setup(), takers)
    found = {name: route(name) for name in ("permits.construction.v1", "permits.other.v1", "letters.a.v1", "tax.a.v1")}
    assert [each and (each.way.name, each.takes_key) for each in found.values()] == [
        ("one", False),
        ("two", True),
        ("three", False),
        None,
    ]
