"""Operators list documents, send them again and end their time, beside a gateway that runs or by themselves."""

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.__main__ import app
from gateway.core.model import AgencyId
from gateway.edge.documents import gates
from gateway.edge.documents.takers import mark
from gateway.edge.journal import Book
from gateway.edge.store import Plan
from tests.fakes.correspondents import ALERT, ALERTS, FLOOD, LAMPANG, POLITE, REGISTER, Letters
from tests.fakes.deliveries import push
from tests.fakes.post_office import PostTown, claims_of, founded, opened

ROOT = Path(__file__).parents[2]
BY = ("--reason", "renewed on Monday", "--by", "dara")
SILA_WAY = push("sila", "http://127.0.0.1:1")
PUSHED = Letters(ways={"sila": (SILA_WAY,)})
ENDED = replace(POLITE, until=2025)


def environment(town: PostTown) -> dict[str, str]:
    """As the gateway's user has it: its database, and its keys."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return {**plain, "GATEWAY_DATABASE": town.url, "GATEWAY_KEYS": str(town.folder / "keys")}


async def typed(town: PostTown, *words: str, code: int = 0) -> str:
    """What `gateway documents` prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "documents", *words),
        cwd=ROOT,
        env=environment(town),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    assert process.returncode == code, told.decode()
    return told.decode()


def agree(town: PostTown, letters: Letters) -> None:
    """Other terms under the same digest, as when a day passes."""
    digest = town.gateway.catalogue.digest
    town.changed(letters)
    town.gateway._loaded = town.gateway._catalogue = replace(town.gateway.catalogue, digest=digest)


async def undeliverable(town: PostTown) -> str:
    """A letter whose agreement ended before anybody fetched it, and then was renewed."""
    document: str = (await town.send()).body["document"]
    agree(town, ENDED)
    assert (await town.say("GET", "/inbox", REGISTER)).body["documents"] == []
    agree(town, POLITE)
    return document


def told_steps(shown: str) -> list[str]:
    return [line.split()[1] for line in shown.splitlines() if line.startswith("  ")]


def submitted_earlier(_: Book) -> Plan[None]:
    """Two hours ago; what became of it since then did just now."""
    yield "update deliveries set since = since - 7200", ()


async def test_what_waits_and_what_failed(tmp_path: Path) -> None:
    """The list shows both, narrowed by state, recipient, kind and age; ids alone are for other commands."""
    async with opened(tmp_path) as town:
        failed = await undeliverable(town)
        waits = (await town.send(to="/documents/sila")).body["document"]
        lines = (await typed(town, "list")).splitlines()
        assert [line.split()[0] for line in lines] == [failed, waits]
        assert " letters.official_letter.v1 saensuk.front_desk -> interior undeliverable for " in lines[0]
        assert await typed(town, "list", "--state", "undeliverable", "--ids") == f"{failed}\n"
        assert await typed(town, "list", "--recipient", "sila", "--kind", "document", "--ids") == f"{waits}\n"
        await town.gateway.mailroom.post.run(submitted_earlier)
        assert await typed(town, "list", "--older", "1h") == "no document stands so\n"
        assert (await typed(town, "list", "--most", "1")).endswith("only the oldest 1 are shown: --most shows more\n")


async def test_whom_the_gateway_leaves_alone(tmp_path: Path) -> None:
    """The list says which agencies did not answer, how often, why, and when they are tried again."""
    async with opened(tmp_path, PUSHED) as town:
        await town.gateway.mailroom.post.run(gates.close(AgencyId("sila"), "webhook", lambda _: 300.0, "refused"))
        printed = await typed(town, "list")
        assert "sila is left alone on its way webhook after 1 failures, for 4m still: refused\n" in printed
        assert "left alone" not in await typed(town, "list", "--recipient", "interior")


async def test_a_stopped_way_is_opened_by_an_order(tmp_path: Path, url: str | None) -> None:
    """The list says in words what the 410 means; the order opens the way, and stands in the journal with its reason."""
    async with opened(tmp_path, PUSHED, url=url) as town:
        for name in ("agencies", "secrets"):
            shutil.copytree(ROOT / "deploy/demo/keys" / name, tmp_path / "keys" / name)
        reason = f"stopped {mark(SILA_WAY)}"
        await town.gateway.mailroom.post.run(gates.close(AgencyId("sila"), "webhook", lambda _: 9e6, reason))
        assert "sila takes nothing any more on its way webhook (HTTP 410)" in await typed(town, "list")
        said = await typed(town, "reopen", "sila", "webhook", *BY)
        assert said == "the way webhook of sila is open: what waits is handed over again\n"
        assert "is not closed" in await typed(town, "reopen", "sila", "webhook", *BY, code=1)
        assert "410" not in await typed(town, "list")
        (entry,) = (each for each in town.entries() if each.facts.get("what") == "reopen")
    assert (entry.facts["recipient"], entry.facts["way"]) == ("sila", "webhook")
    assert (entry.particulars["user"], entry.particulars["reason"]) == ("dara", "renewed on Monday")


