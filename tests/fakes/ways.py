"""The interior ministry's system, reached by each of the ways: it takes, refuses, fails, or is away, as it is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
from aiohttp import web

from gateway.catalogue.files import NOTHING, Files
from gateway.core import cloudevent, kafka
from gateway.core.kafka import Cluster
from gateway.core.model import Way
from gateway.edge.tasks import cancelled
from tests.fakes import correspondents
from tests.fakes.brokers import Brokers
from tests.fakes.correspondents import REGISTER
from tests.fakes.deliveries import DeliveryTown, declared_in, push
from tests.fakes.links import Link
from tests.fakes.readers import on_topics, reading
from tests.fakes.town import Office, until

ADAPTER = """
import json
from pathlib import Path
from gateway.adapter import Adapter, Broken, Document, TryLater

PLACE = Path({place!r})

class Desk(Adapter):
    async def take(self, document: Document) -> str | None:
        mood = (PLACE / "mood").read_text()
        with (PLACE / "met").open("a") as file:
            file.write(json.dumps([document.id, document.redelivered, document.body, mood]) + "\\n")
        if mood == "away":
            raise TryLater
        if mood == "refuses":
            raise Broken
        if mood == "fails":
            raise OSError("the ledger is locked")
        return None
"""


class Mood(StrEnum):
    """What the system does with what it gets."""

    TAKES = "takes"
    REFUSES = "refuses"
    FAILS = "fails"
    AWAY = "away"


class System:
    """What it met, whatever it made of it."""

    end = "arrived"
    """How far a document comes by itself."""
    topics = "DEMO"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: Files = NOTHING
        self.mood = Mood.TAKES
        self.met: list[tuple[str, bool, Any]] = []
        """Id, whether it was announced as perhaps not the first time, body; of each attempt that reached it."""
        self.taken: list[tuple[str, Any]] = []
        """What it kept."""

    @property
    def cluster(self) -> Cluster | None:
        """That of its topic."""
        return None

    @property
    def way(self) -> Way:
        """As its folder names it."""
        return correspondents.way("interior")

    async def feels(self, mood: Mood) -> None:
        """From now on."""
        self.mood = mood

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Be there."""
        yield

    @asynccontextmanager
    async def working(self, town: DeliveryTown) -> AsyncIterator[None]:  # noqa: ARG002 - one that is pushed to waits
        """Do what has to be done beside."""
        yield

    def note(self, document: str, body: Any, *, again: bool) -> None:
        """It met this."""
        self.met.append((document, again, body))
        if self.mood is Mood.TAKES:
            self.taken.append((document, body))


class Pushed(System):
    """By ``webhook`` or ``http``."""

    protocol = "webhook"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.office = Office()
        self.office.react = self._react

    @property
    def way(self) -> Way:
        return push("interior", self.office.url, self.protocol)

    async def feels(self, mood: Mood) -> None:
        if mood is Mood.AWAY:
            await self.office.shut()
        elif self.mood is Mood.AWAY:
            await self.office.open()
        self.mood = mood

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        await self.office.open()
        try:
            yield
        finally:
            await self.office.shut()

    async def _react(self, request: web.BaseRequest) -> web.StreamResponse:
        said = orjson.loads(await request.read())
        self.read(request, said)
        status = {Mood.TAKES: 200, Mood.REFUSES: 422, Mood.FAILS: 500}[self.mood]
        return web.json_response({}, status=status)

    def read(self, request: web.BaseRequest, said: Any) -> None:  # noqa: ARG002 - the other one looks at headers
        """What came."""
        self.note(said["data"]["id"], said["data"]["body"], again=said["data"]["redelivered"])


class Posted(Pushed):
    """By ``http``."""

    protocol = "http"

    def read(self, request: web.BaseRequest, said: Any) -> None:
        self.note(request.headers["Exchange-Id"], said, again=request.headers["Exchange-Redelivered"] == "?1")


