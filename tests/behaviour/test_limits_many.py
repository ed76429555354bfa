"""Many quotas spent at once, as of a letter to many, on every database."""

import asyncio
from collections.abc import Callable

from gateway.core.model import Rate
from gateway.edge.journal import Journal
from gateway.edge.limits import LEASE, Charge, Limits
from gateway.edge.store import Driver
from tests.behaviour.test_limits_store import NOON, TAX, ZONE, Clock, agreement, grant, taken

MANY = 40


class Counting(Limits):
    """Counts how often it looks at what a quota has in hand."""

    looks = 0

    def _left(self, holder: tuple[str, int, str, str]) -> int:
        self.looks += 1
        return super()._left(holder)


async def test_many_quotas_are_spent_in_one_pass(opened: Callable[[], Driver]) -> None:
    """Each is looked at twice and taken once, though a lease ends with each commit; then leases are what they were."""
    clock, commits = Clock(), list[int]()

    def slow(_seconds: float, entries: int) -> None:
        commits.append(entries)
        clock.now += LEASE

    journal = Journal(opened(), observe=slow)
    await journal.open("test")
    limits = Counting(journal, clock)
    charges = [Charge(agreement(f"A-{number}"), grant(1000, Rate(5, 1.0)), TAX) for number in range(MANY)]
    spending = asyncio.create_task(limits.spend(charges, NOON, ZONE))
    while not spending.done() and len(commits) <= MANY:
        await limits.give_back()
        await asyncio.sleep(0)
    assert (spending.done(), len(commits), limits.looks) == (True, MANY, 2 * MANY)
    assert await taken(journal) == [("2026-11-20", 10)] * MANY
    await limits.give_back()
    assert await taken(journal) == [("2026-11-20", 1)] * MANY
    await journal.close()
