"""The tables are the same whoever made them, and the role that serves can do its work and no more."""

import asyncio
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from gateway.core.entry import Bodies, Draft, Particulars, Stamp, draft
from gateway.core.refusal import Refusal
from gateway.edge import claims, migrations, tables
from gateway.edge.claims import Claim
from gateway.edge.database import warn_of_owner
from gateway.edge.journal import Book, Journal
from gateway.edge.limits import _take_block
from gateway.edge.migration import migrate
from gateway.edge.postgres import PostgresDriver, dsn_of
from gateway.edge.store import MONTH, Plan, SqliteDriver, StoreFailed
from tests.behaviour.server import Server, connected, in_a_thread

ROLES = Path(__file__).parents[2] / "deploy" / "postgresql"


def differences(connection: sa.Connection) -> list[Any]:
    """Between a database and ``tables``, but for the journal's months, which are no table of one name."""

    def ours(name: str | None, kind: str, _: object) -> bool:
        return kind != "table" or not re.fullmatch(r"journal_\d{4}_\d\d", name or "")

    defaults = connection.dialect.name != "sqlite"  # where an identity is none that could be asked for
    options = {"compare_type": True, "compare_server_default": defaults, "include_name": ours}
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, tables.METADATA))


def made(path: Path) -> list[tuple[str, str]]:
    """All that a SQLite file is made of."""
    connection = sqlite3.connect(path)
    found = connection.execute("select name, sql from sqlite_master where sql is not null order by name").fetchall()
    connection.close()
    return [(name, sql.replace("IF NOT EXISTS ", "")) for name, sql in found]


async def test_a_file_is_the_same_whoever_made_it(tmp_path: Path) -> None:
    """The steps and `tables` make one SQLite database to the letter, which the driver then opens."""
    in_a_thread(migrate, f"sqlite:///{tmp_path / 'migrated.sqlite3'}", "TEST")
    await SqliteDriver(tmp_path / "created.sqlite3", "TEST").close()
    assert made(tmp_path / "migrated.sqlite3") == made(tmp_path / "created.sqlite3")
    await SqliteDriver(tmp_path / "migrated.sqlite3", "TEST").close()


def test_the_steps_make_what_tables_says(server: Server, tmp_path: Path) -> None:
    """Neither PostgreSQL nor SQLite lacks or has anything that `tables` does not say."""
    path = tmp_path / "gateway.sqlite3"
    migrate(f"sqlite:///{path}", "TEST")
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert differences(connection) == []
    engine.dispose()
    assert in_a_thread(asyncio.run, connected(server.url(), differences)) == []


def test_the_last_step_is_the_one_that_is_asked_for() -> None:
    """`tables.SCHEMA`, which workers compare without Alembic, is the head."""
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    assert ScriptDirectory.from_config(config).get_heads() == [tables.SCHEMA]


async def test_steps_run_once(server: Server, tmp_path: Path) -> None:
    """A second `migrate` changes nothing, on either database; another instance's is left alone."""
    for url in (server.url(), f"sqlite:///{tmp_path / 'gateway.sqlite3'}"):
        for _ in range(2):
            in_a_thread(migrate, url, "TEST")
        with pytest.raises(StoreFailed, match="belongs to the instance TEST, not to KH"):
            in_a_thread(migrate, url, "KH")


async def test_a_file_from_before_the_steps(tmp_path: Path) -> None:
    """It is not served as it is; `migrate` takes it over with what it holds."""
    path = tmp_path / "gateway.sqlite3"
    await SqliteDriver(path, "TEST").close()
    connection = sqlite3.connect(path)
    connection.execute("drop table alembic_version")
    connection.execute("insert into assertions values ('a', 'kept', 1)")
    connection.commit()
    with pytest.raises(StoreFailed, match=r"tables of version none.*run `gateway migrate`"):
        SqliteDriver(path, "TEST")
    in_a_thread(migrate, f"sqlite:///{path}", "TEST")
    await SqliteDriver(path, "TEST").close()
    assert connection.execute("select jti from assertions").fetchall() == [("kept",)]
    connection.close()


def test_a_step_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """A file that is no database, or cannot be one, is reported in a sentence."""
    path = tmp_path / "gateway.sqlite3"
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreFailed, match=r"gateway\.sqlite3 cannot be opened: file is not a database"):
        migrate(f"sqlite:///{path}", "TEST")
    with pytest.raises(ValueError, match="GATEWAY_DATABASE must be"):
        migrate("mysql://x/y", "TEST")


def test_what_serves_does_not_import_alembic() -> None:
    """It would take 10 MiB in each worker."""
    program = "import sys, gateway.app, gateway.edge.postgres; sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0  # noqa: S603 - our own words


@pytest.fixture(scope="module")
def granted(server: Server) -> Iterator[str]:
    """A database set up by the files for it; the URL of the role that serves."""
    roles, before, after = [
        (ROLES / f"{name}.sql").read_text("utf-8") for name in ("roles", "before_migrate", "after_migrate")
    ]
    for statement in roles.strip().split(";\n"):
        server.run(statement, "postgres")
    server.run(before, "gateway")
    in_a_thread(migrate, server.url(user="gateway_owner", name="gateway"), "TEST")
    server.run(after, "gateway")
    yield server.url(user="gateway_serve", name="gateway")
    server.run("drop database gateway with (force)", "postgres")


@pytest.fixture
async def journal(granted: str) -> Any:
    """A journal under the role that serves."""
    opened = Journal(PostgresDriver(granted, "TEST"))
    await opened.open("test")
    yield opened
    await opened.close()


