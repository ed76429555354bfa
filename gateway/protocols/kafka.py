"""Documents, events and receipts put on the agency's own topics: acknowledged by all replicas is arrived."""

from dataclasses import dataclass

import orjson

from gateway.catalogue.disclosure import RECEIPT, address
from gateway.core import cloudevent, kafka
from gateway.core.cloudevent import Event
from gateway.core.delivery import Reason
from gateway.core.model import AgencyId, Way
from gateway.protocols import options
from gateway.protocols.flights import Record
from gateway.protocols.handover import Accepted, Handed, NotTaken, Taker
from gateway.protocols.protocol import Publishes, Surroundings


def hand_over(way: Way, surroundings: Surroundings) -> Taker:
    """The topics behind a way with ``protocol: kafka``. Raises ValueError where its options are wrong."""
    options.hold_names(way.options, (), "protocol kafka")
    if surroundings.kafka is None:
        raise ValueError("protocol kafka is for a gateway; what an agent takes from a topic goes to a system")
    return _Kafka(way.agency, surroundings.kafka)


@dataclass(frozen=True, slots=True)
class _Kafka:
    agency: AgencyId
    cluster: Publishes

    async def take(self, handed: Handed) -> Accepted:
        receipt = handed.kind == cloudevent.RECEIPT
        key, headers = handed.lane.encode(), cloudevent.headers(_event(handed, self.cluster.issuer))
        beside = cloudevent.size(key, headers)
        if beside > kafka.MAX_HEADER_BYTES:
            said = "what belongs to it is larger than the headers of a record may be"
            raise NotTaken(said, sent=False, whole=False, reason=Reason.TOO_LARGE)
        named = kafka.receipts_topic if receipt else kafka.topic
        value = orjson.dumps(handed.body) if receipt else handed.raw
        record = Record(
            recipient=self.agency,
            topic=named(self.cluster.instance, self.agency),
            key=key,
            value=value,
            headers=headers,
            size=beside + len(value),
        )
        await self.cluster.publish(record, handed.seconds)
        return Accepted()

    async def close(self) -> None:
        """The producer belongs to the process."""


def _event(handed: Handed, issuer: str) -> Event:
    told, receipt = handed.envelope, handed.kind == cloudevent.RECEIPT
    return Event(
        id=handed.id,
        source=cloudevent.GATEWAY if receipt else cloudevent.source(told["sender"]),
        type=cloudevent.RECEIPT if receipt else handed.service,
        time=handed.body["at"] if receipt else told["submitted"],
        dataschema=issuer + (RECEIPT if receipt else address(handed.service)),
        partitionkey=handed.lane,
        redelivery=told["late"],
        envelope=told,
        receipt=handed.receipt,
        statement=handed.statement,
        traceparent=handed.traceparent,
    )
