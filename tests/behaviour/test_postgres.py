"""What only PostgreSQL does: other connections at the same rows, lost connections, and a server that is no good."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest

from gateway.core.entry import Bodies, Draft, Particulars, Stamp, draft
from gateway.core.refusal import Refusal
from gateway.edge import archive, claims
from gateway.edge.claims import Claim, Found
from gateway.edge.journal import Book, Journal
from gateway.edge.limits import _take_block
from gateway.edge.postgres import SESSION, PostgresDriver, dsn_of
from gateway.edge.store import MONTH, Plan, StoreFailed, StoreUnsure
from tests.behaviour.server import Server, in_a_thread
from tests.fakes.relay import Cut, Relay

INSERT = (
    "insert into keys (system, key, fingerprint, state, owner, deadline, exchange, keep_until) "
    "values ('finance.tax', $1, 'f', 'running', 'other', 9e9, 'exchange-other', 9e9)"
)


@pytest.fixture
def database(server: Server) -> str:
    return server.emptied()


@pytest.fixture
async def journals(database: str) -> AsyncIterator[list[Journal]]:
    """Four processes' journals, as far as the database can tell."""
    made = [Journal(PostgresDriver(database, "TEST")) for _ in range(4)]
    for each in made:
        await each.open("test")
    yield made
    for each in made:
        await each.close()


@pytest.fixture
async def journal(journals: list[Journal]) -> Journal:
    return journals[0]


@pytest.fixture
async def other(server: Server, database: str) -> AsyncIterator[Any]:
    """A connection beside the driver's, which writes by itself."""
    connection = await server.connect()
    yield connection
    await connection.close()


def said(what: str) -> Draft:
    return draft({"what": what}, Bodies(), Particulars(), bytes(64))


def claim(owner: str, key: str = "k") -> Claim:
    return Claim("finance.tax", key, b"f", owner, 60, f"exchange-{owner}")


async def take(journal: Journal, mine: Claim) -> Stamp | Found:
    return await journal.run(claims.take(mine, said(f"admitted {mine.owner}")), locks=mine.locks)


def asked(journal: Journal, sql: str) -> Any:
    def plan(_: Book) -> Plan[list[Sequence[Any]]]:
        rows = yield sql, ()
        return [tuple(row) for row in rows]

    return journal.run(plan)


def written(database: str) -> list[tuple[int, str]]:
    """What the journal holds: numbers and what they say."""
    kept: list[archive.Kept] = in_a_thread(list, archive.entries(database))
    return [(each.n, orjson.loads(each.entry)["what"]) for each in kept]


async def somebody_waits(connection: Any) -> None:
    """Returns when a connection waits for another's row."""
    while not await connection.fetchval("select count(*) from pg_stat_activity where wait_event_type = 'Lock'"):
        pass


@pytest.mark.parametrize(("end", "first"), [("commit", Found), ("rollback", Stamp)])
async def test_who_meets_an_open_claim_waits_for_its_end(
    journal: Journal, other: Any, end: str, first: type[Stamp] | type[Found]
) -> None:
    """E5: T1 has inserted the key and not committed: T2 reads its row after a commit, or has the key."""
    await other.execute("begin")
    await other.execute(INSERT.replace("$1", "'k'"))
    second = asyncio.ensure_future(take(journal, claim("b")))
    await somebody_waits(other)
    await other.execute(end)
    assert isinstance(await second, first)
    owners = await asked(journal, "select owner from keys")
    assert owners == ([("other",)] if end == "commit" else [("b",)])


async def test_a_held_row_costs_its_own_caller_only(other: Any, database: str) -> None:
    """A node that was stopped within a transaction holds a key: the thirty others of the batch are written."""
    commits: list[int] = []
    journal = Journal(PostgresDriver(database, "TEST"), observe=lambda _seconds, entries: commits.append(entries))
    await journal.open("test")
    await other.execute("begin")
    await other.execute(INSERT, "k15")
    works = [take(journal, claim(f"o{n}", f"k{n}")) for n in range(30)]
    appended = journal.append(said("plain"))
    results = await asyncio.gather(*works, appended, take(journal, claim("again", "k15")), return_exceptions=True)
    refused = [n for n, result in enumerate(results) if isinstance(result, Refusal)]
    assert refused == [15, 31]
    assert "Another process" in str(results[15])
    assert sum(isinstance(result, Stamp) for result in results) == 30
    assert [n for n, _ in written(database)] == list(range(1, 31))
    assert (commits, journal.failing) == ([30], False)
    await other.execute("rollback")
    assert isinstance(await take(journal, claim("later", "k15")), Stamp)
    await journal.close()


async def test_a_sweep_waits_for_nobody(journal: Journal, other: Any) -> None:
    """Keys that another transaction holds are left to the next round."""
    for key in ("held", "free"):
        await other.execute(INSERT, key)
    await other.execute("update keys set deadline = 0")
    await other.execute("begin; select * from keys where key = 'held' for update")
    sweep = claims.sweep(lambda _system, exchange: said(f"unsettled {exchange}"))
    assert await journal.run(sweep) == 1
    await other.execute("rollback")
    assert await journal.run(sweep) == 1


