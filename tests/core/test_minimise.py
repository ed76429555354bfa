"""What an agreement discloses: nothing beside it survives, and the schema that a caller sees is true."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway.core.minimise import can_contain, cut_of, minimise, parts, reduced
from gateway.core.shape import Shape

many = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
names = st.sampled_from(["a", "b", "c", "a/b", "m~n", "~1", "", "ឈ្មោះ"])
scalars = st.none() | st.booleans() | st.integers(0, 9) | st.text("xy", max_size=2)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)

Path = tuple[str, ...]


def pointer(path: Sequence[str]) -> str:
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in path)


pointers = st.lists(st.lists(names, min_size=1, max_size=4).map(pointer), max_size=4)


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every scalar with the names that lead to it, whatever the places in arrays."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, path)
    else:
        yield path, repr(value)


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every member with the names that lead to it, the value itself first."""
    yield path
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield from paths(inner, (*path, name))
    for inner in value if isinstance(value, list) else ():
        yield from paths(inner, path)


def covered(path: Path, chosen: Sequence[str]) -> bool:
    return any(path[: len(parts(each))] == parts(each) for each in chosen)


@pytest.mark.parametrize(
    ("written", "tokens"),
    [
        ("", ()),
        ("/", ("",)),
        ("/foo/0", ("foo", "0")),
        ("/a~1b", ("a/b",)),
        ("/m~0n", ("m~n",)),
        ("/~01", ("~1",)),
        ("/c%d", ("c%d",)),
        ("/ ", (" ",)),
        ("/a//b/", ("a", "", "b", "")),
    ],
)
def test_a_pointer_is_read_as_rfc_6901_says(written: str, tokens: Path) -> None:
    """Section 5 of the RFC, and the order of its two escapes."""
    assert parts(written) == tokens
    assert pointer(tokens) == written


@pytest.mark.parametrize("written", ["a", "a/b", "/~", "/a~2", "/~a", "#/a", " /a"])
def test_what_is_no_pointer_is_refused(written: str) -> None:
    """A pointer that could be read in two ways discloses nothing: it is an error."""
    with pytest.raises(ValueError, match="JSON Pointer"):
        parts(written)


@pytest.mark.parametrize(
    ("chosen", "kept"),
    [
        (["/name"], {"name": "Chea"}),
        (["/address/city"], {"address": {"city": "Takhmau"}}),
        (["/children/id"], {"children": [{"id": 1}, {}, {"id": 2}]}),
        (["/children", "/children/id"], {"children": [{"id": 1, "x": 1}, {"x": 2}, {"id": 2}, 7]}),
        (["/name/first", "/gone", "/address/gone"], {"address": {}}),
        (["/a~1b", "/nothing"], {"a/b": {"c": 1}, "nothing": None}),
        (["/grid/x"], {"grid": [[{"x": 1}], []]}),
        ([], {}),
    ],
)
def test_a_record_is_cut(chosen: list[str], kept: object) -> None:
    """Members are named, arrays are gone through, and a scalar where the cut goes deeper is left out."""
    record = {
        "name": "Chea",
        "address": {"city": "Takhmau", "street": "2004"},
        "children": [{"id": 1, "x": 1}, {"x": 2}, {"id": 2}, 7],
        "a/b": {"c": 1},
        "nothing": None,
        "grid": [[{"x": 1, "y": 2}, 3], [4], 5],
    }
    assert minimise(record, cut_of(chosen)) == kept


@pytest.mark.parametrize("value", [None, 7, "text", True])
def test_a_scalar_is_never_an_answer(value: object) -> None:
    """Where the cut names members and the answer has none, an empty object leaves, and nothing of the answer."""
    assert minimise(value, cut_of(["/a"])) == {}


def test_the_empty_pointer_is_the_whole_answer() -> None:
    """Disclosing the whole leaves the very value, whatever else is named."""
    whole = {"a": [1, {"b": 2}]}
    assert cut_of(["/a/b", ""]) is None
    assert minimise(whole, None) is whole
    assert reduced({"type": "object"}, None) == {"type": "object"}


@many
@given(values, pointers)
def test_nothing_else_survives_and_nothing_changes(value: Any, chosen: list[str]) -> None:
    """What is left is every scalar below a pointer, as often as it was there and as it was, and no other."""
    assume(isinstance(value, dict | list))
    left = Counter(leaves(minimise(value, cut_of(chosen))))
    assert left == Counter(leaf for leaf in leaves(value) if covered(leaf[0], chosen))


