"""What the agent knows: of documents, of reports, of partitions; three views of one file.

The file may be lost: then the gateway is asked about documents that are not known here (``handling.start``).
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.agent.disk import Base, Row, open_file
from gateway.agent.ports import Counts, Decided, Final, Foreign, Gap, Report, Told
from gateway.core.delivery import Reason
from gateway.core.handling import Known, Outcome, Standing, Verdict, settled

MAX_FOREIGN = 10_000
"""Records that were not taken, and of which it is remembered where they lie: whoever may write to the topic could fill
the disk with them."""
FORGOTTEN_AT_ONCE = 5_000
"""Documents that one transaction forgets."""

_TOLD = "told"
_STRANDED = f"part = ? and position < ? and standing in ('{Standing.BEGUN}', '{Standing.FREE}')"


class Seen:
    """``ports.Memory``."""

    def __init__(self, base: Base) -> None:
        self._base = base

    async def look(self, document: str) -> Known | None:
        """What is known of it."""
        rows = await self._base.rows("select * from known where id = ?", document)
        return _known(rows[0]) if rows else None

    async def write(self, known: Known, *, owed: bool = False) -> None:
        """This is known of it from now on."""
        await self._base.transact(lambda base: _write(base, known, owed=owed))

    async def unsettled(self) -> Sequence[Known]:
        """By their places."""
        rows = await self._base.rows("select * from known where standing = 'unknown' order by part, position")
        return tuple(_known(row) for row in rows)

    async def decide(self, document: str, verdict: Verdict, number: str | None = None, *, by: str, why: str) -> bool:
        """A person settles an unknown outcome."""
        decided = Decided(document, verdict, by, why, time.time())
        return await self._base.transact(lambda base: _decide(base, decided, number))

    async def decisions(self, limit: int) -> Sequence[Decided]:
        """The newest first."""
        rows = await self._base.rows("select id, verdict, by, why, at from decisions order by n desc limit ?", limit)
        return tuple(Decided(row[0], Verdict(row[1]), *row[2:]) for row in rows)

    async def unknown(self, documents: Sequence[str]) -> Sequence[str]:
        """Those of which nothing is known here."""
        return await self._base.transact(lambda base: tuple(each for each in documents if _look(base, each) is None))

    async def forget(self, partition: int, below: int) -> None:
        """Never what is not finished, nor what the gateway was not told."""
        while await self._base.transact(lambda base: _forget(base, partition, below)) == FORGOTTEN_AT_ONCE:
            pass

    async def stranded(self, partition: int, below: int, limit: int) -> Sequence[str]:
        """In no order: where many stay, each has its turn."""
        select = f"select id from seen where {_STRANDED} order by random() limit ?"  # noqa: S608 - words of this module
        return tuple(str(row[0]) for row in await self._base.rows(select, partition, below, limit))

    async def drop(self, document: str, partition: int, below: int) -> None:
        """Unless another record of it came meanwhile."""
        statement = f"delete from seen where {_STRANDED} and id = ?"  # noqa: S608 - words of this module
        await self._base.do(statement, partition, below, document)


class Due:
    """``ports.Dues``."""

    def __init__(self, base: Base) -> None:
        self._base = base

    async def unreported(self, limit: int, after: int = 0) -> Sequence[Report]:
        """The oldest first."""
        rows = await self._base.rows("select * from owed where report > ? order by report limit ?", after, limit)
        return tuple(_report(row) for row in rows)

    async def reported(self, report: Report, answered: Told | Final) -> None:
        """The number is another one where the outcome is to be told anew."""
        answer = answered.code if isinstance(answered, Final) else _TOLD
        statement = "update seen set answer = ? where id = ? and report = ?"
        await self._base.do(statement, answer, report.document, report.number)

    async def refused(self) -> Sequence[tuple[Report, str]]:
        """What the gateway will never take."""
        rows = await self._base.rows("select * from final order by report")
        return tuple((_report(row[:-1]), str(row[-1])) for row in rows)


class Ground:
    """``ports.Places``."""

    def __init__(self, base: Base, identity: str) -> None:
        self._base = base
        self._identity = identity

    @property
    def identity(self) -> str:
        """Made with the file."""
        return self._identity

    async def reached(self, partition: int) -> int | None:
        """The position behind the last record that was finished here."""
        rows = await self._base.rows("select position from reached where part = ?", partition)
        return int(rows[0][0]) if rows else None

    async def finished(self, positions: Mapping[int, int]) -> None:
        """Written before the group's positions are, so that it never stands behind them."""
        await self._base.transact(lambda base: _finished(base, positions))

    async def keep(self, foreign: Foreign) -> None:
        """The same record twice is one."""
        await self._base.transact(lambda base: _keep(base, foreign))

    async def foreign(self) -> Sequence[Foreign]:
        """The newest first."""
        rows = await self._base.rows("select part, position, why, detail, claimed from foreign_records order by n desc")
        return tuple(Foreign(*row) for row in rows)

    async def missed(self, gap: Gap) -> None:
        """Records went unread; the oldest expectation of a partition stays."""
        await self._base.do(
            "insert into gaps (part, expected, begins) values (?, ?, ?) on conflict (part) do update"
            " set expected = min(expected, excluded.expected), begins = excluded.begins",
            *(gap.partition, gap.expected, gap.begins),
        )

    async def gaps(self) -> Sequence[Gap]:
        """By partition."""
        return tuple(
            Gap(*row) for row in await self._base.rows("select part, expected, begins from gaps order by part")
        )

    async def looked(self) -> None:
        """The records stay listed; nobody is alarmed by them any more."""
        await self._base.transact(_looked)


