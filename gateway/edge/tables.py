"""The database's tables, for both dialects. A journal's monthly tables and their triggers are made as months come.

An empty SQLite file gets them from here; every other database gets them from ``migrations``, and a test holds both
against each other.
"""

import sqlalchemy as sa

SCHEMA = "0003"
"""The last of ``migrations``: a database that lacks it is not served. A later one is, as they only ever add."""

METADATA = sa.MetaData()

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""SQLite numbers rows in columns called integer only, which hold 64 bits."""

_HELD = sa.text("state = 'held'")
_BEHALF = sa.text("on_behalf is not null")
_CASE = sa.text("case_tag is not null")
_KEPT = sa.text("body is not null")
_WAITING = sa.text("opened > 0")
_OPEN = sa.text("open")
_OVERDUE = sa.text("overdue is not null")
_LOST = sa.text("state = 'undeliverable'")
_WRONG = sa.text("not open and state = 'submitted'")

WRITERS = sa.Table(
    "writers",
    METADATA,
    sa.Column("writer", _BIG, sa.Identity(always=True), primary_key=True),
    sa.Column("started", sa.Double, nullable=False),
    sa.Column("program", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)
"""A number for each process that writes the journal, never used twice."""

MONTHS = sa.Table("journal_months", METADATA, sa.Column("month", sa.Text, primary_key=True))
"""``2026_11`` where the table ``journal_2026_11`` stands."""

KEYS = sa.Table(
    "keys",
    METADATA,
    sa.Column("system", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("deadline", sa.Double, nullable=False),
    sa.Column("exchange", sa.Text, nullable=False),
    sa.Column("answer", sa.LargeBinary),
    sa.Column("keep_until", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)
"""Idempotency keys of exchanges; ``answer`` is encrypted."""

QUOTAS = sa.Table(
    "quotas",
    METADATA,
    sa.Column("agreement", sa.Text, primary_key=True),
    sa.Column("grant_index", sa.Integer, primary_key=True),
    sa.Column("consumer", sa.Text, primary_key=True),
    sa.Column("day", sa.Text, primary_key=True),
    sa.Column("taken", _BIG, nullable=False),
    sa.Column("block", _BIG, nullable=False),
    sqlite_with_rowid=False,
)
"""What of a day's quota was handed to processes, in blocks."""

