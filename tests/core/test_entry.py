"""An entry, byte by byte: stable, bound to its bodies and particulars, and free of them."""

import hashlib
import hmac
from dataclasses import fields
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.entry import (
    SALT_BYTES,
    SALTS_BYTES,
    Bodies,
    Particulars,
    Stamp,
    Step,
    canonical,
    draft,
    faults,
    leaf,
    numbered,
    pseudonym,
    values_at,
)

many = settings(max_examples=150, deadline=None)
SALTS = bytes(range(SALTS_BYTES))
FACTS = {"step": Step.ANSWERED, "at": 1795262400.25, "consumer": "finance.tax", "code": None, "status": 200}
BODIES = Bodies(b'{"id":"1"}', b"", b'{"name":"Chea"}', b"{}")
PARTICULARS = Particulars(
    user="clerk 7",
    person={"issuer": "https://idp", "subject": "7"},
    case="C-1",
    key="key-1",
    subjects=("ab", "cd"),
    more_subjects=3,
    said={"purpose": "curiosity"},
)


def test_the_bytes_are_stable() -> None:
    """The same facts give these bytes for ever: a later version must still find the leaves of earlier ones."""
    entry, stamp = numbered(draft(FACTS, BODIES, PARTICULARS, SALTS), 7, 42)
    assert entry == (
        b'{"entry":"7.42","step":"answered","at":1795262400.25,"consumer":"finance.tax","status":200,"digests":{'
        b'"received":"b03c7fbb6684836c40ba5b207ec214006b917b5150797b0718f7840b6426d64d",'
        b'"sent":"fc2e2c73072bfa2bda03ff9307472debd3cc8105028a8a9e235e35ba8d2e37f4",'
        b'"provided":"339ede006f33fae2253b8abf5884e3eeeb51eab9e99b4041f68e11ce1a69bd2e",'
        b'"released":"16afc473f5a636ea1bcbb5fea0cbac6d75df6a5926f0d048e8999e72e7301a8f"},'
        b'"particulars":"0b327d9b7df765fa6d928360373fc608022ee7e898d5ace66f5df6c6bb4fa328"}'
    )
    assert str(stamp) == "7.42 01e8d1b10cabd9726b8edee4bac00232213cb1ebce581280d0772caafe2bd95d"


def test_the_particulars_are_stable() -> None:
    """What stands beside the entry: the salts of the bodies, who and why; absent things are left out."""
    assert draft(FACTS, BODIES, PARTICULARS, SALTS).particulars == (
        b'{"salts":{"received":"000102030405060708090a0b0c0d0e0f","sent":"101112131415161718191a1b1c1d1e1f",'
        b'"provided":"202122232425262728292a2b2c2d2e2f","released":"303132333435363738393a3b3c3d3e3f"},'
        b'"user":"clerk 7","person":{"issuer":"https://idp","subject":"7"},"case":"C-1","key":"key-1",'
        b'"subjects":["ab","cd"],"more_subjects":3,"said":{"purpose":"curiosity"}}'
    )
    nobody = draft({}, Bodies(), Particulars(), SALTS)
    assert nobody.particulars == b'{"salts":{"none":"000102030405060708090a0b0c0d0e0f"}}'


