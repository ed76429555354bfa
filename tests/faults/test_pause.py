"""A process that stands still (SIGSTOP) in the middle of something: others go on, and it does no harm when it wakes."""

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.parties import Terms
from tests.fakes.town import Town, founded
from tests.faults.nodes import asked, started

KEY = "the-move"
IN_THE_CLAIM, IN_THE_CALL, IN_THE_SETTLEMENT = 2, 6, 8
"""Steps: the key's row is held and its entry not written; the provider has answered; the answer's row is held."""
LOCK, IDLE = 0.3, 2.0
"""Seconds of lock_timeout and idle_in_transaction_session_timeout (postgres.SESSION)."""


async def until_answered(town: Town, address: str, *waits: int | None) -> tuple[int | None, Any, float]:
    """What the key's retry comes to once it gets none of those, and how long the longest attempt took."""
    longest = 0.0
    async with asyncio.timeout(10 * IDLE):
        while True:
            begun = time.monotonic()
            status, body = await asked(town, address, KEY)
            longest = max(longest, time.monotonic() - begun)
            if status not in waits:
                return status, body, longest


@pytest.mark.quiet
async def test_a_node_paused_in_a_claim_holds_nobody_up(tmp_path: Path, shared: str) -> None:
    """It holds the row of one key: others go on at once, that key after two seconds, and there is one call."""
    async with founded(tmp_path, shared) as town, town.running(), started(town, IN_THE_CLAIM, signal.SIGSTOP) as node:
        first = asyncio.create_task(asked(town, node.public, KEY))
        await node.stopped()
        begun = time.monotonic()
        held = asyncio.create_task(asked(town, town.at.public, KEY))
        others = await asyncio.gather(*(asked(town, town.at.public, f"k{n}") for n in range(20)))
        assert [status for status, _ in others] == [200] * 20
        assert time.monotonic() - begun < IDLE
        assert (await held)[1]["code"] == "journal.unavailable"
        status, body, longest = await until_answered(town, town.at.public, 503)
        assert (status, LOCK <= longest < IDLE, time.monotonic() - begun < 3 * IDLE) == (200, True, True)
        node.signal(signal.SIGCONT)
        assert await first == (200, body)  # its transaction was undone, begun anew, and found the other's answer
        assert (len(town.office.seen), town.faults()) == (21, ())


async def test_a_node_paused_in_its_settlement_settles_when_it_wakes(tmp_path: Path, shared: str) -> None:
    """Nobody repeats the write meanwhile: the key runs, and the woken node stores its answer after all."""
    async with (
        founded(tmp_path, shared) as town,
        town.running(),
        started(town, IN_THE_SETTLEMENT, signal.SIGSTOP) as node,
    ):
        first = asyncio.create_task(asked(town, node.public, KEY))
        await node.stopped()
        status, body, _ = await until_answered(town, town.at.public, 503)
        assert (status, body["code"]) == (409, "idempotency.running")
        node.signal(signal.SIGCONT)
        status, body = await first
        assert (status, await asked(town, town.at.public, KEY)) == (200, (200, body))
        assert (len(town.office.seen), town.faults()) == (1, ())


@pytest.mark.parametrize("takes_key", [False, True])
async def test_a_node_paused_in_the_call_beyond_its_claim_changes_nothing(
    tmp_path: Path, shared: str, *, takes_key: bool
) -> None:
    """Its time over, the other node is honest or calls again; the sleeper then stores and says nothing else."""
    async with (
        founded(tmp_path, shared) as town,
        town.running(Terms(takes_key=takes_key)),
        started(town, IN_THE_CALL, signal.SIGSTOP, takes_key=takes_key) as node,
    ):
        first = asyncio.create_task(asked(town, node.public, KEY))
        await node.stopped()
        town.valve.ahead = 3600.0
        await town.upkeep()
        town.valve.ahead = 0.0
        status, body = await asked(town, town.at.public, KEY)
        assert (status, body.get("code")) == ((200, None) if takes_key else (409, "idempotency.outcome_unknown"))
        node.signal(signal.SIGCONT)
        woken, said = await first
        assert (woken, said.get("code")) == (status, body.get("code"))
        assert len(town.office.seen) == (2 if takes_key else 1)
        final = [entry.facts["status"] for entry in town.entries() if entry.facts["step"] in ("answered", "replayed")]
        assert sorted(final) == ([200, 200] if takes_key else [409])
