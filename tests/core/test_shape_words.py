"""What is said about a value that does not fit: the rule and the place, bounded, and nothing of the value."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.shape import MAX_FAULTS, Shape

many = settings(max_examples=150, deadline=None)
ITEM = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("schema", "value", "pointer", "words"),
    [
        ({"type": "string"}, 1, "", "must be string"),
        ({"type": ["string", "null"]}, 1, "", "must be string or null"),
        ({"required": ["a", "b"]}, {"a": 1}, "", "lacks the required b"),
        ({"additionalProperties": False}, {"nmae": 1}, "", "has members that the schema does not know: nmae"),
        ({"additionalProperties": False}, {"ឈ្មោះ": 1}, "", "has members that the schema does not know"),
        ({"properties": {"a": False}}, {"a": 1}, "/a", "has a form that is not permitted"),
        ({"enum": ["f", "m", 1]}, "x", "", 'must be one of "f", "m", 1'),
        ({"const": {"a": "ខ"}}, 1, "", 'must be {"a": "ខ"}'),
        ({"format": "date"}, "soon", "", "must be a valid date"),
        ({"pattern": "^[0-9]{9}$"}, "x", "", "must match the pattern ^[0-9]{9}$"),
        ({"minLength": 2}, "x", "", "must have at least 2 characters"),
        ({"maxLength": 2}, "xxx", "", "must have at most 2 characters"),
        ({"minimum": 2}, 1, "", "must be at least 2"),
        ({"maximum": 2}, 3, "", "must be at most 2"),
        ({"exclusiveMinimum": 2}, 2, "", "must be more than 2"),
        ({"exclusiveMaximum": 2}, 2, "", "must be less than 2"),
        ({"multipleOf": 0.05}, 0.07, "", "must be a multiple of 0.05"),
        ({"minItems": 1}, [], "", "must have at least 1 items"),
        ({"maxItems": 1}, [1, 2], "", "must have at most 1 items"),
        ({"prefixItems": [{}], "items": False}, [1, 2], "", "has more items than the schema knows"),
        ({"uniqueItems": True}, [1, 1], "", "must not have the same item twice"),
        ({"contains": {"const": 1}}, [2], "", "must contain an item of the permitted form"),
        ({"minProperties": 1}, {}, "", "must have at least 1 members"),
        ({"maxProperties": 0}, {"a": 1}, "", "must have at most 0 members"),
        ({"propertyNames": {"pattern": "^a$"}}, {"b": 1}, "", "has a member with a name that is not permitted"),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "", "lacks a member that another one requires"),
        ({"not": {"type": "string"}}, "x", "", "has a form that is not permitted"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1, "", "fits none of the permitted forms"),
        ({"anyOf": [False, False]}, 1, "", "fits none of the permitted forms"),
        ({"anyOf": [{"type": "null"}, ITEM]}, {"n": "x"}, "/n", "must be integer"),
        ({"oneOf": [{"type": "null"}, ITEM]}, {}, "", "lacks the required n"),
        ({"oneOf": [{}, {}]}, 1, "", "fits none, or more than one, of the permitted forms"),
        ({"items": ITEM}, [{"n": 1}, {"n": "x"}], "/1/n", "must be integer"),
        (
            {"properties": {"a/b": {"properties": {"m~n": {"const": 1}}}}},
            {"a/b": {"m~n": 2}},
            "/a~1b/m~0n",
            "must be 1",
        ),
        ({"properties": {"ឈ្មោះ": {"type": "string"}}}, {"ឈ្មោះ": 1}, "/ឈ្មោះ", "must be string"),
        (
            {"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False},
            {"a": 1, "b": 2},
            "",
            "has members that the schema does not know: b",
        ),
    ],
)
def test_each_rule_has_its_words(schema: dict[str, Any], value: object, pointer: str, words: str) -> None:
    """One sentence says what must be, at a JSON Pointer into the body."""
    assert [(fault.pointer, fault.detail) for fault in Shape(schema).faults(value)] == [(pointer, words)]


def test_rules_for_logs_are_places_in_the_schema() -> None:
    """What is logged of a provider's wrong answer names the rules that it broke, each once."""
    shape = Shape({"properties": {"a/b": {"items": ITEM}}, "additionalProperties": {"maxLength": 1}})
    wrong = {"a/b": [{"n": "x"}, {"n": "y"}, {}], "Sok Chea": "long"}
    assert shape.broken_rules(wrong) == (
        "/properties/a~1b/items/properties/n/type",
        "/properties/a~1b/items/required",
        "/additionalProperties/maxLength",
    )


