"""Times that pass: what is handed over too late expires, and what is not registered in time is said to be overdue."""

from collections.abc import Sequence

from gateway.core.delivery import TABLE, Happening, Moved, State, next_step
from gateway.edge.documents.positions import FOUND, ITSELF, Delivery, Work, delivery_of, move, paper_of
from gateway.edge.documents.records import RECEIPT, Step
from gateway.edge.documents.scribe import Scribe
from gateway.edge.journal import Book
from gateway.edge.store import Plan


def expire(limit: int, scribe: Scribe) -> Work[int]:
    """End what waited longer than ``deliver_within``, never under a live lease; gives how many ended."""

    def plan(book: Book) -> Plan[int]:
        held = yield from _expire_held(book, limit, scribe)
        found = yield from _past(limit)
        steps = {each.seq: next_step(each.position, Happening.EXPIRED) for each in found}
        moved = yield from move([each.move(State.EXPIRED) for each in found if isinstance(steps[each.seq], Moved)])
        words = [_expired(each) for each in found if each.seq in moved and each.kind != RECEIPT]
        if words:
            yield from scribe.write_all(book, words, found[0].now)
        return held + len(moved)

    return plan


def _past(limit: int) -> Plan[Sequence[Delivery]]:
    """Open deliveries whose time is over, their lanes locked; without lanes that others hold: a sweep never waits.

    Those are left out before they are counted: a poller that holds on to a lane must not stop the time of all others.
    """
    past = yield (
        (
            "select d.seq, d.recipient, d.okey from deliveries d cross join lanes l "
            "where l.recipient = d.recipient and l.okey = d.okey and d.open and d.expires < {now} "
            "and l.lease < {now} order by d.expires limit $1"
        ),
        (limit,),
    )
    if not past:
        return ()
    locked = yield (
        (
            "with v(r, o) as ({rows text text}) select recipient, okey from lanes "
            "where (recipient, okey) in (select r, o from v) and lease < {now}{skip_locked}"
        ),
        [value for lane in sorted({(row[1], row[2]) for row in past}) for value in lane],
    )
    lanes = {(row[0], row[1]) for row in locked}
    ids = [row[0] for row in past if (row[1], row[2]) in lanes]
    if not ids:
        return ()
    still = "d.open and d.expires < {now} order by d.seq"
    rows = yield f"with v(id) as ({{rows int8}}) {FOUND} join v on d.seq = v.id where {still}", ids
    found = [delivery_of(row) for row in rows]
    return [each for each in found if (each.recipient, each.okey) in lanes]


def _expired(each: Delivery) -> Step:
    return each.step(State.EXPIRED, State.EXPIRED, by="gateway", unconfirmed=each.position.touched)


def _expire_held(book: Book, limit: int, scribe: Scribe) -> Plan[int]:
    """Documents whose second person did not decide in time."""
    to = TABLE[State.HELD][Happening.EXPIRED]
    past = "select id from documents where state = 'held' and expires < {now} limit $1{skip_locked}"
    rows = yield (
        (
            f"update documents set state = $2 where state = 'held' and id in "  # noqa: S608
            f"(with past as materialized ({past}) select id from past) returning {', '.join(ITSELF)}, {{now}}"
        ),
        (limit, to.value),
    )
    words = [Step(paper_of(row[:7]), None, to, to, by="gateway") for row in rows]
    if words:
        yield from scribe.write_all(book, words, rows[0][7])
    return len(words)


def overdue(limit: int, scribe: Scribe) -> Work[int]:
    """Say once of what was not registered within ``register_within`` that it is overdue; gives how many."""

    def plan(book: Book) -> Plan[int]:
        past = "select seq from deliveries where overdue < {now} order by overdue limit $1{skip_locked}"
        rows = yield (
            (
                "update deliveries set overdue = null where overdue < {now} and seq in "  # noqa: S608
                f"(with past as materialized ({past}) select seq from past) returning seq"
            ),
            (limit,),
        )
        if not rows:
            return 0
        rows = yield f"with v(id) as ({{rows int8}}) {FOUND} join v on d.seq = v.id", [row[0] for row in rows]
        found = [delivery_of(row) for row in rows]
        words = [each.step("overdue", each.position.state, by="gateway") for each in found]
        yield from scribe.write_all(book, words, found[0].now)
        return len(words)

    return plan
