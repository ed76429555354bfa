"""What the documents' benchmark measures at Kafka: a bare producer beside the gateway, and an agency's agent."""

import asyncio
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.kafka.artefacts import NotThere, fetched, java
from deploy.kafka.broker import started
from tests.benchmarks.callers import CONNECTIONS
from tests.benchmarks.contenders import processor_seconds
from tests.benchmarks.post_stage import BODY, KAFKA, PARTITIONS, SITE, Serving, agent, surroundings

TOPIC = "bare"
PATIENCE = 120.0
"""Seconds for everything to be fetched."""


@contextmanager
def broker(folder: Path) -> Iterator[str | None]:
    """The address of a broker that runs; None where there is no Java or Maven."""
    with ExitStack() as stack:
        address = None
        try:
            java()
            fetched()
        except NotThere as error:
            print(f"nothing of Kafka: {error}")
        else:
            address = stack.enter_context(started(folder))
        yield address


class BareProducer:
    """What the field would write: one aiokafka producer, with the promises that the gateway's makes."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self.costs: list[float] = []
        """Microseconds of processor time for each record, by round."""

    async def open(self) -> None:
        """Its topic."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])
        await admin.close()

    async def burst(self, count: int) -> None:
        """So many records, as many at once as there are connections; each is waited for."""
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all", enable_idempotence=True)
        await producer.start()
        left = count

        async def going() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await producer.send_and_wait(TOPIC, BODY, key=str(left).encode())

        before = time.process_time()
        await asyncio.gather(*(going() for _ in range(CONNECTIONS)))
        self.costs.append((time.process_time() - before) / count * 1e6)
        await producer.stop()


@contextmanager
def _fetching(gateway: Serving, bootstrap: str) -> Iterator[int]:
    """An agent's process."""
    command = agent(gateway.folder, f"http://127.0.0.1:{gateway.port}", bootstrap)
    with (gateway.folder / "agent.txt").open("wb") as log:
        environment = {**surroundings(gateway.folder), "GATEWAY_KEYS": str(gateway.folder / SITE)}
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)  # noqa: S603 - ours
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


async def agents_work(gateway: Serving, bootstrap: str) -> None:
    """One agent takes all that lies in the topic and reports it: how many a second, and what each costs it."""
    database = f"file:{gateway.folder / 'gateway.sqlite3'}?mode=ro"
    with _fetching(gateway, bootstrap) as pid, closing(sqlite3.connect(database, uri=True)) as reader:
        count, begun = await _told(reader, 1), time.perf_counter()
        spent = processor_seconds(pid)
        lying = reader.execute("select count(*) from deliveries where recipient = ?", (f"office_{KAFKA}",))
        rest = lying.fetchone()[0] - count
        await _told(reader, count + rest)
        took = time.perf_counter() - begun
        cost = (processor_seconds(pid) - spent) / rest * 1e6
    print(f"agent, topic to outcome  {cost:6.0f} us a document, {rest / took:6.0f} a second")


async def _told(reader: sqlite3.Connection, least: int) -> int:
    """Wait until the gateway knows the outcome of so many; how many it knows."""
    select = "select count(*) from deliveries where recipient = ? and state = 'retrieved'"
    end = time.perf_counter() + PATIENCE
    while (told := reader.execute(select, (f"office_{KAFKA}",)).fetchone()[0]) < least:
        if time.perf_counter() > end:
            raise TimeoutError(f"the agent has told of {told} of {least}")
        await asyncio.sleep(0.01)
    return int(told)
