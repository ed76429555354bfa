"""The second person's word on a document that waits for it: one decision, by somebody else than who asked."""

from collections.abc import Callable, Sequence

from gateway.core.delivery import Happening, Position, Refused, State, next_step
from gateway.edge.documents.opening import deliver
from gateway.edge.documents.records import Addressee, Step, Taken
from gateway.edge.documents.scribe import Scribe
from gateway.edge.documents.submitting import arrivals, openings
from gateway.edge.journal import Book
from gateway.edge.store import Plan

_OPEN = "where id = $1 and state = 'held' and expires > {now} and requester <> $2"
_APPROVE = f"update documents set state = 'submitted', expires = {{now}} + $3 {_OPEN} returning {{now}}"  # noqa: S608
_DECLINE = f"update documents set state = 'declined' {_OPEN} returning {{now}}"  # noqa: S608 - the same
_STANDS = "select state, requester = $2, expires <= {now} from documents where id = $1"


def approve(
    person: bytes, step: Step, addressee: Addressee, seconds: float, scribe: Scribe
) -> Callable[[Book], Plan[Taken | Refused]]:
    """Let it go out: from now on it has its place in its lane, and ``seconds`` to be delivered.

    ``person`` is the keyed hash of who decides. To be run with the addressee's lane and the scribe's.
    """

    def plan(book: Book) -> Plan[Taken | Refused]:
        rows = yield _APPROVE, (step.paper.id, person, seconds)
        if not rows:
            return (yield from _refused(step.paper.id, person, Happening.APPROVED))
        yield from deliver(list(openings(step.paper, [addressee], seconds)))
        steps = [step, *arrivals(step.paper, [addressee])]
        return (yield from _written(book, steps, rows[0][0], scribe))

    return plan


def decline(person: bytes, step: Step, scribe: Scribe) -> Callable[[Book], Plan[Taken | Refused]]:
    """Stop it for good. To be run with the scribe's lane."""

    def plan(book: Book) -> Plan[Taken | Refused]:
        rows = yield _DECLINE, (step.paper.id, person)
        if not rows:
            return (yield from _refused(step.paper.id, person, Happening.DECLINED))
        return (yield from _written(book, [step], rows[0][0], scribe))

    return plan


def _written(book: Book, steps: Sequence[Step], at: float, scribe: Scribe) -> Plan[Taken]:
    first, *_ = yield from scribe.write_all(book, steps, at)
    return Taken(steps[0].paper.id, steps[0].state, first.receipt or b"", new=True, entry=str(first.stamp))


def _refused(document: str, person: bytes, happening: Happening) -> Plan[Refused]:
    """Why nothing was changed."""
    rows = yield _STANDS, (document, person)
    if not rows:
        return Refused("document.unknown")
    kept, same, late = rows[0]
    state = State.EXPIRED if kept == State.HELD and late else State(kept)
    if state is State.HELD and same:
        return Refused("approval.same_person")
    step = next_step(Position(state, open=False, touched=False), happening)
    return step if isinstance(step, Refused) else Refused("approval.decided")
