"""Kafka is away under load: everybody else notices nothing, what it is for waits, and all flows when it is back.

``GATEWAY_TEST_CAMPAIGN_SECONDS`` is how long each stretch lasts; the figures of each run are printed (``pytest -rP``).
"""

from pathlib import Path

import pytest

from tests.fakes.brokers import Brokers, started
from tests.faults.harbour import SECONDS, harbour

BOUND = 60
"""Documents that may wait."""
SOON = 60.0
"""Seconds within which things flow again, on a machine with other things to do; they take less than ten."""


@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_kafka_that_is_away_under_load_harms_nobody_else(tmp_path: Path, how: str) -> None:
    """Exchanges and other ways as before, 200 and degraded, 202 until the bound and then 503; back, all flows."""
    with started(tmp_path / "kafka") as kafka:
        async with harbour(tmp_path / "hub", kafka, max_waiting=BOUND) as at:
            at.write()
            before = await at.measured(min(SECONDS, 30.0))
            (kafka.kill if how == "killed" else kafka.pause)()
            degraded = await at.panel.says("degraded")
            reply = await at.full()
            during = await at.measured(SECONDS)
            waiting = await at.waiting()
            await back(kafka, how)
            flowing = await at.flows()
            ready = await at.panel.says("ready")
            dry = await at.dry()
            found = await at.counted()
    print(f"before: {before}\naway: {during}\ndegraded after {degraded:.1f} s, {waiting} waiting, ")  # noqa: T201 - the figures of the run
    print(f"first one {flowing:.1f} s after it is back, ready after {ready:.1f} s, dry {dry:.1f} s\n{found.told}")  # noqa: T201 - same
    assert (reply.status, reply.code, int(reply.headers["Retry-After"]) > 0) == (503, "recipient.full", True)
    assert (before.failed, during.failed, during.harmed(before), found.wrong) == (0, 0, [], {})
    assert flowing < SOON


async def back(kafka: Brokers, how: str) -> None:
    """As an administrator would; or it simply goes on."""
    if how == "killed":
        await kafka.restart()
    else:
        kafka.resume()
