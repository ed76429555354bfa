"""What a cluster must have, as Apache Kafka's own commands: for clusters that others look after."""

import shlex
from collections.abc import Iterable, Iterator

from gateway.core.topics import GROUP, Acl, Wanted

_HEAD = """\
#!/bin/sh
# What the gateway of the instance {instance} needs on its Kafka cluster: topics, access, quotas. It may be run again.
# Written by gateway topics export; gateway topics check says afterwards whether all is there.
set -eu
: "${{KAFKA_BOOTSTRAP:?is to be host:port of some brokers}}"
# ADMIN may name a file with who runs this (security.protocol, sasl.jaas.config, ...).
kafka() {{
  tool="$1"; shift
  "$tool" --bootstrap-server "$KAFKA_BOOTSTRAP" ${{ADMIN:+--command-config "$ADMIN"}} "$@"
}}
"""


def script(wanted: Wanted) -> str:
    """A shell script, complete in itself."""
    lines = [*_topics(wanted), *_access(wanted), *_quotas(wanted)]
    return _HEAD.format(instance=wanted.instance) + "".join(f"{line}\n" for line in lines)


def _topics(wanted: Wanted) -> Iterator[str]:
    """A topic that is there keeps its partitions; its settings are set either way."""
    for name, topic in wanted.topics.items():
        settings = ",".join(f"{key}={value}" for key, value in topic.settings.items())
        made = ("--partitions", str(topic.partitions), "--replication-factor", str(topic.replication))
        yield _line(["kafka-topics.sh", "--create", "--if-not-exists", "--topic", name, *made])
        of = ("--entity-type", "topics", "--entity-name", name)
        yield _line(["kafka-configs.sh", "--alter", *of, "--add-config", settings])


def _access(wanted: Wanted) -> Iterator[str]:
    if not wanted.cluster.connection.known:
        yield "# Nobody logs in to this cluster (kafka.yaml: no sasl, no client certificate): it knows no access."
        return
    together: dict[tuple[str, str, bool, str], list[Acl]] = {}
    for acl in sorted(wanted.acls):
        together.setdefault((acl.kind, acl.name, acl.prefixed, acl.principal), []).append(acl)
    for (kind, name, prefixed, principal), acls in together.items():
        may = [word for acl in acls for word in ("--operation", acl.operation)]
        pattern = ("--resource-pattern-type", "prefixed") if prefixed else ()
        what = "--group" if kind == GROUP else "--topic"
        yield _line(["kafka-acls.sh", "--add", "--allow-principal", principal, *may, what, name, *pattern])


def _quotas(wanted: Wanted) -> Iterator[str]:
    for principal, rate in wanted.quotas.items():
        who = ("--entity-type", "users", "--entity-name", principal.removeprefix("User:"))
        yield _line(["kafka-configs.sh", "--alter", *who, "--add-config", f"consumer_byte_rate={rate}"])


def _line(words: Iterable[str]) -> str:
    return shlex.join(("kafka", *words))
