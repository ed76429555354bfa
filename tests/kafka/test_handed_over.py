"""Documents, events and receipts on the topics of a real broker: what stands there, for whom, in which order."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core import cloudevent
from gateway.core.cloudevent import NoEvent
from tests.fakes.brokers import Brokers
from tests.fakes.correspondents import ALERT, ALERTS, DESK, FLOOD, LETTER, SILA
from tests.fakes.deliveries import DeliveryTown
from tests.fakes.handovers import comes_to, sent
from tests.fakes.parties import ISSUER
from tests.fakes.topics import Topics, read, reading_town, receipts


@pytest.fixture
def topics(kafka: Brokers) -> Topics:
    return Topics(kafka)


async def test_a_letter_stands_on_its_agency_s_topic(topics: Topics, tmp_path: Path) -> None:
    """The body as it came is the value, the lane's hash the key, all else in headers, signed for this recipient."""
    interior = read("interior")
    async with reading_town(tmp_path, topics, interior) as town:
        raw = b'{ "case": "A 1/2569", "subject": "\xe0\xb8\x81" }'
        answer = await town.send(raw, idempotency_key="R-1", exchange_case="A 1/2569")
        document = answer.body["document"]
        await comes_to(town, document, "arrived")
        ((event, value),) = await topics.events(town, interior, 1)
    assert (event.id, value, event.type) == (document, raw, LETTER)
    assert (event.source, event.redelivery, event.statement) == ("/agencies/saensuk/front_desk", 0, None)
    assert event.dataschema == f"{ISSUER}/schemas/{LETTER}/document.json"
    assert (event.envelope["reference"], event.envelope["sender"]) == ("R-1", DESK)
    assert event.receipt == answer.body["receipt"]


async def test_nothing_personal_leaves_in_the_key(topics: Topics, tmp_path: Path) -> None:
    """One key for one case, another for another, and neither says which."""
    interior = read("interior")
    async with reading_town(tmp_path, topics, interior) as town:
        for case in "AAB":
            await comes_to(town, await sent(town, case), "arrived")
        records = await topics.records(interior, 3)
    keys = {orjson.loads(each.value)["case"]: each.key for each in records}
    assert len(set(keys.values())) == 2 == len({each.key for each in records})
    assert all(len(bytes.fromhex(key.decode())) == 32 for key in keys.values())


async def test_cases_keep_their_order(topics: Topics, tmp_path: Path) -> None:
    """Sixty letters of five cases, submitted together with others: each case on one partition, in its order."""
    interior = read("interior", concurrency=16)
    async with reading_town(tmp_path, topics, interior) as town:
        ids: dict[str, list[str]] = defaultdict(list)
        for number in range(60):
            ids["ABCDE"[number % 5]].append(await sent(town, "ABCDE"[number % 5]))
        for last in ids.values():
            await comes_to(town, last[-1], "arrived")
        records = await topics.records(interior, 60)
    found: dict[str, list[Any]] = defaultdict(list)
    for record in sorted(records, key=lambda each: (each.partition, each.offset)):
        found[orjson.loads(record.value)["case"]].append((record.partition, dict(record.headers)["ce_id"].decode()))
    assert {case: [each for _, each in theirs] for case, theirs in found.items()} == ids
    assert all(len({partition for partition, _ in theirs}) == 1 for theirs in found.values())


async def test_one_of_several_recipients_is_named_by_a_statement(topics: Topics, tmp_path: Path) -> None:
    """The first receipt counts them; each record says, signed, that it is for this one, and is no proof to another."""
    sila, lampang = read("sila"), read("lampang")
    async with reading_town(tmp_path, topics, sila, lampang) as town:
        answer = await town.send(to="/documents", exchange_to="sila,lampang")
        ((event, value),) = await topics.events(town, sila, 1)
        assert len(await topics.events(town, lampang, 1)) == 1
        jwks = (await town.ask("GET", "/.well-known/jwks.json")).body
    assert event.id == answer.body["document"]
    assert event.statement is not None
    with pytest.raises(NoEvent):
        cloudevent.genuine(event, value, jwks, "DEMO", "lampang")


async def test_an_event_is_cut_for_its_subscriber(topics: Topics, tmp_path: Path) -> None:
    """The value holds what the grant discloses; nothing in the record speaks of the rest."""
    sila, lampang = read("sila"), read("lampang")
    async with reading_town(tmp_path, topics, sila, lampang) as town:
        answer = await town.send(FLOOD, to="/events", service=ALERT, system=ALERTS)
        assert answer.status == 202, answer.body
        ((event, value),) = await topics.events(town, sila, 1)
        (record,) = await topics.records(lampang, 1)
    assert orjson.loads(value) == {"level": "red", "area": "TH-20"}
    assert (event.receipt, event.envelope["cut"], event.envelope["reference"]) == (None, True, None)
    assert b"Chan Vanna" not in record.value + b"".join(each for _, each in record.headers)


async def test_receipts_have_a_topic_of_their_own(topics: Topics, tmp_path: Path) -> None:
    """Each step of what an agency sent, once, with the receipt itself and its claims as the value."""
    back, sila = receipts("saensuk"), read("sila")
    async with reading_town(tmp_path, topics, back, sila) as town:
        document = await sent(town, agency="sila")
        await comes_to(town, document, "arrived")
        said = {"outcome": "registered", "number": "77"}
        assert (await town.say("POST", f"/inbox/{document}", SILA, said)).status == 200
        events = await topics.events(town, back, 2)
    claims = [orjson.loads(value) for _, value in events]
    assert [each["state"] for each in claims] == ["arrived", "registered"]
    assert {event.source for event, _ in events} == {"/gateway"}
    assert {event.type for event, _ in events} == {"receipt"}
    assert len({event.id for event, _ in events}) == 2
    assert {event.dataschema for event, _ in events} == {f"{ISSUER}/schemas/receipt.json"}
    assert all(event.envelope["document"] == document for event, _ in events)


async def test_a_letter_with_files_names_them(topics: Topics, tmp_path: Path) -> None:
    """Files stay out of the record; their digests are signed with it."""
    interior = read("interior")
    async with reading_town(tmp_path, topics, interior) as town:
        await named_files(town)
        ((event, _),) = await topics.events(town, interior, 1)
    (file,) = event.envelope["attachments"]
    assert file["size"] == 5


async def named_files(town: DeliveryTown) -> None:
    file = await town.upload(b"plans")
    answer = await town.send(exchange_attachments=file)
    assert answer.status == 202, answer.body
