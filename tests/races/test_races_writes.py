"""E1 to E7: one write, two nodes, and everything that can come between them.

``tests/system/test_writes`` plays the same on one node with more cases, ``tests/behaviour/test_claims`` the statements
alone, ``tests/faults`` with processes that are really killed and paused.
"""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.core.entry import Bodies, Particulars, draft
from gateway.core.model import Standing
from gateway.edge.journal import MAX_WAITING
from tests.fakes.parties import CHANGE, CHANGED, LOOK_UP, PERSON, TAX, Terms
from tests.fakes.town import after, answers, founded, never, until, usual
from tests.races.stage import (
    HOUR,
    RELEASED,
    beside,
    code,
    held,
    met_with,
    replayed,
    steps,
    two_nodes,
    waited_for,
    write,
)


@pytest.mark.parametrize("takes_key", [False, True])
async def test_e01_a_dead_callers_key_is_not_running_for_ever(
    tmp_path: Path, url: str | None, *, takes_key: bool
) -> None:
    """A node dies in the call: for hours another one says unknown, or calls once more where that does no harm."""
    terms = Terms(takes_key=takes_key)
    async with founded(tmp_path, url) as here:
        async with here.running(terms):
            here.office.react = never
            lost = asyncio.create_task(write(here))
            await here.office.arrived.acquire()
        await asyncio.gather(lost, return_exceptions=True)
        here.office.react = usual
        there = here.beside()
        async with there.running(terms):
            found = [code(await write(there))]
            for hours in (1, 5):
                there.valve.ahead = hours * HOUR
                await there.upkeep()
                found.append(code(await write(there)))
    assert found == ["idempotency.running", *(["200"] * 2 if takes_key else ["idempotency.outcome_unknown"] * 2)]
    assert len(here.office.seen) == steps(there)["admitted"] == (2 if takes_key else 1)
    assert (steps(there)["unsettled"], there.faults()) == (1, ())


async def test_e02_who_wakes_late_answers_what_counts(tmp_path: Path, url: str | None) -> None:
    """A stands still in the call, B takes over and is answered, A wakes: both give B's answer, one final entry."""
    wake = asyncio.Event()
    async with two_nodes(tmp_path, url, Terms(takes_key=True, deadline=30)) as (here, there):
        here.office.react = after(wake, answers({"record_version": 1}))
        slow = asyncio.create_task(write(here))
        await here.office.arrived.acquire()
        there.valve.ahead = HOUR
        here.office.react = answers({"record_version": 2})
        second = await write(there)
        wake.set()
        first = await slow
        assert [(reply.body["record_version"], replayed(reply)) for reply in (first, second)] == [(2, True), (2, False)]
        assert steps(here) == {"admitted": 2, "answered": 1, "replayed": 1}
        assert here.keys_kept() == [("k", "answered")]


async def test_e03_a_timeout_is_not_repeated(tmp_path: Path, url: str | None) -> None:
    """Sent, and no answer: no 504 is stored, and on the other node nothing is called again."""
    async with two_nodes(tmp_path, url, Terms(deadline=0.2)) as (here, there):
        first = await met_with(here, never)
        again = await write(there)
        assert (code(first), code(again)) == ("provider.timeout", "idempotency.outcome_unknown")
        assert (len(here.office.seen), here.keys_kept()) == (1, [("k", "unknown")])


async def test_e03_a_timeout_is_repeated_where_the_provider_takes_the_key(tmp_path: Path, url: str | None) -> None:
    """The other node asks again under the same key, once, whoever asks."""
    async with two_nodes(tmp_path, url, Terms(deadline=0.2, takes_key=True)) as (here, there):
        await met_with(here, never)
        replies = await asyncio.gather(*(write(town) for town in (here, there) for _ in range(10)))
        assert {code(reply) for reply in replies} <= {"200", "idempotency.running"}
        assert len({seen.headers["Idempotency-Key"] for seen in here.office.seen}) == 1
        assert (len(here.office.seen), (await write(there)).body) == (2, RELEASED)


