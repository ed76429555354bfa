"""Bad wires under load: between an agent and Kafka, a gateway and Kafka, an agent and its gateway.

Slower, and never wrong: nothing lost, nothing twice for a system that looks at ids, and in order.
``GATEWAY_TEST_CAMPAIGN_SECONDS`` is how long each stretch lasts; the figures of each run are printed (``pytest -rP``).
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fakes.addressees import Hook, hook
from tests.fakes.agents import Process, Site, agent
from tests.fakes.brokers import Brokers
from tests.fakes.links import Link
from tests.fakes.serving import pause
from tests.faults.harbour import PATIENCE, SECONDS, Harbour, harbour

STRETCH = SECONDS / 5
"""Seconds of each of a wire's illnesses."""
SILENCE = max(12.0, STRETCH)
"""Longer than the group waits for a member that says nothing."""
RATE = 64_000
"""Bytes a second; half of it later."""
_UNTOLD = "select count(*) from deliveries where recipient = '{0}' and state <> 'retrieved'"


async def ill(link: Link, silence: float) -> None:
    """Slow, thin, thinner, cut again and again, refused, silent; and well again."""
    link.delay = 0.1
    await pause(STRETCH)
    link.delay, link.rate = 0.0, RATE
    await pause(STRETCH)
    link.rate = RATE / 2
    await pause(STRETCH)
    link.rate = None
    for _ in range(5):
        link.drop()
        await pause(STRETCH / 5)
    link.refusing = True
    link.drop()
    await pause(STRETCH)
    link.refusing = False
    await pause(STRETCH)
    link.flowing.clear()
    await pause(silence)
    link.flowing.set()


@asynccontextmanager
async def attended(at: Harbour, folder: Path, hooked: Hook, kafka: str, gateway: str) -> AsyncIterator[Process]:
    """An agent with its system, over these addresses."""
    at.going.district.kafka = kafka
    site = Site(folder, at.agency)
    way = {"services": ["*"], "protocol": "http", "url": hooked.url, "deadline": "30s", "takes_key": True}
    site.found(at.going.district, gateway, way)
    async with agent(site) as running:
        yield running


async def handed(at: Harbour, count: int) -> None:
    """So many more documents have come to the agency's own system."""
    ledger = at.going.ledgers[at.agency]
    wanted = len(ledger.first) + count
    async with asyncio.timeout(PATIENCE):
        while len(ledger.first) < wanted:
            await pause(0.05)


async def caught_up(at: Harbour) -> float:
    """All that has arrived by now has come to the agency's own system: where an agent began it asks its gateway."""
    begun = time.perf_counter()
    wanted, ledger = {document for document, _ in await at.arrived()}, at.going.ledgers[at.agency]
    async with asyncio.timeout(PATIENCE):
        while wanted - ledger.first.keys():
            await pause(0.05)
    return time.perf_counter() - begun


async def held(at: Harbour, running: Process, *told: str) -> None:
    """Ends the load; all came, and its sender knows; what was counted is right."""
    dry = await at.dry()
    async with asyncio.timeout(PATIENCE):
        while await at.going.store.number(_UNTOLD.format(at.agency)):
            await pause(0.1)
    metrics = await running.metrics()
    named = ("duplicates", "rebalances", "consumer_restarts", "refused", "unreported")
    figures = {name: value for name, value in metrics.items() if any(each in name for each in named) and value}
    found = await at.counted()
    print(*told, f"dry after {dry:.1f} s; {figures}", found.told, sep="\n")  # noqa: T201 - the figures of the run
    assert found.wrong == {}
    ledger = at.going.ledgers[at.agency]
    assert len(ledger.came) == len(ledger.first), "an agent that lives hands nothing over twice"


async def test_an_agent_behind_a_bad_wire(kafka: Brokers, tmp_path: Path) -> None:
    """Its wire to Kafka is ill: it finds back by itself, and its system gets each document once, in order."""
    async with (
        kafka.linked() as link,
        hook() as hooked,
        harbour(tmp_path / "hub", kafka, system=hooked) as at,
        attended(at, tmp_path / "site", hooked, f"127.0.0.1:{link.port}", at.node.url) as running,
    ):
        at.write(only=at.agency)
        await handed(at, 5)
        await ill(link, SILENCE)
        await handed(at, 5)
        await held(at, running, f"{link.connections} connections, {link.passed} bytes")


async def test_a_gateway_behind_a_bad_wire(kafka: Brokers, tmp_path: Path) -> None:
    """The gateway's wire to Kafka is ill: what it repeats has the same id, and the agent hands it over once."""
    async with (
        kafka.linked() as link,
        hook() as hooked,
        harbour(tmp_path / "hub", kafka, over=f"127.0.0.1:{link.port}", system=hooked) as at,
        attended(at, tmp_path / "site", hooked, kafka.bootstrap, at.node.url) as running,
    ):
        at.write(only=at.agency)
        await handed(at, 5)
        await ill(link, max(5.0, STRETCH))
        await at.panel.says("ready")
        await handed(at, 5)
        await held(at, running, f"{link.connections} connections, {link.passed} bytes")


@pytest.mark.parametrize("silent", [False, True])
async def test_an_agent_whose_gateway_is_away(kafka: Brokers, tmp_path: Path, *, silent: bool) -> None:
    """From its start on nothing is handed over unchecked; later its system goes on, and what is owed is told after."""
    async with (
        hook() as hooked,
        harbour(tmp_path / "hub", kafka, system=hooked) as at,
        Link(int(at.node.url.rpartition(":")[2])).running() as link,
    ):
        _away(link, silent=silent)
        at.write(only=at.agency)
        async with attended(at, tmp_path / "site", hooked, kafka.bootstrap, f"http://127.0.0.1:{link.port}") as running:
            await at.flows(20)
            await pause(STRETCH)
            assert hooked.ledger.first == {}
            _back(link)
            began = await caught_up(at)
            _away(link, silent=silent)
            await handed(at, 20)
            await pause(STRETCH)
            health = await running.health()
            owed = await owing(running)
            _back(link)
            await held(at, running, f"began {began:.1f} s after it was back; owed: {owed:.0f}; {health['checks']}")


async def owing(running: Process) -> float:
    """What the agent has to tell; it counts now and then."""
    async with asyncio.timeout(60):
        while not (owed := (await running.metrics())["gateway_agent_unreported"]):
            await pause(0.2)
    return owed


def _away(link: Link, *, silent: bool) -> None:
    if silent:
        link.flowing.clear()
    else:
        link.refusing = True
        link.drop()


def _back(link: Link) -> None:
    link.refusing = False
    link.flowing.set()
