"""The life of a document at one recipient: a table of states and what may become of them (DESIGN section 6).

``next_step`` is asked for everything that happens to a delivery: by the dispatcher, a recipient's outcome, a sender's
recall, the sweeper of deadlines, an operator. The same table is drawn in ``docs/documents.md``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class State(StrEnum):
    """What is true of a document at one recipient; each makes a receipt."""

    HELD = "held"
    """It waits for a second person."""
    SUBMITTED = "submitted"
    """The gateway holds it durably."""
    ARRIVED = "arrived"
    """It is in the recipient's system or mailbox."""
    RETRIEVED = "retrieved"
    """The recipient has fetched it."""
    REGISTERED = "registered"
    """A clerk gave it a register number."""
    REJECTED = "rejected"
    """The recipient refused it, with a coded reason."""
    DECLINED = "declined"
    """The second person said no."""
    RECALLED = "recalled"
    """The sender withdrew it."""
    EXPIRED = "expired"
    """The service's ``deliver_within`` passed."""
    UNDELIVERABLE = "undeliverable"
    """It cannot be handed over, for good, until an operator requeues it."""


class Happening(StrEnum):
    """What happens to a delivery."""

    APPROVED = "approved"
    DECLINED = "declined"
    HANDED_OVER = "handed_over"
    """The recipient's system has taken it."""
    RETRIEVED = "retrieved"
    REGISTERED = "registered"
    REJECTED = "rejected"
    FORWARDED = "forwarded"
    """It goes on to another unit of the same recipient."""
    RECALLED = "recalled"
    EXPIRED = "expired"
    GIVEN_UP = "given_up"
    """A permanent reason stands against handing it over."""
    REQUEUED = "requeued"


class Reason(StrEnum):
    """Why a document was rejected, or cannot be delivered."""

    WRONGLY_ADDRESSED = "wrongly_addressed"
    NOT_COMPETENT = "not_competent"
    INCOMPLETE = "incomplete"
    DEFECTIVE = "defective"
    DUPLICATE = "duplicate"
    STALE_RECORD = "stale_record"
    """The record has changed since the sender looked at it."""
    REFUSED_BY_SYSTEM = "refused_by_system"
    OTHER = "other"
    NO_WAY = "no_way"
    """The recipient's folder names no way for the service any more."""
    RECIPIENT_FULL = "recipient_full"
    """As many of the publisher's events wait for the subscriber as may."""
    TOO_LARGE = "too_large"
    STOPPED = "stopped"
    """The recipient's system said that it takes nothing any more (HTTP 410)."""
    NOT_PERMITTED = "not_permitted"
    """The agreement ended meanwhile; the receipt names the refusal's code."""


BY_RECIPIENT = frozenset(
    {
        *(Reason.WRONGLY_ADDRESSED, Reason.NOT_COMPETENT, Reason.INCOMPLETE, Reason.DEFECTIVE, Reason.DUPLICATE),
        *(Reason.STALE_RECORD, Reason.REFUSED_BY_SYSTEM, Reason.OTHER),
    }
)
"""The reasons with which a recipient may reject."""

_OUTCOMES = {
    Happening.RETRIEVED: State.RETRIEVED,
    Happening.REGISTERED: State.REGISTERED,
    Happening.REJECTED: State.REJECTED,
}

TABLE: Mapping[State, Mapping[Happening, State]] = {
    State.HELD: {
        Happening.APPROVED: State.SUBMITTED,
        Happening.DECLINED: State.DECLINED,
        Happening.RECALLED: State.RECALLED,
        Happening.EXPIRED: State.EXPIRED,
    },
    State.SUBMITTED: {
        Happening.HANDED_OVER: State.ARRIVED,
        **_OUTCOMES,
        Happening.RECALLED: State.RECALLED,
        Happening.EXPIRED: State.EXPIRED,
        Happening.GIVEN_UP: State.UNDELIVERABLE,
    },
    State.ARRIVED: {
        **_OUTCOMES,
        Happening.FORWARDED: State.ARRIVED,
        Happening.RECALLED: State.RECALLED,
        Happening.EXPIRED: State.EXPIRED,
        Happening.GIVEN_UP: State.UNDELIVERABLE,
        Happening.REQUEUED: State.SUBMITTED,
    },
    State.RETRIEVED: {Happening.REGISTERED: State.REGISTERED, Happening.REJECTED: State.REJECTED},
    State.REGISTERED: {},
    State.REJECTED: {},
    State.DECLINED: {},
    State.RECALLED: {},
    State.EXPIRED: {},
    State.UNDELIVERABLE: {Happening.REQUEUED: State.SUBMITTED},
}


