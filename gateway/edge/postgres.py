"""PostgreSQL for several workers and nodes: one connection that writes, and the same plans as SQLite's.

A transaction is READ COMMITTED and short. Whoever holds a row for too long costs its own row only; a connection that is
lost is made anew; what became of a COMMIT whose answer was lost is for the caller to find out (StoreUnsure).
"""

import asyncio
import os
import re
import stat
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg

from gateway.edge.keys import barred
from gateway.edge.store import (
    BRIEFLY,
    INSTANCE,
    MONTH,
    ROWS,
    VERSION,
    Driver,
    Plan,
    Rows,
    StoreFailed,
    StoreRefused,
    StoreUnsure,
    StoreWaited,
    hold,
)

T = TypeVar("T")

SCHEME = "postgresql+asyncpg"
ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""All that the library raises; TimeoutError is an OSError."""
CONNECT = 5.0
"""Seconds to connect."""
PATIENCE = 15.0
"""Seconds that a transaction has, with everything; more than statement_timeout, so that the server speaks first."""
TRIES = 3
"""Times that a transaction is begun where the server gave it up for another's sake, or lost the connection."""
PAGE = 1000
"""Rows of the journal that are read at once."""
SESSION = {
    "application_name": "gateway",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "idle_in_transaction_session_timeout": "2s",  # a node that is stopped lets go of its rows
    "lock_timeout": "300ms",
    "statement_timeout": "5s",
    "synchronous_commit": "on",
}
# A statement_timeout during COMMIT would end the wait for a synchronous standby with a warning only.
_COMMIT = "set local statement_timeout = 0; commit"

_BRIEF = "set local lock_timeout = '20ms'"

_LOST = ("08", "57P")
"""Connection exceptions, and the server's own ends of one (shutdown, crash, recovery)."""
_LOST_TOO = "25P03"
"""idle_in_transaction_session_timeout, which ends the connection."""
_AGAIN = ("40001", "40P01", "0A000")
"""Serialization, deadlock, a prepared statement whose table was changed."""
_WAITED = "55P03"
_DENIED = "42501"
_REFUSED = ("22", "23", "P0")
"""Data, integrity, what a trigger raised."""


_MAY_SERVE = (
    "select has_function_privilege('journal_month(text)', 'execute') and bool_and(has_table_privilege(name, 'update') "
    "and has_table_privilege(name, 'delete')) from unnest(array['keys', 'quotas', 'assertions', 'suspensions', "
    "'documents', 'lanes', 'gates', 'deliveries', 'steps', 'attachments', 'uses', 'subscriptions']) as name"
)
"""What deploy/postgresql/after_migrate.sql grants."""
_NO_RIGHTS = (
    ". deploy/postgresql/before_migrate.sql was left out: as a superuser run it, then "
    "grant select, insert on all tables in schema public to gateway_serve, then deploy/postgresql/after_migrate.sql."
)


class _BegunInVainError(Exception):
    """Nothing happened, and the same may be begun again."""


def named(url: str) -> bool:
    """Whether a URL means this driver."""
    return url.startswith(f"{SCHEME}:")


def dsn_of(url: str) -> str:
    """What the driver's library takes. Raises ValueError with a sentence."""
    parts = urlsplit(url)
    if parts.scheme != SCHEME or len(parts.path) < 2:
        raise ValueError(f"GATEWAY_DATABASE must be {SCHEME}://user@host/database?passfile=/path.")
    if parts.password or "password=" in parts.query:
        raise ValueError(
            "GATEWAY_DATABASE holds a password: put it into a .pgpass file and name that by ?passfile=/path."
        )
    return url.replace(SCHEME, "postgresql", 1)


def place_of(dsn: str) -> str:
    """The host and port of each server that a URL names, without anything else of it."""
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    hosts = parts.netloc.rpartition("@")[2] or query.get("host", ["localhost"])[0]
    port = query.get("port", ["5432"])[0]
    # a folder holds a socket; what ends in digits behind a colon has its port, unless that is within an IPv6 address
    whole = re.compile(r"(/.*|.*:[0-9]+)(?<!\])")
    return ",".join(each if whole.fullmatch(each) else f"{each}:{port}" for each in hosts.split(","))


def _hold_passfile(dsn: str) -> None:
    """The library warns and goes on without a password, which the server then calls wrong. Raises StoreFailed."""
    for name in parse_qs(urlsplit(dsn).query).get("passfile", []):
        path = Path(name)
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
        except PermissionError as error:
            raise StoreFailed(f"GATEWAY_DATABASE: the passfile {barred(path)}") from error
        except OSError as error:
            raise StoreFailed(
                f"GATEWAY_DATABASE: the passfile {path} cannot be read ({error.strerror}): make it, or name another."
            ) from error
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise StoreFailed(
                f"GATEWAY_DATABASE: the passfile {path} may be read by others than its owner, and is not used: "
                f"chmod 600 {path}"
            )


