"""The Kafka cluster on which documents are handed over: its topics and groups by name, their layout, who reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from struct import iter_unpack

MAX_HEADER_BYTES = 65_536
"""Bytes of a record that its headers and its key may take beside the body."""
_SEED, _MIX, _BITS = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF
AWAY = "Kafka cannot be reached"
"""With what the reason of a gate begins that opens when the cluster is back, and not by a probe."""


@dataclass(frozen=True, slots=True)
class Sasl:
    """Who logs in (RFC 4422)."""

    mechanism: str
    """``PLAIN``, ``SCRAM-SHA-256`` or ``SCRAM-SHA-512`` (RFC 7677)."""
    username: str
    password: str
    """The name of a secret in the keys folder."""


@dataclass(frozen=True, slots=True)
class Connection:
    """How a cluster is reached."""

    bootstrap: tuple[str, ...]
    """``host:port`` of some of its brokers."""
    tls: Mapping[str, str] | None = None
    """Names of a certificate and of authorities in the keys folder, as for a way; None: not encrypted."""
    sasl: Sasl | None = None
    unencrypted: bool = False
    """Somebody wrote that it is, so that other addresses than loopback may be used without TLS."""

    @property
    def known(self) -> bool:
        """Whether the brokers know who speaks to them: by a password or a certificate."""
        return self.sasl is not None or "client" in (self.tls or {})


@dataclass(frozen=True, slots=True)
class Layout:
    """How the agencies' topics are kept."""

    partitions: int
    """Fixed for the life of a topic: a lane must never change its partition."""
    replication: int
    min_insync: int
    retention: float
    """Seconds that records are kept."""
    max_bytes: int
    """Bytes that the largest batch of one record may have (``max.message.bytes``)."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one agency has of the cluster."""

    principal: str
    """Who reads its topics, as the brokers know it: ``User:treasury``."""
    partitions: int
    consume: int | None = None
    """Bytes a second that it may read; None: no bound."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What ``kafka.yaml`` says."""

    connection: Connection
    principal: str
    """The gateway's own."""
    layout: Layout
    shares: Mapping[str, Share] = field(default_factory=dict)
    """The agencies that differ from the rest."""

    def share(self, agency: str) -> Share:
        """What the agency has."""
        return self.shares.get(agency) or Share(f"User:{agency}", self.layout.partitions)

    @property
    def largest_body(self) -> int:
        """Bytes that a document for a way over Kafka may have."""
        return self.layout.max_bytes - MAX_HEADER_BYTES


def topic(instance: str, agency: str) -> str:
    """Where documents and events for the agency are handed over."""
    return f"{instance}.agency.{agency}"


def receipts_topic(instance: str, agency: str) -> str:
    """Where the agency gets the receipts of what it sent."""
    return f"{instance}.receipts.{agency}"


def partition(key: bytes, partitions: int) -> int:
    """Where a record with this key lies, as Kafka's own clients choose it (murmur2 of the key, the sign cut off)."""
    whole = len(key) // 4
    found = _SEED ^ len(key)
    for (word,) in iter_unpack("<I", key[: 4 * whole]):
        mixed = word * _MIX & _BITS
        found = found * _MIX & _BITS ^ (mixed ^ mixed >> 24) * _MIX & _BITS
    if rest := key[4 * whole :]:
        found = (found ^ int.from_bytes(rest, "little")) * _MIX & _BITS
    found = (found ^ found >> 13) * _MIX & _BITS
    return ((found ^ found >> 15) & 0x7FFFFFFF) % partitions


def group(instance: str, agency: str) -> str:
    """The consumer group of the agency's agents: it follows from both names and is no setting."""
    return f"{instance}.agent.{agency}"
