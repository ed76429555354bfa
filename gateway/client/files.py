"""Attachments: files sent to the gateway and fetched from it, hashed on the way, never held in memory."""

import asyncio
import base64
import contextlib
import hashlib
import mimetypes
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import aiohttp

from gateway.client import refusals
from gateway.client.line import Line, named, sendable
from gateway.client.refusals import stranger
from gateway.client.wire import GatewayError, Request, Unreachable

BLOCK_BYTES = 2**20
"""What is read from a file, or from the gateway, at once."""
SILENT_SECONDS = 60.0
"""Seconds without a byte after which a download is broken off, to go on later."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that the gateway has."""

    id: str
    digest: str
    """As Content-Digest says it: ``sha-256=:…:``."""
    size: int
    media_type: str


class NotStored(GatewayError):
    """A file was not written: the disk, or what came is not what was sent."""


class Files:
    """What a system does with attachments."""

    _line: Line

    async def upload(
        self,
        file: str | Path,
        *,
        media_type: str | None = None,
        timeout: float = 3600.0,  # noqa: ASYNC109 - as in exchange
    ) -> Attachment:
        """Send a file. ``media_type`` is guessed from the name where it is not given. Raises ValueError, Refused."""
        path = Path(file)
        kind = media_type or mimetypes.guess_type(path.name)[0]
        if kind is None:
            raise ValueError(f"What {path.name} is cannot be told from its name: give its media_type.")
        try:
            size, digest = await asyncio.to_thread(_measured, path)
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
        headers = {
            "Content-Type": sendable("Content-Type", kind),
            "Content-Length": str(size),
            "Content-Digest": _field(digest),
        }
        reply = await self._line.call(
            Request("POST", "/v1/attachments", headers, lambda: _blocks(path, size)), None, timeout
        )
        told = refusals.told(reply, self._line.wire.url, attachment=str, digest=str, size=int, media_type=str)
        if told["digest"] != _field(digest):
            raise stranger(reply, self._line.wire.url)
        return Attachment(told["attachment"], told["digest"], told["size"], told["media_type"])

    async def download(
        self,
        attachment: str,
        to: str | Path,
        *,
        digest: str | None = None,
        max_bytes: int | None = None,
        timeout: float = 3600.0,  # noqa: ASYNC109 - as in exchange
    ) -> Path:
        """Fetch a file to the path ``to``, where none may be.

        What broke off goes on where it was, also when you call again: it lies beside, under the same name and
        ``.part``. ``digest`` is the one that the document named, so that no other file is taken for it; one of more
        than ``max_bytes`` is not fetched. Raises NotStored, Refused, Unreachable.
        """
        target = Path(to)
        if await asyncio.to_thread(target.exists):
            raise NotStored(f"{target} is there already: name another path, or remove it.")
        part = target.with_name(target.name + ".part")
        until, attempt = self._line.pace.now() + timeout, 0
        path = f"/v1/attachments/{named('attachment', attachment)}"
        size, told = await self._described(path, timeout)
        if digest is not None and digest != told:
            raise NotStored("The gateway has another file under this id than the document names: ask its operator.")
        if max_bytes is not None and size > max_bytes:
            raise NotStored(f"The file has {size} bytes, and {max_bytes} may be fetched: make room, or allow more.")
        while (had := _size(part)) < size:
            try:
                await self._go_on(path, part, size, until - self._line.pace.now())
            except GatewayError as error:
                attempt = 1 if _size(part) > had else attempt + 1
                pause = self._line.pace.pause(attempt, error, until - self._line.pace.now())
                if pause is None:
                    raise
                await self._line.pace.sleep(pause)
        await asyncio.to_thread(_hold, part, told)
        part.rename(target)
        return target

    async def _described(self, path: str, seconds: float) -> tuple[int, str]:
        """Size and digest of a file."""
        try:
            head = await self._line.call(Request("HEAD", path), None, seconds)
        except Unreachable as error:
            if error.status is None:
                raise
            # The answer to HEAD has no body, and so no word of why: the same asked with GET has.
            head = await self._line.call(Request("GET", path, {"Range": "bytes=0-0"}), None, seconds)
            raise stranger(head, self._line.wire.url) from error
        size, digest = head.headers.get("Content-Length", ""), head.headers.get("Repr-Digest")
        if digest is None or not size.isdecimal():
            raise stranger(head, self._line.wire.url)
        return int(size), digest

    async def _go_on(self, path: str, part: Path, size: int, left: float) -> None:
        """Fetch what is missing at the end of the part; more than was announced is no file of the gateway's."""
        if left <= 0:
            raise Unreachable("The time for this download was over; call again, and it goes on.")
        have = _size(part)
        request = Request("GET", path, {"Range": f"bytes={have}-"} if have else {})
        bounds = aiohttp.ClientTimeout(total=left, sock_connect=5.0, sock_read=SILENT_SECONDS)
        async with self._line.stream(request, bounds) as response:
            if have and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                have = 0  # the whole file comes
            with _written(part):
                file = part.open("ab" if have else "wb")
            with file:
                async for block in response.content.iter_chunked(BLOCK_BYTES):
                    have += len(block)
                    if have > size:
                        raise NotStored(f"More than the {size} bytes came that were announced: ask its operator.")
                    with _written(part):
                        await asyncio.to_thread(file.write, block)


@contextlib.contextmanager
def _written(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # said here, before it is taken for the network's
        raise NotStored(f"{part} cannot be written: {error.strerror}.") from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _measured(path: Path) -> tuple[int, bytes]:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256")
        return file.tell(), found.digest()


async def _blocks(path: Path, size: int) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while block := await asyncio.to_thread(_some, file, size):
            size -= len(block)
            yield block


def _some(file: IO[bytes], left: int) -> bytes:
    return file.read(min(BLOCK_BYTES, left))


def _field(digest: bytes) -> str:
    return f"sha-256=:{base64.b64encode(digest).decode()}:"


def _hold(part: Path, digest: str) -> None:
    """What came must be what was sent; otherwise nothing of it is used."""
    if _field(_measured(part)[1]) != digest:
        part.unlink()
        raise NotStored("What came is not the file that was sent: download it again.")
