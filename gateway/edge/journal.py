"""The journal's writer: gapless numbers, one batch in flight, nothing reported before it is durable.

Everything that must be true together with an entry (the claim of an idempotency key, say) is done in the same
transaction: such work is a plan (see ``store``) that may write entries as it goes. A process may have several writers
(one for exchanges, one for documents, so that a wait for a lane delays no exchange), each with a number of its own.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeAlias, TypeVar

from gateway.core.entry import Draft, Stamp, numbered
from gateway.core.refusal import Refusal
from gateway.edge import holds
from gateway.edge.documents.records import LaneKey
from gateway.edge.pulse import Pulse
from gateway.edge.store import (
    MAX_ROWS,
    MONTH,
    Driver,
    LanesHeld,
    Plan,
    StoreFailed,
    StoreRefused,
    StoreUnsure,
    StoreWaited,
    chunks,
)

T = TypeVar("T")

MAX_WAITING = 4096
"""Works that wait for the writer; more are refused."""
MAX_BATCH = 256
PROBE = 1.0
"""Seconds between looks at a database that failed."""
SPACING = 0.004
"""Seconds from the begin of a batch to the begin of the next: fewer, larger commits, where there is a load."""
MANY = 5
"""Entries of a single work that tell of a load, as several works do: submissions come together (``Post``)."""
TRIES = 3
"""Times that a batch is begun whose connection is lost at its commit, and that happened not."""
LOOKS = 10
"""Times that a batch is looked for which another connection may be committing; each may wait for lock_timeout."""
COLUMNS = "(writer, n, leaf, entry, particulars) {rows int8 int8 bytea bytea bytea}"


Happened: TypeAlias = tuple[str, str, str]
"""Document, service and step."""


class Book:
    """The numbers of one batch, given out in order; what is written here is inserted when the batch ends."""

    def __init__(self, writer: int, last: int) -> None:
        self.writer = writer
        self.last = last
        self.rows: list[Any] = []
        self.about: list[Happened] = []
        """What happens to documents in this batch; who counts it, or waits for it, is told when it is durable."""

    def write(self, draft: Draft) -> Stamp:
        """Give the draft the next number."""
        self.last += 1
        entry, stamp = numbered(draft, self.writer, self.last)
        self.rows += (self.writer, self.last, stamp.leaf, entry, draft.particulars)
        return stamp


@dataclass(slots=True, eq=False)
class _Work(Generic[T]):
    plan: Callable[[Book], Plan[T]]
    locks: tuple[str, ...]
    lanes: frozenset[LaneKey]
    done: "asyncio.Future[T]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class _NeverHappenedError(Exception):
    """What was to be found out about is not there; raised to undo the asking."""


class _Attempt:
    """A batch as it is done in one transaction, kept as long as it is not known what became of that."""

    def __init__(self, batch: Sequence[_Work[Any]]) -> None:
        self.batch = batch
        self.month = datetime.now(UTC).strftime("%Y_%m")
        self.results: list[Any] = []
        self.book = Book(0, 0)
        self.lanes: frozenset[LaneKey] = frozenset().union(*(work.lanes for work in batch))
        self.locking = False
        """It is at its lanes, before the first of its works."""
        self._at: _Work[Any] | None = None

    def plan(self, book: Book, *, month_is_there: bool) -> Plan[None]:
        """Everything, from the beginning."""
        self.results, self.book, self._at = [], book, None
        if not month_is_there:
            yield MONTH, (self.month,)
        self.locking = True
        yield from holds.lock(self.lanes)
        self.locking = False
        for work in self.batch:  # in the order of their locks
            self._at = work
            result = yield from work.plan(book)
            self.results.append(result)
        self._at = None
        for rows in chunks(book.rows, 5):
            yield f"insert into journal_{self.month} {COLUMNS}", rows

    def tell(self) -> None:
        """Give each its result."""
        for work, result in zip(self.batch, self.results, strict=True):
            if not work.done.done():
                work.done.set_result(result)

    def stuck(self) -> Sequence[_Work[Any]]:
        """The works that need the row for which the transaction waited in vain; all, where none of them needs it."""
        at = self._at
        if at is None:
            return self.batch
        return [work for work in self.batch if work is at or (at.locks and work.locks == at.locks)]

    def look(self) -> Plan[None]:
        """Succeeds where it was committed after all. Raises _NeverHappenedError where it was not, and cannot be now.

        Its numbers are taken again: that waits for a transaction which the database may still be about to commit.
        """
        last = self.book.rows[-5 * MAX_ROWS :]
        yield MONTH, (self.month,)
        rows = yield f"insert into journal_{self.month} {COLUMNS} on conflict do nothing returning n", last
        if rows:
            raise _NeverHappenedError
        writer, n, leaf, *_ = last[-5:]
        rows = yield f"select leaf from journal_{self.month} where writer = $1 and n = $2", (writer, n)  # noqa: S608
        if rows[0][0] != leaf:
            raise StoreFailed(f"another process writes under the number {writer}: restart this one")


class _Ledger:
    """The numbers of one writer, and its transactions: each is done once, also where COMMIT's answer is lost."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.writer = 0
        self._last = 0
        self._months: set[str] = set()
        self._unsure: _Attempt | None = None

    async def open(self, program: str) -> None:
        """Take a new writer's number. Raises StoreFailed."""

        def begin() -> Plan[int]:
            sql = "insert into writers (started, program) values ({now}, $1) returning writer"
            rows = yield sql, (program,)
            return int(rows[0][0])

        self.writer = await self._driver.transact(begin)

    async def transact(self, attempt: _Attempt) -> None:
        """Do it once, under the next numbers; where COMMIT is not answered, find out. Raises as the driver does."""
        await self._find_out()
        first = (self.writer, self._last)
        there = attempt.month in self._months
        for _ in range(TRIES):
            try:
                await self._driver.transact(lambda: attempt.plan(Book(*first), month_is_there=there))
            except StoreUnsure:
                if not attempt.book.rows:  # nothing of it could be found again: who asked may ask anew
                    raise
                self._unsure = attempt
                if await self._find_out():
                    return
            else:
                self._last = attempt.book.last
                self._months.add(attempt.month)
                return
        raise StoreFailed("the connection is lost at each commit")

    async def _find_out(self) -> bool:
        """Whether the batch whose COMMIT was not answered, if any, happened. Raises StoreFailed: nobody knows yet."""
        if (attempt := self._unsure) is None:
            return False
        for _ in range(LOOKS):
            try:
                await self._driver.transact(attempt.look)
            except _NeverHappenedError:
                self._unsure = None
                return False
            except StoreWaited:
                continue
            except StoreRefused as error:
                raise StoreFailed(str(error)) from error
            self._unsure, self._last = None, attempt.book.last
            return True
        raise StoreFailed("the database is still busy with a batch whose connection was lost")


