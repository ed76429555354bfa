"""What a reload owes to the journal and to other processes, when they cannot take it."""

import asyncio
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from structlog.testing import capture_logs

from gateway.catalogue.files import NOTHING, Files
from gateway.catalogue.snapshot import Loader
from gateway.core.entry import Draft, Stamp
from gateway.core.model import Catalogue
from gateway.edge.journal import Journal, unavailable
from gateway.edge.owed import MAX_OWED
from gateway.edge.reload import Declared, Places, Reload, Use
from gateway.edge.telemetry import Meters
from tests.edge.test_providers import of
from tests.fakes.estate import DIRECTORY, Estate
from tests.fakes.town import until


class Full(Journal):
    """Cannot be written until there is room."""

    def __init__(self) -> None:
        self.room = False
        self.slow: asyncio.Event | None = None
        self.tried = 0
        self.written: list[Draft] = []

    async def append(self, draft: Draft) -> Stamp:
        self.tried += 1
        if self.slow is not None:
            await self.slow.wait()
        if not self.room:
            raise unavailable()
        self.written.append(draft)
        return Stamp(1, 1, b"")


class Desk:
    """A reload of the demonstration's folders, of which each version is taken into use as it is."""

    def __init__(self, folder: Path, declared: Files | None = None) -> None:
        self.estate = Estate(folder)
        self.journal = Full()
        self.loaded = of()
        places = Places(self.estate.root, self.estate.root / "keys")
        kept = Declared(declared or self.estate.files(), Loader("DEMO", ZoneInfo("UTC")), folder / "files")
        self.reload = Reload(Use(lambda: self.loaded, self.adopt, dict), kept, places, self.journal, Meters())

    async def adopt(self, catalogue: Catalogue, files: Files) -> None:
        assert files.contents
        self.loaded = catalogue

    async def change(self, number: int) -> None:
        """Take one more version into use."""
        path = self.estate.root / DIRECTORY
        path.write_text(f"{path.read_text('utf-8')}# {number}\n", "utf-8")
        await self.reload.take(self.estate.files())


async def test_no_entry_is_lost_without_a_word(tmp_path: Path) -> None:
    """While the journal cannot be written, the latest entries wait; of each that does not, the log speaks."""
    desk = Desk(tmp_path)
    with capture_logs() as lines:
        for number in range(MAX_OWED + 2):
            await desk.change(number)
    assert [each["count"] for each in lines if each["event"] == "reload_entries_lost"] == [1, 1]
    desk.journal.room = True
    await desk.change(-1)
    assert len(desk.journal.written) == MAX_OWED


@pytest.mark.parametrize("room", [True, False])
async def test_what_is_owed_is_tried_once_more_at_the_stop(tmp_path: Path, *, room: bool) -> None:
    """A journal that can be written again by then has the entry; of one that cannot, the log says so."""
    desk = Desk(tmp_path)
    await desk.change(1)
    going = asyncio.create_task(desk.reload.go_on())
    await until(lambda: desk.journal.tried > 1)
    desk.journal.room = room
    going.cancel()
    with capture_logs() as lines:
        await asyncio.gather(going, return_exceptions=True)
    assert [each["count"] for each in lines if each["event"] == "reload_entries_lost"] == [1] * (not room)
    assert len(desk.journal.written) == int(room)


async def test_an_entry_under_way_at_the_stop_is_written_once(tmp_path: Path) -> None:
    """Who is cancelled while the journal writes neither loses the entry nor writes it again."""
    desk = Desk(tmp_path)
    desk.journal.room, desk.journal.slow = True, asyncio.Event()
    taking = asyncio.create_task(desk.change(1))
    await until(lambda: desk.journal.tried)
    taking.cancel()
    going = asyncio.create_task(desk.reload.go_on())
    await asyncio.sleep(0)
    going.cancel()
    desk.journal.slow.set()
    await asyncio.gather(taking, going, return_exceptions=True)
    assert (desk.journal.tried, len(desk.journal.written)) == (1, 1)


async def test_nothing_ends_the_looking(tmp_path: Path) -> None:
    """Whatever goes wrong, also where the first files are kept, the next look comes, and the change holds."""
    never = replace(NOTHING, contents={"policies/X.yaml": lambda: None})  # type: ignore[dict-item] # cannot be pickled
    desk = Desk(tmp_path, never)
    before = desk.loaded
    with capture_logs() as lines:
        going = asyncio.create_task(desk.reload.go_on())
        await until(lambda: desk.loaded is not before)
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
    assert "reload_broken" in {each["event"] for each in lines}
