"""One exchange: who, what, right, shape, call, check, cut, write down, answer (DESIGN section 5).

``Exchanges.answer`` reads as the table of contents. The checks run in the order of that section, and the first
failure answers. Nothing leaves before its entry is durable.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog
from aiohttp import web

from gateway.core import policy
from gateway.core.entry import Stamp, Step
from gateway.core.exchange import Head, address, once, read_head, shaped
from gateway.core.identity import Caller, single
from gateway.core.model import Agreement, Catalogue, Effect, Endpoint, Grant, SystemId, agency_of
from gateway.core.refusal import Refusal
from gateway.edge import body, problem
from gateway.edge.calling import Asked, Calling, cut, refusal_of
from gateway.edge.evidence import Trail, new_id
from gateway.edge.identity import Identity
from gateway.edge.journal import Journal, unavailable
from gateway.edge.limits import Limits
from gateway.edge.peer import Peers
from gateway.edge.providers import Providers
from gateway.edge.strangers import Strangers
from gateway.edge.tally import Tally
from gateway.edge.telemetry import UNKNOWN, Meters, exemplar, place
from gateway.edge.tracing import JOURNAL, Tracer
from gateway.protocols.protocol import ProviderFault

ADDRESS = "/v1/exchange/{agency}/{service}"
SHARES = 4
"""One consumer has at most this part of the gateway's places."""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Released:
    """What leaves the gateway."""

    status: int
    body: bytes
    refusal: Refusal | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """What an exchange works with."""

    catalogue: Callable[[], Catalogue]
    in_force: Callable[[], Catalogue]
    """The same; raises Refusal journal.unavailable while nobody knows what is suspended."""
    identity: Identity
    limits: Limits
    providers: Providers
    journal: Journal
    meters: Meters
    period_key: Callable[[], bytes]
    seal: Callable[[bytes, bytes], bytes]
    unseal: Callable[[bytes, bytes], bytes]
    mac: Callable[[bytes], bytes]
    types: str
    """The address of the page on refusals."""
    max_in_progress: int
    peers: Peers
    tracer: Tracer