class Journal:
    """A writer with a number of its own."""

    def __init__(
        self,
        driver: Driver,
        *,
        observe: Callable[[float, int], None] = lambda _s, _n: None,
        tell: Callable[[Sequence[Happened]], None] = lambda _: None,
    ) -> None:
        """``observe`` is told of each commit, seconds and entries; ``tell`` what happened to documents by it."""
        self._driver = driver
        self._holds = holds.Holds(driver)
        self._observe = observe
        self._tell = tell
        self._ledger = _Ledger(driver)
        self._waiting: list[_Work[Any]] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._pulse = Pulse()
        self._written = 0
        """Entries of the last batch."""
        self._task: asyncio.Task[None] | None = None

    async def open(self, program: str) -> None:
        """Take a new writer's number. Raises StoreFailed."""
        await self._ledger.open(program)
        self._task = asyncio.create_task(self._write_on())

    @property
    def writer(self) -> int:
        """This process's number in the journal."""
        return self._ledger.writer

    @property
    def failing(self) -> bool:
        """The last batch could not be written, or the present one hangs: nothing new should be begun."""
        return self._pulse.failing

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

    async def run(
        self, plan: Callable[[Book], Plan[T]], *, locks: tuple[str, ...] = (), lanes: Collection[LaneKey] = ()
    ) -> T:
        """Do the plan's work and what it writes in one transaction. Raises Refusal journal.unavailable.

        ``locks`` names the row that the plan will hold: a batch takes them in order, so that two processes that
        hold some of the same rows never wait for each other in a circle. ``lanes`` are made and locked before the
        batch's first plan; where another transaction holds one for too long, the refusal's cause is LanesHeld.
        """
        if self._closing or len(self._waiting) >= MAX_WAITING or (self._pulse.busy and self.failing):
            raise unavailable()
        work = _Work(plan, locks, frozenset(lanes))
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
                async with asyncio.timeout(PROBE if self._pulse.failed else None):
                    await self._wake.wait()
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            if not self._waiting and not self._closing:
                self._wake.clear()
            batch.sort(key=lambda work: (not work.locks, work.locks))  # who takes no row to keep, or skips, comes last
            begun = loop.time()
            self._pulse.begin()
            await self._commit_free(batch)  # an empty one is the probe of a database that failed
            self._pulse.end()
            rest = SPACING - (loop.time() - begun)
            if (len(batch) > 1 or self._written >= MANY) and rest > 0 and not self._closing:
                await asyncio.sleep(rest)

    async def _commit_free(self, batch: Sequence[_Work[Any]]) -> None:
        """One batch, without the works that need a lane which was held a moment ago, and is so still."""
        try:
            held = await self._holds.still(lane for work in batch for lane in work.lanes)
        except (StoreFailed, StoreRefused) as error:
            self._pulse.note(_why(error))
            _refuse(batch, error)
        else:
            await self._commit(_without(batch, held))

    async def _commit(self, batch: Sequence[_Work[Any]], left: int = TRIES) -> None:
        """One batch, without what waits for others; where something is refused or mistaken, each work by itself."""
        begun = asyncio.get_running_loop().time()
        attempt = _Attempt(batch)
        try:
            await self._ledger.transact(attempt)
        except StoreFailed as error:
            self._pulse.note(str(error))
            _refuse(batch, error)
        except StoreWaited as error:
            if attempt.locking:
                await self._commit_others(attempt, error, left - 1)
                return
            stuck = attempt.stuck()
            _refuse(stuck, error)
            if others := [work for work in batch if work not in stuck]:
                await self._commit(others)
        except Exception as error:  # noqa: BLE001 - a plan's own mistake must not end the writer
            if len(batch) == 1:
                _refuse(batch, error)
            else:
                for work in batch:
                    await self._commit([work])
        else:
            self._pulse.note(None)
            self._observe(asyncio.get_running_loop().time() - begun, len(attempt.book.rows) // 5)
            self._written = len(attempt.book.rows) // 5
            attempt.tell()
            if attempt.book.about:
                self._tell(attempt.book.about)

    async def _commit_others(self, attempt: _Attempt, error: StoreWaited, left: int) -> None:
        """A batch whose lanes could not all be had: once more, without the works that need those."""
        try:
            held = await self._holds.among(attempt.lanes)
        except (StoreFailed, StoreRefused) as failed:
            self._pulse.note(_why(failed))
            _refuse(attempt.batch, failed)
            return
        others = _without(attempt.batch, held)
        if not left:  # each time somebody else was quicker
            _refuse(others, error)
        elif others:
            await self._commit(others, left)


def _without(batch: Sequence[_Work[Any]], held: frozenset[LaneKey]) -> Sequence[_Work[Any]]:
    """The works that need none of the held lanes; the others are told."""
    if not held:
        return batch
    stuck = [work for work in batch if not held.isdisjoint(work.lanes)]
    _refuse(stuck, LanesHeld(held))
    return [work for work in batch if work not in stuck]


def _refuse(works: Sequence[_Work[Any]], error: Exception) -> None:
    """Tell all of them: what the store could not do is the journal's fault, anything else their own plan's."""
    for work in works:
        if isinstance(error, StoreFailed | StoreRefused):
            _fail(work.done, unavailable(error), cause=error)
        else:
            _fail(work.done, error)


def _why(error: StoreFailed | StoreRefused) -> str | None:
    """Why the journal cannot be written; None: the database answers, and what was brought is at fault."""
    return str(error) if isinstance(error, StoreFailed) else None


def unavailable(error: BaseException | None = None) -> Refusal:
    """What a caller is told when the journal cannot be written: at all, or where another process holds its row."""
    held = "Another process of the gateway holds what the call needs, for too long: nothing was changed."
    cannot = "The journal cannot be written now, so that nothing is let through."
    return Refusal("journal.unavailable", held if isinstance(error, StoreWaited) else cannot, retry_after=2)


def _fail(waiter: "asyncio.Future[Any]", error: Exception, *, cause: Exception | None = None) -> None:
    if not waiter.done():
        error.__cause__ = cause
        waiter.set_exception(error)
        with contextlib.suppress(Exception):  # a caller that went away leaves no "never retrieved" warning
            waiter.exception()
