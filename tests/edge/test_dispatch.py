"""The dispatcher: who is asked when, what closes a gate and opens it; nobody waits for another one's trouble."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from gateway.core.model import AgencyId
from gateway.core.receipt import digest_field
from gateway.edge.documents.gatekeeping import STREAK
from gateway.edge.documents.gates import close
from tests.fakes.correspondents import ALERT, ALERTS, DESK, FLOOD, LAMPANG, REGISTER, SILA
from tests.fakes.deliveries import delivering, push, recipient
from tests.fakes.handovers import INTERIOR, closed, comes_to, gates, ids, met, sent, shown, to, writing
from tests.fakes.post_office import claims_of
from tests.fakes.town import Office, Reaction, answers


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with recipient() as made:
        yield made


def by_case(**reactions: Reaction) -> Reaction:
    """Depends on whose case it is; what is not named is taken."""

    async def react(request: web.BaseRequest) -> web.StreamResponse:
        case = orjson.loads(await request.read())["data"]["body"]["case"]
        return await reactions.get(case, answers({}))(request)

    return react


async def test_what_is_submitted_is_handed_over_at_once(tmp_path: Path, office: Office) -> None:
    """No look at the database is needed for what this process took in."""
    async with writing(tmp_path, office) as town:
        town.gateway.dispatcher._every = 3600
        document = await sent(town)
        await met(office)
        await comes_to(town, document, "arrived")
    assert ids(office) == [document]


async def test_what_is_fetched_before_the_push_is_answered_has_its_time_to_register(
    tmp_path: Path, office: Office
) -> None:
    """The system says `retrieved` while it is handed the letter: three working days begin with that word."""
    async with writing(tmp_path, office) as town:

        async def says(request: web.BaseRequest) -> web.StreamResponse:
            identifier = orjson.loads(await request.read())["data"]["id"]
            told = await town.say("POST", f"/inbox/{identifier}", REGISTER, {"outcome": "retrieved"})
            return web.json_response({}, status=told.status)

        office.react = says
        await comes_to(town, await sent(town), "retrieved")
        ((due,),) = town.rows("select overdue from deliveries where kind <> 'receipt'")
    assert due is not None


async def test_one_that_is_silent_delays_nobody(tmp_path: Path, office: Office) -> None:
    """While four hand-overs hang at one agency, its places are taken and no more; its neighbour gets all of its own."""
    hang = asyncio.Event()

    async def hangs(_: web.BaseRequest) -> web.StreamResponse:
        await hang.wait()
        return web.json_response({})

    office.react = hangs
    async with recipient() as neighbour:
        ways = push(INTERIOR, office.url, concurrency=4), push("lampang", neighbour.url)
        async with delivering(tmp_path, to(*ways)) as town:
            stuck = [await sent(town, f"S{n}") for n in range(12)]
            await met(office, 4)
            free = [await sent(town, f"F{n}", "lampang") for n in range(40)]
            await met(neighbour, 40)
            assert (len(office.seen), town.gateway.dispatcher.handing[INTERIOR, "webhook"]) == (4, 4)  # type: ignore[index] # plain text for an id
            assert sorted(ids(neighbour)) == sorted(free)
            hang.set()
            for document in stuck:
                await comes_to(town, document, "arrived")
    assert sorted(ids(office)) == sorted(stuck)


async def test_an_agency_that_is_down_is_asked_seldom(tmp_path: Path, office: Office) -> None:
    """With 200 documents waiting only probes go, one at a time; then everything comes, each once, in order."""
    await office.shut()
    async with writing(tmp_path, office) as town:
        waiting = [await sent(town, f"C{n % 5}") for n in range(200)]
        await closed(town)
        attempts = town.rows("select sum(attempts) from deliveries")[0][0]
        assert attempts <= 12  # four in flight when the first failed, and a probe or two
        await office.open()
        await met(office, 200)
        for document in waiting:
            await comes_to(town, document, "arrived")
        assert (Counter(ids(office)), gates(town)) == (Counter(waiting), [])
        order = [waiting.index(document) for document in ids(office)]
        assert all([n for n in order if n % 5 == case] == list(range(case, 200, 5)) for case in range(5))


async def test_the_gate_stands_in_the_metrics(tmp_path: Path, office: Office) -> None:
    """As long as it is closed; attempts are counted by their outcome."""
    office.react = answers({}, 503, Retry_After="1")
    shut = 'gateway_gates_closed{recipient="interior",way="webhook",why="failing"}'
    counted = 'gateway_delivery_attempts_total{{outcome="{}",protocol="webhook",recipient="interior"}}'
    async with writing(tmp_path, office) as town:
        document = await sent(town)
        await closed(town)
        await town.gateway.dispatcher.look()
        metrics = await town.metrics()
        assert (metrics[shut], metrics[counted.format("unavailable")]) == (1.0, 1.0)
        office.react = answers({})
        await comes_to(town, document, "arrived")
        await town.gateway.dispatcher.look()
        metrics = await town.metrics()
        assert (shut in metrics, metrics[counted.format("arrived")]) == (False, 1.0)


async def test_retry_after_is_obeyed(tmp_path: Path, office: Office) -> None:
    """The system's own wish counts where it is longer than the back-off, and sending nothing leaves it recallable."""
    office.react = answers({}, 503, Retry_After="3000")
    async with writing(tmp_path, office) as town:
        document = await sent(town)
        await closed(town)
        ((wait,),) = town.rows("select not_before - (julianday('now') - 2440587.5) * 86400.0 from gates")
        assert 2900 < wait <= 3000
        recalled = await town.say("POST", f"/documents/{document}/recall", DESK, {})
        assert (recalled.status, (await shown(town, document))["state"]) == (200, "recalled")


