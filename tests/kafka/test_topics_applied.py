"""`gateway topics` on real clusters: what it makes, what that lets whom do, and what it says where it cannot."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import TopicPartition
from kafka.admin import ACLOperation, ResourceType

from gateway.catalogue import files
from gateway.commands.kafka_tools import script
from gateway.core.kafka import Connection, Sasl, Share, group, topic
from gateway.core.topics import Acl, Bound, Difference, Revoke, Set, wanted
from gateway.edge import cluster as edge
from gateway.edge.kafka_line import Line
from gateway.protocols.kafka_link import ClusterFailed
from tests.fakes import brokers
from tests.fakes.brokers import Brokers
from tests.fakes.catalogues import of
from tests.fakes.guarded import LAYOUT, Estate, allow, alter, applied, between, estate_of, needed, reading, shell

PATIENCE = 30.0


def test_after_apply_there_is_nothing_to_do(guarded: Estate) -> None:
    """Topics, access and quotas are found as they were made, whatever form names of principals have."""
    right = needed(guarded, tax=Share(f"User:CN=tax-{uuid4().hex[:8]}, O='Tax' Office", 3, 1_500_000))
    before = between(guarded, right)
    assert len(before.changes) == 4 + 20 + 1
    applied(guarded, right)
    assert between(guarded, right) == Difference((), (), (), ())


def test_what_others_set_stays(guarded: Estate) -> None:
    """A setting that differs is set by itself; those that the gateway does not know keep what somebody gave them."""
    right = needed(guarded)
    applied(guarded, right)
    name = topic(right.instance, "tax")
    alter(guarded, name, {"segment.ms": "3600000", "min.insync.replicas": "2"})
    assert between(guarded, right).changes == (Set(name, "min.insync.replicas", "2", "1"),)
    applied(guarded, right)
    with edge.opened(guarded.connection(), guarded.files()) as cluster:
        settings = cluster.found(right).topics[name].settings
    assert (settings["segment.ms"], settings["min.insync.replicas"]) == ("3600000", "1")


def test_a_quota_is_set_changed_and_taken_away(guarded: Estate, tmp_path: Path) -> None:
    """As Kafka's own command shows it, too."""
    user = f"u{uuid4().hex[:8]}"
    right = needed(guarded, tax=Share(f"User:{user}", 2, 1_000_000))
    applied(guarded, right)
    said = shell(
        guarded,
        "kafka-configs.sh --bootstrap-server $KAFKA_BOOTSTRAP --command-config $ADMIN --describe --entity-type users",
        tmp_path,
    )
    assert f"Quota configs for user-principal '{user}' are consumer_byte_rate=1000000.0" in said
    less = replace(right, quotas={f"User:{user}": 2048})
    assert between(guarded, less).changes == (Bound(f"User:{user}", 2048),)
    applied(guarded, less)
    assert between(guarded, replace(right, quotas={})).changes == (Bound(f"User:{user}", None),)
    applied(guarded, replace(right, quotas={}))
    assert between(guarded, replace(right, quotas={})).sound


def test_access_that_nobody_needs_is_taken_away_line_by_line(guarded: Estate) -> None:
    """Exactly that line: another one of the same principal, elsewhere, stays."""
    right = needed(guarded)
    applied(guarded, right)
    mine, elsewhere = topic(right.instance, "tax"), f"elsewhere-{right.instance}"
    allow(guarded, "User:other", mine, ACLOperation.READ)
    allow(guarded, "User:other", elsewhere, ACLOperation.READ)
    line = Acl("topic", mine, prefixed=False, principal="User:other", operation="Read")
    assert between(guarded, right).changes == (Revoke(line),)
    applied(guarded, right)
    assert between(guarded, right).sound
    with edge.opened(guarded.connection(), guarded.files()) as cluster:
        assert replace(line, name=elsewhere) in (cluster.found(right).acls or ())


