"""Dual control: what waits for a second person, who may decide, and that one decision stands."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.life import Accepted
from gateway.core.model import Standing
from gateway.edge.documents import approvals as module
from gateway.edge.store import Rows
from tests.fakes.correspondents import CHANGE, CORRECTION, DESK, POLITE, REGISTER, SERVICES, SILA, Letters
from tests.fakes.pollers import changed
from tests.fakes.post_office import PostTown, claims_of, opened, slowly
from tests.fakes.town import Reply


async def asked(town: PostTown, **headers: str) -> str:
    """A correction that a clerk of the sender asks for."""
    who = town.says("saensuk", sub="clerk-17", post="clerk")
    said = {"service": CORRECTION, "exchange_user_assertion": who, **headers}
    reply = await town.send(CHANGE, **said)
    assert (reply.status, reply.body["state"]) == (202, "held"), reply.body
    return str(reply.body["document"])


async def decide(
    town: PostTown,
    document: str,
    decision: str = "approved",
    *,
    system: str = REGISTER,
    by: str = "interior",
    **who: Any,
) -> Reply:
    """A decision; by a registrar of the ministry where nobody else is named."""
    person = town.says(by, **{"sub": "registrar-2", "post": "registrar", **who})
    body = {"decision": decision, **({"reason": "wrong person"} if decision == "declined" else {})}
    return await town.say("POST", f"/approvals/{document}", system, body, exchange_user_assertion=person)


async def approvals(town: PostTown, system: str = REGISTER, by: str = "interior", **who: Any) -> list[Any]:
    person = town.says(by, **{"sub": "registrar-2", "post": "registrar", **who})
    reply = await town.say("GET", "/approvals", system, exchange_user_assertion=person)
    assert reply.status == 200, reply.body
    return list(reply.body["approvals"])


async def test_a_held_document_goes_out_when_a_second_person_agrees(tmp_path: Path) -> None:
    """Nobody gets it before; afterwards it is in the mailbox, and both persons stand in the journal."""
    async with opened(tmp_path) as town:
        document = await asked(town)
        before = (await town.say("GET", "/inbox", REGISTER)).body["documents"]
        reply = await decide(town, document)
        after = (await town.say("GET", "/inbox", REGISTER)).body["documents"]
        persons = [(each.facts["step"], each.particulars.get("person", {}).get("subject")) for each in town.entries()]
    assert (before, [each["id"] for each in after]) == ([], [document])
    assert (reply.status, reply.body["state"]) == (200, "submitted")
    assert claims_of(reply.body["receipt"])["state"] == "submitted"
    assert ("held", "clerk-17") in persons
    assert ("submitted", "registrar-2") in persons


async def test_a_declined_document_never_goes_out(tmp_path: Path) -> None:
    """The sender learns of it with the reason; the decision stands."""
    async with opened(tmp_path) as town:
        document = await asked(town)
        declined, later = await decide(town, document, "declined"), await decide(town, document)
        shown = (await town.say("GET", f"/documents/{document}")).body
        inbox = (await town.say("GET", "/inbox", REGISTER)).body["documents"]
    assert (declined.status, declined.body["state"], inbox) == (200, "declined", [])
    assert (later.status, later.body["code"]) == (409, "approval.decided")
    assert (shown["state"], shown["history"][-1]["text"]) == ("declined", "wrong person")


async def test_what_is_left_of_a_document_is_decided_no_more(tmp_path: Path) -> None:
    """Its time has passed: body, head and who asked are gone, and a second decision is refused like any other."""
    async with opened(tmp_path) as town:
        document = await asked(town)
        assert (await decide(town, document)).status == 200
        await changed(town, "update documents set body = null, head = x'', requester = null")
        again = await decide(town, document, "declined")
    assert (again.status, again.body["code"]) == (409, "approval.decided")


async def test_a_reason_is_one_line_that_people_read(tmp_path: Path) -> None:
    """Both sides see it: what shows nothing, or something else than was written, decides nothing."""
    async with opened(tmp_path) as town:
        document = await asked(town)
        for decision in ("approved", "declined"):
            for reason in ("ok\u0000\n", "ok\u202etxt.exe", "   "):
                person = town.says("interior", sub="registrar-2", post="registrar")
                said = {"decision": decision, "reason": reason}
                path = f"/approvals/{document}"
                reply = await town.say("POST", path, REGISTER, said, exchange_user_assertion=person)
                assert (reply.status, reply.body["code"]) == (422, "shape.request")
                assert reply.body["errors"][0]["pointer"] == "/reason"
        assert (await decide(town, document, "declined")).status == 200


async def test_who_asks_cannot_approve(tmp_path: Path) -> None:
    """Where the sender's own agency approves: the same person in another post, by another system, is refused."""
    async with opened(tmp_path, Letters(approver="consumer")) as town:
        document = await asked(town)
        same = await decide(town, document, system="saensuk.archive", by="saensuk", sub="clerk-17")
        other = await decide(town, document, system=DESK, by="saensuk", sub="clerk-18")
    assert (same.status, same.body["code"]) == (403, "approval.same_person")
    assert other.status == 200


