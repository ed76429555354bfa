"""The file in which the agent keeps what it knows: SQLite, in a thread; each call ends when its work is on the disk.

What is asked for while the disk works goes there together: one transaction, and one wait for the disk, for all of it.
"""

import asyncio
import contextlib
import os
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
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


@dataclass(frozen=True, slots=True)
class _Asked:
    """Work that waits for its turn."""

    work: Callable[[sqlite3.Connection], Any]
    reads: bool
    """It changes nothing, and needs no transaction."""
    answer: "asyncio.Future[Any]"


class Base:
    """The open file. Of works that share a transaction, one that fails takes back itself alone."""

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._thread = thread
        self._waiting: list[_Asked] = []
        self._under_way: asyncio.Future[list[tuple[_Asked, object]]] | None = None

    async def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What ``work`` gives, once it is on the disk. Raises Unwritten."""
        found: T = await self._asked(work, reads=False)
        return found

    async def rows(self, select: str, *values: object) -> list[Row]:
        """What a question finds. Raises Unwritten."""
        found: list[Row] = await self._asked(lambda base: base.execute(select, values).fetchall(), reads=True)
        return found

    async def do(self, statement: str, *values: object) -> None:
        """One statement."""
        await self.transact(lambda base: base.execute(statement, values))

    async def close(self) -> None:
        """What was asked for before is on the disk."""
        while self._under_way is not None:
            await asyncio.wait([self._under_way])
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)

    async def _asked(self, work: Callable[[sqlite3.Connection], Any], *, reads: bool) -> Any:
        asked = _Asked(work, reads, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if self._under_way is None:
            self._go()
        return await asked.answer

    def _go(self) -> None:
        """All that waits, but for whoever has gone meanwhile."""
        together, self._waiting = [each for each in self._waiting if not each.answer.done()], []
        if together:
            loop = asyncio.get_running_loop()
            self._under_way = loop.run_in_executor(self._thread, _done, self._connection, together)
            self._under_way.add_done_callback(partial(self._answered, together))

    def _answered(self, together: Sequence[_Asked], done: "asyncio.Future[list[tuple[_Asked, object]]]") -> None:
        self._under_way = None
        error = done.exception()
        for asked, found in [(each, error) for each in together] if error else done.result():
            if asked.answer.done():
                continue
            if isinstance(found, BaseException):
                asked.answer.set_exception(found)
            else:
                asked.answer.set_result(found)
        self._go()


def _done(base: sqlite3.Connection, together: Sequence[_Asked]) -> list[tuple[_Asked, object]]:
    """With what each gives or raises. Reads come first: none sees what is not on the disk yet."""
    found = [(each, _tried(base, each.work)) for each in together if each.reads]
    if writes := [each for each in together if not each.reads]:
        found += zip(writes, _written(base, [each.work for each in writes]), strict=True)
    return found


def _tried(base: sqlite3.Connection, work: Callable[[sqlite3.Connection], object]) -> object:
    try:
        return work(base)
    except sqlite3.Error as error:
        return _unwritten(error)
    except StopIteration as error:  # no future takes one
        return RuntimeError(repr(error))
    except Exception as error:  # noqa: BLE001 - whoever asked gets it
        return error


def _written(base: sqlite3.Connection, works: Sequence[Callable[[sqlite3.Connection], object]]) -> list[object]:
    """In one transaction, which is on the disk at the end, or nothing of it."""
    found: list[object] = []
    try:
        base.execute("begin immediate")
        for work in works:
            base.execute("savepoint own")
            found.append(_tried(base, work))
            if not base.in_transaction:  # a disk that is full has taken back all of it
                raise _cause(found[-1])
            if isinstance(found[-1], Exception):
                base.execute("rollback to own")
            base.execute("release own")
        base.execute("commit")
    except sqlite3.Error as error:
        with contextlib.suppress(sqlite3.Error):
            base.execute("rollback")
        return [_unwritten(error) for _ in works]
    return found


def _cause(found: object) -> sqlite3.Error:
    cause = found.__cause__ if isinstance(found, Unwritten) else None
    return cause if isinstance(cause, sqlite3.Error) else sqlite3.OperationalError("the transaction was taken back")


def _unwritten(error: sqlite3.Error) -> Unwritten:
    said = Unwritten(f"the agent's memory cannot be used: {error}")
    said.__cause__ = error
    return said


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
