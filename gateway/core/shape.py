"""Whether bytes are the JSON that was agreed: strict parsing, fast verdicts, words without values.

JSON Schema 2020-12, ``format`` asserted, regular expressions that take linear time, no reference out of the schema
itself. jsonschema-rs gives the verdict (about a hundred times faster), jsonschema finds the words for what it
refused; formats and patterns are jsonschema-rs's own in both, so that there is one definition of each.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jsonschema
import jsonschema_rs
import orjson
from jsonschema.exceptions import FormatError
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
_REFUSED_WORDS = ("patternProperties", "$dynamicRef", "$dynamicAnchor", "$id", "$anchor")
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

    __slots__ = ("_fast", "_slow", "schema")

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Compile. Raises BadSchema where the schema is wrong or uses what the gateway refuses."""
        _hold(schema, schema, "")
        try:
            jsonschema_rs.meta.validate(dict(schema))
        except jsonschema_rs.ValidationError as error:
            where = "".join(f"/{step}" for step in error.instance_path)
            raise BadSchema(where, error.message) from error
        try:
            self._fast = _compiled(dict(schema))
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise BadSchema("", str(error).splitlines()[0]) from error
        self._slow = _Words(schema, format_checker=_Formats())
        self.schema: Mapping[str, Any] = schema
        """JSON Schema 2020-12; every ``$ref`` is ``#`` or ``#/$defs/…``."""

    def fits(self, value: Any) -> bool:
        """The verdict."""
        return self._fast.is_valid(value)

    def broken_rules(self, value: Any) -> tuple[str, ...]:
        """Which rules of the schema a value breaks, as pointers into the schema: for logs, free of the value."""
        errors = itertools.islice(self._slow.iter_errors(value), MAX_FAULTS)
        return tuple(dict.fromkeys(_pointer(error.absolute_schema_path) for error in errors))

    def faults(self, value: Any) -> tuple[ShapeFault, ...]:
        """What does not fit, at most MAX_FAULTS places, deepest causes first; empty where it fits."""
        found: dict[tuple[str, str], ShapeFault] = {}
        for error in self._slow.iter_errors(value):
            for leaf in _leaves(error):
                fault = ShapeFault(_pointer(leaf.absolute_path), _words(leaf))
                found.setdefault((fault.pointer, fault.detail), fault)
                if len(found) >= MAX_FAULTS:
                    return tuple(found.values())
        return tuple(found.values())


def _compiled(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator(
        schema,
        validate_formats=True,
        ignore_unknown_formats=False,
        offline=True,
        pattern_options=jsonschema_rs.RegexOptions(),
    )


def _hold(schema: Any, root: Mapping[str, Any], where: str) -> None:
    """Refuse what the two engines could understand differently, and every reference out of the schema."""
    if isinstance(schema, list):
        for place, inner in enumerate(schema):
            _hold(inner, root, f"{where}/{place}")
    if not isinstance(schema, Mapping):
        return
    for word in _REFUSED_WORDS:
        if word in schema and not where.endswith("/properties"):
            raise BadSchema(f"{where}/{word}", f"{word} is not taken; write the schema without it")
    ref = schema.get("$ref")
    if isinstance(ref, str) and ref != "#" and ref.removeprefix("#/$defs/") not in root.get("$defs", {}):
        raise BadSchema(f"{where}/$ref", "a reference must lead to a definition that exists")
    for word, inner in schema.items():
        if word not in ("enum", "const", "examples", "default"):
            _hold(inner, root, f"{where}/{word}")


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    if validator.is_type(instance, "string") and not _compiled({"pattern": pattern}).is_valid(instance):
        yield jsonschema.ValidationError("pattern")


_Words = extend(jsonschema.Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call] # as shipped


class _Formats(jsonschema.FormatChecker):
    """Asks jsonschema-rs, which also decides on the hot path."""

    def __init__(self) -> None:
        super().__init__(formats=())

    def check(self, instance: object, format: str) -> None:  # noqa: A002 - the library's name
        if not _compiled({"format": format}).is_valid(instance):
            raise FormatError("format")


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


def _words(error: jsonschema.ValidationError) -> str:
    """One sentence on the rule that is broken; nothing of the value."""
    rule: Any = error.validator_value
    word = str(error.validator)
    if word in _LIMITS:
        return _LIMITS[word].format(rule)
    say = _SENTENCES.get(word)
    return say(rule, error) if say else f"breaks the schema's {word}"


def _missing(rule: list[str], error: jsonschema.ValidationError) -> str:
    members = error.instance if isinstance(error.instance, dict) else {}
    return "lacks the required " + ", ".join(name for name in rule if name not in members)


def _unknown_names(_rule: Any, error: jsonschema.ValidationError) -> str:
    """Names only where they look like names: a member's name can be an identifier too."""
    known = error.schema.get("properties", {}) if isinstance(error.schema, Mapping) else {}
    names = [name for name in error.instance if name not in known] if isinstance(error.instance, dict) else []
    plain = [name for name in names if _PLAIN_NAME.fullmatch(name)][:5]
    return "has members that the schema does not know" + (": " + ", ".join(plain) if plain else "")


_SENTENCES: Mapping[str, Callable[[Any, jsonschema.ValidationError], str]] = {
    "type": lambda rule, _: "must be " + (" or ".join(rule) if isinstance(rule, list) else str(rule)),
    "required": _missing,
    "additionalProperties": _unknown_names,
    "unevaluatedProperties": _unknown_names,
    "enum": lambda rule, _: "must be one of " + ", ".join(_plain(choice) for choice in rule[:20]),
    "const": lambda rule, _: f"must be {_plain(rule)}",
    "format": lambda rule, _: f"must be a valid {rule}",
    "pattern": lambda rule, _: f"must match the pattern {rule}",
    "anyOf": lambda _rule, _: "fits none of the permitted forms",
    "oneOf": lambda _rule, _: "fits none, or more than one, of the permitted forms",
    "dependentRequired": lambda _rule, _: "lacks a member that another one requires",
    "contains": lambda _rule, _: "must contain an item of the permitted form",
    "not": lambda _rule, _: "has a form that is not permitted",
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
