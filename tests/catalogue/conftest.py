"""Test catalogues: the sound one in ``base/``, and what a case lays over it."""

import shutil
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway.catalogue.snapshot import Loaded, load

HERE = Path(__file__).parent
ZONE = ZoneInfo("Asia/Phnom_Penh")
NOW = datetime(2026, 6, 15, 12, tzinfo=ZONE)

Load = Callable[..., Loaded]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A copy of the sound catalogue that a test may change."""
    return Path(shutil.copytree(HERE / "base", tmp_path / "catalogue", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture
def loading() -> Load:
    """Loads a catalogue as the tests' instance at the tests' time."""

    def _load(root: Path, *, at: datetime = NOW, environment: Mapping[str, str] | None = None) -> Loaded:
        return load(root, instance="TEST", zone=ZONE, keys=root / "keys", at=at, environment=environment)

    return _load
