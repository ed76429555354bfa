"""Adds an item to a list in a YAML text without touching any other character of it, comments included."""

import json
import re
from collections.abc import Mapping, Sequence

from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

_PLAIN = re.compile(r"[A-Za-z]([A-Za-z0-9_./ -]|:(?=[A-Za-z]))*[A-Za-z0-9]")
_WORDS = ("true", "false", "null", "yes", "no", "on", "off")
_WIDTH = 110

Entries = Sequence[Mapping[str, object]]


def appended(text: str, given: SequenceNode | None, entries: Entries, indent: int) -> str:
    """The text with the entries behind the last item of the list. None: at the end, ``indent`` columns in."""
    if given is None:
        return text + _lines(entries, indent)
    if given.flow_style and not given.value:
        before, after = text[: given.start_mark.index].rstrip(" "), text[given.end_mark.index :]
        own_line = not before or before.endswith("\n")
        return f"{before}{'' if own_line else chr(10)}{_lines(entries, 0 if own_line else indent).rstrip()}{after}"
    if given.flow_style:
        end = given.end_mark.index - 1
        return f"{text[:end].rstrip()}, {', '.join(map(_flow, entries))}{text[end:]}"
    end = end_of(given)
    line_end = text.find("\n", end) if text[end - 1] != "\n" else end - 1
    cut = len(text) if line_end < 0 else line_end + 1
    before = text[:cut] if text[:cut].endswith("\n") else f"{text[:cut]}\n"
    return f"{before}{_lines(entries, given.start_mark.column)}{text[cut:]}"


def end_of(node: Node) -> int:
    """The index behind the node's last character: a block's own mark lies behind the comments that follow it."""
    if isinstance(node, SequenceNode) and not node.flow_style and node.value:
        return end_of(node.value[-1])
    if isinstance(node, MappingNode) and not node.flow_style and node.value:
        return end_of(node.value[-1][1])
    index: int = node.end_mark.index
    return index


def _flow(entry: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{name}: {scalar(value)}" for name, value in entry.items()) + "}"


def _lines(entries: Entries, indent: int) -> str:
    return "".join(_entry(entry, indent) for entry in entries)


def _entry(entry: Mapping[str, object], indent: int) -> str:
    """The entry in braces, broken between its members where it is long."""
    lines: list[str] = []
    line = " " * indent + "- {"
    for number, (name, value) in enumerate(entry.items()):
        member = f"{name}: {scalar(value)}" + ("}" if number == len(entry) - 1 else ",")
        if number and len(line) + len(member) + 1 > _WIDTH:
            lines.append(line)
            line = " " * (indent + 3) + member
        else:
            line += (" " if number else "") + member
    return "\n".join([*lines, line]) + "\n"


def scalar(value: object) -> str:
    """A value as YAML: text in quotes where it could be read as anything else."""
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(scalar(each) for each in value) + "]"
    text = str(value)
    is_date = bool(re.fullmatch(r"\d{4}-\d{2}-\d{2}", text))
    plain = (_PLAIN.fullmatch(text) and text.lower() not in _WORDS) or is_date
    return text if plain else json.dumps(text, ensure_ascii=False)
