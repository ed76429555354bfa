"""Operators' suspensions on both databases: ordered, read by every process, journaled, lifted."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import create_async_engine
from structlog.testing import capture_logs

from gateway.core.model import Catalogue, Standing
from gateway.core.refusal import Refusal
from gateway.core.standing import Suspendable, Suspension
from gateway.edge import archive, migrations, suspensions
from gateway.edge.archive import Place
from gateway.edge.control import Order, Outcome, carry_out
from gateway.edge.journal import Journal
from gateway.edge.migration import migrate
from gateway.edge.postgres import named
from gateway.edge.store import Driver, Plan, Rows, SqliteDriver, StoreFailed, database_path
from gateway.edge.suspensions import LATE, MAX_SUSPENSIONS, Suspensions, listed, orders
from gateway.edge.telemetry import Meters
from tests.behaviour.conftest import Open
from tests.behaviour.server import Server, in_a_thread
from tests.fakes import catalogues
from tests.fakes.valve import Valve

CATALOGUE = catalogues.of(catalogues.agency("finance", catalogues.system("finance.tax")))
TAX = Suspension(Suspendable.SYSTEM, "finance.tax", Standing.SUSPENDED)


async def order(journal: Journal, what: str, /, **changes: str) -> Outcome:
    """What came of an order about the tax office's system."""
    usual = {"kind": "system", "name": "finance.tax", "reason": "a stolen laptop", "who": "dara"}
    standing = {"standing": "suspended"} if what == "suspend" else {}
    return await carry_out(Order(what, {**usual, **standing, **changes}), orders("TEST"), journal)


async def look(reading: Suspensions) -> bool:
    """Whether there was news."""
    adopted = []
    await reading.look(lambda: CATALOGUE, lambda: adopted.append(reading.known))
    return bool(adopted)


async def until(holds: Callable[[], bool]) -> None:
    """Let others run until it holds; whoever calls sets a time."""
    for _ in iter(holds, True):
        await asyncio.sleep(0)


def place(database: str) -> Place:
    return database if named(database) else database_path(database)


def entries(database: str) -> list[dict[str, Any]]:
    """The journal's, each with its particulars as ``beside``."""
    kept = in_a_thread(lambda: list(archive.entries(place(database))))
    return [{**orjson.loads(each.entry), "beside": orjson.loads(each.particulars or b"{}")} for each in kept]


@pytest.fixture
async def driver(database: str, opened: Open, journal: Journal) -> Any:
    """What reads: another process's connection where the database takes several, the writer's own otherwise."""
    if not named(database):
        yield journal._driver
        return
    other = opened()
    yield other
    await other.close()


async def test_a_suspension_is_read_and_lifted(journal: Journal, driver: Driver) -> None:
    """Whoever reads has news once after each order, and none in between."""
    reading = Suspensions(driver, Meters())
    assert (await look(reading), reading.known) == (False, ())
    assert (await order(journal, "suspend")).text == "the system finance.tax is suspended"
    assert (await look(reading), reading.known) == (True, (TAX,))
    assert await look(reading) is False
    assert (await order(journal, "lift")).text == "the system finance.tax is no longer suspended by operators"
    assert (await look(reading), reading.known) == (True, ())


async def test_orders_are_journaled(journal: Journal, database: str) -> None:
    """Each makes one entry; who and why stand in the particulars alone, and the journal holds."""
    await order(journal, "suspend")
    await order(journal, "lift", reason="it was found", who="sok")
    first, second = entries(database)
    wanted = {
        "step": "administered",
        "what": "suspend",
        "kind": "system",
        "name": "finance.tax",
        "standing": "suspended",
    }
    assert first | wanted == first
    assert [(each["beside"]["user"], each["beside"]["reason"]) for each in (first, second)] == [
        ("dara", "a stolen laptop"),
        ("sok", "it was found"),
    ]
    assert not {"user", "reason", "who"} & (first.keys() | second.keys())
    assert in_a_thread(archive.check, place(database)).faults == ()


async def test_it_is_listed(journal: Journal, driver: Driver) -> None:
    """Who, why and since when."""
    await order(journal, "suspend")
    (found,) = await listed(driver)
    assert (found.kind, found.name, found.standing, found.reason, found.who) == (
        *("system", "finance.tax", "suspended"),
        *("a stolen laptop", "dara"),
    )
    assert abs(found.since - time.time()) < 60


