"""Receipts, byte by byte: what they say, and that nobody else can say it."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt import PyJWS
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from gateway.core.jwk import signature, thumbprint
from gateway.core.receipt import MAX_RECEIPT, TYPE, BadReceipt, Receipt, compact, protected, signed_part, verify

EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
KEYS: Mapping[str, Any] = {"ES256": EC, "EdDSA": ED}
RECEIPT = Receipt(
    instance="TEST",
    document="0199-d",
    reference="r-1",
    service="permits.building.v1",
    digest=bytes(32),
    sender="finance.desk",
    on_behalf=None,
    recipient="health",
    recipients=None,
    state="registered",
    at=1795262400.25,
    entry="7.42 ab",
    by="health.registry",
    number="2026/77",
)


def published(alg: str) -> dict[str, Any]:
    key = KEYS[alg].public_key()
    jwk = OKPAlgorithm.to_jwk(key, as_dict=True) if alg == "EdDSA" else ECAlgorithm.to_jwk(key, as_dict=True)
    return {**jwk, "kid": thumbprint(jwk), "alg": alg}


JWKS = {"keys": [published("EdDSA"), published("ES256")]}


def signed(alg: str = "ES256", claims: Mapping[str, Any] | None = None, header: bytes | None = None) -> bytes:
    text = signed_part(header or protected(published(alg)["kid"], alg), claims or RECEIPT.claims())
    return compact(text, signature(KEYS[alg], alg, text))


def test_the_claims_are_stable() -> None:
    """A receipt says these things under these names, and nothing that is not so."""
    assert RECEIPT.claims() == {
        "instance": "TEST",
        "document": "0199-d",
        "reference": "r-1",
        "service": "permits.building.v1",
        "digest": "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:",
        "sender": "finance.desk",
        "recipient": "health",
        "state": "registered",
        "at": "2026-11-21T12:00:00.250+00:00",
        "by": "health.registry",
        "number": "2026/77",
        "entry": "7.42 ab",
    }


def test_what_is_unusual_is_said() -> None:
    """Touched and expired, late after a requeue, overdue, rejected with a code, sent for somebody, to several."""
    unusual = replace(
        RECEIPT,
        on_behalf="town",
        recipient=None,
        recipients=7,
        reason="other",
        unconfirmed=True,
        late=2,
        overdue=True,
        attachments=(bytes(32),),
    ).claims()
    more = {"on_behalf", "recipients", "reason", "unconfirmed", "late", "overdue", "attachments"}
    assert unusual.keys() - RECEIPT.claims().keys() == more
    assert "recipient" not in unusual


@pytest.mark.parametrize("alg", KEYS)
def test_whoever_has_the_published_keys_can_check_it(alg: str) -> None:
    """By our function, and by a library that knows nothing of us."""
    made = signed(alg)
    assert verify(made, JWKS, "TEST") == verify(made.decode(), JWKS, "TEST") == RECEIPT.claims()
    other = PyJWS(algorithms=[alg]).decode_complete(made.decode(), KEYS[alg].public_key(), [alg])
    assert orjson.loads(other["payload"]) == RECEIPT.claims()
    assert other["header"] == {"alg": alg, "typ": TYPE, "kid": published(alg)["kid"]}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_character_can_be_changed(data: st.DataObject) -> None:
    """In the header, in the claims or in the signature: not even to another spelling of the same bytes."""
    made = signed().decode()
    place = data.draw(st.integers(0, len(made) - 1))
    other = data.draw(st.sampled_from("AQgw_-.09z=\n"))
    if made[place] != other:
        with pytest.raises(BadReceipt):
            verify(made[:place] + other + made[place + 1 :], JWKS, "TEST")


def header(**more: Any) -> bytes:
    said = {"alg": "ES256", "typ": TYPE, "kid": published("ES256")["kid"], **more}
    raw = orjson.dumps({name: value for name, value in said.items() if value is not None})
    return base64.urlsafe_b64encode(raw).rstrip(b"=") + b"."


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"typ": "at+jwt"}, "header"),
        ({"typ": None}, "header"),
        ({"crit": ["exp"]}, "header"),
        ({"jwk": {}}, "header"),
        ({"kid": "other"}, "kid"),
        ({"alg": "none"}, "signature"),
        ({"alg": "EdDSA"}, "signature"),
    ],
)
def test_the_header_chooses_nothing(more: dict[str, Any], why: str) -> None:
    """Neither kind, nor key, nor algorithm (RFC 8725)."""
    with pytest.raises(BadReceipt, match=why):
        verify(signed(header=header(**more)), JWKS, "TEST")


def test_another_instances_receipt_is_none_here() -> None:
    """Also where it was signed with the same key."""
    with pytest.raises(BadReceipt, match="not of the instance KH"):
        verify(signed(), JWKS, "KH")


@pytest.mark.parametrize(
    "text", ["", "a.b", "a.b.c.d", "é.b.c", b"\xff.b.c", "a" * MAX_RECEIPT + ".b.c", "W10.W10.W10"]
)
def test_what_is_no_receipt(text: str | bytes) -> None:
    """It is refused with a sentence, whatever it is."""
    with pytest.raises(BadReceipt):
        verify(text, JWKS, "TEST")


def test_a_key_that_is_none_is_a_sentence_too() -> None:
    """A JWKS is other people's input."""
    bad = {"kty": "oct", "k": "AAAA", "kid": published("ES256")["kid"]}
    for keys, why in (([bad], "cannot be used"), ([1, None], "none of"), (7, "none of")):
        with pytest.raises(BadReceipt, match=why):
            verify(signed(), {"keys": keys}, "TEST")
