"""One suite for every database: what is proved here holds on each of them."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.edge.journal import Journal
from gateway.edge.store import Driver, SqliteDriver

Open = Callable[[], Driver]


@pytest.fixture(params=["sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens a driver on the test's own database, again and again."""
    assert request.param == "sqlite"
    return lambda: SqliteDriver(tmp_path / "gateway.sqlite3", "TEST")


@pytest.fixture
async def journal(opened: Open) -> AsyncIterator[Journal]:
    """A journal that is open."""
    made = Journal(opened())
    await made.open("test")
    yield made
    await made.close()
