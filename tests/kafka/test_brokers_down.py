"""Brokers of the test's own that are killed, stopped and restarted, or that let the gateway do less than it needs."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

from gateway.core.kafka import AWAY, Connection, Sasl
from gateway.protocols.brokers import Unreachable
from tests.fakes.brokers import Brokers, started
from tests.fakes.deliveries import DeliveryTown, declared_in, delivering
from tests.fakes.handovers import closed, comes_to, gates, sent
from tests.fakes.puts import named, publishing
from tests.fakes.readers import on_topics, read_all
from tests.fakes.topics import Topics, read, read_by, reading_town
from tests.fakes.town import until


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    with started(tmp_path_factory.mktemp("own")) as running:
        yield running


@pytest.mark.quiet
async def test_all_flows_again_after_a_kill(brokers: Brokers, tmp_path: Path) -> None:
    """kill -9: what is sent meanwhile is taken and waits; within ten seconds of the return it is all there, once."""
    topics, interior, sila = Topics(brokers), read("interior"), read("sila")
    async with reading_town(tmp_path, topics, interior, sila) as town:
        await comes_to(town, await sent(town), "arrived")
        brokers.kill()
        ids = [await sent(town, case) for case in "ABCABC"] + [await sent(town, agency="sila")]
        await until(lambda: town.gateway.kafka.away)
        ids += [await sent(town, case) for case in "AD"]
        await brokers.restart()
        began = asyncio.get_running_loop().time()
        for document in ids:
            await comes_to(town, document, "arrived")
        assert asyncio.get_running_loop().time() - began < 10
        assert gates(town) == []
        assert {event.id for event, _ in await topics.events(town, interior, 9)} >= {*ids[:6], *ids[7:]}


@pytest.mark.quiet
async def test_a_paused_broker_is_noticed_and_forgiven(brokers: Brokers, tmp_path: Path) -> None:
    """SIGSTOP: connections stay and nobody answers; what had left may have arrived, and arrives once for the sender."""
    topics, interior = Topics(brokers), read("interior", deadline=2.0)
    async with reading_town(tmp_path, topics, interior) as town:
        await comes_to(town, await sent(town), "arrived")
        brokers.pause()
        try:
            ids = [await sent(town, case) for case in "ABC"]
            await until(lambda: town.gateway.kafka.away)
        finally:
            brokers.resume()
        began = asyncio.get_running_loop().time()
        for document in ids:
            await comes_to(town, document, "arrived")
        assert asyncio.get_running_loop().time() - began < 10
        steps = town.rows("select document, step from steps")
    assert [steps.count((document, "arrived")) for document in ids] == [1, 1, 1]


async def test_a_start_and_an_end_without_a_broker_are_bounded(brokers: Brokers) -> None:
    """Nothing hangs: not the first record, not the stop in the midst of an attempt to start."""
    name = named()
    await brokers.topic(name)
    brokers.pause()
    try:
        async with publishing(brokers.bootstrap) as desk, asyncio.timeout(20):
            fault = await desk.refused(name)
            assert (fault.sent, fault.detail.startswith(AWAY)) == (False, True)
            waiting = asyncio.create_task(desk.refused(name))
            await desk.publisher.close(0.0)
            assert not (await waiting).sent
    finally:
        brokers.resume()


async def test_the_end_is_the_end(brokers: Brokers) -> None:
    """What it fails is told as not acknowledged, and no further producer comes to be that nobody would end."""
    topic = named()
    await brokers.topic(topic)
    async with publishing(brokers.bootstrap) as desk, asyncio.timeout(30):
        await desk.put(topic)
        brokers.pause()
        try:
            put = asyncio.create_task(desk.refused(topic))
            await until(lambda: desk.publisher.in_flight[0])
            await desk.publisher.close(0.0)
            assert (await put).sent
        finally:
            brokers.resume()
        assert len(desk.sessions) == 1


async def test_one_of_three_brokers_may_go(tmp_path: Path) -> None:
    """Replication 3, two in sync: a killed broker costs a leader's election; two killed, nothing is acknowledged."""
    with started(tmp_path, 3) as three:
        name = named()
        await three.topic(name, min_insync_replicas="2")
        async with publishing(three.bootstrap) as desk, asyncio.timeout(120):
            await desk.put(name, b"1")
            three.kill(1)
            await desk.put(name, b"2", seconds=40.0)
            three.kill(2)
            fault = await desk.refused(name, b"3", seconds=5.0)
            assert fault.whole
            await three.restart(1, 2)
            await until(lambda: desk.publisher.down is None, 60)
            await desk.put(name, b"4", seconds=40.0)
            values = [each.value for each in await read_all(three.bootstrap, name, 3)]
    assert values[:2] == [b"1", b"2"]
    assert values[-1] in (b"3", b"4")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """Who logs in may do what ACLs say."""
    with started(tmp_path_factory.mktemp("guarded"), security="sasl") as running:
        yield running


