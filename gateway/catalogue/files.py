"""Every declared file as one immutable value, so that a catalogue is made, and its code run, from these bytes alone.

Of a secret only the digest is held: whoever connects an endpoint reads the secret again and holds it against that.

A label is a file's name wherever the folders lie: ``adapters/interior/agency.yaml``, ``keys/agencies/x.jwks.json``. A
unit is what is taken over or kept as one: an agency's folder with its keys and secrets, a service's folder, an
agreement with its decision tests, ``schemas/common``, ``kafka.yaml`` with its secrets. Names that begin with a dot are
nobody's: editors' and volumes'.
"""

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

MAX_FILE_BYTES = 1024 * 1024
"""More than any manifest, schema, example or key file needs."""
MAX_FILES = 200_000
"""Names that are looked at, of files and folders, whether they are read or not."""
MAX_TREE_BYTES = 512 * 1024 * 1024
"""Of all files together."""

FOLDERS = ("schemas", "adapters", "policies")
_DEPTHS: Mapping[str, int] = {"schemas": 8, "adapters": 2, "policies": 1, "keys/agencies": 1, "keys/secrets": 1}
"""How many levels of each are looked at."""
_SECRETS = "keys/secrets/"
_CLUSTER, _CLUSTER_SECRETS = "kafka.yaml", "gateway."
"""The one file beside the folders, and how the names of its secrets begin."""


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

    def secret(self, name: str) -> bytes:
        """What a secret's file holds now. Raises ValueError where that is not what was there when these were read."""
        label = f"{_SECRETS}{name}"
        path = self.path(label)
        held, now = self.contents.get(label), _content(path)
        if isinstance(now, Unread) or held is None or isinstance(held, Unread):
            raise ValueError(f"{name!r} cannot be read from {path}")
        if not compare_digest(sha256(now).digest(), held):
            raise ValueError(f"{name!r} in {path} is another one than when its folder was read")
        return now

    def seals(self) -> Mapping[str, bytes]:
        """By agency, a digest of what its endpoints are connected with beside their options: its code and secrets."""
        made: dict[str, bytes] = {}
        for label, held in sorted(self.contents.items(), key=lambda each: each[0]):
            if (label.endswith("/adapter.py") or label.startswith(_SECRETS)) and isinstance(held, bytes):
                agency = unit_of(label).removeprefix("adapters/")
                made[agency] = sha256(made.get(agency, b"") + label.encode() + b"\0" + sha256(held).digest()).digest()
        return made


NOTHING = Files(Path(), Path(), {}, frozenset())
"""Where nothing was declared in files."""


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
        case [("kafka.yaml" as name)]:
            unit = name
        case ["keys", "secrets", name] if name.startswith(_CLUSTER_SECRETS):
            unit = _CLUSTER
        case ["keys", "agencies" | "secrets", name]:
            unit = f"adapters/{name.partition('.')[0]}"
        case ["policies", name]:
            unit = f"policies/{name.partition('.')[0]}"
    return unit


_LOOP = Unread("is a link to a folder that it lies in", "Remove the link.", folder=True)
_UNLISTED = Unread("the folder cannot be listed", "Let the gateway read it, or remove it.", folder=True)
_TOO_MUCH = Unread(
    f"more than {MAX_FILES} names or {MAX_TREE_BYTES} bytes lie in catalogue and keys",
    "Take out what is no part of the catalogue, or serve its agencies from several gateways.",
    folder=True,
)

Look = Mapping[str, tuple[int, int, int]]
"""By label: inode, size, and the time of the last change of any kind, which nobody can set."""


def look(root: Path, keys: Path) -> Look:
    """Names, sizes and times of everything that ``read`` would read, within the same bounds."""
    seen: dict[str, tuple[int, int, int]] = {}
    for label, _, found in _walk(root, keys):
        status = found if isinstance(found, os.stat_result) else _FOLDER
        seen[label] = (status.st_ino, status.st_size, status.st_ctime_ns)
    return seen