async def test_another_post_cannot_approve(tmp_path: Path) -> None:
    """The post that the agreement names decides, and nobody without a post."""
    async with opened(tmp_path) as town:
        document = await asked(town)
        for post in ("clerk", None):
            reply = await decide(town, document, post=post)
            assert (reply.status, reply.body["code"]) == (403, "approval.role")
        unasserted = await town.say("POST", f"/approvals/{document}", REGISTER, {"decision": "approved"})
    assert (unasserted.status, unasserted.body["code"]) == (403, "policy.obligation")


async def test_other_agencies_find_nothing_to_approve(tmp_path: Path) -> None:
    """To them the document is not there, and no person of another agency's issuer speaks for the ministry."""
    async with opened(tmp_path) as town:
        document = await asked(town)
        other = await decide(town, document, system=DESK, by="saensuk", sub="clerk-18")
        foreign = await decide(town, document, by="saensuk", sub="clerk-18")
        third = await town.say("POST", f"/approvals/{document}", SILA, {"decision": "approved"})
    assert (other.status, other.body["code"]) == (404, "document.unknown")
    assert (foreign.status, foreign.body["code"]) == (401, "identity.invalid")
    assert third.status == 403


async def test_only_the_post_sees_what_waits(tmp_path: Path) -> None:
    """The list holds the body for a person in that post, and its showing is journaled before."""
    async with opened(tmp_path) as town:
        document = await asked(town, exchange_case="C-1")
        (waiting,) = await approvals(town)
        assert await approvals(town, post="clerk") == []
        assert await approvals(town, DESK, "saensuk", post="registrar") == []
        (entry,) = [each for each in town.entries() if each.facts["step"] == "shown"]
    assert (waiting["document"], waiting["body"], waiting["case"], waiting["own"]) == (document, CHANGE, "C-1", False)
    assert (entry.facts["documents"], entry.particulars["person"]["subject"]) == ([document], "registrar-2")


async def test_an_assertion_without_a_post_is_told_what_it_lacks(tmp_path: Path) -> None:
    """An empty list would say that nothing waits; claims of other names are no post."""
    async with opened(tmp_path) as town:
        document = await asked(town)
        person = town.says("interior", sub="registrar-2", post=None, role="registrar")
        listed = await town.say("GET", "/approvals", REGISTER, exchange_user_assertion=person)
        decided = await town.say(
            "POST", f"/approvals/{document}", REGISTER, {"decision": "approved"}, exchange_user_assertion=person
        )
    assert [(each.status, each.body["code"]) for each in (listed, decided)] == [(403, "approval.role")] * 2
    assert all('claim "post"' in each.body["detail"] for each in (listed, decided))


async def test_both_sides_see_where_it_stands(tmp_path: Path) -> None:
    """Held for sender and approver; the recipient that does not approve sees nothing yet."""
    async with opened(tmp_path) as town:
        document = await asked(town)
        mine = (await town.say("GET", f"/documents/{document}")).body
        theirs = (await town.say("GET", f"/documents/{document}", REGISTER)).body
        town.changed(Letters(approver="consumer"))
        hidden = await asked(town)
        reply = await town.say("GET", f"/documents/{hidden}", REGISTER)
    assert mine["state"] == theirs["state"] == "held"
    assert mine["recipients"][0]["recipient"] == "interior"
    assert reply.status == 404


