"""A write: claimed with its ``admitted`` entry before the call, settled with its final entry before the answer.

Only a provider's definite answer is stored and given again. Whatever stops a write in between leaves evidence: the
entry ``admitted``, and a key that says honestly that the outcome is not known.
"""

import hashlib
from typing import Any

import orjson

from gateway.core.entry import Draft, Stamp, Step, canonical
from gateway.core.exchange import Next, after_found, fingerprint
from gateway.core.refusal import Refusal
from gateway.edge import claims, problem
from gateway.edge.calling import Asked, cut, refusal_of
from gateway.edge.claims import Claim, Found
from gateway.edge.evidence import Trail, new_id
from gateway.edge.exchange import Exchanges, Parts
from gateway.edge.front import Released
from gateway.edge.tracing import JOURNAL
from gateway.protocols.protocol import ProviderFault

MARGIN = 5.0
"""Seconds beyond the endpoint's deadline after which an attempt is believed dead."""


class Writes:
    """How an exchange with ``effect: write`` goes on once its body holds."""

    def __init__(self, these: Parts) -> None:
        self._parts = these

    async def __call__(self, exchanges: Exchanges, trail: Trail, ask: Asked) -> Released:
        claim = self._claim(trail, ask)
        admitted = trail.draft(Step.ADMITTED, status=None)
        with trail.span.part(JOURNAL, step=Step.ADMITTED):
            found = await self._parts.journal.run(claims.take(claim, admitted), locks=claim.locks)
            if isinstance(found, Found) and self._next(found, claim, ask) is Next.AGAIN:
                found = await self._parts.journal.run(claims.take_again(claim, admitted), locks=claim.locks)
        if isinstance(found, Found):
            return await self._second(exchanges, trail, ask, (claim, found))
        key = _providers_key(claim) if ask.endpoint.takes_key else None
        try:
            answer = await exchanges.calling.call(trail, ask, key=key)
        except ProviderFault as fault:
            return await self._failed(exchanges, trail, ask, (claim, fault))
        released = cut(trail, answer.value)
        final = trail.draft(Step.ANSWERED, status=200, released=released)
        settled = await self._settle(trail, claim, {"value": answer.value}, final)
        return (
            Released(200, released) if settled is None else await self._second(exchanges, trail, ask, (claim, settled))
        )

    def _claim(self, trail: Trail, ask: Asked) -> Claim:
        if ask.head.key is None:
            raise Refusal("idempotency.key_missing", f"{ask.service.id} changes something: send an Idempotency-Key.")
        return Claim(
            system=ask.consumer,
            key=ask.head.key,
            # under a key: a plain hash of a person's number is found by trying all numbers
            fingerprint=self._parts.mac(
                fingerprint(ask.endpoint.provider, ask.service.id, ask.head, canonical(ask.value))
            ),
            owner=new_id(),
            seconds=ask.endpoint.deadline + MARGIN,
            exchange=trail.exchange,
        )

    def _next(self, found: Found, claim: Claim, ask: Asked) -> Next:
        same = found.fingerprint == claim.fingerprint
        return after_found(found.state, same=same, late=found.late, takes_key=ask.endpoint.takes_key)

    async def _second(self, exchanges: Exchanges, trail: Trail, ask: Asked, between: tuple[Claim, Found]) -> Released:
        """Somebody used the key before: the stored answer, or why there is none."""
        claim, found = between
        match self._next(found, claim, ask):
            case Next.REUSED:
                raise Refusal("idempotency.reused", "The Idempotency-Key belongs to another call of your system.")
            case Next.UNKNOWN:
                raise Refusal(
                    "idempotency.outcome_unknown",
                    f"The call was handed to {trail.provider} in exchange {found.exchange}, and no answer is known.",
                    agency=trail.provider,
                )
            case Next.REPLAY if found.answer is not None:
                trail.first = found.exchange
                stored = orjson.loads(self._parts.unseal(found.answer, _context(claim)))
                return await self._replay(exchanges, trail, ask, stored)
            case _:
                raise Refusal(
                    "idempotency.running", f"Exchange {found.exchange} with this key still runs.", retry_after=1
                )

    async def _replay(self, exchanges: Exchanges, trail: Trail, ask: Asked, stored: Any) -> Released:
        """The stored answer, held and cut by what is agreed today."""
        if "code" in stored:
            refusal = Refusal(stored["code"], stored["detail"], agency=trail.provider)
            document = problem.document(refusal, trail.exchange, trail.trace, trail.catalogue, self._parts.types)
            released = Released(refusal.kind.status, document, refusal, replayed=True)
        else:
            try:
                exchanges.calling.hold(trail, ask, stored["value"])
            except ProviderFault as fault:
                raise refusal_of(fault, trail) from fault
            trail.note_subjects(ask.service.response_subjects, stored["value"])
            released = Released(200, cut(trail, stored["value"]), replayed=True)
        code = released.refusal.code if released.refusal else None
        drafted = trail.draft(Step.REPLAYED, status=released.status, code=code, released=released.body)
        with trail.span.part(JOURNAL, step=Step.REPLAYED):
            trail.stamp = await self._parts.journal.append(drafted)
        return released

    async def _failed(
        self, exchanges: Exchanges, trail: Trail, ask: Asked, between: tuple[Claim, ProviderFault]
    ) -> Released:
        """No good answer: stored where it is the provider's last word, freed where nothing was taken, else unknown."""
        claim, fault = between
        refusal = refusal_of(fault, trail)
        document = problem.document(refusal, trail.exchange, trail.trace, trail.catalogue, self._parts.types)
        released = Released(refusal.kind.status, document, refusal)
        final = trail.draft(Step.ANSWERED, status=released.status, code=fault.code, released=document)
        if fault.definite:
            settled = await self._settle(trail, claim, {"code": fault.code, "detail": fault.detail}, final)
            return released if settled is None else await self._second(exchanges, trail, ask, (claim, settled))
        if fault.sent:
            self._parts.meters.unsettled.inc()
        work = claims.unknown if fault.sent else claims.free
        with trail.span.part(JOURNAL, step=Step.ANSWERED):
            trail.stamp = await self._parts.journal.run(work(claim, final), locks=claim.locks)
        return released

    async def _settle(self, trail: Trail, claim: Claim, stored: Any, final: Draft) -> Found | None:
        """Store a definite answer; what was found instead, where another attempt took the key over meanwhile."""
        sealed = self._parts.seal(orjson.dumps(stored), _context(claim))
        with trail.span.part(JOURNAL, step=Step.ANSWERED):
            settled = await self._parts.journal.run(claims.answered(claim, sealed, final), locks=claim.locks)
        if isinstance(settled, Stamp):
            trail.stamp = settled
            return None
        return settled


def _context(claim: Claim) -> bytes:
    return f"answer|{claim.system}|{claim.key}".encode()


def _providers_key(claim: Claim) -> str:
    """The key as the provider gets it: the consumers' keys must not meet there."""
    return hashlib.sha256(f"{claim.system}|{claim.key}".encode()).hexdigest()[:32]
