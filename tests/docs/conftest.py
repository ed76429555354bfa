"""The demonstration runs once for all documents; each document gets a catalogue of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.stage import Stage, copied, demonstration


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The demonstration in a copy of the catalogue."""
    folder = copied(tmp_path_factory.mktemp("demonstration"))
    with demonstration(folder) as story:
        yield Stage(folder, story)


@pytest.fixture
def stage(running: Stage, tmp_path: Path) -> Stage:
    """A folder for one document; ``demo-data`` in it is that of the running demonstration."""
    folder = copied(tmp_path / "catalogue")
    (folder / "demo-data").symlink_to(running.folder / "demo-data")
    return Stage(folder, running.story)
