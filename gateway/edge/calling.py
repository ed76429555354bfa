"""The provider's part of an exchange: asked, its answer held against the schema, and cut to what is disclosed."""

import time
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from gateway.core.breaker import FIRST_REST
from gateway.core.exchange import MAX_WORDED, Head
from gateway.core.minimise import cut_of, minimise
from gateway.core.model import Effect, Endpoint, Service, SystemId
from gateway.core.refusal import TABLE, Refusal
from gateway.core.report import sound
from gateway.edge.evidence import Trail
from gateway.edge.providers import Providers
from gateway.edge.telemetry import Meters
from gateway.edge.tracing import PROVIDER
from gateway.edge.trouble import Troubles
from gateway.protocols.protocol import Answer, Call, ProviderFault

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


class Calling:
    """Asks providers."""

    def __init__(self, providers: Providers, meters: Meters) -> None:
        self._providers = providers
        self._meters = meters
        self._troubles = Troubles(time.monotonic)

    async def call(self, trail: Trail, ask: Asked, *, key: str | None) -> Answer:
        """Ask the provider and hold its answer against the schema. Raises ProviderFault."""
        trail.called = True
        with trail.span.part(PROVIDER, provider=ask.endpoint.provider, service=ask.service.id) as traceparent:
            answer = await self._ask(trail, ask, key, traceparent)
        self.hold(trail, ask, answer.value)
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
            answer = await self._providers.call(
                ask.endpoint, call, trail.at, repeatable=ask.service.effect is Effect.READ or key is not None
            )
        except ProviderFault as fault:
            self._troubles.note(ask.endpoint, fault, trail.ids)
            trail.provided = fault.provided or None
            never_left = fault.unheard and not fault.sent
            trail.sent = None if never_left else fault.outgoing or None
            raise
        finally:
            trail.provider_seconds = time.monotonic() - begun
        trail.sent, trail.provided = answer.sent, answer.provided
        return answer

    def hold(self, trail: Trail, ask: Asked, value: Any) -> None:
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
        self._meters.child(self._meters.deviations, trail.provider, trail.service, mode).inc()
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
