"""What a consumer says beside the body: each header's rule, and what a repeated key gets."""

from itertools import product
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.core.exchange import (
    ONCE,
    Head,
    KeyState,
    Next,
    address,
    after_found,
    fingerprint,
    hold_media,
    hold_size,
    once,
    read_head,
    trace,
)
from gateway.core.model import AgencyId, Obligation, ServiceId
from gateway.core.refusal import Refusal

many = settings(max_examples=200, deadline=None)


def head(**headers: str) -> Head:
    named = {f"Exchange-{name.title()}": value for name, value in headers.items() if name != "key"}
    if "key" in headers:
        named["Idempotency-Key"] = headers["key"]
    return read_head(CIMultiDict({"Exchange-Purpose": "tax", **named}))


def refused(**headers: str) -> str:
    """The code and the detail of the refusal; empty where there is none."""
    try:
        head(**headers)
    except Refusal as refusal:
        return f"{refusal.code}: {refusal.detail}"
    return ""


def test_a_head_is_read() -> None:
    """Everything that was said, under any spelling of the headers' names; what was not said is None."""
    lower = {"exchange-purpose": "tax", "EXCHANGE-CASE": "C/1 b", "exchange-user": "7", "exchange-for": "finance"}
    assert read_head(CIMultiDict(lower)) == Head("tax", "C/1 b", "7", AgencyId("finance"), None)
    assert head(key='"k 1"') == Head("tax", None, None, None, "k 1")


def test_a_purpose_is_needed() -> None:
    """A call that does not say what the record is for is malformed."""
    with pytest.raises(Refusal, match=r"Exchange-Purpose is missing") as caught:
        read_head(CIMultiDict({}))
    assert caught.value.code == "request.malformed"


RIGHT: dict[str, list[str]] = {
    "purpose": ["a", "tax_assessment", "t2", "a" * 64],
    "for": ["finance", "a", "a" + "b" * 62],
    "case": ["1", "C-2026/11 (b)", "~", "!", "x" * 256, 'a"b\\c'],
    "user": ["1", "sok.chea@finance", "x" * 256],
    "key": ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", '"8e03978e 40d5"', '"~!#[]"', "a" * 128, f'"{"a" * 128}"'],
}
WRONG: dict[str, list[str]] = {
    "purpose": ["", "Tax", "2tax", "tax-x", "tax assessment", "tax,audit", "a" * 65, "tax\n", " tax", "täx"],
    "for": ["", "Finance", "finance.tax", "a" * 64, "finance,interior", "finance ", "../x"],
    "case": ["", " ", " a", "a ", "a\tb", "a\r\nb", "é", "x" * 257, "\x7f", "a\x00"],
    "user": ["", " a", "ឈ្មោះ", "x" * 257],
    "key": ["", '""', '"a', 'a"', '"a"b"', '"a\\b"', "a b", "a,b", '"a";p=1', "a" * 129, f'"{"a" * 129}"', "é", '"é"'],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in RIGHT.items() for value in values])
def test_what_a_header_may_say(name: str, value: str) -> None:
    """At both ends of each rule."""
    assert refused(**{name: value}) == ""


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_what_a_header_may_not_say(name: str, value: str) -> None:
    """Beyond either end it is malformed; the detail names the header."""
    header = "Idempotency-Key" if name == "key" else f"Exchange-{name.title()}"
    assert refused(**{name: value}).startswith(f"request.malformed: {header} must be ")


@many
@given(st.sampled_from(sorted(RIGHT)), st.text(st.characters(codec="latin-1"), max_size=40))
def test_no_refusal_repeats_a_header(name: str, value: str) -> None:
    """Whatever a header holds, the detail of a refusal does not hold it: it may be a person's number."""
    assert refused(**{name: "MARKER" + value}).find("MARKER") == -1


def test_a_key_is_the_same_in_either_form() -> None:
    """A structured-field string and the bare text that many clients send are one key."""
    assert head(key='"abc-1"').key == head(key="abc-1").key == "abc-1"


@pytest.mark.parametrize(
    ("headers", "person", "given_"),
    [
        ({}, False, set()),
        ({"case": "C"}, False, {Obligation.CASE}),
        ({"user": "U"}, False, {Obligation.USER}),
        ({}, True, {Obligation.USER, Obligation.PERSON}),
        ({"case": "C", "user": "U"}, True, {Obligation.CASE, Obligation.USER, Obligation.PERSON}),
    ],
)
def test_what_a_call_brings(headers: dict[str, str], person: bool, given_: set[Obligation]) -> None:  # noqa: FBT001 - a column
    """A verified person is a user as well."""
    assert head(**headers).given(person=person) == given_


