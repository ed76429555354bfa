"""Where a PostgreSQL server is looked for, and the file of the password that it is told."""

from pathlib import Path

import pytest

from gateway.edge.postgres import PostgresDriver, place_of
from gateway.edge.store import StoreFailed
from tests.behaviour.server import Server


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("me@db.example/d", "db.example:5432"),
        ("me:secret@db.example:6432/d", "db.example:6432"),
        ("a,b:6432/d", "a:5432,b:6432"),
        ("me@[::1]/d", "[::1]:5432"),
        ("me@[::1]:6432/d", "[::1]:6432"),
        ("me@/d?host=db.example&port=6432", "db.example:6432"),
        ("/d?user=me&host=/run/postgresql", "/run/postgresql"),
        ("me@/d", "localhost:5432"),
    ],
)
def test_a_place_is_host_and_port_alone(address: str, place: str) -> None:
    """Nothing else of the URL is repeated."""
    assert place_of(f"postgresql://{address}") == place


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        (None, r"the passfile .*/pgpass cannot be read \(No such file or directory\): make it"),
        (0o640, r"the passfile .*/pgpass may be read by others than its owner, and is not used: chmod 600 .*/pgpass"),
    ],
)
async def test_a_passfile_that_cannot_be_used_is_told(
    server: Server, tmp_path: Path, mode: int | None, why: str
) -> None:
    """Before the server would say that there is no password; the library's own warning, an error here, never comes."""
    path = tmp_path / "pgpass"
    if mode is not None:
        path.write_text("*:*:*:*:secret")
        path.chmod(mode)
    with pytest.raises(StoreFailed, match=f"GATEWAY_DATABASE: {why}"):
        await PostgresDriver(f"{server.emptied()}&passfile={path}", "TEST").read("select 1")
    path.touch()
    path.chmod(0o600)
    driver = PostgresDriver(f"{server.emptied()}&passfile={path}", "TEST")
    assert await driver.read("select 1")
    await driver.close()
