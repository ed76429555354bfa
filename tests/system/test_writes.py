"""Writes happen once: the interleavings E1 to E7 of one process, played against the running gateway."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.model import Standing
from gateway.edge.claims import KEEP
from tests.fakes.parties import AUDIT, CHANGE, CHANGED, MOVED, TAX, Terms
from tests.fakes.town import Reaction, Reply, Town, after, answers, cuts, founded, never, opened, usual

HOUR = 3600.0
RELEASED = {"changed_on": CHANGED["changed_on"], "record_version": CHANGED["record_version"]}


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with opened(tmp_path) as town:
        yield town


async def write(town: Town, key: str = "k", body: Any = MOVED, **headers: str | None) -> Reply:
    return await town.call(TAX, CHANGE, body, agency="interior", idempotency_key=f'"{key}"', **headers)


async def answered(town: Town, react: Reaction, key: str = "k") -> Reply:
    """A write that the provider meets with that."""
    town.office.react = react
    reply = await write(town, key)
    town.office.react = usual
    return reply


def code(reply: Reply) -> str:
    return str(reply.body.get("code", reply.status))


def replayed(reply: Reply) -> bool:
    return reply.headers.get("Exchange-Replayed") == "?1"


def steps(town: Town) -> Counter[str]:
    return Counter(entry.facts["step"] for entry in town.entries() if "consumer" in entry.facts)


async def unsettled(town: Town) -> Reply:
    """A write whose answer comes when the journal cannot be written."""

    async def react(request: Any) -> Any:
        town.valve.failing = True
        return await usual(request)

    reply = await answered(town, react)
    town.valve.failing = False
    return reply


async def test_fifty_at_once_are_one_write(town: Town) -> None:
    """One of fifty calls with one key reaches the provider; the others are told to wait, and get its answer later."""
    release = asyncio.Event()
    town.office.react = after(release, usual)
    await town.token(TAX)
    calls = [asyncio.create_task(write(town)) for _ in range(50)]
    waiting: list[Reply] = []
    for done in asyncio.as_completed(calls):
        waiting.append(await done)
        if len(waiting) == 49:
            release.set()
    later = await write(town)
    assert Counter(map(code, waiting)) == {"idempotency.running": 49, "200": 1}
    assert (later.body, replayed(later), len(town.office.seen)) == (RELEASED, True, 1)
    assert steps(town) == {"admitted": 1, "answered": 1, "refused": 49, "replayed": 1}


async def test_a_replay_names_the_first_exchange(town: Town) -> None:
    """The entry of a replay says whose answer it is; the answer is the same, in an exchange of its own."""
    first, second = await write(town), await write(town)
    (entry,) = town.entries(second.headers["Exchange-Id"])
    assert (entry.facts["step"], entry.facts["first"]) == ("replayed", first.headers["Exchange-Id"])
    assert (first.raw, replayed(first)) == (second.raw, False)
    assert second.headers["Exchange-Id"] != first.headers["Exchange-Id"]


@pytest.mark.parametrize("pointers", [("/record_version",), ("/clerk", "/record_version")])
async def test_a_replay_shows_what_is_disclosed_today(town: Town, pointers: tuple[str, ...]) -> None:
    """The stored answer is cut by the agreement as it is now, and that is what the journal has the digest of."""
    await write(town)
    town.agree(Terms(disclosed={CHANGE: pointers}))
    again = await write(town)
    assert (again.body, replayed(again)) == ({p[1:]: CHANGED[p[1:]] for p in pointers}, True)
    assert len(town.office.seen) == 1


async def test_nothing_is_replayed_under_a_suspended_agreement(town: Town) -> None:
    """A right that has gone is gone for stored answers, too."""
    await write(town)
    town.agree(Terms(standing=Standing.SUSPENDED))
    again = await write(town)
    assert (code(again), replayed(again)) == ("policy.suspended", False)


@pytest.mark.parametrize(
    "other",
    [{"body": {**MOVED, "city": "Kampot"}}, {"exchange_purpose": AUDIT}, {"exchange_case": "B 2"}],
    ids=["body", "purpose", "case"],
)
async def test_a_key_belongs_to_one_call(town: Town, other: Mapping[str, Any]) -> None:
    """The same key for another body, purpose or case is refused; the first answer stays what it was."""
    await write(town, exchange_case="A 1")
    assert code(await write(town, **{"exchange_case": "A 1", **other})) == "idempotency.reused"
    assert replayed(await write(town, exchange_case="A 1"))


async def test_a_retry_may_write_the_same_json_differently(town: Town) -> None:
    """Other spaces and another order of members are the same call."""
    await write(town)
    again = await write(town, body=b'{ "city": "Battambang",\n "identifier": "KH-90010001" }')
    assert (again.body, replayed(again)) == (RELEASED, True)


async def test_a_key_belongs_to_its_system(tmp_path: Path) -> None:
    """Two systems may use the same key; the provider gets a key for each, and neither is what they sent."""
    async with opened(tmp_path, Terms(takes_key=True)) as town:
        await write(town)
        other = await town.call("justice.courts", CHANGE, MOVED, idempotency_key='"k"')
    keys = [seen.headers["Idempotency-Key"] for seen in town.office.seen]
    assert (other.status, replayed(other)) == (200, False)
    assert len({*keys, '"k"'}) == 3


@pytest.mark.parametrize(
    ("react", "first"),
    [
        (never, "provider.timeout"),
        (cuts, "provider.broken"),
        (answers({}, 500), "provider.broken"),
        (answers({"record_version": "four"}), "provider.wrong_answer"),
    ],
    ids=["timeout", "cut", "500", "wrong answer"],
)
async def test_what_may_have_taken_effect_is_not_repeated(tmp_path: Path, react: Reaction, first: str) -> None:
    """Sent, and no definite answer: nothing is stored, nothing is called again, and the caller is told so."""
    async with opened(tmp_path, Terms(deadline=0.2)) as town:
        broken = await answered(town, react)
        again = await write(town)
    assert (code(broken), code(again)) == (first, "idempotency.outcome_unknown")
    assert broken.headers["Exchange-Id"] in again.body["detail"]
    assert (len(town.office.seen), town.keys_kept()) == (1, [("k", "unknown")])


async def test_a_provider_that_takes_the_key_is_asked_again(tmp_path: Path) -> None:
    """An unknown outcome is settled by a second call with the same key, which that provider knows to be one write."""
    async with opened(tmp_path, Terms(deadline=0.2, takes_key=True)) as town:
        first = await answered(town, never)
        second, third = await write(town), await write(town)
    assert (code(first), second.status, replayed(second), replayed(third)) == ("provider.timeout", 200, False, True)
    assert len({seen.headers["Idempotency-Key"] for seen in town.office.seen}) == 1
    assert (len(town.office.seen), steps(town)["admitted"]) == (2, 2)


async def test_a_provider_that_takes_the_key_is_asked_again_by_one_caller(tmp_path: Path) -> None:
    """Of twenty who find an unknown outcome, one takes it over."""
    async with opened(tmp_path, Terms(deadline=0.2, takes_key=True)) as town:
        await answered(town, never)
        replies = await asyncio.gather(*(write(town) for _ in range(20)))
    assert len(town.office.seen) == 2
    assert {code(reply) for reply in replies} <= {"200", "idempotency.running"}


async def test_a_refused_connection_frees_the_key(town: Town) -> None:
    """Nothing was sent, so the same call may be made again; the caller learns when."""
    await town.office.shut()
    refused = await write(town)
    assert (code(refused), refused.headers["Retry-After"]) == ("provider.unavailable", "5")
    assert town.keys_kept() == []
    await town.office.open()
    assert (await write(town)).status == 200


async def test_an_open_breaker_frees_the_key(town: Town) -> None:
    """A call that the breaker held back has claimed nothing in the end."""
    await town.office.shut()
    for place in range(5):
        await write(town, f"before {place}")
    held = await write(town)
    assert "left alone" in held.body["detail"]
    assert (code(held), town.keys_kept()) == ("provider.unavailable", [])


async def test_a_full_endpoint_frees_the_key(tmp_path: Path) -> None:
    """Who finds all places taken may send the same call again."""
    release = asyncio.Event()
    async with opened(tmp_path, Terms(concurrency=1)) as town:
        town.office.react = after(release, usual)
        first = asyncio.create_task(write(town, "first"))
        await town.office.arrived.acquire()
        full = await write(town)
        release.set()
        assert (code(full), (await first).status) == ("provider.unavailable", 200)
        assert ((await write(town)).status, len(town.office.seen)) == (200, 2)


async def test_a_provider_that_did_not_take_it_frees_the_key(town: Town) -> None:
    """503 is the provider's own word that nothing happened: asked once, and again when the caller retries."""
    later = await answered(town, answers({}, 503, Retry_After="3"))
    assert (code(later), later.headers["Retry-After"], len(town.office.seen)) == ("provider.unavailable", "3", 1)
    assert ((await write(town)).status, len(town.office.seen)) == (200, 2)


