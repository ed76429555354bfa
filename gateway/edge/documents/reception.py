"""What the recipients' addresses share: who may call them, how a body is read, what a call leaves in the log."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import structlog
from aiohttp import web

from gateway.core.document import unknown
from gateway.core.exchange import once
from gateway.core.identity import Caller
from gateway.core.model import Agency, AgencyId, Catalogue, Standing, agency_of
from gateway.core.refusal import Refusal
from gateway.edge import body
from gateway.edge.documents.outcomes import MAX_OUTCOME
from gateway.edge.documents.scribe import Scribe
from gateway.edge.evidence import Trail
from gateway.edge.front import Call, Front, Released
from gateway.edge.journal import Journal, unavailable
from gateway.edge.store import Reads, Rows, StoreFailed, StoreRefused
from gateway.edge.telemetry import Meters

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """What these addresses work with, and how each begins and ends."""

    front: Front
    catalogue: Callable[[], Catalogue]
    in_force: Callable[[], Catalogue]
    """The same; raises Refusal journal.unavailable while nobody knows what is suspended."""
    post: Journal
    reader: Reads
    scribe: Scribe
    mac: Callable[[bytes], bytes]
    meters: Meters

    def answering(
        self, route: str, name: str, work: Callable[[web.Request, Trail], Awaitable[Released]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        called = Call(route, work, partial(self._counted, name))

        async def answer(request: web.Request) -> web.StreamResponse:
            return await self.front.answer(request, called)

        return answer

    async def caller(self, request: web.Request, trail: Trail) -> Caller:
        """A system of a recipient, which takes part. Raises Refusal."""
        front = self.front
        front.hold_place()
        caller = await front.caller(request, trail)
        once([name.lower() for name, _ in request.raw_headers])
        hold_standing(trail.catalogue, caller)
        if self.post.failing:
            raise unavailable()
        return caller

    async def read(self, request: web.Request, trail: Trail) -> bytes:
        raw = await body.read(request, MAX_OUTCOME)
        await self.front.hold_still(request, trail, hold_standing)
        return raw

    def home(self, agency: AgencyId) -> Agency:
        """As its folder is now. Raises Refusal."""
        home = self.in_force().agencies.get(agency)
        if home is None:
            raise Refusal("policy.suspended", f"The agency {agency} is no longer a member.", agency=agency)
        return home

    async def rows(self, select: str, values: tuple[str, ...]) -> Rows:
        try:
            return await self.reader.read(select, values)
        except (StoreFailed, StoreRefused) as error:
            raise unavailable() from error

    def _counted(self, call: str, trail: Trail, released: Released) -> None:
        code = released.refusal.code if released.refusal else None
        recipient = agency_of(trail.consumer) if trail.consumer else None
        trail.span.end(released.status, exchange=trail.exchange, outcome=code or "done", consumer=trail.consumer)
        log.info(
            "inbox",
            **trail.ids,
            call=call,
            consumer=trail.consumer,
            recipient=recipient,
            document=trail.document,
            status=released.status,
            code=code,
            entry=f"{trail.stamp.writer}.{trail.stamp.n}" if trail.stamp else None,
            ms=round((time.monotonic() - trail.begun) * 1000, 2),
        )


def hold_standing(catalogue: Catalogue, caller: Caller) -> None:
    """Every active system of an active agency speaks for it. Raises Refusal policy.suspended."""
    agency = catalogue.agencies.get(agency_of(caller.system))
    if agency is None or agency.standing is not Standing.ACTIVE:
        raise Refusal("policy.suspended", "Your agency is suspended.", agency=agency_of(caller.system))
    system = agency.systems.get(caller.system)
    if system is None or system.standing is not Standing.ACTIVE:
        raise Refusal("policy.suspended", f"The system {caller.system} is suspended.", agency=agency.id)


_WORDS = {
    "document.lease": "The lease is none that your agency holds now: it has ended, or another one is current.",
    "document.ended": "The document's life has ended otherwise before; what you say is kept beside it.",
    "document.state": "The document does not stand so that this could be said of it.",
}


def refusal_of(code: str) -> Refusal:
    return unknown() if code == "document.unknown" else Refusal(code, _WORDS[code])