async def test_batches_with_the_same_keys_never_wait_in_a_circle(journals: list[Journal], other: Any) -> None:
    """Four processes take and sweep the same forty keys, each in another order: no deadlock, one owner each."""
    before = await other.fetchval("select deadlocks from pg_stat_database where datname = current_database()")
    for turn in range(5):
        names = [f"{turn}-{n}" for n in range(40)]
        orders = (names, names[::-1], names[20:] + names[:20], names[1::2] + names[::2])
        works = [
            take(journal, claim(f"{place}", name))
            for place, (journal, order) in enumerate(zip(journals, orders, strict=True))
            for name in order
        ]
        sweeps = [journal.run(claims.sweep(lambda _, it: said(it))) for journal in journals]
        results = await asyncio.gather(*works, *sweeps)
        assert sum(isinstance(result, Stamp) for result in results) == 40
    after = await other.fetchval("select deadlocks from pg_stat_database where datname = current_database()")
    assert after == before


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
async def test_text_that_the_database_refuses_fails_alone(journal: Journal, database: str, text: str) -> None:
    """E11: thirty others of the batch are written, and no number is missing."""
    works = [take(journal, claim(f"o{n}", f"k{n}")) for n in range(30)]
    results = await asyncio.gather(take(journal, claim("bad", text)), *works, return_exceptions=True)
    assert [type(result) for result in results] == [Refusal] + [Stamp] * 30
    assert isinstance(results[0], Refusal)
    assert str(results[0].__cause__).endswith("Error")  # a class, not what was refused
    assert [n for n, _ in written(database)] == list(range(1, 31))


async def test_four_connections_spend_a_quota_exactly(journals: list[Journal]) -> None:
    """E8: blocks of 500 units, taken by four processes until there are none."""
    holder = ("A-1", 0, "finance.tax", "2026-11-20")

    async def spend(journal: Journal) -> int:
        spent = 0
        while block := (await journal.run(_take_block(holder, 500), locks=("quotas", *map(str, holder))))[0]:
            spent += block
        return spent

    assert sum(await asyncio.gather(*map(spend, journals))) == 500


async def test_a_deadlock_is_begun_anew(journal: Journal, other: Any) -> None:
    """Whoever the server gives up for another's sake tries again by itself."""
    await other.execute(INSERT, "a")
    driver = journal._driver
    tried = Counter[str]()

    def plan() -> Plan[None]:
        tried["times"] += 1
        if tried["times"] == 1:
            yield "do $$ begin raise sqlstate '40P01'; end $$", ()
        yield "update keys set owner = 'mine' where key = 'a'", ()

    await driver.transact(plan)
    assert tried["times"] == 2
    assert await asked(journal, "select owner from keys") == [("mine",)]


async def test_a_lost_connection_is_made_anew(journal: Journal, other: Any, database: str) -> None:
    """The server ended it between two batches: the next one is written under the same writer, and nobody is refused."""
    await journal.append(said("one"))
    await other.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'gateway'")
    await journal.append(said("two"))
    assert written(database) == [(1, "one"), (2, "two")]


@pytest.fixture
async def cut_off(server: Server, database: str) -> AsyncIterator[tuple[Relay, Journal]]:
    """A journal behind a wire that can be cut."""
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Relay(server.folder / ".s.PGSQL.5432").running())
        url = f"postgresql+asyncpg://postgres@127.0.0.1:{relay.port}/behaviour?sslmode=disable"
        journal = Journal(PostgresDriver(url, "TEST"))
        await journal.open("test")
        stack.push_async_callback(journal.close)
        yield relay, journal


@pytest.mark.parametrize("cut", ["before", "after", "late", "never"])
async def test_a_lost_answer_to_commit_is_found_out(cut_off: tuple[Relay, Journal], database: str, cut: Cut) -> None:
    """D30: whether the server had done it, does it later or never: one effect, and callers get the true answer."""
    relay, journal = cut_off
    await journal.append(said("before"))
    relay.cut = cut
    works = (take(journal, claim("a")), journal.append(said("plain")), take(journal, claim("b")))
    first, second, third = await asyncio.gather(*works)
    assert relay.cuts == 1
    assert isinstance(first, Stamp)
    assert isinstance(second, Stamp)
    assert isinstance(third, Found)
    assert third.exchange == "exchange-a"
    await journal.append(said("after"))
    assert written(database) == [(1, "before"), (2, "admitted a"), (3, "plain"), (4, "after")]


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_while_nothing_can_be_found_out_nobody_is_told_yes(
    cut_off: tuple[Relay, Journal], database: str, cut: Cut
) -> None:
    """Cut off for longer, callers are refused; what had happened stands, and the numbers go on behind it."""
    relay, journal = cut_off
    await journal.append(said("one"))
    relay.cut, relay.closed = cut, True
    with pytest.raises(Refusal):
        await journal.append(said("perhaps"))
    assert journal.failing is True
    relay.closed = False
    await journal.append(said("last"))
    said_so = [what for _, what in written(database)]
    assert said_so == (["one", "perhaps", "last"] if cut == "after" else ["one", "last"])
    assert in_a_thread(archive.check, database).faults == ()


