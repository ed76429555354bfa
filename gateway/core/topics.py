"""What a Kafka cluster must have for the agencies that read it: topics, access, quotas; and what lies between."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from gateway.core.kafka import Cluster, Share, group, receipts_topic, topic
from gateway.core.model import KAFKA, AgencyId, Catalogue

RETENTION = "retention.ms"
TOPIC, GROUP, BROKERS = "topic", "group", "cluster"
READ, WRITE, DESCRIBE = "Read", "Write", "Describe"


@dataclass(frozen=True, slots=True, order=True)
class Acl:
    """One line of access, as Apache Kafka keeps it."""

    kind: str
    """``topic``, ``group`` or ``cluster``."""
    name: str
    prefixed: bool
    """It speaks of every name that begins so."""
    principal: str
    operation: str
    """As kafka-acls.sh writes it: ``Read``."""
    allowed: bool = True
    host: str = "*"

    def covers(self, kind: str, name: str) -> bool:
        """Whether it speaks of this one, perhaps among others."""
        if self.kind != kind:
            return False
        return self.name in ("*", name) if not self.prefixed else name.startswith(self.name)

    @property
    def words(self) -> str:
        """In a sentence."""
        what = f"{self.kind}s that begin with {self.name}" if self.prefixed else f"{self.kind} {self.name}"
        where = "" if self.host == "*" else f" from {self.host}"
        return f"{self.principal} {'may' if self.allowed else 'must not'} {self.operation} {what}{where}"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it must be."""

    name: str
    agency: AgencyId
    partitions: int
    replication: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a cluster must have."""

    instance: str
    cluster: Cluster
    topics: Mapping[str, Topic]
    acls: frozenset[Acl]
    quotas: Mapping[str, int]
    """By principal, bytes a second that it may read from each broker."""
    readers: Mapping[str, str]
    """By topic, the group that reads it; those that begin with it and a dot are the agency's own too."""

    @property
    def ours(self) -> tuple[tuple[str, str], ...]:
        """What names of topics and groups begin with that are this instance's alone."""
        return (
            (TOPIC, topic(self.instance, "")),
            (TOPIC, receipts_topic(self.instance, "")),
            (GROUP, group(self.instance, "")),
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """A topic as it is."""

    partitions: int
    replication: int
    """Copies of the partition that has the fewest."""
    in_sync: int
    """The same of those that are up to date."""
    leaderless: int
    """Partitions that nobody leads."""
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """What a cluster has."""

    brokers: Mapping[int, Mapping[str, str]]
    """The settings of each broker that is there."""
    topics: Mapping[str, Standing]
    """This instance's, and Kafka's own where positions of groups are kept."""
    acls: frozenset[Acl] | None
    """Of topics, groups and the cluster; None where the cluster asks nobody who he is."""
    quotas: Mapping[str, float]
    """By principal, bytes a second that it may read from each broker."""
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By topic, which groups read it."""
    away: tuple[int, ...] = ()
    """Brokers that the others list and that do not answer: nothing of theirs is known."""


@dataclass(frozen=True, slots=True)
class Make:
    """A topic that is missing."""

    topic: Topic
    takes: bool = False

    @property
    def words(self) -> str:
        """In a sentence."""
        settings = ", ".join(f"{name}={value}" for name, value in self.topic.settings.items())
        copies = f"{self.topic.partitions} partitions, replication {self.topic.replication}"
        return f"create topic {self.topic.name}: {copies}, {settings}"


@dataclass(frozen=True, slots=True)
class Set:
    """A topic's setting that differs."""

    topic: str
    name: str
    was: str | None
    value: str

    @property
    def takes(self) -> bool:
        """Whether records that are kept now would go."""
        return self.name == RETENTION and 0 <= int(self.value) < _milliseconds(self.was)

    @property
    def words(self) -> str:
        """In a sentence."""
        end = ": records older than that go" if self.takes else ""
        return f"set {self.name} of topic {self.topic} to {self.value} (now {self.was or 'unknown'}){end}"


@dataclass(frozen=True, slots=True)
class Allow:
    """Access that is missing."""

    acl: Acl
    takes: bool = False

    @property
    def words(self) -> str:
        """In a sentence."""
        return f"allow: {self.acl.words}"


@dataclass(frozen=True, slots=True)
class Revoke:
    """Access to what is this instance's that nobody needs."""

    acl: Acl
    takes: bool = True

    @property
    def words(self) -> str:
        """In a sentence."""
        return f"revoke: {self.acl.words}"


@dataclass(frozen=True, slots=True)
class Bound:
    """A quota that is missing or differs; one that nobody wrote down, where ``rate`` is None."""

    principal: str
    rate: int | None

    @property
    def takes(self) -> bool:
        """Whether somebody may have set it by hand, for a reason."""
        return self.rate is None

    @property
    def words(self) -> str:
        """In a sentence."""
        if self.rate is None:
            return f"remove the quota of {self.principal}"
        return f"let {self.principal} read {self.rate} bytes a second from each broker, and no more"


Change = Make | Set | Allow | Revoke | Bound


@dataclass(frozen=True, slots=True)
class Difference:
    """What lies between a catalogue and a cluster."""

    changes: tuple[Change, ...]
    """What can be done, in this order."""
    refused: tuple[str, ...]
    """What is wrong and is never changed by a program: a sentence each, with what to do."""
    amiss: tuple[str, ...]
    """What is wrong with the cluster itself, or with others on it; the same."""
    notes: tuple[str, ...]
    """What is as it may be, and worth knowing."""

    @property
    def sound(self) -> bool:
        """Whether the cluster has all it must have, and nothing that it must not."""
        return not (self.changes or self.refused or self.amiss)


def wanted(catalogue: Catalogue, cluster: Cluster) -> Wanted:
    """What the cluster must have for these agencies."""
    instance, layout = catalogue.instance, cluster.layout
    settings = {
        "cleanup.policy": "delete",
        RETENTION: str(int(layout.retention * 1000)),
        "retention.bytes": "-1",
        "max.message.bytes": str(layout.max_bytes),
        "min.insync.replicas": str(layout.min_insync),
        "unclean.leader.election.enable": "false",
        "compression.type": "uncompressed",  # or a few bytes could become any number where they are read
    }
    topics: dict[str, Topic] = {}
    acls: set[Acl] = set()
    quotas: dict[str, int] = {}
    readers: dict[str, str] = {}
    for agency in catalogue.agencies.values():
        ways = [way for way in agency.deliveries if way.protocol == KAFKA]
        if not ways:
            continue
        share, reads = cluster.share(agency.id), group(instance, agency.id)
        names = [topic(instance, agency.id)] if any(way.services for way in ways) else []
        names += [receipts_topic(instance, agency.id)] if any(way.receipts for way in ways) else []
        for name in names:
            topics[name] = Topic(name, agency.id, share.partitions, layout.replication, settings)
            readers[name] = reads
        acls.update(_access(cluster.principal, share, names, reads))
        if share.consume is not None:
            quotas[share.principal] = share.consume
    return Wanted(
        instance=instance, cluster=cluster, topics=topics, acls=frozenset(acls), quotas=quotas, readers=readers
    )


def _access(gateway: str, share: Share, names: list[str], reads: str) -> Iterator[Acl]:
    """Who may do what; a group's prefix ends in a dot, as ``tax`` must not join the group of ``tax_court``."""
    for name in names:
        for operation in (WRITE, DESCRIBE):
            yield Acl(TOPIC, name, prefixed=False, principal=gateway, operation=operation)
        for operation in (READ, DESCRIBE):
            yield Acl(TOPIC, name, prefixed=False, principal=share.principal, operation=operation)
    yield Acl(GROUP, reads, prefixed=False, principal=share.principal, operation=READ)
    yield Acl(GROUP, f"{reads}.", prefixed=True, principal=share.principal, operation=READ)


def in_words(change: Change) -> tuple[str, str]:
    """A sign and a sentence: ``+`` adds, ``~`` changes, ``-`` takes away."""
    match change:
        case Make() | Allow():
            return "+", change.words
        case Set():
            return "-" if change.takes else "~", change.words
        case Bound():
            return "-" if change.takes else "+", change.words
        case Revoke():
            return "-", change.words
    assert_never(change)


def _milliseconds(value: str | None) -> float:
    """A retention; for ever, or unknown, is longer than any other."""
    return float(value) if value is not None and value.isdecimal() else float("inf")
