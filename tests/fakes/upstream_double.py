"""A stand-in for the gateway as an agent meets it: its keys, outcomes, files; each fails on demand."""

import base64
import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from gateway.client import GatewayClient, Pace
from tests.fakes.gateway_double import Fault, GatewayDouble, private_key, refusal

CLIENT = "treasury.agent"
BLOCK = 2**18


@dataclass(slots=True)
class UpstreamDouble(GatewayDouble):
    """Each fault in ``faults`` is used up by one request that has a token."""

    keys: list[Any] = field(default_factory=list)
    """What it publishes."""
    fetched: int = 0
    """How often."""
    key_faults: deque[Fault] = field(default_factory=deque)
    told: list[tuple[str, Any]] = field(default_factory=list)
    """Document and body of each outcome that was taken."""
    codes: dict[str, Fault] = field(default_factory=dict)
    """What it says to outcomes of a document, always."""
    files: dict[str, bytes] = field(default_factory=dict)
    listed: dict[str, str] = field(default_factory=dict)
    """Files that it names as those of a document, with their digests."""
    kind: str = "document"
    """Of every document; of an event it names no files, as to any recipient."""
    ranges: list[str | None] = field(default_factory=list)
    """The header Range of each download."""
    cut_after: deque[int] = field(default_factory=deque)
    """Bytes after which the connection of a download breaks, once each."""
    heard: Callable[[], object] = bool
    """Called with each outcome that came."""

    def more(self, app: web.Application) -> None:
        app.router.add_get("/.well-known/jwks.json", self._keys)
        app.router.add_post("/v1/inbox/{id}", self._outcome)
        app.router.add_get("/v1/attachments/{id}", self._file)  # and HEAD
        app.router.add_get("/v1/documents", self._documents)
        app.router.add_get("/v1/documents/{id}", self._document)

    async def _keys(self, request: web.Request) -> web.StreamResponse:
        self.fetched += 1
        if self.key_faults:
            return await self.key_faults.popleft()(request)
        return web.json_response({"keys": self.keys})

    async def _outcome(self, request: web.Request) -> web.StreamResponse:
        document, body = request.match_info["id"], orjson.loads(await request.read())
        self.heard()
        fault = self._fault(request) or self.codes.get(document)
        if fault is not None:
            return await fault(request)
        self.told.append((document, body))
        return web.json_response({"document": document, "state": body["outcome"], "receipt": "…"})

    async def _document(self, request: web.Request) -> web.StreamResponse:
        named = request.match_info["id"]
        fault = self._fault(request)
        if fault is not None:
            return await fault(request)
        files = [
            {"attachment": name, "digest": told, "size": len(self.files.get(name, b""))}
            for name, told in self.listed.items()
            if self.kind != "event"
        ]
        told = {"document": named, "kind": self.kind, "state": "arrived", "recipients": [], "attachments": files}
        return web.json_response(told)

    async def _documents(self, request: web.Request) -> web.StreamResponse:
        fault = self._fault(request)
        return await fault(request) if fault else web.json_response({"documents": [], "next": None})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        fault, name = self._fault(request), request.match_info["id"]
        if fault is not None:
            return await fault(request)
        if name not in self.files:
            return await refusal(404, "attachment.unknown")(request)
        whole = self.files[name]
        asked = request.headers.get("Range")
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        headers = {"Repr-Digest": digest(whole)}
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(whole))})
        self.ranges.append(asked)
        response = web.StreamResponse(status=206 if asked else 200, headers=headers)
        response.content_length = len(whole) - start
        await response.prepare(request)
        most = self.cut_after.popleft() if self.cut_after else len(whole)
        end = min(start + most, len(whole))
        for place in range(start, end, BLOCK):
            await response.write(whole[place : min(place + BLOCK, end)])
        if end < len(whole) and request.transport is not None:
            request.transport.close()  # what was written arrives
        return response


def digest(whole: bytes) -> str:
    """As Content-Digest says it."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(whole).digest()).decode()}:"


def doubled() -> tuple[UpstreamDouble, dict[str, Any]]:
    """One, and the private key with which its client signs."""
    private = private_key()
    public = {name: value for name, value in private.items() if name not in ("d", "instance")}
    return UpstreamDouble(public), private


def client(double: UpstreamDouble, private: dict[str, Any], pace: Pace | None = None) -> GatewayClient:
    """The agent's."""
    return GatewayClient(double.url, client_id=CLIENT, key=private, pace=pace or Pace(attempts=1))
