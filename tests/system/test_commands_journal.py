"""``gateway journal show`` and ``gateway journal check`` on a journal that somebody has laid hands on."""

import hashlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from gateway.__main__ import app
from gateway.core.entry import Bodies, Particulars, draft, numbered
from gateway.edge import archive
from gateway.edge.archive import Kept, Wanted

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


def test_what_stands_beside_is_printed_where_it_is_asked_for(type_in: Type, database: Callable[..., str]) -> None:
    """And nothing of it otherwise; where it was forgotten, there is none."""
    whole = row(1)
    url = database(whole, (7, 2, *row(2)[2:4], None))
    code, text = type_in("show", "--database", url, "--particulars")
    first, second = (orjson.loads(line) for line in text.splitlines())
    assert (code, first["beside"]["case"]) == (0, "C-1")
    assert hashlib.sha256(orjson.dumps(first["beside"])).hexdigest() == first["particulars"]
    assert (second["forgotten"], "beside" in second) == (True, False)
    assert "C-1" not in type_in("show", "--database", url)[1]


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
