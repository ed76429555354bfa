"""The brokers that everything of Kafka is tested on, and the settings that our promises need of them."""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError
from kafka.admin import ConfigResource, ConfigResourceType

from deploy.kafka import settings
from deploy.kafka.broker import Broker, Unready
from tests.fakes import brokers
from tests.fakes.brokers import Brokers

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
OURS = {
    *("controller.quorum.bootstrap.servers", "listeners", "advertised.listeners", "log.dirs"),
    *("listener.security.protocol.map", "ssl.keystore.location", "ssl.truststore.location"),
}
"""What brokers on this machine have otherwise than the files."""
AUTHORIZERS = {"super.users", "allow.everyone.if.no.acl.found"}
"""The authorizer reads these itself, and Kafka tells nobody; whom it lets in, tests below show."""


@asynccontextmanager
async def producing(bootstrap: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """Acknowledged by all, as the gateway has it."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", request_timeout_ms=5000, **options)
    try:
        await asyncio.wait_for(producer.start(), PATIENCE)
        yield producer
    finally:
        await asyncio.wait_for(producer.stop(), PATIENCE)


async def kept(bootstrap: str, topic: str, count: int, **options: Any) -> list[bytes]:
    """The first values of the topic's only partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, **options)
    await asyncio.wait_for(consumer.start(), PATIENCE)
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        async with asyncio.timeout(PATIENCE):
            return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


def login(own: Brokers, user: str) -> dict[str, Any]:
    """As aiokafka wants it."""
    given: dict[str, Any] = dict(own.login(user))
    authority = given.pop("ssl_cafile", None)
    return {**given, "ssl_context": ssl.create_default_context(cafile=authority)} if authority else given


async def new_topic(at: Brokers, **config: str) -> str:
    """With one partition."""
    name = f"test.{uuid4()}"
    await at.topic(name, 1, **config)
    return name


async def test_the_shared_broker_keeps_what_it_acknowledged(kafka: Brokers) -> None:
    """It is a real one: what is written is read."""
    topic = await new_topic(kafka)
    async with producing(kafka.bootstrap) as producer:
        await producer.send_and_wait(topic, b"one")
    assert await kept(kafka.bootstrap, topic, 1) == [b"one"]


async def test_a_topic_does_not_come_by_itself(kafka: Brokers) -> None:
    """Whoever names one that is not there gets an error and no topic."""
    async with producing(kafka.bootstrap) as producer:
        with pytest.raises((KafkaError, TimeoutError)):
            await asyncio.wait_for(producer.send_and_wait("test.mistyped", b"one"), 2)
    there = await asyncio.to_thread(kafka.run_tool, "org.apache.kafka.tools.TopicCommand", "--list")
    assert "test.mistyped" not in there


async def test_over_a_link_every_byte_passes_it(kafka: Brokers) -> None:
    """The broker tells its clients to come back over the link; after a cut they do so again."""
    topic = await new_topic(kafka)
    async with kafka.linked() as link, producing(f"127.0.0.1:{link.port}") as producer:
        await producer.send_and_wait(topic, b"x" * 50_000)
        assert link.passed > 50_000
        before = link.connections
        link.drop()
        await asyncio.wait_for(producer.send_and_wait(topic, b"again"), PATIENCE)
        assert link.connections > before
    assert len(await kept(kafka.bootstrap, topic, 2)) == 2


async def test_nothing_comes_through_a_silent_link(kafka: Brokers) -> None:
    """Until it flows again."""
    topic = await new_topic(kafka)
    async with kafka.linked() as link, producing(f"127.0.0.1:{link.port}") as producer:
        await producer.send_and_wait(topic, b"one")
        link.flowing.clear()
        sent = asyncio.ensure_future(producer.send_and_wait(topic, b"two"))
        done, _ = await asyncio.wait({sent}, timeout=0.3)
        assert not done
        link.flowing.set()
        await asyncio.wait_for(sent, PATIENCE)


async def test_a_slow_link_is_slow(kafka: Brokers) -> None:
    """Each answer comes later by the delay of both directions."""
    topic = await new_topic(kafka)
    async with kafka.linked() as link, producing(f"127.0.0.1:{link.port}") as producer:
        await producer.send_and_wait(topic, b"one")
        link.delay = 0.2
        begun = time.monotonic()
        await asyncio.wait_for(producer.send_and_wait(topic, b"two"), PATIENCE)
        assert time.monotonic() - begun >= 0.4


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """One with users and ACLs that may be killed."""
    with brokers.started(tmp_path_factory.mktemp("own"), security="sasl") as running:
        yield running


async def test_what_was_acknowledged_survives_kill(own: Brokers) -> None:
    """kill -9, and started again on the same data at the same address; the same producer goes on."""
    topic, admin = await new_topic(own), login(own, brokers.ADMIN)
    async with producing(own.bootstrap, **admin) as producer:
        await producer.send_and_wait(topic, b"one")
        own.kill()
        await own.restart()
        await asyncio.wait_for(producer.send_and_wait(topic, b"two"), PATIENCE)
    assert (await kept(own.bootstrap, topic, 2, **admin))[0] == b"one"


async def test_a_paused_broker_answers_when_it_goes_on(own: Brokers) -> None:
    """SIGSTOP: nobody is refused, nobody is answered."""
    topic = await new_topic(own)
    async with producing(own.bootstrap, **login(own, brokers.ADMIN)) as producer:
        await producer.send_and_wait(topic, b"one")
        own.pause()
        sent = asyncio.ensure_future(producer.send_and_wait(topic, b"two"))
        done, _ = await asyncio.wait({sent}, timeout=0.3)
        own.resume()
        assert not done
        await asyncio.wait_for(sent, PATIENCE)


async def test_what_no_acl_allows_is_refused(own: Brokers) -> None:
    """Deny by default: a user with a good password may do nothing."""
    topic = await new_topic(own)
    async with producing(own.bootstrap, **login(own, "gateway")) as producer:
        with pytest.raises(TopicAuthorizationFailedError):
            await asyncio.wait_for(producer.send_and_wait(topic, b"one"), PATIENCE)


async def test_an_administrator_makes_users(three: Brokers, tmp_path: Path) -> None:
    """By Kafka's own command, as the README has it; the new user may log in, and do nothing yet."""
    who = three.users[brokers.ADMIN]
    told = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(three.authority),
        "sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required "
        f'username="{brokers.ADMIN}" password="{who}";',
    }
    as_admin = str(settings.written(told, tmp_path / "admin.properties"))
    change = ("--alter", "--entity-type", "users", "--entity-name", "treasury")
    added = ("--add-config", "SCRAM-SHA-512=[password=made-up]", "--command-config", as_admin)
    await asyncio.to_thread(three.run_tool, "kafka.admin.ConfigCommand", *change, *added)
    three.users = {**three.users, "treasury": "made-up"}
    async with producing(three.bootstrap, **login(three, "treasury")) as producer:
        with pytest.raises(KafkaError):
            await asyncio.wait_for(producer.send_and_wait(await new_topic(three), b"one"), PATIENCE)


