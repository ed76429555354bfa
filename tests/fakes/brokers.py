"""Real Apache Kafka for the tests: one broker for the session, and brokers of a test's own to be killed and paused."""

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography.hazmat.primitives import serialization
from kafka.admin import KafkaAdminClient, NewTopic

from deploy.kafka.artefacts import NotThere, fetched, java
from deploy.kafka.broker import Broker, Unready, new_id, run_tool
from deploy.kafka.settings import HOST, Ports, Settings, here, read
from gateway.edge.kafka_line import Sockets, TlsSocket
from tests.fakes import ports as chosen
from tests.fakes.certificates import AUTHORITY
from tests.fakes.links import Link

Security = Literal["none", "sasl", "tls"]
"""``sasl``: users, passwords (SCRAM-SHA-512) and ACLs, not encrypted; ``tls``: that, and as three.properties has it."""
GUARDS = ("sasl.", "ssl.", "listener.name.", "authorizer.", "allow.", "super.", "connection.failed.")
"""What of three.properties makes it safe."""
ADMIN = "admin"
PROTOCOLS: Mapping[Security, Mapping[str, str]] = {
    "none": {"CLIENTS": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", "BROKERS": "PLAINTEXT"},
    "sasl": {"CLIENTS": "SASL_PLAINTEXT", "CONTROLLER": "PLAINTEXT", "BROKERS": "PLAINTEXT"},
    "tls": {"CLIENTS": "SASL_SSL", "CONTROLLER": "SSL", "BROKERS": "SSL"},
}


class Brokers:
    """One broker or three that run, by their numbers from 1."""

    def __init__(self, addresses: Sequence[str], brokers: Sequence[Broker] = (), wires: Sequence[Ports] = ()) -> None:
        self.addresses = tuple(addresses)
        """Of each, ``127.0.0.1:port``; they stay the same over restarts."""
        self.bootstrap = ",".join(addresses)
        self.brokers = tuple(brokers)
        self._wires = tuple(wires)
        self.users: Mapping[str, str] = {}
        """The passwords of those who may log in; ``admin`` may do anything, the others what ACLs say."""
        self.authority: Path | None = None
        """Who signed the brokers' certificates, with ``tls``."""

    def kill(self, number: int = 1) -> None:
        """kill -9"""
        self._own(number).kill()

    def pause(self, number: int = 1) -> None:
        """SIGSTOP: connections stay, nobody answers."""
        self._own(number).pause()

    def resume(self, number: int = 1) -> None:
        """SIGCONT"""
        self._own(number).resume()

    async def stop(self, number: int = 1) -> None:
        """In order, as an administrator would."""
        await asyncio.to_thread(self._own(number).stop)

    async def restart(self, *numbers: int) -> None:
        """Start those that are down on what they have, at the same ports; back when each serves again.

        Of three, one alone serves only with another: restart two that are down together.
        """
        chosen = [self._own(number) for number in numbers or (1,)]
        for broker in chosen:
            await asyncio.to_thread(broker.kill)
            broker.start()
        for broker in chosen:
            await asyncio.to_thread(broker.wait)

    @contextlib.asynccontextmanager
    async def linked(self, number: int = 1) -> AsyncIterator[Link]:
        """A link at ``127.0.0.1:link.port``, over which this broker tells its clients to come back: all of them do."""
        self._own(number)
        wire = self._wires[number - 1]
        async with Link(wire.clients).running(wire.brokers) as link:
            yield link

    async def topic(self, name: str, partitions: int = 3, **config: str) -> None:
        """Make one; members of the configuration with _ for the dots."""
        dotted = {key.replace("_", "."): value for key, value in config.items()}
        made = NewTopic(name, partitions, len(self.addresses), topic_configs=dotted)
        await asyncio.to_thread(_make, self, made)

    def admin(self, user: str = ADMIN) -> KafkaAdminClient:
        """kafka-python's client, to be closed; it blocks."""
        login: dict[str, Any] = dict(self.login(user))
        if authority := login.pop("ssl_cafile", None):
            login["ssl_context"] = ssl.create_default_context(cafile=authority)
            login["ssl_context"].sslsocket_class = TlsSocket
        return KafkaAdminClient(bootstrap_servers=list(self.addresses), selector=Sockets, **login)

    def login(self, user: str) -> dict[str, str]:
        """What kafka-python needs to be this user."""
        if not self.users:
            return {}
        tls = {"ssl_cafile": str(self.authority)} if self.authority else {}
        return {
            "security_protocol": "SASL_SSL" if self.authority else "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": user,
            "sasl_plain_password": self.users[user],
            **tls,
        }

    def run_tool(self, main: str, *arguments: str) -> str:
        """One of Kafka's own commands by its class, at these brokers; blocks for a second."""
        return run_tool(main, "--bootstrap-server", self.bootstrap, *arguments)

    def _own(self, number: int) -> Broker:
        if not self.brokers:
            pytest.skip("GATEWAY_TEST_KAFKA names a broker that is not the tests': unset it, so that they start one.")
        return self.brokers[number - 1]


def _make(brokers: Brokers, topic: NewTopic) -> None:
    client = brokers.admin()
    try:
        client.create_topics([topic])
    finally:
        client.close()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """One broker that all tests of the session share: each names its topics by an instance of its own."""
    if given := os.environ.get("GATEWAY_TEST_KAFKA"):
        yield Brokers(given.split(","))
        return
    with started(tmp_path_factory.mktemp("kafka")) as running:
        yield running


def kafka_here() -> Path:
    """The folder of its jars; without Java or Maven the test is skipped, but not in CI."""
    try:
        java()
        return fetched()
    except NotThere as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@contextlib.contextmanager
def started(
    folder: Path, count: Literal[1, 3] = 1, *, security: Security = "none", users: Sequence[str] = ("gateway",)
) -> Iterator[Brokers]:
    """One broker or three of the test's own, in an empty folder."""
    kafka_here()
    passwords = {name: f"{name}-secret" for name in (ADMIN, *users)} if security != "none" else {}
    running = _running(folder, count, security, passwords)
    running.users = passwords
    if security == "tls":
        running.authority = folder / "authority.pem"
        AUTHORITY.cert_pem.write_to_path(running.authority)
    try:
        yield running
    finally:
        for broker in running.brokers:
            broker.kill()


def _running(folder: Path, count: int, security: Security, passwords: Mapping[str, str]) -> Brokers:
    ports, wires = [_ports() for _ in range(count)], [_ports() for _ in range(count)]
    brokers = [
        Broker(folder / str(number), _settings(folder / str(number), number, ports, wires[number - 1], security))
        for number in range(1, count + 1)
    ]
    _format(brokers, ports, passwords)
    try:
        for broker in brokers:
            broker.start()
        for broker in brokers:
            broker.wait()
    except Unready:
        for broker in brokers:
            broker.kill()
        raise
    return Brokers([f"{HOST}:{each.clients}" for each in ports], brokers, wires)


def _ports() -> Ports:
    return Ports(*chosen.free()[:3])


def _format(brokers: Sequence[Broker], ports: Sequence[Ports], passwords: Mapping[str, str]) -> None:
    cluster, places = new_id(), [new_id() for _ in brokers]
    voters = ",".join(
        f"{number}@{HOST}:{each.controller}:{place}"
        for number, (each, place) in enumerate(zip(ports, places, strict=True), 1)
    )
    users = [
        part
        for name, password in passwords.items()
        for part in ("--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]")
    ]
    with ThreadPoolExecutor(len(brokers)) as threads:
        for done in [threads.submit(each.format, cluster, "--initial-controllers", voters, *users) for each in brokers]:
            done.result()


def _settings(folder: Path, number: int, ports: Sequence[Ports], wire: Ports, security: Security) -> Settings:
    """The file as it is deployed, with this machine's addresses, and less security where a test wants less."""
    deployed = read("three.properties")
    guards = {key: deployed[key] for key in deployed if key.startswith(GUARDS)}
    base = read("broker.properties") if len(ports) == 1 else deployed
    kept = {key: base[key] for key in base if not key.startswith(GUARDS)}
    protocols = {**PROTOCOLS[security], "RELAYED": PROTOCOLS[security]["CLIENTS"]}
    made = {**kept, **here(number, ports, folder / "data", protocols), "inter.broker.listener.name": "BROKERS"}
    made["listeners"] += f",RELAYED://{HOST}:{wire.clients}"
    made["advertised.listeners"] += f",RELAYED://{HOST}:{wire.brokers}"
    if security == "none":
        return made
    guards["listener.name.relayed.scram-sha-512.sasl.jaas.config"] = guards[
        "listener.name.clients.scram-sha-512.sasl.jaas.config"
    ]
    if security == "sasl":  # brokers among themselves are nobody then, on listeners that only loopback has
        plain = {key: guards[key] for key in guards if "ssl." not in key.replace("sasl.", "")}
        return {**made, **plain, "super.users": f"User:ANONYMOUS;User:{ADMIN}"}
    return {**made, **guards, **_certificates(folder, number)}


def _certificates(folder: Path, number: int) -> Settings:
    """Kafka wants the private key in PKCS #8."""
    folder.mkdir(parents=True, exist_ok=True)
    leaf = AUTHORITY.issue_cert(HOST, common_name=f"kafka-{number}.example")
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    shown, trusted = folder / "broker.pem", folder / "authorities.pem"
    shown.write_bytes(key + b"".join(each.bytes() for each in leaf.cert_chain_pems))
    AUTHORITY.cert_pem.write_to_path(trusted)
    return {"ssl.keystore.location": str(shown), "ssl.truststore.location": str(trusted)}