async def connect(dsn: str, server_settings: Mapping[str, str], **more: int) -> asyncpg.Connection:
    """A connection to whatever database is there. Raises StoreFailed, which says where."""
    _hold_passfile(dsn)
    try:
        return await asyncpg.connect(dsn, timeout=CONNECT, server_settings=dict(server_settings), **more)
    except (ValueError, *ERRORS) as error:
        raise StoreFailed(f"the database cannot be reached at {place_of(dsn)}: {first_line(error)}") from error


class PostgresDriver:
    """One connection, made when it is first needed and whenever it was lost."""

    def __init__(self, url: str, instance: str) -> None:
        """ValueError: the URL is none. Whether anybody answers there, the first transaction finds out."""
        self._url = url
        self._dsn = dsn_of(url)
        self._instance = instance
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()

    async def transact(self, plan: Callable[[], Plan[T]]) -> T:
        async with self._turn:
            for left in reversed(range(TRIES)):
                connection = await self._connected()
                patience = asyncio.get_running_loop().call_later(PATIENCE, connection.terminate)
                try:
                    return await _run(connection, plan)
                except _BegunInVainError as error:
                    if not left:
                        raise StoreFailed(str(error)) from error.__cause__
                finally:
                    patience.cancel()
            raise AssertionError  # the last try returns or raises

    async def read(self, select: str, values: Sequence[Any] = ()) -> Rows:
        async with self._turn:
            connection = await self._connected()
            try:
                async with asyncio.timeout(PATIENCE):
                    return await _fetched(connection, select, values)
            except ERRORS as error:
                if _is_lost(connection, error):
                    connection.terminate()
                elif _code(error).startswith(_REFUSED) or isinstance(error, asyncpg.DataError):
                    raise StoreRefused(first_line(error)) from error
                raise StoreFailed(f"the database cannot be read: {first_line(error)}") from error
            except asyncio.CancelledError:
                connection.terminate()
                raise

    def beside(self) -> "PostgresDriver":
        """One with a connection of its own."""
        return PostgresDriver(self._url, self._instance)

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await _connect(self._dsn, self._instance)
        return self._connection

    async def close(self) -> None:
        async with self._turn:
            if self._connection is not None and not self._connection.is_closed():
                try:
                    await self._connection.close(timeout=CONNECT)
                except ERRORS:
                    self._connection.terminate()


async def _run(connection: asyncpg.Connection, plan: Callable[[], Plan[T]]) -> T:
    """One attempt; afterwards the connection is closed or in no transaction."""
    sent = False
    try:
        await connection.execute("begin")
        result = await _driven(connection, plan())
        sent = True
        ended = await connection.execute(_COMMIT)
    except ERRORS as error:
        if _is_lost(connection, error):
            connection.terminate()
            if sent:
                raise StoreUnsure(
                    f"the connection was lost while the database committed: {first_line(error)}"
                ) from error
            raise _BegunInVainError(f"the connection was lost: {first_line(error)}") from error
        await _undo(connection)
        raise _sorted(error) from error
    except asyncio.CancelledError:
        connection.terminate()
        raise
    except Exception:
        await _undo(connection)
        raise
    if ended != "COMMIT":
        raise StoreFailed(f"the database answered {ended} to COMMIT")
    return result


async def _driven(connection: asyncpg.Connection, plan: Plan[T]) -> T:
    try:
        sql, values = next(plan)
        while True:
            sql, values = plan.send(await _fetched(connection, sql, values))
    except StopIteration as end:
        result: T = end.value
        return result


async def _fetched(connection: asyncpg.Connection, sql: str, values: Sequence[Any]) -> Rows:
    spelled, width = _spelled(sql)
    if width:
        values = [values[column::width] for column in range(width)]
    rows: Rows = await connection.fetch(spelled, *values)
    return rows


@lru_cache(maxsize=1024)
def _spelled(sql: str) -> tuple[str, int]:
    """PostgreSQL's spelling, and how many arrays its parameters are to be laid out as; 0: none.

    Rows as arrays: one prepared statement serves batches of every size.
    """
    width = 0
    if rows := ROWS.search(sql):
        types = rows[1].split()
        width = len(types)
        arrays = ", ".join(f"${place}::{name}[]" for place, name in enumerate(types, start=1))
        sql = ROWS.sub(f"select * from unnest({arrays})", sql)  # noqa: S608 - names of types
    sql = sql.replace(MONTH, "select journal_month($1)").replace("{skip_locked}", " for update skip locked")
    sql = sql.replace(BRIEFLY, _BRIEF)
    # not now(), which is the transaction's begin
    return sql.replace("{now}", "extract(epoch from statement_timestamp())::float8"), width


async def _undo(connection: asyncpg.Connection) -> None:
    """Roll back; a connection that cannot is not used again."""
    try:
        if not connection.is_closed():
            await connection.execute("rollback")
    except ERRORS:
        connection.terminate()