def test_a_leaf_is_that_of_rfc_6962() -> None:
    """SHA-256 over 0x00 and the bytes (section 2.1); of the empty input as the RFC's test vectors have it."""
    assert leaf(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert leaf(b"\x00").hex() == "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
    entry, stamp = numbered(draft(FACTS, BODIES, PARTICULARS, SALTS), 1, 1)
    assert stamp == Stamp(1, 1, hashlib.sha256(b"\x00" + entry).digest())


@pytest.mark.parametrize("place", range(4))
def test_each_body_has_a_salt_of_its_own(place: int) -> None:
    """Four equal bodies have four digests, each made with the salt that the particulars show for it alone."""
    name = [each.name for each in fields(Bodies)][place]
    made = draft(FACTS, Bodies(b"same", b"same", b"same", b"same"), PARTICULARS, SALTS)
    digests, salts = orjson.loads(made.tail)["digests"], orjson.loads(made.particulars)["salts"]
    assert len({*digests.values()}) == len({*salts.values()}) == 4
    assert salts[name] == SALTS[place * SALT_BYTES :][:SALT_BYTES].hex()
    assert digests[name] == hashlib.sha256(bytes.fromhex(salts[name]) + b"same").hexdigest()


def test_a_body_that_was_not_there_has_no_digest() -> None:
    """An empty body is one, a missing one is not; and no salt is shown that proves nothing."""
    made = draft(FACTS, Bodies(received=b""), PARTICULARS, SALTS)
    assert orjson.loads(made.tail)["digests"].keys() == {"received"} == orjson.loads(made.particulars)["salts"].keys()
    assert "digests" not in orjson.loads(draft(FACTS, Bodies(), PARTICULARS, SALTS).tail)


@many
@given(st.lists(st.binary(min_size=SALT_BYTES, max_size=SALT_BYTES), min_size=4, max_size=4, unique=True))
def test_the_entry_tells_nothing_without_the_particulars(salts: list[bytes]) -> None:
    """Neither a body nor anything of the particulars stands in it, and no salt: what is forgotten is gone."""
    bodies = Bodies(b"body-one", b"body-two", b"body-three", b"body-four")
    entry, _ = numbered(draft(FACTS, bodies, PARTICULARS, b"".join(salts)), 1, 1)
    secrets = [
        b"body-",
        b"clerk",
        b"https://idp",
        b"C-1",
        b"key-1",
        b"curiosity",
        *(salt.hex().encode() for salt in salts),
    ]
    assert [secret for secret in secrets if secret in entry] == []


@many
@given(st.binary(min_size=64, max_size=64), st.binary(min_size=64, max_size=64))
def test_without_bodies_the_particulars_cannot_be_guessed(one: bytes, other: bytes) -> None:
    """A case number has few possibilities: its hash in the entry is salted even where no body has a salt."""
    first, second = (draft({}, Bodies(), Particulars(case="C-1"), salts).tail for salts in (one, other))
    assert (first == second) is (one[:SALT_BYTES] == other[:SALT_BYTES])


def kept() -> tuple[bytes, bytes, bytes]:
    made = draft(FACTS, BODIES, PARTICULARS, SALTS)
    entry, stamp = numbered(made, 7, 42)
    return stamp.leaf, entry, made.particulars


def flipped(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8 % len(raw)] ^= 1 << bit % 8
    return bytes(changed)


def test_an_untouched_entry_has_no_faults() -> None:
    """With its particulars, and as well when they were forgotten."""
    assert faults(7, 42, kept()) == ()
    assert faults(7, 42, (*kept()[:2], None)) == ()


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 8191), st.integers(0, 2))
def test_every_changed_bit_is_found(bit: int, part: int) -> None:
    """In the leaf, in the entry, also where it then is no JSON any more, and in the particulars."""
    changed: list[Any] = list(kept())
    changed[part] = flipped(changed[part], bit)
    leaf_, entry, particulars = changed
    assert faults(7, 42, (leaf_, entry, particulars))


@pytest.mark.parametrize(("writer", "n"), [(7, 43), (8, 42), (74, 2)])
def test_an_entry_in_another_place_is_found(writer: int, n: int) -> None:
    """An entry that was moved says so, though its leaf is right."""
    assert faults(writer, n, kept()) == ("the entry carries another number",)


@pytest.mark.parametrize("entry", [b"", b"[]", b"null", b"7", b"{", b'{"entry":7}'])
def test_what_is_no_entry_is_a_fault_and_no_crash(entry: bytes) -> None:
    """Whoever replaced the bytes and computed a right leaf is told from the number and the particulars."""
    assert faults(7, 42, (leaf(entry), entry, b"{}")) == (
        "the entry carries another number",
        "the particulars are not those of the entry",
    )


identifiers = st.permutations([("country", "KH"), ("type", "nid"), ("value", "012345678")])


@many
@given(identifiers, st.binary(min_size=32, max_size=32))
def test_a_person_has_one_pseudonym(members: list[tuple[str, str]], key: bytes) -> None:
    """Whatever the order of an identifier's members, it is HMAC-SHA-256 of one spelling under the period's key."""
    spelled = canonical(dict(members))
    assert spelled == b'{"country":"KH","type":"nid","value":"012345678"}'
    assert pseudonym(key, spelled) == hmac.new(key, spelled, hashlib.sha256).hexdigest()


def test_another_key_or_person_is_another_pseudonym() -> None:
    """Periods cannot be joined without their keys, and a number is no text."""
    people = [canonical(person) for person in ("1", 1, ["1"], {"a": 1})]
    assert len({pseudonym(key, person) for key in (b"1" * 32, b"2" * 32) for person in people}) == 8


KIN = [{"id": 2}, {"id": None}, {"id": [3, [4]]}, {"id": 0}, 5]
RECORD = {"id": 1, "kin": KIN, "none": None}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ((), [RECORD]),
        (("id",), [1]),
        (("kin", "id"), [2, 3, 4, 0]),
        (("kin",), KIN),
        (("none",), []),
        (("id", "deeper"), []),
        (("gone",), []),
    ],
)
def test_subjects_are_found_through_arrays(path: tuple[str, ...], found: list[object]) -> None:
    """Everybody whom an answer is about is found at a pointer, in lists of any depth; null is nobody."""
    assert list(values_at(RECORD, path)) == found
