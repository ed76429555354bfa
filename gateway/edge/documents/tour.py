"""One claimed lane on its round: its documents handed over in order, until one of them cannot be."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

import structlog

from gateway.core.backoff import pause
from gateway.core.delivery import BY_RECIPIENT, Go, Reason, State
from gateway.core.document import to_register
from gateway.core.model import KAFKA, Agency, AgencyId, Catalogue, Standing, Way
from gateway.core.refusal import Refusal
from gateway.edge.documents.attesting import Attests
from gateway.edge.documents.envelope import handed, unsealed
from gateway.edge.documents.records import RECEIPT, Lane, Out, Result, Seal, Settlement
from gateway.edge.documents.second import Second, Verdict, cuts, released
from gateway.edge.documents.takers import Key
from gateway.edge.keys import NotOpened
from gateway.edge.store import StoreFailed, StoreRefused
from gateway.edge.telemetry import Meters, place
from gateway.protocols.handover import Accepted, Handed, NotTaken

LONGEST_WAIT = 60.0
"""Seconds at most for which a lane is left alone whose next document may not go now, its agreement being suspended,
say: what is lifted goes on within them."""
UNREADABLE_SECONDS = 300.0
"""The same where a document cannot be opened, or has no way: somebody has to mend that."""

LEAST_LEASE = 5.0
LEASE_DEADLINES = 2.5
"""Seconds, and deadlines of the way, that a claim lasts: what a process that was killed had in hand waits as long."""
USABLE = 0.8
"""Of a lease: what is begun later could end after it, and somebody else may hold the lane by then."""

log = structlog.get_logger()


class HandsOver(Protocol):
    """``Takers``."""

    async def hand_over(self, key: Key, handed: Handed) -> Accepted:
        """Raises NotTaken."""

    def away(self, key: Key) -> bool:
        """It is known that nothing can be handed over now, and nothing has to be tried to find out that it can."""


@dataclass(frozen=True, slots=True)
class Hand:
    """What a tour needs of the process."""

    catalogue: Callable[[], Catalogue]
    """The one in force. Raises Refusal while nobody knows what is suspended."""
    second: Second
    takers: HandsOver
    unseal: Seal
    meters: Meters
    tell: Callable[[Key, NotTaken, str], None]
    """Of what was not taken, with the document's id."""
    attest: Attests
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random

    def agency(self, name: AgencyId) -> Agency | None:
        """As the catalogue has it; None also while nobody knows what is suspended."""
        try:
            return self.catalogue().agencies.get(name)
        except Refusal:
            return None


