"""A consumer of aiokafka as the agent uses it: few questions, each with a deadline of our own, three kinds of no."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)

from gateway.protocols.brokers import unauthorised

WAIT_SECONDS = 0.5
"""That one question for records may wait for them."""
AGENT, READS = "the agent", "read"
"""Who speaks with the brokers here, in what is said of it."""
_NOBODY = -1


class Lost(Exception):
    """The partition belongs to another member of the group by now, or may."""


class Unheld(Exception):
    """Kafka gave no usable answer: nothing is known anew, and it is asked again. One sentence."""


class Died(Exception):
    """The consumer cannot go on: another one takes its place. One sentence."""


class Line:
    """All but ``alive`` raise Lost and Unheld."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, seconds: float) -> None:
        self._consumer = consumer
        self._topic = topic
        self._seconds = seconds

    @property
    def generation(self) -> int | None:
        """Of the group that this consumer belongs to; None: of none."""
        found = int(self._consumer._coordinator.generation)  # noqa: SLF001 - aiokafka shows it nowhere else
        return None if found == _NOBODY else found

    async def begins(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """The first positions that the topic still holds."""
        async with self._asked():
            found = await self._consumer.beginning_offsets([self._there(each) for each in partitions])
        return {there.partition: begin for there, begin in found.items()}

    async def ends(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """The positions of the next records that will be written."""
        async with self._asked():
            found = await self._consumer.end_offsets([self._there(each) for each in partitions])
        return {there.partition: end for there, end in found.items()}

    async def committed(self, partition: int) -> tuple[int | None, str]:
        """The group's position, and what stands beside it: aiokafka's own ``committed`` leaves that out."""
        there = self._there(partition)
        async with self._asked():
            found = await self._consumer._coordinator.fetch_committed_offsets([there])  # noqa: SLF001 - see above
        said = found.get(there)
        return (None, "") if said is None or said.offset < 0 else (said.offset, said.metadata)

    async def commit(self, positions: Mapping[int, int], beside: str) -> None:
        """Write the group's positions."""
        async with self._asked():
            await self._consumer.commit({self._there(each): (at, beside) for each, at in positions.items()})

    async def seek(self, partition: int, position: int) -> None:
        """Go on reading there."""
        async with self._asked():
            self._consumer.seek(self._there(partition), position)

    async def records(self, partition: int, limit: int) -> Sequence["ConsumerRecord[bytes, bytes]"]:
        """Some of those that have been fetched; none after a while in which nothing came.

        Raises LookupError where the topic does not hold the position any more.
        """
        there = self._there(partition)
        async with self._asked(deadline=False):
            try:
                found = await self._consumer.getmany(there, timeout_ms=int(WAIT_SECONDS * 1000), max_records=limit)
            except (OffsetOutOfRangeError, NoOffsetForPartitionError) as error:
                raise LookupError(partition) from error
        records: Sequence[ConsumerRecord[bytes, bytes]] = found.get(there, ())
        return records

    async def alive(self) -> None:
        """Ask for nothing, for a moment: a consumer that is not asked leaves its group. Raises Died."""
        nothing: Any = TopicPartition(self._topic, _NOBODY)
        try:
            await self._consumer.getmany(nothing, timeout_ms=int(WAIT_SECONDS * 1000))
        except KafkaError as error:
            raise Died(f"the consumer has failed: {type(error).__name__}") from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise Died("the consumer's own tasks have ended") from error

    @asynccontextmanager
    async def _asked(self, *, deadline: bool = True) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._seconds if deadline else None):
                yield
        except (CommitFailedError, IllegalStateError) as error:
            raise Lost(type(error).__name__) from error
        except TimeoutError as error:
            raise Unheld(f"Kafka did not answer within {self._seconds:.0f} s") from error
        except KafkaError as error:
            raise Unheld(told(error, self._topic)) from error

    def _there(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)


def told(error: Exception, topic: str) -> str:
    """What Kafka has against us, in a sentence."""
    match error:
        case TopicAuthorizationFailedError():
            return unauthorised(topic, AGENT, READS)
        case GroupAuthorizationFailedError():
            return f"{AGENT} may not join its group: gateway topics plan shows the ACL that is missing"
        case KafkaError():
            return f"Kafka answered with {type(error).__name__}"
        case _:
            return str(error) or type(error).__name__
