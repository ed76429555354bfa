"""A cluster, a topic or an ACL that is not there: what waits, what is told, and that nothing else is touched."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.kafka import AWAY
from gateway.core.model import AgencyId
from gateway.edge.control import Order, carry_out
from gateway.edge.documents.gates import close
from tests.fakes.brokers import Brokers
from tests.fakes.correspondents import DESK, POLITE
from tests.fakes.deliveries import DeliveryTown
from tests.fakes.handovers import closed, comes_to, gates, sent, shown
from tests.fakes.links import Link
from tests.fakes.readers import on_topics
from tests.fakes.topics import Topics, read, read_by, reading_town
from tests.fakes.town import until


@pytest.fixture
async def link(kafka: Brokers) -> AsyncIterator[Link]:
    """The wire to the broker."""
    async with kafka.linked() as wire:
        yield wire


@pytest.fixture
def topics(kafka: Brokers) -> Topics:
    return Topics(kafka)


def at(link: Link) -> str:
    return f"127.0.0.1:{link.port}"


async def ready(town: DeliveryTown) -> tuple[int, Any]:
    answer = await town.ask("GET", f"{town.at.operations}/health/ready")
    return answer.status, answer.body


async def silent(town: DeliveryTown, link: Link) -> None:
    """The wire is cut, and the gateway knows."""
    link.refusing = True
    link.drop()
    await until(lambda: town.gateway.kafka.away)


async def test_a_missing_topic_closes_one_gate(topics: Topics, tmp_path: Path) -> None:
    """D17: its own agency waits and the reason is named; another one's document arrives; a probe reopens it."""
    interior, sila = read("interior"), read("sila")
    await topics.make(sila)
    async with reading_town(tmp_path, topics, interior, sila, made=False) as town:
        waiting = await sent(town)
        await closed(town)
        await comes_to(town, await sent(town, agency="sila"), "arrived")
        ((recipient, _, _, reason),) = gates(town)
        assert (recipient, reason.partition(":")[0]) == ("interior", f"the topic {topics.of(interior)} does not exist")
        assert (await ready(town))[1]["status"] == "ready"
        await topics.make(interior)
        await comes_to(town, waiting, "arrived")
        await until(lambda: not gates(town))


async def test_recall_before_and_after_the_hand_over(topics: Topics, tmp_path: Path) -> None:
    """D13: while the topic is missing nothing was sent, and a recall holds; after the acknowledgement it is refused."""
    interior = read("interior")
    async with reading_town(tmp_path, topics, interior, made=False) as town:
        first = await sent(town)
        await closed(town)
        await until(lambda: not town.rows("select 1 from deliveries where touched"))
        assert (await town.say("POST", f"/documents/{first}/recall", DESK, {})).status == 200
        await topics.make(interior)
        second = await sent(town)
        await comes_to(town, second, "arrived")
        answer = await town.say("POST", f"/documents/{second}/recall", DESK, {})
        assert (answer.status, answer.body["code"]) == (409, "document.may_have_arrived")
        assert [event.id for event, _ in await topics.events(town, interior, 1)] == [second]


async def test_a_produce_without_an_answer_stays_touched(topics: Topics, link: Link, tmp_path: Path) -> None:
    """D13: it may have arrived, so it is not recalled; it is repeated under the same id, and arrives once."""
    interior = read("interior", deadline=1.0)
    async with reading_town(tmp_path, topics, interior, bootstrap=at(link)) as town:
        await comes_to(town, await sent(town), "arrived")
        link.flowing.clear()
        document = await sent(town)
        await closed(town)
        answer = await town.say("POST", f"/documents/{document}/recall", DESK, {})
        assert (answer.status, answer.body["code"]) == (409, "document.may_have_arrived")
        link.flowing.set()
        await comes_to(town, document, "arrived")
        events = [event for event, _ in await topics.events(town, interior, 2)]
        assert [event.id for event in events[1:]] == [document]
    steps = town.rows("select document, step from steps")
    assert steps.count((document, "arrived")) == 1


async def test_a_requeued_one_says_so(topics: Topics, tmp_path: Path) -> None:
    """D14: what was undeliverable and goes out after all carries how often it was sent on its way again."""
    interior = read("interior")
    cluster = on_topics(topics.brokers.bootstrap)
    async with reading_town(tmp_path, topics, interior, made=False) as town:
        document = await sent(town)
        await closed(town)
        same = town.gateway.catalogue.digest
        town.changed(read_by(interior, cluster=cluster, until=2025))
        town.gateway._loaded = town.gateway._catalogue = _as(town, same)
        await topics.make(interior)
        await comes_to(town, document, "undeliverable")
        town.changed(read_by(interior, cluster=cluster))
        await requeued(town, document)
        await comes_to(town, document, "arrived")
        ((event, _),) = await topics.events(town, interior, 1)
    assert (event.id, event.redelivery, event.envelope["late"]) == (document, 1, 1)


def _as(town: DeliveryTown, digest: str) -> Any:
    return replace(town.gateway.catalogue, digest=digest)


