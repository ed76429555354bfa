"""What is cleared away and set right beside the documents' road: empty lanes, old bodies, ways that have changed."""

from collections.abc import Sequence
from typing import Any

from gateway.core.delivery import State, ended
from gateway.core.life import End, Life
from gateway.core.model import AgencyId, Catalogue, ServiceId, Way
from gateway.edge.documents.positions import FOUND, Work, delivery_of
from gateway.edge.documents.records import RECEIPT
from gateway.edge.documents.scribe import Scribe
from gateway.edge.journal import Book
from gateway.edge.store import Plan, Reads

DAY = 86_400.0
LEAST_DAYS = 30
"""Days for which a body is kept at least, whatever its service says."""
KEPT_DAYS = 365
"""The same for documents whose service is in the catalogue no more."""

_ORDER = (State.ARRIVED, State.RETRIEVED, State.REGISTERED)


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
    """Delete bodies whose documents ended everywhere longer ago than they are kept, with their uses of files.

    The document's row, its steps and its receipts stay, and with them the sender's reference.
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
    running = ", ".join(f"'{state.value}'" for state in _running(life.done_at if life else End.ARRIVED))
    keeps = (
        "not exists (select 1 from deliveries x where x.document = documents.id and x.kind <> 'receipt' "  # noqa: S608
        f"and (x.open or x.state in ({running}) or x.changed >= {{now}} - $2))"
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
    places = ", ".join(f"${place}" for place in range(3, 3 + len(rows)))
    ids = [row[0] for row in rows]
    gone = yield (
        f"update documents set body = null where {old} and id in ({places}) returning id",  # noqa: S608
        (
            service,
            seconds,
            *ids,
        ),
    )
    if gone:
        yield (
            "with v(id) as ({rows text}) delete from uses where document in (select id from v)",
            [row[0] for row in gone],
        )
    return len(gone)


def _running(done_at: End) -> Sequence[State]:
    """The states in which a document has not got yet what it was sent for, and may get it."""
    got = _ORDER[_ORDER.index(State(done_at.value)) :]
    return [state for state in State if not ended(state) and state not in got]


def realign(catalogue: Catalogue, scribe: Scribe) -> Work[int]:
    """Put lanes that wait on the ways that the folders name now; gives how many have another one.

    What was to be handed over and now lies in a mailbox has arrived there. Where no way is left, the lane stays on its
    old one, where a dispatcher finds that there is none.
    """

    def plan(book: Book) -> Plan[int]:
        rows = yield (
            (
                "select distinct l.recipient, l.service, l.way, l.unit, d.kind = 'receipt' from lanes l "
                "join deliveries d on d.recipient = l.recipient and d.okey = l.okey and d.open where l.opened > 0"
            ),
            (),
        )
        count = 0
        for recipient, service, way, unit, receipts in rows:
            now = _way(catalogue, AgencyId(recipient), ServiceId(service), unit, receipts=bool(receipts))
            if now is None or (now.name, now.unit or "") == (way, unit):
                continue
            values = (recipient, service, way, unit)
            count += yield from _put(values, now, receipts=bool(receipts))
            if now.pulled:
                yield from _arrive(book, scribe, (recipient, service, now.name, now.unit or ""))
        return count

    return plan


def _way(catalogue: Catalogue, recipient: AgencyId, service: ServiceId, unit: str, *, receipts: bool) -> Way | None:
    agency = catalogue.agencies.get(recipient)
    if agency is None:
        return None
    return agency.receipts if receipts else agency.way(service, unit or None)


def _put(lanes: tuple[Any, ...], way: Way, *, receipts: bool) -> Plan[int]:
    kind = "=" if receipts else "<>"
    rows = yield (
        (
            "update lanes set way = $5, unit = $6 where recipient = $1 and service = $2 and way = $3 and unit = $4 "  # noqa: S608
            "and opened > 0 and exists (select 1 from deliveries d where d.recipient = lanes.recipient "
            f"and d.okey = lanes.okey and d.open and d.kind {kind} 'receipt') returning okey"
        ),
        (*lanes, way.name, way.unit or ""),
    )
    return len(rows)


def _arrive(book: Book, scribe: Scribe, lanes: tuple[str, ...]) -> Plan[None]:
    this = "l.recipient = $1 and l.service = $2 and l.way = $3 and l.unit = $4"
    rows = yield f"{FOUND} where {this} and d.open and d.state = 'submitted' order by d.seq", lanes
    found = [delivery_of(row) for row in rows]
    if not found:
        return
    moved = yield (
        (
            "with v(id) as ({rows int8}) update deliveries set state = 'arrived', changed = {now} from v "
            "where seq = v.id and open and state = 'submitted' returning seq"
        ),
        [each.seq for each in found],
    )
    gone = {row[0] for row in moved}
    words = [
        each.step(State.ARRIVED, State.ARRIVED, by="gateway")
        for each in found
        if each.seq in gone and each.kind != RECEIPT
    ]
    if words:
        yield from scribe.write_all(book, words, found[0].now)


async def self_check(reader: Reads) -> tuple[str, ...]:
    """What is wrong with lanes and deliveries, a sentence each; there must be none. Raises StoreFailed."""
    found = []
    for sentence, select in CHECKS.items():
        found += [f"{row[0]} {row[1]}: {sentence}" for row in await reader.read(select)]
    return tuple(found)


CHECKS = {
    "the lane does not count what is open in it": (
        "select l.recipient, l.okey from lanes l left join (select recipient, okey, count(*) as n from deliveries "
        "where open group by recipient, okey) d on d.recipient = l.recipient and d.okey = l.okey "
        "where l.opened <> coalesce(d.n, 0)"
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
