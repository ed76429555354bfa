"""Two processes on one PostgreSQL under load: counted at the callers, at the provider and in the journal."""

import asyncio
import itertools
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from tests.fakes.parties import CHANGED, RECORD
from tests.fakes.town import Town, founded
from tests.faults.nodes import asked, started

COURTS = "justice.courts"
QUOTA = 1500
"""Of the tax office's look-ups; the courts' writes have none."""
BLOCK = QUOTA // 100
KEYS = 300
CALLERS = 40
DEADLINE, AMPLE = 1.0, 30.0
"""Seconds for an answer: soon over where processes are stopped, and never where all that was spent is counted."""


@pytest.fixture
async def town(tmp_path: Path, shared: str) -> AsyncIterator[Town]:
    """Its register numbers the changes that it makes, so that two answers to one key differ."""
    async with founded(tmp_path, shared) as founded_one:
        numbers = itertools.count(1)

        async def react(request: web.BaseRequest) -> web.StreamResponse:
            asks_for_change = request.path.endswith("change_address.v1")
            return web.json_response({**CHANGED, "record_version": next(numbers)} if asks_for_change else RECORD)

        founded_one.office.react = react
        yield founded_one


@dataclass
class Told:
    """What callers were told."""

    deadline: float = DEADLINE
    versions: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Of the 200s, by key."""
    codes: Counter[str] = field(default_factory=Counter)
    records: int = 0
    """Look-ups that were answered."""


async def written(town: Town, told: Told, key: str, address: Callable[[], str]) -> None:
    """Try a write, wherever, until what became of it is known."""
    while True:
        status, body = await asked(town, address(), key, system=COURTS, seconds=told.deadline)
        told.codes[str(status if status in (None, 200) else body["code"])] += 1
        if status == 200:
            told.versions[key].add(body["record_version"])
        if status == 200 or (status == 409 and body["code"] == "idempotency.outcome_unknown"):
            return


async def looked_up(town: Town, told: Told, address: str) -> int | None:
    status, body = await asked(town, address, seconds=told.deadline)
    told.codes[str(status if status in (None, 200) else body["code"])] += 1
    told.records += status == 200
    return status


async def used_up(town: Town, told: Told, address: str) -> None:
    """Look up until the quota's end is told."""
    while await looked_up(town, told, address) != 429:
        pass


async def load(works: list[Callable[[], Awaitable[object]]]) -> None:
    """All of them, by so many callers at once."""
    left = iter(works)

    async def caller() -> None:
        for work in left:
            await work()

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


def changes(town: Town) -> Counter[str]:
    """Calls that changed something at the provider, by key."""
    return Counter(orjson.loads(seen.body)["city"] for seen in town.office.seen if "change" in seen.target)


def look_ups(town: Town) -> int:
    return sum("lookup" in seen.target for seen in town.office.seen)


def works_of(
    town: Town, told: Told, address: Callable[[], str], *, times: int
) -> list[Callable[[], Awaitable[object]]]:
    """Every key so many times, and a third more look-ups than the quota has, shuffled."""
    keys = [f"k{n}" for n in range(KEYS)] * times
    works: list[Callable[[], Awaitable[object]]] = [
        *(lambda key=key: written(town, told, key, address) for key in keys),
        *(lambda: looked_up(town, told, address()) for _ in range(QUOTA * 4 // 3)),
    ]
    random.Random(7).shuffle(works)
    return works


async def test_quota_and_keys_are_exact_across_processes(town: Town, capsys: pytest.CaptureFixture[str]) -> None:
    """Forty callers, two processes: the quota is spent to the last unit, each key called once, one answer for each."""
    told, begun = Told(AMPLE), time.monotonic()
    terms: dict[str, Any] = {"quota": QUOTA, "deadline": AMPLE}
    async with started(town, **terms) as one, started(town, **terms) as other:
        turns = itertools.cycle([one.public, other.public])
        await load(works_of(town, told, lambda: next(turns), times=4))
        for node in (one, other):
            await used_up(town, told, node.public)
    assert (look_ups(town), told.records) == (QUOTA, QUOTA)
    assert changes(town) == {f"k{n}": 1 for n in range(KEYS)}
    assert {len(versions) for versions in told.versions.values()} == {1}
    assert town.faults() == ()
    show(capsys, town, told, time.monotonic() - begun)


async def test_a_killed_and_a_paused_process_lose_nothing(town: Town, capsys: pytest.CaptureFixture[str]) -> None:
    """One is killed under load and replaced, one stands still beyond its claims' time and goes on: the same holds."""
    told, begun = Told(), time.monotonic()
    terms: dict[str, Any] = {"quota": QUOTA, "deadline": DEADLINE}
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(started(town, **terms)) for _ in range(2)]
        turns = itertools.count()
        running = asyncio.create_task(
            load(works_of(town, told, lambda: nodes[next(turns) % len(nodes)].public, times=4))
        )
        await calls(town, 300)
        nodes[0].signal(signal.SIGKILL)
        await nodes[0].killed()
        nodes[0] = await stack.enter_async_context(started(town, **terms))
        await calls(town, len(town.office.seen) + 200)
        nodes[1].signal(signal.SIGSTOP)
        await nodes[1].stopped()
        late = await claims_are_late(town)
        nodes[1].signal(signal.SIGCONT)
        await running
        for node in nodes:
            await used_up(town, told, node.public)
        final = [[await known(town, node.public, f"k{n}") for n in range(KEYS)] for node in nodes]
    assert final[0] == final[1]
    # A unit is spent when a call is permitted, also one whose caller was cut off or gave up before it was made.
    assert QUOTA - BLOCK - told.codes["None"] <= look_ups(town) <= QUOTA
    assert told.records <= look_ups(town)
    assert set(changes(town).values()) == {1}
    assert {len(versions) for versions in told.versions.values()} == {1}
    admitted = Counter(entry.particulars["key"] for entry in town.entries() if entry.facts["step"] == "admitted")
    assert changes(town) <= admitted == Counter({f"k{n}": 1 for n in range(KEYS)})
    assert town.faults() == ()
    show(capsys, town, told, time.monotonic() - begun, f"{late} claims of the paused one were late")


async def known(town: Town, address: str, key: str) -> tuple[int | None, Any]:
    """What a node says of the key: the change's number, or why it cannot tell."""
    status, body = await asked(town, address, key, system=COURTS)
    return status, body.get("record_version", body.get("code"))


async def calls(town: Town, count: int) -> None:
    """Returns when the provider has seen so many."""
    while len(town.office.seen) < count:
        await town.office.arrived.acquire()


async def claims_are_late(town: Town) -> int:
    """Returns when a key that somebody claimed is past its deadline, and no other one runs."""
    late = "extract(epoch from now()) > deadline"
    for _ in range(2000):
        ((running, past),) = await asyncio.to_thread(
            town.rows,
            f"select count(*), count(*) filter (where {late}) from keys where state = 'running'",  # noqa: S608
        )
        if running == past:
            return int(past)
    raise TimeoutError


def show(capsys: pytest.CaptureFixture[str], town: Town, told: Told, seconds: float, more: str = "") -> None:
    figures = {
        "seconds": round(seconds, 1),
        "told": dict(told.codes),
        "records told, looked up": (told.records, look_ups(town)),
        "keys answered, changed": (len(told.versions), len(changes(town))),
    }
    with capsys.disabled():
        sys.stdout.write(f"\n{figures} {more}\n")
