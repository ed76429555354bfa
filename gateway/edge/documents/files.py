"""What the database knows of attachments: whose they are, who may see them, what refers to them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.core.attachment import File
from gateway.core.entry import Draft, Stamp
from gateway.core.model import AgencyId
from gateway.edge.journal import Book
from gateway.edge.store import Plan, Rows, Statement

KEEP = 86_400.0
"""Seconds that a file is kept after its upload, and after the last time that a document came to refer to it."""
PURGED = 100
"""Files that one round removes at most."""

# Touched: it may be in the recipient's hands, though its system has yet to say so; in a mailbox, it was leased.
_SEES = (
    "(a.agency = $1 or exists (select 1 from uses u join deliveries d on d.document = u.document "
    "where u.attachment = a.id and d.recipient = $1 and d.kind <> 'receipt' and d.touched and d.state in "
    "('submitted', 'arrived', 'retrieved', 'registered', 'rejected')))"
)
_UNUSED = "not exists (select 1 from uses u where u.attachment = a.id)"


@dataclass(frozen=True, slots=True)
class Kept:
    """A file and where its bytes lie."""

    file: File
    name: str
    """In the vault."""


@dataclass(frozen=True, slots=True)
class Unused:
    """What an agency uploaded and no document refers to."""

    files: int
    size: int
    """Bytes."""


def keep(agency: AgencyId, kept: Kept, uploaded: Draft) -> Callable[[Book], Plan[Stamp]]:
    """Note a file whose bytes are all there, with its journal entry."""

    def plan(book: Book) -> Plan[Stamp]:
        file = kept.file
        columns = "id, agency, object, digest, size, media_type, uploaded, keep_until"
        yield (
            f"insert into attachments ({columns}) values ($1, $2, $3, $4, $5, $6, {{now}}, {{now}} + $7)",  # noqa: S608
            (file.id, agency, kept.name, file.digest, file.size, file.media_type, KEEP),
        )
        return book.write(uploaded)

    return plan


def seen(agency: AgencyId, ids: Sequence[str]) -> Statement:
    """Those of the files that show to the agency: it uploaded them, or a document with them has reached it."""
    these = ", ".join(f"${place}" for place in range(2, len(ids) + 2))
    columns = "a.id, a.digest, a.size, a.media_type, a.object"
    return f"select {columns} from attachments a where a.id in ({these}) and {_SEES}", (agency, *ids)  # noqa: S608


def kept(rows: Rows) -> dict[str, Kept]:
    """What ``seen`` found, by id."""
    return {row[0]: Kept(File(row[0], bytes(row[1]), row[2], row[3]), row[4]) for row in rows}


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
    if values:
        yield "insert into uses (attachment, document) {rows text text} on conflict do nothing", values
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