async def test_a_system_that_is_gone_is_left_alone_until_its_folder_changes(tmp_path: Path, office: Office) -> None:
    """HTTP 410 stops the way: documents wait; another address in the folder, and they go there."""
    office.react = answers({}, 410)
    async with writing(tmp_path, office) as town, recipient() as moved:
        first = await sent(town)
        await closed(town)
        second = await sent(town, "B")
        await town.gateway.dispatcher.look()
        assert gates(town)[0][3].startswith("stopped ")
        assert ((await shown(town, second))["state"], len(office.seen)) == ("submitted", 1)
        await town.readjusted(to(push(INTERIOR, moved.url)))
        await comes_to(town, first, "arrived")
        await comes_to(town, second, "arrived")
    assert (sorted(ids(moved)), len(office.seen)) == (sorted([first, second]), 1)


async def test_five_failures_in_a_row_close_the_gate(tmp_path: Path, office: Office) -> None:
    """A system that fails with every document is left alone as a whole; with one success between them it is not."""
    office.react = by_case(**{f"P{n}": answers({}, 500) for n in range(8)})
    async with writing(tmp_path, office, concurrency=1) as town:
        for n in range(STREAK - 1):
            await sent(town, f"P{n}")
        await met(office, STREAK - 1)
        good = await sent(town, "good")
        await comes_to(town, good, "arrived")
        assert gates(town) == []
        office.react = answers({}, 500)
        for n in range(STREAK):
            await sent(town, f"Q{n}")
        await closed(town)
        office.react = answers({})
        await comes_to(town, await sent(town, "last"), "arrived")


async def test_a_system_that_answers_is_never_left_alone_for_minutes(tmp_path: Path, office: Office) -> None:
    """It fails with a dozen documents in a row: what is sound still goes within seconds, as the next probe."""
    office.react = answers({}, 500)
    async with writing(tmp_path, office) as town:
        for _ in range(11):
            await town.gateway.mailroom.post.run(close(AgencyId(INTERIOR), "webhook", lambda _: 0.0, "it failed"))
        await sent(town, "P")
        async with asyncio.timeout(15):
            while gates(town)[0][2] < 12:
                await town.metrics()
        ((seconds,),) = town.rows("select g.not_before - d.changed from gates g, deliveries d")
        assert 5 < seconds < 30  # the fifth pause: 16 s, less what chance takes


async def test_one_poisonous_document_backs_off_alone(tmp_path: Path, office: Office) -> None:
    """A document at which the system fails each time holds back its own case, and the next hundred go."""
    office.react = by_case(poison=answers({}, 500))
    async with writing(tmp_path, office) as town:
        poison, behind = await sent(town, "poison"), await sent(town, "poison")
        others = [await sent(town, f"C{n}") for n in range(100)]
        for document in others:
            await comes_to(town, document, "arrived")
        assert [(await shown(town, each))["state"] for each in (poison, behind)] == ["submitted", "submitted"]
        assert behind not in ids(office)


async def test_what_failed_is_not_overtaken(tmp_path: Path, office: Office) -> None:
    """Three documents of one case are in one hand when the first fails: the others come after it."""
    await office.shut()
    failures = iter([answers({}, 500)])

    async def react(request: web.BaseRequest) -> web.StreamResponse:
        return await next(failures, answers({}))(request)

    office.react = react
    async with writing(tmp_path, office) as town:
        case = [await sent(town) for _ in range(3)]
        await closed(town)
        await office.open()
        await comes_to(town, case[-1], "arrived")
    assert ids(office) == [case[0], *case]


