"""``gateway send`` as a clerk types it, at a whole gateway."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from tests.fakes import post_office
from tests.fakes.correspondents import CHANGE, CORRECTION, DESK, LETTER, PURPOSE, REGISTER, TEXT
from tests.fakes.post_office import PostTown, claims_of


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[PostTown]:
    async with post_office.opened(tmp_path) as opened:
        key = opened.keys[DESK]
        (tmp_path / "key.json").write_bytes(orjson.dumps({**key.private, "kid": key.thumbprint}))
        (tmp_path / "letter.json").write_bytes(orjson.dumps(TEXT))
        (tmp_path / "plan.pdf").write_bytes(b"%PDF-1.7 plan")
        yield opened


async def send(
    town: PostTown, *more: str, to: str = "interior", file: str = "letter.json", service: str = LETTER
) -> tuple[int, str]:
    """The exit code and all that was printed."""
    named = ("--gateway", town.at.public, "--client-id", DESK, "--key", "key.json", "--purpose", PURPOSE)
    command = (sys.executable, "-m", "gateway", "send", to, service, file, *named, *more)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=PIPE, stderr=asyncio.subprocess.STDOUT, cwd=town.folder
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, said.decode()


async def test_a_letter_goes_with_its_plan(town: PostTown) -> None:
    """Reference, id, state, and the signed receipt in a file."""
    code, said = await send(town, "--attach", "plan.pdf", "--reference", "A-1", "--receipt", "receipt.jws")
    assert code == 0, said
    assert "Reference  A-1" in said
    assert "safe with the gateway" in said
    receipt = (town.folder / "receipt.jws").read_text("ascii").strip()
    assert f"Document   {claims_of(receipt)['document']}" in said
    for file in (said.split()[5].rstrip(","), "plan.pdf"):  # the upload's id, or the file once more
        code, again = await send(town, "--reference", "A-1", "--attach", file)
        assert (code, "nothing was sent twice" in again) == (0, True), again


async def test_waiting_says_what_becomes_of_it(town: PostTown) -> None:
    """Until it is registered, with the number."""
    sending = asyncio.create_task(send(town, "--wait", "50"))
    leased = await town.say("GET", "/inbox?wait=20", REGISTER)
    (document,) = leased.body["documents"]
    said = {"outcome": "registered", "number": "MOI-7", "lease": leased.body["lease"]}
    assert (await town.say("POST", f"/inbox/{document['id']}", REGISTER, said)).status == 200
    code, printed = await sending
    assert (code, printed.splitlines()[-1]) == (0, "interior   registered: is registered under the number MOI-7")


async def test_a_refusal_is_told_as_the_gateway_tells_it(town: PostTown) -> None:
    """Code, words, whom to ask, exit code 1; no traceback."""
    code, said = await send(town, to="digital")
    assert code == 1
    assert "catalogue.unknown" in said or "policy.no_agreement" in said
    (town.folder / "odd.json").write_bytes(b'{"subject": 7}')
    code, said = await send(town, file="odd.json")
    assert (code, "at /subject" in said, "Traceback" in said) == (1, True, False)


async def test_a_person_stands_behind_what_needs_an_approval(town: PostTown) -> None:
    """The assertion is read from a file; one that is not there is told."""
    (town.folder / "change.json").write_bytes(orjson.dumps(CHANGE))
    (town.folder / "person.jwt").write_text(town.says("saensuk", sub="clerk-17", post="clerk") + "\n", "ascii")
    code, said = await send(town, "--assertion", "person.jwt", service=CORRECTION, file="change.json")
    assert (code, "State      held: waits for a second person" in said) == (0, True), said
    code, said = await send(town, "--assertion", "nobody.jwt", service=CORRECTION, file="change.json")
    assert (code, "nobody.jwt cannot be read as an assertion: No such file" in said) == (1, True), said


async def test_what_cannot_be_sent_is_told(town: PostTown) -> None:
    """A file that is no JSON, an attachment that is not there."""
    for more, file in (((), "plan.pdf"), (("--attach", "none.pdf"), "letter.json")):
        code, said = await send(town, *more, file=file)
        assert (code, "cannot be read" in said, "Traceback" in said) == (1, True, False)


async def test_a_receipt_that_cannot_be_kept_is_told_before_or_shown(town: PostTown) -> None:
    """No place for it: nothing is sent. No room once it was sent: it is printed, with a code that says that it was."""
    code, said = await send(town, "--reference", "A-3", "--receipt", "nodir/r.jws")
    assert (code, "Nothing was sent" in said, "Traceback" in said) == (1, True, False), said
    assert town.rows("select count(*) from documents") == [(0,)]
    code, said = await send(town, "--reference", "A-3", "--receipt", "/dev/full")
    assert (code, "do not send it again" in said, "Reference  A-3" in said) == (3, True, True), said
    (receipt,) = (line.split()[1] for line in said.splitlines() if line.startswith("Receipt"))
    assert claims_of(receipt)["state"] == "submitted"


async def test_who_was_cut_off_is_told_how_to_go_on(town: PostTown) -> None:
    """The reference, and the ids of what was uploaded."""
    town.valve.failing = True
    code, said = await send(town, "--reference", "A-2")
    assert (code, "--reference A-2" in said) == (1, True), said
    town.valve.failing = False
