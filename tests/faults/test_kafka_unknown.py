"""An agent before a system that takes no ids as keys, killed under load: nothing comes there twice by itself.

``GATEWAY_TEST_KILLS`` is how often it is killed; the figures of each run are printed (``pytest -rP``).
"""

import asyncio
from collections import Counter
from pathlib import Path

from tests.fakes.brokers import Brokers
from tests.fakes.registry import registry
from tests.fakes.serving import pause
from tests.faults.campaign import KILLS, Store
from tests.faults.quay import PATIENCE, Post, Quay, quay, settle, unknown

WORK = 0.2
"""Seconds that the system may take: a kill finds documents in hand."""

BEAT = 0.5
"""Seconds between two documents of a case: less comes than the system can take."""


async def in_hand(at: Quay) -> None:
    """Wait until documents come again, and for one that is worked on."""
    wanted = len(at.registry.ledger.first) + 5
    async with asyncio.timeout(PATIENCE):
        while len(at.registry.ledger.first) < wanted or not at.registry.holding:
            await pause(0.005)


async def shown(post: Post, count: int) -> list[str]:
    """Wait until so many documents wait for a person, and the agent says that something is wrong."""
    assert post.running
    found: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            found = await unknown(post)
            await pause(0.2)
        while count and (await post.running.health())["status"] != "degraded":
            await pause(0.2)
    return found


async def test_what_is_unknown_is_shown_and_settled_and_comes_once(kafka: Brokers, tmp_path: Path) -> None:
    """After each kill a person looks up what was in hand; the system sees no id twice, and the sender what is true."""
    said: Counter[str] = Counter()
    store = Store(f"sqlite:///{tmp_path / 'gateway.sqlite3'}")
    async with registry(WORK) as register, quay(tmp_path, store, kafka, register, takes_key=False) as at:
        post = await at.hire(await at.serve())
        at.going.desk.beat = BEAT
        at.write()
        for _ in range(KILLS - 1):
            await in_hand(at)
            await pause(at.going.chance.uniform(0, WORK))
            assert post.running
            await post.running.killed()
            at.done["agent killed"] += 1
            doubt = post.begun()
            await at.begin(post)
            said.update([await settle(post, each, register.entries.get(each)) for each in await shown(post, doubt)])
        dry = await at.dry()
        found, untrue, lines = await at.counted(), await at.untrue(), await at.shown()
    print(f"settled {dict(said)}; dry after {dry:.1f} s", found.told, at.figures(), *lines, sep="\n")  # noqa: T201 - the figures of the run
    assert (found.wrong, untrue, register.beyond) == ({}, [], 0)
    assert said
