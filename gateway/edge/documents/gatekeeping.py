"""What tours say of a recipient as a whole: its gate is closed, opened, or left as it is."""

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from gateway.core.backoff import pause
from gateway.core.delivery import Reason
from gateway.core.model import agency_of
from gateway.edge.documents import gates
from gateway.edge.documents.positions import Work
from gateway.edge.documents.takers import Key, mark
from gateway.edge.documents.tour import Hand, Tour
from gateway.edge.journal import Book
from gateway.edge.store import Plan
from gateway.protocols.handover import NotTaken

STREAK = 5
"""Failures of different documents in a row that close a gate: then it is not the documents."""
STOPPED_SECONDS = 365 * 86400.0
"""A system that said that it takes nothing any more (HTTP 410) is left alone until its folder changes."""
STOPPED = "stopped"
"""What such a gate's reason begins with; the mark of the way follows."""
UNCHANGED = -1

log = structlog.get_logger()

Streaks: TypeAlias = MutableMapping[Key, set[str]]
"""Documents that failed since the last success of a way, where any did."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is done about a gate, in the transaction that settles the tours."""

    plan: Work[int] | None
    """Gives the failures in a row by then; 0 where it was opened, UNCHANGED where nothing is known."""
    fault: NotTaken | None = None
    """Why it closes."""

    @property
    def shuts(self) -> bool:
        """Nothing more is to be handed over now."""
        return self.fault is not None


def judged(key: Key, tours: Sequence[Tour], streaks: Streaks, chance: float) -> Verdict:
    """One that does not answer at all is left alone, one that fails with each document too, and a probe that failed."""
    probe = any(tour.lane.probe for tour in tours)
    faults = sorted((tour.fault for tour in tours if tour.fault), key=_weight)
    streak = _streak(key, tours, streaks)
    if not faults or not (probe or streak or any(fault.whole for fault in faults)):
        if not probe:
            return Verdict(None)
        return Verdict(_opened(key) if any(tour.answered for tour in tours) else _not_used(key))
    worst = faults[0]
    stopped = worst.reason is Reason.STOPPED
    way = next((tour.way for tour in tours if tour.way), None)
    reason = f"{STOPPED} {mark(way)}" if stopped and way else worst.detail

    def seconds(failures: int) -> float:
        """Where it answers, the documents may be to blame: what comes for it waits seconds then, not minutes."""
        counted = failures if worst.whole else min(failures, STREAK)
        return STOPPED_SECONDS if stopped else pause(counted, chance, worst.retry_after)

    return Verdict(gates.close(*key, seconds, reason, probe=probe), worst)


def judging(settling: Work[list[bool]], verdict: Verdict) -> Work[tuple[list[bool], int | None]]:
    """Settle, and do it to the gate: not where every claim was lost, or it was settled already.

    A COMMIT whose answer is lost is run again where nothing in the journal says that it happened: the gate must not
    count one failure twice.
    """

    def plan(book: Book) -> Plan[tuple[list[bool], int | None]]:
        kept = yield from settling(book)
        return kept, (yield from verdict.plan(book)) if verdict.plan and any(kept) else None

    return plan


def _streak(key: Key, tours: Sequence[Tour], streaks: Streaks) -> bool:
    """Whether documents failed one after the other, and no other one was taken or refused between them."""
    for tour in tours:
        if tour.answered:
            streaks.pop(key, None)
        if tour.fault and not tour.fault.whole and len(failed := streaks.setdefault(key, set())) < STREAK:
            failed.add(tour.results[-1].out.paper.id)
    return len(streaks.get(key, ())) >= STREAK


def _weight(fault: NotTaken) -> tuple[bool, bool, float]:
    """The worst comes first."""
    return fault.reason is not Reason.STOPPED, not fault.whole, -(fault.retry_after or 0.0)


def _opened(key: Key) -> Work[int]:
    opening = gates.open_(*key)

    def plan(book: Book) -> Plan[int]:
        return 0 if (yield from opening(book)) else UNCHANGED

    return plan


def _not_used(key: Key) -> Callable[[Book], Plan[int]]:
    """The probe's document may not go, which says nothing of the recipient."""

    def plan(_: Book) -> Plan[int]:
        yield from gates.not_used(*key)
        return UNCHANGED

    return plan


def tell(key: Key, verdict: Verdict, failures: int | None) -> None:
    """Log that a gate was closed or opened; not that it stays so."""
    ids = {"recipient": key[0], "way": key[1]}
    if verdict.fault is None:
        if failures == 0:
            log.info("gate_opened", **ids)
    elif verdict.fault.reason is Reason.STOPPED:
        log.warning("way_stopped", **ids)
    elif failures == 1:
        log.warning("gate_closed", **ids, why=verdict.fault.detail)


def receipts(tours: Sequence[Tour], hand: Hand) -> Iterator[Key]:
    """The ways by which senders are told of what these tours came to, where somebody hands over on them."""
    for agency in {agency_of(each.out.paper.sender) for tour in tours for each in tour.results if each.to}:
        sender = hand.agency(agency)
        if sender is not None and sender.receipts is not None and not sender.receipts.pulled:
            yield agency, sender.receipts.name
