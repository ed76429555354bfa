"""What one caller, one provider or one broken part cannot do to the others, nor to the evidence."""

import asyncio
from datetime import date
from pathlib import Path

import pytest

from gateway.core.model import Pointer
from gateway.core.report import sound
from gateway.core.shape import Shape
from gateway.edge import pulse
from tests.fakes.parties import CHANGE, CHANGED, LOOK_UP, MOVED, PERSON, RECORD, TAX, Terms
from tests.fakes.town import after, answers, opened, until


async def test_one_consumer_cannot_take_every_place(tmp_path: Path) -> None:
    """Beyond its quarter a consumer is told that it is too much; another one is served meanwhile."""
    async with opened(tmp_path, max_in_progress=8) as town:
        open_again = asyncio.Event()
        town.office.react = after(open_again, answers(RECORD))
        await town.token(TAX)
        calls = [asyncio.ensure_future(town.call(TAX, LOOK_UP, PERSON)) for _ in range(3)]
        await until(lambda: any(call.done() for call in calls))
        (refused,) = [call.result() for call in calls if call.done()]
        assert (refused.status, refused.body["code"]) == (503, "gateway.overloaded")
        other = asyncio.ensure_future(town.call("finance.audit_office", LOOK_UP, PERSON))
        assert (await other).status != 503
        open_again.set()
        assert sorted(reply.status for reply in await asyncio.gather(*calls)) == [200, 200, 503]


async def test_a_forged_person_is_laid_at_the_systems_door(tmp_path: Path) -> None:
    """The token holds and the user assertion does not: the entry names the system."""
    async with opened(tmp_path) as town:
        reply = await town.call(TAX, LOOK_UP, PERSON, exchange_user_assertion="a.b.c")
        (entry,) = town.entries(reply.headers["Exchange-Id"])
        assert (reply.status, entry.facts["consumer"], entry.facts["code"]) == (401, TAX, "identity.invalid")


async def test_a_replay_names_the_persons_again(tmp_path: Path) -> None:
    """Who is shown a stored answer was shown the person: the entry has the same pseudonyms as the first one."""
    async with opened(tmp_path) as town:
        for _ in range(2):
            assert (await town.call(TAX, CHANGE, MOVED, idempotency_key='"k"')).status == 200
        first, again = (entry for entry in town.entries() if entry.facts["step"] in ("answered", "replayed"))
        assert first.particulars["subjects"] == again.particulars["subjects"] != []


async def test_a_wrong_answer_is_not_replayed_once_answers_are_enforced(tmp_path: Path) -> None:
    """Stored while the endpoint reported, withheld when it enforces."""
    async with opened(tmp_path, Terms(report_until=date(2999, 1, 1))) as town:
        town.office.react = answers({**CHANGED, "record_version": "four"})
        assert (await town.call(TAX, CHANGE, MOVED, idempotency_key='"k"')).status == 200
        town.agree(Terms())
        again = await town.call(TAX, CHANGE, MOVED, idempotency_key='"k"')
        assert (again.status, again.body["code"]) == (502, "provider.wrong_answer")


async def test_made_up_names_stay_out_of_what_cannot_be_forgotten(tmp_path: Path) -> None:
    """A person's name sent as purpose or service stands in the particulars, not in the entry."""
    async with opened(tmp_path) as town:
        reply = await town.call(TAX, "population.sok_dara.v1", PERSON, exchange_purpose="sok_dara")
        (entry,) = town.entries(reply.headers["Exchange-Id"])
        assert b"sok_dara" not in entry.kept.entry
        assert entry.particulars["said"] == {"service": "population.sok_dara.v1"}


async def test_an_address_takes_no_query(tmp_path: Path) -> None:
    """What identifies a person does not travel in an address, where every proxy writes it down."""
    async with opened(tmp_path) as town:
        reply = await town.call(TAX, LOOK_UP + "?id=KH-90010001", PERSON)
        assert (reply.status, reply.body["code"]) == (400, "request.malformed")
        assert "KH-90010001" not in reply.raw.decode()


