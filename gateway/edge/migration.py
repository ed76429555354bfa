"""A database is made, or brought to the tables of this version, by its owner: `gateway migrate`.

No serving process imports this module: Alembic alone takes 10 MiB and a sixth of a second.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.edge import migrations, postgres, tables
from gateway.edge.store import INSTANCE, StoreFailed, database_path, hold_ours, sole_use

FAILURES = (sa.exc.SQLAlchemyError, CommandError, *postgres.ERRORS)


def migrate(url: str, instance: str) -> None:
    """Run the steps that are missing and write whose database it is. Raises StoreFailed, and then nothing was done.

    Not while an event loop runs in this thread. ValueError: the URL is none.
    """
    try:
        if postgres.named(url):
            asyncio.run(_migrate_server(url, instance))
        else:
            _migrate_file(database_path(url), instance)
    except FAILURES as error:
        denied = postgres.is_denied(error)
        remedy = ". Run gateway migrate as the tables' owner, such as gateway_owner." if denied else ""
        raise StoreFailed(f"the database was not migrated: {postgres.first_line(error)}{remedy}") from error


def _migrate_file(path: Path, instance: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        hold_ours(path)
    with sole_use(path):
        path.touch(mode=0o600)
        engine = sa.create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")  # else it commits before tables
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("begin immediate")
                _upgrade(connection, instance)
                connection.exec_driver_sql("commit")
        finally:
            engine.dispose()


async def _migrate_server(url: str, instance: str) -> None:
    async def connected() -> asyncpg.Connection:
        return await postgres.connect(postgres.dsn_of(url), {"application_name": "gateway migrate"})

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connected)
    try:
        async with engine.begin() as connection:
            await connection.exec_driver_sql("select pg_advisory_xact_lock(hashtext('gateway migrate'))")
            await connection.run_sync(_upgrade, instance)
            for month in _months(datetime.now(UTC)):
                await connection.exec_driver_sql("select journal_month($1)", (month,))
    finally:
        await engine.dispose()


def _upgrade(connection: sa.Connection, instance: str) -> None:
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0].replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    kept = connection.scalar(sa.text(INSTANCE))
    if kept is None:
        connection.execute(tables.FACTS.insert().values(name="instance", value=instance))
    elif kept != instance:
        raise StoreFailed(f"the database belongs to the instance {kept}, not to {instance}: use another one.")


def _months(now: datetime) -> tuple[str, str]:
    """The present one and the next, in the journal's spelling."""
    following = now.replace(day=1) + timedelta(days=32)
    return now.strftime("%Y_%m"), following.strftime("%Y_%m")
