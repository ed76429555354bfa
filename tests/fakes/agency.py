"""An agency with an agent, on a real Kafka: letters that a gateway signed, a system that does as it is told, a hub."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from gateway.agent.member import Member
from gateway.agent.memory import Ledger, opened
from gateway.agent.pace import Pace
from gateway.agent.ports import Answered, Desk, Files, Report, Route, Told, Unreachable
from gateway.protocols.handover import Accepted, Handed, NotTaken
from gateway.protocols.kafka_link import ClientOptions
from tests.fakes import correspondents
from tests.fakes.brokers import Brokers
from tests.fakes.pens import AGENCY, INSTANCE, SERVICE, Letter, Pen

QUICK = Pace(
    session=10.0,
    heartbeat=0.3,
    rebalance=10.0,
    finishing=5.0,
    fresh=4.0,
    commit=0.01,
    look=0.05,
    stalls=1000,
    first=0.01,
    longest=0.05,
    longest_document=0.05,
    again=0.02,
)


class Bell:
    """Rings whenever something happens that a test may wait for."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Something happened."""
        self._rung.set()
        self._rung = asyncio.Event()

    async def until(self, true: Callable[[], object], seconds: float = 120) -> None:
        """Wait for it; not everything rings, so it looks again now and then."""
        async with asyncio.timeout(seconds):
            while not true():
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await self._rung.wait()


@dataclass(frozen=True, slots=True)
class Met:
    """A hand-over, as the system met it."""

    id: str
    n: Any
    again: bool
    attempt: int
    late: int


class System:
    """An agency's own system."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self.met: list[Met] = []
        self.does: Callable[[Handed], Awaitable[Accepted]] = accepts
        self.open = asyncio.Event()
        """Cleared: it works on what it has, and says nothing."""
        self.open.set()
        self.at_once = self.most_at_once = 0

    @property
    def ids(self) -> list[str]:
        """Of all hand-overs, in order."""
        return [each.id for each in self.met]

    @property
    def numbers(self) -> list[Any]:
        """The same by what the letters say."""
        return [each.n for each in self.met]

    async def take(self, handed: Handed) -> Accepted:
        """Meet it, and do what is to be done."""
        told = handed.envelope
        self.met.append(Met(handed.id, handed.body.get("n"), told["redelivered"], told["attempt"], told["late"]))
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        self._bell.ring()
        try:
            await self.open.wait()
            return await self.does(handed)
        finally:
            self.at_once -= 1
            self._bell.ring()

    async def close(self) -> None:
        """Nothing is open."""


async def accepts(handed: Handed) -> Accepted:
    """A system that takes everything."""
    return Accepted()


def fails(**said: Any) -> Callable[[Handed], Awaitable[Accepted]]:
    """A system that takes nothing."""

    async def no(handed: Handed) -> Accepted:
        raise NotTaken("the test's own words", **{"sent": True, "whole": False, **said})

    return no


class Hub:
    """A gateway, as an agent calls it."""

    def __init__(self, pen: Pen, bell: Bell) -> None:
        self._bell = bell
        self.pen = pen
        self.published: Mapping[str, Any] = pen.jwks
        self.states: dict[str, str] = {}
        """Of documents whose state is another one than ``arrived``."""
        self.asked: list[str] = []
        self.reports: list[Report] = []
        self.answers: Answered = Told()
        self.refetched = 0
        self.up = True

    async def keys(self, after: float | None = None) -> Mapping[str, Any]:
        """The keys that it has published."""
        self._answer()
        if after is not None:
            self.refetched += 1
            self.published = self.pen.jwks
        return self.published

    async def state(self, document: str) -> str | None:
        """As it was told."""
        self._answer()
        self.asked.append(document)
        return self.states.get(document, "arrived")

    async def report(self, report: Report) -> Answered:
        """It takes every outcome."""
        self.reports.append(report)
        self._bell.ring()
        return self.answers

    async def arrived(self, after: str | None) -> tuple[Sequence[str], str | None]:  # noqa: ARG002 - the interface's
        """No test of the agent's inner parts asks for it."""
        return (), None

    def _answer(self) -> None:
        self._bell.ring()
        if not self.up:
            raise Unreachable("the gateway cannot be reached")


class Clerk:
    """Tells the hub what the memory holds, as fast as it comes."""

    def __init__(self, ledger: Ledger, hub: Hub) -> None:
        self._ledger = ledger
        self._hub = hub
        self._new = asyncio.Event()
        self.full = False

    def owed(self) -> None:
        """There is something."""
        self._new.set()

    async def run(self) -> None:
        """From now on, and what was left."""
        while True:
            self._new.clear()
            for report in await self._ledger.dues.unreported(100):
                answered = await self._hub.report(report)
                assert not hasattr(answered, "seconds"), "a hub here has one answer or another"
                await self._ledger.dues.reported(report, answered)
            with suppress(TimeoutError):  # somebody else may write there, too
                async with asyncio.timeout(0.1):
                    await self._new.wait()


