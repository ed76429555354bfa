"""The files that come with documents: fetched before the hand-over, resumed, checked, and removed after a time.

Each lies at ``<data>/attachments/<document>/<attachment>``. What has an outcome grows old by the hours in which the
agent runs, counted in a file beside it, so that a clock that jumps removes nothing.
"""

import asyncio
import contextlib
import hashlib
import re
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import structlog

from gateway.agent.ports import Unreachable, Unwritten
from gateway.agent.upstream import Gone
from gateway.client import NotStored
from gateway.core.delivery import Reason
from gateway.core.receipt import digest_field
from gateway.protocols.handover import NotTaken

SWEEP_SECONDS = 3600.0
"""Between two looks at what may go: an hour, by which files grow old."""
SPARE_BYTES = 256 * 1024**2
"""Of the disk: what no file may take, so that the agent's own database can be written."""
MAX_FILE = 2 * 1024**3
"""Bytes; the gateway takes no larger one."""
MAX_FOLDERS = 1_000_000
"""Documents whose files are looked at in one sweep."""

MAX_KNOWN = 10_000
"""Files of which it is remembered that they were looked through."""

_AGE = ".age"
_NAME = re.compile(r"[0-9A-Za-z_-]{1,64}")

_Entries = Sequence[Mapping[str, Any]]
_Named = Mapping[str, Mapping[str, Any]]
"""Entries as the gateway has them, by digest."""

log = structlog.get_logger()


class Source(Protocol):
    """Where files come from."""

    async def download(self, attachment: str, to: Path, digest: str, most: int) -> None:
        """One file of at most so many bytes, whole and checked.

        Raises upstream.Gone, ports.Unreachable, client.NotStored.
        """

    async def files(self, document: str) -> Mapping[str, Mapping[str, Any]] | None:
        """A document's files, by digest; None: of an event it names none. Raises upstream.Gone, ports.Unreachable."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may lie there, and how long."""

    hours: int
    """After the outcome."""
    max_bytes: int