class Exchanges:
    """``POST /v1/exchange/{agency}/{service}``"""

    def __init__(self, these: Parts, write: "Write") -> None:
        self._parts = these
        self._write = write
        self.calling = Calling(these.providers, these.meters)
        self._log = log.bind()  # bound once: the lazy one is built anew for each line
        self.in_progress = 0
        self.shares: Counter[SystemId] = Counter()
        """Exchanges that are being worked on, by consumer: none may take all places."""
        self._last: set[asyncio.Future[Stamp]] = set()
        """Entries of exchanges that were broken off at the very end; the journal writes them before it closes."""
        self._share = max(1, these.max_in_progress // SHARES)
        self.tally = Tally(these.meters, time.monotonic)
        self.strangers = Strangers(time.monotonic)

    async def answer(self, request: web.Request) -> web.Response:
        """One exchange, from its head to its answer."""
        trail = self._begin(request)
        self.in_progress += 1
        try:
            released = await self._released(request, trail)
        except Refusal as refusal:
            released = await self._refused(trail, refusal)
        except Exception as error:  # noqa: BLE001 - whatever breaks: the caller gets an answer, the journal an entry
            log.error("broken", **trail.ids, **place(error))  # noqa: TRY400 - a traceback quotes values
            released = await self._refused(trail, Refusal("gateway.broken", "The gateway failed to work on the call."))
        except asyncio.CancelledError:  # the process stops: what was asked of a provider is not forgotten
            if trail.called and not trail.concluded:
                drafted = trail.draft(Step.ANSWERED, status=None, code="gateway.broken")
                self._last.add(asyncio.ensure_future(self._parts.journal.append(drafted)))
            raise
        finally:
            self.in_progress -= 1
            if trail.consumer is not None:
                self.shares[trail.consumer] -= 1
        self._count(trail, released)
        answer = _response(trail, released)
        if answer.status == web.HTTPUnauthorized.status_code:
            await self.strangers.hold(trail.peer.address)
        if not request.content.is_eof():
            await body.dismiss(request, answer)
        return answer

    def _begin(self, request: web.Request) -> Trail:
        exchange = new_id()
        return Trail(
            exchange=exchange,
            catalogue=self._parts.catalogue(),
            at=datetime.now(UTC),
            begun=time.monotonic(),
            peer=self._parts.peers.of(request),
            span=self._parts.tracer.begin(ADDRESS, request.headers.get("traceparent"), exchange),
            period_key=self._parts.period_key(),
        )

    async def _released(self, request: web.Request, trail: Trail) -> Released:
        these = self._parts
        if self.in_progress > these.max_in_progress:
            raise Refusal("gateway.overloaded", "Too many exchanges are being worked on.", retry_after=1)
        trail.provider, trail.service = address(request.match_info["agency"], request.match_info["service"])
        caller = await self._caller(request, trail)
        endpoint, service = policy.visible(trail.catalogue, trail.provider, trail.service, caller.system)
        if request.query_string:
            raise Refusal(
                "request.malformed", "The address takes no query: what identifies a person travels in the body."
            )
        once([name.lower() for name, _ in request.raw_headers])
        trail.head = head = read_head(request.headers)
        facts = _facts(trail, caller, head, endpoint)
        await self._permit(trail, facts)
        trail.received = raw = await body.read(request, service.max_bytes)
        ask = Asked(caller.system, endpoint, service, head, shaped(service, raw), raw)
        trail.note_subjects(service.request_subjects, ask.value)
        await self._hold_still(request, trail, facts)
        if these.journal.failing:
            raise unavailable()
        if service.effect is Effect.WRITE:
            return await self._write(self, trail, ask)
        return await self._read(trail, ask)

    async def _caller(self, request: web.Request, trail: Trail) -> Caller:
        """The system by its token, and the person where one is asserted: a proven system answers for a forged one."""
        now, identity = trail.at.timestamp(), self._parts.identity
        caller = await identity.caller(_authorization(request), trail.peer.certificate, trail.catalogue, now)
        if self.shares[caller.system] >= self._share:
            raise Refusal("gateway.overloaded", "Too many exchanges of your system are worked on now.", retry_after=1)
        trail.consumer = caller.system
        self.shares[caller.system] += 1
        asserted = single(request.headers.getall("Exchange-User-Assertion", ()), "Exchange-User-Assertion")
        if asserted is not None:
            trail.person = await identity.person(asserted, agency_of(caller.system), trail.catalogue, now)
        return caller

    async def _permit(self, trail: Trail, facts: policy.Facts) -> None:
        """Policy, then rate and quota. Notes the agreement, also of a refusal."""
        decision = policy.decide(trail.catalogue, facts)
        trail.agreement, trail.grant = decision.agreement, decision.grant
        agreement, grant = _permitted(decision)
        await self._parts.limits.spend(agreement, grant, facts.consumer, trail.at, trail.catalogue.zone)

    async def _hold_still(self, request: web.Request, trail: Trail, facts: policy.Facts) -> None:
        """A body may take seconds to arrive: what was suspended, revoked or ended meanwhile stops this exchange too."""
        now = self._parts.in_force()
        if now is not trail.catalogue:
            at = trail.at.timestamp()
            caller = await self._parts.identity.caller(_authorization(request), trail.peer.certificate, now, at)
            _permitted(policy.decide(now, replace(facts, scopes=caller.scopes)))

    async def _read(self, trail: Trail, ask: Asked) -> Released:
        try:
            answer = await self.calling.call(trail, ask, key=None)
        except ProviderFault as fault:
            raise refusal_of(fault, trail) from fault
        released = cut(trail, answer.value)
        with trail.span.part(JOURNAL, step=Step.ANSWERED):
            trail.stamp = await self._parts.journal.append(trail.draft(Step.ANSWERED, status=200, released=released))
        return Released(200, released)

    async def _refused(self, trail: Trail, refusal: Refusal) -> Released:
        """The problem document; its entry first, where the caller is known and none was written yet."""
        document = problem.document(refusal, trail.exchange, trail.trace, trail.catalogue, self._parts.types)
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
                    trail.stamp = await self._parts.journal.append(drafted)
            except Refusal as failed:
                return await self._refused(trail, failed)
            except Exception as error:  # noqa: BLE001 - nothing leaves unwritten, not even what was to be said of it
                log.error("journal_broken", **trail.ids, **place(error))  # noqa: TRY400 - see place
                return await self._refused(trail, unavailable())
        return released

    def _count(self, trail: Trail, released: Released) -> None:
        meters = self._parts.meters
        took = time.monotonic() - trail.begun
        code = released.refusal.code if released.refusal else None
        if code:
            self.tally.refused(code)
        where = _labels(trail)
        outcome = code or ("replayed" if released.replayed else "answered")
        if trail.consumer is not None:
            meters.child(meters.exchanges, trail.consumer, *where, outcome).inc()
            series = meters.series(*where)
            series.duration.observe(took, exemplar(took, trail.exchange, trail.trace, sampled=trail.span.sampled))
            if trail.called:
                series.own.observe(took - trail.provider_seconds)
                series.provider.observe(trail.provider_seconds)
            if trail.received is not None:
                series.request.observe(len(trail.received))
            series.response.observe(len(released.body))
        whose = {
            "consumer": trail.consumer,
            "provider": where[0],
            "service": where[1],
            "agreement": trail.agreement.id if trail.agreement else None,
        }
        trail.span.end(released.status, exchange=trail.exchange, outcome=outcome, **whose)
        self._log.info(
            "exchange",
            **trail.ids,
            **whose,
            status=released.status,
            code=code,
            entry=f"{trail.stamp.writer}.{trail.stamp.n}" if trail.stamp else None,
            ms=round(took * 1000, 2),
            provider_ms=round(trail.provider_seconds * 1000, 2),
        )


Write = Callable[[Exchanges, Trail, Asked], Awaitable[Released]]
"""How a write goes on from here: ``edge.writes``."""


def _authorization(request: web.Request) -> str | None:
    return single(request.headers.getall("Authorization", ()), "Authorization")


def _facts(trail: Trail, caller: Caller, head: Head, endpoint: Endpoint) -> policy.Facts:
    return policy.Facts(
        consumer=caller.system,
        provider=endpoint.provider,
        service=endpoint.service,
        purpose=head.purpose,
        scopes=caller.scopes,
        at=trail.at,
        given=head.given(person=trail.person is not None),
        on_behalf=head.on_behalf,
    )


def _permitted(decision: policy.Decision) -> tuple[Agreement, Grant]:
    """What permits it. Raises Refusal."""
    if decision.agreement is None or decision.grant is None or decision.code is not None:
        agency = decision.suspended or decision.facts.provider
        raise Refusal(decision.code or "policy.no_agreement", decision.detail, agency=agency)
    return decision.agreement, decision.grant


def _labels(trail: Trail) -> tuple[str, str]:
    if trail.provider and trail.service and trail.catalogue.endpoint(trail.provider, trail.service):
        return trail.provider, trail.service
    return UNKNOWN, UNKNOWN


def _response(trail: Trail, released: Released) -> web.Response:
    if released.refusal:
        answer = problem.response(released.refusal, released.body)
    else:
        answer = web.Response(body=released.body, status=released.status, content_type="application/json")
    answer.headers["Exchange-Id"] = trail.exchange
    answer.headers["traceparent"] = trail.span.traceparent
    if trail.stamp:
        answer.headers["Exchange-Entry"] = str(trail.stamp)
    if released.replayed:
        answer.headers["Exchange-Replayed"] = "?1"
    return answer
