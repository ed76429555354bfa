"""Documents as CloudEvents in Kafka's binary mode: what a record carries, and which records are believed."""

import hashlib
import string
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import OKPAlgorithm

from gateway.client.receipts import BadReceipt as NoReceipt
from gateway.client.receipts import verify_receipt
from gateway.core.cloudevent import Event, NoEvent, UnknownKey, genuine, headers, named, read, receipt_id, size
from gateway.core.jwk import signature, thumbprint
from gateway.core.kafka import MAX_HEADER_BYTES
from gateway.core.receipt import (
    STATEMENT,
    TYPE,
    BadReceipt,
    Receipt,
    compact,
    digest_field,
    protected,
    signed_part,
    verify,
)

KEY = Ed25519PrivateKey.generate()
_JWK = OKPAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
KID = thumbprint(_JWK)
JWKS = {"keys": [{**_JWK, "kid": KID, "alg": "EdDSA"}]}
BODY = b'{"case":"A","subject":"a letter"}'
ID, LANE = "01999999-8888-7777-6666-555555555555", "ab" * 32
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FIRST = Receipt(
    instance="TEST",
    document=ID,
    reference="r-1",
    service="permits.building.v1",
    digest=hashlib.sha256(BODY).digest(),
    sender="finance.desk",
    on_behalf=None,
    recipient="interior",
    recipients=None,
    state="submitted",
    at=1795262400.25,
    entry="7.42 ab",
)
ENVELOPE: Mapping[str, Any] = {
    "id": ID,
    "kind": "document",
    "service": FIRST.service,
    "sender": FIRST.sender,
    "on_behalf": None,
    "reference": "r-1",
    "late": 0,
    "case": "กข 1/2569",
    "attachments": [],
}


def signed(claims: Mapping[str, Any], typ: str = TYPE) -> str:
    text = signed_part(protected(KID, "EdDSA", typ), claims)
    return compact(text, signature(KEY, "EdDSA", text)).decode()


def stated(claims: Mapping[str, Any]) -> str:
    return signed(claims, STATEMENT)


def told(receipt: str | None, statement: str | None = None, **changes: Any) -> Event:
    return Event(
        id=changes.get("id", ID),
        source="/agencies/finance/desk",
        type=FIRST.service,
        time="2026-11-22T07:20:00.250+00:00",
        dataschema="https://gateway.example/schemas/permits.building.v1/document.json",
        partitionkey=LANE,
        redelivery=changes.get("late", 0),
        envelope={**ENVELOPE, **changes, "receipt": receipt},
        receipt=receipt,
        statement=statement,
        traceparent=TRACE,
    )


EVENT = told(signed(FIRST.claims()))
CLAIMS = FIRST.claims()
SAID = {"document": ID, "entry": "7.43 cd", "instance": "TEST", "sender": "finance.desk", "state": "arrived"}


def carried(event: Event = EVENT, value: bytes = BODY, *, agency: str = "interior") -> Mapping[str, Any]:
    """What a reader makes of it."""
    return genuine(read(LANE.encode(), value, headers(event)), value, JWKS, "TEST", agency)


def changed(name: str, value: bytes | None) -> Sequence[tuple[str, bytes]]:
    """The headers with another one, or without it."""
    rest = [each for each in headers(EVENT) if each[0] != name]
    return rest if value is None else [*rest, (name, value)]


def test_the_headers_are_those_of_the_binding() -> None:
    """Binary mode: attributes begin with ce_, content-type and traceparent do not; nothing else is told."""
    carries = dict(headers(replace(EVENT, redelivery=2)))
    attributes = ("specversion", "id", "source", "type", "time", "dataschema", "partitionkey", "redelivery")
    beside = {"content-type", "traceparent", "envelope", "receipt"}
    assert carries.keys() == {*(f"ce_{name}" for name in attributes), *beside}
    assert (carries["ce_specversion"], carries["content-type"]) == (b"1.0", b"application/json")
    assert (carries["ce_id"], carries["ce_redelivery"]) == (ID.encode(), b"2")
    assert orjson.loads(carries["envelope"]) == ENVELOPE


def test_what_is_written_is_read_again() -> None:
    """Nothing is lost or added on the way, the envelope's receipt included."""
    assert read(LANE.encode(), BODY, headers(EVENT)) == EVENT


