"""A town some of whose agencies read Kafka, and what stands on their topics."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from gateway.core import cloudevent, kafka
from gateway.core.cloudevent import Event
from gateway.core.kafka import Cluster
from gateway.core.model import Way
from tests.fakes.brokers import Brokers
from tests.fakes.correspondents import POLITE, Letters, way
from tests.fakes.deliveries import DeliveryTown, delivering
from tests.fakes.readers import on_topics, read_all


def read(agency: str, *services: str, **more: Any) -> Way:
    """Its own topic."""
    return way(agency, *services, protocol="kafka", **more)


def receipts(agency: str) -> Way:
    """The receipts of what it sent, on a topic of their own."""
    return replace(read(agency, name="receipts"), services=(), receipts=True)


def read_by(*ways: Way, cluster: Cluster, **more: Any) -> Letters:
    """These ways, and mailboxes for the others."""
    by: dict[str, tuple[Way, ...]] = {}
    for each in ways:
        by[each.agency] = (*by.get(each.agency, ()), each)
    return replace(POLITE, ways=by, kafka=cluster, **more)


class Topics:
    """Of one town, on a broker that it shares with others."""

    def __init__(self, brokers: Brokers) -> None:
        self.brokers = brokers
        self.instance = f"T{uuid4().hex[:8]}"

    def of(self, way: Way) -> str:
        """The name of its topic."""
        named = kafka.topic if way.services else kafka.receipts_topic
        return named(self.instance, way.agency)

    async def make(self, *ways: Way) -> None:
        """Make theirs."""
        for each in ways:
            await self.brokers.topic(self.of(each))

    async def records(self, way: Way, count: int) -> Sequence[Any]:
        """The first so many, in the order of their time."""
        return sorted(await read_all(self.brokers.bootstrap, self.of(way), count), key=lambda each: each.timestamp)

    async def events(self, town: DeliveryTown, way: Way, count: int) -> Sequence[tuple[Event, bytes]]:
        """The same, believed by a reader that has the gateway's keys alone."""
        jwks = (await town.ask("GET", "/.well-known/jwks.json")).body
        found = []
        for record in await self.records(way, count):
            event = cloudevent.read(record.key, record.value, record.headers)
            cloudevent.genuine(event, record.value, jwks, "DEMO", way.agency)
            found.append((event, record.value))
        return found


@asynccontextmanager
async def reading_town(
    folder: Path, topics: Topics, *ways: Way, bootstrap: str = "", made: bool = True, **more: Any
) -> AsyncIterator[DeliveryTown]:
    """A town with these ways and their topics; not ``made``: without the topics."""
    if made:
        await topics.make(*ways)
    letters = read_by(*ways, cluster=on_topics(*(bootstrap or topics.brokers.bootstrap).split(",")))
    async with delivering(folder, letters, topics=topics.instance, **more) as town:
        yield town
