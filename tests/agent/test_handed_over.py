"""The agent on a real Kafka: what comes to its topic is handed over once, in order, and its outcome told."""

from pathlib import Path

from tests.fakes.agency import house
from tests.fakes.brokers import Brokers


async def test_what_comes_is_handed_over_in_order_and_told(kafka: Brokers, tmp_path: Path) -> None:
    """Ten letters reach the system once each, the gateway is told, and the group stands behind the last."""
    async with house(kafka) as agency:
        ids = await agency.write(*range(10))
        async with agency.agent(tmp_path / "one.sqlite3"):
            await agency.bell.until(lambda: len(agency.hub.reports) == 10)
            await agency.commits(10)
        assert agency.system.ids == ids == [each.document for each in agency.hub.reports]
        assert {each.outcome for each in agency.hub.reports} == {"retrieved"}
