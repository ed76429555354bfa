"""/asyncapi.json: what each caller is told of Kafka, held against AsyncAPI's own schema."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jsonschema
import orjson
import pytest

from gateway.catalogue import asyncapi, disclosure
from gateway.catalogue.snapshot import load
from gateway.core import cloudevent
from gateway.core.kafka import Cluster, Connection, Layout, Sasl, Share
from gateway.core.model import KAFKA, AgencyId, Catalogue, Kind, SystemId
from tests.docs.pages import page
from tests.fakes import node

ROOT = Path(__file__).parents[2]
ISSUER = "https://gateway.example"
LAYOUT = Layout(partitions=12, replication=3, min_insync=2, retention=30 * 86400.0, max_bytes=1048576)
BROKERS = Connection(bootstrap=("kafka-1.example:9093", "kafka-2.example:9093"), unencrypted=True)
CLUSTER = Cluster(BROKERS, "User:gateway", LAYOUT, {AgencyId("sila"): Share("User:sila", 24)})
SILA = SystemId("sila.front_desk")


@pytest.fixture(scope="module")
def demonstration() -> Catalogue:
    """The catalogue at the top of the repository."""
    keys, at = ROOT / "deploy" / "demo" / "keys", datetime(2026, 11, 21, 5, tzinfo=UTC)
    loaded = load(ROOT, instance="DEMO", zone=ZoneInfo("Asia/Phnom_Penh"), keys=keys, at=at)
    assert loaded.catalogue is not None, loaded.findings
    return loaded.catalogue


def by_kafka(catalogue: Catalogue, *names: str, cluster: Cluster = CLUSTER) -> Catalogue:
    """The same, with every way of these agencies leading over Kafka, their receipts too; none named: of all."""
    agencies = {
        name: replace(each, deliveries=tuple(replace(way, protocol=KAFKA, receipts=True) for way in each.deliveries))
        for name, each in catalogue.agencies.items()
        if not names or name in names
    }
    return replace(catalogue, agencies={**catalogue.agencies, **agencies}, kafka=cluster)


def document(catalogue: Catalogue, system: SystemId) -> dict[str, Any]:
    made: dict[str, Any] = orjson.loads(orjson.dumps(asyncapi.document(catalogue, system, ISSUER)))
    return made


@pytest.fixture(scope="module")
def published() -> jsonschema.Draft7Validator:
    """AsyncAPI's own schema of 3.0.0, with its bindings, as it is published."""
    schemas = node.there() / "node_modules" / "@asyncapi" / "specs" / "schemas"
    return jsonschema.Draft7Validator(json.loads((schemas / "3.0.0.json").read_text("utf-8")))


def references(value: Any) -> Iterator[str]:
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from references(inner)
    if isinstance(value, dict) and isinstance(value.get("$ref"), str):
        yield value["$ref"]


def resolved(made: Any, reference: str) -> Any:
    assert reference.startswith("#/")
    for token in reference[2:].split("/"):
        made = made[token.replace("~1", "/").replace("~0", "~")]
    return made


def hold(made: Mapping[str, Any], published: jsonschema.Draft7Validator) -> None:
    """Valid, every reference leads somewhere, and every payload is a schema."""
    assert [each.message for each in published.iter_errors(made)] == []
    assert all(resolved(made, each) is not None for each in references(made))
    for payload in made.get("components", {}).get("schemas", {}).values():
        jsonschema.Draft202012Validator.check_schema(payload["schema"])


def test_every_caller_gets_valid_asyncapi(demonstration: Catalogue, published: jsonschema.Draft7Validator) -> None:
    """As the demonstration is, for each of its systems."""
    for system in demonstration.systems:
        hold(document(demonstration, system), published)


def test_so_it_is_where_everything_comes_by_kafka(
    demonstration: Catalogue, published: jsonschema.Draft7Validator
) -> None:
    """Every service that any agency takes or is told of is described once."""
    catalogue, seen = by_kafka(demonstration), set()
    for system in catalogue.systems:
        made = document(catalogue, system)
        hold(made, published)
        seen |= made.get("components", {}).get("messages", {}).keys()
    letters = {each.id for each in catalogue.services.values() if each.kind is not Kind.EXCHANGE}
    assert letters <= seen <= letters | {"receipt"}