@pytest.mark.parametrize("name", ONCE)
def test_a_header_that_decides_comes_once(name: str) -> None:
    """Two of them, however they were written, are two stories; names come in lower case, as often as they were sent."""
    sent = [raw.lower() for raw in (b"Host", name.title().encode(), b"Accept", name.upper().encode())]
    with pytest.raises(Refusal, match=f"The header {name} was sent more than once") as caught:
        once(sent)
    assert caught.value.code == "request.malformed"


def test_every_header_that_is_read_comes_once() -> None:
    """Each header that this module reads by name stands in the list, and so do those of identity and content."""
    read = {"exchange-purpose", "exchange-case", "exchange-user", "exchange-for", "idempotency-key", "traceparent"}
    assert read | {"authorization", "exchange-user-assertion", "content-type", "content-encoding"} == {*ONCE}
    once([b"accept", b"accept", b"via", b"via", *(name.encode() for name in ONCE)])


IDS = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


@pytest.mark.parametrize(
    ("written", "valid"),
    [
        (f"00-{IDS}-01", True),
        (f"00-{IDS}-00", True),
        (f"00-{IDS}-ff", True),
        (f"cc-{IDS}-01", True),
        (f"cc-{IDS}-01-what-the-future-will-be-like", True),
        (f"fe-{IDS}-01-", True),
        (f"cc-{IDS}-01.what-the-future-will-be-like", False),
        (f"00-{IDS}-01-what-the-future-will-be-like", False),
        (f"00-{IDS}-01-", False),
        (f"00-{IDS}-01.", False),
        (f"ff-{IDS}-01", False),
        (f"0-{IDS}-01", False),
        (f"000-{IDS}-01", False),
        (f".0-{IDS}-01", False),
        (f"0.-{IDS}-01", False),
        (f"00-{IDS}-1", False),
        (f"00-{IDS}-001", False),
        (f"00-{IDS}-.0", False),
        (f"00-{IDS}", False),
        (f"00-{IDS.upper()}-01", False),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", False),
        (f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", False),
        ("00-.af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
        ("00-af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
        ("00-0af7651916cd43dd8448eb211c80319c0-b7ad6b7169203331-01", False),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01", False),
        (f" 00-{IDS}-01", False),
        (f"00-{IDS}-01 ", False),
        ("", False),
    ],
)
def test_traceparent(written: str, valid: bool) -> None:  # noqa: FBT001 - a column of the table
    """W3C Trace Context, sections 3.2 and 4.3, and its test suite: what is invalid is ignored, not refused."""
    assert trace(written) == (IDS[:32] if valid else None)
    assert trace(None) is None


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON",
        "application/json;charset=utf-8",
        'application/json; charset="UTF-8"',
        "application/json ;  charset=Utf-8 ",
    ],
)
def test_media_that_is_taken(kind: str) -> None:
    """JSON in UTF-8, however it is spelled; an encoding that changes nothing may be named."""
    hold_media(kind, None)
    hold_media(kind, "identity")


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/json",
        "application/json5",
        "application/problem+json",
        "application/json;charset=latin-1",
        "application/json;charset=utf-16",
        'application/json;charset="utf-8',
        "application/json;charset=utf-8;charset=utf-16",
        "application/json, text/plain",
        "application/json; boundary=x",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
    ],
)
def test_media_that_is_refused(kind: str | None) -> None:
    """Whatever could be read in another way than JSON in UTF-8."""
    with pytest.raises(Refusal, match="application/json") as caught:
        hold_media(kind, None)
    assert caught.value.code == "request.media_type"


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip", "", "zstd"])
def test_compressed_bodies_are_refused(encoding: str) -> None:
    """A size limit means nothing where a body unfolds behind it."""
    with pytest.raises(Refusal, match="Content-Encoding") as caught:
        hold_media("application/json", encoding)
    assert caught.value.code == "request.media_type"


def test_an_announced_size_is_held() -> None:
    """Up to the limit, and not one byte more; what is not announced is counted while it is read."""
    hold_size(100, 100)
    hold_size(None, 100)
    with pytest.raises(Refusal, match="at most 100 bytes") as caught:
        hold_size(101, 100)
    assert caught.value.code == "request.too_large"


