"""Files up and down, over a real listener, database and store."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway.core import attachment as core
from gateway.core.model import AgencyId
from gateway.core.refusal import Refusal
from gateway.edge.documents import attachments, uploading
from gateway.edge.documents.attachments import UPLOAD
from gateway.edge.documents.files import Viewer
from gateway.edge.documents.vault import PART_BYTES, Place, name_of, place_of
from tests.fakes import bucket, depot
from tests.fakes.depot import PDF, RECIPIENT, SENDER, STRANGER, Depot, digest
from tests.fakes.town import until

LARGE = b"%PDF-1.7\n" + bytes(2 * PART_BYTES + 12_345)
SAENSUK, INTERIOR = Viewer(AgencyId("saensuk")), Viewer(AgencyId("interior"))
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


def _code(answer: depot.Got) -> tuple[int, str]:
    return answer.status, answer.body["code"]


async def test_a_file_comes_back_as_it_went(anywhere: Depot) -> None:
    """Parts are put together again; the answer names digest, size and type; both are in the journal."""
    answer = await anywhere.upload(LARGE)
    assert answer.status == 201
    assert answer.body == {
        "attachment": answer.body["attachment"],
        "digest": digest(LARGE),
        "size": len(LARGE),
        "media_type": "application/pdf",
    }
    got = await anywhere.ask("GET", answer.headers["Location"])
    assert (got.status, got.raw == LARGE, got.headers["Repr-Digest"]) == (200, True, digest(LARGE))
    (up,), (down,) = await anywhere.entries("uploaded"), await anywhere.entries("downloaded")
    assert (up["attachment"], up["consumer"], down["size"]) == (answer.body["attachment"], SENDER, len(LARGE))
    assert answer.headers["Exchange-Entry"].startswith(up["entry"])


async def test_a_download_goes_on_where_it_broke_off(anywhere: Depot) -> None:
    """Ranges over the border of two parts, with the tag of the file."""
    url = f"/v1/attachments/{await anywhere.uploaded(LARGE)}"
    head = await anywhere.ask("HEAD", url)
    start, end = PART_BYTES - 100, PART_BYTES + 100
    got = await anywhere.ask("GET", url, range=f"bytes={start}-{end - 1}", if_range=head.headers["ETag"])
    assert (head.status, head.raw, head.headers["Content-Length"]) == (200, b"", str(len(LARGE)))
    assert (got.status, got.raw) == (206, LARGE[start:end])
    assert got.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(LARGE)}"
    rest = await anywhere.ask("GET", url, range=f"bytes={2 * PART_BYTES}-")
    assert rest.raw == LARGE[2 * PART_BYTES :]
    assert (await anywhere.entries("downloaded"))[0]["range"].endswith(f"/{len(LARGE)}")


async def test_a_range_beyond_the_file_says_how_long_it_is(at: Depot) -> None:
    """416 with Content-Range (RFC 9110, section 15.5.17)."""
    got = await at.ask("GET", f"/v1/attachments/{await at.uploaded()}", range=f"bytes={len(PDF)}-")
    assert (*_code(got), got.headers["Content-Range"]) == (416, "attachment.range", f"bytes */{len(PDF)}")


async def test_what_is_given_out_runs_nowhere(at: Depot) -> None:
    """A browser stores it, guesses nothing, and no cache keeps it."""
    got = await at.ask("GET", f"/v1/attachments/{await at.uploaded()}")
    told = {name: got.headers[name] for name in ("Content-Disposition", "X-Content-Type-Options", "Cache-Control")}
    assert tuple(told.values()) == ("attachment", "nosniff", "private, no-store")
    assert got.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"


@pytest.mark.parametrize(
    ("headers", "raw", "status", "code"),
    [
        ({"content_digest": None}, PDF, 400, "request.malformed"),
        ({"content_digest": "md5=:Sd/dVLAcvNLSq16eXua5uQ==:"}, PDF, 400, "request.malformed"),
        ({"content_digest": digest(b"another")}, PDF, 422, "attachment.digest"),
        ({"content_digest": digest(b"another", "sha512")}, PDF, 422, "attachment.digest"),
        ({"content_type": None}, PDF, 415, "attachment.media_type"),
        ({"content_type": "image/png"}, PDF, 415, "attachment.media_type"),
        ({"content_type": "text/plain"}, b"\xff\xfe", 415, "attachment.media_type"),
        ({"content_encoding": "gzip"}, PDF, 415, "attachment.media_type"),
        ({}, b"", 400, "request.malformed"),
    ],
)
async def test_a_file_that_is_not_right_leaves_nothing(
    at: Depot, headers: dict[str, str | None], raw: bytes, status: int, code: str
) -> None:
    """Neither a row nor a byte."""
    answer = await at.upload(raw, SENDER, **headers)
    assert _code(answer) == (status, code)
    assert (at.stored(), await at.rows("select id from attachments")) == ([], [])


async def test_sha512_alone_is_taken(at: Depot) -> None:
    """The answer names SHA-256 all the same."""
    answer = await at.upload(content_digest=digest(PDF, "sha512"))
    assert (answer.status, answer.body["digest"]) == (201, digest(PDF))


async def test_a_wrong_end_of_a_large_file_is_noticed(anywhere: Depot) -> None:
    """Parts that were stored already go away again."""
    answer = await anywhere.upload(LARGE, content_digest=digest(LARGE + b"x"))
    assert _code(answer) == (422, "attachment.digest")
    assert await anywhere.vault.older(int(MISSING[-2:], 16), 2e9) == []
    assert [await anywhere.vault.older(shelf, 2e9) for shelf in range(256)] == [[]] * 256


async def test_a_file_without_a_length_is_bounded_while_it_comes(at: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are taken, up to the limit."""

    async def chunks() -> AsyncIterator[bytes]:
        yield PDF[:100]
        yield PDF[100:]

    headers = {"content_type": "application/pdf", "content_digest": digest(PDF)}
    assert (await at.ask("POST", UPLOAD, raw=chunks(), **headers)).status == 201
    monkeypatch.setattr(core, "MAX_FILE", len(PDF) - 1)
    assert _code(await at.ask("POST", UPLOAD, raw=chunks(), **headers)) == (413, "request.too_large")


