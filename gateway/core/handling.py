"""What an agency's agent does with a record, given what it knows of the document: tables, and no memory of their own.

The agent writes a document down as ``begun`` before it hands it over, so that nothing which happens to it afterwards
can lead to a second hand-over that nobody knows of, or to none. Each table is one of ``docs/agent.md``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.core.delivery import BY_RECIPIENT, Reason, State, ended

MAX_TRIES = 12
"""Hand-overs of one document that its system fails on, or that kill the agent, before it is rejected."""


class Standing(StrEnum):
    """What is known of a document here."""

    BEGUN = "begun"
    """It was about to be handed over: the system may have it."""
    FREE = "free"
    """It was not taken, and the last attempt had no effect."""
    UNKNOWN = "unknown"
    """The system may have it, and must not get it twice: a person says what is true."""
    TAKEN = "taken"
    """The system has it."""
    REFUSED = "refused"
    """The system refused it, or failed on it too often."""
    PASSED = "passed"
    """Its life had ended, or somebody else had handed it over, before it was read here."""


class Outcome(StrEnum):
    """What the gateway is told."""

    RETRIEVED = "retrieved"
    REGISTERED = "registered"
    REJECTED = "rejected"


class Verdict(StrEnum):
    """What a person says of an unknown outcome."""

    TAKEN = "taken"
    """The system has it."""
    AGAIN = "again"
    """The system does not have it: it is handed over again."""
    REJECTED = "rejected"
    """The system does not have it, and is not to get it."""


class Why(StrEnum):
    """Why a record was not taken."""

    NO_EVENT = "no_event"
    """It is no document of a gateway."""
    NOT_GENUINE = "not_genuine"
    """Nothing that the gateway signed says that these bytes are for this agency."""
    OTHER_BYTES = "other_bytes"
    """Another document came under the same id before."""
    UNREADABLE = "unreadable"
    """It is not even a record: its bytes break off, or are compressed in a way that is not known here."""


class Step(StrEnum):
    """What is done next with a record."""

    ASK = "ask"
    """Ask the gateway how it stands: somebody else may have handed it over."""
    HAND_OVER = "hand_over"
    STOP = "stop"
    """Hand nothing over behind it until a person has said what is true."""
    PASS = "pass"  # noqa: S105 - a step, no secret
    """It was dealt with: on to the next."""
    TELL = "tell"
    """The same, and its outcome is told again, each time: the gateway does not know it, or it would not have sent it
    again. Nobody signed the count, so that it is not kept: a forged one would hide all that follow."""
    GIVE_UP = "give_up"
    """Reject it: there were too many tries."""
    ALARM = "alarm"
    """It is not what came under this id before: on to the next, and tell people."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a record that was found genuine says."""

    document: str
    service: str
    partition: int
    position: int
    redelivery: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Known:
    """What the agent's memory holds of a document."""

    document: str
    service: str
    partition: int
    position: int
    redelivery: int
    digest: bytes
    standing: Standing
    tries: int = 0
    """Those that count towards MAX_TRIES."""
    touched: bool = False
    """An attempt from here may have had an effect."""
    repeated: bool = False
    """Another member of the group may have handed it over; the system is told so, as of a touched one."""
    outcome: Outcome | None = None
    number: str | None = None
    reason: Reason | None = None


class _Repeat(StrEnum):
    SAME = "same"
    LATE = "late"
    """An operator had it handed over again since then."""


