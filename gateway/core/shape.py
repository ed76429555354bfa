"""Whether bytes are the JSON that was agreed: strict parsing, fast verdicts, words without values.

JSON Schema 2020-12, ``format`` asserted, regular expressions that take linear time, no reference out of the schema
itself. jsonschema-rs gives the verdict (about a hundred times faster), jsonschema finds the words for what it
refused. What they would judge differently (formats, patterns, multiples, equal items) is asked of jsonschema-rs in
both, so that there is one definition of each.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import jsonschema
import jsonschema_rs
import orjson
from jsonschema.validators import extend

from gateway.core.refusal import ShapeFault

MAX_DEPTH = 64
"""Levels of nesting that a body may have."""
MAX_FAULTS = 20
"""Faults named in one problem document."""
MAX_INTEGER = 2**53 - 1
"""Beyond it other JSON readers round silently (RFC 7493, section 2.2)."""

_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else byte for byte in range(256))
_LONG_NUMBER = b"0" * 16
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_LOCAL = "#/$defs/"
_REFUSED_WORDS = (
    *("$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$vocabulary", "patternProperties"),
    "dependencies",  # jsonschema-rs still knows it from earlier drafts, jsonschema does not
    "unevaluatedItems",  # jsonschema takes quadratic time for it; items after prefixItems says the same
)
_ASKED = ("format", "multipleOf", "pattern", "uniqueItems")
_WITHIN = ("items", "additionalProperties", "contains", "propertyNames", "unevaluatedProperties")
_IN_PLACE = ("not", "if", "then", "else")
_BRANCHES = ("allOf", "anyOf", "oneOf")
_STEPS = 10_000
"""References followed for the words of one value; a recursive schema can ask for more of them than there are atoms."""
_NOTHING: Mapping[str, Any] = {"not": {}}
"""``false`` written so that jsonschema says where it stood."""
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


class Malformed(ValueError):
    """The bytes are no JSON that the gateway takes. The message says why and where, never what stands there."""


class BadSchema(ValueError):
    """The schema is none that the gateway can hold. ``pointer`` says where in the schema."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(message)
        self.pointer = pointer


def parse(raw: bytes) -> Any:
    """The JSON value of the bytes (RFC 8259, held to RFC 7493: no duplicate names, no integers beyond 2^53).

    A number with a fraction or an exponent is a double, the nearest one; one that would be infinite is refused.
    Raises Malformed.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Malformed(
            f"no JSON: {error.msg.partition(':')[0]} (line {error.lineno}, column {error.colno})"
        ) from error
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        _hold_depth(value)
    # What orjson writes back unchanged has no duplicate name; anything else is read again, slowly and strictly.
    if _LONG_NUMBER in raw.translate(_DIGITS) or orjson.dumps(value) != raw:
        json.loads(raw, object_pairs_hook=_once, parse_int=_exact)
    return value


def _hold_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise Malformed(f"nested deeper than {MAX_DEPTH} levels")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Malformed("JSON with the same name twice in one object")
    return members


def _exact(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) > MAX_INTEGER:
        raise Malformed("JSON with an integer beyond 2^53 - 1; send it as a string")
    return int(digits)


class Shape:
    """A self-contained schema, compiled twice: for the verdict and for the words."""

    __slots__ = ("_fast", "_names", "_plain", "schema")

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Compile. Raises BadSchema where the schema is wrong or uses what the gateway refuses."""
        if schema.get("$schema", _DIALECT) != _DIALECT:
            raise BadSchema("/$schema", f"is no JSON Schema 2020-12; write {_DIALECT}")
        try:
            jsonschema_rs.meta.validate(dict(schema))
        except jsonschema_rs.ValidationError as error:
            raise BadSchema(_pointer(error.instance_path), error.message) from error
        self._plain = _held(schema, schema, "")
        _hold_loops(self._plain)
        try:
            self._fast = _compiled(dict(schema))
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise BadSchema("", str(error).splitlines()[0]) from error
        self._names = frozenset(_names(self._plain))
        self.schema: Mapping[str, Any] = schema
        """JSON Schema 2020-12; every ``$ref`` is ``#`` or ``#/$defs/…``."""

    def fits(self, value: Any) -> bool:
        """The verdict."""
        return self._fast.is_valid(value)

    def broken_rules(self, value: Any) -> tuple[str, ...]:
        """Which rules of the schema a value breaks, as pointers into the schema: for logs, free of the value."""
        errors = itertools.islice(self._errors(value), MAX_FAULTS)
        return tuple(dict.fromkeys(_pointer(error.absolute_schema_path) for error in errors))

    def faults(self, value: Any) -> tuple[ShapeFault, ...]:
        """What does not fit, at most MAX_FAULTS places, deepest causes first; empty where it fits."""
        found: dict[tuple[str, str], ShapeFault] = {}
        for error in self._errors(value):
            for leaf in _leaves(error):
                fault = ShapeFault(_pointer(self._shown(leaf.absolute_path)), _words(leaf, self._names))
                found.setdefault((fault.pointer, fault.detail), fault)
                if len(found) >= MAX_FAULTS:
                    return tuple(found.values())
        if not found and not self.fits(value):  # too deep, or too long, to say why
            return (ShapeFault("", "does not fit the schema"),)
        return tuple(found.values())

    def _errors(self, value: Any) -> Iterator[jsonschema.ValidationError]:
        words = _Words(self._plain, format_checker=_Patience())
        try:
            yield from words.iter_errors(value)
        except (_Exhausted, RecursionError):
            return

    def _shown(self, path: Iterable[str | int]) -> Iterator[str | int]:
        """The path as far as it is made of the schema's names: a member's name can be an identifier too."""
        return itertools.takewhile(
            lambda step: isinstance(step, int) or step in self._names or bool(_PLAIN_NAME.fullmatch(step)), path
        )


