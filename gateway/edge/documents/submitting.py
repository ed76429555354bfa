"""Takes documents and events in: once for each reference, with deliveries, entries and receipts, in one transaction.

The lanes are locked before the first statement here (``Journal.run``): so a lane's numbers are given in the order of
its commits, and nothing that commits later has a lower one.
"""

import hmac
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

from gateway.core.delivery import Reason, State
from gateway.core.entry import Bodies
from gateway.core.model import AgencyId, SystemId, agency_of
from gateway.core.refusal import Refusal
from gateway.edge.documents import files
from gateway.edge.documents.opening import Opening, deliver
from gateway.edge.documents.records import (
    Addressee,
    Lane,
    LaneKey,
    Opened,
    Out,
    Paper,
    Place,
    Reused,
    Step,
    Submission,
    Taken,
    bound_of,
    own_lane,
)
from gateway.edge.documents.scribe import Line, Scribe, Written
from gateway.edge.journal import Book
from gateway.edge.store import Driver, Plan, Rows, chunks

Outcome: TypeAlias = Taken | Reused | Refusal

_SAID = "id, kind, state, sender, agency, on_behalf, service, reference, fingerprint, digest, case_tag, catalogue"
_HOLD = "recipient, approver, role, requester"
_TYPES = "text text text text text text text text bytea bytea bytea text text text text bytea bytea bytea float8"
_DOCUMENTS = (
    f"insert into documents ({_SAID}, {_HOLD}, head, body, submitted, expires) "  # noqa: S608 - names of columns
    f"with v({_SAID}, {_HOLD}, head, body, seconds) as ({{rows {_TYPES}}}) "
    f"select {_SAID}, {_HOLD}, head, body, {{now}}, {{now}} + seconds from v where true "
    "on conflict (sender, reference) do nothing returning id, submitted"
)
# Another statement than the insert: "insert or read" in one finds nothing where it had to wait for the other's commit.
_WINNERS = (
    "with v(sender, reference) as ({rows text text}) "
    "select p.sender, p.reference, p.fingerprint, p.id, s.step, s.receipt, s.entry from v, documents p, steps s "
    "where p.sender = v.sender and p.reference = v.reference and s.document = p.id "
    "and s.seq = (select min(f.seq) from steps f where f.document = p.id)"
)

_CLOSED = (
    "with v(recipient, way) as ({rows text text}) "
    "select g.recipient, g.way from v, gates g where g.recipient = v.recipient and g.way = v.way"
)

Places: TypeAlias = Mapping[LaneKey, Place]
NOWHERE: Places = MappingProxyType({})
Winners: TypeAlias = Mapping[tuple[str, str], tuple[Taken, bytes]]
"""By sender and reference: what was taken in, and its fingerprint."""


def submit(
    submissions: Sequence[Submission], scribe: Scribe, places: Places = NOWHERE
) -> Callable[[Book], Plan[list[Outcome]]]:
    """Take them in; what of each became, in the same order. A Refusal is one's own: the others are taken in.

    What has a place is claimed from the beginning, if the gate of its way is open.
    """

    def plan(book: Book) -> Plan[list[Outcome]]:
        taken, at = yield from _inserted(submissions)
        refused = yield from _attached([each for each in submissions if each.paper.id in taken])
        new = [each for each in submissions if each.paper.id in taken and each.paper.id not in refused]
        waiting = [each for each in new if each.hold is None]
        free = yield from _open(places)
        numbers = yield from deliver(
            [opening for each in waiting for opening in openings(each.paper, each.to, each.seconds, free)]
        )
        written = yield from scribe.begin(book, [_line(each) for each in new], at)
        yield from scribe.write_all(book, [step for each in waiting for step in arrivals(each.paper, each.to)], at)
        winners = yield from _won([each for each in submissions if each.paper.id not in taken])
        found: dict[str, Outcome] = {**refused}
        for each, made in zip(new, written, strict=True):
            claimed = _claimed(each, made.receipt or b"", numbers, places, at)
            found[each.paper.id] = _taken(each, made, tuple(claimed))
        return [found.get(each.paper.id) or _repeated(each, winners) for each in submissions]

    return plan


