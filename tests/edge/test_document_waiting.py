"""Waiting and counting: one look serves all, and what it costs is bounded."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest

from gateway.core.model import AgencyId
from gateway.core.refusal import Refusal
from gateway.edge.documents.bounds import Bounds
from gateway.edge.documents.waiting import Waiters
from gateway.edge.store import Rows, StoreFailed, StoreRefused
from tests.fakes.correspondents import way
from tests.fakes.town import until


class Looked:
    """A database that is looked at."""

    def __init__(self) -> None:
        self.there: dict[str, int] = {}
        self.looks: list[tuple[str, ...]] = []
        self.failing = False
        self.error: Exception | None = None

    async def look(self, keys: Collection[str]) -> Mapping[str, int]:
        self.looks.append(tuple(keys))
        if self.error:
            raise self.error
        if self.failing:
            raise StoreFailed("gone")
        return {key: self.there[key] for key in keys if key in self.there}

    async def read(self, _: str, __: Sequence[Any] = ()) -> Rows:
        if self.error:
            raise self.error
        if self.failing:
            raise StoreFailed("gone")
        return [("sila", "mailbox", "", count) for count in self.there.values()]


async def test_one_look_serves_all_who_wait() -> None:
    """Only those are woken for whom there is something else than they have seen."""
    looked = Looked()
    looked.there = {"a": 1, "b": 1}
    waiters = Waiters(looked.look)
    waiting = [asyncio.create_task(waiters.wait(key, 60, 1)) for key in ("a", "a", "b")]
    await until(lambda: waiters.waiting == 3)
    looked.there["a"] = 2
    await waiters.round()
    assert await waiting[0]
    assert await waiting[1]
    assert (looked.looks, waiting[2].done(), waiters.waiting) == ([("a", "b")], False, 1)
    waiters.tell(["b"])
    assert await waiting[2]


async def test_what_happened_before_the_waiting_began_is_not_missed() -> None:
    """The first look finds that there is more than was seen."""
    looked = Looked()
    looked.there = {"a": 2}
    waiters = Waiters(looked.look)
    waiting = asyncio.create_task(waiters.wait("a", 60, 1))
    await until(lambda: waiters.waiting)
    await waiters.round()
    assert await waiting


async def test_there_is_room_for_so_many_and_no_more() -> None:
    """One more is told at once that it cannot wait, and so is everybody after the end."""
    waiters = Waiters(Looked().look, most=1)
    waiting = asyncio.create_task(waiters.wait("a", 60, None))
    await until(lambda: waiters.waiting)
    assert not await waiters.wait("b", 60, None)
    waiters.close()
    assert await waiting
    assert not await waiters.wait("a", 60, None)


async def test_a_caller_that_goes_away_leaves_nothing() -> None:
    """Neither does one whose time is over."""
    waiters = Waiters(Looked().look)
    waiting = asyncio.create_task(waiters.wait("a", 60, None))
    await until(lambda: waiters.waiting)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert await waiters.wait("a", 0.001, None)
    assert (waiters.waiting, waiters._by_key) == (0, {})


async def test_a_database_that_fails_leaves_them_waiting() -> None:
    """And the next look serves them."""
    looked = Looked()
    looked.failing = True
    waiters = Waiters(looked.look)
    waiting = asyncio.create_task(waiters.wait("a", 60, None))
    await until(lambda: waiters.waiting)
    await waiters.round()
    assert not waiting.done()
    looked.failing, looked.there = False, {"a": 1}
    await waiters.round()
    assert await waiting


async def test_nobody_waits_and_nothing_is_looked_at() -> None:
    """The rounds rest until somebody comes."""
    looked = Looked()
    waiters = Waiters(looked.look)
    going = asyncio.create_task(waiters.go_on())
    assert await waiters.wait("a", 0.6, None)
    looks = len(looked.looks)
    going.cancel()
    await asyncio.wait([going])
    assert 1 <= looks <= 3


async def test_what_this_process_adds_counts_before_the_next_count() -> None:
    """A bound holds within the second, and the next count knows better."""
    looked = Looked()
    bounds, sila = Bounds(looked), way("sila", max_waiting=2)
    bounds.add([(AgencyId("sila"), "mailbox")] * 2)
    with pytest.raises(Refusal) as caught:
        bounds.hold([way("interior"), sila])
    assert (caught.value.code, caught.value.agency) == ("recipient.full", "sila")
    looked.there = {"waiting": 1}
    await bounds.count()
    bounds.hold([sila])
    assert bounds.waiting == {("sila", "mailbox"): 1}


async def test_a_count_that_fails_forgets_nothing() -> None:
    """What was added meanwhile still counts."""
    looked = Looked()
    looked.failing = True
    bounds = Bounds(looked)
    bounds.add([(AgencyId("sila"), "mailbox")])
    with pytest.raises(StoreFailed):
        await bounds.count()
    with pytest.raises(Refusal):
        bounds.hold([way("sila", max_waiting=1)])


async def test_what_a_look_costs_is_what_is_bounded() -> None:
    """Any number of callers may wait for one thing; beyond so many things one more is answered at once."""
    looked = Looked()
    waiters = Waiters(looked.look, most=2)
    waiting = [asyncio.create_task(waiters.wait(key, 60, None)) for key in ("a", "a", "a", "b")]
    await until(lambda: waiters.waiting == 4)
    assert not await waiters.wait("c", 60, None)
    assert not any(each.done() for each in waiting)
    waiters.close()
    assert await asyncio.gather(*waiting) == [True] * 4


async def test_a_broken_look_ends_neither_waiting_nor_counting() -> None:
    """A statement that is refused, and a mistake of our own: the next look comes, and nothing counted is lost."""
    looked = Looked()
    looked.there = {"a": 3}
    waiters, bounds = Waiters(looked.look), Bounds(looked)
    for error in (StoreRefused("no"), LookupError("own")):
        looked.error = error
        await waiters.round()
        bounds.add([(AgencyId("sila"), "mailbox")])
        with pytest.raises(type(error)):
            await bounds.count()
    full = way("sila", max_waiting=2)
    with pytest.raises(Refusal, match="As much waits"):
        bounds.hold([full])


async def test_counting_goes_on_after_an_error_that_nobody_foresaw() -> None:
    """It says that it is late, and counts again with the next round."""
    looked = Looked()
    looked.there, looked.error = {"a": 3}, LookupError("own")
    bounds = Bounds(looked)
    late: list[bool] = []

    async def slept(_: float) -> None:
        late.append(bounds.late)
        looked.error = None
        if len(late) == 2:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await bounds.go_on(slept)
    assert late == [True, False]
