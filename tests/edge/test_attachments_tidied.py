"""How attachments go again: after their day, after a killed process, and not those of somebody else."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.edge.documents import attachments, files, tidying, uploading
from gateway.edge.documents.vault import PART_BYTES, name_of, place_of
from tests.fakes import bucket, depot
from tests.fakes.depot import PDF, Depot

LARGE = b"%PDF-1.7\n" + bytes(2 * PART_BYTES + 12_345)
MISSING = "01a2017c-6907-7cea-bfa6-1d29b1f5b6e9"
KEY = {"access_key_id": "AK", "secret_access_key": "secret"}


@pytest.fixture(params=["folder", "bucket"])
async def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Depot]:
    """A depot on a folder, and one on an S3."""
    async with contextlib.AsyncExitStack() as stack:
        place = None
        if request.param == "bucket":
            made = await stack.enter_async_context(bucket.opened())
            place = place_of(f"s3://bucket/town?endpoint={made.url}", KEY)
        yield await stack.enter_async_context(depot.opened(tmp_path, place))


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Depot]:
    """A depot on a folder."""
    async with depot.opened(tmp_path) as opened:
        yield opened


async def test_a_file_goes_when_nothing_refers_to_it(anywhere: Depot) -> None:
    """After its day; what a document uses stays."""
    gone, stays, young = [await anywhere.uploaded(raw) for raw in (PDF, LARGE, PDF + b"young")]
    await anywhere.send(stays, "d", "interior", "submitted", touched=False)
    await anywhere.change("update attachments set keep_until = 0 where id <> $1", young)
    assert await anywhere.tidying.purge() == 1
    answers = [(await anywhere.ask("GET", f"/v1/attachments/{each}")).status for each in (gone, stays, young)]
    assert answers == [404, 200, 200]
    assert await anywhere.vault.older(int(gone[-2:], 16), 2e9) == [
        name_of(each) for each in (stays, young) if each[-2:] == gone[-2:]
    ]


async def test_what_a_killed_process_left_is_swept_by_age(anywhere: Depot) -> None:
    """Parts without a row: young ones may be an upload, old ones are none."""
    left = name_of("019a0000-0000-7000-8000-000000000001")  # of November 2025
    young = name_of((await anywhere.upload()).body["attachment"])
    await anywhere.vault.put(left, 0, b"x")
    await anywhere.change("delete from attachments")
    assert [await anywhere.tidying.sweep(int(name[:2], 16)) for name in (left, young)] == [1, 0]
    assert await anywhere.vault.older(int(left[:2], 16), 2e9) == []
    assert await anywhere.vault.older(int(young[:2], 16), 4e9) == [young]


async def test_a_known_file_is_never_swept(anywhere: Depot) -> None:
    """However old it is."""
    kept = await anywhere.uploaded()
    anywhere.tidying._clock = lambda: 4e9
    assert await anywhere.tidying.sweep(int(kept[-2:], 16)) == 0
    assert (await anywhere.ask("GET", f"/v1/attachments/{kept}")).status == 200


async def test_a_half_written_part_is_swept_too(at: Depot) -> None:
    """The store's own temporary file, which no listing shows."""
    left = at.files / name_of("019a0000-0000-7000-8000-000000000001")
    left.mkdir(parents=True)
    (left / "0000#1").write_bytes(b"x")
    assert await at.tidying.sweep(1) == 1
    assert at.stored() == []


async def test_files_of_another_instance_are_left_alone(at: Depot) -> None:
    """Two instances in one place would remove each other's files."""
    assert await at.vault.claim("KH")
    await at.vault.put(name_of("019a0000-0000-7000-8000-000000000001"), 0, b"x")
    assert await at.tidying.sweep(1) == 0
    assert not await at.vault.claim("DEMO")


async def test_a_purge_that_stops_half_way_is_finished_by_the_sweep(at: Depot) -> None:
    """The row goes first: bytes without a row are nobody's, and their age tells that they are no upload."""
    await at.uploaded()
    await at.change("update attachments set keep_until = 0")
    names = await at.journal.run(files.purge)
    assert (at.stored(), await at.rows("select id from attachments")) == ([f"{names[0]}/0000"], [])
    at.tidying._clock = lambda: 4e9
    assert await at.tidying.sweep(int(names[0][:2], 16)) == 1
    assert at.stored() == []


async def test_referring_to_a_file_keeps_it(at: Depot) -> None:
    """A purge that comes after finds its time renewed; a file that went before is named."""
    made = await at.uploaded()
    await at.change("update attachments set keep_until = 0")
    assert await at.journal.run(lambda _: files.refer([(made, "d"), (MISSING, "d")])) == {MISSING}
    assert await at.tidying.purge() == 0
    await at.change("delete from uses")
    assert await at.tidying.purge() == 0  # a day after the last reference


def test_parts_are_read_in_whole_blocks() -> None:
    """No block lies in two parts, and no upload is taken for what a killed process left."""
    assert PART_BYTES % attachments.BLOCK_BYTES == 0
    assert tidying.LEFT_OVER_SECONDS > uploading.LONGEST_SECONDS