@dataclass
class Figures:
    """What an agent counts."""

    bell: Bell
    outcomes: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    lags: dict[int, tuple[int, float]] = field(default_factory=dict)
    partitions: Sequence[int] = ()
    rebalances: int = 0
    pauses: dict[int, str | None] = field(default_factory=dict)
    up: bool = True
    restarts: int = 0

    def handed_over(self, service: str, outcome: str, seconds: float) -> None:  # noqa: ARG002 - the interface's
        """Count it."""
        self.outcomes[outcome] += 1
        self.bell.ring()

    def duplicate(self) -> None:
        """Count it."""
        self.duplicates += 1
        self.bell.ring()

    def refused(self, why: str) -> None:
        """Count it."""
        self.refusals[why] += 1
        self.bell.ring()

    def lag(self, partition: int, records: int, age: float) -> None:
        """Comes again and again: whoever waits looks again at least then."""
        self.lags[partition] = (records, age)
        self.bell.ring()

    def assigned(self, partitions: Sequence[int]) -> None:
        """Keep it."""
        self.partitions = partitions
        self.bell.ring()

    def rebalanced(self) -> None:
        """Count it."""
        self.rebalances += 1

    def paused(self, partition: int, why: str | None) -> None:
        """Keep it."""
        self.pauses[partition] = why
        self.bell.ring()

    def system(self, way: str, *, up: bool) -> None:  # noqa: ARG002 - the interface's
        """Keep it."""
        self.up = up

    def restarted(self) -> None:
        """Count it."""
        self.restarts += 1
        self.bell.ring()


@dataclass(frozen=True, slots=True)
class Agent:
    """One that runs."""

    member: Member
    ledger: Ledger
    figures: Figures
    clerk: Clerk


class House:
    """An agency with a topic of its own."""

    def __init__(self, kafka: Brokers, topic: str) -> None:
        self.kafka = kafka
        self.topic, self.group = topic, f"{topic}.agents"
        self.bell = Bell()
        self.pen = Pen()
        self.hub = Hub(self.pen, self.bell)
        self.system = System(self.bell)
        self.takes_key = True
        self.services = [SERVICE]
        self.files: Files = NoFiles()
        self.room = asyncio.Semaphore(8)
        self.producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all", max_request_size=4_000_000)
        self.admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)

    async def send(self, *letters: Letter, partition: int = 0, written: float | None = None) -> None:
        """Records, in order."""
        at = None if written is None else int(written * 1000)
        for each in letters:
            told = {"timestamp_ms": at, "headers": list(each.headers)}
            await self.producer.send_and_wait(self.topic, each.value, each.key, partition, **told)

    async def write(self, *numbers: int, partition: int = 0, **said: Any) -> list[str]:
        """Letters by their numbers; their ids."""
        letters = [self.pen.letter(n, **said) for n in numbers]
        await self.send(*letters, partition=partition)
        return [each.id for each in letters]

    async def committed(self, partition: int = 0) -> int | None:
        """The group's position."""
        found: Mapping[TopicPartition, Any] | None = None
        while found is None:
            with suppress(GroupCoordinatorNotAvailableError):  # a new broker makes the place for positions now
                found = await self.admin.list_consumer_group_offsets(self.group)
        said = found.get(TopicPartition(self.topic, partition))
        return None if said is None or said.offset < 0 else int(said.offset)

    async def commits(self, position: int, partition: int = 0, seconds: float = 120) -> None:
        """Wait until the group stands there."""
        async with asyncio.timeout(seconds):
            while await self.committed(partition) != position:
                pass

    def route(self, service: str) -> Route | None:
        """Everything goes to the one system."""
        way = replace(correspondents.way(AGENCY, protocol="http"), deadline=20.0)
        return Route(way, self.system, self.takes_key, self.room) if service in self.services else None

    @asynccontextmanager
    async def agent(self, memory: Path, pace: Pace = QUICK, grace: float = 10.0) -> AsyncIterator[Agent]:
        """One on this memory; stopped in good order at the end."""
        async with opened(memory) as ledger:
            clerk, figures = Clerk(ledger, self.hub), Figures(self.bell)
            desk = Desk(
                instance=INSTANCE,
                agency=AGENCY,
                memory=ledger.memory,
                places=ledger.places,
                upstream=self.hub,
                files=self.files,
                reporting=clerk,
                route=self.route,
                meters=figures,
                clock=time.monotonic,
            )
            options = ClientOptions(bootstrap_servers=self.kafka.bootstrap.split(","), security_protocol="PLAINTEXT")
            member = Member(options, self.topic, self.group, desk, pace)
            telling, reading = asyncio.create_task(clerk.run()), asyncio.create_task(member.run())
            try:
                yield Agent(member, ledger, figures, clerk)
                await member.stop(grace)
                await reading
            finally:
                telling.cancel()
                reading.cancel()
                await asyncio.gather(telling, reading, return_exceptions=True)


class NoFiles:
    """No letter has any."""

    async def fetched(
        self,
        document: str,  # noqa: ARG002 - the interface's
        attachments: Sequence[Mapping[str, Any]],
    ) -> Sequence[Mapping[str, Any]]:
        """As they are."""
        return attachments

    async def forgotten(self, document: str) -> None:
        """There is nothing to forget."""


class SlowFiles(NoFiles):
    """Letters with files wait for them."""

    def __init__(self) -> None:
        self.asked, self.there = asyncio.Event(), asyncio.Event()

    async def fetched(self, document: str, attachments: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """When they are there."""
        self.asked.set()
        await self.there.wait()
        return await super().fetched(document, attachments)


@asynccontextmanager
async def house(kafka: Brokers, partitions: int = 1) -> AsyncIterator[House]:
    """An agency whose agent has not been started yet."""
    made = House(kafka, f"AG1-{uuid.uuid4()}")
    await kafka.topic(made.topic, partitions)
    await made.producer.start()
    await made.admin.start()
    try:
        yield made
    finally:
        await made.admin.close()
        await made.producer.stop()