@pytest.mark.parametrize("earlier", [0, 5], ids=["refused", "breaker"])
async def test_e03_nothing_sent_frees_the_key(tmp_path: Path, url: str | None, earlier: int) -> None:
    """A refused connection and a breaker that it opened leave the key to whoever retries, wherever."""
    async with two_nodes(tmp_path, url) as (here, there):
        await here.office.shut()
        for place in range(earlier):
            await write(here, f"before {place}")
        refused = await write(here)
        assert ("left alone" in refused.body["detail"]) == bool(earlier)
        assert (code(refused), here.keys_kept()) == ("provider.unavailable", [])
        await here.office.open()
        if there is not here or not earlier:
            assert ((await write(there)).status, len(here.office.seen)) == (200, 1)


async def test_e03_a_full_endpoint_frees_the_key(tmp_path: Path, url: str | None) -> None:
    """Who finds all places taken may send the same call again (a full pool of connections: test_outbound)."""
    release = asyncio.Event()
    async with two_nodes(tmp_path, url, Terms(concurrency=1)) as (here, there):
        here.office.react = after(release, usual)
        first = asyncio.create_task(write(here, "first"))
        await here.office.arrived.acquire()
        full = await write(here)
        release.set()
        assert (code(full), (await first).status, (await write(there)).status) == ("provider.unavailable", 200, 200)
        assert len(here.office.seen) == 2


async def test_e04_no_key_without_evidence_and_no_evidence_without_a_key(tmp_path: Path, url: str | None) -> None:
    """A claim whose transaction fails leaves neither (`kill -9` at every statement of it: tests/faults)."""
    async with two_nodes(tmp_path, url) as (here, there):
        await here.token(TAX)
        here.valve.failing = True
        failed = await write(here)
        here.valve.failing = False
        assert (code(failed), here.office.seen, here.keys_kept(), steps(here)) == ("journal.unavailable", [], [], {})
        await here.upkeep()
        assert (await write(there)).status == 200
        assert (here.keys_kept(), steps(here)["admitted"]) == ([("k", "answered")], 1)


async def test_e05_many_callers_of_two_nodes_are_one_write(tmp_path: Path, url: str | None) -> None:
    """Two hundred calls of both nodes with five keys, in the same batches: five calls, and one answer for each key."""
    async with two_nodes(tmp_path, url) as (here, there):
        for town in (here, there):
            await town.token(TAX)
        replies = await asyncio.gather(*(write((here, there)[n % 2], f"k{n % 5}") for n in range(200)))
        # journal.unavailable: the other node held the key's row for longer than a batch waits, on a slow machine.
        assert {code(reply) for reply in replies} <= {"200", "idempotency.running", "journal.unavailable"}
        later = [await write(town, f"k{n}") for town in (here, there) for n in range(5)]
        assert {(reply.status, replayed(reply), reply.raw) for reply in later} == {(200, True, later[0].raw)}
        assert (len(here.office.seen), steps(here)["admitted"]) == (5, 5)
        assert (here.faults(), Counter(state for _, state in here.keys_kept())) == ((), {"answered": 5})


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_e05_who_meets_an_open_claim_waits_for_its_end(tmp_path: Path, shared: str, end: str) -> None:
    """One node has taken the key and not committed: the other one reads its row, or has the key; one call only."""
    async with two_nodes(tmp_path, shared) as (here, there), AsyncExitStack() as stack:
        await here.token(TAX)
        await there.token(TAX)
        other = await stack.enter_async_context(beside(shared))
        holding = await stack.enter_async_context(held(here))
        first = asyncio.create_task(write(here))
        await holding()
        second = asyncio.create_task(write(there))
        await waited_for(shared, "insert into keys%")
        if end == "rollback":
            here.valve.last = ()
            cut = (
                "select pg_terminate_backend(pid) from pg_stat_activity where query like $1 and pid <> pg_backend_pid()"
            )
            await other.execute(cut, "select pg_advisory_xact_lock%")
        await stack.aclose()
        replies = await asyncio.gather(first, second)
        assert Counter(map(code, replies)) in ({"200": 1, "idempotency.running": 1}, {"200": 2})
        assert (len(here.office.seen), steps(here)["admitted"]) == (1, 1)
        assert code(replies[1 if end == "rollback" else 0]) == "200"


