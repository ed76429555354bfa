"""The cluster as its operator sees it, and as any Kafka client reads it: nothing here but the story's own words."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError

from deploy.demo.desk import INSTANCE
from gateway.footing import NotStarted

ASKING_SECONDS = 15.0


async def hold_fresh(bootstrap: str) -> None:
    """Refuse to begin where there is no Kafka, or where an earlier story lies. Raises NotStarted."""
    client = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    try:
        async with asyncio.timeout(ASKING_SECONDS):
            await client.start()
            there = sorted(name for name in await client.topics() if name.startswith(f"{INSTANCE}."))
    except (KafkaError, OSError, ValueError) as error:  # a timeout is an OSError
        raise NotStarted(f"No Kafka answers at {bootstrap}: start one with make demo-kafka.") from error
    finally:
        await client.stop()
    if there:
        raise NotStarted(
            f"An earlier demonstration lies on {bootstrap}, in {there[0]}: each tells its own story, so take a fresh "
            "broker (make demo-kafka)."
        )


async def topics(root: Path, bootstrap: str, verb: str) -> tuple[int, str]:
    """`gateway topics`, as an operator types it: its exit code and what it prints."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "topics", verb),
        cwd=root,
        env={
            **others,
            "GATEWAY_CATALOGUE": str(root),
            "GATEWAY_KEYS": str(root / "deploy" / "demo" / "keys"),
            "KAFKA_BOOTSTRAP": bootstrap,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def records(bootstrap: str, topic: str) -> Sequence[ConsumerRecord]:
    """Everything that lies on the topic now, read by a client that belongs to no group and moves nobody's position."""
    client = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    found: list[ConsumerRecord] = []
    try:
        async with asyncio.timeout(ASKING_SECONDS):
            await client.start()
            partitions = client.assignment()
            begins, ends = await client.beginning_offsets(partitions), await client.end_offsets(partitions)
            while len(found) < sum(ends[each] - begins[each] for each in partitions):
                found += [await client.getone()]
    finally:
        await client.stop()
    return found
