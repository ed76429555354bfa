"""Idempotency keys on every database: one caller wins, the evidence stands beside it, and late ones change nothing."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import orjson
import pytest

from gateway.core.entry import Bodies, Draft, Particulars, Stamp, draft
from gateway.core.exchange import KeyState
from gateway.core.refusal import Refusal
from gateway.edge import claims
from gateway.edge.claims import Claim, Found
from gateway.edge.journal import Book, Journal
from gateway.edge.store import Driver, Plan

Open = Callable[[], Driver]
T = TypeVar("T")
DEAD = -1.0
"""Seconds of a claim whose process is believed dead at once."""


def claim(
    owner: str, *, key: str = "k", system: str = "finance.tax", seconds: float = 60, print_: bytes = b"f"
) -> Claim:
    return Claim(system, key, print_, owner, seconds, f"exchange-{owner}")


def said(what: str) -> Draft:
    return draft({"what": what}, Bodies(), Particulars(), bytes(64))


async def take(journal: Journal, mine: Claim) -> Stamp | Found:
    return await journal.run(claims.take(mine, said(f"admitted {mine.owner}")), locks=mine.locks)


async def take_again(journal: Journal, mine: Claim) -> Stamp | Found:
    return await journal.run(claims.take_again(mine, said(f"admitted {mine.owner}")), locks=mine.locks)


async def answered(journal: Journal, mine: Claim) -> Stamp | Found:
    sealed = f"answer {mine.owner}".encode()
    return await journal.run(claims.answered(mine, sealed, said(f"answered {mine.owner}")), locks=mine.locks)


async def ended(journal: Journal, mine: Claim, how: Callable[[Claim, Draft], Callable[[Book], Plan[Stamp]]]) -> Stamp:
    return await journal.run(how(mine, said(f"ended {mine.owner}")), locks=mine.locks)


async def sweep(journal: Journal) -> int:
    return await journal.run(claims.sweep(lambda system, exchange: said(f"unsettled {system} {exchange}")))


async def asked(journal: Journal, sql: str) -> Sequence[Sequence[Any]]:
    def plan(_: Book) -> Plan[Sequence[Sequence[Any]]]:
        rows = yield sql, ()
        return [tuple(row) for row in rows]

    return await journal.run(plan)


async def states(journal: Journal) -> list[tuple[str, str, str]]:
    """Every key: its name, its state, who has it."""
    return [(row[0], row[1], row[2]) for row in await asked(journal, "select key, state, owner from keys order by key")]


async def written(journal: Journal) -> list[str]:
    """What the journal's entries say, in order."""
    entries: list[str] = []
    for (month,) in await asked(journal, "select month from journal_months order by month"):
        rows = await asked(journal, f"select entry from journal_{month} order by writer, n")  # noqa: S608 - digits
        entries += [orjson.loads(row[0])["what"] for row in rows]
    return entries


async def test_a_first_caller_has_the_key(journal: Journal) -> None:
    """The claim and its entry are there together; whoever comes second learns whose it is."""
    assert isinstance(await take(journal, claim("a")), Stamp)
    second = await take(journal, claim("b", print_=b"g"))
    assert second == Found(KeyState.RUNNING, b"f", "exchange-a", None, late=False)
    assert await states(journal) == [("k", "running", "a")]
    assert await written(journal) == ["admitted a"]


async def test_a_key_belongs_to_its_system(journal: Journal) -> None:
    """Two systems that chose the same key do not meet."""
    both = [await take(journal, claim(name, system=name)) for name in ("finance.tax", "health.clinic")]
    assert [type(each) for each in both] == [Stamp, Stamp]


async def test_one_of_many_in_a_batch_wins(journal: Journal) -> None:
    """E5: thirty callers with five keys in one batch: one claim each, and everything else of the batch goes through."""
    mine = [claim(f"o{n}", key=f"k{n % 5}") for n in range(30)]
    others = [journal.append(said(f"other {n}")) for n in range(10)]
    results = await asyncio.gather(*(take(journal, each) for each in mine), *others)
    winners = [each.owner for each, result in zip(mine, results, strict=False) if isinstance(result, Stamp)]
    assert sorted(owner for _, _, owner in await states(journal)) == sorted(winners)
    assert len(winners) == 5
    assert len(await written(journal)) == 15


