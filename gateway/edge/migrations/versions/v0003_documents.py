"""The tables of documents, events and attachments, written out and never changed again.

On PostgreSQL whoever may change idempotency keys may change them too: nobody has to think of a grant in an upgrade.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_HELD = sa.text("state = 'held'")
_BEHALF = sa.text("on_behalf is not null")
_CASE = sa.text("case_tag is not null")
_KEPT = sa.text("body is not null")
_WAITING = sa.text("opened > 0")
_OPEN = sa.text("open")
_OVERDUE = sa.text("overdue is not null")
_LOST = sa.text("state = 'undeliverable'")
_WRONG = sa.text("not open and state = 'submitted'")

_METADATA = sa.MetaData()

sa.Table(
    "documents",
    _METADATA,
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

sa.Table(
    "lanes",
    _METADATA,
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

sa.Table(
    "gates",
    _METADATA,
    sa.Column("recipient", sa.Text, primary_key=True),
    sa.Column("way", sa.Text, primary_key=True),
    sa.Column("not_before", sa.Double, nullable=False),
    sa.Column("failures", _BIG, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

sa.Table(
    "deliveries",
    _METADATA,
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

sa.Table(
    "steps",
    _METADATA,
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

sa.Table(
    "attachments",
    _METADATA,
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

sa.Table(
    "uses",
    _METADATA,
    sa.Column("attachment", sa.Text, primary_key=True),
    sa.Column("document", sa.Text, primary_key=True),
    sa.Index("uses_document", "document"),
    sqlite_with_rowid=False,
)

sa.Table(
    "subscriptions",
    _METADATA,
    sa.Column("system", sa.Text, primary_key=True),
    sa.Column("publisher", sa.Text, primary_key=True),
    sa.Column("service", sa.Text, primary_key=True),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("since", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)

_GRANTS = """
do $$ declare role text; name text; begin
  for role in select grantee from information_schema.role_table_grants
              where table_schema = current_schema() and table_name = 'keys' and privilege_type = 'DELETE'
                and grantee <> current_user and grantee <> 'PUBLIC' loop
    foreach name in array array['documents', 'lanes', 'gates', 'deliveries', 'steps', 'attachments', 'uses',
                                'subscriptions'] loop
      execute format('grant select, insert, update, delete on %I to %I', name, role);
    end loop;
  end loop;
end $$
"""


def upgrade() -> None:
    """What stands above, where it does not stand yet."""
    connection = op.get_bind()
    _METADATA.create_all(connection)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_GRANTS)
