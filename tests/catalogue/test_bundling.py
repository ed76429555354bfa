"""Bundles: one self-contained schema of many files."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.catalogue import bundling
from gateway.catalogue.bundling import Schemas
from gateway.catalogue.files import read
from gateway.catalogue.reading import Reading
from gateway.core.shape import Shape


def _schemas(root: Path, files: dict[str, Any]) -> Schemas:
    for name, schema in files.items():
        path = root / "schemas" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(schema), "utf-8")
    return Schemas(Reading(read(root, root / "keys")), root / "schemas")


def test_references_across_files_end_in_definitions(tmp_path: Path) -> None:
    """Every reference of a bundle is local, named after where its definition came from."""
    person = {"$defs": {"Name": {"type": "string"}, "Person": {"properties": {"name": {"$ref": "#/$defs/Name"}}}}}
    top = {"$ref": "../common/person.json#/$defs/Person"}
    shape = _schemas(tmp_path, {"common/person.json": person, "a/top.json": top}).shape(tmp_path / "schemas/a/top.json")
    assert shape is not None
    assert shape.schema == {
        "$ref": "#/$defs/common.person.Person",
        "$defs": {
            "common.person.Name": {"type": "string"},
            "common.person.Person": {"properties": {"name": {"$ref": "#/$defs/common.person.Name"}}},
        },
    }


def test_files_may_refer_to_each_other(tmp_path: Path) -> None:
    """A tree that two files describe together is bundled once and still checks every level."""
    folder = {
        "type": "object",
        "properties": {"items": {"type": "array", "items": {"$ref": "item.json"}}},
        "additionalProperties": False,
    }
    schemas = _schemas(tmp_path, {"a/folder.json": folder, "a/item.json": {"anyOf": [{"$ref": "folder.json"}]}})
    shape = schemas.shape(tmp_path / "schemas/a/folder.json")
    assert shape is not None
    assert shape.schema["$defs"] == {"a.item": {"anyOf": [{"$ref": "#"}]}}
    assert shape.fits({"items": [{"items": [{}]}]})
    assert not shape.fits({"items": [{"items": [{"other": 1}]}]})


def test_own_definitions_keep_their_names(tmp_path: Path) -> None:
    """A schema's own definitions stay as they are called, and a clash with a foreign one is kept apart."""
    own = {"$defs": {"b.x": {"type": "null"}}, "anyOf": [{"$ref": "#/$defs/b.x"}, {"$ref": "b.json#/$defs/x"}]}
    schemas = _schemas(tmp_path, {"a.json": own, "b.json": {"$defs": {"x": {"type": "string"}}}})
    shape = schemas.shape(tmp_path / "schemas/a.json")
    assert shape is not None
    assert shape.schema["$defs"] == {"b.x": {"type": "null"}, "b.x_": {"type": "string"}}


def test_a_member_may_be_called_like_a_schema_word(tmp_path: Path) -> None:
    """Under ``properties`` the keys are names: a member called default or $ref is no schema word."""
    top = {
        "properties": {"default": {"$ref": "#/$defs/T"}, "const": {"$ref": "#/$defs/T"}},
        "$defs": {"T": {"type": "string"}},
    }
    shape = _schemas(tmp_path, {"a.json": top}).shape(tmp_path / "schemas/a.json")
    assert shape is not None
    assert not shape.fits({"default": 1})


def test_a_broken_file_is_reported_once(tmp_path: Path) -> None:
    """Two schemas on one broken definition give one finding, where it is broken."""
    top = {"$ref": "common.json#/$defs/T"}
    schemas = _schemas(tmp_path, {"a.json": top, "b.json": top, "common.json": {"$defs": {"T": {"type": "txt"}}}})
    assert [schemas.shape(tmp_path / "schemas" / name) for name in ("a.json", "b.json")] == [None, None]
    assert [each.file for each in schemas.reading.findings] == ["schemas/common.json"]


@pytest.mark.parametrize("name", bundling._FORMATS)
def test_every_format_that_is_offered_is_checked(name: str) -> None:
    """A format that a finding recommends is one that the engine knows."""
    assert Shape({"format": name}).fits(1)
