"""The front of every address that systems call: who calls, whether there is room, and how a no is put and kept.

What happens in between is each call's own ``work``. The first failure answers; a refusal of somebody known is in the
journal before it leaves.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

import structlog
from aiohttp import web

from gateway.core import policy
from gateway.core.entry import Stamp, Step
from gateway.core.identity import Caller, single
from gateway.core.model import Agreement, Catalogue, Grant, SystemId, agency_of
from gateway.core.refusal import Refusal
from gateway.edge import body, problem
from gateway.edge.evidence import Trail, new_id
from gateway.edge.identity import Identity
from gateway.edge.journal import Journal, unavailable
from gateway.edge.peer import Peers
from gateway.edge.strangers import Strangers
from gateway.edge.tally import Tally
from gateway.edge.telemetry import Meters, place
from gateway.edge.tracing import JOURNAL, Tracer

SHARES = 4
"""One consumer has at most this part of the gateway's places."""
log = structlog.get_logger()

Stream: TypeAlias = Callable[[web.Request, Mapping[str, str]], Awaitable[web.StreamResponse]]
"""Sends an answer that is too large to be held, with these headers."""


@dataclass(frozen=True, slots=True)
class Released:
    """What leaves the gateway."""

    status: int
    body: bytes
    refusal: Refusal | None = None
    replayed: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    entry: str | None = None
    """``Exchange-Entry``, where the trail has no stamp."""
    stream: Stream | None = None
    """Instead of ``body``."""


