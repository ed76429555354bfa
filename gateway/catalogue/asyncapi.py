"""What an agency reads from Kafka, as AsyncAPI 3.0: its own topics, what stands in them, how its systems read it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway import __version__
from gateway.catalogue import disclosure
from gateway.catalogue.description import homed, ref
from gateway.core import kafka
from gateway.core.model import KAFKA, Agency, Catalogue, Service, SystemId, agency_of
from gateway.core.receipt import MAX_RECEIPT

VERSION = "3.0.0"
BINDING = {"bindingVersion": "0.5.0"}
"""Of AsyncAPI's bindings for Kafka."""
FORMAT = "application/schema+json;version=2020-12"
DOCUMENTS, RECEIPTS = "documents", "receipts"

_LOGINS = {"PLAIN": "plain", "SCRAM-SHA-256": "scramSha256", "SCRAM-SHA-512": "scramSha512"}


def document(catalogue: Catalogue, consumer: SystemId, issuer: str) -> dict[str, Any]:
    """AsyncAPI for one consumer: what its agency gets by Kafka, and nothing of other agencies."""
    made: dict[str, Any] = {
        "asyncapi": VERSION,
        "info": {
            "title": f"Exchange gateway {catalogue.instance}",
            "version": __version__,
            "description": f"What {consumer} can read from Kafka. Catalogue {catalogue.digest[:16]}.",
        },
        "defaultContentType": "application/json",
        "channels": {},
        "operations": {},
    }
    agency, cluster = catalogue.agencies[agency_of(consumer)], catalogue.kafka
    told = {} if cluster is None else dict(_told(catalogue, consumer, agency))
    if cluster is None or not told:
        return made
    servers, logins = _servers(cluster)
    messages = {name: message for each in told.values() for name, message in each.items()}
    made |= {
        "servers": servers,
        "channels": {name: _channel(catalogue.instance, agency, cluster, name, each) for name, each in told.items()},
        "operations": {f"read.{name}": _operation(catalogue, agency, name, each) for name, each in told.items()},
        "components": {
            "messages": {name: _message(name, service, issuer) for name, service in messages.items()},
            "schemas": {name: _payload(catalogue, consumer, name, service) for name, service in messages.items()},
            **({"securitySchemes": logins} if logins else {}),
        },
    }
    return made


def _told(
    catalogue: Catalogue, consumer: SystemId, agency: Agency
) -> Iterator[tuple[str, Mapping[str, Service | None]]]:
    """By channel, the services that come on it; of a receipt there is none."""
    services: dict[str, Service | None] = {
        each.id: each
        for each in sorted(catalogue.services.values(), key=lambda each: each.id)
        if _comes(agency, each) and disclosure.told(catalogue, consumer, each)
    }
    if services:
        yield DOCUMENTS, services
    if agency.receipts is not None and agency.receipts.protocol == KAFKA:
        yield RECEIPTS, {"receipt": None}


def _comes(agency: Agency, service: Service) -> bool:
    """Whether the agency, or one of its units, gets it by Kafka."""
    ways = (agency.way(service.id, unit) for unit in (None, *agency.units))
    return any(way is not None and way.protocol == KAFKA for way in ways)


def _servers(cluster: kafka.Cluster) -> tuple[dict[str, Any], dict[str, Any]]:
    """Where the brokers are, and how one logs in."""
    connection = cluster.connection
    logins: dict[str, Any] = {}
    if connection.sasl is not None:
        logins = {"login": {"type": _LOGINS[connection.sasl.mechanism]}}
    elif connection.known:
        logins = {"login": {"type": "X509"}}
    server = {
        "protocol": "kafka" if connection.tls is None else "kafka-secure",
        "description": "As the gateway reaches it; from where you are it may have another address.",
        **({"security": [{"$ref": "#/components/securitySchemes/login"}]} if logins else {}),
    }
    hosts = enumerate(connection.bootstrap, start=1)
    return {f"broker{number}": {"host": host, **server} for number, host in hosts}, logins


