"""What is cleared away and set right beside the documents' road: empty lanes, old bodies, ways that have changed."""

from dataclasses import dataclass
from typing import Any

from gateway.core.delivery import State
from gateway.core.life import Life
from gateway.core.model import AgencyId, Catalogue, ServiceId, Way
from gateway.edge.documents.positions import FOUND, Work, delivery_of
from gateway.edge.documents.records import RECEIPT
from gateway.edge.documents.scribe import Scribe
from gateway.edge.journal import Book
from gateway.edge.store import Plan, Reads, Rows

DAY = 86_400.0
LEAST_DAYS = 30
"""Days for which a body is kept at least, whatever its service says."""
KEPT_DAYS = 365
"""The same for documents whose service is in the catalogue no more."""

# From one service to the next by the index documents_kept, however many documents there are.
_KEPT = "select p.service from documents p where p.body is not null"
_SERVICES = (
    f"with recursive s(service) as (select ({_KEPT} order by p.service limit 1) union all "  # noqa: S608
    f"select ({_KEPT} and p.service > s.service order by p.service limit 1) from s where s.service is not null) "
    "select service from s where service is not null"
)


def purge_lanes(limit: int) -> Work[int]:
    """Forget lanes in which nothing is; the condition stands on the locked row, so that no submission is missed."""

    def plan(_: Book) -> Plan[int]:
        empty = "select recipient, okey from lanes where opened = 0 and lease < {now} limit $1{skip_locked}"
        rows = yield (
            (
                "delete from lanes where (recipient, okey) in "  # noqa: S608
                f"(with empty as materialized ({empty}) select recipient, okey from empty) returning okey"
            ),
            (limit,),
        )
        return len(rows)

    return plan


def purge_bodies(catalogue: Catalogue, limit: int) -> Work[int]:
    """Delete bodies of documents with which nothing has happened for as long as they are kept, and their uses of files.

    In whatever state they stopped: what is never registered would be kept for ever. With the body goes its head: case,
    user, person; and the hash of who asked where a second person decided. The document's row, its steps and their
    receipts stay, and with them the sender's reference; that receipts were delivered is forgotten.
    """

    def plan(_: Book) -> Plan[int]:
        rows = yield _SERVICES, ()
        count = 0
        for (service,) in rows:
            known = catalogue.services.get(ServiceId(service))
            count += yield from _purge_service(service, known.life if known else None, limit - count)
        return count

    return plan


def _purge_service(service: str, life: Life | None, limit: int) -> Plan[int]:
    """First lock, then look: what was requeued or forwarded meanwhile is kept."""
    if limit <= 0:
        return 0
    seconds = max(life.keep_days if life else KEPT_DAYS, LEAST_DAYS) * DAY
    keeps = (
        "not exists (select 1 from deliveries x where x.document = documents.id "
        "and (x.open or x.changed >= {now} - $2))"
    )
    old = f"service = $1 and body is not null and state <> 'held' and submitted < {{now}} - $2 and {keeps}"
    rows = yield (
        f"select id from documents where {old} order by submitted limit $3{{skip_locked}}",  # noqa: S608
        (
            service,
            seconds,
            limit,
        ),
    )
    if not rows:
        return 0
    places = ", ".join(f"${place}" for place in range(4, 4 + len(rows)))
    ids = [row[0] for row in rows]
    emptied = "body = null, head = $3, requester = null"
    gone = yield (
        f"update documents set {emptied} where {old} and id in ({places}) returning id",  # noqa: S608
        (
            service,
            seconds,
            b"",
            *ids,
        ),
    )
    for beside in ("uses where", "deliveries where kind = 'receipt' and not open and") if gone else ():
        yield (
            f"with v(id) as ({{rows text}}) delete from {beside} document in (select id from v)",  # noqa: S608
            [row[0] for row in gone],
        )
    return len(gone)


