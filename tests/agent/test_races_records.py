"""Races of the agent, reference/flow-and-journal.md 5.3: one document in several records, and records that are none."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer

from gateway.core.delivery import Reason
from gateway.core.handling import MAX_TRIES
from gateway.protocols.handover import Accepted, Handed, NotTaken
from tests.fakes.agency import House, fails, house
from tests.fakes.brokers import Brokers
from tests.fakes.kafka_python import NoText, Record, write
from tests.fakes.pens import Letter, Pen


async def worked_off(agency: House, folder: Path, letters: Sequence[Letter], reports: int) -> None:
    """An agent reads all of them, and is gone again."""
    start = await agency.committed() or 0
    await agency.send(*letters)
    async with agency.agent(folder / "one.sqlite3"):
        await agency.commits(start + len(letters))
        await agency.bell.until(lambda: len(agency.hub.reports) >= reports)


@pytest.mark.parametrize("order", [(1, 1), (1, 2, 1), (1, 1, 1, 2, 2)])
async def test_a06_the_same_document_twice_is_handed_over_once(
    kafka: Brokers, tmp_path: Path, order: Sequence[int]
) -> None:
    """Adjacent, in one fetch, out of order: one hand-over, one report, and the position moves on."""
    async with house(kafka) as agency:
        await worked_off(agency, tmp_path, [agency.pen.letter(n) for n in order], len(set(order)))
        assert agency.system.numbers == sorted(set(order))
        assert len(agency.hub.reports) == len(set(order))


async def test_a06_the_same_document_after_a_restart_is_handed_over_once(kafka: Brokers, tmp_path: Path) -> None:
    """A day later, to another process on the same memory: it is a duplicate."""
    async with house(kafka) as agency:
        await worked_off(agency, tmp_path, [agency.pen.letter(1)], 1)
        await worked_off(agency, tmp_path, [agency.pen.letter(1), agency.pen.letter(2)], 2)
        assert agency.system.numbers == [1, 2]


async def test_a07_a_redelivery_of_what_was_taken_is_told_again(kafka: Brokers, tmp_path: Path) -> None:
    """It is not handed over; the gateway, which does not know, is told its outcome once more."""
    async with house(kafka) as agency:
        await worked_off(agency, tmp_path, [agency.pen.letter(1)], 1)
        await worked_off(agency, tmp_path, [agency.pen.letter(1, late=1)], 2)
        assert agency.system.numbers == [1]
        assert [each.outcome for each in agency.hub.reports] == ["retrieved", "retrieved"]


@pytest.mark.parametrize("first", [0, 9])
async def test_a07_a_count_that_somebody_made_up_hides_no_true_one(kafka: Brokers, tmp_path: Path, first: int) -> None:
    """It is not signed: however high one was before, also on the record that was handed over, the gateway is told."""
    async with house(kafka) as agency:
        for n, late in enumerate((first, 9, 1, 2), 1):
            await worked_off(agency, tmp_path, [agency.pen.letter(1, late=late)], n)
        assert agency.system.numbers == [1]
        assert len(agency.hub.reports) == 4


async def test_a07_a_redelivery_of_what_was_refused_is_handed_over_as_late(kafka: Brokers, tmp_path: Path) -> None:
    """An operator had it tried again: the system meets it again, and is told that it is late."""
    async with house(kafka) as agency:
        agency.services = []
        await worked_off(agency, tmp_path, [agency.pen.letter(1)], 1)
        agency.services = ["permits.building.v1"]
        await worked_off(agency, tmp_path, [agency.pen.letter(1, late=1)], 2)
        assert [(each.n, each.late, each.again) for each in agency.system.met] == [(1, 1, True)]
        assert [each.outcome for each in agency.hub.reports] == ["rejected", "retrieved"]


async def test_a07_a_redelivery_that_nobody_asked_for_hands_nothing_over(kafka: Brokers, tmp_path: Path) -> None:
    """The count is not signed: the gateway knows that what was refused has ended, and a true one is still taken."""
    async with house(kafka) as agency:
        agency.services = []
        await worked_off(agency, tmp_path, [agency.pen.letter(1)], 1)
        agency.services = ["permits.building.v1"]
        agency.hub.states[agency.pen.letter(1).id] = "rejected"
        await worked_off(agency, tmp_path, [agency.pen.letter(1, late=9)], 1)
        assert agency.system.numbers == []
        agency.hub.states.clear()
        await worked_off(agency, tmp_path, [agency.pen.letter(1, late=1)], 2)
        assert agency.system.numbers == [1]


def forged(pen: Pen) -> dict[str, Letter]:
    """The true one is ``pen.letter(1)``."""
    true = pen.letter(1)
    return {
        "other bytes": replace(true, value=b'{"case": "A", "n": 666}'),
        "another instance": pen.letter(1, instance="OTHER"),
        "another addressee": pen.letter(1, recipient="treasury"),
        "another hand": Pen().letter(1),
        "not signed": replace(true, headers=[each for each in true.headers if each[0] != "receipt"]),
        "another key": replace(true, key=b"00" * 32),
        "another sender": replace(
            true,
            headers=[
                (name, b"/agencies/health/desk" if name == "ce_source" else value) for name, value in true.headers
            ],
        ),
    }


@pytest.mark.parametrize("how", sorted(forged(Pen())))
async def test_a08_a_forged_record_rejects_nothing(kafka: Brokers, tmp_path: Path, how: str) -> None:
    """It is not handed over, and no outcome is told; it is counted and kept; the true one is taken when it comes."""
    async with house(kafka) as agency:
        await agency.send(forged(agency.pen)[how], agency.pen.letter(1), agency.pen.letter(2))
        async with agency.agent(tmp_path / "one.sqlite3") as agent:
            await agency.bell.until(lambda: len(agency.hub.reports) == 2)
            assert sum(agent.figures.refusals.values()) == 1
            (kept,) = await agent.ledger.places.foreign()
            assert (kept.partition, kept.position) == (0, 0)
        assert agency.system.numbers == [1, 2]
        assert {each.outcome for each in agency.hub.reports} == {"retrieved"}


async def test_a08_other_bytes_under_a_known_id_are_not_handed_over(kafka: Brokers, tmp_path: Path) -> None:
    """Even if the gateway itself signed both: what came first counts, and people are told."""
    async with house(kafka) as agency:
        await agency.send(agency.pen.letter(1), agency.pen.letter(1, value=b'{"n": 666}'), agency.pen.letter(2))
        async with agency.agent(tmp_path / "one.sqlite3") as agent:
            await agency.bell.until(lambda: len(agency.hub.reports) == 2)
            assert agent.figures.refusals == {"other_bytes": 1}
        assert agency.system.numbers == [1, 2]


async def test_a08_a_key_that_was_published_meanwhile_is_fetched(kafka: Brokers, tmp_path: Path) -> None:
    """A new key of the gateway is no forgery: its keys are fetched once more, and only then judged by."""
    async with house(kafka) as agency:
        agency.hub.published = {"keys": []}
        await worked_off(agency, tmp_path, [agency.pen.letter(1)], 1)
        assert (agency.system.numbers, agency.hub.refetched) == ([1], 1)


async def test_a08_nothing_is_judged_without_keys(kafka: Brokers, tmp_path: Path) -> None:
    """While the gateway cannot be asked for its keys, nothing is refused, and nothing handed over."""
    async with house(kafka) as agency:
        agency.hub.up = False
        await agency.write(1)
        async with agency.agent(tmp_path / "one.sqlite3") as agent:
            await agency.bell.until(lambda: agent.figures.pauses.get(0) == "gateway")
            agency.hub.up = True
            await agency.bell.until(lambda: agency.hub.reports)
            assert not agent.figures.refusals


def poison(pen: Pen) -> dict[str, Letter]:
    """Records that no gateway writes."""
    true = pen.letter(1)
    return {
        "no headers": Letter("", true.key, true.value, ()),
        "no value": replace(true, value=None),
        "an empty key and value": Letter("", b"", b"", ()),
        "no key": replace(true, key=None),
        "broken text": replace(true, headers=[*true.headers[1:], (true.headers[0][0], b"\xff\xfe")]),
        "no envelope": replace(true, headers=[each for each in true.headers if each[0] != "envelope"]),
        "a long header": replace(true, headers=[*true.headers, ("ce_redelivery", b"9" * 900_000)]),
    }


@pytest.mark.parametrize("what", sorted(poison(Pen())))
async def test_a09_a_record_that_is_none_stops_nothing(kafka: Brokers, tmp_path: Path, what: str) -> None:
    """It is kept with its place, counted, and passed over; nothing is told of it."""
    async with house(kafka) as agency:
        await agency.send(poison(agency.pen)[what], agency.pen.letter(2))
        async with agency.agent(tmp_path / "one.sqlite3") as agent:
            await agency.commits(2)
            assert agent.figures.refusals == {"no_event": 1}
            assert (await agent.ledger.counts()).foreign == 1
        assert [each.document for each in agency.hub.reports] == agency.system.ids
        assert agency.system.numbers == [2]


def as_record(letter: Letter, *more: tuple[str, bytes]) -> Record:
    """As kafka-python writes it."""
    return Record(0, 0, letter.key, letter.value, (*letter.headers, *more))


async def test_a09_what_is_not_even_a_record_stops_nothing(kafka: Brokers, tmp_path: Path) -> None:
    """A header's name that is no text breaks the client's own reading: only what lies in that batch is passed over."""
    async with house(kafka, 2) as agency:
        one, bad, other = (agency.pen.letter(n) for n in (1, 2, 3))
        batch = as_record(one), as_record(bad, (NoText("x"), b"")), as_record(other)
        await write(kafka.bootstrap, agency.topic, *batch)
        await agency.write(4)
        await agency.write(5, partition=1)
        async with agency.agent(tmp_path / "one.sqlite3") as agent:
            await agency.commits(4)
            await agency.commits(1, 1)
            assert (agent.figures.refusals, agent.figures.restarts) == ({"unreadable": 1}, 0)
            (kept,) = await agent.ledger.places.foreign()
            assert (kept.partition, kept.position, kept.detail.split()[0]) == (0, 1, "2")
        assert sorted(agency.system.numbers) == [1, 4, 5]


@pytest.mark.parametrize("codec", ["lz4", "snappy", "zstd"])
async def test_a09_what_is_compressed_in_another_way_stops_nothing(kafka: Brokers, tmp_path: Path, codec: str) -> None:
    """The gateway compresses nothing: whoever does writes something else, and the next one is handed over."""
    async with house(kafka) as agency:
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "compression.type": codec, "linger.ms": 60_000})
        for _ in range(3):
            producer.produce(agency.topic, b"x" * 1000, partition=0)
        assert producer.flush(15) == 0
        await agency.write(1)
        async with agency.agent(tmp_path / "one.sqlite3") as agent:
            await agency.commits(4)
            assert (agent.figures.refusals, agent.figures.restarts) == ({"unreadable": 1}, 0)
        assert agency.system.numbers == [1]


async def test_a09_a_service_without_a_way_is_rejected_after_some_tries(kafka: Brokers, tmp_path: Path) -> None:
    """Nobody can take it here: it ends as rejected, with a reason, and the next one is handed over."""
    async with house(kafka) as agency:
        letters = [agency.pen.letter(1, service="permits.unheard_of.v1"), agency.pen.letter(2)]
        await worked_off(agency, tmp_path, letters, 2)
        said = [(each.document, each.outcome, each.reason) for each in agency.hub.reports]
        assert said == [(letters[0].id, "rejected", "refused_by_system"), (letters[1].id, "retrieved", None)]


@pytest.mark.parametrize("sent", [True, False])
async def test_a09_a_value_on_which_the_system_fails_is_rejected_after_some_tries(
    kafka: Brokers, tmp_path: Path, *, sent: bool
) -> None:
    """Its system fails on it again and again: not for ever, and nothing behind it is lost."""
    async with house(kafka) as agency:
        usual = agency.system.does

        async def chokes(handed: Handed) -> Accepted:
            if handed.body["n"] == 1:
                raise NotTaken("it choked", sent=sent, whole=False)
            return await usual(handed)

        agency.system.does = chokes
        await worked_off(agency, tmp_path, [agency.pen.letter(1), agency.pen.letter(2)], 2)
        assert agency.system.numbers == [1] * MAX_TRIES + [2]
        assert [each.outcome for each in agency.hub.reports] == ["rejected", "retrieved"]


async def test_a09_a_body_beyond_what_the_system_takes_is_rejected(kafka: Brokers, tmp_path: Path) -> None:
    """Over the system's limit, it is refused at once, for a reason that a recipient may give."""
    async with house(kafka) as agency:
        agency.system.does = fails(reason=Reason.TOO_LARGE)
        await worked_off(agency, tmp_path, [agency.pen.letter(1)], 1)
        assert [(each.outcome, each.reason) for each in agency.hub.reports] == [("rejected", "refused_by_system")]


async def test_a14_the_second_of_a_case_waits_for_the_first(kafka: Brokers, tmp_path: Path) -> None:
    """The first is tried again and again; the second is not handed over before it has been taken."""
    async with house(kafka) as agency:
        usual = agency.system.does

        async def later(handed: Handed) -> Accepted:
            if handed.body["n"] == 1 and agency.system.numbers.count(1) < 4:
                raise NotTaken("later", sent=False, whole=False, retry_after=0.01)
            return await usual(handed)

        agency.system.does = later
        await worked_off(agency, tmp_path, [agency.pen.letter(1), agency.pen.letter(2)], 2)
        assert agency.system.numbers == [1, 1, 1, 1, 2]