TEXT = st.text(st.sampled_from(string.printable + "กขคកខ한국é\x00\u2028"), max_size=40)
JSON = st.recursive(st.none() | st.booleans() | st.integers(0, 9999) | TEXT, st.lists, max_leaves=5)


@given(st.dictionaries(st.sampled_from(["purpose", "case", "unit", "agreement"]), JSON), st.integers(0, 99))
def test_whatever_the_envelope_says_comes_back(more: dict[str, Any], late: int) -> None:
    """Every envelope and every count survives, in any script."""
    event = told(EVENT.receipt, late=late, **more)
    assert read(LANE.encode(), BODY, headers(event)) == event


@given(st.lists(st.tuples(st.sampled_from([*dict(headers(EVENT)), "ce_redelivery", "x"]), st.binary(max_size=99))))
def test_no_record_is_a_crash(some: list[tuple[str, bytes]]) -> None:
    """Whatever stands in headers, it is an event or NoEvent."""
    for given_headers in (some, [*headers(EVENT), *some]):
        with suppress(NoEvent):
            read(LANE.encode(), BODY, given_headers)


@given(st.binary(max_size=300))
def test_no_value_is_a_crash(value: bytes) -> None:
    """Whatever the value is, it is believed only where it is the one that was signed."""
    if value != BODY:
        with pytest.raises(NoEvent):
            carried(value=value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce_specversion", b"0.3"),
        ("ce_id", None),
        ("ce_id", b"a b"),
        ("ce_id", b"\xff"),
        ("ce_type", b"permits.other.v1"),
        ("ce_source", b"/agencies/health/desk"),
        ("ce_source", b"finance.desk"),
        ("ce_time", b"yesterday"),
        ("ce_partitionkey", b"ab"),
        ("ce_redelivery", b"0"),
        ("ce_redelivery", b"3"),
        ("content-type", b"text/plain"),
        ("content-type", b"application/cloudevents+json"),
        ("content-type", None),
        ("envelope", b"[]"),
        ("envelope", b'{"id":1,"id":2}'),
        ("envelope", b"{" + b" " * MAX_HEADER_BYTES + b"}"),
        ("receipt", b"a.b.c d"),
    ],
)
def test_a_broken_header_is_no_event(name: str, value: bytes | None) -> None:
    """A record that lacks something, or says it in another form or twice over, is none."""
    with pytest.raises(NoEvent):
        read(LANE.encode(), BODY, changed(name, value))


@pytest.mark.parametrize(
    ("key", "value"), [(None, BODY), (b"other", BODY), (LANE.encode(), None), (LANE.encode(), b"")]
)
def test_a_record_needs_its_key_and_a_value(key: bytes | None, value: bytes | None) -> None:
    """Its key is its partition key, and a tombstone is no event."""
    with pytest.raises(NoEvent):
        read(key, value, headers(EVENT))


def test_a_header_twice_is_no_event() -> None:
    """Readers would differ in which one they take; what nobody here knows may stand as often as it likes."""
    with pytest.raises(NoEvent, match="twice"):
        read(LANE.encode(), BODY, [*headers(EVENT), ("ce_id", ID.encode())])
    assert read(LANE.encode(), BODY, [*headers(EVENT), ("x", b"1"), ("x", b"2")]) == EVENT


def test_the_id_of_a_broken_record_can_be_named() -> None:
    """So that a known document is rejected, and not only counted."""
    assert named(changed("envelope", b"\xff")) == ID
    assert named(changed("ce_id", b"a b")) is None
    assert named([]) is None


def test_a_document_to_one_is_believed_by_its_first_receipt() -> None:
    """Signed by the instance, for this agency, this body; also where a second person agreed first."""
    assert carried() == FIRST.claims()
    assert carried(told(signed({**CLAIMS, "state": "held"})))["state"] == "held"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("instance", "OTHER"),
        ("recipient", "health"),
        ("document", "0199-other"),
        ("service", "permits.other.v1"),
        ("sender", "health.desk"),
        ("on_behalf", "sila"),
        ("reference", "r-2"),
        ("state", "registered"),
        ("digest", digest_field(bytes(32))),
        ("attachments", [digest_field(bytes(32))]),
    ],
)
def test_what_was_signed_for_something_else_is_not_believed(name: str, value: Any) -> None:
    """A true receipt of another instance, recipient, document or body proves nothing of this record."""
    with pytest.raises(NoEvent):
        carried(told(signed({**CLAIMS, name: value})))