def lanes(submissions: Iterable[Submission], scribe: Scribe) -> frozenset[LaneKey]:
    """The lanes that taking them in will count in, but for those that nobody else can know yet."""
    return frozenset(
        lane
        for each in submissions
        if each.hold is None
        for lane in (
            *(to.lane for to in each.to if to.okey != own_lane(each.paper.id)),
            *_receipts(scribe, each.paper, each.to),
        )
    )


async def known(reader: Driver, sender: SystemId, reference: str) -> tuple[Taken, bytes] | None:
    """What was taken in under the reference, and its fingerprint. Raises StoreFailed or StoreRefused."""
    return _winners(await reader.read(_WINNERS, (sender, reference))).get((sender, reference))


def openings(paper: Paper, to: Sequence[Addressee], seconds: float, places: Places = NOWHERE) -> Iterator[Opening]:
    """A delivery for each addressee; what may be claimed at once is."""
    for each in to:
        yield Opening(
            document=paper.id,
            lane=each.lane,
            way=each.way,
            unit=each.unit,
            pulled=each.pulled,
            kind=paper.kind,
            service=paper.service,
            seconds=seconds,
            subscriber=each.subscriber,
            overdue_seconds=each.overdue_seconds if each.pulled and not each.full else None,
            bound=bound_of(paper.kind, paper.sender),
            full=each.full,
            place=places.get(each.lane),
        )


def pushed(submission: Submission) -> Iterator[Addressee]:
    """To whom it may go at once: in a lane that nobody else can know yet."""
    if submission.hold is None:
        own = own_lane(submission.paper.id)
        yield from (each for each in submission.to if each.okey == own and not each.pulled and not each.full)


def arrivals(paper: Paper, to: Sequence[Addressee]) -> Iterator[Step]:
    """What lies in a mailbox has arrived; where there is no room, it never will."""
    for each in to:
        if each.full:
            lost = State.UNDELIVERABLE
            yield Step(paper, each.recipient, lost, lost, by="gateway", reason=Reason.RECIPIENT_FULL)
        elif each.pulled:
            yield Step(paper, each.recipient, State.ARRIVED, State.ARRIVED)


def _inserted(submissions: Sequence[Submission]) -> Plan[tuple[Collection[str], float]]:
    """Those that are new, and the database's time. In one order for everybody, against waiting in a circle."""
    values: list[Any] = []
    for each in sorted(submissions, key=lambda each: (each.paper.sender, each.paper.reference)):
        values += _row(each)
    taken: set[str] = set()
    at = 0.0
    for rows in chunks(values, 19):
        for document, submitted in (yield _DOCUMENTS, rows):
            taken.add(document)
            at = submitted
    return taken, at


def _row(each: Submission) -> tuple[Any, ...]:
    paper, hold = each.paper, each.hold
    agency = agency_of(paper.sender)
    state = State.SUBMITTED if hold is None else State.HELD
    said = (paper.id, paper.kind, state, paper.sender, agency, paper.on_behalf, paper.service, paper.reference)
    prints = (each.fingerprint, paper.digest, each.case_tag, each.catalogue)
    held = (each.to[0].recipient, hold.approver, hold.role, hold.requester) if hold else (None, None, None, None)
    return (*said, *prints, *held, each.head, each.body, each.seconds)


def _open(places: Places) -> Plan[Places]:
    """Those whose gate is open."""
    ways = {(recipient, place.way) for (recipient, _), place in places.items()}
    closed: set[tuple[str, str]] = set()
    for rows in chunks([name for way in ways for name in way], 2):
        closed.update((recipient, way) for recipient, way in (yield _CLOSED, rows))
    return {lane: place for lane, place in places.items() if (lane[0], place.way) not in closed}


