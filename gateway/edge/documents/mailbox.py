"""Mailboxes: an agency's poller leases lanes, with what waits in them, and shows the lease when it answers.

Two pollers never hold one lane. A poller that forgets loses its lease with time, and the next one gets the same again.
"""

from collections.abc import Sequence

from gateway.core.delivery import Refused, State
from gateway.core.model import AgencyId, SystemId
from gateway.edge.documents.ends import UNKNOWN, Answer, Changed, Unchanged
from gateway.edge.documents.lanes import Chosen, choose, take
from gateway.edge.documents.positions import FOUND, Work, delivery_of, let_go, move
from gateway.edge.documents.records import Lane
from gateway.edge.journal import Book
from gateway.edge.store import Plan

MAX_LEASED = 100
"""Documents that one call leases at most."""

FOREIGN = (
    "exists (select 1 from deliveries x join documents y on y.id = x.document where x.recipient = {0}.recipient "
    "and x.okey = {0}.okey and x.open and x.kind = 'receipt' and y.sender <> {1})"
)
"""A lane with receipts of what another system than {1} sent."""


def lease(
    agency: AgencyId,
    ways: Sequence[str],
    unit: str | None,
    *,
    max: int,  # noqa: A002 - the word of GET /v1/inbox
    seconds: float,
    claim: str,
    own: SystemId | None = None,
) -> Work[tuple[Lane, ...]]:
    """So many documents at most, for so many seconds: whole lanes as far as they go, each lane oldest first.

    ``own``: of receipts only those of what this system sent.
    """
    most = min(max, MAX_LEASED)

    def plan(_: Book) -> Plan[tuple[Lane, ...]]:
        if not ways or most < 1:
            return ()
        places = ", ".join(f"${place}" for place in range(3, 3 + len(ways)))
        which, values = f"recipient = $2 and way in ({places})", (agency, *ways)
        if unit is not None:
            which, values = f"{which} and unit = ${3 + len(ways)}", (*values, unit)
        if own is not None:
            which, values = f"{which} and not {FOREIGN.format('lanes', f'${len(values) + 2}')}", (*values, own)
        chosen = yield from choose(which, values, most)
        lanes: list[Lane] = []
        for each, count in _shares(chosen, most):
            lanes += yield from take(each, claim, per_lane=count, seconds=seconds)
        return tuple(lanes)

    return plan


def _shares(chosen: Sequence[Chosen], most: int) -> Sequence[tuple[Sequence[Chosen], int]]:
    """Lanes that are leased whole, and how much of the last one; the others stay for the next poller."""
    whole: list[Chosen] = []
    for each in chosen:
        left = most - sum(lane.opened for lane in whole)
        if not left:
            break
        if each.opened > left:
            return [*([(whole, most)] if whole else []), ([each], left)]
        whole.append(each)
    return [(whole, most)]


def renew(agency: AgencyId, claim: str, seconds: float) -> Work[int]:
    """Hold the leased lanes for so many seconds from now; gives how many there are: 0 where the lease has ended."""

    def plan(_: Book) -> Plan[int]:
        rows = yield (
            (
                "update lanes set lease = {now} + $3, due = {now} + $3 "
                "where recipient = $1 and opened > 0 and owner = $2 and lease >= {now} returning okey"
            ),
            (agency, claim, seconds),
        )
        return len(rows)

    return plan


def taken(agency: AgencyId, document: str, entry: str, lease: str | None) -> Work[Answer]:
    """A sender has taken a receipt, named by the entry of its step, out of its mailbox; nothing is written of it."""

    def plan(_: Book) -> Plan[Answer]:
        this = "d.document = $1 and d.recipient = $2 and d.kind = 'receipt' and d.step = (select seq from steps s "
        this += "where s.document = $1 and s.entry = $3)"
        # the lane is locked by a change that changes nothing, as for every other end
        lanes = f"select d.recipient, d.okey from deliveries d where {this}"  # noqa: S608
        values = (document, agency, entry)
        yield f"update lanes set opened = opened where (recipient, okey) in ({lanes})", values  # noqa: S608
        rows = yield f"{FOUND} where {this}", values
        if not rows:
            return UNKNOWN
        found = delivery_of(rows[0])
        if not found.position.open:
            return Unchanged(found.position.state, None)
        if lease is None or found.owner != lease:
            return Refused("document.lease")
        yield from move([found.move(State.RETRIEVED)])
        yield from let_go((found.recipient, found.okey), lease)
        return Changed(State.RETRIEVED, None)

    return plan
