"""A gateway whose documents go over Kafka, beside exchanges and other ways, under load; counted at both ends."""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
from kafka import KafkaConsumer, TopicPartition

from gateway.core import kafka as topics
from gateway.edge.kafka_line import Sockets
from gateway.edge.tasks import cancelled
from tests.fakes import lookups
from tests.fakes.addressees import Came, Hook, Ledger, Poller, hook
from tests.fakes.brokers import Brokers
from tests.fakes.district import CLERK, HALL, INSTANCE, SENDER, District, Pushed
from tests.fakes.lookups import RECORD, Asker, Times
from tests.fakes.senders import Desk, Reply
from tests.fakes.serving import Node, pause
from tests.fakes.town import Office, answers
from tests.faults.campaign import Campaign, Found, Store

SECONDS = float(os.environ.get("GATEWAY_TEST_CAMPAIGN_SECONDS", "5"))
"""Of each stretch of a campaign; 300 are five minutes of each."""
PATIENCE = 90.0 + SECONDS
"""Seconds for everything to arrive."""
CASES = 3
"""Files that are written at the same time, to each agency."""
BEAT = 0.06
"""Seconds between two documents of a case: what waits while Kafka is away is soon gone."""
WEBHOOK, HTTP = "west", "south"
_OPEN = "select count(*) from deliveries where open"
_ARRIVED = "select document, at from steps where step = 'arrived' and recipient = '{0}' order by seq"


@dataclass(frozen=True, slots=True)
class Panel:
    """What the gateway tells its operators."""

    session: aiohttp.ClientSession
    where: Callable[[], str]

    async def ready(self) -> tuple[int, Any]:
        """What /health/ready says."""
        async with self.session.get(f"{self.where()}/health/ready") as answer:
            return answer.status, await answer.json()

    async def says(self, wanted: str) -> float:
        """Wait until it is ready so, which is never anything but 200; the seconds that it took."""
        begun = time.perf_counter()
        said: Mapping[str, Any] = {}
        async with asyncio.timeout(PATIENCE):
            while said.get("status") != wanted:
                status, said = await self.ready()
                assert status == 200, said
                await pause(0.05)
        return time.perf_counter() - begun

    async def metrics(self) -> Mapping[str, float]:
        """Of the gateway, by name and labels as they are written."""
        async with self.session.get(f"{self.where()}/metrics") as answer:
            lines = (line.rpartition(" ") for line in (await answer.text()).splitlines() if line[:1] != "#")
            return {name: float(value) for name, _, value in lines}


@dataclass(slots=True)
class Harbour:
    """Who takes part."""

    going: Campaign
    kafka: Brokers
    agency: str
    """The one that reads Kafka."""
    asker: Asker
    panel: Panel
    system: Hook | None = None
    """What an agent hands over to, where there is one; else the topic itself is where the others end."""
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    @property
    def topic(self) -> str:
        """Its own."""
        return topics.topic(INSTANCE, self.agency)

    @property
    def node(self) -> Node:
        """The gateway."""
        return self.going.nodes[0]

    def write(self, *, only: str = "") -> None:
        """The load: files of cases to each agency, or to one."""
        for to in (only,) if only else self.going.ledgers:
            for number in range(CASES):
                written = self.going.desk.write(to, f"{to}{number}", self.going.enough, {})
                self.going.writers.append(asyncio.create_task(written))

    async def measured(self, seconds: float) -> "Stretch":
        """What exchanges and other ways met for so long."""
        begun = time.perf_counter()
        await pause(seconds)
        return self.between(begun, time.perf_counter())

    def between(self, begun: float, ended: float) -> "Stretch":
        """Of what began between those moments."""
        asked = [each for each in self.asker.asked if begun <= each.at < ended]
        ways = {}
        for name in (WEBHOOK, HTTP):
            ledger, at = self.going.ledgers[name], self.going.desk.at
            ways[name] = [
                max(0.0, ledger.at[each] - at[each]) for each in ledger.at if begun <= at.get(each, 0) < ended
            ]
        failed = sum(each.status != 200 for each in asked)
        return Stretch(
            Times.of([each.seconds for each in asked]), failed, Times.of(ways[WEBHOOK]), Times.of(ways[HTTP])
        )

    async def full(self) -> Reply:
        """The first answer to one more document for who reads Kafka that is not 202."""
        async with asyncio.timeout(PATIENCE):
            case = ""
            while True:
                case = case or f"more-{uuid4()}"  # the same again, where no answer came
                reply = await self.going.desk.submit(self.agency, f"{case}-0", {"case": case, "n": 0})
                if reply.status not in (202, None):
                    return reply
                case = "" if reply.status else case
                await pause(0.02)

    async def arrived(self) -> list[tuple[str, float]]:
        """Documents that were acknowledged, and when, in that order."""
        rows = await self.going.store._said(_ARRIVED.format(self.agency), write=False)
        return [(str(row[0]), float(row[1])) for row in rows]

    async def flows(self, count: int = 1) -> float:
        """Wait until so many more have arrived; the seconds that it took."""
        begun, before = time.perf_counter(), len(await self.arrived())
        async with asyncio.timeout(PATIENCE):
            while len(await self.arrived()) < before + count:
                await pause(0.05)
        return time.perf_counter() - begun

    async def waiting(self) -> int:
        """Documents that are for the agency's topic, and not there."""
        return await self.going.store.number(f"{_OPEN} and recipient = '{self.agency}'")

    async def dry(self) -> float:
        """No more load; returns when everything is answered and has arrived: the seconds that it took."""
        begun = time.perf_counter()
        self.going.enough.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self.going.writers)
            while await self.going.store.number(_OPEN):
                await pause(0.1)
        return time.perf_counter() - begun

    async def counted(self) -> Found:
        """At both ends, where the topic is the other one."""
        came = await asyncio.to_thread(read, self.kafka.bootstrap, self.topic)
        if self.system is None:
            for each in came:
                self.going.ledgers[self.agency].take(each)
        found = await self.going.counted()
        unread = {document for document, _ in await self.arrived()} - {each.id for each in came}
        assert not unread, f"{len(unread)} documents are said to have arrived, and no reader finds them"
        return found


