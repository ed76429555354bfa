"""What an agency that is down costs its neighbours: how long their documents take from 202 to arrival, with and without.

Three gateways on databases of their own, asked in turns: one for which nothing waits, one with an agency that cannot
be reached, one with an agency that hangs until its deadline; for each of the two so many documents wait.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import uvloop

from tests.fakes.addressees import TAKEN, Came, Hook, hook, refusing
from tests.fakes.district import SENDER, District, Pushed
from tests.fakes.senders import Desk
from tests.fakes.serving import Node, pause, serving

AT_ONCE = 32
PATIENCE = 60.0
"""Seconds for all letters of a round to arrive."""
DEADLINE = "5s"
"""Of the agency that hangs."""


@dataclass(slots=True)
class Town:
    """A gateway, and what its neighbours' documents took."""

    desk: Desk
    near: Hook
    node: Node
    took: list[float] = field(default_factory=list)

    async def load(self, waiting: int) -> None:
        """So many documents for the one that is down, each in a lane of its own."""
        left = iter(range(waiting))

        async def one() -> None:
            for n in left:
                await self.desk.send("down", f"down{n}", {"case": f"down{n}", "n": 0})

        await asyncio.gather(*(one() for _ in range(AT_ONCE)))

    async def round(self, label: str, count: int, rate: float) -> None:
        """So many letters to the neighbour, ``rate`` a second: the seconds from each 202 to its arrival."""
        begun = time.perf_counter()
        sent = []
        for n in range(count):
            if (rest := begun + n / rate - time.perf_counter()) > 0:
                await asyncio.sleep(rest)
            body = {"case": f"{label}-{n}", "n": 0, "text": "n" * 900}
            sent.append(asyncio.create_task(self.desk.send("near", f"{label}-{n}", body)))
        documents = await asyncio.gather(*sent)
        async with asyncio.timeout(PATIENCE):
            while not self.near.ledger.at.keys() >= set(documents):
                await pause(0.01)
        self.took += (max(0.0, self.near.ledger.at[each] - self.desk.at[each]) for each in documents)


async def built(stack: AsyncExitStack, folder: Path, down: str) -> Town:
    """One gateway whose neighbour takes everything."""
    near = await stack.enter_async_context(hook())
    district = District(folder / "district")
    district.found([Pushed("near", near.url), Pushed("down", down, deadline=DEADLINE)])
    node = await stack.enter_async_context(serving(district, f"sqlite:///{folder / 'gateway.sqlite3'}"))
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    return Town(Desk(session, lambda: node.url, district.token(SENDER)), near, node)


async def measured(folder: Path, waiting: int, rounds: int, rate: float) -> None:
    """Everything, in turns, and told."""
    forever = asyncio.Event()

    async def hangs(_: Came) -> int:
        await forever.wait()
        return TAKEN

    async with AsyncExitStack() as stack:
        silent = await stack.enter_async_context(hook(hangs))
        stack.callback(forever.set)
        places = {"nobody down": refusing(), "one refuses": refusing(), "one hangs": silent.url}
        towns = {name: await built(stack, folder / name.replace(" ", "_"), url) for name, url in places.items()}
        for name, town in towns.items():
            if name != "nobody down":
                await town.load(waiting)
        turns = list(towns.values())
        for number in range(rounds + 1):
            for town in turns:
                await town.round(f"round{number}", int(rate * 2), rate)
                if not number:  # the first one warms up
                    town.took.clear()
            turns.reverse()
        told(towns, waiting)


def told(towns: Mapping[str, Town], waiting: int) -> None:
    """Median and 99th percentile of all rounds together."""
    usual = (0.0, 0.0)
    for name, town in towns.items():
        took = sorted(town.took)
        middle, late = took[len(took) // 2], took[int(len(took) * 0.99)]
        usual = usual if usual[0] else (middle, late)
        waits = 0 if name == "nobody down" else waiting
        ratios = f"{middle / usual[0]:.2f} and {late / usual[1]:.2f} times"
        print(f"{name:12s} {waits:6d} wait: median {middle * 1e3:5.2f} ms, 99th {late * 1e3:6.2f} ms ({ratios})")


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description="What an agency that is down costs its neighbours.")
    parser.add_argument("waiting", nargs="?", type=int, default=10_000, help="documents for the one that is down")
    parser.add_argument("rounds", nargs="?", type=int, default=10)
    parser.add_argument("rate", nargs="?", type=float, default=150.0, help="letters a second to the neighbour")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(measured(Path(folder), asked.waiting, asked.rounds, asked.rate))


if __name__ == "__main__":
    main()