@pytest.mark.parametrize("wrong", [{"sasl_plain_password": "wrong"}, {"sasl_plain_username": "nobody"}])
async def test_a_wrong_password_is_refused(own: Brokers, wrong: dict[str, str]) -> None:
    """And so is somebody who has none."""
    with pytest.raises(KafkaError):
        async with producing(own.bootstrap, **{**login(own, "gateway"), **wrong}):
            pass


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """As they are deployed: TLS, users, certificates among themselves."""
    with brokers.started(tmp_path_factory.mktemp("three"), 3, security="tls") as running:
        yield running


async def test_three_run_with_the_settings_that_are_deployed(three: Brokers) -> None:
    """Kafka reports every line of three.properties as it stands there, but addresses and folders."""
    deployed = settings.read("three.properties")
    said = await asyncio.to_thread(_told, three)
    told = {key: value for key, value in deployed.items() if not key.startswith("listener.name.")}
    differing = {key for key in told.keys() - AUTHORIZERS if said.get(key) != told[key]}
    assert differing == OURS


async def test_one_runs_with_the_settings_that_are_deployed(kafka: Brokers) -> None:
    """The same for broker.properties, beside the listener that the tests' brokers have among themselves."""
    if not kafka.brokers:
        pytest.skip("GATEWAY_TEST_KAFKA names a broker that is not the tests'")
    deployed = settings.read("broker.properties")
    said = await asyncio.to_thread(_told, kafka)
    differing = {key for key, value in deployed.items() if said.get(key) != value}
    assert differing == {*OURS, "inter.broker.listener.name"} & deployed.keys()


