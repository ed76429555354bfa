"""The journal's writer: gapless numbers, one batch in flight, nothing reported before it is durable.

Everything that must be true together with an entry (the claim of an idempotency key, say) is done in the same
transaction: such work is a plan (see ``store``) that may write entries as it goes.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from gateway.core.entry import Draft, Stamp, numbered
from gateway.core.refusal import Refusal
from gateway.edge import tables
from gateway.edge.store import Driver, Plan, StoreFailed, StoreRefused, rows_of

T = TypeVar("T")

MAX_WAITING = 4096
"""Works that wait for the writer; more are refused."""
MAX_BATCH = 256
PROBE = 1.0
"""Seconds between looks at a database that failed."""
SPACING = 0.004
"""Seconds from the begin of a batch to the begin of the next: fewer, larger commits, where there is a load."""


class Book:
    """The numbers of one batch, given out in order; what is written here is inserted when the batch ends."""

    def __init__(self, writer: int, last: int) -> None:
        self.writer = writer
        self.last = last
        self.rows: list[Any] = []

    def write(self, draft: Draft) -> Stamp:
        """Give the draft the next number."""
        self.last += 1
        entry, stamp = numbered(draft, self.writer, self.last)
        self.rows += (self.writer, self.last, stamp.leaf, entry, draft.particulars)
        return stamp


@dataclass(slots=True)
class _Work(Generic[T]):
    plan: Callable[[Book], Plan[T]]
    locks: tuple[str, ...]
    done: "asyncio.Future[T]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Journal:
    """The one writer of this process."""

    def __init__(self, driver: Driver, *, observe: Callable[[float, int], None] = lambda _s, _n: None) -> None:
        """``observe`` is told of each commit: seconds, entries."""
        self._driver = driver
        self._observe = observe
        self._writer = 0
        self._last = 0
        self._months: set[str] = set()
        self._waiting: list[_Work[Any]] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    async def open(self, program: str) -> None:
        """Take a new writer's number. Raises StoreFailed."""

        def begin() -> Plan[int]:
            sql = "insert into writers (started, program) values ({now}, $1) returning writer"
            rows = yield sql, (program,)
            return int(rows[0][0])

        self._writer = await self._driver.transact(begin)
        self._task = asyncio.create_task(self._write_on())

    @property
    def writer(self) -> int:
        """This process's number in the journal."""
        return self._writer

    @property
    def failing(self) -> bool:
        """The last batch could not be written: nothing new should be begun."""
        return self._failing

    @property
    def waiting(self) -> int:
        """Works that wait for a batch."""
        return len(self._waiting)

    async def append(self, draft: Draft) -> Stamp:
        """Write one entry; returns when it is durable. Raises Refusal journal.unavailable."""

        def only(book: Book) -> Plan[Stamp]:
            yield from ()
            return book.write(draft)

        return await self.run(only)

    async def run(self, plan: Callable[[Book], Plan[T]], *, locks: tuple[str, ...] = ()) -> T:
        """Do the plan's work and what it writes in one transaction. Raises Refusal journal.unavailable.

        ``locks`` names the row that the plan will hold: a batch takes them in order, so that two processes that
        hold some of the same rows never wait for each other in a circle.
        """
        if self._closing or len(self._waiting) >= MAX_WAITING:
            raise unavailable()
        work = _Work(plan, locks)
        self._waiting.append(work)
        self._wake.set()
        return await work.done

    async def close(self) -> None:
        """Write what waits, then stop."""
        self._closing = True
        self._wake.set()
        if self._task:
            await self._task
        await self._driver.close()

    async def _write_on(self) -> None:
        loop = asyncio.get_running_loop()
        while not (self._closing and not self._waiting):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE if self._failing else None):
                    await self._wake.wait()
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            if not self._waiting and not self._closing:
                self._wake.clear()
            batch.sort(key=lambda work: work.locks)
            begun = loop.time()
            await self._commit(batch)  # an empty one is the probe of a database that failed
            rest = SPACING - (loop.time() - begun)
            if len(batch) > 1 and rest > 0 and not self._closing:
                await asyncio.sleep(rest)

    async def _commit(self, batch: list[_Work[Any]]) -> None:
        """One batch; where something in it is refused or mistaken, each work by itself."""
        begun = asyncio.get_running_loop().time()
        last = self._last
        try:
            results = await self._transact(batch)
        except StoreFailed as error:
            self._failing = True
            for work in batch:
                _fail(work.done, unavailable(), cause=error)
        except Exception as error:  # noqa: BLE001 - a plan's own mistake must not end the writer
            if len(batch) == 1:
                refused = isinstance(error, StoreRefused)
                _fail(batch[0].done, unavailable() if refused else error, cause=error if refused else None)
            else:
                for work in batch:
                    await self._commit([work])
        else:
            self._failing = False
            self._observe(asyncio.get_running_loop().time() - begun, self._last - last)
            for work, result in zip(batch, results, strict=True):
                if not work.done.done():
                    work.done.set_result(result)

    async def _transact(self, batch: Sequence[_Work[Any]]) -> list[Any]:
        month = datetime.now(UTC).strftime("%Y_%m")
        book = Book(self._writer, self._last)

        def plan() -> Plan[list[Any]]:
            if month not in self._months:
                for sql in tables.month_statements(month):
                    yield sql, ()
            results = []
            for work in batch:  # in the order of their locks
                result = yield from work.plan(book)
                results.append(result)
            if book.rows:
                columns = "(writer, n, leaf, entry, particulars)"
                values = rows_of(len(book.rows) // 5, 5)
                yield f"insert into journal_{month} {columns} values {values}", book.rows  # noqa: S608 - digits
            return results

        results = await self._driver.transact(plan)
        self._months.add(month)
        self._last = book.last
        return results


def unavailable() -> Refusal:
    """What a caller is told when the journal cannot be written."""
    return Refusal(
        "journal.unavailable", "The journal cannot be written now, so that nothing is let through.", retry_after=2
    )


def _fail(waiter: "asyncio.Future[Any]", error: Exception, *, cause: Exception | None = None) -> None:
    if not waiter.done():
        error.__cause__ = cause
        waiter.set_exception(error)
        with contextlib.suppress(Exception):  # a caller that went away leaves no "never retrieved" warning
            waiter.exception()
