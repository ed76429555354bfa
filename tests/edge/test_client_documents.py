"""The Python client sends, receives and proves documents at a whole gateway in process."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from gateway.client import (
    BadReceipt,
    BadRequest,
    Conflict,
    GatewayClient,
    NotPermitted,
    NotStored,
    Pace,
    Received,
    Refused,
    Unknown,
    Unreachable,
    verify_receipt,
)
from gateway.core.life import Accepted
from tests.fakes import idp, post_office
from tests.fakes.correspondents import (
    ALERT,
    ALERTS,
    CHANGE,
    CORRECTION,
    DESK,
    FLOOD,
    LAMPANG,
    LETTER,
    PURPOSE,
    REGISTER,
    SERVICES,
    SILA,
    TEXT,
    Letters,
)
from tests.fakes.post_office import PostTown

_LIFE = next(each.life for each in SERVICES if each.id == LETTER)
assert _LIFE is not None
PLANS = Letters(services={LETTER: {"life": replace(_LIFE, attachments=Accepted(("application/pdf",), 2**31, 5))}})
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 20_000


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[PostTown]:
    async with post_office.opened(tmp_path, PLANS) as opened:
        yield opened


def client(town: PostTown, system: str, **more: object) -> GatewayClient:
    key = town.keys[system]
    named = {**key.private, "kid": key.thumbprint}
    return GatewayClient(town.at.public, client_id=system, key=named, **more)  # type: ignore[arg-type]  # the test's own words


async def letter(gateway: GatewayClient, reference: str = "r-1", **more: object) -> str:
    sent = await gateway.send("interior", LETTER, TEXT, purpose=PURPOSE, reference=reference, **more)  # type: ignore[arg-type]  # as above
    return sent.document


async def first(gateway: GatewayClient) -> Received:
    async with asyncio.timeout(20):
        async for each in gateway.inbox(wait=5):
            return each
    raise AssertionError


async def test_a_letter_is_sent_registered_and_proven(town: PostTown) -> None:
    """Both sides, from the reference to the signed receipt with the register number."""
    async with client(town, DESK) as desk, client(town, REGISTER) as register:
        sent = await desk.send("interior", LETTER, TEXT, purpose=PURPOSE, reference="r-1", case="2026-17")
        again = await desk.send("interior", LETTER, TEXT, purpose=PURPOSE, reference="r-1", case="2026-17")
        assert (sent.state, sent.recipients, sent.replayed) == ("submitted", ["interior"], False)
        assert (again.document, again.receipt, again.replayed) == (sent.document, sent.receipt, True)
        assert (await desk.verify(sent.receipt, "DEMO"))["document"] == sent.document
        got = await first(register)
        assert (got.id, got.kind, got.service, got.body) == (sent.document, "document", LETTER, TEXT)
        assert (await got.registered("MOI-7"))["state"] == "registered"
        known = await desk.document(sent.document)
        assert (known.state, known.recipients[0].number, known.reference) == ("registered", "MOI-7", "r-1")
        states = [(await desk.verify(each, "DEMO"))["state"] for each in known.receipts]
        assert (states[0], states[-1]) == ("submitted", "registered")


async def test_another_letter_under_the_same_reference_is_refused(town: PostTown) -> None:
    """The error carries the reference."""
    async with client(town, DESK) as desk:
        await letter(desk)
        with pytest.raises(Conflict) as caught:
            await desk.send("interior", LETTER, {"subject": "another"}, purpose=PURPOSE, reference="r-1")
        assert (caught.value.code, caught.value.idempotency_key) == ("idempotency.reused", "r-1")


async def test_one_letter_goes_to_several(town: PostTown) -> None:
    """One document, one state for each."""
    async with client(town, DESK) as desk:
        sent = await desk.send(["interior", "sila"], LETTER, TEXT, purpose=PURPOSE, reference="r-1")
        known = await desk.document(sent.document)
        assert sorted(each.recipient for each in known.recipients) == ["interior", "sila"]


async def test_one_group_goes_where_its_members_are(town: PostTown) -> None:
    """Named alone a group is no agency of the address."""
    async with client(town, DESK) as desk:
        sent = await desk.send("group:municipalities", LETTER, TEXT, purpose=PURPOSE, reference="r-1")
    assert sent.recipients == ["lampang", "sila"]


async def test_an_event_reaches_its_subscribers(town: PostTown) -> None:
    """Publishing tells how many; a subscriber finds it in its mailbox."""
    async with client(town, ALERTS) as alerts, client(town, LAMPANG) as lampang:
        sent = await alerts.publish(ALERT, FLOOD, purpose=PURPOSE, reference="flood-1")
        assert sent.recipients == 2
        got = await first(lampang)
        assert (got.kind, got.id, sorted(got.body)) == ("event", sent.document, ["area", "level"])


async def test_a_system_subscribes_by_itself(town: PostTown) -> None:
    """It is told since when, finds it in the list, and ends it; what the folder says cannot be ended so."""
    async with client(town, DESK) as desk, client(town, SILA) as sila:
        made = await desk.subscribe("interior", ALERT, purpose=PURPOSE)
        assert (made["by"], await desk.subscriptions()) == ("api", [made])
        await desk.unsubscribe("interior", ALERT)
        assert await desk.subscriptions() == []
        with pytest.raises(Conflict, match=r"subscription\.not_possible"):
            await sila.unsubscribe("interior", ALERT)


async def test_a_second_person_decides(town: PostTown) -> None:
    """What waits is listed with its body; the decision gives a receipt, and a second one is a conflict."""
    clerk, registrar = town.says("saensuk", sub="clerk-17"), town.says("interior", sub="r-2", post="registrar")
    async with client(town, DESK) as desk, client(town, REGISTER) as register:
        held = await desk.send("interior", CORRECTION, CHANGE, purpose=PURPOSE, reference="c-1", user_assertion=clerk)
        (waits,) = await register.approvals(user_assertion=registrar)
        assert (held.state, waits["document"], waits["body"]) == ("held", held.document, CHANGE)
        decided = await register.decide(held.document, "declined", user_assertion=registrar, reason="wrong person")
        assert (decided["state"], bool(decided["receipt"])) == ("declined", True)
        with pytest.raises(Conflict, match=r"approval\.decided"):
            await register.decide(held.document, "approved", user_assertion=registrar)
        with pytest.raises(NotPermitted, match="post"):
            await register.approvals(user_assertion=town.says("interior", sub="r-2", post=None))


async def test_a_rejection_has_its_reason(town: PostTown) -> None:
    """Said by id, as after a push."""
    async with client(town, DESK) as desk, client(town, REGISTER) as register:
        sent = await letter(desk)
        got = await first(register)
        await got.retrieved()
        await register.answer(sent, "rejected", reason="wrongly_addressed", text="Ask the ministry of roads.")
        known = await desk.document(sent)
        assert (known.state, known.recipients[0].reason) == ("rejected", "wrongly_addressed")
        with pytest.raises(Conflict, match=r"document\.ended"):
            await register.answer(sent, "registered", number="1")


async def test_waiting_ends_when_something_changed(town: PostTown) -> None:
    """Prefer: wait."""
    async with client(town, DESK) as desk, client(town, REGISTER) as register:
        sent = await letter(desk)
        got = await first(register)
        waiting = asyncio.create_task(desk.document(sent, wait=20))
        await asyncio.sleep(0)
        await got.registered("MOI-8")
        async with asyncio.timeout(15):
            assert (await waiting).state in ("arrived", "registered")
        with pytest.raises(ValueError, match="wait must be"):
            await desk.document(sent, wait=21)


async def test_a_letter_is_recalled_only_while_nobody_has_it(town: PostTown) -> None:
    """Conflict afterwards."""
    async with client(town, DESK) as desk, client(town, REGISTER) as register:
        sent = await letter(desk)
        await desk.recall(sent)
        assert (await desk.document(sent)).state == "recalled"
        other = await letter(desk, "r-2")
        await first(register)
        with pytest.raises(Conflict, match=r"document\.may_have_arrived"):
            await desk.recall(other)


async def test_pages_are_fetched_as_one_goes_on(town: PostTown) -> None:
    """All of an agency's documents, newest first; filters go along."""
    async with client(town, DESK) as desk:
        sent = [await letter(desk, f"r-{each}") for each in range(60)]
        assert [each.id async for each in desk.documents()] == sent[::-1]
        assert [each.id async for each in desk.documents(state="registered")] == []


