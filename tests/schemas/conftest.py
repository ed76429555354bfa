"""The catalogue at the top of the repository, read once."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway.catalogue.snapshot import load
from gateway.core.model import Catalogue

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    loaded = load(
        ROOT,
        instance="DEMO",
        zone=ZoneInfo("Asia/Phnom_Penh"),
        keys=ROOT / "deploy" / "demo" / "keys",
        at=datetime(2026, 11, 21, 5, tzinfo=UTC),
        environment=None,
    )
    assert loaded.catalogue is not None, loaded.findings
    return loaded.catalogue