def test_the_envelope_cannot_say_more_than_was_signed() -> None:
    """Sender, mandate, reference and files are held against the signature."""
    changes: tuple[dict[str, Any], ...] = (
        {"reference": "r-2"},
        {"on_behalf": "sila"},
        {"attachments": [{"digest": "x"}]},
        {"attachments": ["x"]},
    )
    for change in changes:
        with pytest.raises(NoEvent):
            carried(told(EVENT.receipt, **change))


def test_one_of_several_recipients_needs_a_statement() -> None:
    """The first receipt counts them and names none; who is named by nothing does not take it."""
    whole = {name: value for name, value in CLAIMS.items() if name != "recipient"} | {"recipients": 7}
    mine = {name: value for name, value in CLAIMS.items() if name != "reference"}
    assert carried(told(signed(whole), stated(mine)))["recipient"] == "interior"
    with pytest.raises(NoEvent, match="for interior"):
        carried(told(signed(whole)))
    with pytest.raises(NoEvent, match="for interior"):
        carried(told(signed(whole), stated({**mine, "recipient": "health"})))


def test_a_cut_event_is_believed_by_its_statement_alone() -> None:
    """The part has a digest of its own, and nothing speaks of the whole."""
    part = b'{"case":"A"}'
    mine = {name: value for name, value in CLAIMS.items() if name != "reference"}
    mine |= {"digest": digest_field(hashlib.sha256(part).digest())}
    event = told(None, stated(mine), reference=None, kind="event")
    assert carried(event, part) == mine
    with pytest.raises(NoEvent, match="digest"):
        carried(event, BODY)
    with pytest.raises(NoEvent):
        carried(told(None), part)


def test_a_statement_passes_for_no_receipt() -> None:
    """Nor a receipt for a statement: of a cut event they name two digests under one entry."""
    mine = {name: value for name, value in CLAIMS.items() if name != "reference"}
    checks: Sequence[Callable[..., Mapping[str, Any]]] = (verify, verify_receipt)
    for check in checks:
        assert check(signed(mine), JWKS, "TEST") == mine
        with pytest.raises((BadReceipt, NoReceipt), match=TYPE.replace("+", r"\+")):
            check(stated(mine), JWKS, "TEST")
    for receipt_, statement in ((stated(CLAIMS), None), (None, signed(mine))):
        with pytest.raises(NoEvent, match="typ exchange-"):
            carried(told(receipt_, statement, reference=None))


def test_a_newer_key_is_told_apart_from_a_wrong_one() -> None:
    """A reader fetches the keys anew for a key that it does not know, and for nothing else."""
    with pytest.raises(UnknownKey):
        genuine(EVENT, BODY, {"keys": []}, "TEST", "interior")
    with pytest.raises(NoEvent) as caught:
        carried(told(str(EVENT.receipt)[:-8] + "AAAAAAAA"))
    assert not isinstance(caught.value, UnknownKey)


def receipt(claims: Mapping[str, Any], **changes: Any) -> Event:
    id_ = receipt_id(ID, "7.43 cd")
    envelope = {"id": id_, "kind": "receipt", "service": FIRST.service, "sender": "finance.desk", "late": 0}
    event = replace(EVENT, id=id_, source="/gateway", type="receipt", receipt=signed(claims))
    return replace(event, envelope={**envelope, "receipt": event.receipt}, **changes)


def test_a_receipt_is_believed_by_itself() -> None:
    """Its value is what is signed in it, and it goes to who sent the document."""
    assert carried(receipt(SAID), orjson.dumps(SAID), agency="finance") == SAID
    for event, value, agency in (
        (receipt(SAID), orjson.dumps({**SAID, "state": "registered"}), "finance"),
        (receipt(SAID), b"{", "finance"),
        (receipt(SAID), orjson.dumps(SAID), "interior"),
        (receipt({**SAID, "entry": "7.44 ef"}), orjson.dumps({**SAID, "entry": "7.44 ef"}), "finance"),
        (receipt({**SAID, "instance": "OTHER"}), orjson.dumps({**SAID, "instance": "OTHER"}), "finance"),
        (replace(receipt(SAID), receipt=None), orjson.dumps(SAID), "finance"),
    ):
        with pytest.raises(NoEvent):
            carried(event, value, agency=agency)


def test_the_size_of_headers_counts_names_and_values() -> None:
    """So that a record which readers would refuse is not written."""
    assert size(b"k" * 64, [("ce_id", b"12345")]) == 64 + 20