ASSERTIONS = sa.Table(
    "assertions",
    METADATA,
    sa.Column("system", sa.Text, primary_key=True),
    sa.Column("jti", sa.Text, primary_key=True),
    sa.Column("until", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)
"""Client assertions that were used, until they would have expired (RFC 7523, section 3, item 7)."""

PERIODS = sa.Table(
    "periods",
    METADATA,
    sa.Column("period", sa.Text, primary_key=True),
    sa.Column("key", sa.LargeBinary, nullable=False),
)
"""The key of each period's pseudonyms, encrypted. Deleting a row forgets the period."""

FACTS = sa.Table(
    "facts", METADATA, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
)
"""What the database is: its instance."""

SUSPENSIONS = sa.Table(
    "suspensions",
    METADATA,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("standing", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("since", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)
"""What operators suspended, and have not lifted yet."""

DOCUMENTS = sa.Table(
    "documents",
    METADATA,
    sa.Column("seq", _BIG, sa.Identity(always=True), primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("sender", sa.Text, nullable=False),
    sa.Column("agency", sa.Text, nullable=False),
    sa.Column("on_behalf", sa.Text),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("case_tag", sa.LargeBinary),
    sa.Column("catalogue", sa.Text, nullable=False),
    sa.Column("submitted", sa.Double, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
    sa.Column("recipient", sa.Text),
    sa.Column("approver", sa.Text),
    sa.Column("role", sa.Text),
    sa.Column("requester", sa.LargeBinary),
    sa.Column("head", sa.LargeBinary, nullable=False),
    sa.Column("body", sa.LargeBinary),
    sa.UniqueConstraint("sender", "reference"),
    sa.Index("documents_agency", "agency", "seq"),
    sa.Index("documents_held", "approver", "seq", sqlite_where=_HELD, postgresql_where=_HELD),
    sa.Index("documents_behalf", "on_behalf", "seq", sqlite_where=_BEHALF, postgresql_where=_BEHALF),
    sa.Index("documents_case", "case_tag", "seq", sqlite_where=_CASE, postgresql_where=_CASE),
    sa.Index("documents_kept", "service", "submitted", sqlite_where=_KEPT, postgresql_where=_KEPT),
    sqlite_autoincrement=True,
)
"""What was submitted, once, whoever it goes to; ``head`` and ``body`` are encrypted.

``state`` is ``held``, ``submitted`` (from then on each delivery has its own), ``declined``, ``recalled`` or
``expired``. ``recipient``, ``approver`` (an agency), ``role`` (a post) and ``requester`` (a keyed hash of the person)
are those of a document that waits, or waited, for a second person. After its time ``body`` is null, ``head`` empty
and ``requester`` null.
"""

LANES = sa.Table(
    "lanes",
    METADATA,
    sa.Column("recipient", sa.Text, primary_key=True),
    sa.Column("okey", sa.Text, primary_key=True),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("way", sa.Text, nullable=False),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("opened", _BIG, nullable=False),
    sa.Column("due", sa.Double, nullable=False),
    sa.Column("owner", sa.Text),
    sa.Column("lease", sa.Double, nullable=False),
    sa.Column("given", _BIG),
    sa.Column("bound", sa.Text, nullable=False, server_default=""),
    sa.Index("lanes_waiting", "recipient", "way", "due", sqlite_where=_WAITING, postgresql_where=_WAITING),
    sqlite_with_rowid=False,
)
"""What keeps its order: the unit of leasing. ``opened`` counts open deliveries; ``unit`` is "" where it has none.

``bound`` says with what they are counted together: "" letters, ``receipt``, or ``event:`` and their publisher.

``given`` is the last delivery that the present claim got, or the last one did.
"""

GATES = sa.Table(
    "gates",
    METADATA,
    sa.Column("recipient", sa.Text, primary_key=True),
    sa.Column("way", sa.Text, primary_key=True),
    sa.Column("not_before", sa.Double, nullable=False),
    sa.Column("failures", _BIG, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
"""An agency's back-off on one way, where it does not answer; no row: it was never in trouble."""

DELIVERIES = sa.Table(
    "deliveries",
    METADATA,
    sa.Column("seq", _BIG, sa.Identity(always=True), primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("recipient", sa.Text, nullable=False),
    sa.Column("okey", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("step", _BIG),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("subscriber", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("open", sa.Boolean, nullable=False),
    sa.Column("touched", sa.Boolean, nullable=False),
    sa.Column("attempts", _BIG, nullable=False),
    sa.Column("requeued", _BIG, nullable=False),
    sa.Column("since", sa.Double, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
    sa.Column("overdue", sa.Double),
    sa.Column("changed", sa.Double, nullable=False),
    sa.Index("deliveries_open", "recipient", "okey", "seq", sqlite_where=_OPEN, postgresql_where=_OPEN),
    sa.Index("deliveries_expiry", "expires", sqlite_where=_OPEN, postgresql_where=_OPEN),
    sa.Index("deliveries_overdue", "overdue", sqlite_where=_OVERDUE, postgresql_where=_OVERDUE),
    sa.Index("deliveries_oldest", "recipient", "since", sqlite_where=_OPEN, postgresql_where=_OPEN),
    sa.Index("deliveries_lost", "recipient", "changed", sqlite_where=_LOST, postgresql_where=_LOST),
    sa.Index("deliveries_wrong", "recipient", sqlite_where=_WRONG, postgresql_where=_WRONG),
    sa.Index("deliveries_document", "document", "recipient"),
    sa.Index("deliveries_recipient", "recipient", "seq"),
    sqlite_autoincrement=True,
)
"""A document, an event or a receipt for one recipient. ``kind`` says which; ``step`` is a receipt's row of ``steps``.

``subscriber`` is the system under whose agreement an event goes; ``overdue`` when ``register_within`` passes (null: it
did, or never does).

``deliveries_wrong`` is empty as long as nothing is wrong: the self-check looks there instead of at every row.
"""

STEPS = sa.Table(
    "steps",
    METADATA,
    sa.Column("seq", _BIG, sa.Identity(always=True), primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("recipient", sa.Text),
    sa.Column("step", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("entry", sa.Text, nullable=False),
    sa.Column("detail", sa.LargeBinary),
    sa.Column("receipt", sa.LargeBinary),
    sa.Index("steps_document", "document", "seq"),
    sqlite_autoincrement=True,
)
"""What happened to a document, in order: states with their receipts, and what is none (``forwarded``, ``disputed``).

``recipient`` is null where a step concerns all of them; ``detail`` is encrypted: number, reason, unit.
"""

ATTACHMENTS = sa.Table(
    "attachments",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("agency", sa.Text, nullable=False),
    sa.Column("system", sa.Text, nullable=False),
    sa.Column("object", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("size", _BIG, nullable=False),
    sa.Column("media_type", sa.Text, nullable=False),
    sa.Column("uploaded", sa.Double, nullable=False),
    sa.Column("keep_until", sa.Double, nullable=False),
    sa.Index("attachments_kept", "keep_until"),
    sa.Index("attachments_bytes", "agency", "digest"),
    sqlite_with_rowid=False,
)
"""Files that agencies uploaded; each agency has a row and an object of its own."""

USES = sa.Table(
    "uses",
    METADATA,
    sa.Column("attachment", sa.Text, primary_key=True),
    sa.Column("document", sa.Text, primary_key=True),
    sa.Index("uses_document", "document"),
    sqlite_with_rowid=False,
)
"""Which documents refer to which files."""

SUBSCRIPTIONS = sa.Table(
    "subscriptions",
    METADATA,
    sa.Column("system", sa.Text, primary_key=True),
    sa.Column("publisher", sa.Text, primary_key=True),
    sa.Column("service", sa.Text, primary_key=True),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("since", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)
"""What systems subscribed to by the API, beside what their folders say."""

VERSION = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Alembic's own table: which migrations a database has."""


def month_statements(month: str) -> tuple[str, ...]:
    """SQLite's table of one month, with triggers that refuse every change but forgetting the particulars.

    PostgreSQL's is made by the function journal_month (see ``migrations``), whose owner is not the role that serves.
    """
    table = f"journal_{month}"
    same = "new.writer is old.writer and new.n is old.n and new.leaf is old.leaf and new.entry is old.entry"
    never = "select raise(abort, 'journal: append only')"
    exists = f"exists (select 1 from {table} where writer = new.writer and n = new.n)"  # noqa: S608 - digits
    columns = (
        "writer integer not null, n integer not null, leaf blob not null, entry blob not null, particulars blob, "
        "primary key (writer, n)"
    )
    trigger = f"create trigger if not exists {table}"
    return (
        # with rowid: without, rows over a quarter of a page spill, which takes 3.6 times the space and twice the time
        f"create table if not exists {table} ({columns})",
        # an insert that replaces (INSERT OR REPLACE) fires no delete trigger
        f"{trigger}_insert before insert on {table} when {exists} begin {never}; end",
        f"{trigger}_update before update on {table} when not (new.particulars is null and {same}) begin {never}; end",
        f"{trigger}_delete before delete on {table} begin {never}; end",
        f"insert into journal_months (month) values ('{month}') on conflict do nothing",  # noqa: S608 - digits
    )
