"""One SQL database behind one small interface: a plan of statements runs as one transaction.

A plan is a generator: it yields a statement and is sent its rows. It knows nothing of threads, connections or
drivers, so that the embedded SQLite and a PostgreSQL server (see ``postgres``) run the same plans. Parameters are
written $1, $2, …; what the two spell differently stands in braces:

``{now}`` is the database's own clock in seconds since 1970; ``{rows int8 bytea}`` is as many rows as there are
parameters for, with the types of their columns, after ``insert into t (a, b)`` or as ``with v(a, b) as (…)``: the
statement then has no other parameters; ``{skip_locked}`` at the end of a select takes its rows for change and leaves
out what another transaction holds; MONTH and BRIEFLY are statements of their own.
"""

import asyncio
import contextlib
import fcntl
import re
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
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


MONTH = "{month}"
"""The statement after which the journal's table of the month $1 is there."""
BRIEFLY = "{briefly}"
"""The statement after which the transaction waits only a moment for rows that another one holds."""
MAX_ROWS = 1000
"""Rows of one statement: SQLite takes 32,766 parameters, and reads long statements ever more slowly."""


class StoreFailed(Exception):
    """The database cannot be used now: full, locked, broken, gone."""


class StoreInUse(StoreFailed):
    """Another process has the one connection of a SQLite file."""


class StoreUnsure(StoreFailed):
    """COMMIT was sent and its answer was lost: the transaction happened whole or not at all."""


class StoreRefused(Exception):
    """The database refused what one statement brought; another transaction may go through."""


class StoreWaited(StoreRefused):
    """A row that a statement needs is held by another transaction for too long."""


class LanesHeld(StoreWaited):
    """Another transaction holds some of the lanes that a work needs."""

    def __init__(self, lanes: frozenset[tuple[str, str]]) -> None:
        super().__init__(f"another transaction holds {len(lanes)} of the lanes")
        self.lanes = lanes


class Reads(Protocol):
    """Whatever reads the database."""

    async def read(self, select: str, values: Sequence[Any] = ()) -> Rows:
        """What one statement finds, between two transactions. Raises StoreFailed or StoreRefused."""