def test_an_agency_that_rules_the_brokers_is_named(guarded: Estate) -> None:
    """By the line that lets it, which stays."""
    principal = f"User:tax-{uuid4().hex[:8]}"
    right = needed(guarded, tax=Share(principal, 3))
    applied(guarded, right)
    assert between(guarded, right).sound
    allow(guarded, principal, "kafka-cluster", ACLOperation.ALTER, ResourceType.CLUSTER)
    found = between(guarded, right)
    assert (found.changes, len(found.amiss)) == ((), 1)
    assert found.amiss[0].startswith(f"{principal} may Alter cluster kafka-cluster: ")


def test_partitions_are_refused_and_the_rest_is_done(guarded: Estate) -> None:
    """A topic with other partitions stays as it is."""
    right = needed(guarded)
    applied(guarded, right)
    more = replace(right, topics={name: replace(each, partitions=7) for name, each in right.topics.items()})
    found = between(guarded, more)
    assert (found.changes, len(found.refused)) == ((), 4)
    applied(guarded, more)
    assert between(guarded, right).sound


async def test_the_gateway_writes_and_the_agency_reads(guarded: Estate) -> None:
    """With an idempotent producer, which Kafka 4 lets whoever may write to the topic have."""
    right = needed(guarded)
    await asyncio.to_thread(applied, guarded, right)
    name = topic(right.instance, "tax")
    async with producing(guarded, "gateway") as producer:
        await asyncio.wait_for(producer.send_and_wait(name, b"a letter", partition=0), PATIENCE)
    for reader in (group(right.instance, "tax"), f"{group(right.instance, 'tax')}.archive"):
        async with consuming(guarded, "tax", name, reader) as consumer:
            record = await asyncio.wait_for(consumer.getone(), PATIENCE)
            await asyncio.wait_for(consumer.commit({TopicPartition(name, 0): 1}), PATIENCE)
        assert record.value == b"a letter"
    assert (await asyncio.to_thread(between, guarded, right)).sound


async def test_nothing_comes_packed_to_whoever_reads(guarded: Estate) -> None:
    """A few KiB that are megabytes when unpacked are refused by the broker; what fits is read as any other."""
    right = needed(guarded)
    await asyncio.to_thread(applied, guarded, right)
    name = topic(right.instance, "tax")
    packs: dict[str, Any] = {"compression_type": "gzip", "max_request_size": 2**24}
    async with producing(guarded, "gateway", **packs) as producer:
        with pytest.raises(MessageSizeTooLargeError):
            await asyncio.wait_for(producer.send_and_wait(name, bytes(2**23), partition=0), PATIENCE)
        await asyncio.wait_for(producer.send_and_wait(name, bytes(2**19), partition=0), PATIENCE)
    async with consuming(guarded, "tax", name, group(right.instance, "tax")) as consumer:
        kept = await asyncio.wait_for(consumer.getone(), PATIENCE)
    assert kept.value == bytes(2**19)


async def test_nobody_else_writes(guarded: Estate) -> None:
    """Neither an agency to its own topic, nor the gateway to a topic that no agency has."""
    right = needed(guarded)
    await asyncio.to_thread(applied, guarded, right)
    async with producing(guarded, "tax", idempotent=False) as producer:
        with pytest.raises(TopicAuthorizationFailedError):
            await asyncio.wait_for(producer.send_and_wait(topic(right.instance, "tax"), b"x", partition=0), PATIENCE)


@pytest.mark.parametrize("user", ["tax_court", "other", "gateway"])
async def test_nobody_else_reads(guarded: Estate, user: str) -> None:
    """Neither another agency, in a group of its own, nor the gateway itself."""
    right = needed(guarded)
    await asyncio.to_thread(applied, guarded, right)
    own = group(right.instance, user)
    with pytest.raises((TopicAuthorizationFailedError, GroupAuthorizationFailedError)):
        async with consuming(guarded, user, topic(right.instance, "tax"), own) as consumer:
            await asyncio.wait_for(consumer.getone(), PATIENCE)


async def test_no_agency_joins_the_group_of_one_of_a_like_name(guarded: Estate) -> None:
    """``tax`` may not be a member where the agents of ``tax_court`` are."""
    right = needed(guarded)
    await asyncio.to_thread(applied, guarded, right)
    with pytest.raises(GroupAuthorizationFailedError):
        async with consuming(
            guarded, "tax", topic(right.instance, "tax"), group(right.instance, "tax_court")
        ) as consumer:
            await asyncio.wait_for(consumer.getone(), PATIENCE)


