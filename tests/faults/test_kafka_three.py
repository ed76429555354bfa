"""Three brokers, three replicas of everything, two in sync to acknowledge: killed under load, and rolled.

``GATEWAY_TEST_CAMPAIGN_SECONDS`` is how long each stretch lasts; the figures of each run are printed (``pytest -rP``).
"""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.brokers import Brokers, started
from tests.fakes.serving import pause
from tests.faults.harbour import PATIENCE, SECONDS, Harbour, harbour

PAUSE = 60.0
"""Seconds without an arrival, on a machine with other things to do, that one broker's end may cost."""
SETTLED = 3.0
"""Seconds without an arrival: what was acknowledged before the second broker went is in the gateway's database."""


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """All of them run at the beginning and the end of each test."""
    with started(tmp_path_factory.mktemp("three"), 3) as running:
        yield running


async def longest(at: Harbour) -> float:
    """The longest pause between two arrivals."""
    moments = [moment for _, moment in await at.arrived()]
    return max(later - sooner for sooner, later in itertools.pairwise(sorted(moments)))


async def settled(at: Harbour) -> int:
    """Wait until no more arrives; how many have."""
    before, found = -1, 0
    async with asyncio.timeout(PATIENCE):
        while before != found:
            await pause(SETTLED)
            before, found = found, len(await at.arrived())
    return found


async def held(at: Harbour, *told: str) -> None:
    """Ends the load; what was counted is right."""
    dry = await at.dry()
    found = await at.counted()
    print("; ".join(told), f"dry after {dry:.1f} s", found.told, sep="\n")  # noqa: T201 - the figures of the run
    assert found.wrong == {}


async def test_one_killed_stops_nothing_two_acknowledge_nothing(three: Brokers, tmp_path: Path) -> None:
    """One gone costs an election; with two gone nothing is said to have arrived; back, all does, once and in order."""
    async with harbour(tmp_path / "hub", three) as at:
        at.write(only=at.agency)
        await at.flows(20)
        three.kill(1)
        await at.flows(20)
        await pause(SECONDS)
        one = await longest(at)
        three.kill(2)
        before = await settled(at)
        await pause(SECONDS)
        stood = len(await at.arrived())
        status, _ = await at.panel.ready()
        await three.restart(1, 2)
        flowing = await at.flows()
        await held(at, f"one killed: longest pause {one:.1f} s", f"two back: first one after {flowing:.1f} s")
    assert (stood, status, one < PAUSE, flowing < PAUSE) == (before, 200, True, True)


async def test_rolling_restart(three: Brokers, tmp_path: Path) -> None:
    """Each broker is ended in order and started again: no longer pause than an election takes, nothing lost."""
    async with harbour(tmp_path / "hub", three) as at:
        at.write(only=at.agency)
        await at.flows(20)
        for number in (1, 2, 3):
            await three.stop(number)
            await three.restart(number)
            await at.flows(20)
        pausing = await longest(at)
        errors = {
            name: told for name, told in (await at.panel.metrics()).items() if name.startswith("gateway_kafka_errors")
        }
        await held(at, f"longest pause {pausing:.1f} s", f"{errors}")
    assert pausing < PAUSE
