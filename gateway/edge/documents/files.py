"""What the database knows of attachments: whose they are, who may see them, what refers to them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from gateway.core.attachment import File
from gateway.core.entry import Draft, Stamp
from gateway.core.model import Agency, AgencyId, Person, ServiceId, SystemId, agency_of
from gateway.edge.journal import Book
from gateway.edge.store import Plan, Rows, Statement, chunks

KEEP = 86_400.0
"""Seconds that a file is kept after its upload, and after the last time that a document came to refer to it."""
PURGED = 100
"""Files that one round removes at most."""

# Touched: it may be in the recipient's hands, though its system has yet to say so; in a mailbox, it was leased.
_USED = "uses u join deliveries d on d.document = u.document"
_REACHED = (
    "u.attachment = a.id and d.recipient = $1 and d.kind <> 'receipt' and d.touched and d.state in "
    "('submitted', 'arrived', 'retrieved', 'registered', 'rejected')"
)
_WITH = "exists (select 1 from uses u join documents p on p.id = u.document where u.attachment = a.id and {})"
_BEHALF = _WITH.format("p.on_behalf = $1")
_HELD = _WITH.format("p.approver = $1 and p.state = 'held' and p.expires > {{now}} and p.role = {role}")
_UNUSED = "not exists (select 1 from uses u where u.attachment = a.id)"
# The oldest: two that were brought at the same moment have a row each, and from then on one of them is meant.
_AGAIN = (
    "update attachments set keep_until = {now} + $5 where id = (select min(a.id) from attachments a "
    "where a.agency = $1 and a.system = $2 and a.digest = $3 and a.media_type = $4) returning id"
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A file and where its bytes lie."""

    file: File
    name: str
    """In the vault."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who wants to see files."""

    agency: AgencyId
    system: SystemId | None = None
    """Where the agency's documents are its systems' own: of what it uploaded, what this one did."""
    post: str | None = None
    """Of the person who looks: what waits for the approval of such a one shows its files too."""
    admitted: Callable[[ServiceId, str | None], bool] | None = None
    """Whether it may have what came by the service to the unit; None: it may have all that came to the agency."""


def viewer(agency: Agency, system: SystemId, person: Person | None = None) -> Viewer:
    """A system of the agency, and whoever uses it."""
    own = system if agency.documents_by_system else None
    all_of_it = all(each.admits(system) for each in agency.deliveries)
    admitted = None if all_of_it else partial(agency.admits, system)
    return Viewer(agency.id, own, person.post if person else None, admitted)


@dataclass(frozen=True, slots=True)
class Unused:
    """What an agency uploaded and no document refers to."""

    files: int
    size: int
    """Bytes."""


def keep(system: SystemId, kept: Kept, uploaded: Callable[[File], Draft]) -> Callable[[Book], Plan[tuple[str, Stamp]]]:
    """Note a file whose bytes are all there, with its journal entry; gives its id.

    Where the system brought the same bytes before, that is the earlier one's id, for another day: a submission that is
    repeated from the beginning names the same files. The new bytes are not needed then.
    """

    def plan(book: Book) -> Plan[tuple[str, Stamp]]:
        file = kept.file
        same = yield _AGAIN, (agency_of(system), system, file.digest, file.media_type, KEEP)
        if same:
            known = same[0][0]
            return known, book.write(uploaded(replace(file, id=known)))
        columns = "id, agency, system, object, digest, size, media_type, uploaded, keep_until"
        yield (
            f"insert into attachments ({columns}) values ($1, $2, $3, $4, $5, $6, $7, {{now}}, {{now}} + $8)",  # noqa: S608
            (file.id, agency_of(system), system, kept.name, file.digest, file.size, file.media_type, KEEP),
        )
        return file.id, book.write(uploaded(file))

    return plan


def seen(who: Viewer, ids: Sequence[str]) -> Statement:
    """Those of the files that show to somebody.

    Their own agency's; those with a document that has reached it, that was sent on its behalf, or that it may approve.
    Who may not have all that came to the agency is shown where it came to: ``kept`` decides.
    """
    these = ", ".join(f"${place}" for place in range(2, len(ids) + 2))
    values: list[str] = [who.agency, *ids]
    own = "a.agency = $1"
    if who.system is not None:
        values.append(who.system)
        own += f" and a.system = ${len(values)}"
    sees = [f"({own})", _BEHALF]
    if who.admitted is None:
        sees.append(f"exists (select 1 from {_USED} where {_REACHED})")  # noqa: S608 - words of this module
    if who.post is not None:
        values.append(who.post)
        sees.append(_HELD.format(role=f"${len(values)}"))
    columns = "a.id, a.digest, a.size, a.media_type, a.object"
    found = f"select {columns}, null, null from attachments a where a.id in ({these}) and ({' or '.join(sees)})"  # noqa: S608
    if who.admitted is not None:
        came = f"from attachments a, {_USED} where a.id in ({these}) and {_REACHED}"
        found += f" union select {columns}, d.service, d.unit {came}"
    return found, values


def kept(rows: Rows, who: Viewer) -> dict[str, Kept]:
    """What ``seen`` found, by id."""
    may = who.admitted
    return {
        id_: Kept(File(id_, bytes(digest), size, media_type), name)
        for id_, digest, size, media_type, name, service, unit in rows
        if service is None or may is None or may(ServiceId(service), unit or None)
    }


def unused(agency: AgencyId) -> Statement:
    """How much of the agency waits for a document."""
    which = f"a.keep_until > {{now}} and a.agency = $1 and {_UNUSED}"
    return f"select count(*), coalesce(sum(a.size), 0) from attachments a where {which}", (agency,)  # noqa: S608


def counted(rows: Rows) -> Unused:
    """What ``unused`` found."""
    return Unused(int(rows[0][0]), int(rows[0][1]))


def refer(pairs: Sequence[tuple[str, str]]) -> Plan[frozenset[str]]:
    """Let documents refer to files: pairs of attachment and document. Gives the files that are not there any more.

    Each file's row is held until the transaction ends, so that a purge passes it over, in one order for everybody.
    """
    gone = set()
    for attachment in sorted({attachment for attachment, _ in pairs}):
        held = "update attachments set keep_until = {now} + $2 where id = $1 returning id"
        rows = yield held, (attachment, KEEP)
        if not rows:
            gone.add(attachment)
    values = [value for pair in pairs if pair[0] not in gone for value in pair]
    for rows in chunks(values, 2):
        yield "insert into uses (attachment, document) {rows text text} on conflict do nothing", rows
    return frozenset(gone)


def purge(_: Book) -> Plan[list[str]]:
    """Forget files that nothing refers to and whose time has passed; gives their names in the vault."""
    old = f"select a.id from attachments a where a.keep_until < {{now}} and {_UNUSED} limit {PURGED}{{skip_locked}}"  # noqa: S608
    free = f"with free as materialized ({old}) select id from free"  # noqa: S608
    rows = yield f"delete from attachments where id in ({free}) returning object", ()  # noqa: S608
    return [row[0] for row in rows]


def among(ids: Sequence[str]) -> Statement:
    """Which of these files are known."""
    these = ", ".join(f"${place}" for place in range(1, len(ids) + 1))
    return f"select object from attachments where id in ({these})", tuple(ids)  # noqa: S608
