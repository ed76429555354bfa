"""Taking in a file: from the request straight into the vault, hashed and looked at on the way, in constant memory."""

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from aiohttp import web

from gateway.core import attachment, sniffing
from gateway.core.attachment import HEAD_BYTES, File
from gateway.core.model import AgencyId
from gateway.core.refusal import Refusal
from gateway.edge import body
from gateway.edge.documents.vault import PART_BYTES, Vault, name_of

MAX_UPLOADS = 16
"""Files that a process takes in at once: each holds three parts in memory at most."""
MAX_DOWNLOADS = 64
"""Files that it gives out at once."""
SHARES = 4
"""One agency has at most this part of them."""
PROGRESS_BYTES = 262_144
"""What must arrive, or be taken, in PROGRESS_SECONDS."""
PROGRESS_SECONDS = 30.0
LONGEST_SECONDS = 43_200.0
"""Seconds that one file may take at most; what lies in the vault for longer, and is known to nobody, is left over."""


class Places:
    """How many files are under way, and whose."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._share = max(1, most // SHARES)
        self.taken: Counter[AgencyId] = Counter()

    def take(self, agency: AgencyId) -> None:
        """Refuse where there is none left."""
        if self.taken.total() >= self._most:
            raise Refusal("gateway.overloaded", "Too many files are under way.", retry_after=10)
        if self.taken[agency] >= self._share:
            raise Refusal("gateway.overloaded", "Too many files of your agency are under way.", retry_after=10)
        self.taken[agency] += 1

    def give_back(self, agency: AgencyId) -> None:
        """One file less."""
        self.taken[agency] -= 1
        if not self.taken[agency]:
            del self.taken[agency]

    @contextmanager
    def one(self, agency: AgencyId) -> Iterator[None]:
        """A place, for as long as the context lasts."""
        self.take(agency)
        try:
            yield
        finally:
            self.give_back(agency)


class _Incoming:
    """A body that has to keep coming; time that the vault takes does not count."""

    def __init__(self, request: web.Request) -> None:
        self._content = request.content
        self._now = asyncio.get_running_loop().time
        self._end = self._now() + LONGEST_SECONDS
        self._until = self._now() + PROGRESS_SECONDS
        self._got = 0

    async def chunk(self) -> bytes:
        """The next bytes; none at the end. Raises Refusal request.malformed."""
        try:
            async with asyncio.timeout_at(min(self._until, self._end)):
                got = await self._content.readany()
        except TimeoutError as error:
            raise Refusal(
                "request.malformed",
                f"The file came too slowly: {PROGRESS_BYTES} bytes must arrive in each {PROGRESS_SECONDS:g} seconds, "
                f"and all of it within {LONGEST_SECONDS / 3600:g} hours.",
            ) from error
        except body.BROKEN as error:
            raise Refusal("request.malformed", "The file broke off or was framed wrongly.") from error
        self._got += len(got)
        if self._got >= PROGRESS_BYTES:
            self._got, self._until = 0, self._now() + PROGRESS_SECONDS
        return got

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """While the sender is not waited for."""
        left = self._until - self._now()
        try:
            yield
        finally:
            self._until = self._now() + left


class _Looked:
    """What is found out about a file while it passes."""

    def __init__(self, media_type: str, said: Mapping[str, bytes]) -> None:
        self.size = 0
        self._media_type = media_type
        self._said = said
        self._hashes = {"sha-256": hashlib.sha256(), **({"sha-512": hashlib.sha512()} if "sha-512" in said else {})}
        self._head = b""
        self._held = False
        self._text = sniffing.is_text(media_type)
        self._carried = b""

    def at(self, chunk: bytes) -> None:
        """Look at the next bytes. Raises Refusal as soon as they cannot be right."""
        self.size += len(chunk)
        attachment.hold_length(self.size)
        for each in self._hashes.values():
            each.update(chunk)
        if not self._held:
            self._head += chunk[: HEAD_BYTES - len(self._head)]
            if len(self._head) == HEAD_BYTES:
                self._hold_head()
        if self._text:
            self._carried = sniffing.text_on(self._carried, chunk)

    def _hold_head(self) -> None:
        self._held = True
        sniffing.hold_head(self._media_type, self._head)

    def end(self) -> bytes:
        """Its SHA-256, where everything is as it was announced. Raises Refusal."""
        attachment.hold_length(self.size)
        found = {name: each.digest() for name, each in self._hashes.items()}
        attachment.hold_digests(self._said, found)
        if not self._held:
            self._hold_head()
        if self._text:
            sniffing.text_on(self._carried, b"", last=True)
        return found["sha-256"]


class _Parts:
    """Bytes on their way into the vault: one part is being stored while the next one is collected."""

    def __init__(self, vault: Vault, name: str) -> None:
        self._vault = vault
        self._name = name
        self._next = 0
        self._storing: asyncio.Task[None] | None = None
        self._chunks: list[bytes | memoryview] = []
        self._size = 0

    def add(self, chunk: bytes) -> bool:
        """Collect; True: there is a part, to be stored before more comes."""
        self._chunks.append(chunk)
        self._size += len(chunk)
        return self._size >= PART_BYTES

    async def store(self, *, last: bool = False) -> None:
        """Store what was collected, as far as it makes whole parts, or all of it."""
        whole = memoryview(b"".join(self._chunks))
        self._chunks = []
        while len(whole) >= PART_BYTES or (last and whole):
            await self.stored()
            part, whole = bytes(whole[:PART_BYTES]), whole[PART_BYTES:]
            self._storing = asyncio.create_task(self._vault.put(self._name, self._next, part))
            self._next += 1
        self._chunks = [bytes(whole)] if whole else []
        self._size = len(whole)
        if last:
            await self.stored()

    async def stored(self) -> None:
        """Wait for the part that is under way. Raises Refusal attachment.unavailable."""
        if self._storing is not None:
            await asyncio.shield(self._storing)
            self._storing = None

    async def drop(self) -> None:
        """Leave nothing behind. Raises Refusal attachment.unavailable."""
        if self._storing is not None:  # never cancelled: what it writes would come after the removal
            await asyncio.wait([self._storing])
            self._storing.exception()
        await self._vault.remove(self._name)


async def take_in(request: web.Request, vault: Vault, new: str) -> File:
    """Store the body as the file ``new``, durably; where that fails, nothing of it stays. Raises Refusal."""
    attachment.hold_length(request.content_length)
    media_type = attachment.media_type(request.headers.get("Content-Type"), request.headers.get("Content-Encoding"))
    looked = _Looked(media_type, attachment.announced(request.headers.get("Content-Digest")))
    parts = _Parts(vault, name_of(new))
    incoming = _Incoming(request)
    try:
        await body.invite(request)
        while chunk := await incoming.chunk():
            looked.at(chunk)
            if parts.add(chunk):
                with incoming.elsewhere():
                    await parts.store()
        file = File(new, looked.end(), looked.size, media_type)
        await parts.store(last=True)
        await vault.settle(name_of(new))
    except BaseException:  # also where the process stops
        with contextlib.suppress(Refusal):  # what cannot be removed now, a later round finds
            await parts.drop()
        raise
    return file
