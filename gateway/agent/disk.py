"""The file in which the agent keeps what it knows: SQLite, one durable transaction for each call, in a thread."""

import asyncio
import os
import sqlite3
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from gateway.agent.ports import Unwritten

T = TypeVar("T")
Row = tuple[Any, ...]

BUSY_SECONDS = 5.0
"""How long a transaction waits for another process on the same file: ``gateway agent settle``, say."""

_VERSION = 1
_SCHEMA = """
create table seen (
  id         text primary key,
  service    text not null,
  part       integer not null,
  position   integer not null,
  redelivery integer not null,
  digest     blob not null,
  standing   text not null,
  tries      integer not null,
  touched    integer not null,
  repeated   integer not null,
  outcome    text,
  number     text,
  reason     text,
  report     integer,
  answer     text
) without rowid;
create index seen_places on seen (part, position);
create unique index seen_reports on seen (report) where report is not null;
create index seen_owed on seen (report) where report is not null and answer is null;
create index seen_final on seen (answer) where answer is not null and answer <> 'told';
create index seen_unknown on seen (standing) where standing = 'unknown';
create view known as
  select id, service, part, position, redelivery, digest, standing, tries, touched, repeated, outcome, number, reason
    from seen;
create view owed as
  select report, id, outcome, number, reason from seen where report is not null and answer is null;
create view final as
  select report, id, outcome, number, reason, answer from seen where answer is not null and answer <> 'told';
create table foreign_records (
  n        integer primary key autoincrement,
  part     integer not null,
  position integer not null,
  why      text not null,
  detail   text not null,
  claimed  text,
  looked   integer not null default 0,
  unique (part, position)
);
create table decisions (
  n       integer primary key autoincrement,
  id      text not null,
  verdict text not null,
  by      text not null,
  why     text not null,
  at      real not null
);
create table reached (part integer primary key, position integer not null);
create table gaps (part integer primary key, expected integer not null, begins integer not null);
create table about (name text primary key, value text not null);
create table reports (n integer not null);
insert into reports (n) values (0);
"""


class Base:
    """The open file. Each call is one transaction in its thread."""

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._thread = thread

    async def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What ``work`` gives, once it is on the disk. Raises Unwritten."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transacted, work)

    async def rows(self, select: str, *values: object) -> list[Row]:
        """What a question finds. Raises Unwritten."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._found, select, values)

    async def do(self, statement: str, *values: object) -> None:
        """One statement."""
        await self.transact(lambda base: base.execute(statement, values))

    def _found(self, select: str, values: tuple[object, ...]) -> list[Row]:
        try:
            return self._connection.execute(select, values).fetchall()
        except sqlite3.Error as error:
            raise Unwritten(f"the agent's memory cannot be read: {error}") from error

    def _transacted(self, work: Callable[[sqlite3.Connection], T]) -> T:
        base = self._connection
        try:
            base.execute("begin immediate")
            try:
                found = work(base)
                base.execute("commit")
            except BaseException:
                if base.in_transaction:
                    base.execute("rollback")
                raise
        except sqlite3.Error as error:
            raise Unwritten(f"the agent's memory cannot be used: {error}") from error
        return found


def open_file(path: Path) -> tuple[sqlite3.Connection, str]:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        base = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise Unwritten(f"the agent's memory {path} cannot be opened: {error}") from error
    try:
        return base, _prepared(base)
    except (ValueError, sqlite3.Error) as error:
        base.close()
        said = f"the agent's memory {path} cannot be used: {error}; move it away, and the agent begins a new one"
        raise Unwritten(said) from error


def _prepared(base: sqlite3.Connection) -> str:
    """The file's identity. Raises ValueError where another version wrote it."""
    base.execute("pragma journal_mode = wal")
    base.execute("pragma synchronous = full")  # what is written before a hand-over must be there after a power cut
    base.execute("begin immediate")
    version = base.execute("pragma user_version").fetchone()[0]
    if version not in (0, _VERSION):
        raise ValueError(f"it has the form {version}, and this version of the gateway writes the form {_VERSION}")
    if version == 0:
        for statement in _SCHEMA.split(";"):
            base.execute(statement)
        base.execute("insert into about (name, value) values ('identity', ?)", (str(uuid.uuid4()),))
        base.execute(f"pragma user_version = {_VERSION}")
    base.execute("commit")
    return str(base.execute("select value from about where name = 'identity'").fetchone()[0])
