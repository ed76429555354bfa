"""Records as a gateway hands them over, made without a gateway: by a key of the test's own."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core.cloudevent import Event, headers
from gateway.core.jwk import private_key, signature
from gateway.core.receipt import Receipt, compact, digest_field, protected, signed_part
from tests.fakes import idp

INSTANCE, AGENCY, SERVICE = "TEST", "interior", "permits.building.v1"


@dataclass(frozen=True, slots=True)
class Letter:
    """A record."""

    id: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Pen:
    """A gateway's key, and what it writes."""

    def __init__(self, private: Mapping[str, str] | None = None) -> None:
        self.key = idp.Key(private) if private else idp.key("EdDSA")

    @property
    def jwks(self) -> Mapping[str, Any]:
        """As the gateway publishes it."""
        return {"keys": [self.key.public]}

    def letter(self, n: int, case: str = "A", **said: Any) -> Letter:
        """The same ``n`` has the same id."""
        document = said.get("id") or str(uuid.uuid5(uuid.NAMESPACE_OID, str(n)))
        service, late = said.get("service", SERVICE), said.get("late", 0)
        value = said.get("value") or orjson.dumps({"case": case, "n": n})
        receipt = self._signed(
            Receipt(
                instance=said.get("instance", INSTANCE),
                document=document,
                reference="r",
                service=service,
                digest=hashlib.sha256(value).digest(),
                sender="finance.desk",
                on_behalf=None,
                recipient=said.get("recipient", AGENCY),
                recipients=None,
                state="submitted",
                at=said.get("at", 1795262400.25),
                entry="7.42 ab",
                attachments=tuple(hashlib.sha256(each).digest() for each in said.get("files", ())),
            )
        )
        lane = hashlib.sha256(case.encode()).hexdigest()
        event = Event(
            id=document,
            source="/agencies/finance/desk",
            type=service,
            time="2026-11-22T07:20:00.250+00:00",
            dataschema=None,
            partitionkey=lane,
            redelivery=late,
            envelope=_envelope(document, service, late, said.get("files", ())),
            receipt=receipt,
            statement=None,
            traceparent="",
        )
        return Letter(document, lane.encode(), value, headers(event))

    def _signed(self, receipt: Receipt) -> str:
        text = signed_part(protected(self.key.thumbprint, "EdDSA"), receipt.claims())
        return compact(text, signature(private_key(self.key.private, "EdDSA"), "EdDSA", text)).decode()


def _envelope(document: str, service: str, late: int, files: Sequence[bytes]) -> Mapping[str, Any]:
    return {
        "id": document,
        "kind": "document",
        "service": service,
        "sender": "finance.desk",
        "on_behalf": None,
        "reference": "r",
        "submitted": "2026-11-22T07:20:00.250+00:00",
        "late": late,
        "attempt": 1,
        "redelivered": late > 0,
        "attachments": [{"attachment": "a", "digest": digest_field(hashlib.sha256(each).digest())} for each in files],
    }
