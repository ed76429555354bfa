"""What a schema says about a mapping's pointers: which required member nothing fills, which value no text can hold.

Mappings pass objects only (``core.mapping``): what stands inside of an array has no one value, and none is made there.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

Tokens = tuple[str, ...]

_LOCAL = "#/$defs/"
_ALTERNATIVES = ("allOf", "anyOf", "oneOf")
_SIMPLE = frozenset({"string", "number", "integer", "boolean"})


def gaps(schema: Mapping[str, Any], targets: Collection[Tokens]) -> Iterator[str]:
    """Pointers of required members that a value made of these targets never has, as far as no branch is asked."""
    return _gaps((schema,), targets, schema, ())


def _gaps(schemas: Collection[Any], targets: Collection[Tokens], root: Any, here: Tokens) -> Iterator[str]:
    if () in targets:
        return
    layers = [layer for schema in schemas for layer in _layers(schema, root, set())]
    firsts = dict.fromkeys(target[0] for target in targets)
    for name in dict.fromkeys(each for layer in layers for each in layer.get("required", ())):
        if name not in firsts:
            yield _pointer((*here, name))
    for name in firsts:
        inner = [layer["properties"][name] for layer in layers if name in layer.get("properties", {})]
        yield from _gaps(inner, [each[1:] for each in targets if each[0] == name], root, (*here, name))


def singular(schema: Mapping[str, Any], tokens: Tokens) -> bool:
    """Whether something can stand at the pointer without an array on the way."""
    return any(True for _ in _ends(schema, tokens, schema, set()))


def simple(schema: Mapping[str, Any], tokens: Tokens) -> bool:
    """Whether a text, number or boolean can stand there, as far as the schema says."""
    known = [_types(list(_layers(end, schema, set()))) for end in _ends(schema, tokens, schema, set())]
    said = [types for types in known if types is not None]
    return not said or any(types & _SIMPLE for types in said)


def _ends(schema: Any, tokens: Tokens, root: Any, seen: set[tuple[int, int]]) -> Iterator[Any]:
    """Every schema that speaks of what stands at the pointer, through objects alone; each is looked into once."""
    here = id(schema), len(tokens)
    if schema is False or here in seen:
        return
    seen.add(here)
    if not tokens or schema is True:
        yield schema
        return
    if "$ref" in schema:
        yield from _ends(_target(schema["$ref"], root), tokens, root, seen)
    branches = [each for word in _ALTERNATIVES for each in schema.get(word, ())]
    branches += [schema[word] for word in ("then", "else") if word in schema]
    branches += schema.get("dependentSchemas", {}).values()
    for branch in branches:
        if branch is not True:  # a branch that is silent about a name adds nothing
            yield from _ends(branch, tokens, root, seen)
    properties = schema.get("properties", {})
    if tokens[0] in properties:
        yield from _ends(properties[tokens[0]], tokens[1:], root, seen)
    else:
        yield from _ends(schema.get("additionalProperties", False), tokens[1:], root, seen)


def _layers(schema: Any, root: Any, seen: set[int]) -> Iterator[Mapping[str, Any]]:
    """Every schema object that holds for the same value whatever the value is, once."""
    if not isinstance(schema, Mapping) or id(schema) in seen:
        return
    seen.add(id(schema))
    yield schema
    if "$ref" in schema:
        yield from _layers(_target(schema["$ref"], root), root, seen)
    for each in schema.get("allOf", ()):
        yield from _layers(each, root, seen)


def _types(layers: Collection[Mapping[str, Any]]) -> frozenset[str] | None:
    """The types that all of them permit; None where none of them says."""
    said = [layer["type"] for layer in layers if "type" in layer]
    if not said:
        return None
    return frozenset.intersection(*(frozenset([each] if isinstance(each, str) else each) for each in said))


def _target(ref: str, root: Any) -> Any:
    return root if ref == "#" else root.get("$defs", {}).get(ref.removeprefix(_LOCAL), False)


def _pointer(tokens: Tokens) -> str:
    return "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in tokens)
