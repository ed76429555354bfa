"""Files that go with documents (DESIGN section 6): ``POST /v1/attachments``, ``GET`` and ``HEAD`` for each of them."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import orjson
import structlog
from aiohttp import web

from gateway.core import attachment
from gateway.core.attachment import File, Range, digest_field
from gateway.core.entry import Draft, Step
from gateway.core.identity import Caller
from gateway.core.model import AgencyId, Catalogue, Kind, Service, agency_of
from gateway.core.refusal import Refusal
from gateway.edge import body
from gateway.edge.documents import files
from gateway.edge.documents.reception import hold_standing
from gateway.edge.documents.uploading import (
    MAX_DOWNLOADS,
    MAX_UPLOADS,
    PROGRESS_BYTES,
    PROGRESS_SECONDS,
    Places,
    take_in,
)
from gateway.edge.documents.vault import Vault, name_of
from gateway.edge.evidence import Trail, new_id
from gateway.edge.front import Call, Front, Released
from gateway.edge.journal import Journal, unavailable
from gateway.edge.store import Driver, Rows, Statement, StoreFailed, StoreRefused
from gateway.edge.telemetry import Meters

UPLOAD = "/v1/attachments"
DOWNLOAD = "/v1/attachments/{attachment}"
BLOCK_BYTES = 2**20
"""What is read from the vault at once; parts are a multiple of it."""
MAX_UNUSED_FILES = 2000
"""Files of one agency that no document refers to."""
MAX_UNUSED_BYTES = 64 * 2**30
"""All of these together."""

_ONCE = ("Content-Digest", "Content-Type", "Content-Encoding", "If-Range", "Range", "Exchange-User-Assertion")
_STATIC = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "private, no-store",
    "Content-Disposition": "attachment",  # whatever it is, a browser does not run it under the gateway's name
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Stores:
    """Where files and what is known of them are kept."""

    vault: Vault | None
    """None: this gateway has no place for files."""
    reader: Driver
    post: Journal
    """Takes the rows in."""
    journal: Journal
    """Takes the entries of downloads."""


class Attachments:
    """Uploads and downloads; without a vault none of them works."""

    def __init__(self, front: Front, stores: Stores, meters: Meters) -> None:
        self._front = front
        self._meters = meters
        self._vault = stores.vault
        self._reader = stores.reader
        self._post = stores.post
        self._journal = stores.journal
        self.uploads = Places(MAX_UPLOADS)
        self.downloads = Places(MAX_DOWNLOADS)

    def routes(self) -> tuple[web.RouteDef, ...]:
        """What the public listener serves of it."""
        up = Call(f"POST {UPLOAD}", self._upload, partial(self._counted, "upload"))
        down = Call(f"GET {DOWNLOAD}", self._download, partial(self._counted, "download"))

        async def upload(request: web.Request) -> web.StreamResponse:
            return await self._front.answer(request, up)

        async def download(request: web.Request) -> web.StreamResponse:
            return await self._front.answer(request, down)

        return (
            web.post(UPLOAD, upload, expect_handler=body.expect_nothing),
            web.get(DOWNLOAD, download, expect_handler=body.expect_nothing),  # and HEAD
        )

    async def accepted(self, service: Service, sender: files.Viewer, ids: Sequence[str]) -> tuple[File, ...]:
        """The files that somebody wants to send with a document of the service, in their order.

        Raises Refusal attachment.unknown, attachment.not_accepted, journal.unavailable.
        """
        if not ids:
            return ()
        found = files.kept(await self._read(files.seen(sender, ids)), sender)
        if found.keys() != set(ids):
            raise attachment.unknown()
        these = tuple(found[each].file for each in ids)
        attachment.hold_accepted(service.id, service.life.attachments if service.life else None, these)
        return these

    async def _upload(self, request: web.Request, trail: Trail) -> Released:
        self._front.hold_place()
        caller = await self._front.caller(request, trail)
        _hold_form(request)
        _hold_right(trail.catalogue, caller)
        vault, agency = self._open(), agency_of(caller.system)
        with self.uploads.one(agency):
            self._hold_room(await self._read(files.unused(agency)))
            with self._front.aside(trail):
                file = await take_in(request, vault, new_id())
            try:
                await self._front.hold_still(request, trail, _hold_right)
            except Refusal:
                with contextlib.suppress(Refusal):  # a later round finds it
                    await vault.remove(name_of(file.id))
                raise
            # What becomes of a batch that fails is not known at once: its file stays for the same round.
            kept, noted = files.Kept(file, name_of(file.id)), partial(_uploaded, trail)
            order = ("attachment", caller.system, file.digest.hex())
            known, trail.stamp = await self._post.run(files.keep(caller.system, kept, noted), locks=order)
            if known != file.id:  # these bytes were here before, under that id
                with contextlib.suppress(Refusal):
                    await vault.remove(kept.name)
        self._meters.attachment_bytes.labels("upload").inc(file.size)
        return Released(201, orjson.dumps(replace(file, id=known).shown), headers={"Location": f"{UPLOAD}/{known}"})

    def _hold_room(self, rows: Rows) -> None:
        unused = files.counted(rows)
        if unused.files >= MAX_UNUSED_FILES or unused.size >= MAX_UNUSED_BYTES:
            raise Refusal(
                "gateway.overloaded",
                "Too many files of your agency wait for a document: send documents with them, or wait until they are "
                "removed a day after their upload.",
                retry_after=600,
            )

    async def _download(self, request: web.Request, trail: Trail) -> Released:
        self._front.hold_place()
        caller = await self._front.caller(request, trail)
        _hold_form(request)
        hold_standing(trail.catalogue, caller)
        await self._front.hold_still(request, trail, hold_standing)
        vault, agency = self._open(), agency_of(caller.system)
        wanted = attachment.known_id(request.match_info["attachment"])
        who = files.viewer(trail.catalogue.agencies[agency], caller.system, trail.person)
        kept = files.kept(await self._read(files.seen(who, (wanted,))), who).get(wanted)
        if kept is None:
            raise attachment.unknown()
        if request.method == "HEAD":
            return Released(200, b"", headers=_described(kept.file, None), stream=_only_described)
        try:
            part = attachment.asked(request.headers.get("Range"), request.headers.get("If-Range"), kept.file)
        except Refusal as refusal:
            headers = {"Content-Range": f"bytes */{kept.file.size}"}  # RFC 9110, section 15.5.17
            return replace(await self._front.refused(trail, refusal), headers=headers)
        giving = _Giving(vault, kept, part)
        self.downloads.take(agency)
        giving.at_end = partial(self._given, agency, giving)
        try:
            await giving.begin()
            noted = trail.draft(Step.DOWNLOADED, status=giving.status, more=_facts(kept.file, part))
            trail.stamp = await self._journal.append(noted)
        except BaseException:
            giving.at_end()
            raise
        return Released(giving.status, b"", headers=_described(kept.file, part), stream=giving.give)

    def _given(self, agency: AgencyId, giving: "_Giving") -> None:
        self._meters.attachment_bytes.labels("download").inc(giving.taken)
        self.downloads.give_back(agency)

    def _counted(self, direction: str, trail: Trail, released: Released) -> None:
        outcome = released.refusal.code if released.refusal else "done"
        self._meters.child(self._meters.attachments, direction, outcome).inc()
        trail.span.end(released.status, exchange=trail.exchange, outcome=outcome, consumer=trail.consumer)
        log.info(
            "attachment",
            **trail.ids,
            consumer=trail.consumer,
            direction=direction,
            status=released.status,
            code=released.refusal.code if released.refusal else None,
            entry=f"{trail.stamp.writer}.{trail.stamp.n}" if trail.stamp else None,
            ms=round((time.monotonic() - trail.begun) * 1000, 2),
        )

    def _open(self) -> Vault:
        if self._vault is None:
            raise Refusal(
                "attachment.unavailable", "This gateway has no place for files: GATEWAY_ATTACHMENTS.", retry_after=600
            )
        return self._vault

    async def _read(self, statement: Statement) -> Rows:
        try:
            return await self._reader.read(*statement)
        except (StoreFailed, StoreRefused) as error:
            raise unavailable() from error


class _Giving:
    """A file, or some of it, on its way out: a block is read when the one before it was taken."""

    def __init__(self, vault: Vault, kept: files.Kept, part: Range | None) -> None:
        self._vault = vault
        self._kept = kept
        self._part = part or Range(0, kept.file.size)
        self._first = memoryview(b"")
        self.status = 206 if part else 200
        self.taken = 0
        """Bytes that the caller took."""
        self.at_end: Callable[[], None] = _nothing

    async def begin(self) -> None:
        """Read the first block: a store that fails then is said so. Raises Refusal attachment.unavailable."""
        self._first = await self._block(self._part.start)

    async def _block(self, start: int) -> memoryview:
        end = min(self._part.end, (start // BLOCK_BYTES + 1) * BLOCK_BYTES)
        return await self._vault.get(self._kept.name, start, end)

    async def give(self, request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
        """The answer. Who takes too little of it, or loses patience, goes on with a range."""
        answer = web.StreamResponse(status=self.status, headers=headers)
        at, block = self._part.start, self._first
        try:
            await answer.prepare(request)
            while True:
                async with asyncio.timeout(PROGRESS_SECONDS * math.ceil(len(block) / PROGRESS_BYTES)):
                    await answer.write(block)
                at += len(block)
                self.taken += len(block)
                if at >= self._part.end:
                    break
                block = await self._block(at)
            await answer.write_eof()
        except (Refusal, TimeoutError) as error:
            code = error.code if isinstance(error, Refusal) else "unread"
            log.warning("attachment_cut", exchange=headers.get("Exchange-Id"), why=code)
            if request.transport is not None:
                request.transport.abort()
        finally:
            self.at_end()
        return answer


async def _only_described(request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
    """The answer to HEAD."""
    answer = web.StreamResponse(headers=headers)
    await answer.prepare(request)
    await answer.write_eof()
    return answer


def _nothing() -> None:
    """Nothing is held."""


def _described(file: File, part: Range | None) -> dict[str, str]:
    """Headers of a download (RFC 9110, section 15.3.7; RFC 9530, sections 2 and 3)."""
    told = {**_STATIC, "Content-Type": file.media_type, "ETag": file.etag, "Repr-Digest": digest_field(file.digest)}
    if part is None:
        return {**told, "Content-Length": str(file.size), "Content-Digest": digest_field(file.digest)}
    return {**told, "Content-Length": str(part.end - part.start), "Content-Range": part.content_range(file.size)}


def _uploaded(trail: Trail, file: File) -> Draft:
    return trail.draft(Step.UPLOADED, status=201, more=_facts(file))


def _facts(file: File, part: Range | None = None) -> dict[str, object]:
    """What the journal says of a file."""
    facts: dict[str, object] = {"attachment": file.id, "digest": file.digest.hex(), "size": file.size}
    return {**facts, "range": part.content_range(file.size)} if part else facts


def _hold_form(request: web.Request) -> None:
    for name in _ONCE:
        if len(request.headers.getall(name, ())) > 1:
            raise Refusal("request.malformed", f"The header {name} was sent more than once.")
    if request.query_string:
        raise Refusal("request.malformed", "The address takes no query.")


def _hold_right(catalogue: Catalogue, caller: Caller) -> None:
    """Who may send nothing that files go with, uploads none."""
    hold_standing(catalogue, caller)
    if agency_of(caller.system) not in _senders(catalogue):
        raise Refusal("policy.no_agreement", "No agreement lets your agency send documents with attachments.")


@lru_cache(maxsize=2)
def _senders(catalogue: Catalogue) -> frozenset[AgencyId]:
    """Agencies that some agreement, now or at another time, lets send documents or events with attachments."""
    services = {each.id: each.kind for each in catalogue.services.values() if each.life and each.life.attachments}
    by_grant = {
        provider if services[service] is Kind.EVENT else agency_of(consumer)
        for provider, service, consumer in catalogue.grants
        if service in services
    }
    mandates = (mandate for agency in by_grant for mandate in catalogue.agencies[agency].mandates)
    return frozenset(by_grant) | {each.to for each in mandates if not each.services.isdisjoint(services)}