def accepts(schema: Any, value: Any) -> bool:
    """The verdict of a schema that is used once."""
    return _compiled(schema).is_valid(value)


def _compiled(schema: Any) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator(
        schema,
        validate_formats=True,
        ignore_unknown_formats=False,
        offline=True,
        pattern_options=jsonschema_rs.RegexOptions(),
    )


def _held(schema: Any, root: Mapping[str, Any], where: str) -> Any:
    """The schema for the words: without ``$schema``, which would bring jsonschema's own rules back below it.

    Raises BadSchema for what the two engines could understand differently, and for references out of the schema.
    """
    if not isinstance(schema, Mapping):
        return schema
    for word in _REFUSED_WORDS:
        if word in schema:
            raise BadSchema(f"{where}/{word}", f"{word} is not taken; write the schema without it")
    if schema.get("$schema", _DIALECT) != _DIALECT:
        raise BadSchema(f"{where}/$schema", f"is no JSON Schema 2020-12; write {_DIALECT}")
    ref = schema.get("$ref", "#")
    if ref != "#" and _definition(ref) not in root.get("$defs", {}):
        raise BadSchema(f"{where}/$ref", "a reference must lead to a definition that exists")
    return {
        word: _held_below(word, inner, root, f"{where}/{word}") for word, inner in schema.items() if word != "$schema"
    }


def _held_below(word: str, inner: Any, root: Mapping[str, Any], where: str) -> Any:
    if word in ("properties", "$defs", "dependentSchemas") and isinstance(inner, Mapping):
        return {name: _somewhere(_held(each, root, where + _pointer((name,)))) for name, each in inner.items()}
    if word in (*_BRANCHES, "prefixItems") and isinstance(inner, list):
        return [_somewhere(_held(each, root, f"{where}/{place}")) for place, each in enumerate(inner)]
    return _held(inner, root, where) if word in (*_WITHIN, *_IN_PLACE) else inner


def _somewhere(schema: Any) -> Any:
    return _NOTHING if schema is False else schema


def _definition(ref: Any) -> str | None:
    """The name of the definition that a reference leads to: one step, with nothing to decode."""
    name = ref.removeprefix(_LOCAL) if isinstance(ref, str) and ref.startswith(_LOCAL) else "/"
    return None if set("/~%") & set(name) else name


def _hold_loops(root: Mapping[str, Any]) -> None:
    """Refuse a schema that is defined by itself, without a step down into the value in between."""
    leads = {_LOCAL + name: set(_refs(inner)) for name, inner in root.get("$defs", {}).items()}
    leads["#"] = set(_refs(root))
    while ends := [ref for ref, targets in leads.items() if not targets & leads.keys()]:
        for ref in ends:
            del leads[ref]
    if leads:
        raise BadSchema(min(leads).removeprefix("#"), "the schema refers to itself without going deeper into the value")


def _refs(schema: Any) -> Iterator[str]:
    """The references that hold for the same value as the schema."""
    if isinstance(schema, Mapping):
        if "$ref" in schema:
            yield schema["$ref"]
        in_place = [schema[word] for word in _IN_PLACE if word in schema]
        for inner in (*in_place, *schema.get("dependentSchemas", {}).values()):
            yield from _refs(inner)
        for word in _BRANCHES:
            for inner in schema.get(word, ()):
                yield from _refs(inner)


