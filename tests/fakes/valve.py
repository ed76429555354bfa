"""A database behind a valve: the real one, made to fail, to wait or to be early when a test asks for it."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from gateway.edge.store import Driver, Plan, Rows, Statement, StoreFailed

T = TypeVar("T")


class Valve:
    """The real database, which fails, waits with its commits, makes mistakes, or lives in the future when told to."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._first = self
        """The one that tests hold: what it is told counts for all beside it."""
        self.others: list[Valve] = []
        """Those beside it."""
        self.failing = False
        self.mistakes = 0
        """So many transactions of its own end in an error that nobody foresaw: others go on by themselves."""
        self.ahead = 0.0
        """Seconds by which the database's clock is fast."""
        self.last: tuple[str, ...] = ()
        """Statements at the end of each transaction, such as one that waits."""
        self.gate = threading.Event()
        """Closed, transactions stop between their last statement and their commit (SQLite's, in their own thread)."""
        self.gate.set()
        self.holding = asyncio.Event()

    async def transact(self, plan: Callable[[], Plan[T]]) -> T:
        told = self._first
        if told.failing:
            raise StoreFailed("disk I/O error")
        if self.mistakes:
            self.mistakes -= 1
            raise LookupError("a mistake in the gateway's own code")
        loop = asyncio.get_running_loop()

        def held() -> Plan[T]:
            result = yield from _fast(plan(), told.ahead)
            for each in told.last:
                yield each, ()
            if not told.gate.is_set():
                loop.call_soon_threadsafe(told.holding.set)
                told.gate.wait(60)
            return result

        return await self._driver.transact(held)

    async def read(self, select: str, values: Sequence[Any] = ()) -> Rows:
        if self._first.failing:
            raise StoreFailed("disk I/O error")
        return await self._driver.read(select, values)

    def beside(self) -> "Valve":
        made = Valve(self._driver.beside())
        made._first = self._first
        self._first.others.append(made)
        return made

    async def close(self) -> None:
        self.gate.set()
        await self._driver.close()


def _fast(plan: Plan[T], seconds: float) -> Plan[T]:
    """The same plan under a clock that is fast."""

    def spelled(statement: Statement) -> Statement:
        return statement[0].replace("{now}", f"({{now}} + {seconds})"), statement[1]

    try:
        statement = next(plan)
        while True:
            rows: Rows = yield spelled(statement)
            statement = plan.send(rows)
    except StopIteration as end:
        result: T = end.value
        return result