async def test_a_group_that_is_not_the_agencys_is_seen(guarded: Estate) -> None:
    """While it reads, and afterwards by the position that it left; its own groups are not named."""
    right = needed(guarded)
    await asyncio.to_thread(applied, guarded, right)
    name, stranger = topic(right.instance, "tax"), f"strangers-{right.instance}"
    async with consuming(guarded, "admin", name, group(right.instance, "tax")):
        async with consuming(guarded, "admin", name, stranger) as consumer:
            await _assigned(consumer)
            reading_now = await asyncio.to_thread(between, guarded, right)
            await asyncio.wait_for(consumer.commit({TopicPartition(name, 0): 0}), PATIENCE)
        afterwards = await asyncio.to_thread(between, guarded, right)
    for found in (reading_now, afterwards):
        assert [each.partition(" and is not")[0] for each in found.amiss] == [
            f"the group {stranger} reads topic {name}"
        ]


def test_whoever_may_not_look_is_told_whom_to_name(guarded: Estate) -> None:
    """The gateway itself may write, and neither list access nor create anything."""
    right = needed(guarded)
    with (
        pytest.raises(ClusterFailed, match=r"^gateway may not .*Name somebody who may with --user"),
        edge.opened(guarded.connection("gateway"), guarded.files()) as cluster,
    ):
        cluster.found(right)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"sasl": Sasl("SCRAM-SHA-512", "gateway", "gateway.wrong")}, "do not take the login of gateway. Correct sasl"),
        ({"sasl": Sasl("SCRAM-SHA-512", "nobody", "gateway.wrong")}, "do not take the login of nobody"),
        (
            {"bootstrap": ("127.0.0.1:1",)},
            "The brokers at 127.0.0.1:1 could not be asked to let us in: 111 ECONNREFUSED",
        ),
        ({"bootstrap": ("no.such.broker.invalid:9092",)}, "could not be asked to let us in: DNS Resolution failure"),
        ({"tls": {}}, "could not be asked to let us in: Handshake failed"),
    ],
)
def test_a_cluster_that_does_not_let_us_in_says_why(guarded: Estate, changed: dict[str, Any], why: str) -> None:
    """In one sentence, with an address and never a password, and at once."""
    said = _refused(replace(guarded.connection(), **changed), guarded.files())
    assert why in said
    assert not any(password in said for password in (*guarded.brokers.users.values(), "wrong"))


def test_a_secret_that_is_missing_is_named(guarded: Estate) -> None:
    """By its name in the keys folder."""
    connection = replace(guarded.connection(), sasl=Sasl("PLAIN", "gateway", "gateway.missing"))
    with (
        pytest.raises(ValueError, match=r"the secret 'gateway.missing' cannot be read"),
        edge.opened(connection, guarded.files()),
    ):
        pass


def test_the_exported_script_makes_the_same(guarded: Estate, tmp_path: Path) -> None:
    """Kafka's own commands leave nothing to do, run twice; names are quoted."""
    right = needed(guarded, tax=Share(f"User:CN=tax-{uuid4().hex[:8]}, O='Tax' Office", 3, 1_500_000))
    small = {topic(right.instance, "tax"): right.topics[topic(right.instance, "tax")]}
    acls = frozenset(each for each in right.acls if each.name in (*small, f"{group(right.instance, 'tax')}."))
    right = replace(right, topics=small, acls=acls, readers={})
    shell(guarded, script(right), tmp_path)
    assert between(guarded, right) == Difference((), (), (), ())
    assert "kafka kafka-topics.sh --create --if-not-exists --topic" in script(right)


def test_a_cluster_without_users_is_for_a_desk(kafka: Brokers, tmp_path: Path) -> None:
    """Topics are made, no access is asked for, and it is said that anybody reads everything."""
    estate = estate_of(kafka, tmp_path)
    right = needed(estate)
    applied(estate, right)
    found = between(estate, right)
    assert (found.sound, found.notes[0].partition(":")[0]) == (True, "nobody logs in to this cluster")
    assert "knows no access" in script(right)


