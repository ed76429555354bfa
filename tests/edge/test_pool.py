"""The workers' parent: what it does with those that die, fall silent or do not start, shown with pretend ones."""

import asyncio
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gateway.edge.pool import TURNS, YOUNG_SECONDS, Ended, Life, Patience, Pool, Worker
from gateway.edge.tasks import cancelled
from tests.fakes.gate import reached
from tests.fakes.town import until

PRETEND = Path(__file__).parents[1] / "fakes" / "worker.py"


@dataclass(frozen=True, slots=True)
class Stage:
    pool: Pool
    script: Path
    """What the workers do that are started from now on."""

    def does(self, what: str) -> None:
        self.script.write_text(what, "utf-8")

    def exits(self, reason: str) -> float:
        """How many ended so."""
        return self.pool.meters.registry.get_sample_value("gateway_worker_exits_total", {"reason": reason}) or 0.0

    def serving(self) -> float:
        """How many are said to serve."""
        return self.pool.meters.registry.get_sample_value("gateway_workers") or 0.0

    async def until_serving(self, number: int) -> None:
        """Until so many are there, and all of them serve."""
        await self.until(lambda: len(found := self.pool.addresses()) == number and all(found.values()))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for that, not for ever."""
        await until(holds, 60)


@asynccontextmanager
async def stage(folder: Path, does: str = "serves", **patience: float) -> AsyncIterator[Stage]:
    with socket.create_server(("127.0.0.1", 0)) as public:
        script = folder / "does"
        pool = Pool((sys.executable, str(PRETEND), str(script)), public, Patience(**{"end": 5.0, **patience}))
        made = Stage(pool, script)
        made.does(does)
        watching = asyncio.create_task(pool.watch())
        try:
            yield made
        finally:
            async with asyncio.timeout(20):
                await pool.end()
            await cancelled(watching)


async def test_one_that_dies_is_replaced(tmp_path: Path) -> None:
    """By another of the same number; one that ends by itself in good order is missed as well."""
    async with stage(tmp_path) as made:
        await made.pool.begin()
        await made.pool.fill(3)
        for reason, number in (("killed", signal.SIGKILL), ("clean", signal.SIGTERM)):
            made.pool._workers[2].send(number)
            await made.until(lambda reason=reason: made.exits(reason) == 1)  # type: ignore[misc] # a default of a lambda
            await made.until_serving(3)
            assert set(made.pool.addresses()) == {1, 2, 3}


async def test_one_that_dies_young_is_replaced_ever_more_slowly(tmp_path: Path) -> None:
    """0.1, 0.2, 0.4, 0.8 seconds: what cannot live does not keep a machine busy."""
    async with stage(tmp_path) as made:
        await made.pool.begin()
        made.does("dies")
        began = time.monotonic()
        await made.pool.fill(2)
        await made.until(lambda: made.exits("failed") == 5)
        assert time.monotonic() - began > 0.1 + 0.2 + 0.4 + 0.8


async def test_one_without_a_sign_of_life_is_killed(tmp_path: Path) -> None:
    """It counts as stuck, and another takes its place."""
    async with stage(tmp_path, "silent", silent=0.5) as made:
        await made.pool.begin()
        await made.pool.fill(1)
        made.does("serves")
        await made.until(lambda: made.exits("stuck") == 1)
        await made.until_serving(1)


async def test_those_without_a_sign_of_life_are_killed_one_by_one(tmp_path: Path) -> None:
    """All of three fell silent at once: two are there at any moment, until three others are."""
    async with stage(tmp_path, "silent", silent=5.0) as made:  # longer than three take to start
        await made.pool.begin()
        await made.pool.fill(3)
        made.does("serves")
        least = [3.0]
        await made.until(lambda: _noted(least, made.serving()) and made.exits("stuck") == 3)
        await made.until_serving(3)
        assert min(least) == 2


def _noted(seen: list[float], one: float) -> bool:
    seen.append(one)
    return True


async def test_a_silent_one_does_not_wait_for_ever(tmp_path: Path) -> None:
    """What is to take the first one's place does not come to serve: the others have as long as that would have."""
    async with stage(tmp_path, "silent", silent=0.5, start=3.0) as made:
        await made.pool.begin()
        await made.pool.fill(2)
        made.does("idles")
        await made.until(lambda: made.exits("stuck") >= 2 and made.serving() == 0)