@pytest.mark.parametrize(
    ("terms", "outcome"),
    [
        (Terms(disclosed={CHANGE: ("/record_version",)}), "200"),
        (Terms(standing=Standing.SUSPENDED), "policy.suspended"),
        (Terms(until=2024), "policy.expired"),
    ],
    ids=["narrowed", "suspended", "ended"],
)
async def test_e06_a_replay_is_decided_today(tmp_path: Path, url: str | None, terms: Terms, outcome: str) -> None:
    """A stored answer leaves the other node as it is agreed now, marked and journaled as replayed, or not at all."""
    async with two_nodes(tmp_path, url) as (here, there):
        first = await write(here)
        there.agree(terms)
        again = await write(there)
        (entry,) = there.entries(again.headers["Exchange-Id"])
        assert (code(again), len(here.office.seen)) == (outcome, 1)
        if outcome == "200":
            assert (again.body, replayed(again)) == ({"record_version": CHANGED["record_version"]}, True)
            assert (entry.facts["step"], entry.facts["first"]) == ("replayed", first.headers["Exchange-Id"])
        else:
            assert (entry.facts["step"], entry.facts["code"], "record_version" in again.body) == (
                "refused",
                code(again),
                False,
            )


async def test_e07_an_answer_that_cannot_be_journaled_does_not_leave(tmp_path: Path, url: str | None) -> None:
    """The store fails after the provider's write: 503, `admitted` stands, the other node says running, then unknown."""
    async with two_nodes(tmp_path, url) as (here, there):

        async def react(request: Any) -> Any:
            here.valve.failing = True
            return await usual(request)

        failed = await met_with(here, react)
        assert (code(failed), "changed_on" in failed.body) == ("journal.unavailable", False)
        here.valve.failing = False
        await here.upkeep()
        found = [code(await write(there))]
        there.valve.ahead = HOUR
        found.append(code(await write(there)))
        assert found == ["idempotency.running", "idempotency.outcome_unknown"]
        assert (len(here.office.seen), steps(here)["admitted"], steps(here)["answered"]) == (1, 1, 0)


async def test_e07_while_the_store_fails_nobody_is_called(tmp_path: Path, url: str | None) -> None:
    """New exchanges are refused before the provider is called, reads too; the other node's go on."""
    async with two_nodes(tmp_path, url) as (here, there):
        await here.token(TAX)
        await there.token(TAX)
        here.valve.failing = True
        assert code(await write(here)) == "journal.unavailable"
        assert code(await here.call(TAX, LOOK_UP, PERSON)) == "journal.unavailable"
        assert (here.office.seen, here.gateway.health().readiness.value) == ([], "unready")
        if there is not here:
            assert (await write(there)).status == 200


async def test_e07_a_full_queue_stops_exchanges_before_the_call(tmp_path: Path, url: str | None) -> None:
    """As many works as the journal takes wait for it: a write is refused, and what waited is written afterwards."""
    async with two_nodes(tmp_path, url) as (here, _):
        await here.token(TAX)
        journal, empty = here.gateway.journal, draft({"step": "administered"}, Bodies(), Particulars(), bytes(64))
        async with held(here) as holding:
            first = asyncio.create_task(journal.append(empty))
            await holding()
            waiting = [asyncio.create_task(journal.append(empty)) for _ in range(MAX_WAITING)]
            await until(lambda: journal.waiting == MAX_WAITING)
            refused = await asyncio.wait_for(write(here), 10)
            assert (code(refused), here.office.seen) == ("journal.unavailable", [])
        assert len(await asyncio.gather(first, *waiting)) == MAX_WAITING + 1
        assert ((await write(here)).status, here.faults()) == (200, ())