def failing(mine: Claim) -> Callable[[Book], Plan[None]]:
    """A claim whose transaction fails after it."""

    def plan(book: Book) -> Plan[None]:
        yield from claims.take(mine, said(f"admitted {mine.owner}"))(book)
        raise ArithmeticError

    return plan


def refused(mine: Claim) -> Callable[[Book], Plan[None]]:
    """A claim whose transaction the database refuses after it."""

    def plan(book: Book) -> Plan[None]:
        yield from claims.take(mine, said(f"admitted {mine.owner}"))(book)
        yield "insert into assertions (system, jti, until) values ($1, null, 1)", ("a",)

    return plan


@pytest.mark.parametrize(("broken", "error"), [(failing, ArithmeticError), (refused, Refusal)])
async def test_neither_key_nor_evidence_without_the_other(
    journal: Journal, broken: Callable[[Claim], Callable[[Book], Plan[None]]], error: type[Exception]
) -> None:
    """E4: what fails after the claim leaves no key and no entry, and the next caller gets both."""
    with pytest.raises(error):
        await journal.run(broken(claim("a")))
    assert (await states(journal), await written(journal)) == ([], [])
    assert isinstance(await take(journal, claim("b")), Stamp)


@pytest.mark.parametrize("broken", [failing, refused])
async def test_a_claim_that_is_rolled_back_leaves_the_key_to_the_other(
    journal: Journal, broken: Callable[[Claim], Callable[[Book], Plan[None]]]
) -> None:
    """E5: in one batch with a transaction that fails after taking the key, the other caller gets it."""
    first = journal.run(broken(claim("a")), locks=claim("a").locks)
    results = await asyncio.gather(first, take(journal, claim("b")), return_exceptions=True)
    assert isinstance(results[1], Stamp)
    assert await written(journal) == ["admitted b"]


async def test_a_dead_caller_does_not_hold_a_key_for_ever(journal: Journal) -> None:
    """E1: after the deadline the key is late, and one of many may call a provider that takes keys, with evidence."""
    await take(journal, claim("a", seconds=DEAD))
    assert await take(journal, claim("b")) == Found(KeyState.RUNNING, b"f", "exchange-a", None, late=True)
    results = await asyncio.gather(*(take_again(journal, claim(f"b{n}")) for n in range(10)))
    winner = next(n for n, result in enumerate(results) if isinstance(result, Stamp))
    running = Found(KeyState.RUNNING, b"f", f"exchange-b{winner}", None, late=False)
    assert [result for result in results if not isinstance(result, Stamp)] == [running] * 9
    assert await written(journal) == ["admitted a", f"admitted b{winner}"]


async def test_a_key_outlives_its_process(opened: Open) -> None:
    """E1: another process finds what the first one claimed and did not end."""
    for owner, kind in (("a", Stamp), ("b", Found)):
        journal = Journal(opened())
        await journal.open("test")
        assert isinstance(await take(journal, claim(owner)), kind)
        await journal.close()


@pytest.mark.parametrize(("seconds", "print_"), [(60.0, b"f"), (DEAD, b"g")])
async def test_who_may_not_take_over(journal: Journal, seconds: float, print_: bytes) -> None:
    """Neither a call that still runs nor one with another fingerprint is taken over."""
    await take(journal, claim("a", seconds=seconds))
    assert isinstance(await take_again(journal, claim("b", print_=print_)), Found)
    assert await states(journal) == [("k", "running", "a")]


async def test_a_late_settlement_finds_the_others_answer(journal: Journal) -> None:
    """E2: A sleeps, B takes over and answers, A wakes: it changes nothing, gets B's answer, one final entry stands."""
    sleeper, second = claim("a", seconds=DEAD), claim("b")
    await take(journal, sleeper)
    await take_again(journal, second)
    assert await answered(journal, sleeper) == Found(KeyState.RUNNING, b"f", "exchange-b", None, late=False)
    assert isinstance(await answered(journal, second), Stamp)
    found = Found(KeyState.ANSWERED, b"f", "exchange-b", b"answer b", late=False)
    assert await answered(journal, sleeper) == found
    assert await take(journal, claim("c")) == found
    assert await written(journal) == ["admitted a", "admitted b", "answered b"]


