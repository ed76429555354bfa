"""A database whose transaction dies at a chosen statement, as it does when its process is killed there."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from gateway.edge.store import Driver, Plan, Rows

T = TypeVar("T")


class DiedError(Exception):
    """The process is gone: what it had not committed never happened."""


class Dying:
    """The real one; ``left`` statements and commits are done before the next death, 0: it lives."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.left = 0

    def _step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise DiedError

    async def transact(self, plan: Callable[[], Plan[T]]) -> T:
        return await self._driver.transact(lambda: self._stepped(plan()))

    def _stepped(self, plan: Plan[T]) -> Plan[T]:
        try:
            statement = next(plan)
            while True:
                self._step()
                rows: Rows = yield statement
                statement = plan.send(rows)
        except StopIteration as end:
            self._step()
            result: T = end.value
            return result

    async def read(self, select: str, values: Sequence[Any] = ()) -> Rows:
        return await self._driver.read(select, values)

    def beside(self) -> Driver:
        """One that lives."""
        return self._driver.beside()

    async def close(self) -> None:
        await self._driver.close()
