"""A consumer of aiokafka as the agent uses it: few questions, each with a deadline of our own, three kinds of no."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, OffsetAndMetadata, TopicPartition
from aiokafka.errors import (
    CorruptRecordException,
    GroupAuthorizationFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
    TopicAuthorizationFailedError,
    UnknownMemberIdError,
    UnsupportedCodecError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from gateway.protocols.brokers import unauthorised

WAIT_SECONDS = 0.5
"""That one question for records may wait for them."""
AGENT, READS = "the agent", "read"
"""Who speaks with the brokers here, in what is said of it."""
PARTITION_BYTES = 1024 * 1024
"""Of one answer with records of one partition; what is larger comes alone."""
_NOBODY = -1
_COMMITTED = 1
_AT_ONCE_MS = 1
_DIVIDED = (IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)
"""Not of the group any more, or not of its present division."""


class Lost(Exception):
    """The partition belongs to another member of the group by now, or may."""


class Unheld(Exception):
    """Kafka gave no usable answer: nothing is known anew, and it is asked again. One sentence."""


class Unreadable(Exception):
    """There is something, and aiokafka can make no records of it. One sentence."""


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

    async def begins(self, partitions: Sequence[int] | None = None) -> Mapping[int, int]:
        """The first positions that the topic still holds; without ``partitions`` of all of them, whoever reads them."""
        wanted = sorted(self._consumer.partitions_for_topic(self._topic) or ()) if partitions is None else partitions
        async with self._asked():
            found = await self._consumer.beginning_offsets([self._there(each) for each in wanted])
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
        return (None, "") if said is None or said.offset < 0 else (said.offset, said.metadata or "")

    async def commit(self, positions: Mapping[int, tuple[int, str]]) -> None:
        """Write the group's positions, and what stands beside each, as a member of this generation, or not at all.

        aiokafka's own ``commit`` waits for its turn and for a coordinator, tries again after what may have been
        passing, and signs each time with the generation of that moment: a position that was late could then be written
        over that of the member which the partition belongs to by now.
        """
        generation, coordinator = self.generation, self._consumer._coordinator  # noqa: SLF001 - see above
        offsets = {self._there(each): OffsetAndMetadata(*at) for each, at in positions.items()}
        async with self._asked():
            await coordinator.ensure_coordinator_known()
            async with coordinator._commit_lock:  # noqa: SLF001 - same
                if generation is None or self.generation != generation:
                    raise Lost("the group was divided anew")
                await coordinator._do_commit_offsets(None, offsets)  # noqa: SLF001 - same

    async def seek(self, partition: int, position: int) -> None:
        """Go on reading there."""
        async with self._asked():
            self._consumer.seek(self._there(partition), position)

    async def records(self, partition: int, limit: int) -> Sequence["ConsumerRecord[bytes, bytes]"]:
        """Some of those that have been fetched; none after a while in which nothing came.

        Raises LookupError where the topic does not hold the position any more, and Unreadable: what could be read in
        front of that comes again.
        """
        there = self._there(partition)
        async with self._asked(deadline=False):
            try:
                found = await self._consumer.getmany(there, timeout_ms=int(WAIT_SECONDS * 1000), max_records=limit)
            except (OffsetOutOfRangeError, NoOffsetForPartitionError) as error:
                raise LookupError(partition) from error
            except (CorruptRecordException, UnsupportedCodecError) as error:
                raise Unreadable(_misread(error)) from error
            except KafkaError:
                raise
            except Exception as error:  # a header's name that is no UTF-8, a stream of gzip that breaks off (A9)
                raise Unreadable(_misread(error)) from error
        records: Sequence[ConsumerRecord[bytes, bytes]] = found.get(there, ())
        return records

    async def unreadable(self, partition: int) -> tuple[range, str]:
        """The positions, from where it stands, of the first batch that cannot be read, and why not.

        aiokafka does not say which one it was. Behind a record that it cannot read, it can read none of the same batch;
        and all of one batch were written by the same hand.
        """
        there = self._there(partition)
        async with self._asked():
            at = await self._consumer.position(there)
            client = self._consumer._client  # noqa: SLF001 - nothing public gives bytes
            asked = [(self._topic, [(partition, at, PARTITION_BYTES)])]
            request = FetchRequest(_AT_ONCE_MS, 1, PARTITION_BYTES, _COMMITTED, asked)
            leader = client.cluster.leader_for_partition(there)
            if leader in (None, _NOBODY):
                raise Unheld("no broker leads the partition just now")
            answer = await client.send(leader, request)
            _, code, *_, raw = answer.topics[0][1][0]
            if code:
                raise for_code(code)
        batches = MemoryRecords(raw)
        while batches.has_next():
            batch = batches.next_batch()
            if wrong := _wrong(batch):
                return range(max(at, batch.base_offset), batch.next_offset), wrong
        raise Unheld("what could not be read is readable after all")

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
        except (IllegalStateError, *_DIVIDED) as error:
            raise Lost(type(error).__name__) from error
        except TimeoutError as error:
            raise Unheld(f"Kafka did not answer within {self._seconds:.0f} s") from error
        except KafkaError as error:
            raise Unheld(told(error, self._topic)) from error

    def _there(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)


def _wrong(batch: Any) -> str | None:
    """Why it cannot be read; None: it can."""
    try:
        if not batch.validate_crc():
            return "its checksum is wrong"
        for _ in batch:
            pass
    except Exception as error:  # noqa: BLE001 - whatever its bytes do to aiokafka
        return _misread(error)
    return None


def _misread(error: Exception) -> str:
    return f"its bytes are no records: {type(error).__name__}"


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