async def allowed(brokers: Brokers, topic: str, *operations: ACLOperation) -> None:
    client = brokers.admin()
    pattern = ResourcePattern(ResourceType.TOPIC, topic)
    made = [ACL("User:gateway", "*", each, ACLPermissionType.ALLOW, pattern) for each in operations]
    await asyncio.to_thread(client.create_acls, made)
    client.close()


def of_gateway(brokers: Brokers) -> Connection:
    sasl = Sasl("SCRAM-SHA-512", "gateway", "gateway.kafka")
    return Connection(tuple(brokers.bootstrap.split(",")), sasl=sasl, unencrypted=True)


def guarded_town(folder: Path, topics: Topics, *ways: Any, password: str | None = None) -> Any:
    brokers = topics.brokers
    files = declared_in(folder, **{"gateway.kafka": (password or brokers.users["gateway"]) + "\n"})
    letters = read_by(*ways, cluster=on_topics(connection=of_gateway(brokers)))
    return delivering(folder, letters, files=files, topics=topics.instance)


async def test_a_missing_acl_closes_one_gate(guarded: Brokers, tmp_path: Path) -> None:
    """D17: where the gateway may not see a topic, or not write to it, that agency alone waits; mended, it goes."""
    topics, interior, sila = Topics(guarded), read("interior"), read("sila")
    await topics.make(interior, sila)
    await allowed(guarded, topics.of(sila), ACLOperation.WRITE)
    async with guarded_town(tmp_path, topics, interior, sila) as town:
        waiting = await sent(town)
        await closed(town)
        await comes_to(town, await sent(town, agency="sila"), "arrived")
        assert [row[0] for row in gates(town)] == ["interior"]
        assert topics.of(interior) in gates(town)[0][3]
        await allowed(guarded, topics.of(interior), ACLOperation.DESCRIBE)
        await told_of(town, "may not write")
        await allowed(guarded, topics.of(interior), ACLOperation.WRITE)
        await comes_to(town, waiting, "arrived")
        assert not town.gateway.kafka.away


async def told_of(town: DeliveryTown, words: str) -> None:
    """A probe closed a gate once more, with this reason."""
    await until(lambda: any(words in row[3] and row[2] > 1 for row in gates(town)))


async def test_a_wrong_password_is_named(guarded: Brokers, tmp_path: Path) -> None:
    """Brokers that refuse the login are told apart from brokers that do not answer; the password stands nowhere."""
    topics, interior = Topics(guarded), read("interior")
    await topics.make(interior)
    async with guarded_town(tmp_path, topics, interior, password="wrong") as town:
        await sent(town)
        await closed(town)
        assert "refuse the gateway's login" in gates(town)[0][3]
        assert "wrong" not in str(gates(town))


async def test_a_login_is_needed(guarded: Brokers) -> None:
    """A publisher that does not log in is not believed to have reached anybody."""
    async with publishing(guarded.bootstrap) as desk:
        fault = await desk.refused(named())
        assert not fault.sent
        with pytest.raises(Unreachable):
            await desk.sessions[-1].brokers.ask((), 5.0)
