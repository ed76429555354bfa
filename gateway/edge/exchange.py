"""One exchange: who, what, right, shape, call, check, cut, write down, answer (DESIGN section 5).

``Exchanges.answer`` reads as the table of contents. The checks run in the order of that section, and the first
failure answers. Nothing leaves before its entry is durable.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from aiohttp import web

from gateway.core import policy
from gateway.core.breaker import FIRST_REST
from gateway.core.entry import Stamp, Step
from gateway.core.exchange import MAX_WORDED, Head, address, once, read_head, shaped
from gateway.core.identity import Caller, single
from gateway.core.minimise import cut_of, minimise
from gateway.core.model import (
    Catalogue,
    Effect,
    Endpoint,
    Service,
    SystemId,
    agency_of,
)
from gateway.core.refusal import TABLE, Refusal
from gateway.core.report import sound
from gateway.edge import body, problem
from gateway.edge.evidence import Trail, new_id
from gateway.edge.identity import Identity
from gateway.edge.journal import Journal, unavailable
from gateway.edge.limits import Limits
from gateway.edge.peer import Peers
from gateway.edge.providers import Providers
from gateway.edge.strangers import Strangers
from gateway.edge.tally import Tally
from gateway.edge.telemetry import UNKNOWN, Meters, exemplar, place
from gateway.edge.tracing import JOURNAL, PROVIDER, Tracer
from gateway.protocols.protocol import Answer, Call, ProviderFault

ADDRESS = "/v1/exchange/{agency}/{service}"
SHARES = 4
"""One consumer has at most this part of the gateway's places."""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that may be made: every check holds."""

    consumer: SystemId
    endpoint: Endpoint
    service: Service
    head: Head
    value: Any
    raw: bytes


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
            if trail.called and trail.stamp is None:
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
        await self._permit(trail, caller, head, endpoint)
        trail.received = raw = await body.read(request, service.max_bytes)
        ask = Asked(caller.system, endpoint, service, head, shaped(service, raw), raw)
        trail.note_subjects(service.request_subjects, ask.value)
        if these.journal.failing:
            raise unavailable()
        if service.effect is Effect.WRITE:
            return await self._write(self, trail, ask)
        return await self._read(trail, ask)

    async def _caller(self, request: web.Request, trail: Trail) -> Caller:
        """The system by its token, and the person where one is asserted: a proven system answers for a forged one."""
        now, identity = trail.at.timestamp(), self._parts.identity
        authorization = single(request.headers.getall("Authorization", ()), "Authorization")
        caller = await identity.caller(authorization, trail.peer.certificate, trail.catalogue, now)
        if self.shares[caller.system] >= self._share:
            raise Refusal("gateway.overloaded", "Too many exchanges of your system are worked on now.", retry_after=1)
        trail.consumer = caller.system
        self.shares[caller.system] += 1
        asserted = single(request.headers.getall("Exchange-User-Assertion", ()), "Exchange-User-Assertion")
        if asserted is not None:
            trail.person = await identity.person(asserted, agency_of(caller.system), trail.catalogue, now)
        return caller

    async def _permit(self, trail: Trail, caller: Caller, head: Head, endpoint: Endpoint) -> None:
        """Policy, then rate and quota. Notes the agreement, also of a refusal."""
        facts = policy.Facts(
            consumer=caller.system,
            provider=endpoint.provider,
            service=endpoint.service,
            purpose=head.purpose,
            scopes=caller.scopes,
            at=trail.at,
            given=head.given(person=trail.person is not None),
            on_behalf=head.on_behalf,
        )
        decision = policy.decide(trail.catalogue, facts)
        trail.agreement, trail.grant = decision.agreement, decision.grant
        if decision.agreement is None or decision.grant is None or decision.code is not None:
            code = decision.code or "policy.no_agreement"
            raise Refusal(code, decision.detail, agency=decision.suspended or endpoint.provider)
        zone = trail.catalogue.zone
        await self._parts.limits.spend(decision.agreement, decision.grant, caller.system, trail.at, zone)

    async def _read(self, trail: Trail, ask: Asked) -> Released:
        try:
            answer = await self.call(trail, ask, key=None)
        except ProviderFault as fault:
            raise refusal_of(fault, trail) from fault
        released = cut(trail, answer.value)
        with trail.span.part(JOURNAL, step=Step.ANSWERED):
            trail.stamp = await self._parts.journal.append(trail.draft(Step.ANSWERED, status=200, released=released))
        return Released(200, released)

    async def call(self, trail: Trail, ask: Asked, *, key: str | None) -> Answer:
        """Ask the provider and hold its answer against the schema. Raises ProviderFault."""
        trail.called = True
        with trail.span.part(PROVIDER, provider=ask.endpoint.provider, service=ask.service.id) as traceparent:
            answer = await self._ask(trail, ask, key, traceparent)
        self.hold_answer(trail, ask, answer.value)
        trail.note_subjects(ask.service.response_subjects, answer.value)
        return answer

    async def _ask(self, trail: Trail, ask: Asked, key: str | None, traceparent: str) -> Answer:
        begun = time.monotonic()
        call = Call(
            exchange=trail.exchange,
            service=ask.service.id,
            consumer=ask.consumer,
            purpose=ask.head.purpose,
            case=ask.head.case,
            value=ask.value,
            raw=ask.raw,
            idempotency_key=key,
            traceparent=traceparent,
            seconds=ask.endpoint.deadline,
        )
        try:
            answer = await self._parts.providers.call(
                ask.endpoint, call, trail.at, repeatable=ask.service.effect is Effect.READ or key is not None
            )
        except ProviderFault as fault:
            trail.provided = fault.provided or None
            never_left = fault.unheard and not fault.sent
            trail.sent = None if never_left else fault.outgoing or None
            raise
        finally:
            trail.provider_seconds = time.monotonic() - begun
        trail.sent, trail.provided = answer.sent, answer.provided
        return answer

    def hold_answer(self, trail: Trail, ask: Asked, value: Any) -> None:
        """Let an answer pass that fits its schema; or, while its endpoint only reports, what of it is sound.

        Raises ProviderFault.
        """
        shape = ask.service.response
        if shape.fits(value):
            return
        until = ask.endpoint.report_until
        reported = until is not None and trail.at.astimezone(trail.catalogue.zone).date() <= until
        if reported and trail.grant and trail.grant.disclosed is not None:
            trail.sound = sound(shape, value, trail.grant.disclosed)
            reported = trail.sound is not None
        mode = "reported" if reported else "withheld"
        self._parts.meters.child(self._parts.meters.deviations, trail.provider, trail.service, mode).inc()
        log.warning(
            "answer_deviates",
            **trail.ids,
            provider=trail.provider,
            service=trail.service,
            mode=mode,
            rules=shape.broken_rules(value) if len(trail.provided or b"") <= MAX_WORDED else (),
        )
        if not reported:
            detail = f"The answer of {trail.provider} does not fit the agreed schema."
            raise ProviderFault("provider.wrong_answer", detail, sent=True)

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
        if trail.consumer is not None:
            outcome = code or ("replayed" if released.replayed else "answered")
            meters.child(meters.exchanges, trail.consumer, *where, outcome).inc()
            series = meters.series(*where)
            series.duration.observe(took, exemplar(took, trail.exchange, trail.trace, sampled=trail.span.sampled))
            if trail.called:
                series.own.observe(took - trail.provider_seconds)
                series.provider.observe(trail.provider_seconds)
            if trail.received is not None:
                series.request.observe(len(trail.received))
            series.response.observe(len(released.body))
        trail.span.end(
            released.status,
            exchange=trail.exchange,
            consumer=trail.consumer,
            provider=where[0],
            service=where[1],
            agreement=trail.agreement.id if trail.agreement else None,
            outcome=code or ("replayed" if released.replayed else "answered"),
        )
        self._log.info(
            "exchange",
            **trail.ids,
            consumer=trail.consumer,
            provider=where[0],
            service=where[1],
            agreement=trail.agreement.id if trail.agreement else None,
            status=released.status,
            code=code,
            entry=f"{trail.stamp.writer}.{trail.stamp.n}" if trail.stamp else None,
            ms=round(took * 1000, 2),
            provider_ms=round(trail.provider_seconds * 1000, 2),
        )


Write = Callable[[Exchanges, Trail, Asked], Awaitable[Released]]
"""How a write goes on from here: ``edge.writes``."""


def cut(trail: Trail, value: Any) -> bytes:
    """What the grant discloses of the answer, as bytes."""
    if trail.sound is not None:  # of an answer that deviates
        return orjson.dumps(minimise(value, cut_of(trail.sound)))
    return orjson.dumps(minimise(value, trail.grant.disclose if trail.grant else None))


def refusal_of(fault: ProviderFault, trail: Trail) -> Refusal:
    """A provider's failure as the consumer is told of it."""
    wait = fault.retry_after
    if wait is None and TABLE[fault.code].retry:
        wait = FIRST_REST  # nobody named a time: as long as a failing endpoint is left alone at first
    return Refusal(fault.code, fault.detail, retry_after=wait, agency=trail.provider)


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