@dataclass(frozen=True, slots=True)
class Ledger:
    """All that the file holds."""

    base: Base
    memory: Seen
    dues: Due
    places: Ground

    async def counts(self) -> Counts:
        """How much of everything there is. Raises Unwritten."""
        return await self.base.transact(_counts)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Ledger]:
    """The file, made where there is none; for its owner alone, as it names documents. Raises Unwritten."""
    with ThreadPoolExecutor(1, "memory") as thread:
        loop = asyncio.get_running_loop()
        connection, identity = await loop.run_in_executor(thread, open_file, path)
        base = Base(connection, thread)
        try:
            yield Ledger(base, Seen(base), Due(base), Ground(base, identity))
        finally:
            await base.close()


def _look(base: sqlite3.Connection, document: str) -> Known | None:
    row = base.execute("select * from known where id = ?", (document,)).fetchone()
    return None if row is None else _known(row)


def _write(base: sqlite3.Connection, known: Known, *, owed: bool) -> None:
    report = None
    if owed:
        base.execute("update reports set n = n + 1")
        report = base.execute("select n from reports").fetchone()[0]
    values = (
        *(known.document, known.service, known.partition, known.position, known.redelivery, known.digest),
        *(
            known.standing,
            known.tries,
            known.touched,
            known.repeated,
            known.outcome,
            known.number,
            known.reason,
            report,
        ),
    )
    base.execute(
        "insert or replace into seen (id, service, part, position, redelivery, digest, standing, tries, touched,"
        " repeated, outcome, number, reason, report) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        values,
    )


def _decide(base: sqlite3.Connection, decided: Decided, number: str | None) -> bool:
    known = _look(base, decided.document)
    if known is None or known.standing is not Standing.UNKNOWN:
        return False
    then = settled(known, decided.verdict, number)
    _write(base, then, owed=then.outcome is not None)
    base.execute(
        "insert into decisions (id, verdict, by, why, at) values (?, ?, ?, ?, ?)",
        (decided.document, decided.verdict, decided.by, decided.why, decided.at),
    )
    return True


def _forget(base: sqlite3.Connection, partition: int, below: int) -> int:
    base.execute("delete from foreign_records where part = ? and position < ?", (partition, below))
    done = (Standing.TAKEN, Standing.REFUSED, Standing.PASSED)
    return base.execute(
        "delete from seen where id in (select id from seen where part = ? and position < ?"
        " and standing in (?, ?, ?) and (report is null or answer is not null) limit ?)",
        (partition, below, *done, FORGOTTEN_AT_ONCE),
    ).rowcount


def _finished(base: sqlite3.Connection, positions: Mapping[int, int]) -> None:
    base.executemany("insert or replace into reached (part, position) values (?, ?)", list(positions.items()))


def _keep(base: sqlite3.Connection, foreign: Foreign) -> None:
    base.execute(
        "insert into foreign_records (part, position, why, detail, claimed) values (?, ?, ?, ?, ?)"
        " on conflict do nothing",
        (foreign.partition, foreign.position, foreign.why, foreign.detail, foreign.claimed),
    )
    newest = base.execute("select max(n) from foreign_records").fetchone()[0]
    base.execute("delete from foreign_records where n <= ?", (newest - MAX_FOREIGN,))


def _looked(base: sqlite3.Connection) -> None:
    base.execute("delete from gaps")
    base.execute("update foreign_records set looked = 1 where looked = 0")


def _counts(base: sqlite3.Connection) -> Counts:
    def one(of: str) -> int:
        return int(base.execute(f"select count(*) from {of}").fetchone()[0])  # noqa: S608 - words of this module

    return Counts(
        seen=one("seen"),
        unreported=one("owed"),
        unsettled=one("seen where standing = 'unknown'"),
        refused_reports=one("final"),
        foreign=one("foreign_records where looked = 0"),
        gaps=one("gaps"),
    )


def _known(row: Row) -> Known:
    return Known(
        document=row[0],
        service=row[1],
        partition=row[2],
        position=row[3],
        redelivery=row[4],
        digest=row[5],
        standing=Standing(row[6]),
        tries=row[7],
        touched=bool(row[8]),
        repeated=bool(row[9]),
        outcome=None if row[10] is None else Outcome(row[10]),
        number=row[11],
        reason=None if row[12] is None else Reason(row[12]),
    )


def _report(row: Row) -> Report:
    return Report(row[0], row[1], Outcome(row[2]), row[3], row[4])