async def test_one_document(tmp_path: Path) -> None:
    """Its steps with their entries; nothing that it says, and nothing that persons typed."""
    async with opened(tmp_path) as town:
        document = (await town.send(exchange_case="A-77", exchange_user="clerk Vanna")).body["document"]
        got = await town.say("GET", "/inbox", REGISTER)
        said = {"outcome": "rejected", "reason": "incomplete", "text": "Plan 4", "lease": got.body["lease"]}
        await town.say("POST", f"/inbox/{document}", REGISTER, said)
        shown = await typed(town, "show", document)
        assert told_steps(shown) == ["submitted", "arrived", "rejected"]
        assert f"at interior by {REGISTER} reason incomplete entry " in shown
        assert [word for word in ("Drainage", "A-77", "Vanna", "Plan 4", "KH-9") if word in shown] == []


async def test_sent_again_by_the_gateway_that_runs(tmp_path: Path) -> None:
    """The order goes through the control socket; the document comes late and says so, with a receipt for the sender."""
    async with opened(tmp_path) as town:
        document = await undeliverable(town)
        assert await typed(town, "requeue", document, *BY) == f"{document} goes out again to interior\n"
        (again,) = (await town.say("GET", "/inbox", REGISTER)).body["documents"]
        assert (again["id"], again["late"], again["redelivered"]) == (document, 1, True)
        entry = next(each for each in town.entries() if each.facts["step"] == "requeued")
        assert (entry.particulars["reason"], entry.particulars["person"]) == ("renewed on Monday", {"operator": "dara"})
        assert b"dara" not in entry.kept.entry
        refused = await typed(town, "requeue", document, *BY, code=1)
        assert refused == f"{document} was left as it is: it is arrived at interior\n"


async def test_its_time_is_over(tmp_path: Path) -> None:
    """What waits expires by an order; what somebody has fetched just now is left alone."""
    async with opened(tmp_path) as town:
        waits = (await town.send(to="/documents/sila")).body["document"]
        held = (await town.send()).body["document"]
        await town.say("GET", "/inbox", REGISTER)
        printed = await typed(town, "expire", waits, held, *BY, code=1)
        assert f"{waits} is expired for sila\n" in printed
        assert f"{held} was left as it is: somebody has it in hand just now at interior\n" in printed
        expired = next(each for each in town.entries() if each.facts["step"] == "expired")
        assert (expired.facts["by"], expired.particulars["reason"]) == ("operator", "renewed on Monday")


async def test_counters_are_held_against_what_waits(tmp_path: Path) -> None:
    """A counter that somebody changed by hand is found."""
    async with opened(tmp_path) as town:
        await town.send()
        assert await typed(town, "check") == "0 faults\n"

        def tampered(_: Book) -> Plan[None]:
            yield "update lanes set opened = 9", ()

        await town.gateway.mailroom.post.run(tampered)
        assert (await typed(town, "check", code=1)).endswith("1 faults\n")


async def test_by_the_command_itself(tmp_path: Path, url: str | None) -> None:
    """Where no gateway has the file, and on PostgreSQL beside one: with the gateway's keys, and the folders' ways."""
    async with founded(tmp_path, url) as town:
        for name in ("agencies", "secrets"):
            shutil.copytree(ROOT / "deploy/demo/keys" / name, tmp_path / "keys" / name)
        async with town.serving():
            event = (await town.send(FLOOD, "/events", ALERT, ALERTS)).body["document"]
            agree(town, ENDED)
            await town.say("GET", "/inbox", LAMPANG)
            if url is not None:
                await once_more(town, event)
        if url is None:
            await once_more(town, event)
        async with town.serving():
            (again,) = (await town.say("GET", "/inbox", LAMPANG)).body["documents"]
            assert (again["id"], again["late"]) == (event, 1)
            assert town.faults() == ()


async def once_more(town: PostTown, event: str) -> None:
    assert await typed(town, "list", "--state", "undeliverable", "--ids") == f"{event}\n"
    printed = await typed(town, "requeue", event, "--recipient", "lampang", *BY)
    assert printed == f"{event} goes out again to lampang\n"
    shown = await typed(town, "show", event)
    assert [step for step in told_steps(shown) if step in ("undeliverable", "requeued")] == [
        "undeliverable",
        "requeued",
    ]
    assert await typed(town, "check") == "0 faults\n"


async def test_the_sender_s_receipt_says_undeliverable(tmp_path: Path) -> None:
    """Before the order the last receipt names the policy's code; afterwards the first counts again."""
    async with opened(tmp_path) as town:
        document = await undeliverable(town)
        seen = (await town.say("GET", f"/documents/{document}")).body
        last = claims_of(seen["receipts"][-1])
        assert (last["state"], last["reason"]) == ("undeliverable", "policy.expired")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("requeue", "77/26", *BY), "is no id of a document"),
        (("list", "--older", "soon"), "--older must be such as 90s, 15m, 12h or 3d"),
        (("list", "--kind", "letter"), "--kind must be document, event or receipt"),
        (("list",), "there is no database at"),
    ],
)
def test_what_cannot_be_done_is_told(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    """Before anything is touched; no file is made by mistake."""
    plain: Mapping[str, str] = {"GATEWAY_DATABASE": f"sqlite:///{tmp_path / 'no.sqlite3'}"}
    found = CliRunner().invoke(app, ["documents", *words], env=plain)
    assert (found.exit_code, says in found.output) == (1, True)
    assert list(tmp_path.iterdir()) == []
