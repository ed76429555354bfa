"""The queue under kills, pauses and everything else at once: nothing lost, nothing twice, the order of each key kept.

D1, D2, D3, D7, D8, D10, D11, D12, D27, D28 of the races, all at the same time, as ``flow-and-journal`` 1.4 counts them.
"""

import asyncio
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from gateway.edge.postgres import PostgresDriver
from gateway.edge.store import SqliteDriver
from tests.fakes.mail import INTERIOR, Office, working
from tests.faults.sorter import LEASE, WAYS, Stage, dispatcher, disturber, pause, poller, submitter

COUNT, KEYS = 3000, 60
"""References of each of two who submit; ordering keys of each recipient."""
KILLS, PAUSES = 6, 4
"""Of all dispatchers."""
DOWN = 4.0
"""Seconds for which one recipient does not answer."""
PATIENCE = 180.0
ENDS = "('registered', 'rejected', 'recalled', 'expired', 'undeliverable')"


@dataclass(frozen=True, slots=True)
class Found:
    """What must be nought, in the words of 1.4; and what is only told."""

    lost: int
    twice_taken: int
    out_of_order: int
    recalled_and_handed_over: int
    two_ends: int
    registered_twice: int
    faults: tuple[str, ...]
    told: str

    @property
    def sound(self) -> bool:
        """Nothing that must not be."""
        counts = (self.lost, self.twice_taken, self.out_of_order, self.recalled_and_handed_over, self.two_ends)
        return not (any(counts) or self.registered_twice or self.faults)


async def counted(office: Office, folder: Path, begun: float) -> Found:
    """Held against each other: what the callers were told, what the recipients got, what the database says."""
    lines = [line.split() for line in (folder / "log").read_text().splitlines()]
    by = defaultdict(list)
    for kind, *words in lines:
        by[kind].append(words)
    rows = await office.rows("select seq, document, recipient, okey, state from deliveries order by seq")
    states = {document: state for _, document, _, _, state in rows}
    handed = [words[0] for words in by["handed"]]
    first = {name: place for place, name in reversed(list(enumerate(handed)))}
    taken: dict[str, set[str]] = defaultdict(set)
    for reference, name, _ in by["taken"]:
        taken[reference].add(name)
    names = {name for each in taken.values() for name in each}
    over = {name for name in names if name in first or states.get(name) in ("recalled", "expired")}
    lanes: dict[tuple[str, str], list[int]] = defaultdict(list)
    for _, document, recipient, okey, _ in rows:
        if document in first:
            lanes[recipient, okey].append(first[document])
    recalled = {name for name, state in states.items() if state == "recalled"}
    ends = await office.rows(f"select document from steps where step in {ENDS} group by document having count(*) > 1")  # noqa: S608
    registered = Counter(words[0] for words in by["registered"])
    counts = Counter(states.values())
    return Found(
        lost=len(names - over),
        twice_taken=sum(len(each) > 1 for each in taken.values()),
        out_of_order=sum(_inversions(each) for each in lanes.values()),
        recalled_and_handed_over=len(recalled & first.keys()),
        two_ends=len(ends),
        registered_twice=sum(count > 1 for count in registered.values()),
        faults=await office.faults(),
        told=f"{len(names)} documents in {time.monotonic() - begun:.1f} s, {len(handed)} hand-overs, "
        f"{len(handed) - len(first)} of them repeats, {len(by['failed'])} attempts at the one that was down, "
        f"{len(by['killed'])} kills, {len(by['paused'])} pauses, "
        f"refused: {dict(Counter(words[0] for words in by['refused']))}; {dict(counts)}",
    )


def _inversions(places: Sequence[int]) -> int:
    """How many were handed over for the first time before an older one of their lane."""
    return sum(later < earlier for earlier, later in pairwise(places))


async def drained(office: Office) -> None:
    """Returns when everything has been handed over or has ended."""
    async with asyncio.timeout(PATIENCE):
        while (await office.rows("select count(*) from deliveries where open"))[0][0]:
            await pause(0.1)