@pytest.mark.parametrize("status", [422, 404])
async def test_a_definite_refusal_is_an_answer(town: Town, status: int) -> None:
    """The provider's last word is stored and given again, marked as such; nothing of its body with it."""
    first = await answered(town, answers({"reason": "Sok Dara"}, status))
    again = await write(town)
    assert (first.status, again.status) == ((502, 502) if status == 422 else (404, 404))
    assert (replayed(first), replayed(again), len(town.office.seen)) == (False, True, 1)
    assert {**again.body, "exchange": "", "trace": ""} == {**first.body, "exchange": "", "trace": ""}
    assert b"Sok Dara" not in again.raw


async def test_no_key_without_evidence(town: Town) -> None:
    """A claim that cannot be journaled is no claim: the provider is not called, and the same call may come again."""
    await town.token(TAX)
    town.valve.failing = True
    failed = await write(town)
    town.valve.failing = False
    assert (code(failed), town.office.seen, town.keys_kept()) == ("journal.unavailable", [], [])
    await town.upkeep()
    assert (await write(town)).status == 200


async def test_an_answer_that_cannot_be_journaled_does_not_leave(town: Town) -> None:
    """The store fails after the provider's write: 503, the entry ``admitted`` stands, and the outcome is not known."""
    failed = await unsettled(town)
    assert (code(failed), "changed_on" in failed.body) == ("journal.unavailable", False)
    assert code(await write(town)) == "journal.unavailable"  # the gateway has not looked again yet
    await town.upkeep()
    assert code(await write(town)) == "idempotency.running"
    town.valve.ahead = HOUR
    assert code(await write(town)) == "idempotency.outcome_unknown"
    assert (len(town.office.seen), steps(town)["admitted"], steps(town)["answered"]) == (1, 1, 0)


