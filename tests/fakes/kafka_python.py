"""A topic as somebody else's client sees it: kafka-python, which has no code in common with the gateway's producer."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from gateway.edge.kafka_line import Sockets

PATIENCE = 30.0


class NoText(str):
    """The name of a header that is no UTF-8: Kafka keeps it, and does not look."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        """What is written."""
        return b"\xff\xfe"


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


async def write(bootstrap: str, topic: str, *several: Record) -> None:
    """Put them there once more, behind what there is in their partition, in one batch."""
    await asyncio.to_thread(_write, bootstrap, topic, several)


def _read(bootstrap: str, topic: str, count: int) -> list[Record]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), enable_auto_commit=False, selector=Sockets)
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


def _write(bootstrap: str, topic: str, several: Sequence[Record]) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap.split(","), linger_ms=60_000, selector=Sockets)
    try:
        sent = [
            producer.send(topic, each.value, key=each.key, headers=list(each.headers), partition=each.partition)
            for each in several
        ]
        producer.flush(timeout=PATIENCE)
        for each in sent:
            each.get(timeout=PATIENCE)
    finally:
        producer.close(timeout=PATIENCE)
