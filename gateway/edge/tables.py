"""The database's tables, for both dialects. A journal's monthly tables and their triggers are made as months come.

An empty SQLite file gets them from here; every other database gets them from ``migrations``, and a test holds both
against each other.
"""

import sqlalchemy as sa

SCHEMA = "0002"
"""The last of ``migrations``: a database that lacks it is not served. A later one is, as they only ever add."""

METADATA = sa.MetaData()

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""SQLite numbers rows in columns called integer only, which hold 64 bits."""

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
