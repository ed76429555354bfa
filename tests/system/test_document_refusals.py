"""Every refusal of documents, provoked through HTTP and compared whole with a golden file.

After a deliberate change: ``GOLDEN=write make test TESTS=tests/system/test_document_refusals.py``, and read the
difference.
"""

import hashlib
import json
import shutil
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.core.model import Standing
from gateway.core.refusal import TABLE
from tests.fakes.correspondents import (
    ALERT,
    ARCHIVE,
    CHANGE,
    CORRECTION,
    DESK,
    POLITE,
    REGISTER,
    SILA,
    Letters,
    way,
)
from tests.fakes.post_office import PostTown, opened
from tests.fakes.town import Reply
from tests.system.test_refusals import GOLDEN, OF_DOCUMENTS, WRITE, shown

CODES = [code for code in TABLE if code.startswith(OF_DOCUMENTS)]
NOBODY = "01a20181-268c-7e58-8061-9596f9fcd137"
FILE = b"%PDF-1.7\n%EOF\n"

Provoke = Callable[[PostTown], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Way:
    """How to be refused: what to do, in which town."""

    provoke: Provoke
    letters: Letters = POLITE


async def unknown(town: PostTown) -> Reply:
    return await town.say("GET", f"/documents/{NOBODY}")


async def fetched(town: PostTown) -> tuple[str, str]:
    """A document that its recipient has leased, and the lease."""
    document = (await town.send()).body["document"]
    return document, (await town.say("GET", "/inbox", REGISTER)).body["lease"]


async def recalled_too_late(town: PostTown) -> Reply:
    document, _ = await fetched(town)
    return await town.say("POST", f"/documents/{document}/recall")


async def said_after_the_end(town: PostTown) -> Reply:
    document = (await town.send()).body["document"]
    await town.say("POST", f"/documents/{document}/recall")
    return await town.say("POST", f"/inbox/{document}", REGISTER, {"outcome": "registered", "number": "7"})


async def said_too_early(town: PostTown) -> Reply:
    document = (await town.send()).body["document"]
    return await town.say("POST", f"/inbox/{document}", REGISTER, {"outcome": "registered", "number": "7"})


async def without_a_lease(town: PostTown) -> Reply:
    document, _ = await fetched(town)
    return await town.say(
        "POST", f"/inbox/{document}", REGISTER, {"outcome": "registered", "number": "7", "lease": "1.1"}
    )


async def decided(town: PostTown, *people: tuple[str, str], by: str = "interior", system: str = REGISTER) -> Reply:
    """The last of these people's decisions."""
    asking = town.says("saensuk", sub="clerk-17")
    held = await town.send(CHANGE, service=CORRECTION, exchange_user_assertion=asking)
    for sub, post in people:
        said = {"exchange_user_assertion": town.says(by, sub=sub, post=post)}
        path = f"/approvals/{held.body['document']}"
        reply = await town.say("POST", path, system, {"decision": "declined"}, **said)
    return reply


async def by_the_same_person(town: PostTown) -> Reply:
    return await decided(town, ("clerk-17", "registrar"), by="saensuk", system=ARCHIVE)


async def in_another_post(town: PostTown) -> Reply:
    return await decided(town, ("clerk-3", "clerk"))


async def twice(town: PostTown) -> Reply:
    return await decided(town, ("clerk-3", "registrar"), ("clerk-4", "registrar"))


async def full(town: PostTown) -> Reply:
    return await town.send()


async def of_the_folder(town: PostTown) -> Reply:
    return await town.say("DELETE", "/subscriptions", SILA, {"publisher": "interior", "service": ALERT})


async def upload(town: PostTown, raw: bytes = FILE, media: str = "application/pdf", of: bytes | None = None) -> Reply:
    digest = b64encode(hashlib.sha256(raw if of is None else of).digest()).decode()
    return await town.say("POST", "/attachments", DESK, raw, content_type=media, content_digest=f"sha-256=:{digest}:")


async def unknown_file(town: PostTown) -> Reply:
    return await town.send(exchange_attachments=NOBODY)


async def another_file(town: PostTown) -> Reply:
    return await upload(town, of=b"other")


async def unaccepted_file(town: PostTown) -> Reply:
    file = (await upload(town)).body["attachment"]
    return await town.send(CHANGE, service="letters.sealed_letter.v1", system=SILA, exchange_attachments=file)


async def too_many(town: PostTown) -> Reply:
    files = [(await upload(town, FILE + b"%d" % n)).body["attachment"] for n in range(3)]
    return await town.send(exchange_attachments=", ".join(files))


async def another_type(town: PostTown) -> Reply:
    return await upload(town, b"plain text", "application/pdf")


async def beyond_the_end(town: PostTown) -> Reply:
    file = (await upload(town)).body["attachment"]
    return await town.say("GET", f"/attachments/{file}", DESK, range="bytes=1000-")


def _barred(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"")


async def nowhere(town: PostTown) -> Reply:
    _barred(town.folder / "files")
    return await upload(town)


SHUT = way(
    "interior",
    protocol="http",
    options={"url": "http://127.0.0.1:1/", "allow": ["loopback"]},
    standing=Standing.SUSPENDED,  # nothing is handed over, not even tried: what is tried may have arrived
)
WAYS: dict[str, Way] = {
    "document.unknown": Way(unknown),
    "document.may_have_arrived": Way(recalled_too_late),
    "document.ended": Way(said_after_the_end),
    "document.state": Way(said_too_early, Letters(ways={"interior": (SHUT,)})),
    "document.lease": Way(without_a_lease),
    "approval.same_person": Way(by_the_same_person, Letters(approver="consumer")),
    "approval.role": Way(in_another_post),
    "approval.decided": Way(twice),
    "recipient.full": Way(full, Letters(ways={"interior": (way("interior", max_waiting=0),)})),
    "subscription.not_possible": Way(of_the_folder),
    "attachment.unknown": Way(unknown_file),
    "attachment.digest": Way(another_file),
    "attachment.not_accepted": Way(too_many),
    "attachment.media_type": Way(another_type),
    "attachment.range": Way(beyond_the_end),
    "attachment.unavailable": Way(nowhere),
}


def test_every_code_of_documents_can_be_provoked() -> None:
    """The table and the ways to provoke them name the same codes."""
    assert set(WAYS) == set(CODES)


@pytest.mark.parametrize("code", CODES)
async def test_a_refusal_of_documents_is_what_its_golden_file_says(tmp_path: Path, code: str) -> None:
    """Status, headers and body of each code, whole."""
    way, golden = WAYS[code], GOLDEN / f"{code}.json"
    async with opened(tmp_path, way.letters) as town:
        reply = await way.provoke(town)
    if WRITE:
        golden.write_text(json.dumps(shown(reply), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    assert shown(reply) == json.loads(golden.read_text(encoding="utf-8"))
    assert reply.body["code"] == code
    assert (reply.body["exchange"], reply.status) == (reply.headers["Exchange-Id"], TABLE[code].status)