async def test_what_leaves_no_entry_is_refused_when_its_answer_is_lost(cut_off: tuple[Relay, Journal]) -> None:
    """Nothing could be found again of a transaction without entries: done twice it would give back twice."""
    relay, journal = cut_off
    await asked(journal, "insert into quotas values ('A', 0, 'c', 'd', 10, 1)")
    relay.cut = "after"
    with pytest.raises(Refusal) as caught:
        await asked(journal, "update quotas set taken = taken - 1")
    assert isinstance(caught.value.__cause__, StoreUnsure)
    assert await asked(journal, "select taken from quotas") == [(9,)]


async def test_a_plan_that_is_cancelled_leaves_nothing(database: str) -> None:
    """The connection goes with it, and with that the transaction; the next one has a connection of its own."""
    driver = PostgresDriver(database, "TEST")

    def endless() -> Plan[None]:
        yield "insert into assertions values ('a', 'b', 1)", ()
        yield "select pg_sleep(60)", ()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(driver.transact(endless), 0.2)

    def count() -> Plan[int]:
        rows = yield "select count(*) from assertions", ()
        return int(rows[0][0])

    assert await driver.transact(count) == 0
    await driver.close()


def only(sql: str, *values: Any) -> Callable[[], Plan[Any]]:
    def plan() -> Plan[Any]:
        rows = yield sql, values
        return rows[0][0] if rows else None

    return plan


@pytest.mark.parametrize("name", SESSION)
async def test_a_session_is_set_up(database: str, name: str) -> None:
    """Durable, read committed, and bounded in every way that it could wait."""
    driver = PostgresDriver(database, "TEST")
    assert await driver.transact(only("select current_setting($1)", name)) == SESSION[name]
    await driver.close()


async def test_a_server_that_may_lose_commits_is_not_used(server: Server, database: str) -> None:
    """With fsync off nothing is written, and the sentence says what to set."""
    async with AsyncExitStack() as stack:
        stack.callback(server.run, "alter system reset fsync")
        server.run("alter system set fsync = off")
        await _reload(server)
        with pytest.raises(StoreFailed, match=r"fsync is off.*postgresql\.conf"):
            await PostgresDriver(database, "TEST").transact(only("select 1"))
    await _reload(server)


async def _reload(server: Server) -> None:
    """Returns when new connections have the configuration as it is in the file."""
    connection = await server.connect()
    loaded = "select pg_conf_load_time()"
    before = await connection.fetchval(loaded)
    await connection.execute("select pg_reload_conf()")
    while await connection.fetchval(loaded) == before:
        pass
    await connection.close()


@pytest.mark.parametrize(
    ("instance", "name", "why"),
    [
        ("KH", "behaviour", r"belongs to the instance TEST, not to KH"),
        ("TEST", "postgres", r"tables of version none.*run `gateway migrate`"),
        ("TEST", "nowhere", r'cannot be reached at /.*: database "nowhere" does not exist'),
    ],
)
async def test_a_database_of_somebody_else_is_not_used(
    server: Server, database: str, instance: str, name: str, why: str
) -> None:
    """Another instance's, one that was not migrated, one that does not exist."""
    with pytest.raises(StoreFailed, match=why):
        await PostgresDriver(server.url(name=name), instance).transact(only("select 1"))


async def test_nobody_answers(database: str) -> None:
    """A server that is down is a sentence, too."""
    url = "postgresql+asyncpg://someone@127.0.0.1:1/x"
    for asked in (PostgresDriver(url, "TEST").read("select 1"), asyncio.to_thread(archive.check, url)):
        with pytest.raises(StoreFailed, match=r"the database cannot be reached at 127\.0\.0\.1:1: ") as caught:
            await asked
        assert "someone" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://x@h/d", r"must be postgresql\+asyncpg://"),
        ("postgresql+asyncpg://x@h", r"must be postgresql\+asyncpg://"),
        ("postgresql+asyncpg://x:secret@h/d", r"passfile"),
        ("postgresql+asyncpg://x@h/d?password=secret", r"passfile"),
    ],
)
def test_an_address_says_where_and_never_the_password(url: str, why: str) -> None:
    """Secrets are files; the sentence does not repeat what it was given."""
    with pytest.raises(ValueError, match=why) as caught:
        dsn_of(url)
    assert "secret" not in str(caught.value)


async def test_a_month_is_made_by_whoever_needs_it_first(journals: list[Journal], other: Any) -> None:
    """Four processes meet a new month at once: one table, guarded as all are, and none of them fails."""
    drivers = [each._driver for each in journals]
    await asyncio.gather(*(each.transact(only(MONTH, "2031_05")) for each in drivers))
    triggers = await other.fetch("select tgname from pg_trigger where tgrelid = 'journal_2031_05'::regclass order by 1")
    assert [row[0] for row in triggers] == ["journal_2031_05_row", "journal_2031_05_truncate"]
    await other.execute("drop table journal_2031_05; delete from journal_months where month = '2031_05'")
