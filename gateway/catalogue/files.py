"""Every declared file as one immutable value, read at one moment, so that loading it opens no file in passing.

A label is a file's name wherever the folders lie: ``adapters/interior/agency.yaml``, ``keys/agencies/x.jwks.json``. A
unit is what is taken over or kept as one: an agency's folder with its keys and secrets, a service's folder, an
agreement with its decision tests, ``schemas/common``. Names that begin with a dot are nobody's: editors' and volumes'.
"""

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

MAX_FILE_BYTES = 1024 * 1024
"""More than any manifest, schema, example or key file needs."""
MAX_FILES = 200_000
MAX_TREE_BYTES = 512 * 1024 * 1024
"""Of all files together."""

FOLDERS = ("schemas", "adapters", "policies")
_DEPTHS: Mapping[str, int] = {"schemas": 8, "adapters": 2, "policies": 1, "keys/agencies": 1, "keys/secrets": 1}
"""How many levels of each are looked at."""
_SECRETS = "keys/secrets/"


@dataclass(frozen=True, slots=True)
class Unread:
    """Why a file or folder could not be read, and what to do."""

    message: str
    remedy: str
    folder: bool = False
    """What lies in it is not known: to leave it out could take something back that somebody declared."""


@dataclass(frozen=True, slots=True)
class Files:
    """What lay below the catalogue's folder and in the keys folder."""

    root: Path
    keys: Path
    contents: Mapping[str, bytes | Unread] = field(repr=False)
    """By label. Of a secret, its SHA-256: enough to see that it changed."""
    folders: frozenset[str] = field(repr=False)
    """Labels of every folder, empty ones too."""

    def path(self, label: str) -> Path:
        """Where the file lies."""
        return self.keys / label.removeprefix("keys/") if label.startswith("keys/") else self.root / label

    def label(self, path: Path) -> str:
        """The label of a path; of one outside of both folders, the path itself."""
        text = str(path)  # pathlib's own ways take half the time of loading a large catalogue
        for folder, name in ((str(self.keys), "keys/"), (str(self.root), "")):
            if text == folder or text.startswith(f"{folder}/"):
                return f"{name}{text[len(folder) + 1 :]}".removesuffix("/")
        return text

    def unit_of(self, file: str) -> str:
        """The unit of a file as findings name it; empty where no unit has it."""
        return unit_of(self.label(self.root / file))

    def changed(self, before: "Files") -> frozenset[str]:
        """The units that differ."""
        labels = {*self.contents, *before.contents}
        differing = {label for label in labels if self.contents.get(label) != before.contents.get(label)}
        return frozenset(map(unit_of, differing | (self.folders ^ before.folders))) - {""}

    def with_units(self, units: Collection[str], other: "Files") -> "Files":
        """These files, the units' own taken from the other ones."""
        contents = {label: held for label, held in self.contents.items() if unit_of(label) not in units}
        contents |= {label: held for label, held in other.contents.items() if unit_of(label) in units}
        folders = {label for label in self.folders if unit_of(label) not in units}
        folders |= {label for label in other.folders if unit_of(label) in units}
        return replace(self, contents=contents, folders=frozenset(folders))

    def same(self, other: "Files") -> bool:
        """Whether nothing differs, wherever the folders lie."""
        return self.contents == other.contents and self.folders == other.folders

    def seals(self) -> Mapping[str, bytes]:
        """By agency, a digest of what its endpoints are connected with beside their options: its code and secrets."""
        made: dict[str, bytes] = {}
        for label, held in sorted(self.contents.items(), key=lambda each: each[0]):
            if (label.endswith("/adapter.py") or label.startswith(_SECRETS)) and isinstance(held, bytes):
                agency = unit_of(label).removeprefix("adapters/")
                made[agency] = sha256(made.get(agency, b"") + label.encode() + b"\0" + sha256(held).digest()).digest()
        return made


def unit_of(label: str) -> str:
    """The unit that a label belongs to; empty where there is none."""
    unit = ""
    match label.split("/"):
        case ["adapters" | "schemas" as kind, name] | ["adapters" as kind, name, *_]:
            unit = f"{kind}/{name}"
        case ["schemas", ("common" as domain), *_] | ["schemas", domain, "service.yaml"]:
            unit = f"schemas/{domain}"
        case ["schemas", domain, name, *_]:
            unit = f"schemas/{domain}/{name}"
        case ["keys", "agencies" | "secrets", name]:
            unit = f"adapters/{name.partition('.')[0]}"
        case ["policies", name]:
            unit = f"policies/{name.partition('.')[0]}"
    return unit