@dataclass(slots=True, eq=False)
class Tour:
    """What becomes of one lane's documents."""

    hand: Hand
    way: Way | None
    """None: the recipient's folder does not name it any more."""
    key: Key
    lane: Lane
    until: float
    """On the hand's clock: no hand-over is begun that could last longer."""
    results: list[Result] = field(default_factory=list)
    back_off: float = 0.0
    fault: NotTaken | None = None
    """Why it ended early, where that is the recipient's."""
    at: Out | None = None
    """What is with the recipient just now."""
    stopping: bool = False
    """Nothing more is to be begun."""

    @property
    def answered(self) -> bool:
        """The recipient's system took something, or refused it by itself: it is there."""
        return any(each.to is not None and each.sent for each in self.results)

    @property
    def again(self) -> bool:
        """The lane may be claimed again at once."""
        return not self.back_off and self.fault is None and not (self.lane.alone and self.results)

    def settlement(self) -> Settlement:
        """As it ends the claim. What was with the recipient when the tour was broken off may have reached it."""
        ended = (*self.results, Result(self.at, None, sent=True)) if self.at else tuple(self.results)
        return Settlement(self.lane, ended, self.back_off)

    async def go(self) -> None:
        """Until the lane is through, its time is up, or something stands against going on. Raises nothing."""
        for out in self.lane.out:
            seconds = self.way.deadline if self.way else 0.0
            if self.stopping or self.hand.clock() + seconds > self.until:
                return
            try:
                if not await self._passed(out):
                    return
            except (Refusal, StoreFailed, StoreRefused):  # of the second decision: nobody can tell now
                self.at = None
                self._wait(out, self._later(out), "waits")
                return
            except Exception as error:  # noqa: BLE001 - one document's trouble must not end the way of all others
                log.error("handover_failed", **_ids(self.key, out), **place(error))  # noqa: TRY400 - no traceback in a line
                sent, self.at = self.at is not None, None
                self._wait(out, UNREADABLE_SECONDS, "failed", sent=sent)
                return

    async def _passed(self, out: Out) -> bool:
        """Whether the next one may follow."""
        (verdict,) = await self.hand.second.ask((out,))
        if self.way is None:
            return self._wayless(out, verdict)
        match verdict.go:
            case Go.LATER:
                return self._wait(out, self._later(out), "waits")
            case Go.NEVER:
                return self._ended(Result(out, State.UNDELIVERABLE, sent=False, reason=verdict.code))
            case _:
                return await self._handed(out, verdict, self.way)

    def _wayless(self, out: Out, verdict: Verdict) -> bool:
        """Given up only where policy would be asked no more either: this process may know less than another one."""
        if verdict.go is Go.NEVER:
            return self._ended(Result(out, State.UNDELIVERABLE, sent=False, reason=Reason.NO_WAY))
        return self._wait(out, UNREADABLE_SECONDS if out.kind == RECEIPT else self._later(out), "waits")

    async def _handed(self, out: Out, verdict: Verdict, way: Way) -> bool:
        hand, catalogue = self.hand, self.hand.catalogue()  # asked before anything is sent: it may raise
        try:
            opened = unsealed(out, hand.unseal)
        except NotOpened:
            log.error("handover_unreadable", **_ids(self.key, out))  # noqa: TRY400 - no traceback in a line
            return self._wait(out, UNREADABLE_SECONDS, "failed")
        if opened.raw is None:
            return self._ended(Result(out, State.UNDELIVERABLE, sent=False, reason=Reason.OTHER))
        raw = opened.raw if out.kind == RECEIPT else released(opened.raw, verdict)
        told = handed(out, opened, raw, way.deadline, cut=cuts(verdict))
        if way.protocol == KAFKA and (statement := hand.attest(out, told)) is not None:
            told = replace(told, statement=statement)
        begun, self.at = hand.clock(), out
        try:
            accepted = await hand.takers.hand_over(self.key, told)
        except NotTaken as fault:
            self.at = None
            return self._not_taken(out, fault)
        finally:
            hand.meters.handed_over(way.protocol, hand.clock() - begun)
        self.at = None
        number = accepted.number if out.kind != RECEIPT else None
        to = State.ARRIVED if number is None else State.REGISTERED
        overdue = None
        if to is State.ARRIVED and out.kind != RECEIPT:
            overdue = to_register(catalogue, out.paper.service, datetime.now(UTC))
        return self._ended(Result(out, to, sent=True, number=number, overdue_seconds=overdue))

    def _not_taken(self, out: Out, fault: NotTaken) -> bool:
        self.hand.tell(self.key, fault, out.paper.id)
        if fault.reason is not None and not fault.whole:
            to = State.REJECTED if fault.reason in BY_RECIPIENT else State.UNDELIVERABLE
            return self._ended(Result(out, to, sent=fault.sent, reason=fault.reason))
        self.fault = fault
        if fault.whole:
            stopped = fault.reason is Reason.STOPPED
            # it may be this document at which the system hangs, and the others come first when it is asked again
            alone = fault.sent and not stopped and fault.retry_after is None
            seconds = pause(out.attempts, self.hand.chance()) if alone else 0.0
            return self._wait(out, seconds, "stopped" if stopped else "unavailable", sent=fault.sent)
        seconds = pause(out.attempts, self.hand.chance(), fault.retry_after)
        return self._wait(out, seconds, "failed", sent=fault.sent)

    def _later(self, out: Out) -> float:
        """Seconds until the second decision is asked again: soon at first, seldom where it takes long."""
        return min(LONGEST_WAIT, pause(out.attempts, self.hand.chance()))

    def _ended(self, result: Result) -> bool:
        """It has left the lane."""
        self.results.append(result)
        self._count(str(result.to))
        return True

    def _wait(self, out: Out, seconds: float, outcome: str, *, sent: bool = False) -> bool:
        """It stays, and holds back its lane."""
        self.results.append(Result(out, None, sent=sent))
        self.back_off = seconds
        self._count(outcome)
        return False

    def _count(self, outcome: str) -> None:
        protocol = self.way.protocol if self.way else "none"
        self.hand.meters.delivery(self.key[0], protocol, outcome)


def _ids(key: Key, out: Out) -> Mapping[str, str]:
    return {"document": out.paper.id, "recipient": key[0], "way": key[1]}


def lease(way: Way | None) -> float:
    """Seconds of a claim: of 80 % of them a whole hand-over is left, whatever went before it."""
    return LEAST_LEASE + LEASE_DEADLINES * (way.deadline if way else 0.0)


def served(catalogue: Catalogue, key: Key) -> tuple[bool, Way | None]:
    """Whether anything is handed over to the recipient by the way now, and the way, where its folder names it."""
    agency = catalogue.agencies.get(AgencyId(key[0]))
    if agency is None:
        return True, None
    way = next((each for each in agency.deliveries if each.name == key[1]), None)
    if way is not None and way.pulled:
        return False, way
    active = agency.standing is Standing.ACTIVE and (way is None or way.standing is Standing.ACTIVE)
    return active, way