class Driver(Reads, Protocol):
    """One connection that writes."""

    async def transact(self, plan: Callable[[], Plan[T]]) -> T:
        """Run the plan as one durable transaction; where that is safe, begun anew from ``plan``.

        Raises StoreFailed or StoreRefused, and then nothing happened, except where it is StoreUnsure.
        """

    def beside(self) -> "Driver":
        """Another one for the same database, which has a connection of its own where there can be several."""

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
        self._lock = sole_use(path)
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
        self._users = 1
        self._files = {each: _identity(each) for each in (path, Path(self._lock.name))}

    async def transact(self, plan: Callable[[], Plan[T]]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, plan)

    def _run(self, plan: Callable[[], Plan[T]]) -> T:
        execute = self._connection.execute
        self._hold_files()
        try:
            execute("begin immediate")
            result = _driven(plan(), self._execute)
            execute("commit")
        except _REFUSED as error:
            self._undo()
            raise _refused(error) from error
        except sqlite3.Error as error:
            self._undo()
            raise StoreFailed(_first_line(error)) from error
        except BaseException:
            self._undo()
            raise
        return result

    async def read(self, select: str, values: Sequence[Any] = ()) -> Rows:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, select, values)

    def _read(self, select: str, values: Sequence[Any]) -> Rows:
        self._hold_files()
        try:
            return self._execute(select, values)
        except _REFUSED as error:
            raise _refused(error) from error
        except sqlite3.Error as error:
            raise StoreFailed(_first_line(error)) from error

    def _hold_files(self) -> None:
        for path, identity in self._files.items():
            if _identity(path) != identity:  # what is written now would be in no file, and a second process could start
                raise StoreFailed(f"{path.name} was removed or replaced while the gateway runs")

    def _execute(self, sql: str, values: Sequence[Any]) -> Rows:
        if sql == MONTH:
            for each in tables.month_statements(*values):
                self._connection.execute(each)
            return ()
        return self._connection.execute(_spelled(sql, len(values)), values).fetchall()

    def beside(self) -> "SqliteDriver":
        """The same one; the last of its users closes it."""
        self._users += 1
        return self

    def _undo(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("rollback")

    async def close(self) -> None:
        self._users -= 1
        if self._users:
            return
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()
        self._lock.close()


_REFUSED = (
    *(sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError),
    *(OverflowError, UnicodeEncodeError),
)


def _refused(error: Exception) -> StoreRefused:
    """What the statement brought was not taken; a complaint of a text's encoding would quote it."""
    return StoreRefused(type(error).__name__ if isinstance(error, UnicodeError) else _first_line(error))


def _driven(plan: Plan[T], execute: Callable[[str, Sequence[Any]], Rows]) -> T:
    try:
        sql, values = next(plan)
        while True:
            sql, values = plan.send(execute(sql, values))
    except StopIteration as end:
        result: T = end.value
        return result


ROWS = re.compile(r"\{rows ([a-z0-9 ]+)\}")


@lru_cache(maxsize=1024)
def _spelled(sql: str, parameters: int) -> str:
    """SQLite's spelling. unixepoch('subsec') would need 3.42."""
    if rows := ROWS.search(sql):
        width = len(rows[1].split())
        # without numbers, which SQLite compares each with all before it
        row = "(" + ", ".join("?" * width) + ")"
        sql = ROWS.sub("values " + ", ".join([row] * (parameters // width)), sql)
    sql = sql.replace("{now}", "((julianday('now') - 2440587.5) * 86400.0)").replace("{skip_locked}", "")
    return sql.replace("$", "?").replace(BRIEFLY, "select 1")  # nobody else writes


def chunks(values: Sequence[Any], width: int) -> Iterator[Sequence[Any]]:
    """Rows laid out one after the other, as many at a time as one statement takes."""
    size = MAX_ROWS * width
    return (values[start : start + size] for start in range(0, len(values), size))


def sole_use(path: Path) -> Any:
    """An open, locked file: held as long as the process lives, gone with it however it ends."""
    lock = path.with_name(path.name + ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise StoreInUse(
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
    lock = sole_use(path)
    try:
        for each in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            each.unlink(missing_ok=True)
    finally:
        lock.close()


def _create(path: Path, instance: str) -> None:
    """Where there is no database yet, its tables, its version and its instance, which is written once."""
    engine = sa.create_engine(f"sqlite:///{path}")
    try:
        with engine.begin() as connection:
            known = set(sa.inspect(connection).get_table_names())
            if tables.FACTS.name not in known:
                _hold_none(path, known)
                tables.METADATA.create_all(connection)
                tables.VERSION.create(connection)
                connection.execute(tables.VERSION.insert().values(version_num=tables.SCHEMA))
                connection.execute(tables.FACTS.insert().values(name="instance", value=instance))
                return
            kept = connection.execute(sa.text(INSTANCE)).scalar()
            version = connection.execute(sa.text(VERSION)).scalar() if tables.VERSION.name in known else None
    finally:
        engine.dispose()
    hold(path.name, instance, kept, version)


def hold_ours(path: Path, *, made: bool = False) -> None:
    """See that nothing is made in somebody else's file; ``made``: nor in one that holds no tables yet.

    Raises StoreFailed, and then nothing was written anywhere.
    """
    try:
        path.open("rb").close()
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            known = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    except OSError as error:
        why = f"({error.strerror}): run the command as the gateway's user."
        raise StoreFailed(f"{path} cannot be opened {why}") from error
    except sqlite3.Error as error:
        raise StoreFailed(f"{path} cannot be opened: {_first_line(error)}") from error
    if tables.FACTS.name not in known:
        _hold_none(path, known or made)


def _hold_none(path: Path, tables_of_others: object) -> None:
    if tables_of_others:
        raise StoreFailed(f"{path} is no gateway's database, and nothing was made in it: is GATEWAY_DATABASE right?")


INSTANCE = "select value from facts where name = 'instance'"
VERSION = "select max(version_num) from alembic_version"


def hold(name: str, instance: str, kept: str | None, version: str | None) -> None:
    """Hold what a database says of itself against what is wanted. Raises StoreFailed with what to do."""
    if kept not in (None, instance):
        raise StoreFailed(f"{name} belongs to the instance {kept}, not to {instance}: use another database.")
    if kept is None or version is None or version < tables.SCHEMA:
        raise StoreFailed(
            f"{name} has tables of version {version or 'none'}, and this gateway needs {tables.SCHEMA}: "
            "make a backup, then run `gateway migrate`."
        )


def _first_line(error: BaseException) -> str:
    """The database's words; SQLAlchemy's own second lines quote values."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0]


def reader(path: Path) -> sa.Engine:
    """A read-only engine beside a gateway that may be running."""
    if not path.exists():
        raise StoreFailed(f"there is no database at {path}")
    return sa.create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")


class SqliteReader:
    """A file that another process may be writing; nothing but reading."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self, select: str, values: Sequence[Any] = ()) -> Rows:
        return await asyncio.to_thread(self._read, select, values)

    def _read(self, select: str, values: Sequence[Any]) -> Rows:
        if not self._path.exists():
            raise StoreFailed(f"there is no database at {self._path}")
        address = self._path.absolute().as_uri() + "?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
                return connection.execute(_spelled(select, len(values)), values).fetchall()
        except sqlite3.Error as error:
            raise StoreFailed(
                f"{self._path} cannot be read: is it the gateway's database, and of this version (`gateway migrate`)?"
            ) from error