async def test_while_the_journal_fails_nobody_is_called(town: Town) -> None:
    """A failing journal stops exchanges before they reach a provider."""
    await unsettled(town)
    town.valve.failing = True
    assert code(await write(town, "other")) == "journal.unavailable"
    assert len(town.office.seen) == 1


async def test_a_dead_attempt_is_given_up(town: Town) -> None:
    """After its deadline the sweeper says that the outcome is not known: in the key, the journal and the metrics."""
    dead = await unsettled(town)
    await town.upkeep()
    assert town.keys_kept() == [("k", "running")]
    town.valve.ahead = HOUR
    await town.upkeep()
    (entry,) = [entry for entry in town.entries() if entry.facts["step"] == "unsettled"]
    assert (entry.facts["exchange"], entry.facts["consumer"]) == (dead.headers["Exchange-Id"], TAX)
    assert town.keys_kept() == [("k", "unknown")]
    assert (await town.metrics())["gateway_writes_unsettled_total"] == 1
    assert code(await write(town)) == "idempotency.outcome_unknown"


@pytest.mark.parametrize("takes_key", [False, True])
async def test_a_killed_process_leaves_no_key_running_for_ever(tmp_path: Path, *, takes_key: bool) -> None:
    """The next process finds the claim: running until its deadline, then unknown, or called again with the key."""
    terms = Terms(takes_key=takes_key)
    async with founded(tmp_path) as town:
        async with town.running(terms):
            town.office.react = never
            lost = asyncio.create_task(write(town))
            await town.office.arrived.acquire()
        await asyncio.gather(lost, return_exceptions=True)
        town.office.react = usual
        async with town.running(terms):
            assert code(await write(town)) == "idempotency.running"
            town.valve.ahead = HOUR
            assert code(await write(town)) == ("200" if takes_key else "idempotency.outcome_unknown")
        assert steps(town)["admitted"] == len(town.office.seen) == (2 if takes_key else 1)