@dataclass(frozen=True, slots=True)
class Position:
    """Where a delivery stands."""

    state: State
    open: bool
    """Its lane has yet to hand it out."""
    touched: bool
    """It may have been sent, or somebody leased it."""
    leased: bool = False
    """Its lane is held by a claim that has not run out."""


@dataclass(frozen=True, slots=True)
class Moved:
    """It becomes this."""

    to: State
    unconfirmed: bool = False
    """It may have reached the recipient nevertheless."""


@dataclass(frozen=True, slots=True)
class Unmoved:
    """It is so already, or came too late to matter: nothing changes, and whoever asks gets what stands."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It may not be: a code of ``core.refusal``."""

    code: str
    disputed: bool = False
    """A recipient speaks of a document whose life has ended: journaled, and the sender is told."""


Step: TypeAlias = Moved | Unmoved | Refused


def ended(state: State) -> bool:
    """Whether nothing can become of it by itself."""
    return not TABLE[state] or state is State.UNDELIVERABLE


def next_step(at: Position, happening: Happening) -> Step:
    """What a happening makes of a delivery."""
    to = TABLE[at.state].get(happening)
    match happening:
        case Happening.RETRIEVED | Happening.REGISTERED | Happening.REJECTED | Happening.FORWARDED:
            return _outcome(at, happening, to)
        case Happening.RECALLED:
            return _recall(at, to)
        case Happening.EXPIRED:
            running = at.state is State.HELD or (at.open and not at.leased)
            return Moved(to, unconfirmed=at.touched) if to is not None and running else Unmoved()
        case Happening.GIVEN_UP:
            return Moved(to) if to is not None and at.open else Unmoved()  # what arrived by a push is out of our hands
        case Happening.HANDED_OVER:
            return Moved(to) if to is not None else Unmoved()
        case _:
            decided = happening in (Happening.APPROVED, Happening.DECLINED)
            kept = happening is Happening.REQUEUED and at.open  # a mailbox loses nothing of what has arrived
            no = Refused("approval.decided" if decided else "document.state")
            return no if to is None or kept else Moved(to)


def _outcome(at: Position, happening: Happening, to: State | None) -> Step:
    """A recipient's word counts from the first hand-over on, and implies that the document arrived."""
    if at.state.value == happening.value:
        return Unmoved()
    if to is None:
        return Refused("document.ended" if ended(at.state) else "document.state", disputed=ended(at.state))
    if not at.touched:
        return Refused("document.state")
    return Moved(to)


def _recall(at: Position, to: State | None) -> Step:
    if at.state is State.RECALLED:
        return Unmoved()
    if to is None:
        return Refused("document.ended" if ended(at.state) else "document.may_have_arrived")
    if at.touched or not (at.open or at.state is State.HELD):
        return Refused("document.may_have_arrived")
    return Moved(to)


SETTLED = 600.0
"""Seconds after which every node is believed to know the catalogue under which a document was submitted."""


class Go(StrEnum):
    """What the second decision, before each hand-over, makes of it."""

    NOW = "now"
    LATER = "later"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The catalogue by which a process decides."""

    digest: str
    adopted: float
    """Not later than it was taken into use, in seconds since 1970 on the database's clock."""


def hand_over(code: str | None, *, submitted_by: str, submitted: float, present: Snapshot, now: float) -> Go:
    """What a permit (``code`` is None) or a refusal means for a document: who is suspended waits, what ended is over.

    A refusal is final only where this process knows as much as the one that took the document in, by the catalogue with
    the digest ``submitted_by``: a node that has not read a new agreement yet must not give up what was sent under it.
    """
    if code is None:
        return Go.NOW
    if code == "policy.suspended":
        return Go.LATER
    knows = present.digest == submitted_by or present.adopted > submitted or now - submitted > SETTLED
    return Go.NEVER if knows else Go.LATER