def _names(schema: Any) -> Iterator[str]:
    """Every member that the schema knows by its name."""
    if isinstance(schema, Mapping):
        for word, inner in schema.items():
            if word == "properties" and isinstance(inner, Mapping):
                yield from inner
            yield from _names(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _names(inner)


@lru_cache(maxsize=256)
def _judge(word: str, rule: bytes) -> jsonschema_rs.Validator:
    return _compiled({word: orjson.loads(rule)})


def _asked(word: str) -> Callable[..., Iterator[jsonschema.ValidationError]]:
    """The rule as the hot path holds it."""

    def hold(_validator: Any, rule: Any, instance: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
        if not _judge(word, orjson.dumps(rule)).is_valid(instance):
            yield jsonschema.ValidationError(word)

    return hold


class _Exhausted(Exception):
    """The words would take too long."""


class _Patience:
    """What is left of _STEPS. It travels as the format checker, which jsonschema hands to every subschema."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = _STEPS


def _follow(validator: Any, ref: str, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    patience = validator.format_checker
    patience.left -= 1
    if patience.left < 0:
        raise _Exhausted
    yield from jsonschema.Draft202012Validator.VALIDATORS["$ref"](validator, ref, instance, schema)


def _hold_names(validator: Any, rule: Any, instance: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    """One error of the object, where jsonschema gives those of a string that no pointer leads to."""
    held = validator.evolve(schema=rule)
    if isinstance(instance, dict) and not all(held.is_valid(name) for name in instance):
        yield jsonschema.ValidationError("propertyNames")


_Words = extend(  # type: ignore[no-untyped-call] # as shipped
    jsonschema.Draft202012Validator,
    {"$ref": _follow, "propertyNames": _hold_names, **{word: _asked(word) for word in _ASKED}},
)


def _leaves(error: jsonschema.ValidationError) -> Iterator[jsonschema.ValidationError]:
    """The causes of a failed ``anyOf`` or ``oneOf`` with one serious candidate; otherwise the error itself."""
    branches: dict[Any, list[jsonschema.ValidationError]] = {}
    for inner in error.context or ():
        branches.setdefault(inner.schema_path[0], []).append(inner)
    serious = [causes for causes in branches.values() if not any(_is_type_miss(cause) for cause in causes)]
    if len(serious) == 1 and error.validator in ("anyOf", "oneOf"):
        for cause in serious[0]:
            yield from _leaves(cause)
    else:
        yield error


def _is_type_miss(error: jsonschema.ValidationError) -> bool:
    return error.validator == "type" and not error.relative_path


def _pointer(path: Any) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _plain(limit: Any) -> str:
    return json.dumps(limit, ensure_ascii=False)


def _words(error: jsonschema.ValidationError, names: frozenset[str]) -> str:
    """One sentence on the rule that is broken; nothing of the value."""
    rule: Any = error.validator_value
    word = str(error.validator)
    if word in _LIMITS:
        return _LIMITS[word].format(rule)
    if word in ("additionalProperties", "unevaluatedProperties"):
        return _unknown_names(error, names)
    say = _SENTENCES.get(word)
    return say(rule, error) if say else f"breaks the schema's {word}"


def _missing(rule: list[str], error: jsonschema.ValidationError) -> str:
    members = error.instance if isinstance(error.instance, dict) else {}
    return "lacks the required " + ", ".join(name for name in rule if name not in members)


def _unknown_names(error: jsonschema.ValidationError, names: frozenset[str]) -> str:
    """Names only where they look like names: a member's name can be an identifier too."""
    members: Any = error.instance
    schema: Any = error.schema
    known = names if error.validator == "unevaluatedProperties" else schema.get("properties", {})
    plain = [name for name in members if name not in known and _PLAIN_NAME.fullmatch(name)][:5]
    return "has members that the schema does not know" + (": " + ", ".join(plain) if plain else "")


_SENTENCES: Mapping[str, Callable[[Any, jsonschema.ValidationError], str]] = {
    "type": lambda rule, _: "must be " + (" or ".join(rule) if isinstance(rule, list) else str(rule)),
    "required": _missing,
    "enum": lambda rule, _: "must be one of " + ", ".join(_plain(choice) for choice in rule[:20]),
    "const": lambda rule, _: f"must be {_plain(rule)}",
    "format": lambda rule, _: f"must be a valid {rule}",
    "pattern": lambda rule, _: f"must match the pattern {rule}",
    "anyOf": lambda _rule, _: "fits none of the permitted forms",
    "oneOf": lambda _rule, _: "fits none, or more than one, of the permitted forms",
    "dependentRequired": lambda _rule, _: "lacks a member that another one requires",
    "contains": lambda _rule, _: "must contain an item of the permitted form",
    "not": lambda _rule, _: "has a form that is not permitted",
    "items": lambda _rule, _: "has more items than the schema knows",
    "propertyNames": lambda _rule, _: "has a member with a name that is not permitted",
    "uniqueItems": lambda _rule, _: "must not have the same item twice",
}

_LIMITS = {
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be more than {}",
    "exclusiveMaximum": "must be less than {}",
    "multipleOf": "must be a multiple of {}",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "minProperties": "must have at least {} members",
    "maxProperties": "must have at most {} members",
}
