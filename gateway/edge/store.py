"""One SQL database behind one small interface: a plan of statements runs as one transaction.

A plan is a generator: it yields a statement and is sent its rows. It knows nothing of threads, connections or
drivers, so that the embedded SQLite and a PostgreSQL server run the same plans. Parameters are written $1, $2, …;
``{now}`` stands for the database's own clock in seconds since 1970.
"""

import asyncio
import contextlib
import fcntl
import sqlite3
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar
from urllib.parse import urlsplit

import sqlalchemy as sa

from gateway.edge import tables

T = TypeVar("T")
Rows: TypeAlias = Sequence[Sequence[Any]]
Statement: TypeAlias = tuple[str, Sequence[Any]]
Plan: TypeAlias = Generator[Statement, Rows, T]


class StoreFailed(Exception):
    """The database cannot be used now: full, locked, broken, gone."""


class StoreRefused(Exception):
    """The database refused what one statement brought; another transaction may go through."""


class Driver(Protocol):
    """One connection that writes."""

    async def transact(self, plan: Callable[[], Plan[T]]) -> T:
        """Run the plan as one durable transaction. Raises StoreFailed or StoreRefused, and then nothing happened."""

    async def close(self) -> None:
        """Give the connection back."""


def database_path(url: str) -> Path:
    """The file of a ``sqlite:///path`` URL. Raises ValueError with a sentence for anything else."""
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.netloc or len(parts.path) < 2:
        raise ValueError(f"GATEWAY_DATABASE must be sqlite:///path/to/file (this version serves no {parts.scheme!r}).")
    return Path(parts.path[1:])


class SqliteDriver:
    """The embedded database: one connection in one thread, which writes and checkpoints; one process, by a lock file.

    SQLite up to 3.51.2 can lose commits when two connections write (the WAL-reset bug), hence one.
    """

    def __init__(self, path: Path, instance: str) -> None:
        """Open, creating what is missing. Raises StoreFailed where another process or instance has the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _sole_use(path)
        try:
            _create(path, instance)
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            path.chmod(0o600)
            for pragma in ("journal_mode=wal", "synchronous=full", "secure_delete=on", "wal_autocheckpoint=1000"):
                self._connection.execute(f"pragma {pragma}")
        except (OSError, sqlite3.Error, sa.exc.SQLAlchemyError) as error:
            self._lock.close()
            raise StoreFailed(f"{path.name} cannot be opened: {_first_line(error)}") from error
        except StoreFailed:
            self._lock.close()
            raise
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._files = {each: _identity(each) for each in (path, Path(self._lock.name))}

    async def transact(self, plan: Callable[[], Plan[T]]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, plan)

    def _run(self, plan: Callable[[], Plan[T]]) -> T:
        execute = self._connection.execute
        for path, identity in self._files.items():
            if _identity(path) != identity:  # what is written now would be in no file, and a second process could start
                raise StoreFailed(f"{path.name} was removed or replaced while the gateway runs")
        try:
            execute("begin immediate")
            result = _driven(plan(), lambda sql, values: execute(_spelled(sql), values).fetchall())
            execute("commit")
        except (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, OverflowError) as error:
            self._undo()
            raise StoreRefused(_first_line(error)) from error
        except sqlite3.Error as error:
            self._undo()
            raise StoreFailed(_first_line(error)) from error
        except BaseException:
            self._undo()
            raise
        return result

    def _undo(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("rollback")

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()
        self._lock.close()


def _driven(plan: Plan[T], execute: Callable[[str, Sequence[Any]], Rows]) -> T:
    try:
        sql, values = next(plan)
        while True:
            sql, values = plan.send(execute(sql, values))
    except StopIteration as end:
        result: T = end.value
        return result


@lru_cache(maxsize=512)
def _spelled(sql: str) -> str:
    """SQLite's spelling. unixepoch('subsec') would need 3.42."""
    return sql.replace("$", "?").replace("{now}", "((julianday('now') - 2440587.5) * 86400.0)")


def rows_of(count: int, width: int, *, first: int = 1) -> str:
    """``($1, $2), ($3, $4)``: the values of a multi-row statement."""
    return _rows_of(count, width, first)


@lru_cache(maxsize=1024)
def _rows_of(count: int, width: int, first: int) -> str:
    return ", ".join(
        "(" + ", ".join(f"${first + row * width + column}" for column in range(width)) + ")" for row in range(count)
    )


def _sole_use(path: Path) -> Any:
    """An open, locked file: held as long as the process lives, gone with it however it ends."""
    lock = path.with_name(path.name + ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise StoreFailed(
            f"{path.name} is in use by another gateway process. SQLite serves one process: stop the other one, "
            "or give this one a database of its own."
        ) from error
    return lock


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file stands there, if any."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def remove(path: Path) -> None:
    """Remove a database that nobody uses; its lock file stays for whoever comes next. Raises StoreFailed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _sole_use(path)
    try:
        for each in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            each.unlink(missing_ok=True)
    finally:
        lock.close()


def _create(path: Path, instance: str) -> None:
    """Tables that are missing; then the instance, which is written once and must agree ever after."""
    engine = sa.create_engine(f"sqlite:///{path}")
    try:
        with engine.begin() as connection:
            tables.METADATA.create_all(connection)
            once = sa.text("insert into facts (name, value) values ('instance', :it) on conflict do nothing")
            connection.execute(once, {"it": instance})
            kept = connection.execute(sa.text("select value from facts where name = 'instance'")).scalar_one()
    finally:
        engine.dispose()
    if kept != instance:
        raise StoreFailed(f"{path.name} belongs to the instance {kept}, not to {instance}: use another database.")


def _first_line(error: BaseException) -> str:
    """The database's words; SQLAlchemy's own second lines quote values."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0]


def reader(path: Path) -> sa.Engine:
    """A read-only engine beside a gateway that may be running."""
    if not path.exists():
        raise StoreFailed(f"there is no database at {path}")
    return sa.create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
