"""A town in which agencies read what is sent to them from topics of a real Kafka, each town an instance of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp

from gateway.core.kafka import receipts_topic, topic
from gateway.core.model import KAFKA, AgencyId, Catalogue, Way
from tests.fakes import correspondents, idp
from tests.fakes.brokers import Brokers
from tests.fakes.correspondents import POLITE, WRITERS, Letters
from tests.fakes.deliveries import DeliveryTown
from tests.fakes.kafka_python import Record, records
from tests.fakes.readers import on_topics
from tests.fakes.town import Office


def stream(agency: str, **more: Any) -> Way:
    """A way over Kafka."""
    return correspondents.way(agency, protocol=KAFKA, **more)


def streams(*ways: Way, **changes: Any) -> Letters:
    """These agencies read from topics; the others have mailboxes."""
    return replace(POLITE, ways={each.agency: (each,) for each in ways}, **changes)


class StreamTown(DeliveryTown):
    """Everything that a test of Kafka may touch."""

    instance: str
    brokers: Brokers

    def declared(self, letters: Letters) -> Catalogue:
        """With the cluster."""
        return replace(super().declared(letters), instance=self.instance, kafka=on_topics(*self.brokers.addresses))

    def topic(self, agency: str) -> str:
        """Where documents for it are."""
        return topic(self.instance, AgencyId(agency))

    def receipts(self, agency: str) -> str:
        """Where receipts for it are."""
        return receipts_topic(self.instance, AgencyId(agency))

    async def lies(self, count: int, agency: str = "interior") -> list[Record]:
        """What lies on its topic, as soon as there is so much."""
        return await records(self.brokers.bootstrap, self.topic(agency), count)


@asynccontextmanager
async def streaming(
    folder: Path,
    brokers: Brokers,
    letters: Letters,
    *,
    first: Letters | None = None,
    made: type[StreamTown] = StreamTown,
    **settings: Any,
) -> AsyncIterator[StreamTown]:
    """The gateway up, with the topics that its catalogue asks for; or, to begin with, another catalogue."""
    keys = {name: idp.key() for name in WRITERS}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        town = made(folder, Office(), idp.keyring(folder / "keys"), keys, session)
        town.instance = town.topics = f"T{uuid4().hex[:12].upper()}"
        town.brokers = brokers
        for way in (way for ways in letters.ways.values() for way in ways if way.protocol == KAFKA):
            await brokers.topic(town.topic(way.agency))
            if way.receipts:
                await brokers.topic(town.receipts(way.agency))
        async with town.serving(first or letters, instance=town.instance, **settings):
            yield town
