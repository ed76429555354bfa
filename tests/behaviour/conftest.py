"""One suite for every database: what is proved here holds on each of them."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.edge.journal import Journal
from gateway.edge.postgres import PostgresDriver, named
from gateway.edge.store import Driver, SqliteDriver, database_path
from tests.behaviour.server import Server

Open = Callable[[], Driver]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'gateway.sqlite3'}"
    started: Server = request.getfixturevalue("server")
    return started.emptied()


@pytest.fixture
def opened(database: str) -> Open:
    """Opens a driver on the test's own database, again and again."""
    if named(database):
        return lambda: PostgresDriver(database, "TEST")
    return lambda: SqliteDriver(database_path(database), "TEST")


@pytest.fixture
async def journal(opened: Open) -> AsyncIterator[Journal]:
    """A journal that is open."""
    made = Journal(opened())
    await made.open("test")
    yield made
    await made.close()
