"""A document that was answered 202 survives kills, pauses and cut wires, on gateways that are processes.

``GATEWAY_TEST_KILLS`` is how often each is killed; the figures of each run are printed (``pytest -rP``).
"""

from pathlib import Path

from tests.behaviour.server import Server
from tests.fakes.relay import Cut, Relay
from tests.fakes.serving import pause
from tests.faults.campaign import KILLS, LEASE, MINUTE, Campaign, Store, campaign

SOCKET = ".s.PGSQL.5432"
CUTS = 9
"""Broken connections, and answers to COMMIT that are lost."""
DARK = 2.0
"""Seconds without a database."""


async def held(going: Campaign) -> None:
    """Ends the load; what was counted is right."""
    await going.end()
    await going.same_again()
    found = await going.counted()
    print(found.told)  # noqa: T201 - the figures of the run
    assert found.wrong == {}


async def test_kills_lose_nothing_on_sqlite(tmp_path: Path) -> None:
    """One gateway, killed at random moments under load and started anew: nothing lost, doubled or out of order."""
    async with campaign(tmp_path / "district", Store(f"sqlite:///{tmp_path / 'gateway.sqlite3'}")) as going:
        await going.start()
        going.write()
        for left in reversed(range(KILLS)):
            await going.kill(back=bool(left))
        await going.store.passed(MINUTE)  # the pollers' leases would end by themselves
        await going.start()
        await held(going)


async def test_kills_and_pauses_lose_nothing_on_two_nodes(shared: str, server: Server, tmp_path: Path) -> None:
    """Two on PostgreSQL: killed in turns, and one that stands still beyond its leases and goes on; the same holds."""
    async with campaign(tmp_path / "district", Store(shared, server.folder)) as going:
        await going.start()
        await going.start()
        going.write()
        for _ in range(KILLS - 1):
            await going.kill()
        await going.halt(LEASE + 2)
        await going.kill()
        await held(going)


async def test_cut_wires_lose_nothing(shared: str, server: Server, tmp_path: Path) -> None:
    """The database's connections break, at any time and around COMMIT, and for seconds none comes about."""
    async with (
        Relay(server.folder / SOCKET).running() as relay,
        campaign(tmp_path / "district", Store(shared, server.folder)) as going,
    ):
        await going.start(f"postgresql+asyncpg://postgres@127.0.0.1:{relay.port}/town?sslmode=disable")
        going.write()
        for number in range(CUTS):
            await pause(going.chance.uniform(0.1, 0.5))
            how: tuple[Cut, ...] = ("before", "after")
            relay.cut = how[number % 2]
            if number % 3 == 0:
                relay.abort()
        relay.closed = True
        relay.abort()
        await pause(DARK)
        relay.closed = False
        going.done.append(f"{relay.cuts} cuts at commit, {CUTS // 3} of everything, {DARK} s dark")
        await held(going)
