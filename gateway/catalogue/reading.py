"""Reads declared files strictly and remembers where each value stands, so that every finding names a line."""

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.catalogue.files import Files, Unread
from gateway.core.shape import Malformed, parse

Place = tuple[str | int, ...]
"""The way to a value inside a file: names of members and numbers of items."""

_TAG = "tag:yaml.org,2002:"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:\n]|[^\s{}\[\],:"]+')


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or will soon be, with what somebody declared."""

    level: Literal["error", "warning"]
    file: str
    """Relative to the catalogue's folder where it lies below it."""
    line: int
    message: str
    remedy: str


class Spot(NamedTuple):
    """A line of a file."""

    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Source:
    """A file's value, with the line of each part of it."""

    file: str
    value: Any
    lines: Mapping[Place, int]
    sound: bool
    """False where something was reported already and only part of the value can be trusted."""
    ends: Mapping[Place, int] = field(default_factory=dict)
    """The last line of each part, of a YAML file."""

    def at(self, *place: str | int) -> Spot:
        """The spot of the value, or of the nearest thing around it that the file has."""
        for end in range(len(place), 0, -1):
            if place[:end] in self.lines:
                return Spot(self.file, self.lines[place[:end]])
        return Spot(self.file, 1)

    def span(self, *place: str | int) -> str:
        """The lines of a part of a YAML file, in words."""
        first, last = self.lines.get(place, 1), self.ends.get(place, 1)
        return f"line {first}" if last <= first else f"lines {first} to {last}"


class Known(NamedTuple):
    """What a file's bytes were found to say, and what was found wrong with them."""

    file: str
    raw: bytes
    source: Source | None
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class Reading:
    """One run over the declared files: what was read, and what was found wrong."""

    files: Files
    known: dict[str, Known] = field(default_factory=dict)
    """By label, of earlier runs: bytes that stayed are not parsed again."""
    findings: list[Finding] = field(default_factory=list)
    used: dict[str, bytes] = field(default_factory=dict)
    """What the digest covers, by a name that is the same wherever the folders lie."""
    root: Path = field(init=False)
    keys: Path = field(init=False)
    _inside: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root, self.keys = self.files.root, self.files.keys
        for label in {*self.files.contents, *self.files.folders}:
            self._inside.setdefault(label.rpartition("/")[0], []).append(label)
        for label, held in self.files.contents.items():
            if isinstance(held, Unread) and held.folder and label != "keys/secrets":
                self.error(Spot(self.name(self.files.path(label)), 1), held.message, held.remedy)

    def is_file(self, path: Path) -> bool:
        """Whether there is such a file."""
        return self.files.label(path) in self.files.contents

    def is_folder(self, path: Path) -> bool:
        """Whether there is such a folder."""
        return self.files.label(path) in self.files.folders

    def inside(self, folder: Path) -> list[Path]:
        """Files and folders in a folder, sorted."""
        return sorted(self.files.path(label) for label in self._inside.get(self.files.label(folder), ()))

    def errors(self) -> int:
        """How many mistakes were reported so far."""
        return sum(each.level == "error" for each in self.findings)

    def error(self, spot: Spot, message: str, remedy: str) -> None:
        """Report a mistake."""
        self.findings.append(Finding("error", spot.file, spot.line, message, remedy))

    def warning(self, spot: Spot, message: str, remedy: str) -> None:
        """Report what works today and deserves a look."""
        self.findings.append(Finding("warning", spot.file, spot.line, message, remedy))

    def name(self, path: Path) -> str:
        """How findings call the file."""
        text, folder = str(path), f"{self.root}/"
        return text.removeprefix(folder)

    def text(self, path: Path) -> str | None:
        """The file's text, or None after reporting why there is none."""
        spot = Spot(self.name(path), 1)
        label = self.files.label(path)
        raw = self.files.contents.get(label, Unread("is missing", "Write it, or take out what asks for it."))
        if isinstance(raw, Unread):
            self.error(spot, raw.message, raw.remedy)
            return None
        self.used[label] = raw
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            self.error(Spot(spot.file, line), "is not UTF-8", "Save it as UTF-8 without other encodings in it.")
            return None

    def yaml(self, path: Path) -> Source | None:
        """A YAML 1.2 file, or None after reporting why there is none."""
        return self._once(path, _yaml)

    def json(self, path: Path) -> Source | None:
        """A JSON file under the gateway's own rules for bodies, or None after reporting why there is none."""
        return self._once(path, _json)

    def _once(self, path: Path, parsed: "Callable[[Reading, Spot, str], Source | None]") -> Source | None:
        text = self.text(path)
        if text is None:
            return None
        label, spot = self.files.label(path), Spot(self.name(path), 1)
        raw, known = self.used[label], self.known.get(label)
        if known is not None and (known.raw, known.file) == (raw, spot.file):
            self.findings += known.findings
            return known.source
        before = len(self.findings)
        source = parsed(self, spot, text)
        self.known[label] = Known(spot.file, raw, source, tuple(self.findings[before:]))
        return source


def composed(text: str) -> Node | None:
    """The nodes of a YAML 1.2 text with their marks. Raises YAMLError."""
    node: Node | None = YAML(typ="safe", pure=True).compose(text)
    return node


def digest(used: Mapping[str, bytes]) -> str:
    """SHA-256 in hex over name, NUL, length (eight bytes, big-endian) and bytes of each file, sorted by name."""
    seal = hashlib.sha256()
    for name, raw in sorted(used.items()):
        seal.update(name.encode() + b"\0" + len(raw).to_bytes(8) + raw)
    return seal.hexdigest()


def _yaml(reading: Reading, spot: Spot, text: str) -> Source | None:
    try:
        node = composed(text)
        if node is None:
            reading.error(spot, "is empty", "Describe something in it, or remove it.")
            return None
        tree = _Tree(reading, spot.file)
        value = tree.value(node, ())
        if tree.anchors:
            return None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        reading.error(Spot(spot.file, line), f"is no YAML: {error.problem}", "Correct the line or the one above it.")
        return None
    except (YAMLError, RecursionError) as error:
        reading.error(spot, f"is no YAML: {type(error).__name__}", "Write plain YAML with few levels.")
        return None
    return Source(spot.file, value, tree.lines, tree.sound, tree.ends)


def _json(reading: Reading, spot: Spot, text: str) -> Source | None:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        line = min(error.lineno, text.count("\n") + 1)
        words = error.msg.partition(":")[0]
        reading.error(Spot(spot.file, line), f"is no JSON: {words}", "Correct the line or the one above it.")
        return None
    lines, twice = _json_lines(text)
    for name, line in twice:
        reading.error(Spot(spot.file, line), f'the name "{name}" stands twice', "Keep one of the two.")
    if twice:
        return None
    try:
        return Source(spot.file, parse(text.encode()), lines, sound=True)
    except Malformed as error:
        reading.error(spot, f"is no JSON that the gateway takes: {error}", "Write it as the message asks.")
        return None


class _Tree:
    """Plain values from YAML nodes; dates stay the text that they are, as JSON has none."""

    def __init__(self, reading: Reading, file: str) -> None:
        self.reading = reading
        self.file = file
        self.lines: dict[Place, int] = {}
        self.ends: dict[Place, int] = {}
        self.sound = True
        self.anchors: set[str] = set()

    def value(self, node: Node, place: Place) -> Any:
        self.lines.setdefault(place, node.start_mark.line + 1)
        if not node.value or getattr(node, "flow_style", True):
            self._close(place, node.end_mark.line + 1)  # a block's own end lies behind the comments that follow it
        if node.anchor is not None:
            if node.anchor not in self.anchors:
                self.anchors.add(node.anchor)
                self._refuse(node, f'the anchor "&{node.anchor}" is not taken', "Write the value out at each place.")
            return None
        if isinstance(node, MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, place)
        if isinstance(node, SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.value(item, (*place, number)) for number, item in enumerate(node.value)]
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        self._refuse(node, f"the tag {node.tag} is not taken", "Write a plain value.")
        return None

    def _close(self, place: Place, line: int) -> None:
        for end in range(len(place) + 1):
            self.ends[place[:end]] = max(self.ends.get(place[:end], 1), line)

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for key, inner in node.value:
            name = key.value
            if not isinstance(key, ScalarNode) or not isinstance(name, str):
                self._refuse(key, "a key must be a plain word", "Write the key as text.")
            elif name in members:
                first = self.lines[(*place, name)]
                self._refuse(key, f'the key "{name}" stands twice, first in line {first}', "Keep one of the two.")
            else:
                self.lines[(*place, name)] = key.start_mark.line + 1
                members[name] = self.value(inner, (*place, name))
        return members

    def _scalar(self, node: ScalarNode) -> Any:
        text: str = node.value
        match (node.tag or "").removeprefix(_TAG):
            case "bool":
                return text.lower() == "true"
            case "null":
                return None
            case "int" if re.fullmatch(r"[-+]?[0-9]{1,15}", text):
                return int(text)
            case "float" if re.fullmatch(r"[-+]?[0-9]{1,15}\.[0-9]{1,15}", text):
                return float(text)
            case "str" | "timestamp" | "int" | "float" | "merge":
                return text
        self._refuse(node, f"the tag {node.tag} is not taken", "Write a plain value.")
        return None

    def _refuse(self, node: Node, message: str, remedy: str) -> None:
        self.sound = False
        self.reading.error(Spot(self.file, node.start_mark.line + 1), message, remedy)


@dataclass(slots=True)
class _Open:
    """An object or array that the walk is inside of."""

    place: Place
    is_object: bool
    step: str | int = 0
    awaits_name: bool = True


def _json_lines(text: str) -> tuple[dict[Place, int], list[tuple[str, int]]]:
    """The line of each member and item of a text that is known to be JSON; and names that stand twice."""
    lines: dict[Place, int] = {(): 1}
    twice: list[tuple[str, int]] = []
    inside: list[_Open] = [_Open((), is_object=False, step=-1)]
    line = 1
    for piece in _TOKEN.findall(text):
        top = inside[-1]
        match piece:
            case "\n":
                line += 1
            case ":":
                top.awaits_name = False
            case ",":
                top.awaits_name = True
                top.step = top.step + 1 if isinstance(top.step, int) else top.step
            case "}" | "]":
                inside.pop()
            case _ if top.is_object and top.awaits_name:
                top.step = json.loads(piece)
                if (*top.place, top.step) in lines:
                    twice.append((str(top.step), line))
                lines[(*top.place, top.step)] = line
            case _:
                place: Place = () if top.step == -1 else (*top.place, top.step)
                lines.setdefault(place, line)
                if piece in "{[":
                    inside.append(_Open(place, is_object=piece == "{", step="" if piece == "{" else 0))
    return lines, twice


def near(name: str, known: Iterable[str]) -> str:
    """The beginning of a remedy: the name that was probably meant, or nothing."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f'Did you mean "{close[0]}"? ' if close else ""


def render(findings: Iterable[Finding]) -> str:
    """Findings as plain text: where and what in one line, the remedy in the next."""
    return "".join(f"{each.file}:{each.line}: {each.level}: {each.message}\n    {each.remedy}\n" for each in findings)
