"""The Kafka cluster of the catalogue in use, as this process puts documents on it; nothing where there is none."""

import asyncio
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from gateway.catalogue.files import Files
from gateway.core import kafka
from gateway.core.model import KAFKA, Catalogue
from gateway.edge.telemetry import Meters
from gateway.protocols.flights import Record
from gateway.protocols.handover import NotTaken
from gateway.protocols.kafka_link import ClientOptions, client_options

if TYPE_CHECKING:
    from gateway.protocols.publishing import Publisher
    from gateway.protocols.supervision import Link

CLOSE_SECONDS = 2.0
"""What is in flight gets when the process ends; whoever handed it over has had the time of a stop already."""
UNIT = "kafka.yaml"
"""With whose secrets it is connected."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Prepared:
    """How a catalogue's cluster is reached."""

    link: "Link | None" = field(default=None, repr=False)
    """None: there is none, or its secrets cannot be read."""
    seal: bytes = b""
    """Of what the options were made of."""
    wrong: str | None = None
    """Why it is not reached."""


class Kafka:
    """What ways over Kafka hand over to."""

    def __init__(self, instance: str, issuer: str, meters: Meters) -> None:
        self.instance = instance
        self.issuer = issuer
        self._meters = meters
        self._present = Prepared()
        self._publisher: Publisher | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def prepared(self, catalogue: Catalogue, files: Files) -> Prepared:
        """Ready to be adopted."""
        cluster = catalogue.kafka
        if cluster is None:
            return Prepared()
        seal = repr(cluster.connection).encode() + files.seals().get(UNIT, b"")
        known = self._present.link.options if self._present.link and self._present.seal == seal else None
        try:
            link = await asyncio.to_thread(_linked, catalogue, self.instance, files, known)
        except ValueError as error:
            return Prepared(seal=seal, wrong=f"kafka.yaml: {error}")
        return Prepared(link, seal)

    def adopt(self, prepared: Prepared) -> None:
        """Use it from now on. What cannot be connected leaves the last good one in use."""
        if prepared.wrong is not None:
            return
        self._present = prepared
        if self._publisher is not None and prepared.link is None:
            task = asyncio.get_running_loop().create_task(self._publisher.close(CLOSE_SECONDS))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._publisher = None
        elif self._publisher is not None and prepared.link is not None:
            self._publisher.follow(prepared.link)

    async def publish(self, record: Record, seconds: float) -> None:
        """Returns when all replicas that are in sync have it. Raises NotTaken."""
        if self._publisher is None:
            if self._present.link is None:
                raise NotTaken("the catalogue names no Kafka cluster: write kafka.yaml", sent=False, whole=True)
            self._publisher = _publishing().Publisher(self._present.link, self)
        await self._publisher.publish(record, seconds)

    @property
    def away(self) -> bool:
        """It is known that it cannot be reached now."""
        return self._publisher is not None and self._publisher.down is not None

    def complaints(self) -> Mapping[str, str]:
        """What is wrong with it just now, for `/health/ready`; everything else goes on."""
        if self._publisher is None or self._publisher.down is None:
            return {}
        return {"kafka": f"cannot be reached ({self._publisher.down}): documents of agencies that read it wait"}

    def show(self) -> None:
        """At a scrape."""
        records, size = self._publisher.in_flight if self._publisher else (0, 0)
        self._meters.kafka_records.set(records)
        self._meters.kafka_bytes.set(size)

    async def close(self) -> None:
        """Let go of the cluster, within a time."""
        if self._publisher is not None:
            await self._publisher.close(CLOSE_SECONDS)
        await asyncio.gather(*self._closing)

    def reached(self, why: str | None) -> None:
        """The cluster can be reached, or not."""
        self._meters.kafka_up.set(why is None)
        if why is None:
            log.info("kafka_reached")
        else:
            log.warning("kafka_away", why=why)

    def replaced(self, why: str) -> None:
        """A producer was given up."""
        self._meters.child(self._meters.kafka_restarts, why).inc()
        if why != "changed":
            log.warning("kafka_producer_replaced", why=why)

    def failed(self, recipient: str, error: str) -> None:
        """A record was not acknowledged."""
        self._meters.child(self._meters.kafka_errors, recipient, error).inc()

    def acknowledged(self, seconds: float) -> None:
        """A record was."""
        self._meters.kafka_handover.observe(seconds)


def _publishing() -> Any:
    """Loaded where a cluster is named alone: aiokafka takes a process 5 MB and a tenth of a second."""
    return importlib.import_module("gateway.protocols.publishing")


def _linked(catalogue: Catalogue, instance: str, files: Files, options: ClientOptions | None) -> "Link":
    """In a thread: files are read, and modules loaded. Raises ValueError."""
    cluster = catalogue.kafka
    assert cluster is not None  # noqa: S101 - whoever calls has looked
    made = options or client_options(cluster.connection, files)
    link: Link = _publishing().Link(made, cluster.layout.max_bytes, _topics(catalogue, instance))
    return link


def _topics(catalogue: Catalogue, instance: str) -> frozenset[str]:
    found = set()
    for agency in catalogue.agencies.values():
        for way in agency.deliveries:
            if way.protocol == KAFKA and way.services:
                found.add(kafka.topic(instance, agency.id))
            if way.protocol == KAFKA and way.receipts:
                found.add(kafka.receipts_topic(instance, agency.id))
    return frozenset(found)
