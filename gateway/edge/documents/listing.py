"""An agency's own documents, newest first: ``GET /v1/documents``, page by page."""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from aiohttp import web

from gateway.core import document
from gateway.core.delivery import State
from gateway.core.exchange import SERVICE
from gateway.core.identity import single
from gateway.core.model import Agency, AgencyId
from gateway.core.receipt import instant
from gateway.core.refusal import Refusal
from gateway.edge.documents import view
from gateway.edge.documents.asking import Asking, home
from gateway.edge.documents.view import REACHED
from gateway.edge.evidence import Trail
from gateway.edge.front import Released
from gateway.edge.store import Rows, Statement

ALL = "/v1/documents"
USUAL = 50
MAX_LISTED = 100
"""Documents on one page."""
MAX_LOOKED = 10_000
"""Documents among which a page looks for those of a state or a service; what is older is for the next page."""
MARGIN_SECONDS = 600.0
"""By which a document's id may be older than its row: what it waited, and how far two clocks stand apart."""

_QUERY = frozenset(("role", "state", "service", "since", "max", "after"))
_SAID = "p.id, p.kind, p.state, p.sender, p.on_behalf, p.service, p.reference, p.submitted, p.recipient"
_AT = "select 1 from deliveries d where d.document = p.id and d.kind <> 'receipt'"
_REACHED = ", ".join(f"'{state.value}'" for state in REACHED)
_STATES = (
    "select document, recipient, state from deliveries where kind <> 'receipt' and document in ({ids}) order by seq"
)
_NUMBER = re.compile(r"[0-9]{1,4}")
_AFTER = "the value of next on the page before"
_SINCE = "an instant with its offset, such as 2026-11-22T08:00:00Z"
_SHOWN_RECIPIENTS = 20
"""Of one document; the summary counts all of them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which documents."""

    sent: bool
    state: State | None
    service: str | None
    case: bytes | None
    """Keyed hash."""
    since: float | None
    most: int
    after: str | None
    """The last one of the page before."""

    @property
    def sifted(self) -> bool:
        """No index leads to them: they are looked for among all that show."""
        return self.case is None and (self.state is not None or self.service is not None)


class _Where:
    """Conditions, with their values."""

    def __init__(self, values: list[Any]) -> None:
        """``values`` of what comes before it in the statement: it goes on counting."""
        self.values = values
        self._conditions: list[str] = []

    def add(self, condition: str, *values: Any) -> None:
        """``{0}`` in the condition stands for the first of its values."""
        start = len(self.values) + 1
        self.values += values
        self._conditions.append(condition.format(*(f"${start + place}" for place in range(len(values)))))

    def __str__(self) -> str:
        return " and ".join(self._conditions)


def sent(agency: Agency, system: str, wanted: Wanted) -> Statement:
    """What the agency sent, or had sent for it; where its documents belong to systems, what this one sent."""
    pages, values = [], list[Any]()
    for where in _sent(agency, system, wanted, values):
        table = "documents"
        if wanted.sifted:
            looked = f"select p.seq, {_SAID} from documents p where {where} {_newest('p', MAX_LOOKED)}"  # noqa: S608 - words of this module
            table, where = f"({looked})", _Where(values)  # noqa: PLW2901 - the rest of its conditions
        _narrowed(where, wanted)
        pages.append(f"select p.seq, {_SAID} from {table} p where {where} {_newest('p', wanted.most + 1)}")  # noqa: S608 - the same
    return _together(pages, wanted.most + 1), values


def sent_to(agency: Agency, system: str, wanted: Wanted) -> Statement:
    """The last document among which a page of these looks, where there are so many: its number and id."""
    values: list[Any] = []
    wheres = _sent(agency, system, wanted, values)
    return _together([f"select p.seq, p.id from documents p where {each} {_last('p')}" for each in wheres], 1), values  # noqa: S608 - the same


def _sent(agency: Agency, system: str, wanted: Wanted, values: list[Any]) -> Iterator[_Where]:
    """Its own, and what others sent for it: two conditions, as each goes by an index."""
    behind = _behind(agency, system, wanted)
    for by_itself in (True, False):
        where = _Where(values)
        where.add("p.agency = {0}" if by_itself else "p.on_behalf = {0} and p.agency <> {0}", agency.id)
        if by_itself and agency.documents_by_system:
            where.add("p.sender = {0}", system)
        if wanted.after is not None:
            where.add(f"p.seq < ({behind[0]})", *behind[1])
        if wanted.since is not None:
            first = "select seq from documents where id < {0} order by id desc limit 1"
            where.add(f"p.seq > coalesce(({first}), 0)", _id(wanted.since))
            where.add("p.submitted >= {0}", wanted.since)
        yield where


