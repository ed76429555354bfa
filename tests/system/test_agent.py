"""A document sent by HTTP comes over Kafka through an agent into the agency's system, and its number comes back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from tests.fakes import ports
from tests.fakes.agents import Process, Site, agent, command
from tests.fakes.brokers import Brokers
from tests.fakes.depot import digest
from tests.fakes.district import LETTER, SENDER, District, Pushed
from tests.fakes.senders import Desk
from tests.fakes.serving import Node, serving
from tests.fakes.town import Office, after, answers, cuts

PATIENCE = 120.0
"""Seconds for what normally takes one."""
OWED = "gateway_agent_unreported"
ADAPTER = """
from pathlib import Path

from gateway.adapter import Adapter

class Registry(Adapter):
    async def take(self, document):
        sizes = [Path(each.path).stat().st_size for each in document.attachments]
        return f"P-{document.body['n']}-{sum(sizes)}"
"""


@dataclass(slots=True)
class Treasury:
    """An agency with a topic, a gateway, an agent's machine and a system behind it."""

    district: District
    site: Site
    office: Office
    desk: Desk
    database: str
    node: Node | None = None
    _gateways: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def serve(self) -> str:
        """The gateway up; its address."""
        self.node = await self._gateways.enter_async_context(serving(self.district, self.database))
        return self.node.url

    async def shut(self) -> None:
        """The gateway killed."""
        assert self.node
        await self.node.killed()
        await self._gateways.aclose()

    @property
    def url(self) -> str:
        assert self.node
        return self.node.url

    async def send(self, n: int, case: str = "A", **more: Any) -> str:
        """A letter; its id."""
        return await self.desk.send(self.site.agency, f"r-{case}-{n}", {"case": case, "n": n}, **more)

    async def becomes(self, document: str, state: str) -> dict[str, Any]:
        """What its sender sees of it as soon as it stands so."""
        last: Any = None
        try:
            async with asyncio.timeout(PATIENCE):
                while last is None or last["state"] != state:
                    reply = await self.desk.call("GET", f"/v1/documents/{document}", Prefer="wait=1")
                    last = reply.body["recipients"][0] if reply.status == 200 else None
        except TimeoutError:
            said = b"".join(self.node.lines if self.node else ()).decode()
            raise AssertionError(f"{document} is {last}, not {state}\n{said}") from None
        return dict(last)


@pytest.fixture
async def treasury(tmp_path: Path, kafka: Brokers) -> AsyncIterator[Treasury]:
    """Everything but the agent is up."""
    agency = f"treasury_{uuid4().hex[:8]}"
    await kafka.topic(f"DEMO.agency.{agency}", 3)
    district = District(tmp_path / "hub", kafka.bootstrap)
    district.found([Pushed(agency, "", "kafka")])
    office = Office()
    await office.open()
    async with aiohttp.ClientSession() as session:
        desk = Desk(session, lambda: made.url, district.token(SENDER))
        site = Site(tmp_path / "site", agency)
        district.listen = f"127.0.0.1:{ports.free()[0]}"  # the gateway comes back to it
        made = Treasury(district, site, office, desk, f"sqlite:///{tmp_path / 'gateway.sqlite3'}")
        await made.serve()
        yield made
        await made._gateways.aclose()
    await office.shut()


def http(at: Treasury, **more: Any) -> dict[str, Any]:
    return {"services": ["*"], "protocol": "http", "url": f"{at.office.url}/in", "number": "/number", **more}


async def until(holds: Callable[[], Awaitable[bool]], process: Process) -> None:
    """Ask again until it holds."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not await holds():
                pass
    except TimeoutError:
        raise AssertionError("".join(process.lines)) from None


async def test_a_number_comes_back(treasury: Treasury) -> None:
    """HTTP in, topic, agent, the agency's own system, and its register number at the sender."""
    treasury.site.found(treasury.district, treasury.url, http(treasury))
    treasury.office.react = answers({"number": "T-1"})
    async with agent(treasury.site) as running:
        document = await treasury.send(1)
        assert (await treasury.becomes(document, "registered"))["number"] == "T-1"
        (seen,) = treasury.office.seen
        assert (seen.headers["Exchange-Id"], seen.headers["Idempotency-Key"]) == (document, f'"{document}"')
        await until(lambda: counts(running, 'gateway_agent_reports_total{outcome="told"}', 1), running)
        assert await counts(running, f'gateway_agent_handed_over_total{{outcome="registered",service="{LETTER}"}}', 1)
        assert (await running.health())["status"] == "ready"
        assert await running.ended() == 0
        assert any('"agent_stopping"' in line for line in running.lines)


async def test_an_adapter_gets_the_files(treasury: Treasury) -> None:
    """They lie on the agent's disk before the agency's own class is called."""
    way = {"services": ["letters.*"], "protocol": "python", "class": "Registry"}
    treasury.site.found(treasury.district, treasury.url, way, adapter=ADAPTER)
    text = b"of twenty-six characters..."
    async with agent(treasury.site):
        uploaded = await upload(treasury, text)
        document = await treasury.send(7, exchange_attachments=uploaded)
        assert (await treasury.becomes(document, "registered"))["number"] == f"P-7-{len(text)}"
        held = treasury.site.data / "attachments" / document / uploaded
        assert held.read_bytes() == text