async def test_what_is_settled_stays_settled(journal: Journal) -> None:
    """An answer is stored once: the same owner cannot store another, nor take it back."""
    mine = claim("a")
    await take(journal, mine)
    await answered(journal, mine)
    assert isinstance(await answered(journal, mine), Found)
    for how in (claims.free, claims.unknown):
        await ended(journal, mine, how)
    assert await states(journal) == [("k", "answered", "a")]
    assert (await written(journal)).count("answered a") == 1


@pytest.mark.parametrize("how", [claims.free, claims.unknown])
async def test_only_its_owner_ends_a_claim(
    journal: Journal, how: Callable[[Claim, Draft], Callable[[Book], Plan[Stamp]]]
) -> None:
    """A stranger, also one that names the key rightly, neither frees it nor gives it up; that it tried is written."""
    await take(journal, claim("a"))
    await ended(journal, claim("b"), how)
    assert await states(journal) == [("k", "running", "a")]
    assert await written(journal) == ["admitted a", "ended b"]


async def test_a_key_is_free_when_nothing_was_sent(journal: Journal) -> None:
    """E3: after a refused connection the same key calls anew, even with another body."""
    await take(journal, claim("a"))
    await ended(journal, claim("a"), claims.free)
    assert await states(journal) == []
    assert isinstance(await take(journal, claim("b", print_=b"g")), Stamp)


async def test_what_was_sent_without_an_answer_is_unknown(journal: Journal) -> None:
    """E3: nobody claims it anew and its late answer is not stored; a provider that takes keys is called once more."""
    await take(journal, claim("a"))
    await ended(journal, claim("a"), claims.unknown)
    unknown = Found(KeyState.UNKNOWN, b"f", "exchange-a", None, late=False)
    assert await take(journal, claim("b")) == unknown
    assert await answered(journal, claim("a")) == unknown
    assert isinstance(await take_again(journal, claim("b")), Stamp)
    assert await states(journal) == [("k", "running", "b")]


async def test_settling_a_key_that_is_gone_settles_nothing(journal: Journal) -> None:
    """Where a key was freed meanwhile, its late answer is neither stored nor written."""
    assert isinstance(await answered(journal, claim("a")), Found)
    assert (await states(journal), await written(journal)) == ([], [])


async def test_the_sweeper_gives_up_the_dead(journal: Journal) -> None:
    """E1: each key whose process died becomes unknown with an entry, once; what runs and what is answered stays."""
    for key, seconds in (("dead-1", DEAD), ("dead-2", DEAD), ("alive", 60.0), ("done", 60.0)):
        await take(journal, claim(key, key=key, seconds=seconds))
    await answered(journal, claim("done", key="done"))
    assert [await sweep(journal), await sweep(journal)] == [2, 0]
    assert [state for _, state, _ in await states(journal)] == ["running", "unknown", "unknown", "answered"]
    swept = [what for what in await written(journal) if what.startswith("unsettled")]
    assert sorted(swept) == ["unsettled finance.tax exchange-dead-1", "unsettled finance.tax exchange-dead-2"]


async def test_a_sleeper_that_was_swept_settles_nothing(journal: Journal) -> None:
    """E1: once the journal says unsettled, an answer that comes after all is not stored over it."""
    await take(journal, claim("a", seconds=DEAD))
    await sweep(journal)
    assert await answered(journal, claim("a")) == Found(KeyState.UNKNOWN, b"f", "exchange-a", None, late=True)


async def test_old_keys_are_forgotten_unless_they_run(journal: Journal) -> None:
    """After a day an answer and an open outcome are gone, a running call is not; assertions go by their own time."""
    for key in ("done", "open", "runs", "young"):
        await take(journal, claim(key, key=key))
    await answered(journal, claim("done", key="done"))
    await ended(journal, claim("open", key="open"), claims.unknown)
    await answered(journal, claim("young", key="young"))
    (kept,) = await asked(journal, "select min(keep_until - {now}) > 86000, max(keep_until - {now}) <= 86400 from keys")
    assert [bool(each) for each in kept] == [True, True]
    await asked(journal, "update keys set keep_until = {now} - 1 where key <> 'young'")
    await asked(journal, "insert into assertions values ('a', 'old', {now} - 3600), ('a', 'new', {now} + 60)")
    assert await sweep(journal) == 0
    assert [key for key, _, _ in await states(journal)] == ["runs", "young"]
    assert await asked(journal, "select jti from assertions") == [("new",)]