def _narrowed(where: _Where, wanted: Wanted) -> None:
    if wanted.state is not None:
        where.add(
            f"(exists ({_AT} and d.state = {{0}}) or (p.state = {{0}} and not exists ({_AT})))",
            wanted.state.value,
        )
    _common(where, wanted)


def _behind(agency: Agency, system: str, wanted: Wanted) -> Statement:
    """The number of ``after``, with places for its values; none or null: no such document is the caller's.

    What reached the agency may have been withdrawn since the page before, and the next one goes on behind it all the
    same.
    """
    if not wanted.sent:
        of = "x.document = {0} and x.recipient = {1} and x.kind <> 'receipt'"
        return f"select max(x.seq) from deliveries x where {of}", (wanted.after, agency.id)  # noqa: S608 - words of this module
    of, by = "select x.seq from documents x where x.id = {0} and ", (wanted.after, agency.id)
    if agency.documents_by_system:
        return f"{of}(x.on_behalf = {{1}} or x.agency = {{1}} and x.sender = {{2}})", (*by, system)
    return f"{of}(x.on_behalf = {{1}} or x.agency = {{1}})", by


def received(agency: Agency, wanted: Wanted) -> Statement:
    """What reached the agency."""
    where = _received(agency, wanted)
    table = "deliveries d"
    if wanted.sifted:
        looked = f"select d.seq, d.document, d.state from deliveries d where {where} {_newest('d', MAX_LOOKED)}"  # noqa: S608 - words of this module
        table, where = f"({looked}) d", _Where(where.values)
    if wanted.state is not None:
        where.add("d.state = {0}", wanted.state.value)
    if wanted.case is not None:  # of an event it is the publisher's own, and nobody is to find it out by asking
        where.add("d.kind <> 'event'")
    _common(where, wanted)
    if wanted.since is not None:
        where.add("p.submitted >= {0}", wanted.since)
    join = f"{table} join documents p on p.id = d.document"
    return f"select d.seq, {_SAID} from {join} where {where} {_newest('d', wanted.most + 1)}", where.values  # noqa: S608 - the same


def received_to(agency: Agency, wanted: Wanted) -> Statement:
    """The same as ``sent_to``."""
    where = _received(agency, wanted)
    select = f"select d.seq, d.document from deliveries d where {where} {_last('d')}"  # noqa: S608 - the same
    return select, where.values


def _received(agency: Agency, wanted: Wanted) -> _Where:
    where = _Where([])
    where.add("d.recipient = {0} and d.kind <> 'receipt'", agency.id)
    where.add(f"(d.touched or d.state in ({_REACHED}))")
    if wanted.after is not None:
        select, values = _behind(agency, "", wanted)
        where.add(f"d.seq < ({select})", *values)
    if wanted.since is not None:
        # a held one's delivery is younger than its neighbours: it bounds nothing
        before = "select id from documents where id < {0} and approver is null order by id desc limit 1"
        first = f"select max(x.seq) from deliveries x where x.document = ({before}) and x.kind <> 'receipt'"  # noqa: S608
        where.add(f"d.seq > coalesce(({first}), 0)", _id(wanted.since))
    return where


def _common(where: _Where, wanted: Wanted) -> None:
    if wanted.service is not None:
        where.add("p.service = {0}", wanted.service)
    if wanted.case is not None:
        where.add("p.case_tag = {0}", wanted.case)


def _newest(table: str, most: int) -> str:
    return f"order by {table}.seq desc limit {most}"


def _last(table: str) -> str:
    return f"{_newest(table, 1)} offset {MAX_LOOKED - 1}"


def _together(selects: Iterable[str], most: int) -> str:
    """SQLite takes an order within a select of several only where that is a table."""
    each = " union all ".join(f"select * from ({select}) as t{n}" for n, select in enumerate(selects))  # noqa: S608 - words of this module
    return f"{each} order by seq desc limit {most}"


async def found(
    ask: Callable[..., Awaitable[Rows]], agency: Agency, system: str, wanted: Wanted
) -> tuple[Sequence[Sequence[Any]], str | None]:
    """A page, and behind which document the next one goes on; None: it is the last one.

    Raises Refusal request.malformed where ``after`` is not one of the caller's.
    """
    select, values = sent(agency, system, wanted) if wanted.sent else received(agency, wanted)
    rows = await ask(select, *values)
    following: str | None = None
    if wanted.sifted:
        select, values = sent_to(agency, system, wanted) if wanted.sent else received_to(agency, wanted)
        for seq, last in await ask(
            select, *values
        ):  # one at most: what was sent for it may have been seen further back
            rows, following = [row for row in rows if row[0] >= seq], last
    if len(rows) > wanted.most:
        return rows[: wanted.most], rows[wanted.most - 1][1]
    if wanted.after is not None and not rows and following is None:  # nothing is older, or nobody knows than what
        select, values = _behind(agency, system, wanted)
        if all(seq is None for (seq,) in await ask(select.format("$1", "$2", "$3"), *values)):
            raise _wrong("after", _AFTER)
    return rows, following


