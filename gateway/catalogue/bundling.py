"""Schema files: each checked once where it stands, then bundled with what it refers to into one schema.

A ``$ref`` is ``#``, ``#/$defs/Name``, or a relative path to a file under ``schemas/`` with one of these behind it.
In the bundle every reference is ``#`` or ``#/$defs/…``, so that ``core.shape`` takes it; nothing is ever fetched.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from gateway.catalogue.reading import Place, Reading, Source, Spot, near
from gateway.core.shape import BadSchema, Shape

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_ONE = ("items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames")
_LATER = ("unevaluatedItems", "unevaluatedProperties")
_MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "$defs", "dependentSchemas")
_PLAIN = (
    *("$schema", "$ref", "$comment", "type", "enum", "const", "format", "pattern", "title", "description"),
    *("default", "examples", "deprecated", "readOnly", "writeOnly", "required", "dependentRequired"),
    *("minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minItems", "maxItems", "uniqueItems", "minContains", "maxContains", "minProperties", "maxProperties"),
    *("contentEncoding", "contentMediaType"),
)
_WORDS = frozenset((*_ONE, *_LATER, *_MANY, *_NAMED, *_PLAIN))
_LITERAL = ("enum", "const", "examples", "default")
_DEFINITION = re.compile(r"#/\$defs/([A-Za-z0-9_.-]{1,100})")


@dataclass(frozen=True, slots=True)
class Target:
    """What a ``$ref`` leads to: a file, and one of its definitions or (None) the whole."""

    file: Path
    definition: str | None


@dataclass(slots=True)
class Schemas:
    """The schema files of a catalogue: read, checked and remembered, one by one as they are needed."""

    reading: Reading
    folder: Path
    _sources: dict[Path, Source | None] = field(default_factory=dict)
    _checked: set[Path] = field(default_factory=set)
    _broken: set[Path] = field(default_factory=set)

    def source(self, path: Path) -> Source | None:
        """The schema in a file, or None where the file holds no JSON object; that is reported once."""
        if path not in self._sources:
            source = self.reading.json(path)
            if source is not None and not isinstance(source.value, dict):
                self.reading.error(source.at(), "is no JSON Schema", "Write an object with type and properties.")
                source = None
            self._sources[path] = source
        return self._sources[path]

    def sound(self, path: Path) -> bool:
        """Whether the file, looked at by itself, holds a schema that the gateway takes; if not, it is reported once."""
        source = self.source(path)
        if source is None:
            return False
        if path not in self._checked:
            self._checked.add(path)
            for place, schema in subschemas(source.value):
                self._hold(path, source, place, schema)
            if path not in self._broken:
                self._meta(path, source)
        return path not in self._broken

    def shape(self, path: Path) -> Shape | None:
        """The compiled bundle of a schema file, or None after reporting why there is none."""
        bundle = _Bundle(self, path).made()
        source = self.source(path)
        if bundle is None or source is None:
            return None
        try:
            return Shape(bundle)
        except BadSchema as error:
            self._refuse(path, source.at(*_place(error.pointer)), _invalid(error), _CORRECT)
            return None

    def _refuse(self, path: Path, spot: Spot, message: str, remedy: str) -> None:
        self._broken.add(path)
        self.reading.error(spot, message, remedy)

    def target(self, path: Path, ref: str) -> Target:
        """Where a reference leads. Raises ValueError with what is wrong with it."""
        name, _, fragment = ref.partition("#")
        found = _DEFINITION.fullmatch("#" + fragment)
        if fragment and not found:
            raise ValueError("leads into the middle of a schema")
        definition = found[1] if found else None
        if not name:
            return Target(path, definition)
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", name) or name.startswith(("/", "\\")):
            raise ValueError("leads out of this catalogue; nothing is ever fetched")
        file = Path(os.path.normpath(path.parent / name))
        if not file.is_relative_to(self.folder):
            raise ValueError("leads out of schemas/")
        if not self.reading.is_file(file):
            raise ValueError("leads to a file that does not exist")
        return Target(file, definition)

    def _meta(self, path: Path, source: Source) -> None:
        """Against the meta-schema, with every reference taken out: those have been followed already."""
        try:
            Shape(_without_references(source.value))
        except BadSchema as error:
            self._refuse(path, source.at(*_place(error.pointer)), _invalid(error), _CORRECT)

    def _hold(self, path: Path, source: Source, place: Place, schema: Mapping[str, Any]) -> None:
        """What is refused whatever stands around it."""
        for word in schema:
            if word not in _WORDS and not word.startswith("x-"):
                remedy = f"{near(word, _WORDS)}Write it with the words of JSON Schema 2020-12 that the gateway takes."
                self._refuse(path, source.at(*place, word), f'the schema word "{word}" is not taken', remedy)
        if schema.get("$schema", DIALECT) != DIALECT:
            spot = source.at(*place, "$schema")
            self._refuse(path, spot, "is no JSON Schema 2020-12", f"Write {DIALECT} or leave it out.")
        ref, pattern, form = schema.get("$ref"), schema.get("pattern"), schema.get("format")
        if isinstance(ref, str):
            self._reference(path, source, (*place, "$ref"), ref)
        if isinstance(pattern, str) and not _compiles("pattern", pattern):
            message = f"the pattern {pattern} is none that takes linear time"
            remedy = "Write it without look-around and back-references."
            self._refuse(path, source.at(*place, "pattern"), message, remedy)
        if isinstance(form, str) and not _compiles("format", form):
            remedy = f"{near(form, _FORMATS)}Known formats: {', '.join(_FORMATS)}."
            self._refuse(path, source.at(*place, "format"), f'unknown format "{form}"', remedy)

    def _reference(self, path: Path, source: Source, place: Place, ref: str) -> None:
        remedy = "Write #/$defs/Name, or a relative path to a file under schemas/ and #/$defs/Name behind it."
        try:
            target = self.target(path, ref)
        except ValueError as error:
            self._refuse(path, source.at(*place), f'the $ref "{ref}" {error}', remedy)
            return
        other = self.source(target.file)
        if other is None:
            return
        known = other.value.get("$defs", {})
        if target.definition is not None and isinstance(known, dict) and target.definition not in known:
            message = f'the $ref "{ref}" leads to a definition that does not exist'
            self._refuse(path, source.at(*place), message, near(target.definition, known) + remedy)
        self.sound(target.file)


_CORRECT = "Correct the schema at this place."


def _invalid(error: BadSchema) -> str:
    return f"is no valid JSON Schema at {error.pointer or 'its top'}: {error}"


def member_names(schema: Mapping[str, Any]) -> frozenset[str]:
    """The names of all members that a schema describes, for guesses at what was meant."""
    return frozenset(name for _, inner in subschemas(schema) for name in inner.get("properties", {}))


def _place(pointer: str) -> Place:
    steps = (step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])
    return tuple(int(step) if step.isdecimal() else step for step in steps)


def subschemas(schema: Any, place: Place = ()) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """Every schema object inside a schema, itself first, with its place."""
    if not isinstance(schema, dict):
        return
    yield place, schema
    for word, inner in schema.items():
        if word in (*_ONE, *_LATER):
            yield from subschemas(inner, (*place, word))
        elif word in _MANY and isinstance(inner, list):
            for number, each in enumerate(inner):
                yield from subschemas(each, (*place, word, number))
        elif word in _NAMED and isinstance(inner, dict):
            for name, each in inner.items():
                yield from subschemas(each, (*place, word, name))


_FORMATS = (
    *("date", "time", "date-time", "duration", "email", "idn-email", "hostname", "idn-hostname", "ipv4", "ipv6"),
    *("uri", "uri-reference", "iri", "iri-reference", "uuid", "json-pointer", "relative-json-pointer", "regex"),
)


@lru_cache(maxsize=1024)
def _compiles(word: str, text: str) -> bool:
    try:
        Shape({word: text})
    except BadSchema:
        return False
    return True


def _without_references(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_references(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        word: _without_references(inner)
        for word, inner in schema.items()
        if not (word == "$ref" and isinstance(inner, str))
    }


class _Bundle:
    """One bundle in the making."""

    def __init__(self, schemas: Schemas, path: Path) -> None:
        self._schemas = schemas
        self._path = path
        self._names: dict[Target, str] = {}
        self._definitions: dict[str, Any] = {}

    def made(self) -> dict[str, Any] | None:
        """The self-contained schema; None where it or something that it refers to is broken."""
        source = self._schemas.source(self._path)
        if source is None or not self._schemas.sound(self._path):
            return None
        for own in source.value.get("$defs", {}):
            self._named(Target(self._path, own))
        schema = self._whole(source, self._path)
        if self._definitions:
            schema["$defs"] = dict(sorted(self._definitions.items()))
        return schema if all(self._schemas.sound(target.file) for target in self._names) else None

    def _whole(self, source: Source, path: Path) -> dict[str, Any]:
        schema = {word: inner for word, inner in source.value.items() if word != "$defs"}
        return {word: self._rewritten(inner, path, word) for word, inner in schema.items()}

    def _named(self, target: Target) -> str:
        """The definition's name in the bundle; it is brought in where it is new."""
        if target in self._names:
            return self._names[target]
        own = target.file == self._path
        stem = target.file.relative_to(self._schemas.folder).with_suffix("").as_posix().replace("/", ".")
        name = ".".join(part for part in ("" if own else stem, target.definition or "") if part)
        while name in self._definitions:
            name += "_"
        self._names[target] = name
        self._definitions[name] = True  # its place is taken before it can refer to itself
        source = self._schemas.source(target.file)
        if source is not None and self._schemas.sound(target.file):
            found = source.value["$defs"][target.definition] if target.definition else self._whole(source, target.file)
            self._definitions[name] = self._rewritten(found, target.file, "") if target.definition else found
        return name

    def _rewritten(self, schema: Any, path: Path, word: str) -> Any:
        """The value under a schema word, with its references led into the bundle."""
        if word in _LITERAL:
            return schema
        if word == "$ref" and isinstance(schema, str):
            return self._reference(schema, path)
        if isinstance(schema, list):
            return [self._rewritten(each, path, "") for each in schema]
        if isinstance(schema, dict):
            named = word in _NAMED  # its keys are names, and no schema words
            return {key: self._rewritten(inner, path, "" if named else key) for key, inner in schema.items()}
        return schema

    def _reference(self, ref: str, path: Path) -> str:
        target = self._schemas.target(path, ref)
        return "#" if target == Target(self._path, None) else f"#/$defs/{self._named(target)}"