Look = Mapping[str, tuple[int, int, int]]
"""By label: inode, size, and the time of the last change of any kind, which nobody can set."""


def look(root: Path, keys: Path) -> Look:
    """Names, sizes and times of everything that ``read`` would read."""
    seen: dict[str, tuple[int, int, int]] = {}
    for label, _, status in _walk(root, keys):
        seen[label] = (status.st_ino, status.st_size, status.st_ctime_ns) if status is not None else (0, 0, 0)
    return seen


def read(root: Path, keys: Path) -> Files:
    """Everything, within bounds. Raises nothing: what cannot be read says why."""
    contents: dict[str, bytes | Unread] = {}
    folders: set[str] = set()
    total = 0
    for label, path, status in _walk(root, keys):
        if len(contents) >= MAX_FILES or total > MAX_TREE_BYTES:
            remedy = "Take out what is no part of the catalogue, or serve its agencies from several gateways."
            bound = f"more than {MAX_FILES} files or {MAX_TREE_BYTES} bytes lie in catalogue and keys"
            contents["."] = Unread(bound, remedy, folder=True)
            break
        if status is _FOLDER:
            folders.add(label)
            continue
        held = _unlisted() if status is None and Path(path).is_dir() else _content(path, status)
        total += len(held) if isinstance(held, bytes) else 0
        contents[label] = sha256(held).digest() if label.startswith(_SECRETS) and isinstance(held, bytes) else held
    return Files(root.resolve(), keys.resolve(), contents, frozenset(folders))


def alone(path: Path) -> Files:
    """One file, apart from any catalogue."""
    whole = path.absolute()
    return Files(whole.parent, whole.parent / "keys", {whole.name: _content(whole, None)}, frozenset())


def _unlisted() -> Unread:
    return Unread("the folder cannot be listed", "Let the gateway read it, or remove it.", folder=True)


def _content(path: Path | str, status: os.stat_result | None) -> bytes | Unread:
    if status is not None and not stat.S_ISREG(status.st_mode):  # a pipe would never end
        return Unread("is no regular file", "Remove it.")
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return Unread(f"cannot be read: {error.strerror}", "Let the gateway read it, or remove it.")
    if len(raw) > MAX_FILE_BYTES:
        return Unread(f"is larger than {MAX_FILE_BYTES} bytes", "Make it smaller or split it.")
    return raw


_FOLDER = os.stat_result((stat.S_IFDIR, *(0,) * 9))
_Seen = tuple[str, str, os.stat_result | None]
"""Label, path and status; of a folder always the same, and none where it cannot be had."""


def _walk(root: Path, keys: Path) -> Iterator[_Seen]:
    for label, depth in _DEPTHS.items():
        inner = label.removeprefix("keys/")
        yield from _below(label, str((root if inner == label else keys) / inner), depth)
    if keys.is_dir():
        yield "keys", str(keys), _FOLDER


def _below(label: str, folder: str, depth: int) -> Iterator[_Seen]:
    """The folder and what lies in it; one that cannot be listed has no status, and is told from one that is not."""
    try:
        with os.scandir(folder) as listing:
            entries = [each for each in listing if not each.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        yield label, folder, None
        return
    yield label, folder, _FOLDER
    for entry in entries:
        inner = f"{label}/{entry.name}"
        if entry.is_dir():
            if depth > 1:
                yield from _below(inner, entry.path, depth - 1)
            else:
                yield inner, entry.path, _FOLDER
        elif _read(inner):
            try:
                yield inner, entry.path, entry.stat()
            except OSError:
                yield inner, entry.path, None


def _read(label: str) -> bool:
    """Whether the file is one that the catalogue may be made of."""
    kind, _, name = label.rpartition("/")
    if kind.startswith("adapters"):
        return name in ("agency.yaml", "adapter.py") and kind != "adapters"
    if kind == "policies":
        return name.endswith((".yaml", ".yml"))
    return kind != "schemas" or name.endswith(".json")
