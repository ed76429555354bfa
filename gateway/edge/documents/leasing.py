"""What a poller gets out of its agency's mailbox: leased, decided upon once more, unsealed."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
import structlog

from gateway.core.delivery import Go, State
from gateway.core.model import Agency, SystemId
from gateway.core.refusal import Refusal
from gateway.edge.documents import envelope, lanes, mailbox
from gateway.edge.documents.records import RECEIPT, Lane, Opened, Out, Result, Seal, Settlement
from gateway.edge.documents.scribe import Scribe
from gateway.edge.documents.second import Second, Verdict, cuts, released
from gateway.edge.documents.tour import UNREADABLE_SECONDS
from gateway.edge.evidence import new_id
from gateway.edge.journal import Book, Journal
from gateway.edge.keys import NotOpened
from gateway.edge.store import Plan

LEASE_SECONDS = 60
"""For which what a poller got is its own; it may renew them."""
MAX_AT_ONCE = 10
"""Documents that one step of a lease loads."""
MAX_STEPS = 20
"""Steps of one lease; some may find only what must wait."""
MAX_BYTES = 8 * 2**20
"""Of bodies, after which a lease takes no more."""
PAUSE_SECONDS = 10.0
"""For which a lane is left alone whose next document must wait, because somebody is suspended, say."""

log = structlog.get_logger()

_STILL = "update lanes set lease = lease where recipient = $1 and okey = $2 and owner = $3 returning okey"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a poller asks for."""

    agency: Agency
    system: SystemId
    unit: str | None
    most: int

    @property
    def ways(self) -> tuple[str, ...]:
        """By which the system may fetch."""
        return tuple(each.name for each in self.agency.deliveries if each.pulled and each.admits(self.system))

    @property
    def own(self) -> SystemId | None:
        """Whose receipts it may get; None: all of the agency's."""
        return self.system if self.agency.documents_by_system else None


@dataclass(frozen=True, slots=True)
class Given:
    """A document that may be handed out."""

    told: Mapping[str, Any]
    """Its envelope."""
    body: bytes
    """JSON: of a receipt its claims."""

    @property
    def shown(self) -> Mapping[str, Any]:
        """As it leaves: the body's own bytes stand in it."""
        return {**self.told, "body": orjson.Fragment(self.body)}


@dataclass(frozen=True, slots=True)
class Leased:
    """What a poller holds."""

    claim: str
    given: tuple[Given, ...]
    lanes: tuple[Lane, ...]


class Leases:
    """Takes out of mailboxes what may be handed out."""

    def __init__(self, post: Journal, scribe: Scribe, second: Second, unseal: Seal) -> None:
        self._post = post
        self._scribe = scribe
        self._second = second
        self._unseal = unseal

    async def take(self, wanted: Wanted) -> Leased:
        """As much as there is and fits; what may not go now stays, and what never may is settled.

        Raises Refusal journal.unavailable, or StoreFailed.
        """
        claim = new_id()
        given: list[Given] = []
        held: list[Lane] = []
        try:
            for _ in range(MAX_STEPS):
                most = min(MAX_AT_ONCE, wanted.most - len(given))
                if most <= 0 or sum(len(each.body) for each in given) >= MAX_BYTES:
                    break
                lease = mailbox.lease(
                    wanted.agency.id,
                    wanted.ways,
                    wanted.unit,
                    max=most,
                    seconds=LEASE_SECONDS,
                    claim=claim,
                    own=wanted.own,
                )
                found = await self._post.run(lease)
                if not found:
                    break
                held += found
                kept, fit = await self._sifted(found)
                held[-len(found) :] = kept
                given += fit
        except BaseException:
            with contextlib.suppress(Refusal):  # what cannot be given back now is free when the lease ends
                await self.give_back(held)
            raise
        return Leased(claim, tuple(given), tuple(held))

    async def give_back(self, held: Sequence[Lane]) -> None:
        """Leased, and certainly not handed out: as untouched as before."""
        if held:
            settled = [Settlement(lane, (), 0.0) for lane in held]
            await self._post.run(lanes.settle(settled, self._scribe), lanes=[lane.key for lane in held])

    async def _sifted(self, found: Sequence[Lane]) -> tuple[list[Lane], list[Given]]:
        """The lanes of which something may go now, and what. Where something never may, its lane is settled first."""
        outs = [out for lane in found for out in lane.out]
        opened = {out.seq: plain for out in outs if (plain := self._opened(out)) is not None}
        sound = [out for out in outs if out.seq in opened]
        verdicts = dict(zip((out.seq for out in sound), await self._second.ask(sound), strict=True))
        now = {seq for seq, verdict in verdicts.items() if verdict.go is Go.NOW}
        kept: list[Lane] = []
        tails: list[Lane] = []
        settled: list[Settlement] = []
        for lane in found:
            over = [out for out in lane.out if out.seq in opened and verdicts[out.seq].go is Go.NEVER]
            most = next((at for at, out in enumerate(lane.out) if out.seq not in now), len(lane.out))
            if over:  # the rest of the lane comes with the next step
                settled.append(Settlement(lane, tuple(_never(out, verdicts[out.seq]) for out in over), 0.0))
            elif most == 0:
                readable = lane.out[0].seq in opened if lane.out else True
                settled.append(Settlement(lane, (), PAUSE_SECONDS if readable else UNREADABLE_SECONDS))
            else:
                kept.append(replace(lane, out=lane.out[:most]))
                if most < len(lane.out):
                    tails.append(replace(lane, out=lane.out[most:]))
        if settled or tails:
            await self._settle(settled, tails)
        return kept, [_given(out, opened[out.seq], verdicts[out.seq]) for lane in kept for out in lane.out]

    def _opened(self, out: Out) -> Opened | None:
        """None: it can be handed to nobody, and must not stand in the way of others."""
        with contextlib.suppress(NotOpened):
            opened = envelope.unsealed(out, self._unseal)
            if opened.raw is not None:
                return opened
        log.error("inbox_unreadable", document=out.paper.id, recipient=out.recipient, kind=out.kind)
        return None

    async def _settle(self, settled: Sequence[Settlement], tails: Sequence[Lane]) -> None:
        ended = [result.out.paper for each in settled for result in each.results]

        def plan(book: Book) -> Plan[None]:
            if settled:
                yield from lanes.settle(settled, self._scribe)(book)
            for lane in tails:
                rows = yield _STILL, (*lane.key, lane.claim)
                if rows:
                    yield from lanes.given_back([Settlement(lane, (), 0.0)])

        receipts = [key for paper in ended for key in self._scribe.lanes(paper)]
        await self._post.run(
            plan, lanes={*(each.lane.key for each in settled), *(each.key for each in tails), *receipts}
        )


def _given(out: Out, opened: Opened, verdict: Verdict) -> Given:
    raw = opened.raw
    assert raw is not None  # noqa: S101 - for the type checker; _opened looked
    if out.kind == RECEIPT:
        return Given(envelope.envelope(out, opened.head), orjson.dumps(envelope.claims(raw)))
    shown = released(raw, verdict)
    return Given(envelope.envelope(out, opened.head, shown if cuts(verdict) else None), shown)


def _never(out: Out, verdict: Verdict) -> Result:
    return Result(out, State.UNDELIVERABLE, sent=False, reason=verdict.code)
