"""A real cluster that knows who asks, what `gateway topics` makes of it, and what an administrator does by hand."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ConfigResource,
    ConfigResourceType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
)

from deploy.kafka.artefacts import fetched, java
from gateway.catalogue import files
from gateway.core.comparison import difference
from gateway.core.kafka import Cluster, Connection, Layout, Sasl, Share
from gateway.core.model import Agency, AgencyId, Standing, Way
from gateway.core.topics import Difference, Wanted, wanted
from gateway.edge import cluster as edge
from gateway.protocols.kafka_link import client_options
from tests.fakes import brokers
from tests.fakes.brokers import Brokers
from tests.fakes.catalogues import agency, of

USERS = ("gateway", "tax", "tax_court", "other")
PATIENCE = 30.0
LAYOUT = Layout(partitions=2, replication=1, min_insync=1, retention=30 * 86400.0, max_bytes=1_048_576)
QUIET = ("-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
TOOLS = {
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
    "kafka-acls.sh": "org.apache.kafka.tools.AclCommand",
}


@dataclass(frozen=True, slots=True)
class Estate:
    """A cluster with users, and the keys folder with their passwords."""

    brokers: Brokers
    keys: Path

    def connection(self, user: str = "admin") -> Connection:
        sasl = Sasl("SCRAM-SHA-512", user, f"gateway.{user}") if self.brokers.users else None
        tls = {"ca": "gateway.authority"} if self.brokers.authority else None
        return Connection(self.brokers.addresses, tls, sasl)

    def files(self) -> files.Files:
        return files.read(self.keys.parent, self.keys)

    def options(self, user: str) -> dict[str, Any]:
        return dict(client_options(self.connection(user), self.files()))


def estate_of(running: Brokers, folder: Path) -> Estate:
    secrets = folder / "keys" / "secrets"
    secrets.mkdir(parents=True)
    for user, password in running.users.items():
        (secrets / f"gateway.{user}").write_text(f"{password}\n", "utf-8")
    (secrets / "gateway.wrong").write_text("wrong", "utf-8")
    if running.authority is not None:
        (secrets / "gateway.authority").write_bytes(running.authority.read_bytes())
    return Estate(running, folder / "keys")


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """A broker with users and access, which tests share: each has an instance, and principals, of its own."""
    folder = tmp_path_factory.mktemp("guarded")
    with brokers.started(folder / "broker", security="sasl", users=USERS) as running:
        yield estate_of(running, folder)


def reading(name: str) -> Agency:
    way = Way(AgencyId(name), "kafka", "kafka", ("*",), True, None, {}, 5.0, 4, 100, Standing.ACTIVE)
    return replace(agency(name), deliveries=(way,))


def needed(estate: Estate, layout: Layout = LAYOUT, **shares: Share) -> Wanted:
    """What an instance of its own needs for two agencies, one of whose names begins like the other's."""
    instance = f"T{uuid4().hex[:8].upper()}"
    cluster = Cluster(estate.connection(), "User:gateway", layout, shares)
    return wanted(of(reading("tax"), reading("tax_court"), instance=instance), cluster)


def between(estate: Estate, right: Wanted) -> Difference:
    with edge.opened(estate.connection(), estate.files()) as cluster:
        return difference(right, cluster.found(right))


def applied(estate: Estate, right: Wanted) -> None:
    with edge.opened(estate.connection(), estate.files()) as cluster:
        changes = difference(right, cluster.found(right)).changes
        for change in changes:
            cluster.carry_out(change)
        assert cluster.settled(right, changes)


def allow(
    estate: Estate, principal: str, name: str, operation: ACLOperation, kind: ResourceType = ResourceType.TOPIC
) -> None:
    """Until the broker tells of it."""
    pattern = ResourcePattern(kind, name, ACLResourcePatternType.LITERAL)
    line = ACL(principal, "*", operation, ACLPermissionType.ALLOW, pattern)
    with _by_hand(estate) as client:
        client.create_acls([line])
        _until(lambda: bool(client.describe_acls(line)[0]))


def alter(estate: Estate, name: str, settings: dict[str, str]) -> None:
    """Until the broker tells of them."""
    one = ConfigResource(ConfigResourceType.TOPIC, name)

    def told() -> bool:
        now = client.describe_configs([one])["topic"][name]
        return all(now.get(key, {}).get("value") == value for key, value in settings.items())

    with _by_hand(estate) as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=settings)])
        _until(told)


@contextmanager
def _by_hand(estate: Estate) -> Iterator[KafkaAdminClient]:
    client = estate.brokers.admin()
    try:
        yield client
    finally:
        client.close()


def _until(told: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not told():
        assert time.monotonic() < end, "the broker never told of it"


def shell(estate: Estate, text: str, folder: Path) -> str:
    """What a shell says that runs it, with Kafka's own scripts on its path."""
    made = folder / "bin"
    made.mkdir()
    for name, main in TOOLS.items():
        (made / name).write_text(
            f'#!/bin/sh\nexec {java()} {" ".join(QUIET)} -cp "{fetched()}/*" {main} "$@"\n', "utf-8"
        )
        (made / name).chmod(0o755)
    login = folder / "admin.properties"
    password = estate.brokers.users["admin"]
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    login.write_text(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\n"
        f'sasl.jaas.config={module} required username="admin" password="{password}";\n'
    )
    environment = {
        "PATH": f"{made}:{os.environ['PATH']}",
        "KAFKA_BOOTSTRAP": estate.brokers.bootstrap,
        "ADMIN": str(login),
    }
    done = subprocess.run(
        ["/bin/sh"], input=text, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