def purge_gates(catalogue: Catalogue) -> Work[int]:
    """Forget gates of ways that no folder names any more, or that are fetched from: nobody will ever open them."""

    def plan(_: Book) -> Plan[int]:
        waits = "select 1 from lanes l where l.recipient = g.recipient and l.way = g.way and l.opened > 0"
        rows = yield f"select g.recipient, g.way, exists ({waits}) from gates g", ()  # noqa: S608
        count = 0
        for recipient, name, waiting in rows:
            agency = catalogue.agencies.get(AgencyId(recipient))
            way = next((each for each in agency.deliveries if each.name == name), None) if agency else None
            if way.pulled if way else not waiting:
                gone = yield "delete from gates where recipient = $1 and way = $2 returning way", (recipient, name)
                count += len(gone)
        return count

    return plan


@dataclass(frozen=True, slots=True)
class Astray:
    """Lanes that wait otherwise than the folders say now."""

    recipient: AgencyId
    service: ServiceId
    way: str
    unit: str
    receipts: bool
    to: Way

    @property
    def moves(self) -> bool:
        """To another way; otherwise something lies in a mailbox and has not arrived."""
        return (self.to.name, self.to.unit or "") != (self.way, self.unit)


def astray(catalogue: Catalogue) -> Work[tuple[Astray, ...]]:
    """Lanes whose folder names another way now, or into whose mailbox a node with a former folder put something.

    Where no way is left, a lane stays on its old one, where a dispatcher finds that there is none.
    """

    def plan(_: Book) -> Plan[tuple[Astray, ...]]:
        rows = yield (
            (
                "select distinct l.recipient, l.service, l.way, l.unit, d.kind = 'receipt', d.state = 'submitted' "
                "from lanes l join deliveries d on d.recipient = l.recipient and d.okey = l.okey and d.open "
                "where l.opened > 0"
            ),
            (),
        )
        found: dict[tuple[Any, ...], Astray] = {}
        for recipient, service, way, unit, receipts, submitted in rows:
            to = _way(catalogue, AgencyId(recipient), ServiceId(service), unit, receipts=bool(receipts))
            if to is None:
                continue
            lanes = Astray(AgencyId(recipient), ServiceId(service), way, unit, receipts=bool(receipts), to=to)
            if lanes.moves or (submitted and to.pulled):
                found[recipient, service, way, unit, bool(receipts)] = lanes
        return tuple(found.values())

    return plan


def realign(lanes: Astray, scribe: Scribe, limit: int, overdue_seconds: float | None) -> Work[int]:
    """Put so many of the lanes that nobody has in hand where they belong; gives how much was changed, 0: nothing.

    What was to be handed over and now lies in a mailbox has arrived there: so many at a time, and then its lane moves.
    ``overdue_seconds``: from now until it should be registered.
    """

    def plan(book: Book) -> Plan[int]:
        free = f"{_among(lanes)} and lease < {{now}} limit $5{{skip_locked}}"
        # whoever had it in hand, and comes after its lease has ended, has lost its claim by then
        rows = yield (
            (
                "update lanes set owner = null, lease = 0 where (recipient, okey) in "  # noqa: S608
                f"(with free as materialized ({free}) select recipient, okey from free) returning recipient, okey"
            ),
            (*_values(lanes), limit),
        )
        if not rows:
            return 0
        arrived = (yield from _arrive(book, scribe, rows, limit, overdue_seconds)) if lanes.to.pulled else 0
        return arrived + (yield from _put(rows, lanes.to))

    return plan


def remains(lanes: Astray) -> Work[bool]:
    """Whether there are some still: that were in somebody's hands, or are too many for one round."""

    def plan(_: Book) -> Plan[bool]:
        return bool((yield f"{_among(lanes)} limit 1", _values(lanes)))

    return plan


