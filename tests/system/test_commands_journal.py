"""``gateway journal show`` and ``gateway journal check`` on a journal that somebody has laid hands on."""

import asyncio
import hashlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from gateway.__main__ import app
from gateway.core.entry import Bodies, Particulars, draft, numbered
from gateway.edge import archive
from gateway.edge.archive import Kept, Wanted
from gateway.edge.control import Order, hand_over
from gateway.edge.database import opened
from gateway.edge.journal import Journal
from gateway.edge.lookups import named
from tests.fakes.town import opened as town

FIRST = "01939f5e-7b1c-7cc3-98c4-dc0c0c07398f"
SECOND = "01939f5e-7b1c-7cc3-98c4-dc0c0c073990"

Row = tuple[object, ...]
Type = Callable[..., tuple[int, str]]


def row(n: int, writer: int = 7, beside: Particulars | None = None, **facts: object) -> Row:
    drafted = draft({"step": "answered", **facts}, Bodies(), beside or Particulars(case="C-1"), bytes(64))
    entry, stamp = numbered(drafted, writer, n)
    return writer, n, stamp.leaf, entry, drafted.particulars


@pytest.fixture
def database(tmp_path: Path) -> Callable[..., str]:
    """Makes a journal of rows; columns without a type take whatever they are given."""

    def make(*rows: Row) -> str:
        path = tmp_path / "copy.sqlite3"
        connection = sqlite3.connect(path)
        connection.execute("create table journal_months (month text)")
        connection.execute("insert into journal_months values ('2026_11')")
        connection.execute("create table journal_2026_11 (writer, n, leaf, entry, particulars)")
        connection.executemany("insert into journal_2026_11 values (?, ?, ?, ?, ?)", rows)
        connection.execute("update journal_2026_11 set entry = cast(entry as text) where leaf = 'not utf-8'")
        connection.commit()
        connection.close()
        return f"sqlite:///{path}"

    return make


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch) -> Type:
    """Types a command about the journal."""
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["journal", *arguments], catch_exceptions=False)
        return result.exit_code, result.output

    return run


