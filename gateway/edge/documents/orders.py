"""What operators can order of documents: that one goes out again, or that its time is over."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from gateway.core.delivery import Refused, State
from gateway.core.document import to_register
from gateway.core.model import AgencyId, Catalogue, ServiceId, Way
from gateway.edge.control import Orders, Outcome, hold_fields
from gateway.edge.documents import ends, gates
from gateway.edge.documents.ends import Answer, Changed
from gateway.edge.documents.positions import Work
from gateway.edge.documents.scribe import Scribe
from gateway.edge.evidence import ordered
from gateway.edge.journal import Book
from gateway.edge.store import Plan, Rows

ANYWHERE = "*"
"""Instead of a recipient: wherever it stands so."""

_FIELDS = ("document", "recipient", "reason", "who")
_OF = "select recipient, service, unit, state, open from deliveries where document = $1 and kind <> 'receipt'"
_HELD = "select recipient, service, '', state, true from documents where id = $1 and state = 'held'"
_FOUND = f"select recipient, service, unit, state, open from ({_OF} union all {_HELD}) found"  # noqa: S608 - constants


def orders(scribe: Scribe, catalogue: Callable[[], Catalogue]) -> Orders:
    """``requeue_document``, ``expire_document`` and ``reopen_way``."""
    return {
        "requeue_document": partial(_requeue, scribe, catalogue),
        "expire_document": partial(_expire, scribe),
        "reopen_way": partial(_reopen, scribe.instance),
    }


def _requeue(scribe: Scribe, catalogue: Callable[[], Catalogue], fields: Mapping[str, str]) -> Work[Outcome]:
    hold_fields(fields, _FIELDS)
    order = ends.Order(fields["who"], fields["reason"])

    def plan(book: Book) -> Plan[Outcome]:
        done: list[str] = []
        left: list[str] = []
        for recipient, service, unit, state, is_open in (yield from _deliveries(fields)):
            lost = state == State.ARRIVED and not is_open and fields["recipient"] != ANYWHERE
            if state != State.UNDELIVERABLE and not lost:
                left.append(f"it is {state} at {recipient}")
                continue
            present = catalogue()
            way = _way(present, recipient, service, unit)
            if way is None:
                left.append(f"the folder of {recipient} names no way for {service}")
                continue
            overdue = to_register(present, ServiceId(service), datetime.now(UTC))
            anew = ends.Anew(way.name, way.unit or "", pulled=way.pulled, overdue_seconds=overdue)
            again = ends.requeue(fields["document"], AgencyId(recipient), order, anew, scribe)
            _sort(recipient, (yield from again(book)), done, left)
        return _told(fields["document"], "goes out again to", done, left)

    return plan


def _way(catalogue: Catalogue, recipient: str, service: str, unit: str) -> Way | None:
    agency = catalogue.agencies.get(AgencyId(recipient))
    return agency.way(ServiceId(service), unit or None) if agency else None


def _expire(scribe: Scribe, fields: Mapping[str, str]) -> Work[Outcome]:
    hold_fields(fields, _FIELDS)
    order = ends.Order(fields["who"], fields["reason"])

    def plan(book: Book) -> Plan[Outcome]:
        done: list[str] = []
        left: list[str] = []
        for recipient, _, _, state, is_open in (yield from _deliveries(fields)):
            if not is_open:
                left.append(f"it is {state} at {recipient}")
                continue
            over = ends.expire_now(fields["document"], AgencyId(recipient), order, scribe)
            _sort(recipient, (yield from over(book)), done, left)
        return _told(fields["document"], "is expired for", done, left)

    return plan


def _reopen(instance: str, fields: Mapping[str, str]) -> Work[Outcome]:
    """Whatever closed it, also a 410: what waits goes with the next look; the next failure closes it anew."""
    hold_fields(fields, ("recipient", "way", "reason", "who"))
    recipient, way = fields["recipient"], fields["way"]

    def plan(book: Book) -> Plan[Outcome]:
        if not (yield from gates.open_(AgencyId(recipient), way)(book)):
            none = f"the way {way} of {recipient} is not closed: `gateway documents list` names those that are"
            return Outcome(done=False, text=none)
        book.write(ordered(instance, "reopen", fields["who"], fields["reason"], recipient=recipient, way=way))
        return Outcome(done=True, text=f"the way {way} of {recipient} is open: what waits is handed over again")

    return plan


def _deliveries(fields: Mapping[str, str]) -> Plan[Rows]:
    """Of the document, to one recipient or to all; what is held has none yet, and stands for one."""
    values: tuple[str, ...] = (fields["document"],)
    if fields["recipient"] == ANYWHERE:
        return (yield f"{_FOUND} order by recipient", values)
    return (yield f"{_FOUND} where recipient = $2", (*values, fields["recipient"]))


def _sort(recipient: str, answer: Answer, done: list[str], left: list[str]) -> None:
    if isinstance(answer, Changed):
        done.append(recipient)
    else:
        why = "somebody has it in hand just now" if isinstance(answer, Refused) else "it stands so already"
        left.append(f"{why} at {recipient}")


def _told(document: str, what: str, done: Sequence[str], left: Sequence[str]) -> Outcome:
    """What was done, or why nothing was."""
    if done:
        return Outcome(done=True, text=f"{document} {what} {_some(done)}")
    if left:
        return Outcome(done=False, text=f"{document} was left as it is: {_some(left)}")
    return Outcome(
        done=False, text=f"there is no such delivery of {document}: `gateway documents show` says where it is"
    )


def _some(words: Sequence[str]) -> str:
    """A line has room for a few."""
    more = f" and {len(words) - 5} more" if len(words) > 5 else ""
    return ", ".join(words[:5]) + more
