"""A Kafka record becomes a document that is known to be genuine, and then what a system is handed."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.agent.ports import Upstream
from gateway.core import cloudevent
from gateway.core.cloudevent import Event, NoEvent, UnknownKey
from gateway.core.delivery import Reason
from gateway.core.handling import Known, Record, Why
from gateway.core.receipt import digest_field
from gateway.core.shape import Malformed, parse
from gateway.protocols.handover import Handed, NotTaken


@dataclass(frozen=True, slots=True)
class Incoming:
    """A record as Kafka gave it."""

    partition: int
    position: int
    written: float
    """Seconds since 1970, by the broker or by whoever wrote it."""
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    came: float
    """When it was read, by the desk's clock."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A document that the gateway signed for this agency."""

    record: Record
    event: Event
    raw: bytes


class NotOurs(Exception):
    """A record that is not taken, and of which no outcome is told: whoever forges one must reject nothing by it."""

    def __init__(self, why: Why, detail: str) -> None:
        super().__init__(detail)
        self.why = why
        self.detail = detail
        """One sentence without anything of the record."""


async def checked(incoming: Incoming, upstream: Upstream, instance: str, agency: str) -> Checked:
    """Raises NotOurs, and Unreachable where its key is not known and the gateway cannot be asked."""
    try:
        event = cloudevent.read(incoming.key, incoming.value, incoming.headers)
    except NoEvent as error:
        raise NotOurs(Why.NO_EVENT, str(error)) from error
    if event.type == cloudevent.RECEIPT:
        raise NotOurs(Why.NO_EVENT, "it is a receipt, which has a topic of its own")
    raw = incoming.value or b""
    try:
        jwks = await upstream.keys()
        try:
            cloudevent.genuine(event, raw, jwks, instance, agency)
        except UnknownKey:
            jwks = await upstream.keys(after=incoming.came)
            cloudevent.genuine(event, raw, jwks, instance, agency)
    except NoEvent as error:
        raise NotOurs(Why.NOT_GENUINE, str(error)) from error
    if not isinstance(event.envelope.get("submitted"), str):
        raise NotOurs(Why.NO_EVENT, "its envelope does not say when it was submitted")
    record = Record(
        document=event.id,
        service=event.type,
        partition=incoming.partition,
        position=incoming.position,
        redelivery=event.redelivery,
        digest=hashlib.sha256(raw).digest(),
    )
    return Checked(record, event, raw)


def handed(found: Checked, known: Known, files: Sequence[Mapping[str, Any]], seconds: float) -> Handed:
    """What the agency's system gets. Raises NotTaken where the body is no JSON, for good."""
    event = found.event
    try:
        body = parse(found.raw)
    except Malformed as error:
        raise NotTaken(f"its body is {error}", sent=False, whole=False, reason=Reason.DEFECTIVE) from error
    told = dict(event.envelope)
    told["digest"] = digest_field(found.record.digest)  # what is not signed in an envelope is not believed
    told["redelivered"] = bool(told.get("redelivered")) or known.touched or known.repeated
    told["attempt"] = known.tries
    told["attachments"] = list(files)
    return Handed(
        id=event.id,
        kind=str(told["kind"]),
        service=event.type,
        envelope=told,
        body=body,
        raw=found.raw,
        receipt=event.receipt,
        traceparent=event.traceparent,
        seconds=seconds,
    )