async def test_what_stands_is_not_softened(journal: Journal, database: str, driver: Driver) -> None:
    """A second suspension changes nothing; a suspension can become a revocation, and that nothing but lifted."""
    for standing, done in (("suspended", True), ("suspended", False), ("revoked", True), ("suspended", False)):
        assert (await order(journal, "suspend", standing=standing, who=standing)).done is done
    assert [(each.standing, each.who) for each in await listed(driver)] == [("revoked", "revoked")]
    assert [(await order(journal, "lift")).done for _ in range(2)] == [True, False]
    assert [each["what"] for each in entries(database)] == ["suspend", "suspend", "lift"]


@pytest.mark.parametrize(
    ("what", "changes", "why"),
    [
        ("suspend", {"kind": "agency"}, "is no agency"),
        ("suspend", {"kind": "service"}, "is no service"),
        ("suspend", {"name": "finance.tax'; drop table keys"}, "is no name of what can be suspended"),
        ("suspend", {"standing": "active"}, "standing must be suspended or revoked"),
        (
            "suspend",
            {"kind": "agency", "name": "finance", "standing": "revoked"},
            "only what gets tokens can be revoked",
        ),
        ("suspend", {"reason": ""}, "reason must be one line of 1 to 500 characters"),
        ("suspend", {"reason": "two\nlines"}, "reason must be one line"),
        ("suspend", {"who": "x" * 501}, "who must be one line"),
        ("suspend", {"until": "tomorrow"}, "the order must have the fields"),
        ("lift", {"standing": "suspended"}, "the order must have the fields"),
        ("requeue", {}, 'the gateway knows no order "requeue"'),
    ],
)
async def test_an_order_is_read_strictly(
    journal: Journal, driver: Driver, what: str, changes: dict[str, str], why: str
) -> None:
    """Whatever is not exactly an order is refused in a sentence, and nothing is done."""
    outcome = await order(journal, what, **changes)
    assert (outcome.done, why in outcome.text) == (False, True), outcome.text
    assert await listed(driver) == ()


async def test_there_is_an_end_to_suspensions(journal: Journal, driver: Driver) -> None:
    """The table stays small enough to be read every second; what stands in it can still be revoked."""
    for number in range(MAX_SUSPENSIONS):
        assert (await order(journal, "suspend", name=f"finance.s{number}")).done
    outcome = await order(journal, "suspend")
    assert (outcome.done, "which is the most" in outcome.text) == (False, True)
    again = await order(journal, "suspend", name="finance.s1")
    assert (again.done, "already" in again.text) == (False, True)
    assert (await order(journal, "suspend", name="finance.s1", standing="revoked")).done
    assert len(await listed(driver)) == MAX_SUSPENSIONS


async def test_a_database_that_cannot_be_read(journal: Journal, driver: Driver) -> None:
    """What was known stays; after ten seconds nobody is to decide by it, until it is read again."""
    now = [0.0]
    valve = Valve(driver)
    reading = Suspensions(valve, Meters(), clock=lambda: now[0])
    await order(journal, "suspend")
    await look(reading)
    valve.failing = True
    now[0] = LATE + 0.1
    with pytest.raises(StoreFailed):
        await look(reading)
    assert (reading.known, reading.late) == ((TAX,), True)
    with pytest.raises(Refusal, match=r"journal.unavailable.*cannot read now who and what is suspended"):
        reading.sure(CATALOGUE)
    valve.failing = False
    await look(reading)
    assert reading.sure(CATALOGUE) is CATALOGUE


async def test_what_was_read_and_not_laid_over_does_not_count(journal: Journal, driver: Driver) -> None:
    """A mistake in laying over is tried again with each look, and ten seconds of it are as bad as no answer."""
    now = [0.0]
    reading = Suspensions(driver, Meters(), clock=lambda: now[0])

    def broken() -> None:
        raise ZeroDivisionError

    await order(journal, "suspend")
    for now[0] in (1.0, LATE + 0.1):
        with pytest.raises(ZeroDivisionError):
            await reading.look(lambda: CATALOGUE, broken)
    assert reading.late is True
    assert await look(reading) is True
    assert (await look(reading), reading.late) == (False, False)


async def test_a_failure_to_tell_undoes_nothing(journal: Journal, driver: Driver) -> None:
    """What cannot be logged is laid over all the same."""
    reading = Suspensions(driver, Meters())
    laid: list[tuple[Suspension, ...]] = []

    def broken() -> Catalogue:
        raise ZeroDivisionError

    await order(journal, "suspend")
    with pytest.raises(ZeroDivisionError):
        await reading.look(broken, lambda: laid.append(reading.known))
    assert laid == [(TAX,)]