@many
@given(values, pointers)
def test_cutting_twice_is_cutting_once(value: Any, chosen: list[str]) -> None:
    """A stored answer that is cut again under the same agreement stays as it is."""
    once = minimise(value, cut_of(chosen))
    assert minimise(once, cut_of(chosen)) == once


@many
@given(values, pointers, pointers)
def test_the_cut_of_two_is_the_union(value: Any, one: list[str], other: list[str]) -> None:
    """Two lists of pointers together disclose what each discloses, in whatever order, and nothing more."""
    together = minimise(value, cut_of([*one, *other]))
    assert together == minimise(value, cut_of([*other, *one]))
    each = (set(leaves(minimise(value, cut_of(chosen)))) for chosen in (one, other))
    assert set(leaves(together)) == set().union(*each)


Drawn = tuple[dict[str, Any], Any]
"""A schema, and a value that it was drawn with."""


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Drawn], *, closed: bool = True) -> Drawn:
    members = draw(st.dictionaries(names, inner, max_size=3))
    there = draw(st.frozensets(st.sampled_from(sorted(members)))) if members else frozenset()
    required = sorted(there & (draw(st.frozensets(names)) if draw(st.booleans()) else there))
    schema = {"type": "object", "properties": {name: drawn[0] for name, drawn in members.items()}, "required": required}
    return schema | ({"additionalProperties": False} if closed else {}), {name: members[name][1] for name in there}


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[Drawn]) -> Drawn:
    first, rest = draw(st.lists(inner, max_size=2)), draw(inner)
    schema: dict[str, Any] = {"type": "array", "items": rest[0]}
    if first:
        schema["prefixItems"] = [drawn[0] for drawn in first]
    value = [*(drawn[1] for drawn in first), *[rest[1]] * draw(st.integers(0, 2))]
    return schema | {"minItems": len(value)}, value


@st.composite
def unions(draw: st.DrawFn, inner: st.SearchStrategy[Drawn]) -> Drawn:
    branches = draw(st.lists(inner, min_size=2, max_size=3))
    words = draw(st.sampled_from([("anyOf",), ("oneOf",), ("anyOf", "oneOf")]))
    return {word: [drawn[0] for drawn in branches] for word in words}, branches[0][1]


@st.composite
def both(draw: st.DrawFn, inner: st.SearchStrategy[Drawn]) -> Drawn:
    one, other = draw(objects(inner, closed=False)), draw(objects(inner, closed=False))
    return {"allOf": [one[0], other[0]]}, {**other[1], **one[1]}


def referred(drawn: Drawn) -> Drawn:
    """The same by way of a definition."""
    return {"$ref": "#/$defs/It", "$defs": {"It": drawn[0]}}, drawn[1]


drawn_scalars: list[Drawn] = [
    ({"type": "string"}, "x"),
    ({"type": "integer"}, 1),
    ({"type": ["null", "boolean"]}, None),
]
leaf = st.sampled_from(drawn_scalars)
nested = st.recursive(leaf, lambda inner: objects(inner) | arrays(inner) | unions(inner) | both(inner), max_leaves=8)
whole = st.one_of(objects(nested), arrays(objects(nested)), both(nested), unions(objects(nested)))
schemas = whole | whole.map(referred)


@many
@given(schemas, st.data())
def test_the_schema_that_a_caller_sees_takes_what_the_caller_gets(drawn: Drawn, data: st.DataObject) -> None:
    """A valid answer, cut, fits the schema, cut: a client made from it never fails on a right answer."""
    schema, value = drawn
    assume(Shape(schema).fits(value))
    known = sorted(set(paths(value)))
    chosen = data.draw(st.lists(st.sampled_from(known) | st.lists(names, max_size=3), max_size=4))
    cut = cut_of(map(pointer, chosen))
    assert Shape(reduced(schema, cut)).faults(minimise(value, cut)) == ()