async def upload(at: Treasury, text: bytes) -> str:
    """A file of the sender's; its id."""
    url = f"{at.url}/v1/attachments"
    headers = {
        "Authorization": f"Bearer {at.desk.token}",
        "Content-Type": "text/plain",
        "Content-Digest": digest(text),
    }
    async with at.desk.session.post(url, data=text, headers=headers) as answer:
        told = await answer.json()
        assert answer.status == 201, told
        return str(told["attachment"])


async def test_an_outcome_outlives_gateway_and_agent(treasury: Treasury) -> None:
    """The gateway is gone when the system answers, and the agent is killed: it is told after both are back, once."""
    treasury.site.found(treasury.district, treasury.url, http(treasury))
    go = asyncio.Event()
    treasury.office.react = after(go, answers({"number": "T-2"}))
    async with agent(treasury.site) as first:
        document = await treasury.send(1)
        await treasury.office.arrived.acquire()
        await treasury.becomes(document, "arrived")
        await treasury.shut()
        go.set()
        await until(lambda: counts(first, OWED, 1), first)
        await first.killed()
    async with agent(treasury.site) as second:
        await until(lambda: counts(second, OWED, 1), second)
        await treasury.serve()
        assert (await treasury.becomes(document, "registered"))["number"] == "T-2"
    assert len(treasury.office.seen) == 1


async def counts(process: Process, name: str, count: int) -> bool:
    return (await process.metrics()).get(name) == count


async def test_a_person_settles_what_nobody_can_know(treasury: Treasury) -> None:
    """The system may have it: the partition stops, is shown, and goes on by a person's word."""
    treasury.site.found(treasury.district, treasury.url, http(treasury))
    treasury.office.react = cuts
    async with agent(treasury.site) as running:
        first = await treasury.send(1)
        await until(lambda: counts(running, "gateway_agent_unknown", 1), running)
        second = await treasury.send(2)
        code, told = await command(treasury.site, "show")
        assert (code, f"UNKNOWN {first}" in told) == (1, True), told
        assert (await running.health())["status"] == "degraded"
        treasury.office.react = answers({"number": "T-2"})
        why = ("--as", "taken", "--number", "T-1", "--reason", "seen in the register", "--by", "dara")
        assert (await command(treasury.site, "settle", first, *why))[0] == 0
        assert (await treasury.becomes(first, "registered"))["number"] == "T-1"
        assert (await treasury.becomes(second, "registered"))["number"] == "T-2"
        code, told = await command(treasury.site, "show")
        assert (code, "taken by dara" in told, "seen in the register" in told) == (0, True, True), told
    assert [each.headers["Exchange-Id"] for each in treasury.office.seen] == [first, second]


async def test_a_stop_lets_a_hand_over_end(treasury: Treasury) -> None:
    """SIGTERM while the system works: its answer is written and told, and the agent ends with 0 (A20)."""
    treasury.site.found(treasury.district, treasury.url, http(treasury))
    go = asyncio.Event()
    treasury.office.react = after(go, answers({"number": "T-1"}))
    async with agent(treasury.site) as running:
        document = await treasury.send(1)
        await treasury.office.arrived.acquire()
        ending = asyncio.create_task(running.ended())
        await until(lambda: draining(running), running)
        go.set()
        assert await ending == 0
    assert (await treasury.becomes(document, "registered"))["number"] == "T-1"
    async with agent(treasury.site) as again:
        await treasury.becomes(await treasury.send(2), "registered")
        await until(lambda: counts(again, OWED, 0), again)
    assert len(treasury.office.seen) == 2


async def draining(process: Process) -> bool:
    return str((await process.health())["status"]) == "draining"


async def test_a_rejection_reaches_the_sender(treasury: Treasury) -> None:
    """The system's 422 is a coded reason; the documents behind it go on."""
    treasury.site.found(treasury.district, treasury.url, http(treasury))
    treasury.office.react = answers({}, status=422)
    async with agent(treasury.site):
        document = await treasury.send(1)
        assert (await treasury.becomes(document, "rejected"))["reason"] == "refused_by_system"
        treasury.office.react = answers({})
        assert await treasury.becomes(await treasury.send(2), "retrieved")


async def test_what_never_came_is_listed(treasury: Treasury, kafka: Brokers) -> None:
    """The topic was made anew before the agent had read it: it is said what is missing, and to whom it was sent."""
    treasury.site.found(treasury.district, treasury.url, http(treasury))
    lost = await treasury.send(1)
    await treasury.becomes(lost, "arrived")
    topic = f"DEMO.agency.{treasury.site.agency}"
    kafka.run_tool("org.apache.kafka.tools.TopicCommand", "--delete", "--topic", topic)
    await kafka.topic(topic, 3)
    treasury.office.react = answers({})
    assert "No agent has run" in (await command(treasury.site, "missing"))[1]
    async with agent(treasury.site):
        code, told = await command(treasury.site, "missing")
        assert (code, lost in told) == (1, True), told