async def test_an_announced_size_beyond_the_limit_is_refused_at_once(at: Depot) -> None:
    """Nothing of the body is read; who waits for 100-continue gets the refusal."""
    headers = {"content_type": "application/pdf", "content_digest": digest(PDF), "expect": "100-continue"}

    async def never() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    answer = await at.ask("POST", UPLOAD, raw=never(), content_length=str(2**31 + 1), **headers)
    assert _code(answer) == (413, "request.too_large")


async def test_an_upload_that_breaks_off_leaves_nothing(at: Depot) -> None:
    """The sender goes away in the middle of the second part."""
    going = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield LARGE[: PART_BYTES + 1000]
        await until(at.stored)
        going.set()
        await asyncio.Event().wait()

    headers = {"content_type": "application/pdf", "content_digest": digest(LARGE)}
    sending = asyncio.create_task(at.ask("POST", UPLOAD, raw=half(), **headers))
    await asyncio.wait_for(going.wait(), 30)
    sending.cancel()
    await asyncio.wait([sending])
    await until(lambda: not at.stored() and not at.attachments.uploads.taken)


async def test_a_file_that_comes_too_slowly_is_given_up(at: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound of bytes in each stretch of time; its place is free again."""
    monkeypatch.setattr(uploading, "PROGRESS_SECONDS", 0.05)

    async def dripping() -> AsyncIterator[bytes]:
        yield PDF[:50]
        await asyncio.Event().wait()

    headers = {"content_type": "application/pdf", "content_digest": digest(PDF)}
    answer = await at.ask("POST", UPLOAD, raw=dripping(), **headers)
    assert _code(answer) == (400, "request.malformed")
    assert "too slowly" in answer.body["detail"]
    assert (at.stored(), at.attachments.uploads.taken) == ([], {})


async def test_a_file_that_keeps_coming_may_take_its_time(at: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stretch with enough bytes begins the next one; all of them together are bounded."""
    monkeypatch.setattr(uploading, "PROGRESS_SECONDS", 0.2)
    monkeypatch.setattr(uploading, "PROGRESS_BYTES", 1)
    now = asyncio.get_running_loop().time

    async def steady() -> AsyncIterator[bytes]:
        for each in PDF[:50], PDF[50:90], PDF[90:200], PDF[200:]:
            yield each
            after = now() + 0.1
            await until(lambda: now() > after)  # noqa: B023 - waited for at once

    headers = {"content_type": "application/pdf", "content_digest": digest(PDF)}
    assert (await at.ask("POST", UPLOAD, raw=steady(), **headers)).status == 201
    monkeypatch.setattr(uploading, "LONGEST_SECONDS", 0.15)
    assert _code(await at.ask("POST", UPLOAD, raw=steady(), **headers)) == (400, "request.malformed")


async def test_one_agency_has_a_part_of_the_places(at: Depot) -> None:
    """A quarter; the next one is told to come again."""
    with contextlib.ExitStack() as held:
        for _ in range(uploading.MAX_UPLOADS // uploading.SHARES):
            held.enter_context(at.attachments.uploads.one(AgencyId("saensuk")))
        assert _code(await at.upload()) == (503, "gateway.overloaded")
    assert (await at.upload()).status == 201


async def test_what_no_document_uses_is_bounded(at: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Per agency; what a document uses does not count."""
    monkeypatch.setattr(attachments, "MAX_UNUSED_FILES", 1)
    first = await at.uploaded()
    assert _code(await at.upload()) == (503, "gateway.overloaded")
    await at.send(first, "d", "interior", "submitted", touched=False)
    assert (await at.upload()).status == 201


async def test_who_may_send_nothing_uploads_nothing(at: Depot) -> None:
    """No agreement about a service with attachments, or a suspension."""
    assert _code(await at.upload(system=STRANGER)) == (403, "policy.no_agreement")
    at.suspend()
    assert _code(await at.upload()) == (403, "policy.suspended")


async def test_a_suspension_while_a_file_comes_stops_it(at: Depot) -> None:
    """What was stored goes away."""

    async def meanwhile() -> AsyncIterator[bytes]:
        yield PDF[:50]
        await until(lambda: at.attachments.uploads.taken)
        at.suspend()
        yield PDF[50:]

    headers = {"content_type": "application/pdf", "content_digest": digest(PDF)}
    answer = await at.ask("POST", UPLOAD, raw=meanwhile(), **headers)
    assert (_code(answer), at.stored()) == ((403, "policy.suspended"), [])


@pytest.mark.parametrize(
    ("state", "touched", "status"),
    [
        ("submitted", False, 404),
        ("submitted", True, 200),  # handed over, and not settled yet
        ("arrived", False, 404),  # in the mailbox, never leased
        ("arrived", True, 200),
        ("retrieved", True, 200),
        ("registered", True, 200),
        ("rejected", True, 200),
        ("undeliverable", False, 404),
        ("recalled", False, 404),
    ],
)
async def test_a_recipient_sees_a_file_once_a_document_brought_it(
    at: Depot, state: str, *, touched: bool, status: int
) -> None:
    """And nobody else ever."""
    made = await at.uploaded()
    await at.send(made, "d", "interior", state, touched=touched)
    got = await at.ask("GET", f"/v1/attachments/{made}", RECIPIENT)
    assert got.status == status
    assert (await at.ask("GET", f"/v1/attachments/{made}", STRANGER)).status == 404


async def test_strangers_cannot_tell_a_file_from_none(at: Depot) -> None:
    """The same words, also for HEAD and for what can be no id."""
    made = await at.uploaded()
    there = await at.ask("GET", f"/v1/attachments/{made}", STRANGER)
    absent = await at.ask("GET", f"/v1/attachments/{MISSING}", STRANGER)
    odd = await at.ask("GET", "/v1/attachments/x", STRANGER)
    assert there.body["detail"] == absent.body["detail"] == odd.body["detail"]
    assert _code(there) == _code(absent) == _code(odd) == (404, "attachment.unknown")
    assert (await at.ask("HEAD", f"/v1/attachments/{made}", STRANGER)).status == 404


async def test_the_same_file_again_has_the_same_id(anywhere: Depot) -> None:
    """A submission can be repeated from its first step; the second object goes, and both uploads are in the journal."""
    first = await anywhere.uploaded()
    kept = [await anywhere.vault.older(shelf, 2e9) for shelf in range(256)]
    again = await anywhere.upload()
    assert (again.status, again.body["attachment"], again.headers["Location"]) == (201, first, f"{UPLOAD}/{first}")
    assert [await anywhere.vault.older(shelf, 2e9) for shelf in range(256)] == kept
    assert [each["attachment"] for each in await anywhere.entries("uploaded")] == [first, first]
    assert (await anywhere.ask("GET", f"{UPLOAD}/{first}")).raw == PDF


async def test_equal_uploads_at_the_same_moment_lose_nothing(at: Depot) -> None:
    """Whichever id each got, its bytes are there."""
    made = await asyncio.gather(*(at.uploaded() for _ in range(4)))
    got = [await at.ask("GET", f"{UPLOAD}/{each}") for each in made]
    assert [each.raw == PDF for each in got] == [True] * 4
    assert len(await at.rows("select id from attachments")) == len({name.rpartition("/")[0] for name in at.stored()})


async def test_two_who_bring_one_file_never_learn_of_each_other(at: Depot) -> None:
    """Two rows, two objects, two ids."""
    await at.change("update attachments set agency = 'justice' where id = $1", first := await at.uploaded())
    assert first != await at.uploaded()
    assert len({name.rpartition("/")[0] for name in at.stored()}) == 2


async def test_a_service_takes_only_what_the_sender_has(at: Depot) -> None:
    """Ids in the sender's order, with what envelopes say of them; others are unknown, whoever owns them."""
    first, second = await at.uploaded(), await at.uploaded(LARGE)
    shown = await at.attachments.accepted(depot.service(), SAENSUK, [second, first])
    assert [each.size for each in shown] == [len(LARGE), len(PDF)]
    for who, ids in ((INTERIOR, [first]), (SAENSUK, [first, MISSING])):
        with pytest.raises(Refusal, match="shows to your agency"):
            await at.attachments.accepted(depot.service(), who, ids)
    with pytest.raises(Refusal, match="100 at most"):
        await at.attachments.accepted(depot.smaller(max_bytes=100), SAENSUK, [first])
    assert await at.attachments.accepted(depot.smaller(types=("image/png",)), SAENSUK, []) == ()


async def test_a_recipient_may_pass_a_file_on(at: Depot) -> None:
    """Only an agency that uploaded or received a file may refer to it."""
    made = await at.uploaded()
    await at.send(made, "d", "interior", "registered", touched=True)
    (shown,) = await at.attachments.accepted(depot.service(), INTERIOR, [made])
    assert shown.id == made


async def test_nothing_is_given_out_that_is_not_written_down(at: Depot) -> None:
    """Without the journal no byte leaves."""
    made = await at.uploaded()
    at.valve.failing = True
    assert _code(await at.ask("GET", f"/v1/attachments/{made}")) == (503, "journal.unavailable")
    at.valve.failing = False


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_store_that_is_down_is_no_fault_of_the_gateway(tmp_path: Path, method: str) -> None:
    """503 attachment.unavailable with Retry-After; it works again when the store does."""
    async with bucket.opened() as made, depot.opened(tmp_path, place_of(f"s3://bucket?endpoint={made.url}", KEY)) as at:
        url = f"/v1/attachments/{await at.uploaded()}"
        made.down = True
        answer = await (at.upload() if method == "POST" else at.ask("GET", url))
        assert (*_code(answer), "Retry-After" in answer.headers) == (503, "attachment.unavailable", True)
        made.down = False
        assert (await at.ask("GET", url)).raw == PDF
        assert made.unsigned == 0


async def test_a_lost_object_is_told_as_unavailable(at: Depot) -> None:
    """Before anything was promised."""
    made = await at.uploaded()
    await at.vault.remove(name_of(made))
    assert _code(await at.ask("GET", f"/v1/attachments/{made}")) == (503, "attachment.unavailable")
    assert at.attachments.downloads.taken == {}


async def test_who_reads_nothing_loses_the_connection(at: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download takes its place no longer than its reader takes bytes."""
    monkeypatch.setattr(attachments, "PROGRESS_SECONDS", 0.02)
    raw = b"%PDF-1.7\n" + bytes(16 * 2**20)
    url = f"/v1/attachments/{await at.uploaded(raw)}"
    async with at.request("GET", url, SENDER) as answer:
        await until(lambda: not at.attachments.downloads.taken)
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


def test_places_are_named_without_secrets() -> None:
    """A folder or a bucket; whatever else is in the address is refused."""
    assert place_of("/var/lib/files") == Place(Path("/var/lib/files"))
    found = place_of("s3://files/town?region=th&endpoint=https://s3.example", KEY)
    assert (found.bucket, found.prefix) == ("files", "town")
    assert found.options == {"region": "th", "endpoint": "https://s3.example", **KEY}
    for wrong in (
        "s3://",
        "s3://a@b/c",
        "s3://a?key=x",
        "s3://a?endpoint=http://s3.example",
        "s3://a?endpoint=ftp://x",
    ):
        with pytest.raises(ValueError, match="must"):
            place_of(wrong)
