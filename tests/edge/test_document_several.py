"""Where a document to several recipients stands: all of them in one answer, and one of them by itself."""

import asyncio
from pathlib import Path

import pytest

from gateway.edge.documents import view
from tests.fakes.correspondents import DESK, LAMPANG, REGISTER, SILA
from tests.fakes.post_office import PostTown, claims_of, opened
from tests.fakes.town import until


async def sent(town: PostTown, to: str) -> str:
    """A document's id."""
    reply = await town.send(to="/documents", exchange_to=to)
    assert reply.status == 202, reply.body
    return str(reply.body["document"])


async def test_however_many_the_steps_each_recipient_has_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """History and receipts show the last three steps; the numbers are all there, and one recipient's own history."""
    monkeypatch.setattr(view, "MAX_STEPS", 3)
    async with opened(tmp_path) as town:
        document = await sent(town, "sila,lampang,interior")
        for system in (SILA, LAMPANG, REGISTER):
            lease = (await town.say("GET", "/inbox", system)).body["lease"]
            said = {"outcome": "registered", "number": f"No. {system}", "lease": lease}
            assert (await town.say("POST", f"/inbox/{document}", system, said)).status == 200
        disputed = await town.say("POST", f"/inbox/{document}", SILA, {"outcome": "registered", "number": "9"})
        shown = (await town.say("GET", f"/documents/{document}")).body
        one = (await town.say("GET", f"/documents/{document}?recipient=sila")).body
        codes = [
            (await town.say("GET", f"/documents/{document}?recipient={agency}", system)).status
            for agency, system in (("digital", DESK), ("sila", LAMPANG), ("lampang", LAMPANG))
        ]
    assert (disputed.status, len(shown["history"]), len(shown["receipts"])) == (409, 3, 2)
    assert {each["recipient"]: each["number"] for each in shown["recipients"]} == {
        "sila": f"No. {SILA}",
        "lampang": f"No. {LAMPANG}",
        "interior": f"No. {REGISTER}",
    }
    assert [each["recipient"] for each in one["recipients"]] == ["sila"]
    assert {each["recipient"] for each in one["history"]} <= {"sila", None}
    assert (one["summary"], one["state"], codes) == ({"of": 1, "registered": 1}, "registered", [404, 404, 200])


async def test_one_of_several_is_waited_for_and_has_the_first_receipt(tmp_path: Path) -> None:
    """What concerns it is shown whole: the submission's receipt, its own, and no other's."""
    async with opened(tmp_path) as town:
        document = await sent(town, "sila,lampang")
        shown = (await town.say("GET", f"/documents/{document}?recipient=sila")).body
        both = await town.say("GET", f"/documents/{document}?recipient=sila&recipient=lampang")
    told = [(claims_of(each)["state"], claims_of(each).get("recipient")) for each in shown["receipts"]]
    assert told == [("submitted", None), ("arrived", "sila")]
    assert both.status == 400


async def test_what_happens_to_another_recipient_does_not_end_the_waiting(tmp_path: Path) -> None:
    """Lampang fetches it: who asks about sila waits on for the rest of the time, and hears when sila fetches it."""
    async with opened(tmp_path) as town:
        document, waiters = await sent(town, "sila,lampang"), town.gateway.mailroom.waiters
        leases = {system: (await town.say("GET", "/inbox", system)).body["lease"] for system in (SILA, LAMPANG)}

        async def fetched(system: str) -> None:
            said = {"outcome": "retrieved", "lease": leases[system]}
            assert (await town.say("POST", f"/inbox/{document}", system, said)).status == 200

        def known() -> list[object]:
            """The step after which the caller waits."""
            return list(waiters._by_key.get(document, {}).values())

        waiting = asyncio.create_task(town.say("GET", f"/documents/{document}?recipient=sila", prefer="wait=30"))
        await until(known)
        first = known()
        await fetched(LAMPANG)
        await until(lambda: waiting.done() or known() not in ([], first))
        assert not waiting.done()
        await fetched(SILA)
        reply = await asyncio.wait_for(waiting, 20)
    assert (reply.body["state"], reply.headers["Preference-Applied"]) == ("retrieved", "wait=30")