async def test_one_that_never_serves_is_killed(tmp_path: Path) -> None:
    """Its signs of life give it no more time."""
    async with stage(tmp_path, "idles", start=0.5) as made:
        with pytest.raises(Ended) as told:
            async with asyncio.timeout(20):
                await made.pool.begin()
        assert told.value.code == -signal.SIGKILL
        assert made.exits("stuck") == 1


async def test_one_that_does_not_end_is_killed(tmp_path: Path) -> None:
    """SIGTERM, its time, SIGKILL: a stop comes to its end."""
    async with stage(tmp_path, "deaf", end=0.2) as made:
        await made.pool.begin()
        await made.pool.end()
        assert (made.exits("stuck"), made.pool.addresses()) == (1, {})


async def test_one_that_has_no_process_yet_is_told_to_end(tmp_path: Path) -> None:
    """A stop in the very moment of a start: it does not wait for whoever never heard of it."""
    async with stage(tmp_path) as made:
        beginning = asyncio.create_task(made.pool.begin())
        await until(lambda: made.pool.addresses() == {1: ""})
        await made.pool.end()
        assert made.exits("clean") == 1
        with pytest.raises(Ended):
            await beginning


async def test_what_one_leaves_behind_does_not_stand_for_it(tmp_path: Path) -> None:
    """A process that it had started holds its channel, and it is replaced all the same."""
    os.mkfifo(tmp_path / "gate")
    async with stage(tmp_path, "leaves") as made:
        await made.pool.begin()
        made.does("serves")
        await made.pool.fill(1)
        heir = await reached(tmp_path / "gate")
        made.pool._workers[1].send(signal.SIGKILL)
        await made.until(lambda: made.exits("killed") == 1)
        await made.until_serving(1)
        os.close(heir)


async def test_a_roll_that_fails_changes_nothing(tmp_path: Path) -> None:
    """The new one does not come to serve: those that serve go on, and there is no second attempt."""
    async with stage(tmp_path) as made:
        await made.pool.begin()
        await made.pool.fill(2)
        before = dict(made.pool._workers)
        made.does("fails")
        await made.pool.roll()
        assert made.pool._workers == before
        assert made.exits("failed") == 1


async def test_one_that_dies_during_a_roll_is_replaced(tmp_path: Path) -> None:
    """The new one does not stand for the dead one: afterwards there are as many as wanted, all of them new."""
    os.mkfifo(tmp_path / "gate")
    async with stage(tmp_path) as made:
        await made.pool.begin()
        await made.pool.fill(2)
        before = dict(made.pool._workers)
        made.does("late")
        rolling = asyncio.create_task(made.pool.roll())
        await until(lambda: len(made.pool.addresses()) == 3)
        before[2].born -= YOUNG_SECONDS  # it is missed at once
        before[2].send(signal.SIGKILL)
        await made.until(lambda: made.exits("killed") == 1)
        gate = await reached(tmp_path / "gate")
        made.does("serves")
        os.close(gate)
        await rolling
        await made.until_serving(2)
        assert not set(made.pool._workers.values()) & set(before.values())


async def test_the_first_ones_code_is_told(tmp_path: Path) -> None:
    """Nothing is replaced that never served."""
    async with stage(tmp_path, "fails") as made:
        with pytest.raises(Ended) as told:
            await made.pool.begin()
        assert told.value.code == 3


async def test_one_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    """A system that makes no process just now (here: no such program) is asked again, more and more slowly."""
    async with stage(tmp_path) as made:
        await made.pool.begin()
        made.pool._hands = replace(made.pool._hands, program=(str(tmp_path / "nothing"),))
        await made.pool.fill(2)
        await made.until(lambda: made.exits("failed") == 3)


async def test_without_descriptors_no_worker_is_lost(tmp_path: Path) -> None:
    """A parent that can open nothing just now tries again, and ends when it is told to."""
    async with stage(tmp_path) as made:
        await made.pool.begin()
        await made.pool.fill(2)
        with no_descriptors():
            made.pool._workers[1].send(signal.SIGKILL)
            await made.until(lambda: made.exits("failed") == 2)
        await made.until_serving(2)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened; what is open stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_each_turn_of_a_life_is_for_good() -> None:
    """Who was told to leave does not come to serve, and nobody comes back from the dead."""
    worker = Worker(1, 0, born=0.0, heard=0.0)
    assert [worker.turn(each) for each in (Life.LEAVING, Life.SERVING, Life.KILLED, Life.LEAVING)] == [
        *(True, False, True, False)
    ]
    assert TURNS.keys() == set(Life)
    assert [life for life, turns in TURNS.items() if not turns] == [Life.ENDED]