async def test_an_answer_outlives_the_process(tmp_path: Path) -> None:
    """After a restart the stored answer is given again; the database has it encrypted."""
    async with founded(tmp_path) as town:
        async with town.running():
            await write(town)
        assert b"Chan Vanna" not in town.database.read_bytes()
        async with town.running():
            again = await write(town)
    assert (again.body, replayed(again), len(town.office.seen)) == (RELEASED, True, 1)


async def test_who_wakes_late_gives_the_answer_that_counts(tmp_path: Path) -> None:
    """A attempt is slow; after its deadline B takes the key over and is answered; A then answers what B stored."""
    wake = asyncio.Event()
    async with opened(tmp_path, Terms(takes_key=True, deadline=30)) as town:
        town.office.react = after(wake, answers({"record_version": 1}))
        slow = asyncio.create_task(write(town))
        await town.office.arrived.acquire()
        town.valve.ahead = HOUR
        town.office.react = answers({"record_version": 2})
        second = await write(town)
        wake.set()
        first = await slow
    assert (second.body, replayed(second)) == ({"record_version": 2}, False)
    assert (first.body, replayed(first)) == ({"record_version": 2}, True)
    assert steps(town) == {"admitted": 2, "answered": 1, "replayed": 1}


async def test_a_key_is_forgotten_after_a_day(town: Town) -> None:
    """Then the same key is a new call."""
    await write(town)
    town.valve.ahead = KEEP + 1
    await town.upkeep()
    assert town.keys_kept() == []
    again = await write(town)
    assert (again.status, replayed(again), len(town.office.seen)) == (200, False, 2)


async def test_many_keys_are_claimed_and_settled_in_the_same_batches(town: Town) -> None:
    """A hundred writes, every key twice at the same time: each is called once, no number is missing."""
    await town.token(TAX)
    replies = await asyncio.gather(*(write(town, f"k{n % 50}") for n in range(100)))
    assert {code(reply) for reply in replies} <= {"200", "idempotency.running"}
    assert len(town.office.seen) == 50
    numbers = [entry.kept.n for entry in town.entries()]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_evidence_binds_the_write(town: Town) -> None:
    """Before the call the entry ``admitted`` has what was received; after it ``answered`` has all four bodies."""
    reply = await write(town)
    before, afterwards = town.entries(reply.headers["Exchange-Id"])
    assert (before.facts["step"], set(before.facts["digests"])) == ("admitted", {"received"})
    assert set(afterwards.facts["digests"]) == {"received", "sent", "provided", "released"}
    assert orjson.loads(town.office.seen[0].body) == MOVED
    assert reply.headers["Exchange-Entry"].startswith(f"{afterwards.facts['entry']} ")
