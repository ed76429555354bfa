"""Holds a manifest against its form, and puts what is wrong with it into words with a line and a remedy."""

import copy
import difflib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.catalogue.manifests import FORMS, form
from gateway.catalogue.members import SECRET
from gateway.catalogue.reading import Place, Reading, Source, near

M = TypeVar("M", bound=BaseModel)


def manifest(reading: Reading, path: Path, model: type[M]) -> tuple[M, Source] | None:
    """The manifest and where its parts stand, or None after reporting everything that is wrong with it.

    Unknown keys alone do not end the reading, so that what else is wrong is found in the same run.
    """
    source = reading.yaml(path)
    if source is None:
        return None
    root, value = _form_of(model), source.value
    read, details = _validated(model, value)
    unknown = [detail for detail in details if detail["type"] == "extra_forbidden"]
    if unknown:
        for detail in unknown:
            _report(reading, source, value, detail, root)
        value, lines = _without(unknown, source, root)
        source = replace(source, lines=lines)
        read, details = _validated(model, value)
    for detail in details:
        _report(reading, source, value, detail, root)
    return (read, source) if read is not None and source.sound else None


def _validated(model: type[M], value: Any) -> tuple[M | None, list[ErrorDetails]]:
    try:
        return model.model_validate(value), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _without(unknown: list[ErrorDetails], source: Source, root: Mapping[str, Any]) -> tuple[Any, Mapping[Place, int]]:
    """The value without unknown keys; one that is nearly a known key is taken for it. With the lines of both."""
    value = copy.deepcopy(source.value)
    lines = dict(source.lines)
    for detail in unknown:
        place, _, _ = _follow(source.value, detail["loc"], root)
        _, outer, members = _follow(value, place[:-1], root)
        given = members.pop(place[-1])
        meant = difflib.get_close_matches(str(place[-1]), sorted(outer.get("properties", {})), n=1)
        if meant and meant[0] not in members:
            members[meant[0]] = given
            depth = len(place)
            renamed = {(*place[:-1], meant[0], *each[depth:]): lines[each] for each in lines if each[:depth] == place}
            lines.update(renamed)
    return value, lines


@cache
def _form_of(model: type[BaseModel]) -> Mapping[str, Any]:
    return form(next(kind for kind, each in FORMS.items() if each is model))


def _report(reading: Reading, source: Source, value: Any, detail: ErrorDetails, root: Mapping[str, Any]) -> None:
    place, here, given = _follow(value, detail["loc"], root)
    last = str(detail["loc"][-1]) if detail["loc"] else ""
    name = next((step for step in reversed(place) if isinstance(step, str)), "")
    spot = source.at(*place)
    match detail["type"]:
        case "missing":
            wanted = _settled(here.get("properties", {}).get(last, {}), None, root)
            reading.error(spot, f'the required key "{last}" is missing', _remedy("Add it.", last, wanted))
        case "extra_forbidden":
            outer = _follow(value, place[:-1], root)[1]
            names = sorted(outer.get("properties", {}))
            reading.error(spot, f'unknown key "{last}"', f"{near(last, names)}Known here: {', '.join(names)}.")
        case "union_tag_invalid":
            known = sorted(here["discriminator"]["mapping"])
            message = f'unknown protocol "{_short(given["protocol"])}"'
            remedy = f"{near(str(given['protocol']), known)}Known protocols: {', '.join(known)}."
            reading.error(source.at(*place, "protocol"), message, remedy)
        case "union_tag_not_found":
            reading.error(spot, 'the required key "protocol" is missing', "Add it. For example: protocol: http")
        case "notation":
            words = detail["ctx"]["words"]
            subject = f'"{name}" ' if words.startswith(("must ", "is ")) else ""
            reading.error(spot, subject + words, detail["ctx"]["remedy"])
        case kind:
            inside = bool(place) and isinstance(place[-1], int)
            reading.error(spot, _message(kind, detail, name or "the file"), _remedy("", name, here, inside=inside))


