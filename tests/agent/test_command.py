"""`gateway agent` for people at the agency: it shows, settles, and says what it does not do and why."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.__main__ import app
from gateway.agent.folder import LOCK_FILE, MEMORY_FILE
from gateway.agent.memory import opened
from gateway.agent.ports import Final, Foreign, Gap
from gateway.core.handling import Known, Outcome, Standing
from tests.fakes.premises import AGENCY, VARIABLES, Premises, premises

UNKNOWN = "01a2018d-199f-744a-a9f7-79005e4d0f41"
TAKEN = "01a2018d-199f-744a-a9f7-79005e4d0f42"
Type = Callable[..., tuple[int, str]]


@pytest.fixture
def at(tmp_path: Path) -> Premises:
    """Where an agent has run: one outcome is unknown, one was refused by the gateway."""
    made = premises(tmp_path)
    made.data.mkdir()
    (made.data / LOCK_FILE).write_text(f"{AGENCY} at DEMO")
    asyncio.run(written(made.data / MEMORY_FILE))
    return made


async def written(path: Path) -> None:
    async with opened(path) as ledger:
        await ledger.memory.write(Known(UNKNOWN, "tax.return.v1", 2, 17, 0, b"d", Standing.UNKNOWN))
        taken = Known(TAKEN, "tax.return.v1", 2, 16, 0, b"d", Standing.TAKEN, outcome=Outcome.RETRIEVED)
        await ledger.memory.write(taken, owed=True)
        (report,) = await ledger.dues.unreported(10)
        await ledger.dues.reported(report, Final("document.ended"))
        await ledger.places.keep(Foreign(1, 4, "not_genuine", "it has no header ce_id"))
        await ledger.places.missed(Gap(0, 5, 9))


@pytest.fixture
def typed(at: Premises) -> Type:
    """What `gateway agent` answers, and how it ends."""

    def run(*words: str, agency: str = AGENCY) -> tuple[int, str]:
        named = ["agent", *words, "--agency", agency, "--data", str(at.data)]
        settings = {"GATEWAY_CATALOGUE": str(at.folder), "GATEWAY_KEYS": str(at.keys), **VARIABLES}
        result = CliRunner().invoke(app, named, env=settings, catch_exceptions=False)
        return result.exit_code, result.output

    return run


def test_what_waits_for_a_person_is_shown(typed: Type) -> None:
    """It ends with 1, so that a timer can tell somebody."""
    code, told = typed("show")
    assert code == 1
    for line in (
        f"UNKNOWN {UNKNOWN} tax.return.v1 at 2/17: settle it",
        f"refused by the gateway: {TAKEN} retrieved (document.ended)",
        "not taken: record 1/4, not_genuine: it has no header ce_id",
        "UNREAD partition 0: records 5 to 8 went before they were read; see gateway agent missing",
    ):
        assert line in told


def test_a_word_is_kept_with_who_and_why(at: Premises, typed: Type) -> None:
    """The outcome is owed to the gateway; the second word is refused."""
    words = ("settle", UNKNOWN, "--as", "taken", "--number", "R-7", "--reason", "seen in the books", "--by", "dara")
    assert typed(*words) == (0, f"{UNKNOWN}: taken, as dara says\n")
    assert typed(*words)[0] == 1
    assert f"settled: {UNKNOWN} taken by dara at 20" in typed("show")[1]
    assert asyncio.run(owed(at.data / MEMORY_FILE)) == [(UNKNOWN, "registered", "R-7")]


async def owed(path: Path) -> list[tuple[str, str, str | None]]:
    async with opened(path) as ledger:
        return [(each.document, str(each.outcome), each.register_number) for each in await ledger.dues.unreported(10)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("settle", "1", "--as", "taken", "--reason", "a"), "is no id of a document"),
        (("settle", TAKEN, "--as", "again", "--reason", "a"), "no document whose outcome is unknown"),
        (("settle", UNKNOWN, "--as", "again", "--reason", " "), "one line with something to see"),
        (("settle", UNKNOWN, "--as", "again", "--reason", "a", "--number", "7"), "--number goes with --as taken"),
        (("settle", UNKNOWN, "--as", "taken", "--reason", "a", "--number", "  "), "with something to see"),
        (("missing",), "cannot be reached"),
    ],
    ids=["no id", "known", "no reason", "a number", "a blank number", "no gateway"],
)
def test_what_cannot_be_done_is_told(typed: Type, words: tuple[str, ...], said: str) -> None:
    """In one sentence, and the end is 1."""
    code, told = typed(*words)
    assert (code, said in told) == (1, True), told


def test_the_folder_of_another_agency_is_not_taken(at: Premises, typed: Type) -> None:
    """Nor one on which none has run."""
    assert "belongs to the agent of treasury at DEMO" in typed("show", agency="interior")[1]
    (at.data / LOCK_FILE).unlink()
    assert "No agent has run on" in typed("show")[1]


def test_a_bad_file_has_line_and_remedy(at: Premises, typed: Type) -> None:
    """As every manifest."""
    at.write(gatway="https://gateway.example")
    code, told = typed()
    assert code == 1
    assert "adapters/treasury/agent.yaml:" in told
    assert 'Did you mean "gateway"?' in told


def test_an_agent_must_be_named(typed: Type) -> None:
    """Without an agency there is nothing to do."""
    result = CliRunner().invoke(app, ["agent"], catch_exceptions=False)
    assert (result.exit_code, "Name the agency" in result.output) == (1, True)


def test_other_commands_load_no_kafka_client() -> None:
    """Only an agent that runs needs one."""
    code = "import sys, gateway.commands.serve, gateway.commands.agent; print({'aiokafka', 'kafka'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own words
    assert done.stdout == "set()\n"