def _channel(
    instance: str, agency: Agency, cluster: kafka.Cluster, name: str, told: Mapping[str, Any]
) -> dict[str, Any]:
    named = kafka.topic if name == DOCUMENTS else kafka.receipts_topic
    topic, layout = named(instance, agency.id), cluster.layout
    what = "Documents and events for" if name == DOCUMENTS else "Receipts of what was sent by"
    return {
        "address": topic,
        "title": f"{what} {agency.id}",
        "messages": {each: {"$ref": f"#/components/messages/{each}"} for each in told},
        "bindings": {
            "kafka": {
                "topic": topic,
                "partitions": cluster.share(agency.id).partitions,
                "replicas": layout.replication,
                "topicConfiguration": {
                    "cleanup.policy": ["delete"],
                    "retention.ms": int(layout.retention * 1000),
                    "max.message.bytes": layout.max_bytes,
                },
                **BINDING,
            }
        },
    }


def _operation(catalogue: Catalogue, agency: Agency, name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    group = kafka.group(catalogue.instance, agency.id)
    groups = {"type": "string", "pattern": f"^{re.escape(group)}(\\..+)?$", "examples": [group]}
    then = "Answer what became of each: POST /v1/inbox/{id}." if name == DOCUMENTS else ""
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{each}"} for each in told],
        "summary": f"Read {name}",
        "description": f"A record may come more than once: look at ce_id. {then}".rstrip(),
        "bindings": {"kafka": {"groupId": groups, **BINDING}},
    }


def _message(name: str, service: Service | None, issuer: str) -> dict[str, Any]:
    place = disclosure.RECEIPT if service is None else disclosure.address(name)
    return {
        "name": name,
        "title": "A receipt" if service is None else service.title,
        "contentType": "application/json",
        "correlationId": {"location": "$message.header#/ce_id"},
        "headers": _headers(name, issuer + place, receipt=service is None),
        "payload": ref(name),
        "bindings": {"kafka": {"key": {**_KEY, "description": "As ce_partitionkey."}, **BINDING}},
    }


def _payload(catalogue: Catalogue, consumer: SystemId, name: str, service: Service | None) -> dict[str, Any]:
    seen = disclosure.RECEIPT_SCHEMA if service is None else disclosure.seen_by(catalogue, consumer, service)
    return {"schemaFormat": FORMAT, "schema": homed(seen, f"{name}/schema")}


_KEY = {"type": "string", "pattern": "^[0-9a-f]{16,128}$"}
_JWS = {"type": "string", "pattern": r"^[\w-]+\.[\w-]+\.[\w-]+$", "maxLength": MAX_RECEIPT}


def _headers(name: str, dataschema: str, *, receipt: bool) -> dict[str, Any]:
    """CloudEvents 1.0 in Kafka's binary mode, and what travels beside it (docs/kafka.md)."""
    said: dict[str, Any] = {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {"type": "string", "minLength": 1, "description": "The same however often it comes."},
        "ce_source": {"const": "/gateway"} if receipt else {"type": "string", "pattern": "^/agencies/[^/]+/[^/]+$"},
        "ce_type": {"const": name},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_dataschema": {"const": dataschema},
        "ce_partitionkey": {**_KEY, "description": "The same for all that must keep its order."},
        "content-type": {"const": "application/json"},
        "envelope": {"type": "string", "contentMediaType": "application/json"},
        "receipt": {**_JWS, "description": "The first receipt, signed by the gateway. Not with a part of an event."},
    }
    optional: dict[str, Any] = {
        "ce_redelivery": {"type": "string", "pattern": "^[1-9][0-9]*$", "description": "How often it was requeued."},
        "traceparent": {"type": "string"},
    }
    if not receipt:
        what = "Signed like a receipt: for whom this body is, where the first receipt does not say so."
        optional["statement"] = {**_JWS, "description": what}
    needed = [each for each in said if receipt or each != "receipt"]
    return {"type": "object", "required": needed, "properties": said | optional}
