"""One exchange: who, what, right, shape, call, check, cut, write down, answer (DESIGN section 5).

``Exchanges.answer`` reads as the table of contents. The checks run in the order of that section, and the first
failure answers. Nothing leaves before its entry is durable.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog
from aiohttp import web

from gateway.core import policy
from gateway.core.entry import Step
from gateway.core.exchange import Head, address, once, read_head, shaped
from gateway.core.identity import Caller
from gateway.core.model import Catalogue, Effect, Endpoint
from gateway.core.refusal import Refusal
from gateway.edge import body
from gateway.edge.calling import Asked, Calling, cut, refusal_of
from gateway.edge.evidence import Trail
from gateway.edge.front import Basis, Call, Front, Released, permitted
from gateway.edge.journal import unavailable
from gateway.edge.limits import Charge, Limits
from gateway.edge.providers import Providers
from gateway.edge.telemetry import UNKNOWN, exemplar
from gateway.edge.tracing import JOURNAL
from gateway.protocols.protocol import ProviderFault

ADDRESS = "/v1/exchange/{agency}/{service}"
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(Basis):
    """What an exchange works with."""

    limits: Limits
    providers: Providers
    seal: Callable[[bytes, bytes], bytes]
    unseal: Callable[[bytes, bytes], bytes]
    mac: Callable[[bytes], bytes]


class Exchanges:
    """``POST /v1/exchange/{agency}/{service}``"""

    def __init__(self, these: Parts, write: "Write") -> None:
        self._parts = these
        self._write = write
        self.front = Front(these)
        self.tally, self.strangers = self.front.tally, self.front.strangers
        self.calling = Calling(these.providers, these.meters)
        self._log = log.bind()  # bound once: the lazy one is built anew for each line
        self._call = Call(f"POST {ADDRESS}", self._released, self._count)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One exchange, from its head to its answer."""
        return await self.front.answer(request, self._call)

    @property
    def in_progress(self) -> int:
        """Calls that are being worked on."""
        return self.front.in_progress

    async def _released(self, request: web.Request, trail: Trail) -> Released:
        these = self._parts
        self.front.hold_place()
        trail.provider, trail.service = address(request.match_info["agency"], request.match_info["service"])
        caller = await self.front.caller(request, trail)
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

        def decide(now: Catalogue, caller: Caller) -> None:
            permitted(policy.decide(now, replace(facts, scopes=caller.scopes)))

        await self.front.hold_still(request, trail, decide)
        if these.journal.failing:
            raise unavailable()
        if service.effect is Effect.WRITE:
            return await self._write(self, trail, ask)
        return await self._read(trail, ask)

    async def _permit(self, trail: Trail, facts: policy.Facts) -> None:
        """Policy, then rate and quota. Notes the agreement, also of a refusal."""
        decision = policy.decide(trail.catalogue, facts)
        trail.agreement, trail.grant = decision.agreement, decision.grant
        agreement, grant = permitted(decision)
        charge = Charge(agreement, grant, facts.spender)
        await self._parts.limits.spend((charge,), trail.at, trail.catalogue.zone)

    async def _read(self, trail: Trail, ask: Asked) -> Released:
        try:
            answer = await self.calling.call(trail, ask, key=None)
        except ProviderFault as fault:
            raise refusal_of(fault, trail) from fault
        released = cut(trail, answer.value)
        with trail.span.part(JOURNAL, step=Step.ANSWERED):
            trail.stamp = await self._parts.journal.append(trail.draft(Step.ANSWERED, status=200, released=released))
        return Released(200, released)

    def _count(self, trail: Trail, released: Released) -> None:
        meters = self._parts.meters
        took = time.monotonic() - trail.begun
        code = released.refusal.code if released.refusal else None
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


def _labels(trail: Trail) -> tuple[str, str]:
    if trail.provider and trail.service and trail.catalogue.endpoint(trail.provider, trail.service):
        return trail.provider, trail.service
    return UNKNOWN, UNKNOWN
