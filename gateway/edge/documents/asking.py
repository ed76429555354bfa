"""What the senders' small addresses share: who may call them, how little they take, what a call leaves in the log."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog
from aiohttp import web

from gateway.core.exchange import once
from gateway.core.identity import Caller
from gateway.core.model import Agency, agency_of
from gateway.core.refusal import Refusal
from gateway.core.shape import Malformed, Shape, parse
from gateway.edge import body
from gateway.edge.documents.reception import hold_standing
from gateway.edge.evidence import Trail
from gateway.edge.front import Call, Front, Released
from gateway.edge.journal import unavailable
from gateway.edge.store import Reads, Rows, StoreFailed, StoreRefused

MAX_ASKED = 8192
"""Bytes of such a body."""

Work = Callable[[web.Request, Trail], Awaitable[Released]]
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Asking:
    """How a call to these addresses begins and ends."""

    front: Front
    reader: Reads

    def route(self, method: str, path: str, work: Work) -> web.RouteDef:
        """What is done at an address."""
        call = Call(f"{method} {path}", work, partial(_counted, f"{method} {path}"))
        answer = partial(self.front.answer, call=call)
        return web.route(method, path, answer, expect_handler=body.expect_nothing)

    def others(self, path: str, *allowed: str) -> web.RouteDef:
        """Whoever uses another method at the address is told which it takes."""

        async def wrong(request: web.Request, trail: Trail) -> Released:
            refusal = Refusal("request.method", f"The address takes {' and '.join(allowed)}, not {request.method}.")
            return replace(await self.front.refused(trail, refusal), headers={"Allow": ", ".join(allowed)})

        call = Call(f"OTHER {path}", wrong, partial(_counted, f"OTHER {path}"))
        return web.route("*", path, partial(self.front.answer, call=call), expect_handler=body.expect_nothing)

    async def caller(self, request: web.Request, trail: Trail, query: frozenset[str] = frozenset()) -> Caller:
        """A system that takes part. Raises Refusal. ``query`` names what may stand in the address."""
        self.front.hold_place()
        caller = await self.front.caller(request, trail)
        once([name.lower() for name, _ in request.raw_headers])
        hold_standing(trail.catalogue, caller)
        await self.front.hold_still(request, trail, hold_standing)
        if not query.issuperset(request.query) or len(set(request.query)) < len(request.query):
            known = f"only {', '.join(sorted(query))}, each once" if query else "nothing"
            raise Refusal("request.malformed", f"The address takes {known} behind its question mark.")
        return caller

    async def said(self, request: web.Request, trail: Trail, shape: Shape) -> Mapping[str, Any]:
        """What the body says. Raises Refusal."""
        raw = await body.read(request, MAX_ASKED)
        await self.front.hold_still(request, trail, hold_standing)
        try:
            value = parse(raw)
        except Malformed as error:
            raise Refusal("request.malformed", f"The body is {error}.") from error
        if not shape.fits(value):
            raise Refusal("shape.request", "The body does not fit the address.", errors=shape.faults(value))
        said: Mapping[str, Any] = value
        return said

    async def rows(self, select: str, *values: Any) -> Rows:
        """What the database has. Raises Refusal journal.unavailable."""
        try:
            return await self.reader.read(select, values)
        except (StoreFailed, StoreRefused) as error:
            raise unavailable() from error


def home(trail: Trail, caller: Caller) -> Agency:
    """The caller's own agency, which ``Asking.caller`` found active."""
    return trail.catalogue.agencies[agency_of(caller.system)]


def _counted(called: str, trail: Trail, released: Released) -> None:
    code = released.refusal.code if released.refusal else None
    trail.span.end(released.status, exchange=trail.exchange, outcome=code or "answered", consumer=trail.consumer)
    log.info(
        "document_asked",
        **trail.ids,
        call=called,
        consumer=trail.consumer,
        document=trail.document,
        status=released.status,
        code=code,
        entry=f"{trail.stamp.writer}.{trail.stamp.n}" if trail.stamp else None,
        ms=round((time.monotonic() - trail.begun) * 1000, 2),
    )
