"""Strict JSON, and schemas that two engines understand alike and one explains without a word of the value."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.shape import MAX_DEPTH, MAX_INTEGER, BadSchema, Malformed, Shape, parse

many = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
DIALECT = "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'"\\u0000"', "\x00"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b' {"a" : [ ] }\r\n', {"a": []}),
        (b'{"a":{"a":1},"b":{"a":1}}', {"a": {"a": 1}, "b": {"a": 1}}),
        (b'{"a":1,"A":2}', {"a": 1, "A": 2}),
        (b"[9007199254740991,-9007199254740991]", [MAX_INTEGER, -MAX_INTEGER]),
        (b'"9007199254740993"', "9007199254740993"),
        (b"-0", 0),
        (b"1E20", 1e20),
        (b"1e308", 1e308),
        (b"1e-400", 0.0),
        (b"9007199254740993.0", 9007199254740992.0),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None),
        (b'["' + b"[" * 70 + b'"]', ["[" * 70]),
    ],
)
def test_json_that_is_taken(raw: bytes, value: object) -> None:
    """NUL and pairs of surrogates are text; with a fraction or an exponent a number is the nearest double."""
    assert parse(raw) == value or value is None


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "empty"),
        (b" ", "empty"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'"\xff"', "not valid UTF-8"),
        (b'"\xed\xa0\x80"', "not valid UTF-8"),
        (b'"\\ud800"', "surrogate"),
        (b'"\\udc00"', "surrogate"),
        ('"é"'.encode("utf-16"), "no JSON"),
        (b'"\x01"', "control character"),
        (b"{}x", "after document"),
        (b"{} {}", "after document"),
        (b'{"a":1,}', "trailing comma"),
        (b"{'a':1}", "no JSON"),
        (b"01", "leading zero"),
        (b"NaN", "no JSON"),
        (b"[Infinity]", "no JSON"),
        (b"1e400", "infinity"),
        (b"[-1e400]", "infinity"),
        (b"9" * 400, "infinity"),
        (b"// a\n1", "no JSON"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested deeper than 64 levels"),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "nested deeper than 64 levels"),
        (b"[" * 10_000 + b"]" * 10_000, "depth"),
        (b"[" * 10_000, "depth"),
    ],
)
def test_json_that_is_refused(raw: bytes, words: str) -> None:
    """What two readers could read differently is refused, with a reason."""
    with pytest.raises(Malformed, match=words):
        parse(raw)


@pytest.mark.parametrize("around", ["%s", "[0,%s]", '{"x":%s}', " %s", "[" * 60 + "%s" + "]" * 60])
@pytest.mark.parametrize(
    "twice",
    [
        '{"a":1,"a":1}',
        '{"a":1,"a":2}',
        '{"a": 1, "b": 2, "a": 3}',
        '{"a":1,"\\u0061":2}',
        '{"/":1,"\\/":2}',
        '{"":1,"":2}',
        '{"ក":1,"\\u1780":1}',
        '{"a":{"b":1,"b":1}}',
    ],
)
def test_a_name_stands_once_in_an_object(around: str, twice: str) -> None:
    """The same name twice is refused at every depth and in every spelling (RFC 7493, section 2.3)."""
    with pytest.raises(Malformed, match="same name twice"):
        parse((around % twice).encode())


@pytest.mark.parametrize("around", ["%d", "[1,%d]", '{"a":%d}', "[[ %d ]]", '["9",%d]'])
@pytest.mark.parametrize("number", [2**53, 2**53 + 1, 10**16, 2**63, 2**64, 10**40, 10**300])
def test_integers_that_others_would_round_are_refused(around: str, number: int) -> None:
    """From 2^53 on, of either sign, an integer is refused and belongs into a string (RFC 7493, section 2.2)."""
    for each in (number, -number):
        with pytest.raises(Malformed, match=r"beyond 2\^53"):
            parse((around % each).encode())


texts = st.text(max_size=5) | st.sampled_from(["\x00", "\u2028", "\U0001f600", "\\u0061", "1" * 20])
leaves = (
    st.none()
    | st.booleans()
    | texts
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
)
documents = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=20
)


@many
@given(documents, st.booleans(), st.sampled_from([None, 1]), st.sampled_from([(",", ":"), (" ,", ": ")]))
def test_whatever_json_is_written_is_read(value: Any, ascii_: bool, indent: int | None, between: Any) -> None:  # noqa: FBT001 - drawn
    """However a value is spelled, the same value is read, to the last bit of a number and in the same order."""
    raw = json.dumps(value, ensure_ascii=ascii_, indent=indent, separators=between).encode()
    assert repr(parse(raw)) == repr(value)


MARKER = "marker 7f3a"
broken = st.one_of(
    st.binary(max_size=3),
    st.sampled_from([b'"', b",", b"}", b"\x00", b"\\u12", b'"marker 7f3a":1,"marker 7f3a":2', b"1e999", b"[" * 2000]),
)


def outcome(raw: bytes) -> str:
    try:
        parse(raw)
    except Malformed as error:
        return str(error)
    return ""


@many
@given(st.integers(0, 50), broken)
def test_no_error_repeats_the_body(place: int, what: bytes) -> None:
    """Whatever is wrong with a body, and wherever, the message holds nothing of it."""
    raw = json.dumps({MARKER: [MARKER, 77777777, {MARKER: None}], "x": MARKER}).encode()
    said = outcome(raw[:place] + what + raw[place:])
    assert MARKER not in said
    assert "7777" not in said


numbers = st.sampled_from([0, 1, 2, -1, 3, 1.0, 0.1, 0.3, 2.5, -0.0, 1e300, 1e-300, MAX_INTEGER, 1e20, 4.35])
words = st.sampled_from(["", "a", "aa", "ab", "\U0001f600", "\U0001f600a", "2026-02-28", "::1", "x@y.z", "\x00", "ក្ក"])
scalars = st.none() | st.booleans() | numbers | words
names = st.sampled_from(["a", "b", "c"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
small = st.integers(0, 3)
kinds = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
patterns = st.sampled_from(["^a+$", "(a+)+$", r"^\d", r"\p{L}", "^.$", r"\w", "é?"])
formats = st.sampled_from(["date", "time", "date-time", "duration", "email", "ipv6", "uri", "uuid", "json-pointer"])
ASSERTIONS: Mapping[str, st.SearchStrategy[Any]] = {
    "type": kinds | st.lists(kinds, min_size=1, max_size=3, unique=True),
    "enum": st.lists(values, min_size=1, max_size=3, unique_by=json.dumps),
    "const": values,
    "multipleOf": st.sampled_from([1, 2, 3, 0.1, 0.01, 0.5, 1e-10, 1e300, 2.0]),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), numbers),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), small),
    **dict.fromkeys(("minContains", "maxContains"), small),
    "pattern": patterns,
    "format": formats,
    "uniqueItems": st.booleans(),
    "required": st.lists(names, unique=True, max_size=2),
    "dependentRequired": st.dictionaries(names, st.lists(names, unique=True, max_size=2), max_size=2),
    "$ref": st.sampled_from(["#/$defs/X", "#/$defs/Y"]),
}
ONE = ("additionalProperties", "propertyNames", "items", "contains", "not", "if", "then", "else")
LATER = "unevaluatedProperties"


@st.composite
def rules(draw: st.DrawFn, inner: st.SearchStrategy[Any], *, refs: bool = True) -> dict[str, Any]:
    """A schema of a few words."""
    some = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(names, inner, min_size=1, max_size=3)
    words_ = {
        **ASSERTIONS,
        **dict.fromkeys((*ONE, LATER), inner),
        **dict.fromkeys(("properties", "dependentSchemas"), named),
        **dict.fromkeys(("prefixItems", "allOf", "anyOf", "oneOf"), some),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(words_)), min_size=1, max_size=4, unique=True))
    return {word: draw(words_[word]) for word in chosen if refs or word != "$ref"}


plain = st.recursive(st.booleans(), lambda inner: rules(inner, refs=False), max_leaves=3)
nested = rules(st.recursive(st.booleans(), rules, max_leaves=4))
schemas = st.builds(lambda top, x, y: {**top, "$defs": {"X": x, "Y": y}}, nested, plain, plain)


@many
@given(schemas, st.lists(values, min_size=6, max_size=6))
def test_both_engines_reach_the_same_verdict(schema: dict[str, Any], several: list[Any]) -> None:
    """What fits has no faults, what does not has some, in jsonschema's own judgement as in jsonschema-rs's."""
    shape = Shape(schema)
    for value in several:
        assert shape.fits(value) is (next(shape._errors(value), None) is None)
        assert shape.fits(value) is (shape.faults(value) == ())
        assert shape.fits(value) is (shape.broken_rules(value) == ())


objects = st.dictionaries(names, st.sampled_from([1, 1.5, "a", None, {"a": 1}, {"a": "x"}]), max_size=3)
leftover = st.fixed_dictionaries({LATER: st.sampled_from([False, {"type": "integer"}])})


@many
@given(st.builds(lambda top, later: {**top, **later}, schemas, leftover), st.lists(objects, min_size=6, max_size=6))
def test_both_engines_agree_on_what_is_left_over(schema: dict[str, Any], several: list[Any]) -> None:
    """unevaluatedProperties, the word with the most intricate definition, beside any other."""
    shape = Shape(schema)
    assert [shape.fits(value) for value in several] == [next(shape._errors(value), None) is None for value in several]


@pytest.mark.parametrize(
    ("rule", "fitting", "not_fitting"),
    [
        ({"multipleOf": 0.1}, [0.3, 0.7, 1.1, 1, 0], [0.35, 4.35]),
        ({"multipleOf": 0.01}, [0.07, 4.35, 19.99], [0.075]),
        ({"multipleOf": 3}, [9, 9.0, -3, 0], [1, 1e300, MAX_INTEGER]),
        ({"uniqueItems": True}, [[1, True], [0, False], [[1], [True]], ["1", 1]], [[1, 1.0], [{"a": 1}, {"a": 1.0}]]),
        ({"uniqueItems": True}, [[{"a": 1, "b": 2}, {"a": 1}]], [[{"a": 1, "b": 2}, {"b": 2, "a": 1}], [0.0, -0.0]]),
        ({"enum": [1, "a"]}, [1, 1.0, "a"], [True, "1"]),
        ({"const": 0}, [0, 0.0, -0.0], [False, None, ""]),
        ({"type": "integer"}, [1, 1.0, 1e20], [1.5, True, "1"]),
        ({"type": ["boolean", "null"]}, [True, None], [0, 1, ""]),
        ({"maxLength": 1}, ["\U0001f600", "é", "\x00"], ["e\u0301", "ក្ក"]),
        ({"format": "date"}, ["2028-02-29", 5], ["2026-02-29", "2026-2-1", "0000-00-00"]),
        ({"pattern": r"^\d+$"}, ["7", 5], ["\u0667", "", "7\n"]),
        ({"contains": {"type": "string"}, "minContains": 0}, [[], [1]], []),
    ],
)
def test_where_readers_of_the_standard_differ(rule: dict[str, Any], fitting: list[Any], not_fitting: list[Any]) -> None:
    """One definition of multiples, of equal items, of characters and of dates, in the verdict as in the words."""
    shape = Shape(rule)
    assert [value for value in fitting if not shape.fits(value) or shape.faults(value)] == []
    assert [value for value in not_fitting if shape.fits(value) or not shape.faults(value)] == []


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"$id": "https://a.example/"}, "/$id"),
        ({"items": {"$anchor": "a"}}, "/items/$anchor"),
        ({"$defs": {"A": {"$dynamicAnchor": "a"}}}, "/$defs/A/$dynamicAnchor"),
        ({"not": {"$dynamicRef": "#a"}}, "/not/$dynamicRef"),
        ({"$vocabulary": {}}, "/$vocabulary"),
        ({"dependencies": {"a": ["b"]}}, "/dependencies"),
        ({"unevaluatedItems": False}, "/unevaluatedItems"),
        ({"patternProperties": {"(a+)+$": {}}}, "/patternProperties"),
        ({"properties": {"properties": {"patternProperties": {}}}}, "/properties/properties/patternProperties"),
        ({"properties": {"default": {"patternProperties": {}}}}, "/properties/default/patternProperties"),
        ({"properties": {"a/b": {"patternProperties": {}}}}, "/properties/a~1b/patternProperties"),
        ({"allOf": [{}, {"$id": "a"}]}, "/allOf/1/$id"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "/$schema"),
        ({"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#"}}}, "/properties/a/$schema"),
        ({"$ref": "https://a.example/schema.json"}, "/$ref"),
        ({"$ref": "file:///etc/passwd"}, "/$ref"),
        ({"$ref": "other.json"}, "/$ref"),
        ({"$ref": "A", "$defs": {"A": {}}}, "/$ref"),
        ({"$ref": "#/$defs/Gone", "$defs": {}}, "/$ref"),
        ({"$ref": "#/properties/a", "properties": {"a": {}}}, "/$ref"),
        ({"$ref": "#/$defs/a/not", "$defs": {"a": {"not": {}}, "a/not": {}}}, "/$ref"),
        ({"$ref": "#/$defs/a%41", "$defs": {"a%41": {}}}, "/$ref"),
        ({"properties": {"const": {"$ref": "#here"}}}, "/properties/const/$ref"),
        ({"$ref": "#"}, ""),
        ({"not": {"anyOf": [{}, {"$ref": "#"}]}}, ""),
        ({"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"if": {"$ref": "#/$defs/A"}}}}, "/$defs/A"),
        ({"type": "strin"}, "/type"),
        ({"properties": {"a~b": {"minLength": -1}}}, "/properties/a~0b/minLength"),
        ({"format": "no-such-format"}, ""),
        ({"pattern": "(?=a)"}, ""),
        ({"pattern": r"(a)\1"}, ""),
        ({"pattern": "((a{100}){100}){100}"}, ""),
    ],
)
def test_schemas_that_are_refused(schema: dict[str, Any], pointer: str) -> None:
    """Other dialects, references out or in circles, patterns without a linear bound: refused, with the place."""
    with pytest.raises(BadSchema) as caught:
        Shape(schema)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    ("schema", "fitting", "not_fitting"),
    [
        ({"properties": {"$id": {"type": "string"}, "patternProperties": {}}}, {"$id": "x"}, {"$id": 1}),
        ({"const": {"$ref": "https://a.example/", "$id": 1}}, {"$ref": "https://a.example/", "$id": 1}, {}),
        ({"$defs": {"default": {"type": "string"}}, "$ref": "#/$defs/default"}, "x", 1),
        ({"$defs": {"A": {"$schema": DIALECT, "const": 1}}, "items": {"$ref": "#/$defs/A"}}, [1], [2]),
        ({"properties": {"c": {"$ref": "#"}, "n": {"type": "null"}}}, {"c": {"c": {"n": None}}}, {"c": {"n": 1}}),
        ({"properties": {"properties": True}, "required": ["properties"]}, {"properties": 1}, {}),
        ({"x-note": {"patternProperties": 1}, "const": 1}, 1, 2),
    ],
)
def test_schemas_that_are_taken(schema: dict[str, Any], fitting: object, not_fitting: object) -> None:
    """Names are no words, literals are no schemas, and recursion that goes deeper is welcome."""
    shape = Shape(schema)
    assert (shape.fits(fitting), shape.faults(fitting)) == (True, ())
    assert (shape.fits(not_fitting), shape.faults(not_fitting) == ()) == (False, False)


def test_a_dialect_named_inside_changes_nothing() -> None:
    """Below a reference to a schema that names its dialect the same definitions hold, and the same linear patterns."""
    member = {"properties": {"c": {"$ref": "#"}, "n": {"multipleOf": 0.1}, "p": {"pattern": "^(a+)+$"}}}
    shape = Shape({"$schema": DIALECT, **member})
    assert shape.faults({"c": {"c": {"n": 0.3}}}) == ()
    assert [each.pointer for each in shape.faults({"c": {"c": {"p": "a" * 60 + "!"}}})] == ["/c/c/p"]
