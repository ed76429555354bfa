"""A gateway as a process of its own, which kills or stops itself at one point of its work; the point is a number.

Started by ``nodes``. It counts every step from the moment that it prints its address: each statement of each
transaction, each commit, the call to the provider. At the chosen one the signal hits it, before the step is done;
at 0 it lives.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import orjson

from gateway.core.model import Endpoint
from gateway.edge import keys
from gateway.edge.store import Driver, Plan, Rows
from gateway.edge.systems import Systems
from gateway.protocols.protocol import Answer, Call
from gateway.settings import Settings
from tests.fakes import idp
from tests.fakes.parties import ISSUER, Terms, catalogue_of
from tests.fakes.town import Watched, driver_of

T = TypeVar("T")


class Fate:
    """Counts steps, and what happens at the chosen one."""

    def __init__(self, chosen: int, how: signal.Signals) -> None:
        self._left = chosen
        self._how = how
        self.begun = False

    def step(self) -> None:
        """A step is about to be taken."""
        if self.begun:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), self._how)


class Doomed:
    """A driver whose every statement and commit is a step."""

    def __init__(self, driver: Driver, fate: Fate) -> None:
        self._driver = driver
        self._fate = fate

    async def transact(self, plan: Callable[[], Plan[T]]) -> T:
        result = await self._driver.transact(lambda: self._stepped(plan()))
        self._fate.step()  # committed, and nobody told yet
        return result

    def _stepped(self, plan: Plan[T]) -> Plan[T]:
        try:
            statement = next(plan)
            while True:
                self._fate.step()
                rows: Rows = yield statement
                statement = plan.send(rows)
        except StopIteration as end:
            self._fate.step()  # everything said, nothing committed
            result: T = end.value
            return result

    async def read(self, select: str, values: Sequence[Any] = ()) -> Rows:
        return await self._driver.read(select, values)

    def beside(self) -> Driver:
        """What goes on by itself for documents is no step of an exchange."""
        return self._driver.beside()

    async def close(self) -> None:
        await self._driver.close()


class Victim(Watched):
    """A gateway whose calls to providers are steps too."""

    fate: Fate

    async def _systems(self, stack: AsyncExitStack) -> Systems:
        systems = await super()._systems(stack)
        ask = systems.providers.call

        async def stepped(endpoint: Endpoint, call: Call, at: datetime, *, repeatable: bool) -> Answer:
            self.fate.step()
            answer = await ask(endpoint, call, at, repeatable=repeatable)
            self.fate.step()
            return answer

        systems.providers.call = stepped  # type: ignore[method-assign] # the one seam that the flow calls through
        return systems


async def _live(folder: Path, office: str, url: str, wanted: dict[str, Any]) -> None:
    parties = {name: idp.Key(jwk) for name, jwk in orjson.loads((folder / "parties.json").read_bytes()).items()}
    settings = Settings(issuer=ISSUER, database=url, listen="127.0.0.1:0", operations_listen="127.0.0.1:0")
    fate = Fate(wanted["chosen"], signal.Signals(wanted["how"]))
    driver = Doomed(driver_of(url, settings.instance), fate)
    keyring = keys.read(folder / "keys", settings.instance)
    victim = Victim(settings, catalogue_of(office, parties, Terms(**wanted["terms"])), keyring, driver)
    victim.fate = fate
    async with victim.running() as addresses:
        fate.begun = True
        sys.stderr.write(f"ADDRESS {addresses.public} {addresses.operations}\n")
        sys.stderr.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_live(Path(sys.argv[1]), sys.argv[2], sys.argv[3], orjson.loads(sys.argv[4])))