def test_the_published_schema_refuses_what_is_wrong(
    demonstration: Catalogue, published: jsonschema.Draft7Validator
) -> None:
    """Such as an unknown member of a channel, a binding of another form, or an action that does not exist."""
    for wrong in ({"channels": {"documents": {"adress": "a"}}}, {"operations": {"read": {"action": "get"}}}):
        assert not published.is_valid({**document(demonstration, SILA), **wrong})
    made = document(by_kafka(demonstration), SILA)
    made["channels"]["documents"]["bindings"]["kafka"]["partitions"] = "many"
    assert not published.is_valid(made)


def test_an_agency_sees_its_own_topics(demonstration: Catalogue) -> None:
    """With its own partitions, and not one word of another agency's."""
    made = document(by_kafka(demonstration), SILA)
    documents, receipts = made["channels"]["documents"], made["channels"]["receipts"]
    assert (documents["address"], receipts["address"]) == ("DEMO.agency.sila", "DEMO.receipts.sila")
    bound = documents["bindings"]["kafka"]
    assert (bound["partitions"], bound["replicas"], bound["topic"]) == (24, 3, "DEMO.agency.sila")
    assert bound["topicConfiguration"] == {
        "cleanup.policy": ["delete"],
        "retention.ms": 2592000000,
        "max.message.bytes": 1048576,
    }
    assert not [each for each in demonstration.agencies if f".{each}" in str(made["channels"]) and each != "sila"]


def test_whoever_has_no_topic_learns_nothing_of_the_cluster(demonstration: Catalogue) -> None:
    """Neither where the brokers are, nor who reads there."""
    made = document(by_kafka(demonstration, "sila"), SystemId("saensuk.front_desk"))
    assert (made["channels"], made["operations"]) == ({}, {})
    assert "kafka-1" not in str(made)
    assert "servers" not in made


def test_only_what_comes_is_listed(demonstration: Catalogue) -> None:
    """An agency that takes letters is shown those, and events that it is told of; receipts where its way takes them."""
    catalogue = by_kafka(demonstration, "sila")
    made = document(catalogue, SILA)
    agency = catalogue.agencies[AgencyId("sila")]
    taken = {name for name in agency.endpoints if catalogue.services[name].kind is Kind.DOCUMENT}
    told = {each.service for each in agency.subscriptions}
    assert set(made["channels"]["documents"]["messages"]) == taken | told
    silent = replace(agency, deliveries=tuple(replace(way, receipts=False) for way in agency.deliveries))
    without = document(replace(catalogue, agencies={**catalogue.agencies, agency.id: silent}), SILA)
    assert set(without["channels"]) == {"documents"}


def test_a_message_is_a_cloudevent(demonstration: Catalogue) -> None:
    """Its headers name the service and the address of its schema."""
    made = document(by_kafka(demonstration), SILA)
    for name, message in made["components"]["messages"].items():
        said = message["headers"]["properties"]
        place = disclosure.RECEIPT if name == "receipt" else disclosure.address(name)
        assert (said["ce_type"]["const"], said["ce_dataschema"]["const"]) == (name, ISSUER + place)
        assert {"ce_specversion", "ce_id", "ce_source", "content-type"} <= set(message["headers"]["required"])


def test_every_header_is_described(demonstration: Catalogue) -> None:
    """What a reader takes for a header of a record stands in docs/kafka.md, and in one of the messages."""
    messages = document(by_kafka(demonstration), SILA)["components"]["messages"].values()
    described = {name for message in messages for name in message["headers"]["properties"]}
    assert described == cloudevent._KNOWN == page("docs/kafka.md").within("A record").rows().keys()


@pytest.mark.parametrize(
    ("connection", "protocol", "login"),
    [
        (BROKERS, "kafka", None),
        (replace(BROKERS, tls={}), "kafka-secure", None),
        (replace(BROKERS, tls={"client": "gateway.kafka"}), "kafka-secure", "X509"),
        (replace(BROKERS, tls={}, sasl=Sasl("SCRAM-SHA-512", "gateway", "s")), "kafka-secure", "scramSha512"),
    ],
)
def test_how_one_connects(
    demonstration: Catalogue,
    published: jsonschema.Draft7Validator,
    connection: Connection,
    protocol: str,
    login: str | None,
) -> None:
    """Every broker of the bootstrap list, encrypted or not, and how one logs in; never as whom."""
    made = document(by_kafka(demonstration, cluster=replace(CLUSTER, connection=connection)), SILA)
    hold(made, published)
    assert [(each["host"], each["protocol"]) for each in made["servers"].values()] == [
        (host, protocol) for host in BROKERS.bootstrap
    ]
    logins = [each["type"] for each in made["components"].get("securitySchemes", {}).values()]
    assert logins == ([login] if login else [])
    assert "gateway.kafka" not in str(made)
