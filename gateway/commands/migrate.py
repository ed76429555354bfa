"""``gateway migrate``: the database is made, or brought to the tables of this version."""

from importlib import import_module

import typer

from gateway.commands.terminal import fail, read_settings
from gateway.edge.store import StoreFailed


def migrate() -> None:
    """Make the database's tables, or bring them to this version. On PostgreSQL: as the tables' owner."""
    chosen = read_settings()
    # by name: Alembic is heavy, and no other command needs it
    run = import_module("gateway.edge.migration").migrate
    try:
        run(chosen.database, chosen.instance)
    except (StoreFailed, ValueError) as error:
        fail(str(error))
    typer.echo(f"the database has the tables of this version, for the instance {chosen.instance}")