async def test_a_hanging_disk_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a commit hangs nothing new is begun, and readiness says so."""
    monkeypatch.setattr(pulse, "HANGS", 0.0)
    async with opened(tmp_path) as town:
        await town.token(TAX)
        town.valve.gate.clear()
        held = asyncio.ensure_future(town.call(TAX, LOOK_UP, PERSON))
        await until(lambda: town.gateway.journal.failing)  # another writer may hold the valve first
        ready = await town.ask("GET", f"{town.at.operations}/health/ready")
        refused = await town.call(TAX, LOOK_UP, PERSON)
        town.valve.gate.set()
        assert (ready.status, refused.status, refused.body["code"]) == (503, 503, "journal.unavailable")
        assert (await held).status == 200


async def test_what_was_asked_is_written_even_when_the_process_stops(tmp_path: Path) -> None:
    """A look-up that a stop cuts off leaves an entry: the provider was asked about a person."""
    async with opened(tmp_path) as town:
        town.office.react = after(asyncio.Event(), answers(RECORD))
        call = asyncio.ensure_future(town.call(TAX, LOOK_UP, PERSON))
        await town.office.arrived.acquire()
    with pytest.raises(Exception, match=r"isconnected|closed"):
        await call
    (entry,) = [entry for entry in town.entries() if entry.facts["step"] == "answered"]
    assert (entry.facts["code"], len(entry.particulars["subjects"])) == ("gateway.broken", 1)


async def test_counts_of_the_unidentified_are_not_lost(tmp_path: Path) -> None:
    """What the journal could not take is written later, at the latest when the process stops."""
    async with opened(tmp_path) as town:
        await town.call(None, LOOK_UP, PERSON)
        town.valve.failing = True
        with pytest.raises(Exception, match=r"journal\.unavailable"):
            await town.upkeep(minute=True)
        town.valve.failing = False
    (entry,) = [entry for entry in town.entries() if entry.facts["step"] == "unidentified"]
    assert entry.facts["refusals"] == {"identity.missing": 1}


async def test_refused_tokens_are_counted_with_the_unidentified(tmp_path: Path) -> None:
    """Attempts at the token endpoint leave a trace in the journal, one line for a minute."""
    async with opened(tmp_path) as town:
        reply = await town.ask("POST", "/oauth/token", {"Content-Type": "application/x-www-form-urlencoded"}, b"a=b")
        assert reply.status == 400
        await town.upkeep(minute=True)
    (entry,) = [entry for entry in town.entries() if entry.facts["step"] == "unidentified"]
    assert entry.facts["refusals"] == {"token.invalid_request": 1}


SHAPE = Shape(
    {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string"},
            "born": {"type": "string", "format": "date"},
            "home": {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False},
        },
    }
)
DISCLOSED = tuple(map(Pointer, ("/name", "/born", "/home")))


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"name": "a", "born": "not a date"}, DISCLOSED),
        ({"born": "2000-01-01"}, DISCLOSED),
        ({"name": {"full": "a", "ward": "b"}, "born": "2000-01-01"}, ("/born", "/home")),
        ({"name": "a", "home": {"city": "b", "note": "c"}}, ("/name", "/born")),
        ({"name": ["a", "b"]}, ("/born", "/home")),
        ([{"name": "a"}, {"name": "b"}], None),
        ("a", None),
    ],
)
def test_what_of_a_wrong_answer_is_sound(value: object, kept: tuple[str, ...] | None) -> None:
    """While an endpoint reports, plain values pass that are written wrongly; nothing passes that hides more."""
    assert sound(SHAPE, value, DISCLOSED) == kept


async def test_a_flood_of_refusals_does_not_fill_the_journal(tmp_path: Path) -> None:
    """Beyond its rate a system's refusals are answered, counted and written as one entry; what is asked is not."""
    async with opened(tmp_path) as town:
        await town.token(TAX)
        calls = [town.call(TAX, LOOK_UP, PERSON, exchange_purpose="statistics") for _ in range(260)]
        replies = [await call for call in calls]
        assert {reply.status for reply in replies} == {403}
        await town.upkeep(minute=True)
        singly = [entry for entry in town.entries() if entry.facts["step"] == "refused"]
        (together,) = [entry for entry in town.entries() if entry.facts["step"] == "repeated"]
        assert 200 <= len(singly) < 260
        assert together.facts["refusals"] == {"policy.purpose": 260 - len(singly)}
        assert (await town.call(TAX, LOOK_UP, PERSON)).headers["Exchange-Entry"]
