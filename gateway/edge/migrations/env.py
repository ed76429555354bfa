"""Alembic's entry: runs the steps on the connection that ``migration`` opened, in one transaction."""

from alembic import context

from gateway.edge import tables

context.configure(connection=context.config.attributes["connection"], target_metadata=tables.METADATA)
with context.begin_transaction():
    context.run_migrations()
