"""One suite over every way on every database: in order, not twice for who looks at ids, whatever the recipient does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Standing
from gateway.edge.documents import leasing
from tests.fakes import handovers
from tests.fakes.correspondents import POLITE, Letters
from tests.fakes.deliveries import DeliveryTown, delivering, founded
from tests.fakes.handovers import shown
from tests.fakes.town import until
from tests.fakes.ways import WAYS, Fetched, Mood, Read, System

PUSHED = [name for name in WAYS if name not in ("mailbox", "kafka")]
"""Where the gateway meets the recipient's failure: a mailbox waits for the recipient, and a topic takes what a system
would fail at; a broker that fails is met in tests/kafka."""


@pytest.fixture(params=WAYS)
async def system(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[System]:
    """The interior ministry's, by one of the ways."""
    made = WAYS[request.param](tmp_path)
    if isinstance(made, Read):
        made.brokers = request.getfixturevalue("kafka")
    async with made.open():
        yield made


@pytest.fixture
async def town(system: System, url: str | None, tmp_path: Path) -> AsyncIterator[DeliveryTown]:
    async with _delivering(system, url, tmp_path) as made, system.working(made):
        yield made


def _delivering(system: System, url: str | None, folder: Path) -> AbstractAsyncContextManager[DeliveryTown]:
    return delivering(folder, terms(system), url=url, files=system.files, topics=system.topics)


def terms(system: System, **changes: Any) -> Letters:
    """Everything for the interior ministry goes its way."""
    return replace(POLITE, ways={"interior": (system.way,)}, kafka=system.cluster, **changes)


async def sent(town: DeliveryTown, *cases: str) -> list[str]:
    """A letter for each case, one after the other; their ids."""
    ids = []
    for number, case in enumerate(cases):
        answer = await town.send({"case": case, "subject": f"{case} {number}"})
        assert answer.status == 202, answer.body
        ids.append(answer.body["document"])
    return ids


async def comes_to(town: DeliveryTown, ids: list[str], *states: str) -> None:
    """Wait until all of them are in one of the states."""
    for document in ids:
        await handovers.comes_to(town, document, *states)


async def test_order_is_kept_in_each_lane(town: DeliveryTown, system: System) -> None:
    """Letters of one case arrive in the order of their sending, each once; cases do not wait for each other."""
    ids = await sent(town, *"ABABACAB")
    await comes_to(town, ids, system.end)
    for case in "ABC":
        taken = [body["subject"] for _, body in system.taken if body["case"] == case]
        assert taken == [f"{case} {number}" for number, each in enumerate("ABABACAB") if each == case]
    assert sorted(document for document, _ in system.taken) == sorted(ids)


async def test_what_is_down_gets_it_later(town: DeliveryTown, system: System) -> None:
    """Nothing is lost and nothing overtakes while the recipient is away; then all of it comes, each once."""
    await system.feels(Mood.AWAY)
    ids = await sent(town, *"AABB")
    assert {(await shown(town, document))["state"] for document in ids} <= {"submitted", "arrived"}
    await system.feels(Mood.TAKES)
    await comes_to(town, ids, system.end)
    assert [body["subject"] for _, body in system.taken if body["case"] == "A"] == ["A 0", "A 1"]
    assert sorted(document for document, _ in system.taken) == sorted(ids)


async def test_poison_is_rejected_and_blocks_nobody(town: DeliveryTown, system: System) -> None:
    """What the recipient's system refuses is rejected at once; the next of the same lane goes on."""
    await system.feels(Mood.REFUSES)
    (bad,) = await sent(town, "A")
    await comes_to(town, [bad], "rejected")
    assert (await shown(town, bad))["reason"] == "refused_by_system"
    await system.feels(Mood.TAKES)
    (good,) = await sent(town, "A")
    await comes_to(town, [good], system.end)
    assert [document for document, _ in system.taken] == [good]


@pytest.mark.parametrize("system", PUSHED, indirect=True)
async def test_a_failure_is_tried_again(town: DeliveryTown, system: System) -> None:
    """The same document comes again under the same id and says so; only its own lane waits for it."""
    await system.feels(Mood.FAILS)
    (first,) = await sent(town, "A")
    await until(lambda: system.met)
    await system.feels(Mood.TAKES)
    second, other = await sent(town, "A", "B")
    await comes_to(town, [other], system.end)
    await comes_to(town, [first, second], system.end)
    assert {document for document, _, _ in system.met} == {first, second, other}
    assert [again for document, again, _ in system.met if document == first][:2] == [False, True]
    assert [document for document, body in system.taken if body["case"] == "A"] == [first, second]


async def test_what_is_suspended_waits_unsent(
    town: DeliveryTown, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the agreement is suspended nothing reaches the recipient; when that is lifted, everything goes."""
    monkeypatch.setattr(leasing, "PAUSE_SECONDS", 0.5)
    await system.feels(Mood.AWAY)
    ids = await sent(town, "A", "B")
    await looked(town)  # what was begun before has failed
    town.changed(terms(system, standing=Standing.SUSPENDED))
    await system.feels(Mood.TAKES)
    await (system.asked() if isinstance(system, Fetched) else held_back(town, system.way.protocol))
    assert (system.taken, system.met) == ([], [])
    town.changed(terms(system))
    await comes_to(town, ids, system.end)


async def test_what_ended_is_undeliverable(town: DeliveryTown, system: System) -> None:
    """Without an agreement it is given up under the refusal's code, unsent; what comes under a new one goes."""
    await system.feels(Mood.AWAY)
    ids = await sent(town, "A", "B")
    await looked(town)  # what was begun before has failed: it was permitted, and would go as soon as somebody answers
    as_before = town.gateway.catalogue.digest  # a process that knew less than the one which took them in would wait
    town.changed(terms(system, until=2025))
    town.gateway._loaded = town.gateway._catalogue = replace(town.gateway.catalogue, digest=as_before)
    await system.feels(Mood.TAKES)
    await comes_to(town, ids, "undeliverable")
    assert {(await shown(town, document))["reason"] for document in ids} == {"policy.expired"}
    assert system.taken == []
    town.changed(terms(system))
    (new,) = await sent(town, "A")
    await comes_to(town, [new], system.end)


async def held_back(town: DeliveryTown, protocol: str) -> None:
    """Wait until the second decision has kept something from going."""
    counted = f'gateway_delivery_attempts_total{{outcome="waits",protocol="{protocol}",recipient="interior"}}'
    async with asyncio.timeout(30):
        while not (await town.metrics()).get(counted):
            pass


async def looked(town: DeliveryTown, times: int = 3) -> None:
    """What the dispatcher does every second."""
    for _ in range(times):
        await town.gateway.dispatcher.look()
        await until(lambda: not town.gateway.dispatcher._roads)


async def test_what_was_in_hand_at_a_kill_comes_again(system: System, url: str | None, tmp_path: Path) -> None:
    """A document that was accepted before a stop is handed over after it, under the same id."""
    async with founded(tmp_path, url) as town:
        town.files, town.topics = system.files, system.topics
        await system.feels(Mood.AWAY)
        async with town.serving(terms(system)):
            ids = await sent(town, "A", "A")
        await system.feels(Mood.TAKES)
        town.forget()
        async with town.serving(terms(system)), system.working(town):
            await comes_to(town, ids, system.end)
    assert [document for document, _ in system.taken] == ids
