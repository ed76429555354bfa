"""What an agreement discloses of an answer: cutting a value, and a schema, down to some JSON Pointers.

A pointer (RFC 6901) names members of objects; where it meets an array it goes through every item, so that
``/addresses/city`` keeps the city of each address. The empty pointer is the whole answer.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

Cut: TypeAlias = Mapping[str, "Cut | None"]
"""The members that stay; None under a name keeps all of it."""

_BAD_ESCAPE = re.compile("~(?![01])")
_LOCAL = "#/$defs/"
_BRANCHES = ("allOf", "anyOf", "oneOf")
_SINGLE = ("then", "else")
_KEPT = ("$schema", "title", "description", "type")


@lru_cache(maxsize=4096)
def parts(pointer: str) -> tuple[str, ...]:
    """The reference tokens of a JSON Pointer. Raises ValueError where it is none (RFC 6901, section 3)."""
    if pointer and not pointer.startswith("/"):
        raise ValueError("a JSON Pointer begins with /")
    if _BAD_ESCAPE.search(pointer):
        raise ValueError("in a JSON Pointer ~ is followed by 0 or 1")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:])


def cut_of(pointers: Iterable[str]) -> Cut | None:
    """The cut that keeps these pointers and nothing else; None keeps everything."""
    cut: dict[str, Any] = {}
    for pointer in pointers:
        tokens = parts(pointer)
        if not tokens:
            return None
        here = cut
        for token in tokens[:-1]:
            step = here.setdefault(token, {})
            if step is None:  # a shorter pointer keeps all of it already
                break
            here = step
        else:
            here[tokens[-1]] = None
    return cut


def minimise(value: Any, cut: Cut | None) -> Any:
    """The value with nothing but what the cut keeps. What is no object where the cut goes deeper is left out."""
    if cut is None:
        return value
    if isinstance(value, list):
        return [minimise(item, cut) for item in value if isinstance(item, list | dict)]
    if not isinstance(value, dict):
        return {}
    kept = {}
    for name, deeper in cut.items():
        if name in value:
            inner = value[name]
            if deeper is None:
                kept[name] = inner
            elif isinstance(inner, list | dict):
                kept[name] = minimise(inner, deeper)
    return kept


def reduced(schema: Any, cut: Cut | None) -> Any:
    """The schema as a caller sees it who gets only what the cut keeps; local references are written out."""
    if cut is None or not isinstance(schema, Mapping):
        return schema
    kept = _reduced(schema, cut, schema, 0)
    needed = _reached(kept, schema.get("$defs", {}))
    return {**kept, "$defs": needed} if needed else kept


def _reduced(schema: Any, cut: Cut | None, root: Mapping[str, Any], depth: int) -> Any:
    if cut is None or not isinstance(schema, Mapping):
        return schema
    if depth > 32:  # a recursive definition that the cut never leaves
        return True
    if "$ref" in schema:
        return _reduced(_target(schema, root), cut, root, depth + 1)
    kept: dict[str, Any] = {name: schema[name] for name in _KEPT if name in schema}
    if "properties" in schema:
        kept["properties"] = {
            name: _reduced(inner, cut[name], root, depth + 1)
            for name, inner in schema["properties"].items()
            if name in cut
        }
    if "required" in schema:
        kept["required"] = [name for name in schema["required"] if cut.get(name, {}) is None]
    if "items" in schema and "prefixItems" not in schema:  # cutting moves items forward
        kept["items"] = _reduced(schema["items"], cut, root, depth + 1)
    for word in _BRANCHES:
        if word in schema:
            kept[word] = [_reduced(branch, cut, root, depth + 1) for branch in schema[word]]
    if "oneOf" in kept:  # what told the forms apart may be cut off
        kept.setdefault("allOf", []).append({"anyOf": kept.pop("oneOf")})
    return kept


def _reached(schema: Any, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The definitions that a schema still leads to: the others would tell of what is not disclosed."""
    found: dict[str, Any] = {}
    waiting = [schema]
    while waiting:
        here = waiting.pop()
        if isinstance(here, list):
            waiting += here
        elif isinstance(here, Mapping):
            name = str(here.get("$ref", "")).removeprefix(_LOCAL)
            if name in definitions and name not in found:
                found[name] = definitions[name]
                waiting.append(definitions[name])
            waiting += here.values()
    return found


def can_contain(schema: Any, pointer: str) -> bool:
    """Whether a value that fits the schema can have something at the pointer."""
    return any(True for _ in _reach(schema, parts(pointer), schema, 0))


def _target(schema: Mapping[str, Any], root: Any) -> Any:
    ref = schema["$ref"]
    if ref == "#":
        return root
    return root.get("$defs", {}).get(ref.removeprefix(_LOCAL), False) if ref.startswith(_LOCAL) else False


def _reach(schema: Any, tokens: tuple[str, ...], root: Any, depth: int) -> Iterator[None]:
    """One None for each way through the schema along the tokens."""
    if schema is False or depth > 64:
        return
    if not tokens or schema is True:
        yield None
        return
    if "$ref" in schema:
        yield from _reach(_target(schema, root), tokens, root, depth + 1)
    for branch in _branches(schema):
        yield from _deeper(branch, tokens, root, depth)
    for items in (*schema.get("prefixItems", ()), schema.get("items", False)):
        yield from _reach(items, tokens, root, depth + 1)
    properties = schema.get("properties", {})
    if tokens[0] in properties:
        yield from _reach(properties[tokens[0]], tokens[1:], root, depth + 1)
    elif _open(schema):
        yield from _reach(schema["additionalProperties"], tokens[1:], root, depth + 1)


def _branches(schema: Mapping[str, Any]) -> Iterator[Any]:
    for word in _BRANCHES:
        yield from schema.get(word, ())
    yield from schema.get("dependentSchemas", {}).values()
    for word in _SINGLE:
        if word in schema:
            yield schema[word]


def _deeper(branch: Any, tokens: tuple[str, ...], root: Any, depth: int) -> Iterator[None]:
    """A branch adds what it names; that it is silent about a name adds nothing."""
    if isinstance(branch, Mapping):
        yield from _reach({"additionalProperties": False, **branch}, tokens, root, depth + 1)


def _open(schema: Mapping[str, Any]) -> bool:
    """An object schema that says ``additionalProperties`` and does not forbid them."""
    return schema.get("additionalProperties", False) not in (False, None)