async def requeued(town: DeliveryTown, document: str) -> None:
    mailroom = town.gateway.mailroom
    fields = {"document": document, "recipient": "interior", "reason": "mended", "who": "op"}
    done = await carry_out(Order("requeue_document", fields), mailroom.orders(), mailroom.post)
    assert done.done, done.text


async def test_what_is_too_large_for_the_topic_is_undeliverable(topics: Topics, tmp_path: Path) -> None:
    """D17: for that one, with the reason; the next of the same case goes, and no gate closes."""
    interior = read("interior")
    await topics.brokers.topic(topics.of(interior), 1, max_message_bytes="2500")
    async with reading_town(tmp_path, topics, interior, made=False) as town:
        large = await sent(town, text="ก" * 199, citizen="ข" * 199)
        await comes_to(town, large, "undeliverable")
        assert (await shown(town, large))["reason"] == "too_large"
        await comes_to(town, await sent(town), "arrived")
        assert gates(town) == []


async def test_kafka_that_is_away_is_told_and_touches_nothing_else(topics: Topics, link: Link, tmp_path: Path) -> None:
    """Readiness stays 200 and says degraded with a sentence; mailboxes go on; metrics say it; back, all is well."""
    interior = read("interior")
    async with reading_town(tmp_path, topics, interior, bootstrap=at(link)) as town:
        await comes_to(town, await sent(town), "arrived")
        await silent(town, link)
        status, said = await ready(town)
        assert (status, said["status"]) == (200, "degraded")
        assert "cannot be reached" in said["checks"]["kafka"]
        assert (await town.metrics())["gateway_kafka_up"] == 0
        await sent(town)
        await comes_to(town, await sent(town, agency="sila"), "arrived")
        link.refusing = False
        await until(lambda: not town.gateway.kafka.away)
        assert (await ready(town))[1]["status"] == "ready"
        assert (await town.metrics())["gateway_kafka_up"] == 1


@pytest.mark.quiet
async def test_submission_is_taken_until_the_bound(topics: Topics, link: Link, tmp_path: Path) -> None:
    """202 while there is room, then 503 with Retry-After for that recipient alone; when it is back, all goes."""
    interior, sila = read("interior", max_waiting=3), read("sila")
    async with reading_town(tmp_path, topics, interior, sila, bootstrap=at(link)) as town:
        await comes_to(town, await sent(town, agency="sila"), "arrived")
        await silent(town, link)
        ids = [await sent(town, case) for case in "ABC"]
        answer = await full(town)
        assert (answer.body["code"], int(answer.headers["Retry-After"]) > 0) == ("recipient.full", True)
        ids.append(await sent(town, agency="sila"))
        link.refusing = False
        began = asyncio.get_running_loop().time()
        for document in ids:
            await comes_to(town, document, "arrived")
        assert asyncio.get_running_loop().time() - began < 10
        assert gates(town) == []


async def full(town: DeliveryTown) -> Any:
    """The first answer that is not 202: what waits is counted every while."""
    async with asyncio.timeout(20):
        while (answer := await town.send({"subject": "one more"})).status == 202:
            pass
    return answer


async def test_gates_open_together_when_the_cluster_is_back(topics: Topics, link: Link, tmp_path: Path) -> None:
    """Those that closed because it was away wait for no probe of their own; one that closed otherwise stays closed."""
    ways = [read("interior"), read("sila"), read("lampang")]
    link.refusing = True
    async with reading_town(tmp_path, topics, *ways, bootstrap=at(link)) as town:
        ids = [await sent(town, agency=each.agency) for each in ways]
        await until(lambda: town.gateway.kafka.away)
        for agency, why in (("sila", f"{AWAY}: nobody"), ("lampang", "it fails")):
            await town.gateway.mailroom.post.run(close(AgencyId(agency), "kafka", lambda _: 300.0, why))
        await town.gateway.dispatcher.look()
        assert (await town.metrics())[closed_gate("sila", "away")] == 1
        link.refusing = False
        for document in ids[:2]:
            await comes_to(town, document, "arrived")
        assert [(row[0], row[3]) for row in gates(town)] == [("lampang", "it fails")]
        assert (await shown(town, ids[2]))["state"] == "submitted"


def closed_gate(recipient: str, why: str) -> str:
    return f'gateway_gates_closed{{recipient="{recipient}",way="kafka",why="{why}"}}'


async def test_another_cluster_is_followed(topics: Topics, link: Link, tmp_path: Path) -> None:
    """A reload that names another address is used at once, without a restart."""
    interior = read("interior")
    async with reading_town(tmp_path, topics, interior, bootstrap=at(link)) as town:
        await comes_to(town, await sent(town), "arrived")
        await silent(town, link)
        document = await sent(town)
        await town.readjusted(read_by(interior, cluster=on_topics(topics.brokers.bootstrap)))
        await comes_to(town, document, "arrived")


async def test_without_a_cluster_nothing_is_loaded(tmp_path: Path) -> None:
    """A catalogue that names no cluster asks for none, and says nothing of it."""
    async with reading_town(tmp_path, Topics(Brokers(["127.0.0.1:1"])), made=False) as town:
        await town.readjusted(POLITE)
        assert (await ready(town))[1]["status"] == "ready"
        assert town.gateway.kafka._publisher is None
