"""Holds what a Kafka cluster has against what it must have: what can be changed, what cannot, what endangers it."""

from collections.abc import Iterator

from gateway.core.topics import (
    BROKERS,
    DESCRIBE,
    GROUP,
    TOPIC,
    WRITE,
    Acl,
    Allow,
    Bound,
    Change,
    Difference,
    Found,
    Make,
    Revoke,
    Set,
    Standing,
    Topic,
    Wanted,
)

POSITIONS = "__consumer_offsets"
"""Where Kafka keeps up to where groups have read."""
_HARMLESS = (DESCRIBE, "DescribeConfigs")
"""Whoever may only look at a topic learns nothing of a document."""
_OF_EVERYBODY = (*_HARMLESS, "IdempotentWrite")
"""What anybody may have of the cluster itself: brokers before Kafka 3 ask it of every producer."""


def difference(wanted: Wanted, found: Found) -> Difference:
    """Everything between them."""
    changes = (*_topics(wanted, found), *_acls(wanted, found), *_quotas(wanted, found))
    amiss = (
        *_brokers(wanted, found),
        *_copies(wanted, found),
        *_strangers(wanted, found),
        *_rulers(wanted, found),
        *_groups(wanted, found),
    )
    return Difference(changes, tuple(_refused(wanted, found)), amiss, tuple(_notes(wanted, found)))


def _topics(wanted: Wanted, found: Found) -> Iterator[Change]:
    for name, each in wanted.topics.items():
        standing = found.topics.get(name)
        if standing is None:
            yield Make(each)
            continue
        for key, value in each.settings.items():
            if standing.settings.get(key) != value:
                yield Set(name, key, standing.settings.get(key), value)


def _acls(wanted: Wanted, found: Found) -> Iterator[Change]:
    if found.acls is None:
        return
    for acl in sorted(wanted.acls - found.acls):
        yield Allow(acl)
    for acl in sorted(found.acls - wanted.acls):
        if acl.allowed and acl.operation not in _HARMLESS and _is_ours(wanted, acl):
            yield Revoke(acl)


def _is_ours(wanted: Wanted, acl: Acl) -> bool:
    """Whether it speaks of this instance's topics and groups alone."""
    return any(acl.kind == kind and acl.name.startswith(beginning) for kind, beginning in wanted.ours)


def _quotas(wanted: Wanted, found: Found) -> Iterator[Change]:
    for principal, rate in wanted.quotas.items():
        if found.quotas.get(principal) != rate:
            yield Bound(principal, rate)
    readers = {wanted.cluster.share(each.agency).principal for each in wanted.topics.values()}
    for principal in sorted((readers & found.quotas.keys()) - wanted.quotas.keys()):
        yield Bound(principal, None)


def _refused(wanted: Wanted, found: Found) -> Iterator[str]:
    for name, each in wanted.topics.items():
        standing = found.topics.get(name)
        if standing is None:
            continue
        if standing.partitions != each.partitions:
            yield _partitions(name, each, standing)
        if standing.replication != each.replication:
            yield (
                f"topic {name} has {_copies_of(standing.replication)}, not {each.replication}: move its replicas "
                "with kafka-reassign-partitions.sh, or write that replication in kafka.yaml"
            )


def _partitions(name: str, each: Topic, standing: Standing) -> str:
    return (
        f"topic {name} has {standing.partitions} partitions, not {each.partitions}, and keeps them for life: with "
        f"others, documents of one case would be read out of order. Write {each.agency}: "
        f"{{partitions: {standing.partitions}}} under agencies in kafka.yaml"
    )


def _brokers(wanted: Wanted, found: Found) -> Iterator[str]:
    layout = wanted.cluster.layout
    if wanted.topics and len(found.brokers) < layout.replication:
        yield (
            f"{_brokers_of(len(found.brokers))} there, and each record is to be on {layout.replication}: start the "
            "others, or write topics: {replication: 1, min_insync: 1} into kafka.yaml where one may lose documents; no "
            "topic can be created before"
        )
    for broker in found.away:
        yield f"broker {broker} is in the list and does not answer: start it; what groups it looks after is not known"
    for broker, settings in sorted(found.brokers.items()):
        if settings.get("auto.create.topics.enable") != "false":
            yield (
                f"broker {broker} creates topics by itself: set auto.create.topics.enable=false, or a misspelt one "
                "comes to be, with other partitions and nobody's access"
            )
        yield from _patience(broker, settings.get("offsets.retention.minutes"), layout.retention)
        largest = settings.get("socket.request.max.bytes")
        if largest is not None and int(largest) < layout.max_bytes:
            yield f"broker {broker} takes no request over {largest} bytes: raise socket.request.max.bytes"


