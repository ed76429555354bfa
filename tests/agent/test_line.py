"""What the agent asks of aiokafka: a position is written in the division in which it was reached, or not at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer

from gateway.agent.line import Line, Lost
from tests.fakes.brokers import Brokers
from tests.fakes.town import until


@asynccontextmanager
async def member(kafka: Brokers, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Of the group that is called like the topic."""
    consumer = AIOKafkaConsumer(topic, group_id=topic, bootstrap_servers=kafka.bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def test_a13_a_position_that_waited_is_not_written_in_the_next_division(kafka: Brokers) -> None:
    """Its turn comes when another member may hold the partition: it is lost, and what the group knows stays."""
    topic = f"line-{uuid4()}"
    await kafka.topic(topic, partitions=1)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(member(kafka, topic))
        line = Line(one, topic, 60)
        await until(lambda: bool(one.assignment()))
        await line.commit({0: (5, "one")})
        before = line.generation
        async with one._coordinator._commit_lock:
            late = asyncio.create_task(line.commit({0: (3, "one")}))
            await stack.enter_async_context(member(kafka, topic))
            await until(lambda: line.generation not in (before, None))
        with pytest.raises(Lost):
            await late
        assert await line.committed(0) == (5, "one")
