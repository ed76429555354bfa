"""The database's tables, for both dialects. A journal's monthly tables and their triggers are made as months come."""

import sqlalchemy as sa

METADATA = sa.MetaData()

WRITERS = sa.Table(
    "writers",
    METADATA,
    sa.Column("writer", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("started", sa.Float, nullable=False),
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
    sa.Column("deadline", sa.Float, nullable=False),
    sa.Column("exchange", sa.Text, nullable=False),
    sa.Column("answer", sa.LargeBinary),
    sa.Column("keep_until", sa.Float, nullable=False),
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
    sa.Column("taken", sa.Integer, nullable=False),
    sa.Column("block", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""What of a day's quota was handed to processes, in blocks."""

ASSERTIONS = sa.Table(
    "assertions",
    METADATA,
    sa.Column("system", sa.Text, primary_key=True),
    sa.Column("jti", sa.Text, primary_key=True),
    sa.Column("until", sa.Float, nullable=False),
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
"""What the database is: its instance, its schema's version."""


def month_statements(month: str) -> tuple[str, ...]:
    """The table of one month and the triggers that refuse every change but forgetting the particulars (SQLite)."""
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
