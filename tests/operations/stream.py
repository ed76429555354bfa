"""A ministry that reads Kafka, beside the stage: a wire to the broker that can be cut, its agent, its own system."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import orjson
from kafka.errors import UnknownTopicOrPartitionError

from deploy.demo.notices import letter
from deploy.demo.papers import LETTER
from gateway.client import GatewayClient, GatewayError, Pace
from tests.fakes import kafka_python
from tests.fakes.agents import Process, Site, agent, command
from tests.fakes.brokers import Brokers
from tests.fakes.kafka_python import Record
from tests.fakes.links import Link
from tests.fakes.town import Office, answers
from tests.operations.stage import Stage
from tests.system.test_serve import PRIVATE, ROOT

WRITER = "justice.correspondence"
MINISTRY, FUND = "finance", "social_security"
"""Both read topics; nobody has made the Fund's."""
PARTITIONS = 12
"""As kafka.yaml has it."""
INSTANCE = "DEMO"
TOPIC = f"{INSTANCE}.agency.{MINISTRY}"

numbers = answers({"register": {"number": "MEF-2026/1"}})
breaks = answers({}, status=500)


@dataclass(frozen=True, slots=True)
class Stream:
    """Everything that a test may touch."""

    stage: Stage
    brokers: Brokers
    link: Link
    registry: Office
    """The ministry's own system."""
    site: Site
    """Where its agent runs."""
    agent: Process
    writer: GatewayClient

    async def write(self, to: str = MINISTRY) -> str:
        """A letter; its id, or nothing where it is not taken."""
        with suppress(GatewayError):
            sent = await self.writer.send(
                *(to, LETTER, letter(1, "Ministry of Economy and Finance")),
                purpose="official_correspondence",
                reference=uuid4().hex,
                scope="letters:send",
            )
            return sent.document
        return ""

    async def forge(self) -> None:
        """Somebody writes to the topic who is not the gateway."""
        forged = Record(0, 0, b"a", orjson.dumps({"subject": "Pay at once"}), (("ce_type", LETTER.encode()),))
        await kafka_python.write(self.brokers.bootstrap, TOPIC, forged)

    async def order(self, *words: str) -> str:
        """What `gateway agent …` prints there."""
        _, told = await command(self.site, *words)
        return told


@asynccontextmanager
async def streaming(stage: Stage, brokers: Brokers, folder: Path) -> AsyncIterator[Stream]:
    """The gateway is told of the broker, over the wire; of the two topics only the ministry's is there."""
    registry = Office()
    registry.react = numbers
    await registry.open()
    await brokers.topic(TOPIC, PARTITIONS)
    try:
        async with (
            brokers.linked() as link,
            GatewayClient(
                stage.environment["GATEWAY_ISSUER"],
                client_id=WRITER,
                key=PRIVATE / f"{WRITER}.jwk.json",
                pace=Pace(attempts=1),
            ) as writer,
        ):
            wire = f"127.0.0.1:{link.port}"
            stage.agree("${KAFKA_BOOTSTRAP}", wire, "kafka.yaml")
            site = _site(folder, stage, registry, wire)
            async with agent(site) as process:
                stage.prometheus.watch(process.operations)
                yield Stream(stage, brokers, link, registry, site, process, writer)
                await process.ended()
            stage.agree(wire, "${KAFKA_BOOTSTRAP}", "kafka.yaml")
    finally:
        await registry.shut()
        await asyncio.to_thread(_tidied, brokers)


def _site(folder: Path, stage: Stage, registry: Office, wire: str) -> Site:
    """What the ministry has of its own; its registry does not look at ids here, so that outcomes can be unknown."""
    private = folder / "keys" / "private"
    private.mkdir(parents=True)
    (folder / "keys" / "secrets").mkdir()
    shutil.copy(PRIVATE / f"{MINISTRY}.agent.jwk.json", private)
    home = folder / "adapters" / MINISTRY
    home.mkdir(parents=True)
    said = (ROOT / "adapters" / MINISTRY / "agent.yaml").read_text("utf-8")
    assert "takes_key: true" in said
    (home / "agent.yaml").write_text(said.replace("takes_key: true", "takes_key: false"), "utf-8")
    own = {"URL": registry.url, "GATEWAY": stage.environment["GATEWAY_ISSUER"], "KAFKA": wire}
    return Site(folder, MINISTRY, {f"{MINISTRY.upper()}_{name}": value for name, value in own.items()})


def _tidied(brokers: Brokers) -> None:
    """The broker is others', too, and some of them want no demonstration on it."""
    client = brokers.admin()
    try:
        ours = [each for each in client.list_topics() if each.startswith(f"{INSTANCE}.")]
        with suppress(UnknownTopicOrPartitionError):
            client.delete_topics(ours)
    finally:
        client.close()
