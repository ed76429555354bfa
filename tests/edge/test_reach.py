"""Whether the store of files is there: what health and metrics say while it is not, and when it is back."""

import shutil
from pathlib import Path

import pytest

from gateway.edge.documents.reach import Reach
from gateway.edge.documents.vault import OWNER, Place, Vault
from gateway.edge.telemetry import Meters
from tests.edge.test_metrics_of_documents import ready
from tests.fakes.post_office import opened


def lying(folder: Path) -> list[Path]:
    """Everything there."""
    return sorted(folder.rglob("*"))


async def looked(folder: Path, *, claimed: bool = True) -> tuple[str, float]:
    """What is wrong, and the gauge."""
    meters = Meters()
    reach = Reach(Vault(Place(folder)), "TEST", meters, claimed=claimed)
    await reach.look()
    return reach.wrong, meters.registry.get_sample_value("gateway_attachments_failing") or 0.0


async def test_a_place_that_bears_our_name_is_well(tmp_path: Path) -> None:
    """It is asked without writing anything."""
    await Vault(Place(tmp_path)).claim("TEST")
    before = lying(tmp_path)
    assert await looked(tmp_path) == ("", 0)
    assert lying(tmp_path) == before


@pytest.mark.parametrize("said", [None, "OTHER"])
async def test_a_place_that_does_not_is_wrong(tmp_path: Path, said: str | None) -> None:
    """A volume that is not mounted leaves an empty folder: nothing is written there, and nothing is believed."""
    if said is not None:
        (tmp_path / OWNER).write_text(said)
    wrong, failing = await looked(tmp_path)
    assert (wrong.startswith("is not this instance's"), failing) == (True, 1)
    assert (tmp_path / OWNER).exists() == (said is not None)


async def test_a_store_that_was_down_at_the_start_is_taken_when_it_comes(tmp_path: Path) -> None:
    """Then its place is claimed, once."""
    (tmp_path / "files").write_text("in the way")
    assert await looked(tmp_path / "files", claimed=False) == ("cannot be reached", 1)
    (tmp_path / "files").unlink()
    assert await looked(tmp_path / "files", claimed=False) == ("", 0)
    assert (tmp_path / "files" / OWNER).read_text() == "TEST"


async def test_health_says_degraded_while_it_is_away(tmp_path: Path) -> None:
    """Exchanges and documents without files go on, so that the process is not taken out of use."""
    async with opened(tmp_path) as town:
        assert town.gateway.mailroom.reach is not None
        await town.gateway.mailroom.reach.look()
        assert (await ready(town))[:2] == (200, "ready")
        shutil.move(tmp_path / "files", tmp_path / "away")
        (tmp_path / "files").mkdir()
        await town.gateway.mailroom.reach.look()
        status, state, checks = await ready(town)
        assert (status, state, checks["attachments"][:6]) == (200, "degraded", "is not")
        assert (await town.metrics())["gateway_attachments_failing"] == 1
        (tmp_path / "files").rmdir()
        shutil.move(tmp_path / "away", tmp_path / "files")
        await town.gateway.mailroom.reach.look()
        assert await ready(town) == (200, "ready", {"journal": "ok", "catalogue": "ok"})
