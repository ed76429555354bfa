"""What the agent knows of documents: one SQLite file, one durable transaction for each call, in a thread of its own.

The file may be lost: then the gateway is asked what it holds of documents that are not known here (``handling.start``).
"""

import asyncio
import os
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from gateway.agent.ports import Counts, Final, Foreign, Gap, Report, Told, Unwritten
from gateway.core.delivery import Reason
from gateway.core.handling import Known, Outcome, Standing, Verdict, settled

T = TypeVar("T")

MAX_FOREIGN = 10_000
"""Records that were not taken, and of which it is remembered where they lie: whoever may write to the topic could fill
the disk with them."""
FORGOTTEN_AT_ONCE = 5_000
"""Documents that one transaction forgets."""
BUSY_SECONDS = 5.0
"""How long a transaction waits for ``gateway agent settle`` or another process on the same file."""

_VERSION = 1
_TOLD = "told"
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
  outcome    text,
  number     text,
  reason     text,
  report     integer,
  answer     text
) without rowid;
create index seen_places on seen (part, position);
create unique index seen_owed on seen (report) where report is not null and answer is null;
create index seen_final on seen (answer) where answer is not null and answer <> 'told';
create index seen_unknown on seen (standing) where standing = 'unknown';
create table foreign_records (
  n        integer primary key autoincrement,
  part     integer not null,
  position integer not null,
  why      text not null,
  detail   text not null,
  claimed  text,
  unique (part, position)
);
create table reached (part integer primary key, position integer not null);
create table gaps (part integer primary key, expected integer not null, begins integer not null);
create table about (name text primary key, value text not null);
"""
_COLUMNS = "id, service, part, position, redelivery, digest, standing, tries, touched, outcome, number, reason"
_REPORT = "report, id, outcome, number, reason"
_FINISHED = "standing in ('taken', 'refused', 'passed')"


class Ledger:
    """``ports.Memory`` on one file."""

    def __init__(self, base: sqlite3.Connection, thread: ThreadPoolExecutor, identity: str) -> None:
        self._base = base
        self._thread = thread
        self.identity = identity

    async def look(self, document: str) -> Known | None:
        rows = await self._in_thread(lambda: _look(self._base, document))
        return _known(rows[0]) if rows else None

    async def write(self, known: Known, *, owed: bool = False) -> None:
        await self._in_thread(lambda: _write(self._base, known, owed=owed))

    async def unreported(self, limit: int, after: int = 0) -> Sequence[Report]:
        rows = await self._read(
            f"select {_REPORT} from seen where report > ? and answer is null order by report limit ?", after, limit
        )
        return tuple(_report(row) for row in rows)

    async def reported(self, report: Report, answered: Told | Final) -> None:
        answer = answered.code if isinstance(answered, Final) else _TOLD
        await self._do("update seen set answer = ? where id = ? and report = ?", answer, report.document, report.number)

    async def unsettled(self) -> Sequence[Known]:
        rows = await self._read(f"select {_COLUMNS} from seen where standing = 'unknown' order by part, position")
        return tuple(_known(row) for row in rows)

    async def refused(self) -> Sequence[tuple[Report, str]]:
        """Those the gateway will never take, with its code."""
        rows = await self._read(
            f"select {_REPORT}, answer from seen where answer is not null and answer <> 'told' order by report"
        )
        return tuple((_report(row[:-1]), str(row[-1])) for row in rows)

    async def decide(self, document: str, verdict: Verdict, number: str | None = None) -> bool:
        return await self._in_thread(lambda: _decide(self._base, document, verdict, number))

    async def unknown(self, documents: Sequence[str]) -> Sequence[str]:
        marks = ",".join("?" * len(documents))
        rows = await self._read(f"select id from seen where id in ({marks})", *documents)  # noqa: S608 - marks alone
        found = {row[0] for row in rows}
        return tuple(each for each in documents if each not in found)

    async def keep(self, foreign: Foreign) -> None:
        await self._in_thread(lambda: _keep(self._base, foreign))

    async def foreign(self) -> Sequence[Foreign]:
        rows = await self._read("select part, position, why, detail, claimed from foreign_records order by n desc")
        return tuple(Foreign(*row) for row in rows)

    async def reached(self, partition: int) -> int | None:
        rows = await self._read("select position from reached where part = ?", partition)
        return int(rows[0][0]) if rows else None