def read(root: Path, keys: Path) -> Files:
    """Everything, within bounds. Raises nothing: what cannot be read says why."""
    contents: dict[str, bytes | Unread] = {}
    folders: set[str] = set()
    total = 0
    for label, path, found in _walk(root, keys):
        if total > MAX_TREE_BYTES:
            contents["."] = _TOO_MUCH
            break
        if found is _FOLDER:
            folders.add(label)
            continue
        held = found if isinstance(found, Unread) else _content(path)
        total += len(held) if isinstance(held, bytes) else 0
        contents[label] = sha256(held).digest() if label.startswith(_SECRETS) and isinstance(held, bytes) else held
    return Files(root.resolve(), keys.resolve(), contents, frozenset(folders))


def alone(path: Path) -> Files:
    """One file, apart from any catalogue."""
    whole = path.absolute()
    return Files(whole.parent, whole.parent / "keys", {whole.name: _content(whole)}, frozenset())


def _content(path: Path | str) -> bytes | Unread:
    """Of regular files only, told when it is open: a pipe would never end, and may take a file's place meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return Unread("is no regular file", "Remove it.")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                raw = file.read(MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        return Unread(f"cannot be read: {error.strerror}", "Let the gateway read it, or remove it.")
    if len(raw) > MAX_FILE_BYTES:
        return Unread(f"is larger than {MAX_FILE_BYTES} bytes", "Make it smaller or split it.")
    return raw


_FOLDER = os.stat_result((stat.S_IFDIR, *(0,) * 9))
_Seen = tuple[str, str, os.stat_result | Unread | None]
"""Label, path and status; of a folder always the same. None where a file's cannot be had."""


class _FullError(Exception):
    """There is more than is looked at."""


def _walk(root: Path, keys: Path) -> Iterator[_Seen]:
    walk = _Walk()
    try:
        for label, depth in _DEPTHS.items():
            inner = label.removeprefix("keys/")
            yield from walk.below(label, str((root if inner == label else keys) / inner), depth)
    except _FullError:
        yield ".", str(root), _TOO_MUCH
    yield from _alone(_CLUSTER, str(root / _CLUSTER))
    if keys.is_dir():
        yield "keys", str(keys), _FOLDER


def _alone(label: str, path: str) -> Iterator[_Seen]:
    """A file that lies in none of the folders, where there is one."""
    try:
        yield label, path, Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        yield label, path, None


@dataclass(slots=True)
class _Walk:
    """Through folders and links to folders, wherever they lie, but never in a circle."""

    left: int = MAX_FILES
    inside: list[str] = field(default_factory=list)
    """Where the links that were followed lie, without links in the way."""

    def below(self, label: str, folder: str, depth: int) -> Iterator[_Seen]:
        """The folder and what lies in it; one that cannot be listed is told from one that is not. Raises _FullError."""
        try:
            with os.scandir(folder) as listing:
                entries = [each for each in map(self._counted, listing) if not each.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError:
            yield label, folder, _UNLISTED
            return
        yield label, folder, _FOLDER
        for entry in entries:
            inner = f"{label}/{entry.name}"
            if _is_folder(entry):
                yield from self._folder(inner, folder, entry, depth)
            elif _read(inner):
                try:
                    yield inner, entry.path, entry.stat()
                except OSError:
                    yield inner, entry.path, None

    def _counted(self, entry: "os.DirEntry[str]") -> "os.DirEntry[str]":
        self.left -= 1
        if self.left < 0:
            raise _FullError
        return entry

    def _folder(self, label: str, around: str, entry: "os.DirEntry[str]", depth: int) -> Iterator[_Seen]:
        if depth <= 1:
            yield label, entry.path, _FOLDER
        elif not entry.is_symlink():
            yield from self.below(label, entry.path, depth - 1)
        else:
            target = os.path.realpath(entry.path)
            self.inside.append(os.path.realpath(around))
            if any(f"{each}/".startswith(f"{target.rstrip('/')}/") for each in self.inside):
                yield label, entry.path, _LOOP
            else:
                yield from self.below(label, entry.path, depth - 1)
            self.inside.pop()


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or one that leads where nobody may look
        return False


def _read(label: str) -> bool:
    """Whether the file is one that the catalogue may be made of."""
    kind, _, name = label.rpartition("/")
    if kind.startswith("adapters"):
        return name in ("agency.yaml", "agent.yaml", "adapter.py") and kind != "adapters"
    if kind == "policies":
        return name.endswith((".yaml", ".yml"))
    return kind != "schemas" or name.endswith(".json")