async def test_a_row_of_another_version_stops_nobody_else(journal: Journal, driver: Driver) -> None:
    """A kind that is not known holds what its name can mean; one that names nothing is counted, and told once."""

    def later() -> Plan[None]:
        for kind, name, standing in (("client", "finance.tax", "banned"), ("service", "a.b.v1", "suspended")):
            yield f"insert into suspensions values ('{kind}', '{name}', '{standing}', 'r', 'w', 0)", ()  # noqa: S608

    meters = Meters()
    reading = Suspensions(driver, meters)
    await order(journal, "suspend", kind="agency", name="finance")
    await journal.run(lambda _: later())
    with capture_logs() as lines:
        assert [await look(reading) for _ in range(2)] == [True, False]
    agency = Suspension(Suspendable.AGENCY, "finance", Standing.SUSPENDED)
    assert reading.known == (agency, replace(TAX, standing=Standing.REVOKED))
    assert [each["count"] for each in lines if each["event"] == "suspensions_unknown"] == [1]
    assert meters.registry.get_sample_value("gateway_suspensions", {"kind": "unknown"}) == 1


class Counting(Valve):
    """Knows how often it was read."""

    reads = 0

    async def read(self, select: str, values: Sequence[Any] = ()) -> Rows:
        self.reads += 1
        return await super().read(select, values)


async def test_looking_goes_on(journal: Journal, driver: Driver) -> None:
    """A failure is logged once, its end too, and news that came meanwhile is taken into use."""
    valve = Counting(driver)
    valve.failing = True
    reading = Suspensions(valve, Meters())
    adopted = asyncio.Event()
    with capture_logs() as lines:
        looking = asyncio.create_task(reading.go_on(lambda: CATALOGUE, adopted.set))
        async with asyncio.timeout(30):
            await until(lambda: valve.reads > 1)
            await order(journal, "suspend")
            await order(journal, "suspend", kind="agreement", name="A-1")
            valve.failing = False
            await adopted.wait()
            await until(lambda: lines[-1]["event"] == "suspensions_read")
        looking.cancel()
    assert [(each["event"], each.get("name")) for each in lines] == [
        ("suspensions_unread", None),
        ("suspended", "unknown"),  # an agreement that the catalogue does not have
        ("suspended", "finance.tax"),
        ("suspensions_read", None),
    ]
    assert "dara" not in str(lines)
    assert "laptop" not in str(lines)


def stepped(connection: sa.Connection, to: str) -> None:
    """Alembic's steps up to one."""
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    config.attributes["connection"] = connection
    command.upgrade(config, to)
    connection.execute(sa.text("insert into facts (name, value) values ('instance', 'TEST')"))
    connection.execute(sa.text("insert into assertions values ('a', 'kept', 1)"))


async def test_a_file_of_the_first_version(tmp_path: Path) -> None:
    """It is not served as it is; `migrate` adds the tables and keeps the rest."""
    path = tmp_path / "gateway.sqlite3"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        stepped(connection, "0001")
    with pytest.raises(StoreFailed, match="tables of version 0001, and this gateway needs 0003: make a backup"):
        SqliteDriver(path, "TEST")
    in_a_thread(migrate, f"sqlite:///{path}", "TEST")
    driver = SqliteDriver(path, "TEST")
    assert await driver.read("select jti from assertions") == [("kept",)]
    assert await listed(driver) == ()
    await driver.close()
    assert suspensions.listed_in(path) == ()
    engine.dispose()


async def test_a_server_of_the_first_version(server: Server) -> None:
    """`migrate` adds the table, and the role that served may use it without another grant."""
    server.run("create database older", "postgres")
    server.run("create role older_serve login", "postgres")
    engine = create_async_engine(server.url(name="older"))
    async with engine.begin() as connection:
        await connection.run_sync(stepped, "0001")
        await connection.execute(sa.text("grant update, delete on keys to older_serve"))
    await engine.dispose()
    in_a_thread(migrate, server.url(name="older"), "TEST")
    connection = await server.connect("older")
    may = "select has_table_privilege($1, 'suspensions', $2)"
    for right in ("select", "insert", "update", "delete"):
        assert await connection.fetchval(may, "older_serve", right) is True
    assert await connection.fetchval(may, "older_serve", "truncate") is False
    assert await connection.fetchval("select jti from assertions") == "kept"
    await connection.close()
    server.run("drop database older", "postgres")
    server.run("drop role older_serve", "postgres")