MARKER = "9 marker 7f3a"
marked = st.recursive(
    st.sampled_from([MARKER, MARKER * 2, 777777, 777777.5, True, None]),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", MARKER, "+855 " + MARKER, "/" + MARKER]), inner, max_size=3)
    ),
    max_leaves=8,
)
CLOSED = {"properties": {"a": {"$ref": "#"}, "b": {"type": "null"}}, "additionalProperties": False}
FAULTY: dict[str, dict[str, Any]] = {
    "closed": CLOSED,
    "types": {"items": {"$ref": "#"}, "type": "array", "contains": {"type": "null"}},
    "maps": {"additionalProperties": {"$ref": "#"}, "type": "object"},
    "later": {"allOf": [{"properties": {"a": {"$ref": "#"}}}], "unevaluatedProperties": {"type": "null"}},
    "names": {"propertyNames": {"maxLength": 1}, "additionalProperties": {"$ref": "#"}, "maxLength": 2},
    "texts": {"enum": ["x", 1]},
    "limits": {"maxLength": 1, "maximum": 1, "maxItems": 0, "maxProperties": 0},
    "forms": {"anyOf": [CLOSED, {"type": "array", "items": CLOSED}, {"pattern": "^x", "type": "string"}]},
    "formats": {"format": "date", "pattern": "^x", "multipleOf": 5, "items": {"$ref": "#"}, "uniqueItems": True},
    "one": {"oneOf": [{"type": "object", "additionalProperties": {"const": 1}}, {"type": "array", "items": False}]},
    "not": {"not": {"type": ["string", "object", "array", "number"]}},
    "depends": {"dependentRequired": {"a": ["zz"]}, "dependentSchemas": {"b": {"required": ["zz"]}}},
}


@many
@given(st.sampled_from(sorted(FAULTY)), marked)
def test_nothing_of_the_value_is_said(which: str, value: Any) -> None:
    """Neither a text, nor a number, nor a member's name that the schema does not know stands in faults or rules."""
    shape = Shape(FAULTY[which])
    said = f"{shape.faults(value)} {shape.broken_rules(value)}"
    assert MARKER not in said
    assert "7777" not in said


def test_a_pointer_ends_before_a_name_that_is_data() -> None:
    """Where members are named by identifiers, the fault is shown at the object that holds them."""
    shape = Shape({"properties": {"phones": {"additionalProperties": {"type": "integer"}}}})
    faults = shape.faults({"phones": {"+855 12 345 678": "x", "home": "y"}})
    assert {fault.pointer for fault in faults} == {"/phones", "/phones/home"}


def test_a_hostile_text_takes_no_time() -> None:
    """A pattern that takes exponential time elsewhere is through with 200,000 characters at once."""
    shape = Shape({"pattern": "^(a+)+$"})
    assert not shape.fits("a" * 200_000 + "!")
    assert len(shape.faults("a" * 200_000 + "!")) == 1


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"type": "object"}, "uniqueItems": True}, [{"a": n} for n in range(30_000)] + [1]),
        ({"items": {"type": "integer"}}, ["x"] * 30_000),
        ({"anyOf": [{"items": {"type": "integer"}}, {"items": {"const": 0}}]}, ["x"] * 10_000),
        ({"additionalProperties": False}, {f"n{n}": n for n in range(30_000)}),
    ],
)
def test_faults_are_few_however_many_there_are(schema: dict[str, Any], value: object) -> None:
    """A large body of faults costs neither minutes nor a large answer."""
    found = Shape(schema).faults(value)
    assert 0 < len(found) <= MAX_FAULTS
    assert len(str(found)) < 5_000


def deep(levels: int, inside: Any) -> Any:
    return inside if levels == 0 else {"c": deep(levels - 1, inside)}


TREE = {"properties": {"c": {"$ref": "#"}, "p": {"const": 1}}}


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [TREE, TREE]},
        {"allOf": [TREE], "unevaluatedProperties": False},
        {"if": TREE, "then": TREE, "else": TREE},
        {
            "$defs": {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}]} for n in range(40)} | {"40": TREE},
            "$ref": "#/$defs/0",
        },
    ],
)
def test_the_words_end_however_deep_the_value(schema: dict[str, Any]) -> None:
    """A recursive schema with two ways on would be walked 2^60 times; its words stop, and the verdict stands."""
    shape = Shape(schema)
    assert not shape.fits(deep(60, {"p": 2, "q": 2}))
    assert shape.faults(deep(60, {"p": 2, "q": 2}))