NUMBER, TEXT = ({"type": "object", "properties": {"a": {"type": kind}}} for kind in ("integer", "string"))


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"prefixItems": [NUMBER], "items": TEXT}, [{"a": 1}, {"a": "x"}]),
        ({"prefixItems": [{"type": "string"}, NUMBER], "items": TEXT}, ["x", {"a": 1}, {"a": "x"}]),
        ({"oneOf": [{"properties": {"kind": {"const": kind}}, "required": ["kind"]} for kind in "xy"]}, {"kind": "x"}),
        ({"not": {"properties": {"kind": {"const": "x"}}}}, {"kind": "y", "a": 1}),
        ({"minItems": 2, "uniqueItems": True, "items": TEXT}, [{"a": "x", "b": 1}, {"a": "x", "b": 2}]),
    ],
)
def test_what_only_the_whole_could_keep_is_not_asked_of_the_rest(schema: dict[str, Any], value: object) -> None:
    """Rules about places, about one form of several, about what must not be: a cut answer cannot be held to them."""
    assert Shape(schema).fits(value)
    cut = cut_of(["/a"])
    assert Shape(reduced(schema, cut)).fits(minimise(value, cut))


@many
@given(schemas)
def test_a_schema_can_contain_what_its_values_have(drawn: Drawn) -> None:
    """No pointer to a member of a valid value is called a mistake, and a misspelled one always is."""
    schema, value = drawn
    assume(Shape(schema).fits(value))
    for path in paths(value):
        assert can_contain(schema, pointer(path))
        assert not can_contain(schema, pointer((*path, "mistyped")))


PERSON: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["identifier", "name", "address"],
    "properties": {
        "identifier": {"$ref": "#/$defs/Identifier"},
        "name": {"$ref": "#/$defs/Name"},
        "address": {"type": "object", "required": ["city"], "properties": {"city": {}, "street": {}}},
        "children": {"type": "array", "minItems": 1, "items": {"$ref": "#"}},
    },
    "additionalProperties": False,
    "$defs": {
        "Identifier": {"type": "string", "pattern": "^[0-9]{9}$"},
        "Name": {"properties": {"full": {"$ref": "#/$defs/Text"}, "latin": {"$ref": "#/$defs/Text"}}},
        "Text": {"type": "string"},
    },
}


def test_a_schema_is_cut_like_its_answers() -> None:
    """It keeps what is disclosed and the definitions that this needs, and requires whole members alone."""
    assert reduced(PERSON, cut_of(["/identifier", "/name/full", "/address/street", "/children/identifier"])) == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["identifier"],
        "properties": {
            "identifier": {"$ref": "#/$defs/Identifier"},
            "name": {"properties": {"full": {"$ref": "#/$defs/Text"}}},
            "address": {"type": "object", "required": [], "properties": {"street": {}}},
            "children": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["identifier"],
                    "properties": {"identifier": {"$ref": "#/$defs/Identifier"}},
                    "$schema": "https://json-schema.org/draft/2020-12/schema",
                },
            },
        },
        "$defs": {"Identifier": PERSON["$defs"]["Identifier"], "Text": {"type": "string"}},
    }


@pytest.mark.parametrize(
    ("written", "can"),
    [
        ("", True),
        ("/name/full", True),
        ("/children/children/address/city", True),
        ("/children/0/name", False),
        ("/adress", False),
        ("/name/first", False),
        ("/identifier/x", False),
        ("/address/city/anything", False),
    ],
)
def test_pointers_into_a_schema(written: str, can: bool) -> None:  # noqa: FBT001 - a column of the table
    """References and arrays are followed, an index is no name, and what a schema is silent about is a mistake."""
    assert can_contain(PERSON, written) is can


@pytest.mark.parametrize(
    ("schema", "can"),
    [
        ({"additionalProperties": True}, True),
        ({"additionalProperties": {"properties": {"b": {}}}}, True),
        ({"additionalProperties": {"properties": {"c": {}}}}, False),
        ({"additionalProperties": False}, False),
        ({}, False),
        ({"properties": {"a": True}}, True),
        ({"properties": {"a": False}}, False),
        ({"items": True}, True),
        ({"items": False, "prefixItems": [{}, {"properties": {"a": {"properties": {"b": {}}}}}]}, True),
        ({"if": {}, "then": {"properties": {"a": {"properties": {"b": {}}}}}}, True),
        ({"if": {"properties": {"a": True}}}, False),
        ({"dependentSchemas": {"x": {"properties": {"a": True}}}}, True),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {"$ref": "#/$defs/A"}, "b": {}}}}}, True),
        ({"$ref": "#/$defs/Gone"}, False),
    ],
)
def test_where_a_schema_can_have_members(schema: dict[str, Any], can: bool) -> None:  # noqa: FBT001 - as above
    """The pointer /a/b through each word that lets members in."""
    assert can_contain(schema, "/a/b") is can
