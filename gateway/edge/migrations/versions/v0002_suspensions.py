"""The table of what operators suspended.

On PostgreSQL whoever may change idempotency keys may change it too: nobody has to think of a grant in an upgrade.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_GRANTS = """
do $$ declare role text; begin
  for role in select grantee from information_schema.role_table_grants
              where table_schema = current_schema() and table_name = 'keys' and privilege_type = 'DELETE'
                and grantee <> current_user and grantee <> 'PUBLIC' loop
    execute format('grant select, insert, update, delete on suspensions to %I', role);
  end loop;
end $$
"""


def upgrade() -> None:
    """One row for each thing that is suspended."""
    columns = (
        sa.Column("kind", sa.Text, primary_key=True, nullable=False),
        sa.Column("name", sa.Text, primary_key=True, nullable=False),
        sa.Column("standing", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
    )
    op.create_table("suspensions", *columns, sqlite_with_rowid=False, if_not_exists=True)
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_GRANTS)