class _Checked:
    """Files that this process has looked through."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}
        """Their digests."""

    async def hold(self, path: Path, digest: str) -> None:
        """A file that was there already. Raises NotStored where it is another one."""
        if self._known.get(path) != digest and await asyncio.to_thread(_digest, path) != digest:
            raise NotStored("another file lies there than the document names")
        self.know(path, digest)

    def know(self, path: Path, digest: str) -> None:
        """It was looked through."""
        self._known[path] = digest
        while len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]


class Spool:
    """The files of one agent."""

    def __init__(
        self, folder: Path, source: Source, bounds: Bounds, finished: Callable[[str], Awaitable[bool]]
    ) -> None:
        """``finished`` says whether the document's outcome is written, or the document is known no more."""
        self._folder = folder
        self._source = source
        self._bounds = bounds
        self._finished = finished
        self._checked = _Checked()
        self._under_way: set[str] = set()
        self._held: dict[str, int] = {}
        """Bytes of each document's files, as counted last; of one under way those that are still to come, too."""
        self._since: set[str] = set()
        """Documents that were under way at some time since the last count began."""
        self._counting = asyncio.Lock()
        self._asking = asyncio.Lock()
        """For room: what one is promised the next one must see."""

    async def fetched(self, document: str, attachments: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """See ``ports.Files``."""
        if not attachments:
            return ()
        known = str(UUID(document))
        if known in self._under_way:
            raise _later("its files are being fetched already")
        self._under_way.add(known)
        self._since.add(known)
        try:
            named: _Named = {}
            if not (there := await self._lie_there(known, attachments)):
                attachments, named = await _measured(known, attachments, self._source, self._bounds.max_bytes)
            async with self._asking:
                await self._room(known, 0 if there else sum(map(_size, attachments)))
            return [await self._one(known, each, named) for each in attachments]
        except OSError as error:
            raise _later(f"{self._folder} cannot be written: {error.strerror}") from error
        finally:
            self._under_way.discard(known)

    async def forgotten(self, document: str) -> None:
        """See ``ports.Files``: from now on they grow old."""
        try:
            await asyncio.to_thread(_aged, self._folder / str(UUID(document)), 0)
        except (OSError, ValueError):  # the next sweep finds it by itself
            return

    async def _lie_there(self, document: str, attachments: _Entries) -> bool:
        """Whether nothing is to be fetched: then neither room nor the gateway is needed."""
        for each in attachments:
            path = self._folder / document / (name := str(each.get("attachment")))
            if not _NAME.fullmatch(name) or not await asyncio.to_thread(path.is_file):
                return False
            try:
                await self._checked.hold(path, str(each.get("digest")))
            except NotStored:
                return False
        return True

    async def _one(self, document: str, entry: Mapping[str, Any], named: _Named) -> Mapping[str, Any]:
        """The gateway signed the digest and not the id: where the two do not go together, the id that it names counts.

        Raises NotTaken.
        """
        name, digest = str(entry.get("attachment")), str(entry.get("digest"))
        true = str(named.get(digest, entry).get("attachment"))
        try:
            path = await self._there(document, name, digest, _size(entry))
        except (Gone, NotStored) as error:
            if true == name:
                raise _lost(name, error) from error
            return await self._one(document, {**entry, "attachment": true}, named)
        return {**entry, "attachment": name, "path": str(path)}

    async def _there(self, document: str, name: str, digest: str, size: int) -> Path:
        """Where the file lies. Raises Gone, NotStored, and NotTaken for what may pass."""
        if not _NAME.fullmatch(name):
            raise Gone("it is no id of a file")
        path = self._folder / document / name
        if await asyncio.to_thread(path.is_file):
            await self._checked.hold(path, digest)
            return path
        free = (await asyncio.to_thread(shutil.disk_usage, path.parent)).free
        most = min(MAX_FILE, free - SPARE_BYTES, self._bounds.max_bytes - sum(self._held.values()) + size)
        try:
            await self._source.download(name, path, digest, most)
        except Unreachable as error:
            raise _later(f"a file cannot be fetched: {error}") from error
        self._held[document] += max(0, await asyncio.to_thread(_bytes, path) - size)  # nobody signed the size
        self._checked.know(path, digest)
        return path

    async def _room(self, document: str, size: int) -> None:
        """Have room for all of its files before the first: two that wait for each other's would wait for ever.

        Raises NotTaken where the disk, or what may lie there, is full.
        """
        place = self._folder / document
        for each in (self._folder, place):  # of what is made on the way to it, mkdir gives the mode to the last alone
            await asyncio.to_thread(each.mkdir, 0o700, parents=True, exist_ok=True)
        lies = self._held[document] = await asyncio.to_thread(_weight, place)
        if lies >= size:  # however full it is: its outcome alone lets these files go
            return
        most = self._bounds.max_bytes
        others = [self._folder / each for each in self._under_way if each != document]
        there = sum([await asyncio.to_thread(_weight, each) for each in others])
        free = (await asyncio.to_thread(shutil.disk_usage, place)).free
        owed = sum(self._held.get(each.name, 0) for each in others) - there
        if free - owed - (size - lies) < SPARE_BYTES:
            raise _later("the disk has no room for its files")
        if self._beside(document) + size > most:
            await self._counted()
        if self._beside(document) + size > most:
            raise _later("as many bytes of files lie here as agent.yaml allows")
        self._held[document] = size

    def _beside(self, document: str) -> int:
        return sum(self._held.values()) - self._held.get(document, 0)

    async def go_on(self) -> None:
        """Once an hour, for ever."""
        await self._counted()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self.sweep()

    async def sweep(self) -> None:
        """An hour has passed: what is old goes, and what is left is counted."""
        wrong: Exception | None = None
        try:
            for place in await asyncio.to_thread(_folders, self._folder):
                try:
                    if place.name not in self._under_way:
                        await self._looked_at(place)
                except OSError as error:  # with one: the others grow old all the same
                    wrong = error
        except (OSError, Unwritten) as error:
            wrong = error
        if wrong is not None:
            log.warning("attachments_not_swept", why=type(wrong).__name__)
        await self._counted()

    async def _counted(self) -> None:
        async with self._counting:
            self._since = set(self._under_way)
            with contextlib.suppress(OSError):  # it is counted again before anything is refused for it
                counted = await asyncio.to_thread(_weights, self._folder)
                self._held = counted | {each: self._held.get(each, 0) for each in self._since}

    async def _looked_at(self, place: Path) -> None:
        age = await asyncio.to_thread(_age, place)
        if age is None:
            age = 0 if await self._finished(place.name) else None
        if age is None:
            return
        if age >= self._bounds.hours:
            await asyncio.to_thread(shutil.rmtree, place)
        else:
            await asyncio.to_thread(_aged, place, age + 1)


async def _measured(document: str, attachments: _Entries, source: Source, most: int) -> tuple[_Entries, _Named]:
    """With the sizes that the gateway names, as nobody signed the envelope's; and what else it names.

    Raises NotTaken: what can never lie here wears out its tries, as poison does (A9); a size that was forged rejects
    nothing (A8). Of an event, whose files the gateway names to its publisher alone, the envelope's sizes count.
    """
    try:
        named = await source.files(document)
    except Gone:
        named = {}
    except Unreachable as error:
        raise _later(f"a file cannot be fetched: {error}") from error
    found = named or {}
    entries = [{**each, "size": found.get(str(each.get("digest")), each).get("size")} for each in attachments]
    size = sum(map(_size, entries))
    if size <= most:
        return entries, found
    if named is None:
        raise _later(f"its files are said to have {size} bytes together, and the gateway names none of an event")
    for each in attachments:
        if str(each.get("digest")) not in named:
            raise _lost(str(each.get("attachment")), Gone("its document names it no more"))
    detail = f"its files have {size} bytes together, and agent.yaml allows {most} for all that lie here"
    raise NotTaken(detail, sent=False, whole=False)


def _later(detail: str) -> NotTaken:
    return NotTaken(detail, sent=False, whole=True)


def _lost(name: str, error: Gone | NotStored) -> NotTaken:
    """What the gateway itself says is gone is refused; what cannot be kept, or is another one, waits for people."""
    if isinstance(error, Gone):
        said = f"the file {name} is not at the gateway any more"
        return NotTaken(said, sent=False, whole=False, reason=Reason.INCOMPLETE)
    return _later(f"a file cannot be kept: {error}")


def _size(entry: Mapping[str, Any]) -> int:
    said = entry.get("size")
    return min(said, MAX_FILE) if isinstance(said, int) and said > 0 else 0


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return digest_field(hashlib.file_digest(file, "sha256").digest())


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it has another name since it was listed, or went
        return 0


def _folders(folder: Path) -> list[Path]:
    """Of documents; whatever else somebody keeps there, a ``lost+found`` say, is not ours to remove."""
    if not folder.is_dir():
        return []
    return [each for each, _ in zip(sorted(filter(_is_documents, folder.iterdir())), range(MAX_FOLDERS), strict=False)]


def _is_documents(place: Path) -> bool:
    try:
        return str(UUID(place.name)) == place.name and place.is_dir() and not place.is_symlink()
    except ValueError:
        return False


def _weights(folder: Path) -> dict[str, int]:
    return {each.name: _weight(each) for each in _folders(folder)}


def _weight(folder: Path) -> int:
    return sum(_bytes(each) for each in folder.rglob("*") if each.is_file())


def _age(place: Path) -> int | None:
    """Hours since its outcome; None: nobody has said that there is one."""
    try:
        return int((place / _AGE).read_text("ascii"))
    except (FileNotFoundError, ValueError):
        return None


def _aged(place: Path, hours: int) -> None:
    if place.is_dir():
        (place / _AGE).write_text(str(hours), "ascii")
