"""A topic as somebody else's client sees it: kafka-python, which has no code in common with the gateway's producer."""

import asyncio
import time
from dataclasses import dataclass

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Record:
    """As it lies there."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    def said(self, name: str) -> str:
        """The one header of that name."""
        (found,) = (value for each, value in self.headers if each == name)
        return found.decode()


async def records(bootstrap: str, topic: str, count: int) -> list[Record]:
    """The first ones of a topic, by partition and position, as soon as there are so many."""
    return await asyncio.to_thread(_read, bootstrap, topic, count)


async def write(bootstrap: str, topic: str, record: Record) -> None:
    """Put it there once more, behind what there is in its partition."""
    await asyncio.to_thread(_write, bootstrap, topic, record)


def _read(bootstrap: str, topic: str, count: int) -> list[Record]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), enable_auto_commit=False)
    found: list[Record] = []
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        end = time.monotonic() + PATIENCE
        while len(found) < count and time.monotonic() < end:
            for several in consumer.poll(timeout_ms=100).values():
                found += (
                    Record(each.partition, each.offset, each.key, each.value, tuple(each.headers)) for each in several
                )
    finally:
        consumer.close()
    assert len(found) >= count, f"{topic} has {len(found)} records after {PATIENCE:.0f} s"
    return sorted(found, key=lambda each: (each.partition, each.offset))


def _write(bootstrap: str, topic: str, record: Record) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap.split(","))
    headers = list(record.headers)
    try:
        sent = producer.send(topic, record.value, key=record.key, headers=headers, partition=record.partition)
        sent.get(timeout=PATIENCE)
    finally:
        producer.close(timeout=PATIENCE)
