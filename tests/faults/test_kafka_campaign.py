"""Two gateways, a broker and two agents of an agency, all killed, stopped and restarted under load: nothing is wrong.

``GATEWAY_TEST_CAMPAIGN_SECONDS`` is how long that goes on; the figures of each run are printed (``pytest -rP``).
"""

from pathlib import Path

from tests.behaviour.server import Server
from tests.fakes.brokers import started
from tests.fakes.registry import registry
from tests.faults.campaign import Store
from tests.faults.quay import PARTITIONS, SECONDS, Quay, Trouble, quay


async def held(at: Quay) -> None:
    """Ends the load; what was counted is right."""
    dry = await at.dry()
    found, untrue, shown = await at.counted(), await at.untrue(), await at.shown()
    print(f"dry after {dry:.1f} s", found.told, at.figures(), *shown, sep="\n")  # noqa: T201 - the figures of the run
    assert untrue == []
    assert set(found.wrong) <= {"unannounced"}, found.wrong
    assert found.unannounced <= PARTITIONS * at.done["agent stopped"], "only who wakes late does not know of the others"
    assert set(at.registry.worked.values()) == {1}
    assert at.registry.beyond <= at.repeatable
    assert set(at.codes) <= {0}


async def test_kills_and_pauses_of_everybody_lose_nothing(shared: str, server: Server, tmp_path: Path) -> None:
    """Every 202 is handed over, in the order of its case, entered once, and its sender sees what was entered."""
    with started(tmp_path / "kafka") as kafka:
        async with registry() as register, quay(tmp_path, Store(shared, server.folder), kafka, register) as at:
            for _ in range(2):
                await at.hire(await at.serve())
            at.write()
            await Trouble(at).go_on(SECONDS)
            await held(at)