def _among(lanes: Astray) -> str:
    kind = "=" if lanes.receipts else "<>"
    state = "" if lanes.moves else " and d.state = 'submitted'"
    return (
        "select recipient, okey from lanes where recipient = $1 and service = $2 and way = $3 and unit = $4 "  # noqa: S608
        "and opened > 0 and exists (select 1 from deliveries d "
        "where d.recipient = lanes.recipient and d.okey = lanes.okey and d.open "
        f"and d.kind {kind} 'receipt'{state})"
    )


def _values(lanes: Astray) -> tuple[str, ...]:
    return lanes.recipient, lanes.service, lanes.way, lanes.unit


def _way(catalogue: Catalogue, recipient: AgencyId, service: ServiceId, unit: str, *, receipts: bool) -> Way | None:
    agency = catalogue.agencies.get(recipient)
    if agency is None:
        return None
    return agency.receipts if receipts else agency.way(service, unit or None)


def _put(lanes: Rows, way: Way) -> Plan[int]:
    """Into a mailbox only when all of the lane has arrived."""
    waits = "select 1 from deliveries d where d.recipient = v.r and d.okey = v.o and d.open and d.state = 'submitted'"
    arrived = f" and not exists ({waits})" if way.pulled else ""
    rows = yield (
        (
            "with v(r, o, w, u) as ({rows text text text text}) update lanes set way = v.w, unit = v.u from v "  # noqa: S608
            f"where recipient = v.r and okey = v.o{arrived} returning okey"
        ),
        [value for row in lanes for value in (*row, way.name, way.unit or "")],
    )
    return len(rows)


def _arrive(book: Book, scribe: Scribe, lanes: Rows, limit: int, overdue_seconds: float | None) -> Plan[int]:
    rows = yield (
        (
            f"with v(r, o) as ({{rows text text}}) {FOUND} join v on d.recipient = v.r and d.okey = v.o "
            f"where d.open and d.state = 'submitted' order by d.seq limit {limit:d}"
        ),
        [value for row in lanes for value in row],
    )
    found = [delivery_of(row) for row in rows]
    if not found:
        return 0
    moved = yield (
        (
            "with v(id, seconds) as ({rows int8 float8}) update deliveries set state = 'arrived', changed = {now}, "
            "overdue = {now} + v.seconds from v where seq = v.id and open and state = 'submitted' returning seq"
        ),
        [value for each in found for value in (each.seq, overdue_seconds)],
    )
    gone = {row[0] for row in moved}
    words = [
        each.step(State.ARRIVED, State.ARRIVED, by="gateway")
        for each in found
        if each.seq in gone and each.kind != RECEIPT
    ]
    if words:
        yield from scribe.write_all(book, words, found[0].now)
    return len(gone)


async def self_check(reader: Reads) -> tuple[str, ...]:
    """What is wrong with lanes and deliveries, a sentence each; there must be none. Raises StoreFailed."""
    found = []
    for sentence, select in CHECKS.items():
        found += [f"{row[0]} {row[1]}: {sentence}" for row in await reader.read(select)]
    return tuple(found)


CHECKS = {
    "the lane does not count what is open in it": (  # added up, not joined: as fast whatever a planner believes
        "select recipient, okey from (select recipient, okey, opened, 1 as lane from lanes "
        "union all select recipient, okey, -1, 0 from deliveries where open) each "
        "group by recipient, okey having sum(opened) <> 0 and sum(lane) = 1"
    ),
    "something is open in a lane that is not there": (
        "select d.recipient, d.okey from deliveries d where d.open and not exists "
        "(select 1 from lanes l where l.recipient = d.recipient and l.okey = d.okey)"
    ),
    "what has ended is open": (
        "select d.recipient, d.document from deliveries d where d.open and d.state not in ('submitted', 'arrived')"
    ),
    "what was submitted is neither open nor ended": (
        "select d.recipient, d.document from deliveries d where not d.open and d.state = 'submitted'"
    ),
    "there is no body to hand over": (
        "select d.recipient, d.document from deliveries d join documents p on p.id = d.document "
        "where d.open and d.kind <> 'receipt' and p.body is null"
    ),
}
