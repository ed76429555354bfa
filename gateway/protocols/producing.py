"""One aiokafka producer from its start to its end, which comes within a time: a producer that is in doubt is thrown
away whole.

What aiokafka 0.14 does by itself, and what is done about it here: it keeps what it could not send for ever, and a
producer that waits for brokers cannot be stopped (its issue 1101); it waits as long as a request may take for a topic
that is not there; it asks for topics in a way that makes them; and while a partition has no leader it asks for one
without a pause.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer, errors
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.metadata import MetadataRequest

from gateway.core.kafka import partition
from gateway.protocols.brokers import CLIENT, Brokers, Unreachable
from gateway.protocols.kafka_link import ClientOptions

START_SECONDS = 5.0
"""What a producer gets to learn the cluster and to get its number."""
LOOK_SECONDS = 2.0
"""What is given to find out whether a topic is there."""
END_SECONDS = 2.0
"""What its tasks get to end, when its connections are closed already."""
REQUEST_SECONDS = 10.0
"""After which a request counts as lost: the connection is made anew, and the same batch is sent again."""
KNOWN_SECONDS = 1800.0
"""After which everything is asked about all topics anew; what changes between is found out by errors. To read what is
said of 1,400 topics with 12 partitions each takes nearly half a second of the event loop."""
MAX_BATCH_BYTES = 262_144
"""Of one batch: a partition has one batch in flight, and a broker one request."""
METADATA_PAUSE = 0.1
"""Seconds between two questions for leaders."""


class _Client(AIOKafkaClient):  # type: ignore[misc] # aiokafka has no types
    """Asks for topics without making them, and with a pause between; and once it has ended, does nothing more."""

    asked = ended = False
    told: Callable[[], None]
    """Called when a connection broke."""

    def _on_connection_closed(self, connection: Any, reason: Any) -> None:
        super()._on_connection_closed(connection, reason)
        if not self.ended:
            self.told()

    def force_metadata_update(self) -> "asyncio.Future[bool]":
        if not self.ended:
            asked: asyncio.Future[bool] = super().force_metadata_update()
            return asked
        told = asyncio.get_running_loop().create_future()
        told.set_result(False)
        return told

    async def _maybe_wait_metadata(self) -> None:
        if not self.ended:
            await super()._maybe_wait_metadata()

    async def _get_conn(self, *node: Any, **more: Any) -> Any:
        return None if self.ended else await super()._get_conn(*node, **more)

    async def _metadata_update(self, cluster_metadata: Any, topics: Collection[str]) -> bool:
        await asyncio.sleep(METADATA_PAUSE if self.asked else 0.0)
        self.asked = True
        request = MetadataRequest(list(topics), allow_auto_topic_creation=False)
        nodes = [broker.nodeId for broker in self.cluster.brokers()]
        for node in random.sample(nodes, len(nodes)):
            connection = await self._get_conn(node)
            if connection is None:
                continue
            with contextlib.suppress(errors.KafkaError, TimeoutError):
                answer = await connection.send(request)
                if answer.brokers:
                    cluster_metadata.update_metadata(answer)
                    return True
        cluster_metadata.failed_update(None)
        return False


class Session:
    """A producer, and the questions that are asked beside it."""

    def __init__(self, options: ClientOptions, max_bytes: int) -> None:
        """``max_bytes`` of the largest record."""
        # they quote keys and values where DEBUG is on; what matters of the rest is said by whoever uses a session
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        self._options = options
        self._max_bytes = max_bytes
        self._producer: Any = None
        self.brokers = Brokers(options)

    async def open(self, broken: Callable[[], None]) -> None:
        """Ready to send; ``broken`` is called whenever a connection has broken. Raises Unreachable."""
        await self.brokers.ask((), LOOK_SECONDS)
        servers = self._options["bootstrap_servers"]
        options = {**self._options, "bootstrap_servers": random.sample(servers, len(servers))}
        self._producer = AIOKafkaProducer(
            **options,
            client_id=CLIENT,
            acks="all",
            enable_idempotence=True,
            max_batch_size=min(MAX_BATCH_BYTES, self._max_bytes),
            max_request_size=self._max_bytes,
            request_timeout_ms=int(REQUEST_SECONDS * 1000),
            metadata_max_age_ms=int(KNOWN_SECONDS * 1000),
        )
        self._producer.client.__class__ = _Client  # aiokafka makes its client itself
        self._producer.client.told = broken
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._producer.start()
        except TimeoutError as error:
            raise Unreachable(f"the brokers give no number to a producer within {START_SECONDS:.0f} s") from error
        except errors.ClusterAuthorizationFailedError as error:
            raise Unreachable("the gateway may write to no topic: gateway topics plan shows the ACLs") from error
        except (OSError, errors.KafkaError) as error:
            raise Unreachable(f"a producer cannot be started: {type(error).__name__}") from error

    @property
    def sound(self) -> bool:
        """Its sender runs: after a fatal error every record would fail."""
        task = self._producer._sender.sender_task  # noqa: SLF001 - nothing else tells of it before the next record
        return task is not None and not task.done()

    def knows(self, topic: str) -> bool:
        """It was there when it was looked at."""
        return self._producer.client.cluster.partitions_for_topic(topic) is not None

    async def look(self, topics: Sequence[str]) -> Mapping[str, str]:
        """What stands against each of the topics; the producer knows the others from now on. Raises Unreachable.

        Nothing stands against any where it ends meanwhile: it knows no more than before, and another one is asked.
        """
        try:
            against = await self.brokers.ask(topics, LOOK_SECONDS)
            there = {each for each in topics if each not in against}
            await self._read(there)
        except Unreachable:
            if self._producer is not None:
                raise
        if self._producer is None:
            return {}
        unknown = {each: f"nobody leads the topic {each}" for each in there if not self.knows(each)}
        return {**against, **unknown}

    async def _read(self, topics: Collection[str]) -> None:
        """Have the producer learn where they are."""
        if self._producer is None or all(self.knows(each) for each in topics):
            return
        client = self._producer.client
        client.set_topics({*client._topics, *topics})  # noqa: SLF001 - there is no other way to read them
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await client.force_metadata_update()

    async def send(
        self, topic: str, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]], *, alone: bool = False
    ) -> "asyncio.Future[Any]":
        """On its way, in the order of the calls; the future is done when all replicas have it.

        ``alone``: no other record shares its batch. Raises errors of aiokafka, and then it is not on its way.
        """
        producer, headers = self._producer, list(headers)
        of_lane = partition(key, len(producer.client.cluster.partitions_for_topic(topic)))
        if not alone:
            sent: asyncio.Future[Any] = await producer.send(
                topic, value=value, key=key, partition=of_lane, headers=headers
            )
            return sent
        batch = producer.create_batch()
        batch.append(timestamp=None, key=key, value=value, headers=headers)
        batch.close()
        sent = await producer.send_batch(batch, topic, partition=of_lane)
        return sent  # noqa: RET504 - it has no type before

    async def end(self) -> None:
        """Within END_SECONDS, whatever the brokers do. What was not acknowledged fails, and is not sent any more."""
        self.brokers.close()
        producer, self._producer = self._producer, None
        if producer is None:
            return
        # none of it can be reached otherwise; what is still in a buffer must not leave any more
        producer._closed = producer._message_accumulator._closed = producer.client.ended = True  # noqa: SLF001 - same
        client, tasks = producer.client, (producer._sender.sender_task, producer.client._sync_task)  # noqa: SLF001 - same
        for connection in tuple(client._conns.values()):  # noqa: SLF001 - same
            if connection._writer is not None:  # noqa: SLF001 - same
                connection._writer.transport.abort()  # noqa: SLF001 - same
            connection.close()
        asked = client._md_update_fut  # noqa: SLF001 - same
        if asked is not None and not asked.done():
            asked.set_result(False)
        going = {task for task in tasks if task is not None and not task.done()}
        for task in going:
            task.cancel()
        for _ in range(2):  # the second time the sender passes it on to the task for which it waits
            if going:
                _, going = await asyncio.wait(going, timeout=END_SECONDS / 2)
            for task in going:
                task.cancel()
        _failed(producer._message_accumulator)  # noqa: SLF001 - same


def _failed(accumulator: Any) -> None:
    """Every record that waits has failed; aiokafka expects batches that it has sent before to be in flight then."""
    waiting = [batch for batches in accumulator._batches.values() for batch in batches]  # noqa: SLF001 - as above
    accumulator._pending_batches.update(waiting)  # noqa: SLF001 - same
    accumulator.fail_all(errors.ProducerClosed())
    for batch in waiting:
        batch._drain_waiter.exception()  # noqa: SLF001 - same: nobody else looks at it, and asyncio would complain