async def test_the_inbox_ends_when_nothing_comes(town: PostTown) -> None:
    """For a program that is started now and then."""
    async with client(town, DESK) as desk, client(town, REGISTER) as register:
        sent = {await letter(desk, f"r-{each}") for each in range(3)}
        got = set()
        async for each in register.inbox(wait=1, forever=False):
            await each.retrieved()
            got.add(each.id)
        assert got == sent


async def test_a_lease_is_renewed_while_it_is_in_hand(town: PostTown) -> None:
    """A third of its time apart; the outcome counts afterwards."""
    slept: list[float] = []
    renewed = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 2:
            renewed.set()
            await asyncio.Event().wait()

    async with client(town, DESK) as desk, client(town, REGISTER, pace=Pace(sleep=sleep)) as register:
        await letter(desk)
        async for got in register.inbox(wait=5):
            await asyncio.wait_for(renewed.wait(), 30)
            assert (await got.registered("MOI-9"))["state"] == "registered"
            break
    assert slept == [20.0, 20.0, 20.0]


async def test_plans_go_with_a_letter_and_come_out_again(town: PostTown, tmp_path: Path) -> None:
    """Uploaded, named, received, fetched."""
    (tmp_path / "plan.pdf").write_bytes(PDF)
    async with client(town, DESK) as desk, client(town, REGISTER) as register, client(town, LAMPANG) as lampang:
        plan = await desk.upload(tmp_path / "plan.pdf")
        assert (plan.size, plan.media_type) == (len(PDF), "application/pdf")
        await letter(desk, attachments=[plan.id])
        got = await first(register)
        (told,) = got.envelope["attachments"]
        target = await register.download(told["attachment"], tmp_path / "received.pdf")
        assert target.read_bytes() == PDF
        with pytest.raises(Unknown):
            await lampang.download(plan.id, tmp_path / "stolen.pdf")
        with pytest.raises(NotStored, match="there already"):
            await register.download(plan.id, tmp_path / "received.pdf")
        assert not (tmp_path / "received.pdf.part").exists()