def _attached(new: Sequence[Submission]) -> Plan[dict[str, Refusal]]:
    """Note which files go with the new ones; those are undone whose files are gone, or never were the sender's."""
    some = [each for each in new if each.attachments]
    shown: dict[AgencyId, set[str]] = {}
    for agency in sorted({agency_of(each.paper.sender) for each in some}):
        ids = sorted({file for each in some if agency_of(each.paper.sender) == agency for file in _ids(each)})
        who = files.Viewer(agency)
        rows = yield files.seen(who, ids)
        shown[agency] = set(files.kept(rows, who))
    sound = {each.paper.id: each for each in some if shown[agency_of(each.paper.sender)].issuperset(_ids(each))}
    gone = yield from files.refer([(file, document) for document, each in sound.items() for file in _ids(each)])
    refused = {}
    for each in some:
        document = each.paper.id
        if document not in sound or not gone.isdisjoint(_ids(each)):
            yield "delete from uses where document = $1", (document,)
            yield "delete from documents where id = $1", (document,)
            refused[document] = Refusal(
                "attachment.unknown", "Exchange-Attachments names a file that is not there, or not yours."
            )
    return refused


def _ids(each: Submission) -> tuple[str, ...]:
    return tuple(file.id for file in each.attachments)


def _line(each: Submission) -> Line:
    state = State.SUBMITTED if each.hold is None else State.HELD
    recipient = each.to[0].recipient if len(each.to) == 1 else None
    return Line(
        Step(each.paper, recipient, state, state, facts=each.facts),
        bodies=Bodies(received=each.raw),
        particulars=each.particulars,
        recipients=None if recipient else tuple(to.recipient for to in each.to),
        attachments=each.attachments,
    )


def _won(others: Sequence[Submission]) -> Plan[Winners]:
    values = [value for each in others for value in (each.paper.sender, each.paper.reference)]
    found: dict[tuple[str, str], tuple[Taken, bytes]] = {}
    for rows in chunks(values, 2):
        found.update(_winners((yield _WINNERS, rows)))
    return found


def _winners(rows: Rows) -> Winners:
    return {
        (sender, reference): (Taken(document, State(step), bytes(receipt), new=False, entry=entry), bytes(fingerprint))
        for sender, reference, fingerprint, document, step, receipt, entry in rows
    }


def _taken(each: Submission, made: Written, claimed: tuple[Lane, ...]) -> Taken:
    state = State.SUBMITTED if each.hold is None else State.HELD
    return Taken(each.paper.id, state, made.receipt or b"", new=True, entry=str(made.stamp), lanes=claimed)


def _claimed(
    each: Submission, receipt: bytes, numbers: Mapping[LaneKey, int], places: Places, at: float
) -> Iterator[Lane]:
    """As ``lanes.claim`` would give them."""
    for to in each.to:
        if (seq := numbers.get(to.lane)) is None:
            continue
        out = Out(
            seq=seq,
            paper=each.paper,
            recipient=to.recipient,
            okey=to.okey,
            kind=each.paper.kind,
            state=State.SUBMITTED,
            unit=to.unit,
            subscriber=to.subscriber,
            touched=False,
            attempts=1,
            requeued=0,
            submitted=at,
            since=at,
            catalogue=each.catalogue,
            head=b"",
            body=None,
            first_receipt=receipt,
            opened=Opened(each.plain, each.raw),
        )
        yield Lane(to.lane, places[to.lane].claim, each.paper.service, to.unit, (out,))


def _repeated(each: Submission, winners: Winners) -> Outcome:
    paper = each.paper
    if (winner := winners.get((paper.sender, paper.reference))) is None:  # undone, or another's that is being undone
        return Refusal("idempotency.running", "The first submission with this reference is not through.", retry_after=1)
    taken, fingerprint = winner
    return taken if hmac.compare_digest(fingerprint, each.fingerprint) else Reused()


def _receipts(scribe: Scribe, paper: Paper, to: Sequence[Addressee]) -> tuple[LaneKey, ...]:
    return scribe.lanes(paper) if any(each.pulled or each.full for each in to) else ()
