"""Whoever reads a topic: a plain consumer without a group, and the cluster as a catalogue would name it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer

from gateway.core.kafka import Cluster, Connection, Layout

PATIENCE = 60.0


def on_topics(*addresses: str, connection: Connection | None = None, max_bytes: int = 1_048_576) -> Cluster:
    """One replica of everything."""
    layout = Layout(partitions=3, replication=1, min_insync=1, retention=86400.0, max_bytes=max_bytes)
    return Cluster(connection or Connection(addresses), "User:gateway", layout)


@asynccontextmanager
async def reading(bootstrap: str, *topics: str, **login: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """Their records, from the first one on."""
    consumer = AIOKafkaConsumer(
        *topics, bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False, **login
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def read_all(bootstrap: str, topic: str, count: int, **login: Any) -> list[Any]:
    """So many records, as soon as they are there."""
    async with reading(bootstrap, topic, **login) as consumer, asyncio.timeout(PATIENCE):
        return [await consumer.getone() for _ in range(count)]