class Listing:
    """``GET /v1/documents``"""

    def __init__(self, asking: Asking, mac: Callable[[bytes], bytes]) -> None:
        self._asking = asking
        self._mac = mac

    def routes(self) -> tuple[web.RouteDef, ...]:
        """What the public listener serves of it."""
        return self._asking.route("GET", ALL, self._listed), self._asking.others(ALL, "GET")

    async def _listed(self, request: web.Request, trail: Trail) -> Released:
        caller = await self._asking.caller(request, trail, _QUERY)
        # a case may be somebody's: it stands in no address
        case = single(request.headers.getall("Exchange-Case", ()), "Exchange-Case")
        own, wanted = home(trail, caller), self._wanted(request.query, case)
        page, following = await found(self._asking.rows, own, caller.system, wanted)
        places = await self._places([row[1] for row in page], None if wanted.sent else own.id)
        told = {
            "documents": [_line(row[1:], places.get(row[1], []), wanted) for row in page],
            "next": following,
        }
        return Released(200, orjson.dumps(told), headers={"Cache-Control": "private, no-store"})

    async def _places(self, ids: Sequence[str], only: AgencyId | None) -> Mapping[str, list[tuple[str, str]]]:
        """Recipients and states, by document."""
        if not ids:
            return {}
        rows = await self._asking.rows(
            _STATES.format(ids=", ".join(f"${place + 1}" for place in range(len(ids)))), *ids
        )
        found: dict[str, list[tuple[str, str]]] = {}
        for identifier, recipient, state in rows:
            if only in (None, recipient):
                found.setdefault(identifier, []).append((recipient, state))
        return found

    def _wanted(self, query: Mapping[str, str], case: str | None) -> Wanted:
        """Raises Refusal request.malformed, naming the parameter and never its value."""
        role, state, service = (query.get(name) for name in ("role", "state", "service"))
        most, after = query.get("max", str(USUAL)), query.get("after")
        if role not in (None, "sent", "received"):
            raise _wrong("role", "sent or received")
        if state is not None and state not in frozenset(State):
            raise _wrong("state", "a state such as registered")
        if service is not None and SERVICE.fullmatch(service) is None:
            raise _wrong("service", "a service such as letters.official_letter.v1")
        if _NUMBER.fullmatch(most) is None or not 1 <= int(most) <= MAX_LISTED:
            raise _wrong("max", f"a number from 1 to {MAX_LISTED}")
        if after is not None and not document.is_id(after):
            raise _wrong("after", _AFTER)
        return Wanted(
            sent=role != "received",
            state=None if state is None else State(state),
            service=service,
            case=None if case is None else self._mac(document.of_case(case)),
            since=_instant(query["since"]) if "since" in query else None,
            most=int(most),
            after=after,
        )


def _id(since: float) -> str:
    """An id before which no document of that instant, or a later one, was made: ids sort by time (RFC 9562)."""
    millis = f"{max(0, int((since - MARGIN_SECONDS) * 1000)):012x}"[-12:]
    return f"{millis[:8]}-{millis[8:]}-7000-8000-000000000000"


def _instant(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise _wrong("since", _SINCE) from error
    if at.tzinfo is None:
        raise _wrong("since", _SINCE)
    return at.timestamp()


def _wrong(name: str, must: str) -> Refusal:
    return Refusal("request.malformed", f"The parameter {name} must be {must}.")


def _line(row: Sequence[Any], places: Sequence[tuple[str, str]], wanted: Wanted) -> dict[str, Any]:
    identifier, kind, state, sender, behalf, service, reference, submitted, recipient = row
    states = [each for _, each in places]
    return {
        "document": identifier,
        "kind": kind,
        "service": service,
        "sender": sender,
        "on_behalf": behalf,
        "reference": reference if wanted.sent else None,
        "submitted": instant(submitted),
        "state": view.overall(State(state), states),
        "summary": document.summary(states),
        "recipients": [each for each, _ in places[:_SHOWN_RECIPIENTS]] or ([recipient] if recipient else []),
    }