async def test_too_large_is_undeliverable(tmp_path: Path, office: Office) -> None:
    """HTTP 413: the sender is told why, and the next one goes."""
    office.react = by_case(large=answers({}, 413))
    async with writing(tmp_path, office) as town:
        large = await comes_to(town, await sent(town, "large"), "undeliverable")
        assert large["reason"] == "too_large"
        await comes_to(town, await sent(town, "small"), "arrived")


async def test_a_stale_record_is_rejected(tmp_path: Path, office: Office) -> None:
    """HTTP 409 and 412: the record changed since the sender looked at it."""
    office.react = by_case(stale=answers({}, 409), older=answers({}, 412))
    async with writing(tmp_path, office) as town:
        for case in ("stale", "older"):
            assert (await comes_to(town, await sent(town, case), "rejected"))["reason"] == "stale_record"


async def test_a_number_in_the_answer_registers(tmp_path: Path, office: Office) -> None:
    """The http way: the system's own register number is in the receipt, and the life of the letter ends."""
    office.react = answers({"file": {"number": "2026/118"}}, 201)
    options = {"number": "/file/number"}
    async with writing(tmp_path, office, protocol="http", options=options) as town:
        found = await comes_to(town, await sent(town), "registered")
    assert found["number"] == "2026/118"


async def test_an_event_is_cut_for_each_subscriber(tmp_path: Path) -> None:
    """Only what the agreement discloses leaves, and the envelope says that it is a part."""
    async with AsyncExitStack() as stack:
        offices = [await stack.enter_async_context(recipient()) for _ in range(2)]
        ways = [push(name, each.url) for name, each in zip(("sila", "lampang"), offices, strict=True)]
        town = await stack.enter_async_context(delivering(tmp_path, to(*ways, subscriptions=(SILA, LAMPANG))))
        answer = await town.send(FLOOD, "/events", ALERT, ALERTS)
        assert answer.status == 202, answer.body
        for each in offices:
            await met(each)
            told = orjson.loads(each.seen[0].body)["data"]
            assert (told["body"], told["cut"], told["kind"]) == ({"level": "red", "area": "TH-20"}, True, "event")
            assert told["digest"] == digest_field(sha256(orjson.dumps(told["body"])).digest())


async def test_receipts_go_to_the_sender_by_its_way(tmp_path: Path, office: Office) -> None:
    """Each state of a document reaches its sender's own system, in order, each under an id of its own."""
    async with recipient() as desk:
        ways = push(INTERIOR, office.url), push("saensuk", desk.url, receipts=True)
        async with delivering(tmp_path, to(*ways)) as town:
            document = await sent(town)
            await met(desk)
            said = {"outcome": "registered", "number": "2026/9"}
            answer = await town.say("POST", f"/inbox/{document}", "interior.registry", said)
            assert answer.status == 200, answer.body
            await met(desk)
    told = [orjson.loads(seen.body)["data"] for seen in desk.seen]
    assert [each["body"]["state"] for each in told] == ["arrived", "registered"]
    assert [(each["kind"], each["document"]) for each in told] == [("receipt", document)] * 2
    assert [claims_of(each["receipt"]) == each["body"] for each in told] == [True, True]
    assert len({each["id"] for each in told} | {document}) == 3


async def test_a_stop_waits_for_what_is_in_hand(tmp_path: Path, office: Office) -> None:
    """What a recipient takes while the gateway stops is settled, and does not come again."""
    taking = asyncio.Event()

    async def slow(_: web.BaseRequest) -> web.StreamResponse:
        await taking.wait()
        return web.json_response({})

    office.react = slow
    async with writing(tmp_path, office, deadline=5.0) as town:
        document = await sent(town)
        await met(office)
        asyncio.get_running_loop().call_later(0.1, taking.set)
    assert town.state(document) == "arrived"


async def test_a_stop_breaks_off_what_hangs(tmp_path: Path, office: Office) -> None:
    """It may have been taken: it stays open, touched, and free for the next process at once."""
    never = asyncio.Event()

    async def hangs(_: web.BaseRequest) -> web.StreamResponse:
        await never.wait()
        return web.json_response({})

    office.react = hangs
    async with writing(tmp_path, office) as town:
        document = await sent(town)
        await met(office)
    never.set()
    rows = town.rows("select state, open, touched from deliveries")
    assert (town.state(document), [tuple(map(bool, each[1:])) for each in rows]) == ("submitted", [(True, True)])
    assert town.rows("select lease from lanes") == [(0.0,)]
