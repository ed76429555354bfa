"""What a mapping can never fill, and where no one value stands, told from the schema alone."""

from typing import Any

import pytest

from gateway.catalogue.fitting import gaps, simple, singular
from gateway.core.minimise import parts

NAME = {"type": "object", "properties": {"family": {}, "given": {}}, "required": ["family"]}
SCHEMA: dict[str, Any] = {
    "allOf": [{"$ref": "#/$defs/Base"}, {"required": ["kind"]}],
    "properties": {
        "kind": {"enum": ["a", "b"]},
        "name": {"$ref": "#/$defs/Name"},
        "parents": {"type": "array", "items": {"$ref": "#/$defs/Name"}},
        "place": {"anyOf": [{"type": "object", "properties": {"code": {"type": "string"}}}, {"type": "null"}]},
        "age": {"type": ["integer", "null"]},
        "self": {"$ref": "#"},
    },
    "$defs": {"Base": {"required": ["id"], "properties": {"id": {"type": "string"}}}, "Name": NAME},
}


@pytest.mark.parametrize(
    ("targets", "missing"),
    [
        (["/id", "/kind"], []),
        ([""], []),
        ([], ["/id", "/kind"]),
        (["/kind", "/name/given"], ["/id", "/name/family"]),
        (["/id", "/kind", "/name"], []),
        (["/id", "/kind", "/self/id"], ["/self/kind"]),
    ],
)
def test_required_members_that_nothing_fills_are_found(targets: list[str], missing: list[str]) -> None:
    """Through references and allOf; a target that is taken whole is not looked into."""
    assert list(gaps(SCHEMA, [parts(target) for target in targets])) == missing


@pytest.mark.parametrize(
    ("pointer", "reached"),
    [("/name/family", True), ("/place/code", True), ("/parents", True), ("/parents/family", False)],
)
def test_a_value_inside_of_a_list_is_none(pointer: str, reached: bool) -> None:  # noqa: FBT001 - a case's value
    """Mappings pass objects only."""
    assert singular(SCHEMA, parts(pointer)) is reached


@pytest.mark.parametrize(
    ("pointer", "fits"),
    [("/id", True), ("/kind", True), ("/age", True), ("/name", False), ("/parents", False), ("/place/code", True)],
)
def test_an_address_takes_simple_values(pointer: str, fits: bool) -> None:  # noqa: FBT001 - a case's value
    """What the schema says to be an object or a list, and nothing else, has no place in an address."""
    assert simple(SCHEMA, parts(pointer)) is fits


def test_many_ways_to_one_definition_are_one() -> None:
    """Definitions that refer twice to the next one, thirty times over, take no time."""
    chain = {f"D{n}": {"allOf": [{"$ref": f"#/$defs/D{n + 1}"}] * 2} for n in range(30)}
    schema = {"$ref": "#/$defs/D0", "$defs": {**chain, "D30": {"required": ["id"], "properties": {"id": {}}}}}
    assert list(gaps(schema, [])) == ["/id"]
    assert singular(schema, ("id",))
    assert not singular(schema, ("other",))