SPOILT = {
    "the entry is no bytes": (7, 2, b"x", "text", b"{}"),
    "the entry is no bytes ": (7, 2, "not utf-8", b"\xff\xfe", b"{}"),
    "the leaf is no bytes": (7, 2, "text", b"{}", b"{}"),
    "the particulars are no bytes": (7, 2, b"x", b"{}", 7),
    "the leaf is not the hash of the entry": (7, 2, b"x", b"no json", b"{}"),
    "the entry carries another number": (7, 2, b"x", b"[1]", None),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_check_goes_on_behind_what_it_finds(type_in: Type, database: Callable[..., str], fault: str) -> None:
    """Whatever stands in a row is a fault with its number, and the rows behind it are held all the same."""
    url = database(row(1), SPOILT[fault], row(4))
    code, text = type_in("check", "--database", url)
    assert code == 1
    assert f"FAULT 7.2: {fault.strip()}\n" in text
    assert "FAULT 7.3: missing; the next entry is 7.4\n" in text
    assert text.splitlines()[-1].startswith("3 entries of 1 writers, ")


def test_a_number_that_is_none_is_not_repeated(type_in: Type, database: Callable[..., str]) -> None:
    """What somebody wrote instead of a number does not reach the terminal."""
    code, text = type_in("check", "--database", database(row(1), ("\x1b[2J", "x", b"", b"", None)))
    assert code == 1
    assert "FAULT ?.?: the number is none\n" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("fault", SPOILT)
def test_entries_behind_a_spoilt_one_are_shown(type_in: Type, database: Callable[..., str], fault: str) -> None:
    """What cannot be shown is a fault, what can be shown is shown, and the exit code tells."""
    code, text = type_in("show", "--database", database(row(1), SPOILT[fault], row(3)))
    assert code == 1
    assert text.count('"step":"answered"') == 2
    assert "FAULT 7.2: the " in text


def test_an_exchange_is_found_by_its_own_name_alone(type_in: Type, database: Callable[..., str]) -> None:
    """The id must be an entry's exchange, or the first one of a repeated write: that it is mentioned is not enough."""
    url = database(row(1, exchange=FIRST), row(2, exchange=SECOND, first=FIRST), row(3, what=FIRST), row(4))
    for asked in (FIRST, FIRST.upper()):
        code, text = type_in("show", "--database", url, "--exchange", asked)
        assert code == 0
        assert [orjson.loads(line)["entry"] for line in text.splitlines()] == ["7.1", "7.2"]


def test_a_document_is_found_with_what_concerns_it(type_in: Type, database: Callable[..., str]) -> None:
    """By the member that names it, as one of several, by a receipt of it, by its file; nothing that mentions it."""
    file = SECOND
    along = ({"attachment": file, "digest": "sha-256=:…:"},)
    url = database(
        row(1, attachment=file),
        row(2, document=FIRST, beside=Particulars(attachments=along)),
        row(3, documents=["other", FIRST]),
        row(4, documents=[f"{FIRST}-7-2"]),
        row(5, what=FIRST, attachment="other", documents=[f"other-{FIRST}"]),
        row(6, attachment="other"),
    )
    code, text = type_in("show", "--database", url, "--document", FIRST.upper())
    assert (code, shown(text)) == (0, ["7.1", "7.2", "7.3", "7.4"])
    assert type_in("show", "--database", url, "--document", "OUT-1")[1].startswith("--document must be the id of a ")


@pytest.fixture(params=["sqlite", "postgresql"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A gateway's own database with three entries about the case C-1."""
    url = f"sqlite:///{tmp_path / 'gateway.sqlite3'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("shared")

    async def write() -> None:
        driver = opened(url, "DEMO", create=True)
        assert driver is not None
        journal = Journal(driver)
        await journal.open("test")
        for document in (FIRST, FIRST, SECOND):
            facts = {"step": "submitted", "document": document}
            await journal.append(draft(facts, Bodies(), Particulars(case="C-1"), bytes(64)))
        await journal.close()

    asyncio.run(write())
    return url


def lookups(type_in: Type, url: str, *options: str) -> list[dict[str, Any]]:
    """Of persons, as the journal has them."""
    lines = type_in("show", "--database", url, "--step", "administered", *options)[1].splitlines()
    return [entry for entry in map(orjson.loads, lines) if entry["what"] == "show_particulars"]


def test_what_stands_beside_is_printed_to_who_says_why(type_in: Type, kept: str) -> None:
    """With an entry of who looked, why, and at which; it is found by the document that was looked at."""
    why = ("--particulars", "--reason", "complaint 7", "--by", "Chan Vanna")
    code, text = type_in("show", "--database", kept, "--document", FIRST, *why)
    first, second = map(orjson.loads, text.splitlines())
    assert (code, first["beside"]["case"], second["beside"]["case"]) == (0, "C-1", "C-1")
    assert hashlib.sha256(orjson.dumps(first["beside"])).hexdigest() == first["particulars"]
    assert "C-1" not in type_in("show", "--database", kept)[1]
    (entry,) = lookups(type_in, kept)
    assert (entry["document"], entry["entries"]) == (FIRST, f"{first['entry']}, {second['entry']}")
    (again,) = lookups(type_in, kept, "--document", FIRST, "--particulars", "--reason", "who did?")
    assert (again["beside"]["user"], again["beside"]["reason"]) == ("Chan Vanna", "complaint 7")
    everything = type_in("show", "--database", kept, "--particulars", "--reason", "audit")[1].splitlines()
    (*_, last) = lookups(type_in, kept)
    assert (len(everything), last["entries"]) == (6, "all")
    assert type_in("check", "--database", kept)[0] == 0


@pytest.mark.parametrize(
    "options", [["--particulars"], ["--particulars", "--by", "me"], ["--reason", "x"], ["--by", "me"]]
)
def test_without_a_reason_nothing_of_it_is_shown(
    type_in: Type, database: Callable[..., str], options: list[str]
) -> None:
    """Nor is a reason taken for what needs none."""
    code, text = type_in("show", "--database", database(row(1)), *options)
    assert (code, text.startswith("Whoever looks at particulars says why"), "C-1" in text) == (1, True, False)


def test_what_cannot_be_written_down_is_not_shown(type_in: Type, database: Callable[..., str], kept: str) -> None:
    """A copy of entries is no gateway's database; a reason that is no line is none."""
    why = ("--particulars", "--reason")
    for url, reason in ((database(row(1)), "audit"), (kept, "two\nlines")):
        code, text = type_in("show", "--database", url, *why, reason)
        assert (code, text.startswith("Nothing is shown, as that cannot be written down"), "C-1" in text) == (
            1,
            True,
            False,
        )
    assert lookups(type_in, kept) == []


async def test_a_gateway_that_has_the_file_writes_the_look_down(tmp_path: Path) -> None:
    """The command cannot: SQLite serves one process, which takes the order through its socket."""
    said = {"entries": "1.1", "reason": "complaint 7", "who": "dara"}
    async with town(tmp_path) as running:
        assert (await hand_over(running.database, Order("show_particulars", said))).done
        assert not (await hand_over(running.database, Order("show_particulars", {**said, "reason": ""}))).done
        (entry,) = [each for each in running.entries() if each.facts.get("what") == "show_particulars"]
    assert (entry.facts["entries"], entry.particulars["user"]) == ("1.1", "dara")


def test_forgotten_particulars_are_not_there() -> None:
    """Many entries are named by their first and their last; those that were forgotten say so."""
    rows = [Kept(7, n, b"", b"{}", None) for n in range(1, 22)]
    assert (named(rows[:2]), named(rows)) == ("7.1, 7.2", "21: 7.1 to 7.21")
    assert archive.shown(rows[0], beside=True) == {"leaf": "", "forgotten": True}


@pytest.mark.parametrize("wrong", ["", "answered", FIRST[:8]])
def test_an_exchange_is_a_uuid(type_in: Type, database: Callable[..., str], wrong: str) -> None:
    """Part of an id, or a word that many entries hold, finds nothing by chance."""
    code, text = type_in("show", "--database", database(row(1, exchange=FIRST)), "--exchange", wrong)
    assert code == 1
    assert text.startswith("--exchange must be an Exchange-Id, a UUID such as")


def test_the_latest_are_shown(type_in: Type, database: Callable[..., str]) -> None:
    """--last counts from the end, and from 1."""
    url = database(*map(row, range(1, 6)))
    _, text = type_in("show", "--database", url, "--last", "2")
    assert [orjson.loads(line)["entry"] for line in text.splitlines()] == ["7.4", "7.5"]
    assert type_in("show", "--database", url, "--last", "0")[0] == 2


def shown(text: str) -> list[str]:
    return [orjson.loads(line)["entry"] for line in text.splitlines()]


HOURS = (
    row(1, 7, at="2026-11-21T10:00:00.000+07:00"),
    row(2, 7, at="2026-11-21T13:00:00.000+07:00", step="unsettled"),
    row(1, 8, at="2026-11-21T04:00:00.000+00:00"),
    row(1, 9, at="2026-11-20T23:59:59.000+07:00", step="unsettled"),
)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (("--last", "1"), ["7.2"]),
        (("--last", "3"), ["7.1", "8.1", "7.2"]),
        (("--step", "unsettled"), ["9.1", "7.2"]),
        (("--step", "unsettled", "--last", "1"), ["7.2"]),
        (("--since", "2026-11-21T11:00:00+07:00"), ["8.1", "7.2"]),
        (("--since", "2026-11-21"), ["7.1", "8.1", "7.2"]),
        ((), ["7.1", "7.2", "8.1", "9.1"]),
    ],
)
def test_several_writers_are_put_in_order(
    type_in: Type, database: Callable[..., str], asked: tuple[str, ...], found: list[str]
) -> None:
    """The latest are the latest of all, whatever their writer's number and the zone in which they say their time."""
    code, text = type_in("show", "--database", database(*HOURS), *asked)
    assert (code, shown(text)) == (0, found)


def test_what_is_spoilt_stays_in_its_place(type_in: Type, database: Callable[..., str]) -> None:
    """It has no time; it counts as of the entry before it, and is told of."""
    url = database(*HOURS[:2], (7, 3, b"x", "text", b"{}"), HOURS[2])
    code, text = type_in("show", "--database", url, "--last", "2")
    assert code == 1
    assert "FAULT 7.3: the entry is no bytes" in text
    assert '"entry":"7.2"' in text
    assert type_in("show", "--database", url, "--last", "3", "--step", "answered")[0] == 0


@pytest.mark.parametrize("wrong", ["", "yesterday", "2026-02-30", "2026-11-21T11:00:00", "20261121T11"])
def test_since_asks_for_a_day_or_an_instant(type_in: Type, database: Callable[..., str], wrong: str) -> None:
    """What is none is told with examples."""
    code, text = type_in("show", "--database", database(row(1)), "--since", wrong)
    assert code == 1
    assert text.startswith("--since must be a day such as 2026-01-31, or an instant such as")


def test_no_more_is_put_in_order_than_is_bounded() -> None:
    """Whoever asks for everything by time is asked for less, unless they say how many."""
    many = (Kept(1, n, b"", b"{}", None) for n in range(archive.MAX_SORTED + 1))
    with pytest.raises(ValueError, match=r"More than 100000 entries are meant: add --since, or --last NUMBER\."):
        archive.by_time(many, Wanted(), None)


@pytest.mark.parametrize("command", ["show", "check"])
def test_what_is_no_journal_is_told_in_a_sentence(type_in: Type, tmp_path: Path, command: str) -> None:
    """A missing file, a file of something else, an empty database and a folder."""
    (tmp_path / "text").write_text("no database " * 100)
    sqlite3.connect(tmp_path / "empty").execute("create table other (a)").connection.close()
    for name, words in (
        ("nowhere", "there is no database at"),
        ("text", "cannot be read as a journal"),
        ("empty", "cannot be read as a journal"),
        ("", "cannot be read as a journal"),
    ):
        code, text = type_in(command, "--database", f"sqlite:///{tmp_path / name}")
        assert code == 1
        assert words in text
        assert len(text.splitlines()) == 1


@pytest.mark.parametrize("wrong", ["gateway.sqlite3", "/var/lib/gateway.sqlite3", "sqlite:///", "sqlite://file"])
def test_a_database_is_named_as_the_setting_names_it(type_in: Type, wrong: str) -> None:
    """A plain path is told what it lacks."""
    code, text = type_in("check", "--database", wrong)
    assert code == 1
    assert text.startswith("--database must begin with sqlite:///")
    assert f'not "{wrong}"' in text