def _is_lost(connection: asyncpg.Connection, error: Exception) -> bool:
    code = _code(error)
    # An internal error of the library: it met the end of the connection where it did not expect it.
    broken = isinstance(error, OSError | asyncpg.InternalClientError)
    return connection.is_closed() or broken or code.startswith(_LOST) or code == _LOST_TOO


def _sorted(error: Exception) -> Exception:
    """What the database's refusal is to the caller."""
    code = _code(error)
    if code in _AGAIN:
        return _BegunInVainError(first_line(error))
    if code == _WAITED:
        return StoreWaited(first_line(error))
    if code.startswith(_REFUSED):
        return StoreRefused(first_line(error))
    return StoreFailed(first_line(error))


def _code(error: BaseException) -> str:
    """The SQLSTATE, where it is the server's error or a parameter's."""
    return str(getattr(error, "sqlstate", None) or "")


def is_denied(error: BaseException) -> bool:
    """Whether the role lacks a right; also where SQLAlchemy wraps it."""
    return _code(getattr(error, "orig", None) or error) == _DENIED


def first_line(error: BaseException) -> str:
    """The database's words, without its second lines and without complaints of data, which both quote values."""
    if isinstance(error, asyncpg.DataError):
        return type(error).__name__
    return str(getattr(error, "orig", None) or error).partition("\n")[0] or type(error).__name__


async def _connect(dsn: str, instance: str) -> asyncpg.Connection:
    """A connection to a database that is this instance's and keeps what it commits. Raises StoreFailed."""
    connection = await connect(dsn, SESSION, statement_cache_size=128, max_cached_statement_lifetime=0)
    try:
        async with asyncio.timeout(CONNECT):
            await _look(connection, instance)
    except BaseException as error:
        connection.terminate()
        if isinstance(error, ERRORS):
            remedy = _NO_RIGHTS if is_denied(error) else ""
            raise StoreFailed(f"the database cannot be asked what it is: {first_line(error)}{remedy}") from error
        raise
    return connection


async def _look(connection: asyncpg.Connection, instance: str) -> None:
    shown = await connection.fetchrow(
        "select current_setting('fsync'), current_setting('synchronous_commit'), current_setting('server_encoding'), "
        "pg_is_in_recovery(), to_regclass('facts') is not null and to_regclass('alembic_version') is not null"
    )
    fsync, synchronous, encoding, standby, made = shown
    if fsync != "on" or synchronous not in ("on", "remote_apply"):
        raise StoreFailed(
            f"the database may lose what it has committed (fsync is {fsync}, synchronous_commit is {synchronous}): "
            "set both to on in postgresql.conf."
        )
    if encoding != "UTF8":
        raise StoreFailed(f"the database's encoding is {encoding}: make one with encoding 'UTF8'.")
    if standby:
        raise StoreFailed("the database is a standby, which takes no writes: name the primary in GATEWAY_DATABASE.")
    kept = await connection.fetchval(INSTANCE) if made else None
    hold("the database", instance, kept, await connection.fetchval(VERSION) if made else None)
    if not await connection.fetchval(_MAY_SERVE):
        raise StoreFailed(
            "the role that serves lacks rights in the database: run deploy/postgresql/after_migrate.sql there as a "
            "superuser, as after each gateway migrate."
        )


async def may_undo(driver: Driver) -> bool:
    """Whether the role could change the journal's tables, as their owner or a superuser. Raises StoreFailed."""
    rows = await driver.read("select pg_has_role(relowner, 'member') from pg_class where oid = 'facts'::regclass")
    return bool(rows[0][0])


def journal_rows(url: str, words: Sequence[bytes] = ()) -> Iterator[Sequence[Any]]:
    """The journal's rows by month, writer and number, as they all stood at one moment. Raises StoreFailed, also midway.

    ``words``: only those in whose entry one of them stands.
    Not while an event loop runs in this thread.
    """
    pages = _pages(dsn_of(url), words)

    async def following() -> Sequence[Sequence[Any]] | None:
        return await anext(pages, None)

    with asyncio.Runner() as runner:
        try:
            while page := runner.run(following()):
                yield from page
        except ERRORS as error:
            raise StoreFailed(f"the database cannot be read as a journal: {first_line(error)}") from error
        finally:
            runner.run(pages.aclose())


async def _pages(dsn: str, words: Sequence[bytes]) -> AsyncGenerator[Sequence[Sequence[Any]], None]:
    connection = await connect(dsn, {"application_name": "gateway journal"})
    try:
        await connection.execute("begin isolation level repeatable read, read only")  # else numbers seem to be missing
        for (month,) in await connection.fetch("select month from journal_months order by month"):
            columns = "writer, n, leaf, entry, particulars"
            said = " or ".join(f"position(${place} in entry) > 0" for place in range(1, len(words) + 1)) or "true"
            select = f"select {columns} from journal_{month} where {said} order by writer, n"  # noqa: S608 - numbers
            cursor = await connection.cursor(select, *words)
            while page := await cursor.fetch(PAGE):
                yield page
    finally:
        connection.terminate()