MET: Mapping[Standing | None, Mapping[_Repeat, Step]] = {
    None: {_Repeat.SAME: Step.HAND_OVER, _Repeat.LATE: Step.HAND_OVER},
    Standing.BEGUN: {_Repeat.SAME: Step.HAND_OVER, _Repeat.LATE: Step.HAND_OVER},
    Standing.FREE: {_Repeat.SAME: Step.HAND_OVER, _Repeat.LATE: Step.HAND_OVER},
    Standing.UNKNOWN: {_Repeat.SAME: Step.STOP, _Repeat.LATE: Step.STOP},
    Standing.TAKEN: {_Repeat.SAME: Step.PASS, _Repeat.LATE: Step.TELL},
    Standing.REFUSED: {_Repeat.SAME: Step.PASS, _Repeat.LATE: Step.HAND_OVER},
    Standing.PASSED: {_Repeat.SAME: Step.PASS, _Repeat.LATE: Step.HAND_OVER},
}
"""What is done with a genuine record, before it is asked whether that may be done twice, stands so at the gateway, and
was tried too often."""


def met(record: Record, known: Known | None, *, takes_key: bool, doubtful: bool) -> Step:
    """The next step.

    ``takes_key``: the system may be handed the same document again. ``doubtful``: another member of the group may have
    handed over what is not known here.
    """
    late = known is not None and _late(record, known)
    if known is not None and known.digest != record.digest and record.redelivery <= known.redelivery:
        return Step.ALARM
    step = MET[known.standing if known else None][_Repeat.LATE if late else _Repeat.SAME]
    if step is not Step.HAND_OVER:
        return step
    if known is not None and _may_have_it(known) and not takes_key:
        return Step.STOP
    if late or (known is None and doubtful):  # nobody signed how often it was requeued: only the gateway knows
        return Step.ASK
    if known is None:
        return step
    return Step.GIVE_UP if known.tries >= MAX_TRIES else step


def _late(record: Record, known: Known) -> bool:
    """It was requeued since then, or says so: a count that somebody forged must not hide a true one below it."""
    elsewhere = (record.partition, record.position) != (known.partition, known.position)
    return record.redelivery > known.redelivery or (record.redelivery > 0 and elsewhere)


def _may_have_it(known: Known) -> bool:
    return known.standing is Standing.BEGUN or (known.standing is Standing.FREE and known.touched)


def answered(state: str | None) -> Step:
    """What the gateway's word on a document that is not known here makes of it; None: it knows none with this id."""
    if state is None:  # it signed the document, and may have been set up from an older backup since
        return Step.HAND_OVER
    try:
        at = State(state)
    except ValueError:  # of a newer gateway: whoever hands over what he does not understand may do it twice
        return Step.ASK
    if at is State.HELD:  # it is on the topic, and should not be
        return Step.ASK
    return Step.PASS if ended(at) or at is State.RETRIEVED else Step.HAND_OVER


def over(state: str | None) -> bool:
    """Whether nobody is handed it any more, as the gateway tells: then nothing need be known of it here.

    None: it keeps nothing of it any more. What is undeliverable an operator may requeue.
    """
    return state is None or (state != State.UNDELIVERABLE and answered(state) is Step.PASS)


def begun(record: Record, known: Known | None, *, repeated: bool = False) -> Known:
    """As it is written down before the hand-over: this is a try, also if nobody lives to see its end."""
    if known is None or _late(record, known):
        return replace(_of(record, Standing.BEGUN), tries=1, repeated=repeated)
    return replace(
        _of(record, Standing.BEGUN),
        tries=known.tries + 1,
        touched=known.touched or known.standing is Standing.BEGUN,
        repeated=known.repeated or repeated,
    )


def passed(record: Record) -> Known:
    """Somebody else dealt with it."""
    return _of(record, Standing.PASSED)


def stopped(known: Known) -> Known:
    """A person must say whether the system has it."""
    return replace(known, standing=Standing.UNKNOWN, touched=True)


def taken(known: Known, number: str | None) -> Known:
    """The system has taken it."""
    outcome = Outcome.RETRIEVED if number is None else Outcome.REGISTERED
    return replace(known, standing=Standing.TAKEN, outcome=outcome, number=number, reason=None)


