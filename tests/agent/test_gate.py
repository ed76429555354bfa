"""The gate in front of an agency's system: while it is closed, one at a time finds out."""

import asyncio
import itertools

from gateway.agent.gate import Gate
from gateway.agent.pace import Pace


class Clock:
    """Monotonic seconds, as the test wants them."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def turns(times: int = 20) -> None:
    """Let others run."""
    for _ in range(times):
        await asyncio.sleep(0)


async def test_one_finds_out_and_the_others_wait_for_it() -> None:
    """Closed, a second later one goes through; when it has got an answer, all do."""
    clock, within, go = Clock(), itertools.count(), asyncio.Event()
    gate = Gate(clock, Pace(first=0.0, longest=0.0))
    gate.failed(None)
    entered: list[int] = []

    async def one() -> None:
        async with gate.passed():
            entered.append(next(within))
            await go.wait()
            gate.answered()

    tasks = [asyncio.create_task(one()) for _ in range(5)]
    await turns()
    assert (entered, gate.closed) == ([0], True)
    go.set()
    await asyncio.gather(*tasks)
    assert (len(entered), gate.closed) == (5, False)


async def test_who_is_broken_off_lets_another_one_find_out() -> None:
    """Nobody waits for one who has gone."""
    gate = Gate(Clock(), Pace(first=0.0, longest=0.0))
    gate.failed(None)

    async def stuck() -> None:
        async with gate.passed():
            await asyncio.Event().wait()

    first, second = asyncio.create_task(stuck()), asyncio.create_task(stuck())
    await turns()
    assert gate._probing
    first.cancel()
    await turns()
    assert (gate._probing, second.done()) == (True, False)
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert not gate._probing


async def test_a_failure_is_waited_for_and_a_wish_is_granted() -> None:
    """Nobody goes through before the system's own time has come."""
    clock = Clock()
    gate = Gate(clock, Pace(first=0.0, longest=0.0))
    gate.failed(0.01)
    before = asyncio.create_task(_through(gate))
    await turns()
    assert not before.done()
    clock.now += 1
    async with asyncio.timeout(15):
        await before


async def _through(gate: Gate) -> None:
    async with gate.passed():
        pass


def test_pauses_double_and_end() -> None:
    """From the first to the longest, in their upper half; a wish counts where it is longer."""
    pace = Pace(first=1.0, longest=8.0)
    assert [pace.pause(each, 1.0) for each in (1, 2, 3, 4, 5, 99)] == [1, 2, 4, 8, 8, 8]
    assert pace.pause(3, 0.0) == 2
    assert (pace.pause(1, 1.0, 60), pace.pause(1, 1.0, 1e9), pace.pause(4, 1.0, 2)) == (60, 3600, 8)
    assert pace.document_pause(99, 1.0) == 300