@asynccontextmanager
async def process(role: str, url: str, folder: Path, name: str = "") -> AsyncIterator[asyncio.subprocess.Process]:
    """One that ends with the context."""
    arguments = (sys.executable, "-m", "tests.faults.sorter", role, url, str(folder), name)
    started = await asyncio.create_subprocess_exec(*arguments)
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def hunted(url: str, folder: Path, kills: int, pauses: int) -> None:
    """A dispatcher that is killed so often, and paused for longer than its lease; the last one lives on."""
    stage = Stage(folder, random.Random(f"{kills}{pauses}"))
    for life in range(kills + 1):
        async with process("dispatcher", url, folder) as victim:
            for _ in range(pauses if life == 0 else 0):  # before it is killed
                await pause(1 + stage.chance.random())
                victim.send_signal(signal.SIGSTOP)
                stage.note("paused", victim.pid)
                await pause(1.5 * LEASE)
                victim.send_signal(signal.SIGCONT)
            if life == kills:
                await asyncio.Event().wait()
            await pause(1 + stage.chance.random())
            stage.note("killed", victim.pid)


async def outage(folder: Path) -> None:
    """Begins when it has got something."""
    async with asyncio.timeout(PATIENCE):
        while f" {INTERIOR}\n" not in ((folder / "log").read_text() if (folder / "log").exists() else ""):
            await pause(0.05)
    (folder / "down").touch()
    await pause(DOWN)
    (folder / "down").unlink()


async def test_killed_and_paused_processes_lose_nothing(shared: str, tmp_path: Path) -> None:
    """PostgreSQL: seven processes, two of them hunted; counted at both ends."""
    begun = time.monotonic()
    async with working(PostgresDriver(shared, "DEMO"), *WAYS) as office, asyncio.TaskGroup() as group:
        hunts = [group.create_task(hunted(shared, tmp_path, KILLS // 2, PAUSES // 2)) for _ in range(2)]
        async with (
            process("submitter", shared, tmp_path, f"a,{COUNT},{KEYS}") as one,
            process("submitter", shared, tmp_path, f"b,{COUNT},{KEYS}") as two,
            process("pollers", shared, tmp_path),
            process("disturber", shared, tmp_path),
        ):
            down = group.create_task(outage(tmp_path))
            assert (await one.wait(), await two.wait()) == (0, 0)
            await down
            await drained(office)
        for hunt in hunts:
            hunt.cancel()
        found = await counted(office, tmp_path, begun)
    print(f"PostgreSQL: {found}")  # noqa: T201 - the figures of the run
    assert found.sound


async def test_abandoned_and_slow_workers_lose_nothing(tmp_path: Path) -> None:
    """SQLite, which serves one process: the same with tasks that are cancelled anywhere, or stand still too long."""
    begun = time.monotonic()
    stage = Stage(tmp_path, random.Random(7))
    async with working(SqliteDriver(tmp_path / "post.sqlite3", "DEMO"), *WAYS) as office:
        others = [asyncio.create_task(each(office, stage)) for each in (poller, poller, disturber)]
        never_stopped = Stage(tmp_path, random.Random(8))
        others.append(asyncio.create_task(dispatcher(office, never_stopped)))
        victim = asyncio.create_task(dispatcher(office, stage))
        down = asyncio.create_task(outage(tmp_path))
        submitting = asyncio.gather(*(submitter(office, stage, name, COUNT, KEYS) for name in "ab"))
        for _ in range(KILLS):
            await pause(0.5)
            stage.note("killed")
            victim.cancel()
            victim = asyncio.create_task(dispatcher(office, stage))
        for _ in range(PAUSES):
            stage.going.clear()
            stage.note("paused")
            await pause(1.5 * LEASE)
            stage.going.set()
            await pause(0.3)
        await asyncio.gather(submitting, down)
        await drained(office)
        for task in (*others, victim):
            task.cancel()
        await asyncio.gather(*others, victim, return_exceptions=True)
        found = await counted(office, tmp_path, begun)
    print(f"SQLite: {found}")  # noqa: T201 - the figures of the run
    assert found.sound