def refused(known: Known, reason: Reason) -> Known:
    """The system refused it. A reason that a recipient may not give becomes one that it may."""
    said = reason if reason in BY_RECIPIENT else Reason.REFUSED_BY_SYSTEM
    return replace(known, standing=Standing.REFUSED, outcome=Outcome.REJECTED, number=None, reason=said)


def given_up(record: Record, known: Known) -> Known:
    """It was tried too often."""
    return refused(replace(known, partition=record.partition, position=record.position), Reason.REFUSED_BY_SYSTEM)


@dataclass(frozen=True, slots=True)
class Failure:
    """The system did not take it (as ``handover.NotTaken`` says)."""

    sent: bool
    """False only where it is certain that nothing of it had any effect."""
    whole: bool
    """It takes nothing now."""
    reason: Reason | None = None
    """For good."""


def failed(known: Known, failure: Failure, *, takes_key: bool) -> Known:
    """What a hand-over that failed makes of a document that is ``begun``.

    A system that takes nothing at all wears out no tries: an hour of it must not turn into rejections.
    """
    if failure.reason is not None and (failure.reason in BY_RECIPIENT or failure.reason is Reason.TOO_LARGE):
        return refused(known, failure.reason)
    effect = failure.sent and failure.reason is not Reason.STOPPED
    if effect and not takes_key:
        return stopped(known)
    tries = known.tries - 1 if failure.whole else known.tries
    if tries >= MAX_TRIES:
        return refused(known, Reason.REFUSED_BY_SYSTEM)
    return replace(known, standing=Standing.FREE, tries=tries, touched=known.touched or effect)


def settled(known: Known, verdict: Verdict, number: str | None) -> Known:
    """What a person's word makes of an unknown outcome."""
    match verdict:
        case Verdict.TAKEN:
            return taken(known, number)
        case Verdict.AGAIN:
            return replace(known, standing=Standing.FREE, tries=0, touched=False)
        case Verdict.REJECTED:
            return refused(known, Reason.OTHER)


def _of(record: Record, standing: Standing) -> Known:
    return Known(
        document=record.document,
        service=record.service,
        partition=record.partition,
        position=record.position,
        redelivery=record.redelivery,
        digest=record.digest,
        standing=standing,
    )


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a partition at its assignment."""

    begins: int
    """The first position that the topic still holds."""
    ends: int
    """The position of the next record that will be written."""
    committed: int | None
    """Where the group stands."""
    reached: int | None
    """Up to where records were finished here."""
    doubt: int | None
    """What stands beside that (``doubt_of``); None: it was not this memory that wrote it."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where reading begins."""

    position: int
    doubtful_below: int
    """Below it, another member may have handed over what is not known here."""
    expected: int | None
    """Where it should have begun, if records went unread."""


def start(found: Found) -> Start:
    """Where reading begins: never at the newest, and never silently behind something that was not read."""
    expected = found.committed if found.committed is not None else found.reached or 0
    fits = found.begins <= expected <= found.ends
    lost = not fits or (found.committed is None and found.reached is not None)
    # where the group's position is lost, the oldest that there is: what was finished is known, here or at the gateway
    position = expected if fits and found.committed is not None else found.begins
    # a memory that stands behind the group's position was set up from an older copy
    whole = fits and found.reached is not None and found.reached >= expected
    doubt = found.doubt if whole and found.doubt is not None else found.ends
    return Start(position, doubt if doubt > position else 0, expected if lost else None)


def beside(identity: str, position: int, doubtful_below: int) -> str:
    """What a memory writes beside the group's position: who it is, and its doubt, for as long as that lasts.

    Without the doubt, a member that is interrupted behind another one's position would believe its own name there.
    """
    return f"{identity} {doubtful_below}" if position < doubtful_below else identity


def doubt_of(said: str, identity: str) -> int | None:
    """What this memory wrote there: 0 for no doubt. None: another one wrote it, or nobody did."""
    name, _, doubt = said.partition(" ")
    if name != identity or (doubt and not doubt.isdecimal()):
        return None
    return int(doubt or 0)