def _remedy(first: str, name: str, schema: Mapping[str, Any], *, inside: bool = False) -> str:
    """What the key is for, and how it is written; ``inside`` of a list the example is one too."""
    parts = (first, _description(schema), _example(name, schema, inside=inside))
    return " ".join(part for part in parts if part) or "Write it as the reference of manifests shows."


_MESSAGES = {
    "literal_error": '"{name}" must be {choices}, not "{given}"',
    "string_pattern_mismatch": '"{given}" has not the form of "{name}"',
    "string_type": '"{name}" must be text',
    "bool_type": '"{name}" must be true or false',
    "int_type": '"{name}" must be a whole number',
    "list_type": '"{name}" must be a list',
    "dict_type": '"{name}" must have keys of its own',
    "model_type": '"{name}" must have keys of its own',
    "model_attributes_type": '"{name}" must have keys of its own',
    "too_short": '"{name}" needs at least {min_length}',
    "string_too_short": '"{name}" is empty',
    "string_too_long": '"{name}" is longer than {max_length} characters',
    "greater_than_equal": '"{name}" must be at least {ge}',
    "less_than_equal": '"{name}" must be at most {le}',
}


def _message(kind: str, detail: ErrorDetails, name: str) -> str:
    limits = detail.get("ctx", {})
    choices = str(limits.get("expected", "")).replace("'", "")
    if limits.get("pattern") == SECRET:  # the secret itself may stand there
        return f'"{name}" must be the name of a secret, which is a file; what stands here is none, and is not shown'
    pattern = _MESSAGES.get(kind)
    if pattern is None:
        return f'"{name}": {detail["msg"]}'
    return pattern.format_map({**limits, "name": name, "given": _short(detail["input"]), "choices": choices})


def _follow(value: Any, loc: tuple[int | str, ...], root: Mapping[str, Any]) -> tuple[Place, Mapping[str, Any], Any]:
    """The place in the file that pydantic means, without its own marks; the form's part for it; what stands there."""
    place: list[str | int] = []
    here = _settled(root, value, root)
    for step in loc:
        if isinstance(value, list) and isinstance(step, int) and step < len(value):
            inner = here.get("items", {})
        elif isinstance(value, dict) and step in value:
            open_ended = [here.get("additionalProperties"), *here.get("patternProperties", {}).values()]
            more = next((each for each in open_ended if isinstance(each, dict)), {})
            inner = here.get("properties", {}).get(step, more)
        else:
            continue
        value = value[step]
        here = _settled(inner, value, root)
        place.append(step)
    return tuple(place), here, value


def _settled(schema: Mapping[str, Any], value: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of the form that speaks of this value: references, optional parts and protocols followed."""
    if "$ref" in schema:
        target = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        return _settled({**target, **{word: schema[word] for word in schema if word != "$ref"}}, value, root)
    if "anyOf" in schema:
        given = next(choice for choice in schema["anyOf"] if choice.get("type") != "null")
        return _settled({**given, **{word: schema[word] for word in schema if word != "anyOf"}}, value, root)
    protocol = value.get("protocol") if isinstance(value, dict) and "discriminator" in schema else None
    if isinstance(protocol, str) and protocol in schema["discriminator"]["mapping"]:
        return _settled({"$ref": schema["discriminator"]["mapping"][protocol]}, value, root)
    return schema


def _description(schema: Mapping[str, Any]) -> str:
    return str(schema.get("description", ""))


def _example(name: str, schema: Mapping[str, Any], *, inside: bool) -> str:
    examples = schema.get("examples")
    if not examples:
        return ""
    example = [examples[0]] if inside else examples[0]
    text = f"[{', '.join(map(str, example))}]" if isinstance(example, list) else str(example)
    return f"For example: {name}: {text}" if name else f"For example: {text}"


def _short(given: object) -> str:
    text = str(given)
    if "://" in text and "@" in text:
        return "…"  # a user's name and password may stand there
    return text if len(text) <= 80 else text[:77] + "..."
