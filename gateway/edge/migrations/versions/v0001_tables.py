"""The tables of the first version, and on PostgreSQL the functions that make and guard the journal's months.

What a step does is written out and never changed again: nothing here is taken from ``tables``, which goes on.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")

_APPEND_ONLY = """
create or replace function {schema}.journal_append_only() returns trigger language plpgsql as $$
begin
  if tg_op = 'UPDATE' and new.particulars is null
     and (new.writer, new.n, new.leaf, new.entry) is not distinct from (old.writer, old.n, old.leaf, old.entry)
  then return new; end if;
  raise exception 'journal: append only';
end $$
"""

# Runs as its owner, so that the role that serves owns nothing and still finds a table when a month begins; hence no
# search_path of the caller's. Two processes that make one table at once would fail on the system's catalogue: whoever
# waited looks again, and not into the catalogue, of which it remembers what was there before.
_MONTH = """
create or replace function {schema}.journal_month(wanted text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  place constant text := {literal};
  name constant text := 'journal_' || wanted;
  guard constant text := format('for each %%s execute function %I.journal_append_only()', place);
begin
  if wanted !~ '^[0-9]{{4}}_(0[1-9]|1[0-2])$' then raise exception 'journal: that is no month'; end if;
  if exists (select from {schema}.journal_months where month = wanted) then return; end if;
  perform pg_advisory_xact_lock(hashtext('gateway journal_month'));
  if exists (select from {schema}.journal_months where month = wanted) then return; end if;
  execute format('create table %I.%I (writer bigint not null, n bigint not null, leaf bytea not null,
                  entry bytea not null, particulars bytea, primary key (writer, n))', place, name);
  execute format('create trigger %I before update or delete on %I.%I ' || format(guard, 'row'),
                 name || '_row', place, name);
  execute format('create trigger %I before truncate on %I.%I ' || format(guard, 'statement'),
                 name || '_truncate', place, name);
  insert into {schema}.journal_months (month) values (wanted);
end $$
"""


def upgrade() -> None:
    """A database from before there were steps has the tables already."""
    _create("journal_months", [_text("month", key=True)])
    _create("facts", [_text("name", key=True), _text("value")])
    _create("periods", [_text("period", key=True), _bytes("key")])
    _create(
        "writers",
        [sa.Column("writer", _BIG, sa.Identity(always=True), primary_key=True), _time("started"), _text("program")],
        sqlite_autoincrement=True,
    )
    _create_keyed()
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        name = connection.execute(sa.text("select current_schema()")).scalar_one()
        quoted = connection.dialect.identifier_preparer.quote(name)
        literal = "'" + name.replace("'", "''") + "'"
        for statement in (_APPEND_ONLY, _MONTH):
            connection.exec_driver_sql(statement.format(schema=quoted, literal=literal))
        connection.exec_driver_sql(f"revoke execute on function {quoted}.journal_month(text) from public")


def _create_keyed() -> None:
    """Tables whose rows are found by one key of several columns."""
    _create(
        "keys",
        [
            _text("system", key=True),
            _text("key", key=True),
            _bytes("fingerprint"),
            _text("state"),
            _text("owner"),
            _time("deadline"),
            _text("exchange"),
            sa.Column("answer", sa.LargeBinary),
            _time("keep_until"),
        ],
        sqlite_with_rowid=False,
    )
    _create(
        "quotas",
        [
            _text("agreement", key=True),
            sa.Column("grant_index", sa.Integer, primary_key=True),
            _text("consumer", key=True),
            _text("day", key=True),
            sa.Column("taken", _BIG, nullable=False),
            sa.Column("block", _BIG, nullable=False),
        ],
        sqlite_with_rowid=False,
    )
    _create(
        "assertions",
        [_text("system", key=True), _text("jti", key=True), _time("until")],
        sqlite_with_rowid=False,
    )


def _create(name: str, columns: Sequence[sa.Column[Any]], **options: bool) -> None:
    op.create_table(name, *columns, if_not_exists=True, **options)


def _text(name: str, *, key: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, primary_key=key, nullable=False)


def _bytes(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


def _time(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Double, nullable=False)
