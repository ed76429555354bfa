"""What goes into addresses, headers and fields, and what never does."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.mapping import Address, Fields, Line

BODY = {"id": "12/34", "n": 7, "yes": True, "half": 0.5, "deep": {"a~b": {"c/d": "x"}}, "list": [1], "none": None}
HOST = "http://h.test:80"


def address(url: str, **query: str) -> str:
    return Address(HOST + url, query).filled(BODY)


@pytest.mark.parametrize(
    ("url", "filled"),
    [
        ("/persons", "/persons"),
        ("/persons/{/id}", "/persons/12%2F34"),
        ("/{/n}/{/yes}/{/half}", "/7/true/0.5"),
        ("/x-{/deep/a~0b/c~1d}.json", "/x-x.json"),
        ("/find?id={/id}&all=1", "/find?id=12%2F34&all=1"),
        ("", ""),
    ],
)
def test_a_placeholder_is_one_segment(url: str, filled: str) -> None:
    """A value is percent-encoded whole, booleans and numbers as JSON text, and stays within its segment."""
    assert address(url) == HOST + filled


def test_query_values_are_escaped() -> None:
    """Names, literal text and values of the query option cannot add a parameter of their own."""
    assert address("/a?b=1", id="p&{/id}", other="ភូមិ") == (
        HOST + "/a?b=1&id=p%2612%2F34&other=%E1%9E%97%E1%9E%BC%E1%9E%98%E1%9E%B7"
    )


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_a_value_cannot_climb(value: str) -> None:
    """A value that a server would read as an empty, this or the parent folder is refused in a path."""
    with pytest.raises(ValueError, match=r"^the text at /id can be no part of a path$"):
        Address(HOST + "/persons/{/id}", {}).filled({"id": value})


@pytest.mark.parametrize("pointer", ["/absent", "/list", "/deep", "/none", "/list/0", "/id/x"])
def test_only_scalars_are_filled_in(pointer: str) -> None:
    """Objects, arrays, null and what is not there are errors that name the pointer."""
    with pytest.raises(ValueError, match=re.escape(pointer)):
        address(f"/a/{{{pointer}}}")


def outcome(text: str) -> str:
    try:
        return Address(HOST + "/a/{/id}", {}).filled({"id": text})
    except ValueError as error:
        return str(error)


@given(st.text(st.characters(categories=["L", "Cc", "Cs", "P"]), max_size=8))
def test_whatever_a_request_holds(text: str) -> None:
    """An accepted value stays one segment, and a refused one does not stand in the error."""
    segment = re.escape(HOST) + r"/a/(?!\.{0,2}$)[A-Za-z0-9%._~-]+"
    refusal = r"the text at /id (can be no part of a path|has control characters)"
    assert re.fullmatch(f"{segment}|{refusal}", outcome(text))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://h/", "must begin with http"),
        ("http://user:pw@h/", "without user"),
        ("http://{/id}/", "must begin with http"),
        ("http://h{/id}", "must begin with http"),
        ("http://h/${NAME}", "environment variable"),
        ("http://h/{id}", "brace"),
        ("http://h:65536/", "must begin with http"),
        ("http://h/a b", "percent-encoded"),
        ("http://h/a#b", "fragment"),
        ("http://h/{/id}{/n}", "between the placeholders"),
        ("http://h/.{/id}", "between the placeholders"),
        ("http://h/%2e{/id}", "between the placeholders"),
    ],
)
def test_wrong_addresses(url: str, words: str) -> None:
    """A wrong template is found when the endpoint is connected, not at the first call."""
    with pytest.raises(ValueError, match=words):
        Address(url, {})


@pytest.mark.parametrize("value", ["a\r\nb", "a\x00", "é", "\x7f"])
def test_headers_carry_printable_ascii_alone(value: str) -> None:
    """A value cannot begin another header, and nothing goes out whose encoding is anybody's guess."""
    with pytest.raises(ValueError, match="no header can carry"):
        Line("x {/id}").filled({"id": value})
    with pytest.raises(ValueError, match="no header can carry"):
        Line(value)


def test_a_header_is_filled() -> None:
    """Placeholders in headers take scalars as they are; a header without one is known beforehand."""
    assert Line("id {/id}; n={/n}").filled(BODY) == "id 12/34; n=7"
    assert Line("plain").fixed == "plain"


@pytest.mark.parametrize(
    ("mapping", "made"),
    [
        ({"/a/b": "/n", "/a/c": "/deep", "/gone": "/absent"}, {"a": {"b": 7, "c": BODY["deep"]}}),
        ({"": "/deep"}, BODY["deep"]),
        ({"/query": ""}, {"query": BODY}),
        ({"/null": "/none", "/l": "/list"}, {"null": None, "l": [1]}),
        ({"": "/absent"}, {}),
    ],
)
def test_fields_move(mapping: dict[str, str], made: object) -> None:
    """Each target takes what stands at its source; a missing source leaves its target out."""
    assert Fields(mapping).of(BODY) == made


@pytest.mark.parametrize("mapping", [{"/a": "/x", "/a/b": "/y"}, {"": "/x", "/b": "/y"}, {"a": "/x"}, {"/a": "x"}])
def test_wrong_fields(mapping: dict[str, str]) -> None:
    """A target within another one, or what is no pointer, is found when the endpoint is connected."""
    with pytest.raises(ValueError, match=r"lies within|no JSON Pointer"):
        Fields(mapping)