@dataclass(frozen=True, slots=True)
class Call:
    """One address: what is done, and how it is counted afterwards."""

    route: str
    """Method and path, without what identifies anything."""
    work: Callable[[web.Request, Trail], Awaitable[Released]]
    count: Callable[[Trail, Released], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What every call needs."""

    catalogue: Callable[[], Catalogue]
    in_force: Callable[[], Catalogue]
    """The same; raises Refusal journal.unavailable while nobody knows what is suspended."""
    identity: Identity
    journal: Journal
    meters: Meters
    period_key: Callable[[], bytes]
    types: str
    """The address of the page on refusals."""
    max_in_progress: int
    peers: Peers
    tracer: Tracer


class Front:
    """Receives calls, and gives each its answer."""

    def __init__(self, these: Basis) -> None:
        self._basis = these
        self.in_progress = 0
        self.shares: Counter[SystemId] = Counter()
        """Calls that are being worked on, by consumer: none may take all places."""
        self._last: set[asyncio.Future[Stamp]] = set()
        """Entries of exchanges that were broken off at the very end; the journal writes them before it closes."""
        self._share = max(1, these.max_in_progress // SHARES)
        self.tally = Tally(these.meters, time.monotonic)
        self.strangers = Strangers(time.monotonic)

    async def answer(self, request: web.Request, call: Call) -> web.StreamResponse:
        """One call, from its head to its answer."""
        trail = self._begin(request, call.route)
        self.in_progress += 1
        try:
            released = await call.work(request, trail)
        except Refusal as refusal:
            released = await self.refused(trail, refusal)
        except Exception as error:  # noqa: BLE001 - whatever breaks: the caller gets an answer, the journal an entry
            log.error("broken", **trail.ids, **place(error))  # noqa: TRY400 - a traceback quotes values
            released = await self.refused(trail, Refusal("gateway.broken", "The gateway failed to work on the call."))
        except asyncio.CancelledError:  # the process stops: what was asked of a provider is not forgotten
            if trail.called and not trail.concluded:
                drafted = trail.draft(Step.ANSWERED, status=None, code="gateway.broken")
                self._last.add(asyncio.ensure_future(self._basis.journal.append(drafted)))
            raise
        finally:
            self.in_progress -= 1
            if trail.consumer is not None:
                self.shares[trail.consumer] -= 1
        if released.refusal:
            self.tally.refused(released.refusal.code)
        call.count(trail, released)
        if released.stream is not None:
            return await released.stream(request, {**released.headers, **_told(trail, released)})
        answer = _response(trail, released)
        if answer.status == web.HTTPUnauthorized.status_code:
            await self.strangers.hold(trail.peer.address)
        if not request.content.is_eof():
            await body.dismiss(request, answer)
        return answer

    def _begin(self, request: web.Request, route: str) -> Trail:
        exchange = new_id()
        return Trail(
            exchange=exchange,
            catalogue=self._basis.catalogue(),
            at=datetime.now(UTC),
            begun=time.monotonic(),
            peer=self._basis.peers.of(request),
            span=self._basis.tracer.begin(route, request.headers.get("traceparent"), exchange),
            period_key=self._basis.period_key(),
        )

    def hold_place(self) -> None:
        """Refuse where too much is being worked on."""
        if self.in_progress > self._basis.max_in_progress:
            raise Refusal("gateway.overloaded", "Too many exchanges are being worked on.", retry_after=1)

    async def caller(self, request: web.Request, trail: Trail) -> Caller:
        """The system by its token, and the person where one is asserted: a proven system answers for a forged one."""
        now, identity = trail.at.timestamp(), self._basis.identity
        caller = await identity.caller(_authorization(request), trail.peer.certificate, trail.catalogue, now)
        if self.shares[caller.system] >= self._share:
            raise Refusal("gateway.overloaded", "Too many exchanges of your system are worked on now.", retry_after=1)
        trail.consumer = caller.system
        self.shares[caller.system] += 1
        asserted = single(request.headers.getall("Exchange-User-Assertion", ()), "Exchange-User-Assertion")
        if asserted is not None:
            trail.person = await identity.person(asserted, agency_of(caller.system), trail.catalogue, now)
        return caller

    async def hold_still(self, request: web.Request, trail: Trail, decide: Callable[[Catalogue, Caller], None]) -> None:
        """A body may take seconds to arrive: what was suspended, revoked or ended meanwhile stops this call too.

        ``decide`` is asked where the catalogue is another one now; it raises Refusal.
        """
        now = self._basis.in_force()
        if now is not trail.catalogue:
            at = trail.at.timestamp()
            caller = await self._basis.identity.caller(_authorization(request), trail.peer.certificate, now, at)
            decide(now, caller)

    @contextlib.contextmanager
    def aside(self, trail: Trail) -> Iterator[None]:
        """While it only waits for something to happen, a call takes nobody's place."""
        self.in_progress -= 1
        if trail.consumer is not None:
            self.shares[trail.consumer] -= 1
        try:
            yield
        finally:
            self.in_progress += 1
            if trail.consumer is not None:
                self.shares[trail.consumer] += 1

    async def refused(self, trail: Trail, refusal: Refusal) -> Released:
        """The problem document; its entry first, where the caller is known and none was written yet."""
        document = problem.document(refusal, trail.exchange, trail.trace, trail.catalogue, self._basis.types)
        released = Released(refusal.kind.status, document, refusal)
        if trail.consumer is None:
            self.tally.unidentified[refusal.code] += 1
        elif trail.stamp is None and refusal.code != "journal.unavailable":
            if not trail.called and not self.tally.singly(trail.consumer, refusal.code):
                return released
            step = Step.ANSWERED if trail.called else Step.REFUSED
            drafted = trail.draft(step, status=released.status, code=refusal.code, released=document)
            try:
                with trail.span.part(JOURNAL, step=step):
                    trail.stamp = await self._basis.journal.append(drafted)
            except Refusal as failed:
                return await self.refused(trail, failed)
            except Exception as error:  # noqa: BLE001 - nothing leaves unwritten, not even what was to be said of it
                log.error("journal_broken", **trail.ids, **place(error))  # noqa: TRY400 - see place
                return await self.refused(trail, unavailable())
        return released


def permitted(decision: policy.Decision) -> tuple[Agreement, Grant]:
    """What permits it. Raises Refusal."""
    if decision.agreement is None or decision.grant is None or decision.code is not None:
        agency = decision.suspended or decision.facts.provider
        raise Refusal(decision.code or "policy.no_agreement", decision.detail, agency=agency)
    return decision.agreement, decision.grant


def _authorization(request: web.Request) -> str | None:
    return single(request.headers.getall("Authorization", ()), "Authorization")


def _told(trail: Trail, released: Released) -> dict[str, str]:
    """The headers of every answer."""
    told = {"Exchange-Id": trail.exchange, "traceparent": trail.span.traceparent}
    if trail.stamp or released.entry:
        told["Exchange-Entry"] = str(trail.stamp or released.entry)
    if released.replayed:
        told["Exchange-Replayed"] = "?1"
    return told


def _response(trail: Trail, released: Released) -> web.Response:
    if released.refusal:
        answer = problem.response(released.refusal, released.body)
    elif released.body:
        answer = web.Response(body=released.body, status=released.status, content_type="application/json")
    else:
        answer = web.Response(status=released.status)
    answer.headers.update(released.headers)
    answer.headers.update(_told(trail, released))
    return answer