async def test_policy_is_asked_again_at_approval(tmp_path: Path) -> None:
    """What may not be sent today stays held; it goes out when the agreement holds again."""
    async with opened(tmp_path) as town:
        document = await asked(town)
        town.changed(replace(POLITE, standing=Standing.SUSPENDED))
        refused = await decide(town, document)
        town.changed(POLITE)
        agreed = await decide(town, document)
    assert (refused.status, refused.body["code"]) == (403, "policy.suspended")
    assert agreed.status == 200


@pytest.mark.parametrize("amended", [Letters(approver="provider"), Letters(approver="consumer", post="mayor")])
async def test_whom_the_agreement_names_no_more_cannot_approve(tmp_path: Path, amended: Letters) -> None:
    """The agreement asks for another agency's person now, or for another post: it stays held, and may be declined."""
    async with opened(tmp_path, Letters(approver="consumer")) as town:
        document = await asked(town)
        town.changed(amended)
        theirs = {"system": "saensuk.archive", "by": "saensuk", "sub": "registrar-7"}
        refused = await decide(town, document, **theirs)
        inbox = (await town.say("GET", "/inbox", REGISTER)).body["documents"]
        declined = await decide(town, document, "declined", **theirs)
    assert (refused.status, refused.body["code"], inbox) == (403, "policy.obligation", [])
    assert "MOI-CORRECTIONS asks for another second person" in refused.body["detail"]
    assert (declined.status, declined.body["state"]) == (200, "declined")


async def test_whom_it_named_may_approve_where_nobody_is_asked_for_any_more(tmp_path: Path) -> None:
    """An agreement that has dropped the second person holds nothing back."""
    async with opened(tmp_path) as town:
        document = await asked(town)
        town.changed(Letters(approver=None))
        agreed = await decide(town, document)
    assert (agreed.status, agreed.body["state"]) == (200, "submitted")


async def test_approval_racing_recall_has_one_outcome(tmp_path: Path) -> None:
    """Ten times at once: either it was recalled and nothing went out, or it went out; both callers learn which."""
    async with opened(tmp_path) as town:
        for _ in range(10):
            document = await asked(town)
            approved, recalled = await asyncio.gather(
                decide(town, document), town.say("POST", f"/documents/{document}/recall")
            )
            shown = (await town.say("GET", f"/documents/{document}")).body
            if approved.status == 200:
                assert shown["state"] == ("recalled" if recalled.status == 200 else "arrived")
            else:
                assert (approved.body["code"], recalled.status, shown["state"]) == ("approval.decided", 200, "recalled")


async def test_two_decisions_at_once_are_one(tmp_path: Path) -> None:
    """Approved twice by two persons: one is told that it was decided."""
    async with opened(tmp_path) as town:
        document = await asked(town)
        replies = await asyncio.gather(*(decide(town, document, sub=f"registrar-{place}") for place in range(4)))
        delivered = town.rows("select count(*) from deliveries where kind = 'document'")
    assert sorted(reply.status for reply in replies) == [200, 409, 409, 409]
    assert delivered == [(1,)]


async def test_a_repeated_reference_gives_the_receipt_of_the_held_one(tmp_path: Path) -> None:
    """The same receipt again, also after the decision: what was signed then."""
    async with opened(tmp_path) as town:
        who = town.says("saensuk", sub="clerk-17")
        said: dict[str, Any] = {"service": CORRECTION, "exchange_user_assertion": who, "idempotency_key": "C-1"}
        first = await town.send(CHANGE, **said)
        await decide(town, first.body["document"])
        again = await town.send(CHANGE, **said)
    assert first.body == again.body
    assert again.headers["Exchange-Replayed"] == "?1"


