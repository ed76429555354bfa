"""What an auditor finds of a document: its entries, what went along, on what it was let in, who decided."""

import asyncio
import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest

from gateway.core.entry import facts_of
from gateway.edge import archive
from gateway.edge.archive import Kept, Wanted
from tests.fakes.correspondents import ALERT, ALERTS, CHANGE, CORRECTION, DESK, FLOOD, LAMPANG, REGISTER, Letters
from tests.fakes.post_office import PostTown, claims_of, opened
from tests.fakes.town import Reply

PDF = b"%PDF-1.7\nplan"
DIGEST = f"sha-256=:{base64.b64encode(hashlib.sha256(PDF).digest()).decode()}:"


async def uploaded(town: PostTown, raw: bytes = PDF) -> str:
    """A file's id."""
    digest = f"sha-256=:{base64.b64encode(hashlib.sha256(raw).digest()).decode()}:"
    said = {"content_type": "application/pdf", "content_digest": digest}
    return str((await town.say("POST", "/attachments", DESK, raw, **said)).body["attachment"])


async def found(town: PostTown, document: str) -> list[Any]:
    """What ``gateway journal show --document`` prints, by time."""

    def read() -> list[Any]:
        wanted = Wanted(document=document, files=archive.files_of(town.place, document))
        rows = archive.by_time(archive.rows(town.place, wanted.words), wanted, None)
        return [facts_of(each.entry) for each in rows if isinstance(each, Kept)]

    return await asyncio.to_thread(read)


async def test_everything_about_a_document_is_found_by_its_id(tmp_path: Path) -> None:
    """From the upload of its file to the register number; nothing of another document and of another file."""
    async with opened(tmp_path) as town:
        file = await uploaded(town)
        document = (await town.send(exchange_attachments=file)).body["document"]
        await uploaded(town, PDF + b"another")
        other = (await town.send()).body["document"]
        lease = (await town.say("GET", "/inbox", REGISTER)).body["lease"]
        assert (await town.say("GET", f"/attachments/{file}", REGISTER)).status == 200
        said = {"outcome": "registered", "number": "R-1", "lease": lease}
        await town.say("POST", f"/inbox/{document}", REGISTER, said)
        await town.say("POST", f"/documents/{document}/recall")
        entries = await found(town, document)
    steps = [each["step"] for each in entries]
    assert steps == ["uploaded", "submitted", "arrived", "leased", "downloaded", "registered", "refused"]
    assert {each["document"] for each in entries if "document" in each} == {document}
    assert [each["attachment"] for each in entries if "attachment" in each] == [file, file]
    assert [each["documents"] for each in entries if "documents" in each] == [[document, other]]


async def test_who_approved_is_found(tmp_path: Path) -> None:
    """The showing, and the decision with the person beside it."""
    async with opened(tmp_path) as town:
        clerk, registrar = town.says("saensuk", sub="7"), town.says("interior", sub="8", post="registrar")
        sent = await town.send(CHANGE, service=CORRECTION, exchange_user_assertion=clerk)
        document = sent.body["document"]
        await town.say("GET", "/approvals", REGISTER, exchange_user_assertion=registrar)
        said = {"decision": "approved", "reason": "as agreed"}
        decided = await town.say("POST", f"/approvals/{document}", REGISTER, said, exchange_user_assertion=registrar)
        entries = await found(town, document)
        persons = {each.facts["entry"]: each.particulars.get("person") for each in town.entries()}
    assert decided.status == 200, decided.body
    assert [each["step"] for each in entries] == ["held", "shown", "submitted", "arrived"]
    assert [dict(persons[each["entry"]] or {}).get("subject") for each in entries[:3]] == ["7", "8", "8"]


async def test_what_went_along_is_named(tmp_path: Path) -> None:
    """To sender and recipient, in the first receipt by its digest, and beside the submission's entry."""
    async with opened(tmp_path) as town:
        file = await uploaded(town)
        sent = await town.send(exchange_attachments=file)
        document = sent.body["document"]
        seen = [(await town.say("GET", f"/documents/{document}", each)).body for each in (DESK, REGISTER)]
        (entry,) = [each for each in town.entries() if each.facts["step"] == "submitted"]
    shown = {"attachment": file, "digest": DIGEST, "size": len(PDF), "media_type": "application/pdf"}
    assert [each["attachments"] for each in seen] == [[shown], [shown]]
    assert [claims_of(each).get("attachments") for each in seen[0]["receipts"]] == [[DIGEST], None]
    assert entry.particulars["attachments"] == [{"attachment": file, "digest": DIGEST}]
    assert DIGEST not in str(entry.facts)


async def test_a_submission_is_repeated_from_the_upload_on(tmp_path: Path) -> None:
    """The same file is the same attachment, so that it is the same submission."""
    async with opened(tmp_path) as town:

        async def send() -> Reply:
            return await town.send(exchange_attachments=await uploaded(town), idempotency_key="OUT-1")

        first, again = await send(), await send()
    assert (first.status, again.status, again.headers.get("Exchange-Replayed")) == (202, 202, "?1")
    assert first.body == again.body


@pytest.mark.parametrize("alert", [False, True])
async def test_each_recipients_grant_is_named(tmp_path: Path, *, alert: bool) -> None:
    """One agreement with several grants, and several agreements: nobody's stands there for all."""
    async with opened(tmp_path) as town:
        if alert:
            await town.send(FLOOD, "/events", ALERT, ALERTS)
        else:
            await town.send(to="/documents", exchange_to="sila,lampang")
        (entry,) = [each.facts for each in town.entries() if each.facts["step"] == "submitted"]
    names = ("agreement", "agreements", "grant", "grants", "legal_basis", "legal_bases")
    said = {name: entry[name] for name in names if name in entry}
    act = "Town Act, article 2"
    if alert:
        assert said == {"agreement": "MOI-ALERTS", "grants": {"sila": 0, "lampang": 1}, "legal_basis": act}
        return
    both = {"sila": "LETTERS-SILA", "lampang": "LETTERS-LAMPANG"}
    bases = dict.fromkeys(both.values(), act)
    assert said == {"agreements": both, "grants": {"sila": 0, "lampang": 0}, "legal_bases": bases}


async def test_the_one_subscriber_of_an_event_has_its_grant(tmp_path: Path) -> None:
    """With its legal basis, as a document has it."""
    async with opened(tmp_path, Letters(subscriptions=(LAMPANG,))) as town:
        await town.send(FLOOD, "/events", ALERT, ALERTS)
        (entry,) = [each.facts for each in town.entries() if each.facts["step"] == "submitted"]
    assert (entry["agreement"], entry["grant"], entry["legal_basis"]) == ("MOI-ALERTS", 1, "Town Act, article 2")
    assert entry.keys().isdisjoint({"agreements", "grants", "legal_bases"})