async def test_a_download_goes_on_where_it_broke_off(town: PostTown, tmp_path: Path) -> None:
    """From what lies there; a part that is not of this file is thrown away."""
    (tmp_path / "plan.pdf").write_bytes(PDF)
    async with client(town, DESK) as desk:
        plan = await desk.upload(tmp_path / "plan.pdf")
        for part in (PDF[:100_000], PDF):
            (tmp_path / "copy.pdf.part").write_bytes(part)
            assert (await desk.download(plan.id, tmp_path / "copy.pdf")).read_bytes() == PDF
            (tmp_path / "copy.pdf").unlink()
        ranges = [each.facts.get("range") for each in town.entries() if each.facts["step"] == "downloaded"]
        assert ranges == [f"bytes 100000-{len(PDF) - 1}/{len(PDF)}"]
        (tmp_path / "copy.pdf.part").write_bytes(b"something else")
        with pytest.raises(NotStored, match="not the file"):
            await desk.download(plan.id, tmp_path / "copy.pdf")
        assert not (tmp_path / "copy.pdf.part").exists()


async def test_what_cannot_be_sent_is_said_at_once(town: PostTown, tmp_path: Path) -> None:
    """Files that are not there, of no known kind, or not what their name says."""
    (tmp_path / "plan").write_bytes(PDF)
    (tmp_path / "plan.png").write_bytes(PDF)
    async with client(town, DESK) as desk, client(town, "saensuk.archive") as archive:
        with pytest.raises(ValueError, match="cannot be read"):
            await desk.upload(tmp_path / "none.pdf")
        with pytest.raises(ValueError, match="media_type"):
            await desk.upload(tmp_path / "plan")
        with pytest.raises(BadRequest, match=r"attachment\.media_type"):
            await desk.upload(tmp_path / "plan.png")
        with pytest.raises(Unknown, match=r"attachment\.unknown"):
            await letter(desk, attachments=["01a2017c-6907-7cea-bfa6-1d29b1f5b6e9"])
        with pytest.raises(NotPermitted):
            await letter(archive)


async def test_a_changed_receipt_proves_nothing(town: PostTown) -> None:
    """Nor one of another instance, of no key, or what is no receipt at all."""
    async with client(town, DESK) as desk:
        receipt = (await desk.send("interior", LETTER, TEXT, purpose=PURPOSE, reference="r")).receipt
        head, said, signature = receipt.split(".")
        token = await desk.token()
        changed = f"{head}.{said[:-2]}AA.{signature}"
        for wrong in (changed, f"{head}.{said}.", "x", token):
            with pytest.raises(BadReceipt):
                await desk.verify(wrong, "DEMO")
        with pytest.raises(BadReceipt, match="instance KH"):
            await desk.verify(receipt, "KH")
    with pytest.raises(BadReceipt, match="keys"):
        verify_receipt(receipt, {"keys": []}, "DEMO")


async def test_answers_of_somebody_else_are_no_receipts(tmp_path: Path) -> None:
    """A proxy that answers 200 with a page of its own."""

    async def page(_: web.BaseRequest) -> web.Response:
        return web.json_response({"access_token": "t", "expires_in": 600, "issuer": "x"})

    runner = web.ServerRunner(web.Server(page), shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    key = idp.key()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    (tmp_path / "plan.pdf").write_bytes(PDF)
    async with GatewayClient(url, client_id=DESK, key={**key.private, "kid": "k"}, pace=Pace(attempts=1)) as desk:
        calls = (letter, partial(GatewayClient.document, document="d"), partial(GatewayClient.recall, document="d"))
        for call in (*calls, partial(GatewayClient.upload, file=tmp_path / "plan.pdf")):
            with pytest.raises((Unreachable, Refused)):
                await call(desk)
    await runner.cleanup()
