"""The databases on which whole towns stand: a file each, or a PostgreSQL that several nodes share."""

from collections.abc import Iterator

import pytest

from gateway.edge import migration
from tests.behaviour.server import Server, in_a_thread, running


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """PostgreSQL, with a database for a town."""
    with running() as started:
        started.run("create database town", "postgres")
        in_a_thread(migration.migrate, started.url(name="town"), "DEMO")
        yield started


@pytest.fixture
def shared(server: Server) -> str:
    """The URL of an empty database for several nodes."""
    return server.emptied("town")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    """The same, or None for a file."""
    if request.param == "sqlite":
        return None
    wanted: str = request.getfixturevalue("shared")
    return wanted