class Coded(System):
    """By an adapter in Python, which lives in the gateway and tells what it met by a file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "mood").write_text(Mood.TAKES)
        (folder / "met").touch()
        self.files = declared_in(folder, adapter=ADAPTER.format(place=str(folder)))

    @property
    def way(self) -> Way:
        return push("interior", protocol="python", options={"class": "Desk"})

    async def feels(self, mood: Mood) -> None:
        (self.folder / "mood").write_text(mood)

    @property
    def met(self) -> list[tuple[str, bool, Any]]:
        return [(document, again, body) for document, again, body, mood in self._lines() if mood != Mood.AWAY]

    @met.setter
    def met(self, _: Any) -> None:
        """Nothing: the file says it."""

    @property
    def taken(self) -> list[tuple[str, Any]]:
        return [(document, body) for document, _, body, mood in self._lines() if mood == Mood.TAKES]

    @taken.setter
    def taken(self, _: Any) -> None:
        """Same."""

    def _lines(self) -> list[Any]:
        return [orjson.loads(line) for line in (self.folder / "met").read_text().splitlines()]


class Fetched(System):
    """By a mailbox, which its own program asks all the time."""

    end = "retrieved"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._there = asyncio.Event()
        self._there.set()
        self._asking = asyncio.Lock()
        self._answers = 0

    async def feels(self, mood: Mood) -> None:
        (self._there.clear if mood is Mood.AWAY else self._there.set)()
        async with self._asking:  # what it asked before has its answer
            self.mood = mood

    async def asked(self) -> None:
        """Wait until it has asked once more and knows what there is."""
        before = self._answers
        await until(lambda: self._answers > before)

    @asynccontextmanager
    async def working(self, town: DeliveryTown) -> AsyncIterator[None]:
        task = asyncio.create_task(self._ask_on(town))
        try:
            yield
        finally:
            await cancelled(task)

    async def _ask_on(self, town: DeliveryTown) -> None:
        while True:
            await self._there.wait()
            async with self._asking:
                await self._ask(town)

    async def _ask(self, town: DeliveryTown) -> None:
        got = await town.say("GET", "/inbox?max=10&wait=1", REGISTER)
        for each in got.body["documents"]:
            self.note(each["id"], each["body"], again=each["redelivered"])
            said = {"outcome": "retrieved", "lease": got.body["lease"]}
            if self.mood is Mood.REFUSES:
                said |= {"outcome": "rejected", "reason": "refused_by_system"}
            answer = await town.say("POST", f"/inbox/{each['id']}", REGISTER, said)
            assert answer.status == 200, answer.body
        self._answers += 1


class Read(System):
    """By its own topic on a real broker, which its own program reads: it looks at ids, and says what became of them.

    It is away when the gateway cannot reach the broker; its own program can all the time.
    """

    end = "retrieved"
    brokers: Brokers

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.topics = f"T{uuid4().hex[:8]}"
        self._link: Link
        self._town: DeliveryTown | None = None
        self._seen: set[str] = set()

    @property
    def way(self) -> Way:
        return correspondents.way("interior", protocol="kafka")

    @property
    def cluster(self) -> Cluster | None:
        return on_topics(f"127.0.0.1:{self._link.port}")

    async def feels(self, mood: Mood) -> None:
        self._link.refusing = mood is Mood.AWAY
        if mood is Mood.AWAY:
            self._link.drop()
            if self._town is not None and self._town.gateway.kafka._publisher is not None:
                await until(lambda: self._town is None or self._town.gateway.kafka.away)
        self.mood = mood

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        await self.brokers.topic(kafka.topic(self.topics, "interior"))
        async with self.brokers.linked() as self._link:
            yield

    @asynccontextmanager
    async def working(self, town: DeliveryTown) -> AsyncIterator[None]:
        self._town = town
        async with reading(self.brokers.bootstrap, kafka.topic(self.topics, "interior")) as records:
            task = asyncio.create_task(self._take(town, records))
            try:
                yield
            finally:
                await cancelled(task)

    async def _take(self, town: DeliveryTown, records: AsyncIterator[Any]) -> None:
        jwks = (await town.ask("GET", "/.well-known/jwks.json")).body
        async for record in records:
            event = cloudevent.read(record.key, record.value, record.headers)
            cloudevent.genuine(event, record.value, jwks, "DEMO", "interior")
            if event.id in self._seen:
                continue
            self._seen.add(event.id)
            self.note(event.id, orjson.loads(record.value), again=event.envelope["redelivered"])
            said = {"outcome": "retrieved"}
            if self.mood is Mood.REFUSES:
                said = {"outcome": "rejected", "reason": "refused_by_system"}
            answer = await town.say("POST", f"/inbox/{event.id}", REGISTER, said)
            assert answer.status == 200, answer.body


WAYS = {"mailbox": Fetched, "webhook": Pushed, "http": Posted, "python": Coded, "kafka": Read}
