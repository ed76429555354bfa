"""The second decision (DESIGN section 6, step 5): before each hand-over policy is asked whether it may still go."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TypeAlias

import orjson

from gateway.core import policy
from gateway.core.delivery import Go, Snapshot, hand_over
from gateway.core.minimise import minimise
from gateway.core.model import AgencyId, Agreement, Catalogue, Grant, Kind, ServiceId, SystemId, agency_of
from gateway.core.shape import parse
from gateway.edge.documents import envelope
from gateway.edge.documents.records import RECEIPT, Out, Seal
from gateway.edge.store import Driver

MARGIN = 5.0
"""Seconds that may lie between the reading of a catalogue and its use: by so much it is taken to be older."""

MAX_DECISIONS = 10_000
"""Decisions of a day that are remembered, each for one sender, recipient, service, purpose and mandate."""

_Asked: TypeAlias = tuple[SystemId, AgencyId, ServiceId, str, AgencyId | None]
_PURPOSE = "select purpose from subscriptions where system = $1 and publisher = $2 and service = $3"
Told: TypeAlias = tuple[SystemId, AgencyId, ServiceId]
"""Subscriber, publisher, service."""
Purposes: TypeAlias = Mapping[Told, str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a delivery may be handed over now."""

    go: Go
    code: str | None = None
    """The refusal's, where it may not."""
    agreement: Agreement | None = None
    grant: Grant | None = None
    """What permits it; None of a receipt, for which nobody asks."""


class Second:
    """Asks policy about deliveries that are about to be handed over."""

    def __init__(
        self,
        reader: Driver,
        catalogue: Callable[[], Catalogue],
        unseal: Seal,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """``catalogue`` gives the one in force; it may raise Refusal while nobody knows what is suspended."""
        self._reader = reader
        self._catalogue = catalogue
        self._unseal = unseal
        self._steady = steady
        self._decisions: dict[_Asked, policy.Decision] = {}
        self._made: tuple[Catalogue, date] | None = None
        self._digest = ""
        self._since = self._seen = steady()

    def look(self, present: Catalogue) -> None:
        """Notice that another catalogue is in use; somebody calls it every few seconds."""
        now = self._steady()
        if present.digest != self._digest:
            # it was taken into use after the last look: not earlier, so that it is never believed to know too much
            self._digest, self._since = present.digest, self._seen
        self._seen = now

    async def ask(self, outs: Sequence[Out]) -> tuple[Verdict, ...]:
        """One verdict for each. Raises Refusal journal.unavailable, or StoreFailed."""
        present, at = self._catalogue(), datetime.now(UTC)
        self.look(present)
        purposes = await self._purposes(outs, present)
        decisions = [None if out.kind == RECEIPT else self._decided(present, out, purposes, at) for out in outs]
        if all(decision is None or decision.permitted for decision in decisions):
            return tuple(
                Verdict(Go.NOW) if each is None else Verdict(Go.NOW, None, each.agreement, each.grant)
                for each in decisions
            )
        now = float((await self._reader.read("select {now}"))[0][0])
        snapshot = Snapshot(present.digest, now - (self._steady() - self._since) - MARGIN)
        return tuple(_verdict(out, each, snapshot, now) for out, each in zip(outs, decisions, strict=True))

    def _decided(self, present: Catalogue, out: Out, purposes: Purposes, at: datetime) -> policy.Decision:
        paper = out.paper
        if paper.kind is Kind.EVENT and out.subscriber is not None:
            told = (out.subscriber, agency_of(paper.sender), paper.service)
            return _told(present, told, purposes.get(told), at)
        purpose = envelope.head_of(out, self._unseal)["purpose"]
        asked = (paper.sender, out.recipient, paper.service, purpose, paper.on_behalf)
        return self._decisions_of(present, at).get(asked) or self._redecided(present, asked, at)

    def _decisions_of(self, present: Catalogue, at: datetime) -> Mapping[_Asked, policy.Decision]:
        """What was decided by this catalogue today: a decision depends on the two, and on who asks for what."""
        made = (present, at.astimezone(present.zone).date())
        if self._made != made or len(self._decisions) >= MAX_DECISIONS:
            self._made, self._decisions = made, {}
        return self._decisions

    def _redecided(self, present: Catalogue, asked: _Asked, at: datetime) -> policy.Decision:
        sender, recipient, service, purpose, on_behalf = asked
        decision = self._decisions[asked] = policy.redecide(
            present,
            consumer=sender,
            provider=recipient,
            service=service,
            purpose=purpose,
            on_behalf=on_behalf,
            at=at,
        )
        return decision

    async def _purposes(self, outs: Sequence[Out], present: Catalogue) -> Purposes:
        """For which purpose each subscriber is told, as its folder says, or as it subscribed by the API."""
        wanted = {
            (out.subscriber, agency_of(out.paper.sender), out.paper.service)
            for out in outs
            if out.subscriber is not None and out.kind != RECEIPT
        }
        known = {told: purpose for told in wanted if (purpose := _declared(present, told)) is not None}
        for told in wanted - known.keys():
            rows = await self._reader.read(_PURPOSE, told)
            if rows:
                known[told] = str(rows[0][0])
        return known


def _declared(present: Catalogue, told: Told) -> str | None:
    """The purpose in the subscriber's folder."""
    agency = present.agencies.get(agency_of(told[0]))
    for each in agency.subscriptions if agency else ():
        if (each.system, each.publisher, each.service) == told:
            return each.purpose
    return None


def _told(present: Catalogue, told: Told, purpose: str | None, at: datetime) -> policy.Decision:
    """Whether a subscriber may be told.

    Whoever has unsubscribed meanwhile was a recipient when it was published: any purpose that is permitted will do.
    """
    system, publisher, service = told
    grants = present.grants.get((publisher, service, system), ())
    possible = (purpose,) if purpose is not None else sorted({each for _, grant in grants for each in grant.purposes})
    decisions = [
        policy.redecide(
            present, consumer=system, provider=publisher, service=service, purpose=each, on_behalf=None, at=at
        )
        for each in possible or (None,)
    ]
    return next((each for each in decisions if each.permitted), decisions[0])


def _verdict(out: Out, decision: policy.Decision | None, snapshot: Snapshot, now: float) -> Verdict:
    if decision is None:
        return Verdict(Go.NOW)
    go = hand_over(decision.code, submitted_by=out.catalogue, submitted=out.submitted, present=snapshot, now=now)
    return Verdict(go, decision.code, decision.agreement, decision.grant)


def cuts(verdict: Verdict) -> bool:
    """Whether a subscriber may see a part of an event only, even where that happens to be all of it."""
    return verdict.grant is not None and verdict.grant.disclose is not None


def released(raw: bytes, verdict: Verdict) -> bytes:
    """What of an event its subscriber may see; a document goes whole."""
    if verdict.grant is None or verdict.grant.disclose is None:
        return raw
    return orjson.dumps(minimise(parse(raw), verdict.grant.disclose))
