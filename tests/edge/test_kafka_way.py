"""The way over Kafka without a broker: what is put on which topic, and what is refused before anything is put there."""

import asyncio
import subprocess
import sys
from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.core import cloudevent
from gateway.core.delivery import Reason
from gateway.core.kafka import MAX_HEADER_BYTES
from gateway.protocols import kafka
from gateway.protocols.flights import MAX_BYTES, MAX_RECORDS, Flights, Record
from gateway.protocols.handover import Accepted, Handed, NotTaken, Taker
from gateway.protocols.protocol import Surroundings
from tests.fakes.correspondents import way

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ENVELOPE = {
    "id": "0199-d",
    "kind": "document",
    "service": "permits.building.v1",
    "sender": "finance.desk",
    "submitted": "2026-11-22T07:20:00.250+00:00",
    "late": 0,
    "receipt": "a.b.c",
}
HANDED = Handed(
    id="0199-d",
    kind="document",
    service="permits.building.v1",
    envelope=ENVELOPE,
    body={"a": 1},
    raw=b'{ "a": 1 }',
    receipt="a.b.c",
    traceparent=TRACE,
    seconds=5.0,
    lane="ab" * 32,
)


class Cluster:
    """Notes what it is to publish."""

    instance = "TEST"
    issuer = "https://gateway.example"

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def publish(self, record: Record, seconds: float) -> None:
        """As the real one."""
        assert seconds == HANDED.seconds
        self.records.append(record)


def taker(cluster: Cluster | None, **options: Any) -> Taker:
    outbound: Any = None
    around = Surroundings(outbound, python=False, kafka=cluster)
    return kafka.hand_over(way("interior", protocol="kafka", options=options), around)


async def test_a_document_goes_to_its_agency_s_topic() -> None:
    """The raw bytes under the lane's key; a reader finds the id, the schema and the envelope in headers."""
    cluster = Cluster()
    assert await taker(cluster).take(HANDED) == Accepted()
    (record,) = cluster.records
    assert (record.recipient, record.topic) == ("interior", "TEST.agency.interior")
    assert (record.key, record.value) == (b"ab" * 32, b'{ "a": 1 }')
    event = cloudevent.read(record.key, record.value, record.headers)
    assert (event.id, event.dataschema) == (
        "0199-d",
        "https://gateway.example/schemas/permits.building.v1/document.json",
    )
    assert (event.envelope, event.receipt, event.traceparent) == (ENVELOPE, "a.b.c", TRACE)


async def test_a_receipt_goes_to_the_topic_of_receipts() -> None:
    """Its value is what it says, it is from the gateway, and its time that of its step."""
    cluster, said = Cluster(), {"document": "0199-d", "at": "2026-11-22T08:00:00.000+00:00"}
    envelope = {**ENVELOPE, "kind": "receipt", "document": "0199-d"}
    await taker(cluster).take(replace(HANDED, kind="receipt", envelope=envelope, body=said, raw=b"a.b.c"))
    (record,) = cluster.records
    event = cloudevent.read(record.key, record.value, record.headers)
    assert (record.topic, orjson.loads(record.value)) == ("TEST.receipts.interior", said)
    assert (event.type, event.source, event.time) == ("receipt", "/gateway", said["at"])


async def test_headers_that_readers_would_refuse_are_not_written() -> None:
    """Too much beside the body is undeliverable for that one."""
    cluster = Cluster()
    large = {**ENVELOPE, "case": "x" * MAX_HEADER_BYTES}
    with pytest.raises(NotTaken) as caught:
        await taker(cluster).take(replace(HANDED, envelope=large))
    fault = caught.value
    assert (fault.sent, fault.whole, fault.reason, cluster.records) == (False, False, Reason.TOO_LARGE, [])


def test_a_way_over_kafka_has_no_options() -> None:
    """What differs between clusters stands in kafka.yaml; an agent does not hand over to topics."""
    with pytest.raises(ValueError, match="url"):
        taker(Cluster(), url="http://127.0.0.1")
    with pytest.raises(ValueError, match="agent"):
        taker(None)


async def test_what_is_in_flight_is_bounded() -> None:
    """In records and in bytes; what a caller gave up on counts on until it is over."""
    flights, small = Flights(), Record(recipient="interior", topic="t", key=b"k", value=b"x", headers=(), size=1)
    futures = [asyncio.get_running_loop().create_future() for _ in range(MAX_RECORDS)]
    assert not flights.has_room(replace(small, size=MAX_BYTES + 1))
    for each in futures:
        flights.begin(each, small)
    assert not flights.has_room(small)
    futures[0].set_exception(OSError())
    futures[1].cancel()
    await asyncio.wait(futures[:2])
    await asyncio.sleep(0)
    assert (flights.has_room(small), len(flights), flights.bytes) == (True, MAX_RECORDS - 2, MAX_RECORDS - 2)


async def test_whoever_waits_for_a_record_may_leave_it_under_way() -> None:
    """A caller who gives up ends his own waiting alone: the record counts on. Who stays learns how it ended."""
    flights, record = Flights(), Record(recipient="interior", topic="t", key=b"k", value=b"x", headers=(), size=1)
    left, stayed = (asyncio.get_running_loop().create_future() for _ in range(2))
    leaving, staying = flights.begin(left, record), flights.begin(stayed, record)
    leaving.cancel()
    assert (left.done(), len(flights)) == (False, 2)
    left.set_result(None)
    stayed.set_exception(OSError())
    with pytest.raises(OSError):  # noqa: PT011 - it has no words
        await staying
    assert (len(flights), flights.bytes) == (0, 0)


def test_without_a_cluster_no_client_is_loaded() -> None:
    """Who serves no agency over Kafka pays nothing for it."""
    code = "import sys, gateway.app, gateway.workers; print({'aiokafka', 'kafka'} & set(sys.modules))"
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