async def test_what_needs_approval_goes_to_one_agency_alone(tmp_path: Path) -> None:
    """Several addressees are refused where one of the agreements asks for a second person."""
    async with opened(tmp_path) as town:
        who = town.says("saensuk", sub="clerk-17")
        to = {"to": "/documents", "exchange_to": "interior", "exchange_user_assertion": who}
        one = await town.send(CHANGE, service=CORRECTION, **to)
        unknown = await town.send(CHANGE, service=CORRECTION, **{**to, "exchange_to": "interior, sila"})
    assert (one.status, one.body["state"]) == (202, "held")
    assert unknown.status in (403, 404)


async def test_a_decision_that_is_none_is_refused(tmp_path: Path) -> None:
    """Another word, another member, or no JSON."""
    async with opened(tmp_path) as town:
        document = await asked(town)
        who = town.says("interior", sub="registrar-2", post="registrar")
        for body in ({"decision": "perhaps"}, {"decision": "approved", "by": "me"}, {}, b"{"):
            reply = await town.say(
                "POST",
                f"/approvals/{document}",
                REGISTER,
                body,
                exchange_user_assertion=who,
                content_type="application/json",
            )
            assert reply.status in (400, 422)


def _files(approver: str = "provider") -> Letters:
    """Corrections with files."""
    (service,) = (each for each in SERVICES if each.id == CORRECTION)
    assert service.life
    life = replace(service.life, attachments=Accepted(("text/plain",), 1024, 2))
    return Letters(approver=approver, services={CORRECTION: {"life": life}})


async def test_the_second_person_reads_the_files(tmp_path: Path) -> None:
    """As long as it waits, in the post that decides, and nobody else of the agency: not without an assertion."""
    async with opened(tmp_path, _files()) as town:
        file = await town.upload(b"proof of name")
        document = await asked(town, exchange_attachments=file)
        registrar, clerk = (town.says("interior", sub="p", post=each) for each in ("registrar", "clerk"))
        look = [
            await town.say("GET", f"/attachments/{file}", REGISTER, exchange_user_assertion=who)
            for who in (registrar, clerk, None)
        ]
        await decide(town, document, "declined")
        look.append(await town.say("GET", f"/attachments/{file}", REGISTER, exchange_user_assertion=registrar))
    assert [each.status for each in look] == [200, 404, 404, 404]


async def test_a_document_that_cannot_be_opened_hides_no_other(tmp_path: Path) -> None:
    """It is passed over, with a line in the log."""
    async with opened(tmp_path) as town:
        broken, sound = await asked(town), await asked(town)
        await changed(town, f"update documents set head = body where id = '{broken}'")  # noqa: S608 - an id
        assert [each["document"] for each in await approvals(town)] == [sound]


async def test_only_bodies_that_fit_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their sizes are asked for first: ten calls at once must not bring everything that waits into memory."""
    monkeypatch.setattr(module, "MAX_HELD_BYTES", 100)
    async with opened(tmp_path) as town:
        for _ in range(3):
            await asked(town)
        reader, read = town.gateway.mailroom.reader.read, []

        async def counted(select: str, values: Sequence[Any] = ()) -> Rows:
            rows = await reader(select, values)
            read.append(sum(isinstance(cell, bytes) and len(cell) > 50 for row in rows for cell in row[13:]))
            return rows

        monkeypatch.setattr(town.gateway.mailroom.reader, "read", counted)
        shown = await approvals(town)
    assert (len(shown), shown[0]["body"], max(read)) == (1, CHANGE, 1)


async def test_who_is_suspended_while_the_decision_comes_sends_nothing(tmp_path: Path) -> None:
    """The sender, suspended while the body of the approval is on its way: refused, and it waits on."""
    async with opened(tmp_path) as town:
        document = await asked(town)
        person = town.says("interior", sub="registrar-2", post="registrar")
        status, said = await slowly(
            town,
            f"/approvals/{document}",
            REGISTER,
            {"decision": "approved"},
            lambda: town.changed(Letters(suspended=frozenset({"saensuk"}))),
            exchange_user_assertion=person,
        )
        town.changed(POLITE)
        shown = (await town.say("GET", f"/documents/{document}")).body
    assert (status, said["code"], shown["state"]) == (403, "policy.suspended", "held")