@pytest.mark.parametrize(
    ("agency", "service"),
    [
        ("interior", "population.person_lookup"),
        ("interior", "population.person_lookup.v0"),
        ("interior", "population.person_lookup.v01"),
        ("interior", "population.person.lookup.v1"),
        ("interior", "Population.person_lookup.v1"),
        ("interior", "population.person_lookup.v1\n"),
        ("Interior", "population.person_lookup.v1"),
        ("interior.registry", "population.person_lookup.v1"),
        ("..", "population.person_lookup.v1"),
        ("", "population.person_lookup.v1"),
        ("i" * 64, "population.person_lookup.v1"),
    ],
)
def test_addresses_that_cannot_be(agency: str, service: str) -> None:
    """What cannot be a name is unknown, before anything is looked up, and is not repeated."""
    with pytest.raises(Refusal) as caught:
        address(agency, service)
    assert (caught.value.code, service in caught.value.detail) == ("catalogue.unknown", False)


def test_an_address() -> None:
    """A name of an agency, and of a service with its version."""
    named = address("interior", "population.person_lookup.v12")
    assert named == ("interior", "population.person_lookup.v12")


PARTS: dict[str, Any] = {
    "provider": "interior",
    "service": "a.b.v1",
    "purpose": "tax",
    "case": "C",
    "on_behalf": "moi",
    "body": b"{}",
}


def printed(**parts: Any) -> bytes:
    every = {**PARTS, **parts}
    said = Head(every["purpose"], every["case"], every.get("user"), every["on_behalf"], every.get("key"))
    return fingerprint(AgencyId(every["provider"]), ServiceId(every["service"]), said, every["body"])


@pytest.mark.parametrize("part", PARTS)
def test_a_fingerprint_changes_with_each_part(part: str) -> None:
    """Another target, purpose, case, mandate or body is another call."""
    other = PARTS[part] + (b" " if part == "body" else "x")
    assert printed(**{part: other}) != printed()
    assert len(printed()) == 32


def test_a_fingerprint_is_of_the_call_alone() -> None:
    """The key itself and the clerk who repeats the call are no part of it, and an absent part is an empty one."""
    assert printed(user="7", key="k") == printed(user="8", key=None) == printed()
    assert printed(case=None, on_behalf=None) != printed()


part_names = st.sampled_from(sorted(PARTS))
lines = st.text("ab\x00\x01", min_size=1, max_size=4)
calls = st.fixed_dictionaries({**dict.fromkeys(PARTS, lines), "body": st.binary(max_size=6)})


@many
@given(calls, calls)
def test_different_calls_have_different_fingerprints(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Whatever the parts hold, two calls agree in all of them or have two fingerprints."""
    assert (printed(**one) == printed(**other)) is (one == other)


@many
@given(calls, st.integers(1, 4), st.sampled_from(["provider", "service", "purpose", "case", "on_behalf"]))
def test_bytes_cannot_be_moved_between_parts(call: dict[str, Any], count: int, part: str) -> None:
    """What leaves the end of one part for the beginning of the next, the body included, is noticed."""
    after = list(PARTS)[list(PARTS).index(part) + 1]
    moved = call[part][-count:]
    begin = moved.encode() + call["body"] if after == "body" else moved + call[after]
    changed = {**call, part: call[part][:-count], after: begin}
    assume(changed != call)
    assert printed(**changed) != printed(**call)


FOUND: dict[tuple[KeyState, bool, bool], Next] = {
    (KeyState.ANSWERED, False, False): Next.REPLAY,
    (KeyState.ANSWERED, False, True): Next.REPLAY,
    (KeyState.ANSWERED, True, False): Next.REPLAY,
    (KeyState.ANSWERED, True, True): Next.REPLAY,
    (KeyState.RUNNING, False, False): Next.RUNNING,
    (KeyState.RUNNING, False, True): Next.RUNNING,
    (KeyState.RUNNING, True, False): Next.UNKNOWN,
    (KeyState.RUNNING, True, True): Next.AGAIN,
    (KeyState.UNKNOWN, False, False): Next.UNKNOWN,
    (KeyState.UNKNOWN, False, True): Next.AGAIN,
    (KeyState.UNKNOWN, True, False): Next.UNKNOWN,
    (KeyState.UNKNOWN, True, True): Next.AGAIN,
}
"""By state, whether its deadline has passed, whether the provider takes the key."""


@pytest.mark.parametrize(("state", "late", "takes_key"), [*product(KeyState, (False, True), (False, True))])
def test_what_a_second_caller_gets(state: KeyState, late: bool, takes_key: bool) -> None:  # noqa: FBT001 - the table
    """Every row: only a provider that takes the key is called again, and another call never gets this one's answer."""
    assert after_found(state, same=True, late=late, takes_key=takes_key) is FOUND[state, late, takes_key]
    assert after_found(state, same=False, late=late, takes_key=takes_key) is Next.REUSED
