"""Where the bytes of attachments lie: a folder, or a bucket of any S3, behind one small interface (obstore).

A file is a row of parts with a name of its own, each part an object that is there whole or not at all. S3's multipart
uploads would be one object less: but what a killed process leaves of them no listing shows, and nobody could remove it.
"""

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from gateway.core.refusal import Refusal

if TYPE_CHECKING:  # at run time the library has no such names
    from obstore.store import ClientConfig, RetryConfig

PART_BYTES = 4 * 2**20
"""Bytes of each part but the last one. Never changed: how a stored file is read depends on it."""
SECONDS = 30.0
"""Seconds that the store has for one part."""
AT_ONCE = 100
"""Parts that are removed by one call."""
SHELVES = 256
"""Parts of the store, by which what lies there is looked through."""
OWNER = "instance"
"""The object that says whose place it is."""

_NAME = re.compile(r"[0-9a-f]{2}/([0-9a-f]{12})([0-9a-f]{20})")
_RETRY: "RetryConfig" = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}


def name_of(attachment: str) -> str:
    """Where a file lies: its id (RFC 9562, section 5.7: its time, then random bits), on the shelf of its last bits."""
    digits = attachment.replace("-", "")
    return f"{digits[-2:]}/{digits}"


def id_of(name: str) -> str:
    """The attachment that a name was made for."""
    digits = name[3:]
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


@dataclass(frozen=True, slots=True)
class Place:
    """What GATEWAY_ATTACHMENTS names, with the secrets that it needs."""

    folder: Path | None
    bucket: str = ""
    prefix: str = ""
    options: Mapping[str, str] | None = None
    """Region, endpoint and credentials, as obstore calls them."""


def place_of(text: str, key: Mapping[str, str] | None = None) -> Place:
    """A folder, or ``s3://bucket/prefix?region=…&endpoint=https://…``. Raises ValueError."""
    if not text.startswith("s3://"):
        return Place(Path(text))
    parts = urlsplit(text)
    query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    if not parts.hostname or parts.username or parts.fragment or query.keys() - {"region", "endpoint"}:
        raise ValueError("must be a folder or s3://bucket/prefix?region=…&endpoint=https://…, without credentials")
    endpoint = urlsplit(query.get("endpoint", "https://"))
    here = endpoint.hostname in ("127.0.0.1", "::1", "localhost")
    if endpoint.scheme != "https" and not (endpoint.scheme == "http" and here):
        raise ValueError("the endpoint must begin with https://")
    options = {**query, "region": query.get("region", "us-east-1"), **(key or {})}
    return Place(None, parts.hostname, parts.path.strip("/"), options)


def unavailable() -> Refusal:
    """What callers are told while the store does not do what it should."""
    return Refusal("attachment.unavailable", "The store of files does not answer as it should.", retry_after=10)


class Vault:
    """The store; every failure of it is Refusal attachment.unavailable."""

    def __init__(self, place: Place) -> None:
        """Nothing is opened or made before it is needed."""
        self._place = place
        self._folder = place.folder.absolute() if place.folder else None
        self._opened: ObjectStore | None = None

    @property
    def _store(self) -> ObjectStore:
        if self._opened is None:
            self._opened = _opened(self._place)
        return self._opened

    async def put(self, name: str, part: int, content: bytes) -> None:
        """Store one part of a file."""
        path = f"{name}/{part:04}"
        async with _wrapped():
            await obstore.put_async(self._store, path, content, use_multipart=False)
            if self._folder is not None:
                await asyncio.to_thread(_sync, self._folder / path)

    async def settle(self, name: str) -> None:
        """Make what was put durable as a whole."""
        if self._folder is not None:
            async with _wrapped():
                for folder in (self._folder / name, (self._folder / name).parent, self._folder):
                    await asyncio.to_thread(_sync, folder)

    async def get(self, name: str, start: int, end: int) -> memoryview:
        """Bytes of a file, which lie within one part."""
        part, offset = divmod(start, PART_BYTES)
        async with _wrapped():
            got = await obstore.get_range_async(
                self._store, f"{name}/{part:04}", start=offset, end=offset + end - start
            )
        if len(got) != end - start:
            raise unavailable()
        return memoryview(got)

    async def remove(self, name: str) -> None:
        """Remove all of a file that is there, also of one that was never whole."""
        async with _wrapped():
            if self._folder is not None:  # what a killed process was writing is in no listing
                await asyncio.to_thread(_remove_folder, self._folder / name)
                return
            async for parts in obstore.list(self._store, name, chunk_size=AT_ONCE):
                await obstore.delete_async(self._store, [str(each["path"]) for each in parts])

    async def older(self, shelf: int, at: float) -> Sequence[str]:
        """The files on one of SHELVES that were begun before ``at``, whole or not."""
        async with _wrapped():
            if self._folder is not None:
                names = await asyncio.to_thread(_names, self._folder, f"{shelf:02x}")
            else:
                listed = await obstore.list_with_delimiter_async(self._store, f"{shelf:02x}")
                names = [str(each) for each in listed["common_prefixes"]]
        found = ((name, _NAME.fullmatch(name)) for name in names)
        return [name for name, match in found if match and int(match[1], 16) < at * 1000]

    async def claim(self, instance: str) -> bool:
        """Whether what lies here is the instance's; it is, where nobody has said so before.

        Two instances in one place would each remove what only the other one knows. Raises Refusal.
        """
        async with _wrapped():
            said = await self._owner()
            if said is None:
                await obstore.put_async(self._store, OWNER, instance.encode(), use_multipart=False)
        return said in (None, instance)

    async def bears(self, instance: str) -> bool:
        """Whether somebody has said so: not where a volume is gone and its empty folder is there. Raises Refusal."""
        async with _wrapped():
            return await self._owner() == instance

    async def _owner(self) -> str | None:
        with contextlib.suppress(FileNotFoundError):
            got = await obstore.get_async(self._store, OWNER)
            return bytes(await got.bytes_async()).decode(errors="replace")
        return None


@contextlib.asynccontextmanager
async def _wrapped() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(SECONDS):
            yield
    except (BaseError, OSError, ValueError) as error:  # TimeoutError is an OSError
        raise unavailable() from error


def _opened(place: Place) -> ObjectStore:
    if place.folder is not None:
        place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return LocalStore(place.folder.absolute())
    options: dict[str, Any] = dict(place.options or {})
    http = str(options.get("endpoint", "")).startswith("http:")
    client: ClientConfig = {"timeout": f"{SECONDS:.0f}s", "connect_timeout": "5s", "allow_http": http}
    return S3Store(place.bucket, prefix=place.prefix or None, client_options=client, retry_config=_RETRY, **options)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_folder(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return


def _names(folder: Path, shelf: str) -> list[str]:
    try:
        return [f"{shelf}/{each.name}" for each in (folder / shelf).iterdir()]
    except FileNotFoundError:
        return []