@dataclass(frozen=True, slots=True)
class Stretch:
    """What everybody else met for a while."""

    exchanges: Times
    failed: int
    webhook: Times
    http: Times

    def __str__(self) -> str:
        return f"exchanges {self.exchanges}, failed {self.failed}; webhook {self.webhook}; http {self.http}"

    def harmed(self, before: "Stretch") -> list[str]:
        """What is far slower than it was, on a machine with other things to do."""
        pairs = {name: (getattr(self, name), getattr(before, name)) for name in ("exchanges", "webhook", "http")}
        return [name for name, (now, then) in pairs.items() if now.late > 4 * then.late + 1.0]


def read(bootstrap: str, topic: str) -> list[Came]:
    """All that lies in a topic, by partition and position, to somebody else's client."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), enable_auto_commit=False, selector=Sockets)
    found: list[Came] = []
    try:
        places = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        ends = consumer.end_offsets(places)
        for place in places:
            consumer.assign([place])
            consumer.seek_to_beginning(place)
            until = time.monotonic() + PATIENCE
            while consumer.position(place) < ends[place]:
                assert time.monotonic() < until, f"{topic} cannot be read"
                for several in consumer.poll(timeout_ms=200).values():
                    found += map(_came, several)
    finally:
        consumer.close()
    return found


def _came(record: Any) -> Came:
    told, body = {name: value.decode() for name, value in record.headers}, orjson.loads(record.value)
    return Came(told["ce_id"], body["case"], body["n"], orjson.loads(told["envelope"])["redelivered"])


@asynccontextmanager
async def harbour(
    folder: Path, kafka: Brokers, *, over: str = "", max_waiting: int = 50_000, system: Hook | None = None
) -> AsyncIterator[Harbour]:
    """One gateway that serves, and nobody who writes yet; ``over``: by which address it reaches Kafka."""
    agency = f"north_{uuid4().hex[:8]}"
    async with AsyncExitStack() as stack:
        west, south = [await stack.enter_async_context(hook()) for _ in range(2)]
        office = Office()
        office.react = answers(RECORD)
        await office.open()
        stack.push_async_callback(office.shut)
        district = District(folder, over or kafka.bootstrap)
        pushed = (Pushed(WEBHOOK, west.url, deadline="10s"), Pushed(HTTP, south.url, "http", deadline="10s"))
        district.found([Pushed(agency, "", "kafka", max_waiting=max_waiting), *pushed])
        _cluster(district, kafka, over)
        lookups.found(district, office.url)
        await kafka.topic(topics.topic(INSTANCE, agency), min_insync_replicas=str(_enough(kafka)))
        own = system.ledger if system is not None else Ledger()
        ledgers = {agency: own, WEBHOOK: west.ledger, HTTP: south.ledger, HALL: Ledger()}
        made = await _served(stack, district, kafka, ledgers)
        made.system = system
        session, desk = made.going.desk.session, made.going.desk
        poller = Poller(session, desk.where, district.token(CLERK), ledgers[HALL])
        made.tasks += [asyncio.create_task(made.asker.go_on()), asyncio.create_task(poller.poll())]
        try:
            yield made
        finally:
            await cancelled(*made.going.writers, *made.tasks)


async def _served(stack: AsyncExitStack, district: District, kafka: Brokers, ledgers: Mapping[str, Ledger]) -> Harbour:
    """The first of the ledgers is that of who reads Kafka."""
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    nodes: list[Node] = []
    desk = Desk(session, lambda: nodes[0].url, district.token(SENDER), beat=BEAT)
    store = Store(f"sqlite:///{district.folder.parent / 'gateway.sqlite3'}")
    going = Campaign(district, store, desk, ledgers, stack, nodes, random.Random(1))
    await going.start()
    panel = Panel(session, lambda: nodes[0].operations)
    return Harbour(going, kafka, next(iter(ledgers)), Asker(session, desk.where, desk.token), panel)


def _enough(kafka: Brokers) -> int:
    """Replicas in sync without which nothing is acknowledged."""
    return 2 if len(kafka.addresses) > 1 else 1


def _cluster(district: District, kafka: Brokers, over: str) -> None:
    layout = {"partitions": 3, "replication": len(kafka.addresses), "min_insync": _enough(kafka)}
    where = [over] if over else list(kafka.addresses)
    district._write("kafka.yaml", {"bootstrap": where, "topics": layout})
