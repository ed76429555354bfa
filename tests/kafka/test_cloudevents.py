"""Every kind of record as CloudEvents: read by the CloudEvents project's own library, from the real Apache Kafka."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import orjson
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary
from cloudevents.core.formats.json import JSONFormat

from gateway.core import cloudevent
from gateway.core.model import AgencyId, Catalogue, ServiceId, SystemId
from gateway.edge.control import Order, carry_out
from tests.fakes.brokers import Brokers
from tests.fakes.correspondents import ALERT, ALERTS, DESK, FLOOD, LAMPANG, LETTER, POLITE, REGISTER, SILA, Letters
from tests.fakes.handovers import comes_to, sent
from tests.fakes.kafka_python import Record, records
from tests.fakes.parties import ISSUER
from tests.fakes.streams import StreamTown, stream, streaming, streams

OTHERS = (stream("sila"), stream("lampang"), stream("saensuk", receipts=True))
READERS = {"interior": REGISTER, "sila": SILA, "lampang": LAMPANG, "saensuk": DESK}
KINDS = {
    "document": "interior",
    "redelivered": "interior",
    "of several": "sila",
    "cut event": "sila",
    "event": "lampang",
    "receipt": "saensuk",
}
"""Whose record it is."""


@dataclass(frozen=True, slots=True)
class Lying:
    """A record, and what its reader finds at the gateway."""

    record: Record
    instance: str
    agency: str
    schema: Any
    described: Any
    """Its message in /asyncapi.json."""
    jwks: Mapping[str, Any]


class Town(StreamTown):
    """Lampang sees the whole of each event."""

    def declared(self, letters: Letters) -> Catalogue:
        made = super().declared(letters)
        key = AgencyId("interior"), ServiceId(ALERT), SystemId(LAMPANG)
        whole = tuple((each, replace(grant, disclose=None, disclosed=None)) for each, grant in made.grants[key])
        return replace(made, grants={**made.grants, key: whole})


@pytest.fixture(scope="module")
def heap(kafka: Brokers, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Lying]:
    """One record of each kind, written by the gateway, by what it is."""
    return asyncio.run(_written(tmp_path_factory.mktemp("cloudevents"), kafka))


async def _written(folder: Path, kafka: Brokers) -> Mapping[str, Lying]:
    async with streaming(
        folder, kafka, streams(stream("interior"), *OTHERS), first=streams(*OTHERS), made=Town
    ) as town:
        again = await _given_up(town)
        await town.readjusted(streams(stream("interior"), *OTHERS))
        fields = {"document": again, "recipient": "interior", "reason": "renewed", "who": "dara"}
        order = Order("requeue_document", fields)
        assert (await carry_out(order, town.gateway.mailroom.orders(), town.gateway.journal)).done
        once = await sent(town)
        both = await town.send(to="/documents", exchange_to="interior, sila")
        told = await town.send(FLOOD, to="/events", service=ALERT, system=ALERTS)
        for each in (again, once):
            await comes_to(town, each, "arrived")
        lying = {
            "interior": await town.lies(3),
            "sila": await town.lies(2, "sila"),
            "lampang": await town.lies(1, "lampang"),
            "saensuk": await records(kafka.bootstrap, town.receipts("saensuk"), 1),
        }
        ids = {"document": once, "redelivered": again, "of several": both.body["document"]}
        ids |= dict.fromkeys(("cut event", "event"), told.body["document"])
        return {kind: await _lying(town, agency, lying[agency], ids.get(kind)) for kind, agency in KINDS.items()}


async def _given_up(town: StreamTown) -> str:
    """A letter whose agreement ended before anybody fetched it, and then was renewed."""
    document: str = (await town.send()).body["document"]
    digest = town.gateway.catalogue.digest
    for terms in (streams(*OTHERS, until=2025), POLITE):
        declared = replace(town.declared(terms), digest=digest)  # a day passes: the catalogue is the same
        town.gateway._loaded = town.gateway._catalogue = declared
        assert (await town.say("GET", "/inbox", REGISTER)).body["documents"] == []
    return document


async def _lying(town: StreamTown, agency: str, lying: list[Record], document: str | None) -> Lying:
    """The one of that document; of a receipt any."""
    found = [each for each in lying if document in (None, each.said("ce_id"))]
    given = {"Authorization": f"Bearer {await town.token(READERS[agency])}"}
    schema = await town.ask("GET", found[0].said("ce_dataschema").removeprefix(ISSUER), given)
    described = (await town.ask("GET", "/asyncapi.json", given)).body["components"]["messages"]
    jwks = (await town.ask("GET", "/.well-known/jwks.json")).body
    assert schema.status == 200, schema.body
    return Lying(found[0], town.instance, agency, schema.body, described[found[0].said("ce_type")], jwks)


def read(record: Record) -> Any:
    """By the independent library."""
    assert record.value is not None
    return from_binary(KafkaMessage(dict(record.headers), record.key, record.value), JSONFormat())


every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_another_library_reads_it(heap: Mapping[str, Lying], kind: str) -> None:
    """Its attributes are those of the binding, and its data is the body."""
    record = heap[kind].record
    event = read(record)
    source = "/gateway" if kind == "receipt" else "/agencies/interior/alerts" if "event" in kind else None
    assert (event.get_specversion(), event.get_id()) == ("1.0", record.said("ce_id"))
    assert event.get_source() == (source or "/agencies/saensuk/front_desk")
    assert event.get_type() == ("receipt" if kind == "receipt" else ALERT if "event" in kind else LETTER)
    assert event.get_datacontenttype() == "application/json"
    assert event.get_data() == orjson.loads(record.value or b"")
    assert event.get_time().utcoffset() is not None


@every_kind
def test_the_library_would_write_the_same(heap: Mapping[str, Lying], kind: str) -> None:
    """Header for header, key and all; only its spelling of UTC is another one."""
    record = heap[kind].record
    written = to_binary(read(record), JSONFormat())
    ours = {name: value for name, value in record.headers if name.startswith("ce_") or name == "content-type"}
    theirs = {**written.headers, "ce_time": ours["ce_time"]}
    assert (theirs, str(written.key).encode()) == (ours, record.key)
    assert datetime.fromisoformat(written.headers["ce_time"].decode()) == datetime.fromisoformat(record.said("ce_time"))


@every_kind
def test_the_rules_of_binary_mode(heap: Mapping[str, Lying], kind: str) -> None:
    """Kafka Protocol Binding 1.0, sections 3 and 3.2, and CloudEvents 1.0, sections 3.1 and 3.2."""
    record = heap[kind].record
    names = [name for name, _ in record.headers]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z0-9]{1,20}", name.removeprefix("ce_")) for name in names if name.startswith("ce_"))
    assert record.value  # null would be a tombstone
    assert "ce_datacontenttype" not in names
    assert not record.said("content-type").lower().startswith("application/cloudevents")
    assert all(value.decode("utf-8").isprintable() and value for _, value in record.headers)
    schema, time = urlsplit(record.said("ce_dataschema")), record.said("ce_time")
    assert (schema.scheme, bool(schema.netloc)) == ("https", True)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", time)
    assert record.key == record.said("ce_partitionkey").encode()


@every_kind
def test_it_is_as_asyncapi_describes_it(heap: Mapping[str, Lying], kind: str) -> None:
    """Its headers and its key, by the document that its reader was given."""
    lying = heap[kind]
    judge = jsonschema.Draft7Validator
    headers = {name: value.decode() for name, value in lying.record.headers}
    judge(lying.described["headers"], format_checker=judge.FORMAT_CHECKER).validate(headers)
    judge(lying.described["bindings"]["kafka"]["key"]).validate((lying.record.key or b"").decode())
    assert headers.keys() <= lying.described["headers"]["properties"].keys()


@every_kind
def test_its_schema_is_where_it_says(heap: Mapping[str, Lying], kind: str) -> None:
    """Fetched by its reader, it fits the body; and it has the address as its name."""
    lying = heap[kind]
    assert lying.schema["$id"] == lying.record.said("ce_dataschema")
    judge = jsonschema.Draft202012Validator
    judge(lying.schema, format_checker=judge.FORMAT_CHECKER).validate(orjson.loads(lying.record.value or b""))


@every_kind
def test_the_gateway_signed_it_for_its_reader(heap: Mapping[str, Lying], kind: str) -> None:
    """And for nobody else: another agency is told that it is not for it."""
    lying, record = heap[kind], heap[kind].record
    event = cloudevent.read(record.key, record.value, record.headers)
    assert cloudevent.genuine(event, record.value or b"", lying.jwks, lying.instance, lying.agency)
    with pytest.raises(cloudevent.NoEvent):
        cloudevent.genuine(event, record.value or b"", lying.jwks, lying.instance, "digital")


def test_what_each_kind_has_of_its_own(heap: Mapping[str, Lying]) -> None:
    """A statement where the first receipt does not do, a redelivery where there was one, no receipt with a part."""
    own = {
        kind: {name for name, _ in lying.record.headers} & {"ce_redelivery", "receipt", "statement"}
        for kind, lying in heap.items()
    }
    assert own == {
        "document": {"receipt"},
        "redelivered": {"receipt", "ce_redelivery"},
        "of several": {"receipt", "statement"},
        "cut event": {"statement"},
        "event": {"receipt", "statement"},
        "receipt": {"receipt"},
    }
    assert heap["redelivered"].record.said("ce_redelivery") == "1"
    assert orjson.loads(heap["cut event"].record.value or b"") == {"level": FLOOD["level"], "area": FLOOD["area"]}
