"""The senders' addresses on every database: what is read, listed, recalled, approved and waited for."""

import asyncio
from pathlib import Path

from tests.fakes.correspondents import (
    ALERT,
    ALERTS,
    CHANGE,
    CORRECTION,
    DESK,
    FLOOD,
    PLATFORM,
    PURPOSE,
    REGISTER,
    SILA,
    Letters,
)
from tests.fakes.post_office import founded, opened
from tests.fakes.town import Reply, until


def ids(reply: Reply) -> list[str]:
    return [each["document"] for each in reply.body["documents"]]


async def test_what_was_sent_is_read_and_listed(tmp_path: Path, url: str | None) -> None:
    """By its sender, for whom it was sent, and its recipient; narrowed and paged."""
    async with opened(tmp_path, url=url) as town:
        first = (await town.send(exchange_case="C-1")).body["document"]
        second = (await town.send(system=PLATFORM, exchange_for="sila")).body["document"]
        third = (await town.send(to="/documents", exchange_to="sila,interior")).body["document"]
        shown = (await town.say("GET", f"/documents/{third}")).body
        lists = {
            (system, query): ids(await town.say("GET", f"/documents?{query}", system, exchange_case=case))
            for system, query, case in (
                (DESK, "role=sent", None),
                (DESK, f"role=sent&after={third}&max=1&state=arrived&service=letters.official_letter.v1", None),
                (SILA, "role=sent&since=2020-01-01T00:00:00Z", None),
                (SILA, "role=received", None),
                (REGISTER, "role=received", "C-1"),
                (REGISTER, f"role=received&after={third}&state=arrived", None),
            )
        }
    assert shown["summary"] == {"of": 2, "arrived": 2}
    assert list(lists.values()) == [[third, first], [first], [second], [third], [first], [second, first]]


async def test_the_life_of_a_correction(tmp_path: Path, url: str | None) -> None:
    """Held, listed for its registrar, approved by another person, and then recalled by its sender."""
    async with opened(tmp_path, url=url) as town:
        asking = town.says("saensuk", sub="clerk-17")
        held = await town.send(CHANGE, service=CORRECTION, exchange_user_assertion=asking)
        path = f"/approvals/{held.body['document']}"
        said = {"exchange_user_assertion": town.says("interior", sub="r-1", post="registrar")}
        waiting = (await town.say("GET", "/approvals", REGISTER, **said)).body["approvals"]
        approved = await town.say("POST", path, REGISTER, {"decision": "approved"}, **said)
        again = await town.say("POST", path, REGISTER, {"decision": "declined"}, **said)
        recalled = await town.say("POST", f"/documents/{held.body['document']}/recall")
    assert (held.body["state"], waiting[0]["body"], approved.status) == ("held", CHANGE, 200)
    assert (again.body["code"], recalled.body["state"]) == ("approval.decided", "recalled")


async def test_subscriptions_and_events(tmp_path: Path, url: str | None) -> None:
    """Subscribed, told, ended."""
    async with opened(tmp_path, Letters(subscriptions=()), url=url) as town:
        wish = {"publisher": "interior", "service": ALERT, "purpose": PURPOSE}
        gone = {"publisher": "interior", "service": ALERT}
        counts = []
        for method, said in (("POST", wish), ("POST", wish), ("DELETE", gone), ("DELETE", gone)):
            assert (await town.say(method, "/subscriptions", SILA, said)).status in (201, 204)
            counts.append((await town.send(FLOOD, "/events", ALERT, ALERTS)).body["recipients"])
    assert counts == [1, 1, 0, 0]


async def test_a_reference_is_one_document_on_two_nodes(tmp_path: Path, shared: str) -> None:
    """Sent to both at the same time, and to the other one again: one document, one receipt."""
    async with founded(tmp_path, shared) as one, one.serving():
        other = one.beside()
        async with other.serving():
            other._tokens = one._tokens
            one.permit(DESK, "letters:write")
            headers = {"authorization": f"Bearer {one.permit(DESK, 'letters:write')}"}
            sent = [node.send(idempotency_key="OUT-1", **headers) for node in (one, other) * 10]
            replies = await asyncio.gather(*sent)
            different = await other.send(CHANGE, idempotency_key="OUT-1", **headers)
        kept = one.rows("select count(*) from documents")
    taken = [reply for reply in replies if reply.status == 202]
    assert {reply.body["code"] for reply in replies if reply.status != 202} <= {"idempotency.running"}
    assert (len({reply.body["receipt"] for reply in taken}), kept) == (1, [(1,)])
    assert sum("Exchange-Replayed" not in reply.headers for reply in taken) == 1
    assert different.status == 422


async def test_a_caller_waits_on_one_node_for_what_happens_on_the_other(tmp_path: Path, shared: str) -> None:
    """The look at the database finds it."""
    async with founded(tmp_path, shared) as one, one.serving():
        other = one.beside()
        async with other.serving():
            headers = {"authorization": f"Bearer {one.permit(DESK, 'letters:write')}"}
            document = (await one.send(**headers)).body["document"]
            waiting = asyncio.create_task(one.say("GET", f"/documents/{document}", prefer="wait=30", **headers))
            await until(lambda: one.gateway.mailroom.waiters.waiting)
            assert (await other.say("POST", f"/documents/{document}/recall", **headers)).status == 200
            reply = await asyncio.wait_for(waiting, 20)
    assert reply.body["state"] == "recalled"