def test_both_files_promise_the_same() -> None:
    """What is not a matter of how many brokers there are."""
    one, three = settings.read("broker.properties"), settings.read("three.properties")
    for key in ("auto.create.topics.enable", "unclean.leader.election.enable", "message.max.bytes"):
        assert one[key] == three[key]
    assert int(one["offsets.retention.minutes"]) == int(three["offsets.retention.minutes"]) > 30 * 24 * 60


async def test_one_of_three_may_die(three: Brokers) -> None:
    """The very one that leads: another takes over, and everything acknowledged is there, in order and once."""
    topic, admin = await new_topic(three, min_insync_replicas="2"), login(three, brokers.ADMIN)
    async with producing(three.bootstrap, enable_idempotence=True, **admin) as producer:
        first = await asyncio.wait_for(producer.send_and_wait(topic, b"0"), PATIENCE)
        leader = producer.client.cluster.leader_for_partition(first.topic_partition)
        three.kill(leader)
        for number in range(1, 6):
            await asyncio.wait_for(producer.send_and_wait(topic, b"%d" % number), PATIENCE)
    assert await kept(three.bootstrap, topic, 6, **admin) == [b"0", b"1", b"2", b"3", b"4", b"5"]
    await three.restart(leader)


async def test_with_two_of_three_dead_nothing_is_acknowledged(three: Brokers) -> None:
    """It waits instead; what was acknowledged before is there when they are back."""
    topic, admin = await new_topic(three, min_insync_replicas="2"), login(three, brokers.ADMIN)
    async with producing(three.bootstrap, **admin) as producer:
        await asyncio.wait_for(producer.send_and_wait(topic, b"safe"), PATIENCE)
        three.kill(1)
        three.kill(2)
        sent = asyncio.ensure_future(producer.send_and_wait(topic, b"not yet"))
        done, _ = await asyncio.wait({sent}, timeout=3)
        assert not [each for each in done if each.exception() is None]
        await three.restart(1, 2)
        await asyncio.wait({sent}, timeout=PATIENCE)
    assert (await kept(three.bootstrap, topic, 1, **admin)) == [b"safe"]


def test_a_broker_goes_with_whoever_started_it(tmp_path: Path) -> None:
    """kill -9 of the tests or the demonstration leaves no broker behind."""
    brokers.kafka_here()
    command = [sys.executable, "-m", "deploy.kafka.broker", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)}, stdout=-1) as parent:  # noqa: S603
        assert parent.stdout
        said = parent.stdout.readline().decode()
        parent.kill()
    host, port = said.split()[3].rstrip(".").split(":")
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))):
                return
    pytest.fail(f"somebody still listens: {said}")


def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The last lines of its log are in the sentence."""
    brokers.kafka_here()
    made = Broker(tmp_path, {**settings.read("broker.properties"), "log.dirs": str(tmp_path / "data")})
    made.start()
    with pytest.raises(Unready, match="ended; its log is"):
        made.wait()


def _told(three: Brokers) -> dict[str, str]:
    """The configuration as the first broker has it."""
    client = three.admin()
    try:
        asked = ConfigResource(ConfigResourceType.BROKER, "1")
        answer = client.describe_configs([asked], config_filter="all")
        return {key: value["value"] for key, value in answer["broker"]["1"].items()}
    finally:
        client.close()
