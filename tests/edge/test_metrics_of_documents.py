"""What a running gateway counts of documents: each step once, how long they took, bytes of files, and nobody's name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.edge.documents.bounds import COUNT
from gateway.edge.store import StoreFailed
from gateway.edge.telemetry import ALARMING
from tests.fakes.correspondents import LETTER, REGISTER
from tests.fakes.post_office import PostTown, opened
from tests.fakes.town import until

SECRETS = ("KH-90010001", "C-77", "dara", "Sok", "ledger-7")


async def ready(town: PostTown) -> tuple[int, str, Mapping[str, Any]]:
    """Status, word and checks of `/health/ready`."""
    answer = await town.ask("GET", f"{town.at.operations}/health/ready")
    return answer.status, answer.body["status"], answer.body["checks"]


def counted(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """Steps that happened, of the letters' service."""
    start = f'gateway_documents_total{{service="{LETTER}",step="'
    return {name[len(start) : -2]: value for name, value in metrics.items() if name.startswith(start) and value}


async def test_every_step_is_counted_once(tmp_path: Path) -> None:
    """Taken in, arrived, fetched, registered; what another party says too late, once more; replays count nothing."""
    async with opened(tmp_path) as town:
        sent = await town.send(idempotency_key="ledger-7", exchange_case="C-77", exchange_user="dara")
        await town.send(idempotency_key="ledger-7", exchange_case="C-77", exchange_user="dara")
        assert counted(await town.metrics()) == {"submitted": 1, "arrived": 1}
        fetched = (await town.say("GET", "/inbox", REGISTER)).body
        (got,) = fetched["documents"]
        told = {"outcome": "registered", "number": "Sok 1", "lease": fetched["lease"]}
        said = await town.say("POST", f"/inbox/{got['id']}", REGISTER, told)
        assert (said.status, got["id"]) == (200, sent.body["document"])
        late = await town.say("POST", f"/inbox/{got['id']}", REGISTER, {"outcome": "rejected", "reason": "other"})
        metrics = await town.metrics()
        assert (late.status, counted(metrics)) == (
            409,
            {"submitted": 1, "arrived": 1, "registered": 1, "disputed": 1},
        )
        assert metrics['gateway_documents_arrival_seconds_count{protocol="mailbox"}'] == 1
        assert not [name for name in metrics for secret in SECRETS if secret in name]


async def test_what_alarms_begins_at_nothing(tmp_path: Path) -> None:
    """Otherwise a rate would not see the first one."""
    async with opened(tmp_path) as town:
        metrics = await town.metrics()
    assert [metrics[f'gateway_documents_total{{service="{LETTER}",step="{step}"}}'] for step in ALARMING] == [0.0] * 4


async def test_a_database_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """The metric is 1 and health says degraded; both clear when it can again."""
    async with opened(tmp_path) as town:
        bounds, reader = town.gateway.mailroom.bounds, town.gateway.mailroom.reader

        class Away:
            async def read(self, select: str, values: object = ()) -> Any:
                raise StoreFailed(f"nothing answers {select[: len(COUNT)]} {values}")

        bounds._reader = Away()
        await until(lambda: bounds.late)
        assert ((await ready(town))[:2], (await town.metrics())["gateway_documents_failing"]) == ((200, "degraded"), 1)
        bounds._reader = reader
        await until(lambda: not bounds.late)
        assert ((await ready(town))[:2], (await town.metrics())["gateway_documents_failing"]) == ((200, "ready"), 0)


async def test_the_dispatcher_shows_that_it_looks(tmp_path: Path) -> None:
    """The time of its last look goes on."""
    async with opened(tmp_path) as town:
        assert town.gateway.mailroom.dispatcher
        await town.gateway.mailroom.dispatcher.look()
        before = (await town.metrics())["gateway_dispatch_look_timestamp_seconds"]
        await town.gateway.mailroom.dispatcher.look()
        assert (await town.metrics())["gateway_dispatch_look_timestamp_seconds"] > before > 1.7e9