def _patience(broker: int, minutes: str | None, retention: float) -> Iterator[str]:
    if minutes is not None and int(minutes) * 60 < retention:
        yield (
            f"broker {broker} forgets after {int(minutes) // 1440} days how far an agency has read, and keeps records "
            f"{retention / 86400:.0f}: set offsets.retention.minutes to {int(retention // 60)} or more"
        )


def _copies(wanted: Wanted, found: Found) -> Iterator[str]:
    layout = wanted.cluster.layout
    for name in wanted.topics:
        standing = found.topics.get(name)
        if standing is None:
            continue
        if standing.leaderless:
            yield f"topic {name}: nobody leads {standing.leaderless} of its partitions; start the brokers that are away"
        elif standing.in_sync < min(layout.min_insync, standing.replication):
            yield (
                f"topic {name}: a partition has {_copies_of(standing.in_sync)} up to date and needs "
                f"{layout.min_insync}; its documents wait until more brokers are there"
            )
    positions = found.topics.get(POSITIONS)
    if positions is not None and positions.replication < layout.replication:
        yield (
            f"{POSITIONS} has {_copies_of(positions.replication)}, not {layout.replication}: with the one that is "
            "lost, agencies forget how far they have read; move it with kafka-reassign-partitions.sh"
        )


def _strangers(wanted: Wanted, found: Found) -> Iterator[str]:
    """Who has access to what is this instance's by lines that speak of more, or is kept from it."""
    if found.acls is None:
        if wanted.topics and wanted.cluster.connection.known:
            yield (
                "the brokers ask nobody whether he may: set authorizer.class.name, or every agency reads what is "
                "another's"
            )
        return
    named = [(TOPIC, name) for name in wanted.topics] + [(GROUP, name) for name in sorted({*wanted.readers.values()})]
    for acl in sorted(found.acls - wanted.acls):
        touched = [name for kind, name in named if acl.covers(kind, name)]
        if not touched:
            continue
        if not acl.allowed:
            yield f"{acl.words}, which beats every permission: remove the line unless it is meant"
        elif acl.operation not in _HARMLESS and not _is_ours(wanted, acl) and not _is_gateways(wanted, acl):
            others = f"{touched[0]} and {len(touched) - 1} more" if len(touched) > 1 else touched[0]
            yield f"{acl.words}, {others} among them: have it narrowed, as no program takes away what speaks of more"


def _rulers(wanted: Wanted, found: Found) -> Iterator[str]:
    """Who should read or write and may rule the cluster: give himself access, make topics, change settings."""
    readers = (wanted.cluster.share(each.agency).principal for each in wanted.topics.values())
    ours = {"User:*", wanted.cluster.principal, *readers}
    for acl in sorted(found.acls or ()):
        if acl.kind == BROKERS and acl.principal in ours and acl.allowed and acl.operation not in _OF_EVERYBODY:
            yield f"{acl.words}: neither the gateway nor an agency rules brokers; remove the line"


def _is_gateways(wanted: Wanted, acl: Acl) -> bool:
    return acl.principal == wanted.cluster.principal and acl.kind == TOPIC and acl.operation == WRITE


def _groups(wanted: Wanted, found: Found) -> Iterator[str]:
    for name, own in wanted.readers.items():
        for reader in sorted(found.groups.get(name, frozenset())):
            if reader != own and not reader.startswith(f"{own}."):
                yield (
                    f"the group {reader} reads topic {name} and is not its agency's agent: end it, or call it "
                    f"{own}.<name>, if it is the agency's own"
                )


def _notes(wanted: Wanted, found: Found) -> Iterator[str]:
    if not wanted.topics:
        yield "no agency of the catalogue comes by Kafka: nothing is needed"
    if found.acls is None and wanted.topics and not wanted.cluster.connection.known:
        yield "nobody logs in to this cluster: whoever reaches it reads and writes everything, and quotas bind nobody"
    beginnings = tuple(beginning for kind, beginning in wanted.ours if kind == TOPIC)
    for name in sorted(found.topics.keys() - wanted.topics.keys()):
        if name.startswith(beginnings):
            yield (
                f"topic {name} is of an agency that does not come by Kafka, or not any more: when it is read to its "
                f"end, delete it with kafka-topics.sh --delete --topic {name}"
            )


def _copies_of(number: int) -> str:
    return "1 copy" if number == 1 else f"{number} copies"


def _brokers_of(number: int) -> str:
    return "1 broker is" if number == 1 else f"{number} brokers are"