def test_copies_that_no_broker_could_hold_are_told(kafka: Brokers, tmp_path: Path) -> None:
    """What is wrong, before; and in Kafka's own words, where somebody tries it all the same."""
    estate = estate_of(kafka, tmp_path)
    right = needed(estate, replace(LAYOUT, replication=3, min_insync=2))
    found = between(estate, right)
    assert found.amiss[0].startswith("1 broker is there, and each record is to be on 3")
    with pytest.raises(ClusterFailed, match=r"did not create topic .*replication factor"):
        applied(estate, right)


def test_topics_of_an_agency_that_left_are_told(kafka: Brokers, tmp_path: Path) -> None:
    """They stay until a person deletes them."""
    estate = estate_of(kafka, tmp_path)
    right = needed(estate)
    applied(estate, right)
    left = wanted(of(reading("tax"), instance=right.instance), right.cluster)
    assert [each.partition(" is of ")[0] for each in between(estate, left).notes[1:]] == [
        f"topic {right.instance}.{kind}.tax_court" for kind in ("agency", "receipts")
    ]


def test_brokers_that_fall_silent_end_in_a_sentence(tmp_path: Path) -> None:
    """Stopped, so that connections stand and nobody answers: each question has its deadline."""
    with brokers.started(tmp_path / "broker") as own:
        estate = estate_of(own, tmp_path)
        right = needed(estate)
        with Line(estate.connection(), estate.files(), seconds=2) as line:
            assert edge.Cluster(line).found(right).acls is None
            own.pause()
            with pytest.raises(ClusterFailed, match=r"did not answer in 2 s|could not be asked"):
                edge.Cluster(line).found(right)
        own.resume()


async def test_over_tls_the_brokers_are_who_they_say(tmp_path: Path) -> None:
    """With the authority of the keys folder; with the machine's own ones they are strangers."""
    with brokers.started(tmp_path / "broker", security="tls") as own:
        estate = estate_of(own, tmp_path)
        right = needed(estate)
        await asyncio.to_thread(applied, estate, right)
        assert (await asyncio.to_thread(between, estate, right)).sound
        async with producing(estate, "gateway") as producer:
            await asyncio.wait_for(producer.send_and_wait(topic(right.instance, "tax"), b"x"), PATIENCE)
        strangers = replace(estate.connection(), tls={})
        assert "certificate verify failed" in await asyncio.to_thread(_refused, strangers, estate.files())


def _refused(connection: Connection, read: files.Files) -> str:
    """What is said."""
    with pytest.raises(ClusterFailed) as caught, edge.opened(connection, read):
        pass
    return str(caught.value)


@asynccontextmanager
async def producing(
    estate: Estate, user: str, *, idempotent: bool = True, **more: Any
) -> AsyncIterator[AIOKafkaProducer]:
    """As the gateway does, but for what is said."""
    options = await asyncio.to_thread(estate.options, user)
    producer = AIOKafkaProducer(acks="all", enable_idempotence=idempotent, **options, **more)
    try:
        await asyncio.wait_for(producer.start(), PATIENCE)
        yield producer
    finally:
        await asyncio.wait_for(producer.stop(), PATIENCE)


@asynccontextmanager
async def consuming(estate: Estate, user: str, name: str, reader: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A member of a group, from the beginning."""
    options = await asyncio.to_thread(estate.options, user)
    consumer = AIOKafkaConsumer(
        name, group_id=reader, auto_offset_reset="earliest", enable_auto_commit=False, **options
    )
    try:
        await asyncio.wait_for(consumer.start(), PATIENCE)
        yield consumer
    finally:
        await asyncio.wait_for(consumer.stop(), PATIENCE)


async def _assigned(consumer: AIOKafkaConsumer) -> None:
    async with asyncio.timeout(PATIENCE):
        while not consumer.assignment():
            await consumer.getmany(timeout_ms=50)
