"""What an agency that is down costs its neighbours: the time from 202 to arrival of their documents, with and without.

Gateways on databases of their own, asked in turns: two for which nothing waits, which differ by what the machine does
meanwhile; one with an agency that cannot be reached, and one with an agency that hangs until its deadline, for each of
which so many documents wait.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop

from tests.fakes.addressees import TAKEN, Came, Hook, hook, refusing
from tests.fakes.district import SENDER, District, Pushed
from tests.fakes.senders import Desk
from tests.fakes.serving import Node, pause, serving

NOBODY = "nobody down"
AT_ONCE = 32
WARMING = 200
"""Letters by each gateway that are not counted."""
PATIENCE = 60.0
"""Seconds for all letters to arrive."""
DEADLINE = "5s"
"""Of the agency that hangs."""


@dataclass(slots=True)
class Town:
    """A gateway, and what its neighbours' documents took."""

    desk: Desk
    near: Hook
    node: Node

    async def load(self, waiting: int) -> None:
        """So many documents for the one that is down, each in a lane of its own."""
        left = iter(range(waiting))

        async def one() -> None:
            for n in left:
                await self.desk.send("down", f"down{n}", {"case": f"down{n}", "n": 0})

        await asyncio.gather(*(one() for _ in range(AT_ONCE)))

    async def letter(self, n: int) -> str:
        """One to the neighbour; its id."""
        return await self.desk.send("near", f"near-{n}", {"case": f"near-{n}", "n": 0, "text": "n" * 900})

    def took(self, documents: Sequence[str]) -> list[float]:
        """The seconds from each one's 202 to its arrival, sorted."""
        return sorted(max(0.0, self.near.ledger.at[each] - self.desk.at[each]) for each in documents)


async def built(stack: AsyncExitStack, folder: Path, down: str) -> Town:
    """One gateway whose neighbour takes everything."""
    near = await stack.enter_async_context(hook())
    district = District(folder / "district")
    district.found([Pushed("near", near.url), Pushed("down", down, deadline=DEADLINE)])
    node = await stack.enter_async_context(serving(district, f"sqlite:///{folder / 'gateway.sqlite3'}"))
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    return Town(Desk(session, lambda: node.url, district.token(SENDER)), near, node)


async def measured(folder: Path, waiting: int, letters: int, rate: float) -> None:
    """Everything, in turns, and told."""
    forever = asyncio.Event()

    async def hangs(_: Came) -> int:
        await forever.wait()
        return TAKEN

    async with AsyncExitStack() as stack:
        silent = await stack.enter_async_context(hook(hangs))
        stack.callback(forever.set)
        places = dict.fromkeys((NOBODY, "nobody else", "one refuses"), refusing()) | {"one hangs": silent.url}
        towns = {name: await built(stack, folder / name.replace(" ", "_"), url) for name, url in places.items()}
        for name, town in towns.items():
            if name.startswith("one"):
                await town.load(waiting)
        await in_turns(list(towns.values()), WARMING, rate, 0)
        told(towns, await in_turns(list(towns.values()), letters, rate, WARMING), waiting)


async def in_turns(towns: Sequence[Town], letters: int, rate: float, first: int) -> list[list[float]]:
    """So many letters by each gateway, ``rate`` a second in all: whatever the machine does besides hits all alike."""
    sent: list[list[asyncio.Task[str]]] = [[] for _ in towns]
    begun = time.perf_counter()
    for number in range(letters * len(towns)):
        if (rest := begun + number / rate - time.perf_counter()) > 0:
            await pause(rest)
        turn, which = divmod(number, len(towns))
        sent[which].append(asyncio.create_task(towns[which].letter(first + turn)))
    took = []
    for town, tasks in zip(towns, sent, strict=True):
        documents = await asyncio.gather(*tasks)
        async with asyncio.timeout(PATIENCE):
            while not town.near.ledger.at.keys() >= set(documents):
                await pause(0.01)
        took.append(town.took(documents))
    return took


def told(names: Iterable[str], took: Sequence[Sequence[float]], waiting: int) -> None:
    """Median and 99th percentile, and how many times those of the first."""
    (usual, latest), *_ = figures = [(each[len(each) // 2], each[int(len(each) * 0.99)]) for each in took]
    for name, (middle, late) in zip(names, figures, strict=True):
        waits = waiting if name.startswith("one") else 0
        ratios = f"{middle / usual:.2f} and {late / latest:.2f} times"
        print(f"{name:12s} {waits:6d} wait: median {middle * 1e3:5.2f} ms, 99th {late * 1e3:6.2f} ms ({ratios})")


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description="What an agency that is down costs its neighbours.")
    parser.add_argument("waiting", nargs="?", type=int, default=10_000, help="documents for the one that is down")
    parser.add_argument("letters", nargs="?", type=int, default=3000, help="to the neighbour, by each gateway")
    parser.add_argument("rate", nargs="?", type=float, default=200.0, help="letters a second, in all")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(measured(Path(folder), asked.waiting, asked.letters, asked.rate))


if __name__ == "__main__":
    main()