ONE_RIGHT = [
    "revoke execute on function journal_month(text) from gateway_serve",
    "revoke delete on keys from gateway_serve",
    "revoke update on suspensions from gateway_serve",
]


@pytest.mark.parametrize("revoke", ONE_RIGHT)
async def test_rights_that_were_not_given_are_told_at_the_start(server: Server, granted: str, revoke: str) -> None:
    """The sentence names the file, whichever of its rights is missing; run again, it mends it."""
    server.run(revoke, "gateway")
    try:
        with pytest.raises(StoreFailed, match=r"lacks rights .*: run deploy/postgresql/after_migrate\.sql there as a"):
            await Journal(PostgresDriver(granted, "TEST")).open("test")
    finally:
        server.run((ROLES / "after_migrate.sql").read_text("utf-8"), "gateway")
    opened = Journal(PostgresDriver(granted, "TEST"))
    await opened.open("test")
    await opened.close()


async def test_a_start_without_the_first_file_says_how_to_go_on(server: Server, granted: str) -> None:
    """Where not even reading was granted; what the sentence asks for is enough."""
    server.run("revoke all on all tables in schema public from gateway_serve", "gateway")
    with pytest.raises(
        StoreFailed, match=r"before_migrate\.sql was left out: as a superuser run it, then grant"
    ) as caught:
        await PostgresDriver(granted, "TEST").read("select 1")
    grant = re.search(r"grant select, .* to gateway_serve", str(caught.value))
    assert grant
    server.run(grant[0], "gateway")
    server.run((ROLES / "after_migrate.sql").read_text("utf-8"), "gateway")
    driver = PostgresDriver(granted, "TEST")
    assert await driver.read("select 1")
    await driver.close()


@pytest.mark.parametrize(("user", "told"), [("gateway_serve", 0), ("gateway_owner", 1), ("postgres", 1)])
async def test_whoever_owns_the_tables_is_warned(server: Server, granted: str, user: str, told: int) -> None:
    """Only the role that owns nothing is served without a word (decision 10)."""
    driver = PostgresDriver(server.url(user=user, name="gateway"), "TEST")
    with structlog.testing.capture_logs() as logs:
        await warn_of_owner(driver)
    await driver.close()
    assert [line["event"] for line in logs] == ["database_unguarded"] * told


def test_whoever_does_not_own_the_tables_cannot_migrate(server: Server) -> None:
    """The server's refusal is followed by what to do."""
    server.run("create role stranger login", "postgres")
    server.run("create database strange", "postgres")
    with pytest.raises(
        StoreFailed, match=r"permission denied for schema public\. Run gateway migrate as the tables' own"
    ):
        in_a_thread(migrate, server.url(user="stranger", name="strange"), "TEST")
    with pytest.raises(StoreFailed, match=r"^the database cannot be reached at 127\.0\.0\.1:1: "):
        in_a_thread(migrate, "postgresql+asyncpg://x@127.0.0.1:1/x", "TEST")


def said(what: str) -> Draft:
    return draft({"what": what}, Bodies(), Particulars(), bytes(64))


async def test_the_serving_role_can_do_its_work(journal: Journal) -> None:
    """Entries, keys, quotas, sweeps, the next months: everything that the program does."""
    mine = Claim("finance.tax", "k", b"f", "a", -1, "exchange")
    assert isinstance(await journal.run(claims.take(mine, said("admitted"))), Stamp)
    assert await journal.run(claims.sweep(lambda _system, _exchange: said("unsettled"))) == 1
    assert await journal.run(_take_block(("A-1", 0, "finance.tax", "2026-11-20"), 500)) == (5, 5)

    def later(_: Book) -> Plan[None]:
        yield MONTH, ("2031_07",)
        yield "insert into journal_2031_07 select 1, 1, '\\x00', '\\x00', null", ()
        yield "insert into periods values ('2031_07', '\\x00') on conflict do nothing", ()
        yield "insert into assertions values ('a', 'b', 1) on conflict do nothing returning system", ()

    await journal.run(later)


@pytest.mark.parametrize(
    "attack",
    [
        "update {m} set particulars = null",
        "delete from {m}",
        "truncate {m}",
        "drop table {m}",
        "alter table {m} disable trigger all",
        "drop trigger {m}_row on {m}",
        "create or replace function journal_append_only() returns trigger language sql as 'select null'",
        "set session_replication_role = replica",
        "create table mine (a text)",
        "update facts set value = 'KH'",
        "insert into alembic_version values ('9999')",
        "delete from periods",
        "delete from journal_months",
        "select journal_month('2031_07; drop table facts')",
    ],
)
async def test_the_serving_role_can_do_no_more(journal: Journal, attack: str) -> None:
    """Not even what the triggers would allow."""
    await journal.append(said("one"))

    def attacked(_: Book) -> Plan[None]:
        rows = yield "select min(month) from journal_months", ()
        yield attack.format(m=f"journal_{rows[0][0]}"), ()

    with pytest.raises(Refusal) as caught:
        await journal.run(attacked)
    assert re.search("permission denied|must be owner|is no month", str(caught.value.__cause__))


def test_the_url_goes_to_the_library_as_it_is() -> None:
    """Certificates and the password's file are named in it."""
    rest = "gateway_serve@db.example/gateway?passfile=/etc/gateway/pgpass&sslmode=verify-full"
    assert dsn_of(f"postgresql+asyncpg://{rest}") == f"postgresql://{rest}"
