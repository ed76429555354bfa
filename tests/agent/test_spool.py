"""Files are fetched before the hand-over: resumed, checked, kept for a time, bounded."""

import asyncio
import resource
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.agent.spool import Bounds, Spool
from gateway.agent.upstream import Gateway
from gateway.client import Pace
from gateway.core.delivery import Reason
from gateway.protocols.handover import NotTaken
from tests.fakes.gateway_double import Watch, page, refusal
from tests.fakes.upstream_double import UpstreamDouble, client, digest, doubled

ID = "01a2018d-199f-744a-a9f7-79005e4d0f41"
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 400
BOUNDS = Bounds(hours=3, max_bytes=2**30)


@dataclass(slots=True)
class Store:
    """A spool, and the gateway that it fetches from."""

    double: UpstreamDouble
    gateway: Gateway
    folder: Path
    spool: Spool
    unfinished: set[str]

    def bounded(self, **changes: Any) -> Spool:
        """Another one on the same folder."""
        return made(self.folder, self.gateway, self.unfinished, replace(BOUNDS, **changes))


def made(folder: Path, gateway: Gateway, unfinished: set[str], bounds: Bounds = BOUNDS) -> Spool:
    async def finished(document: str) -> bool:
        return document not in unfinished

    return Spool(folder, gateway, bounds, finished)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """With one file at the gateway."""
    double, private = doubled()
    double.files["f1"] = PDF
    watch = Watch()
    async with double:
        gateway = Gateway(client(double, private, watch.pace(attempts=2)), "treasury")
        unfinished: set[str] = set()
        yield Store(double, gateway, tmp_path, made(tmp_path, gateway, unfinished), unfinished)
        await gateway.aclose()


def entry(name: str = "f1", held: bytes = PDF) -> dict[str, object]:
    return {"attachment": name, "digest": digest(held), "size": len(held), "media_type": "application/pdf"}


async def test_a_file_lies_where_the_envelope_says(store: Store) -> None:
    """It is fetched once, however often the document is handed over; what else was said of it stays."""
    (told,) = await store.spool.fetched(ID, [entry()])
    again = await store.spool.fetched(ID, [entry()])
    assert told == {**entry(), "path": str(store.folder / ID / "f1")}
    assert read(told) == PDF
    assert (list(again), len(store.double.ranges)) == ([told], 1)


async def test_what_broke_off_goes_on(store: Store) -> None:
    """Also after the agent was killed: what is there is not fetched again."""
    store.double.cut_after.append(30_000)
    store.gateway._client._line.pace = Pace(attempts=1)
    with pytest.raises(NotTaken) as wrong:
        await store.spool.fetched(ID, [entry()])
    assert (wrong.value.sent, wrong.value.whole, wrong.value.reason) == (False, True, None)
    (told,) = await store.bounded().fetched(ID, [entry()])
    assert read(told) == PDF
    assert store.double.ranges == [None, "bytes=30000-"]


def read(told: Mapping[str, object]) -> bytes:
    """The file that an entry names."""
    return Path(str(told["path"])).read_bytes()


async def test_another_file_is_never_handed_over(store: Store) -> None:
    """Whatever lies at the gateway under the id: the document's receipt names the digest."""
    store.double.files["f1"] = b"another one"
    with pytest.raises(NotTaken) as wrong:
        await store.spool.fetched(ID, [entry()])
    assert (wrong.value.sent, wrong.value.reason) == (False, None)
    assert not (store.folder / ID / "f1").exists()


async def test_a_file_that_was_purged_is_a_refusal(store: Store) -> None:
    """With a code that the sender gets."""
    with pytest.raises(NotTaken) as wrong:
        await store.spool.fetched(ID, [entry("f2")])
    assert (wrong.value.sent, wrong.value.whole, wrong.value.reason) == (False, False, Reason.INCOMPLETE)


async def test_a_gateway_that_is_away_pauses(store: Store) -> None:
    """The document keeps; nothing of it was handed over."""
    store.double.faults.extend([page(502)] * 3)
    with pytest.raises(NotTaken) as wrong:
        await store.spool.fetched(ID, [entry()])
    assert (wrong.value.sent, wrong.value.whole, wrong.value.reason) == (False, True, None)


async def test_what_may_lie_there_is_bounded(store: Store) -> None:
    """A file that has no room is not fetched; when others are gone, it is."""
    spool = store.bounded(max_bytes=len(PDF) + 10)
    await spool.fetched(ID, [entry()])
    other = ID.replace("01a2", "01a3")
    store.double.files["f3"] = PDF
    with pytest.raises(NotTaken, match="as many bytes"):
        await spool.fetched(other, [entry("f3")])
    (store.folder / ID / "f1").unlink()
    await spool.fetched(other, [entry("f3")])


async def test_two_documents_do_not_stop_each_other(store: Store) -> None:
    """Room is asked for once, for all files of a document: who gets none holds none."""
    other = ID.replace("01a2", "01a3")
    store.unfinished |= {ID, other}
    store.double.files |= dict.fromkeys(("f2", "f3", "f4"), PDF)
    spool = store.bounded(max_bytes=2 * len(PDF))
    asked = {ID: [entry("f1"), entry("f2")], other: [entry("f3"), entry("f4")]}
    first, waits = await divided(spool, asked)
    assert [each.name for each in (store.folder / waits).iterdir()] == []
    store.unfinished.discard(first)
    for _ in range(BOUNDS.hours + 1):
        await spool.sweep()
    assert len(await spool.fetched(waits, asked[waits])) == 2


async def divided(spool: Spool, asked: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """Of two that ask at the same time: the one that has its files, and the one that has to wait."""
    ended = await asyncio.gather(*(spool.fetched(each, files) for each, files in asked.items()), return_exceptions=True)
    found = {type(each): document for each, document in zip(ended, asked, strict=True)}
    return [found[list], found[NotTaken]]


async def test_what_never_fits_stops_nobody_else(store: Store) -> None:
    """Nothing of it is fetched, so that the room is there for others; it wears out its tries; people are told why."""
    other = ID.replace("01a2", "01a3")
    store.double.files |= dict.fromkeys(("f2", "f3", "f4"), PDF)
    store.double.listed = {"f1": digest(PDF)}
    spool = store.bounded(max_bytes=2 * len(PDF))
    for _ in range(2):
        with pytest.raises(NotTaken, match=f"{3 * len(PDF)} bytes together") as wrong:
            await spool.fetched(ID, [entry(), entry("f2"), entry("f3")])
        assert (wrong.value.sent, wrong.value.whole, store.double.ranges) == (False, False, [])
    assert len(await spool.fetched(other, [entry("f4")])) == 1


async def test_a_size_that_somebody_forged_rejects_nothing(store: Store) -> None:
    """The gateway says how large the files are; where it cannot be asked, the document waits (A8)."""
    spool, forged = store.bounded(max_bytes=len(PDF)), [{**entry(), "size": 2**31}]
    store.double.faults.extend([page(502)] * 2)
    with pytest.raises(NotTaken) as wrong:
        await spool.fetched(ID, forged)
    assert (wrong.value.whole, wrong.value.reason) == (True, None)
    store.double.listed = {"f1": digest(PDF)}
    (told,) = await spool.fetched(ID, forged)
    assert read(told) == PDF


@pytest.mark.parametrize("said", [0, 1, None])
async def test_sizes_that_are_said_too_small_bring_no_deadlock(store: Store, said: int | None) -> None:
    """Room is asked for by the gateway's own word: of two that do not fit together one is whole, one holds nothing."""
    other = ID.replace("01a2", "01a3")
    names = {ID: ("f1", "f2"), other: ("f3", "f4")}
    store.double.files |= {each: PDF + each.encode() for pair in names.values() for each in pair}
    store.double.listed = {name: digest(whole) for name, whole in store.double.files.items()}
    asked = {
        each: [{**entry(name, store.double.files[name]), "size": said} for name in pair] for each, pair in names.items()
    }
    spool = store.bounded(max_bytes=5 * len(PDF) // 2)
    _, waits = await divided(spool, asked)
    assert [each.name for each in (store.folder / waits).iterdir()] == []


async def test_what_is_too_large_and_gone_is_a_refusal(store: Store) -> None:
    """As what is smaller and gone: the gateway knows the document no more, or has emptied it (A8: it was asked)."""
    spool = store.bounded(max_bytes=len(PDF) - 1)
    for fault in ([refusal(404, "document.unknown")], []):
        store.double.faults.extend(fault)
        with pytest.raises(NotTaken) as wrong:
            await spool.fetched(ID, [entry()])
        assert (wrong.value.whole, wrong.value.reason) == (False, Reason.INCOMPLETE)
    store.double.kind = "event"  # the gateway names its files to its publisher alone: that says nothing of them
    with pytest.raises(NotTaken) as wrong:
        await spool.fetched(ID, [entry()])
    assert (wrong.value.whole, wrong.value.reason) == (True, None)


async def test_what_lies_there_needs_no_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is handed over though agent.yaml allows less by now, or the disk is full: nothing else makes room."""
    other = ID.replace("01a2", "01a3")
    store.unfinished |= {ID, other}
    store.double.files["f2"] = PDF + b"2"
    store.double.listed = {"f2": digest(PDF + b"2")}
    files = {ID: [entry()], other: [entry("forged", PDF + b"2")]}
    for each, asked in files.items():
        await store.spool.fetched(each, asked)
    fetched, less = len(store.double.ranges), store.bounded(max_bytes=len(PDF) + 10)
    for each, asked in files.items():
        assert len(await less.fetched(each, asked)) == 1
    monkeypatch.setattr("gateway.agent.spool.SPARE_BYTES", 2**62)
    for each, asked in files.items():
        assert len(await store.spool.fetched(each, asked)) == 1
    store.double.faults.extend([page(502)] * 2)
    assert len(await store.bounded().fetched(ID, files[ID])) == 1
    assert (len(store.double.ranges), len(store.double.faults)) == (fetched, 2)
    with pytest.raises(NotTaken):
        await store.spool.fetched(ID.replace("01a2", "01a4"), [entry()])


@pytest.mark.parametrize("name", ["../f1", "", "a/b", "x" * 65])
async def test_an_id_that_is_a_path_is_none(store: Store, name: str) -> None:
    """Nothing is written outside of the folder."""
    with pytest.raises(NotTaken):
        await store.spool.fetched(ID, [entry(name)])
    with pytest.raises(ValueError, match="hexadecimal"):
        await store.spool.fetched("../" + ID, [entry()])


@pytest.mark.parametrize("forged", ["f2", "../f1", "gone"])
async def test_an_id_that_somebody_changed_rejects_nothing(store: Store, forged: str) -> None:
    """The digest is what the gateway signed: it is asked under which id the file with that digest lies (A8)."""
    store.double.files["f2"] = b"another one"
    store.double.listed = {"f1": digest(PDF)}
    (told,) = await store.spool.fetched(ID, [entry(forged)])
    assert (told["attachment"], read(told)) == ("f1", PDF)


async def test_a_file_under_anothers_id_is_not_taken_for_it(store: Store) -> None:
    """Also where it lies there already, fetched for the same document, by this process or the one before."""
    store.double.files["f2"] = b"two"
    store.double.listed = {"f1": digest(PDF), "f2": digest(b"two")}
    await store.spool.fetched(ID, [entry(), entry("f2", b"two")])
    swapped = [entry("f2"), entry("f1", b"two")]
    for spool in (store.spool, store.bounded()):
        assert [read(each) for each in await spool.fetched(ID, swapped)] == [PDF, b"two"]


async def test_a_gateway_that_names_another_id_each_time_is_asked_once(store: Store) -> None:
    """The id that it names is tried once: what it says of the next one counts."""
    asked: list[str] = []

    async def files(document: str) -> Mapping[str, Mapping[str, Any]]:
        asked.append(document)
        assert len(asked) < 5, "it is asked again and again"
        return {digest(PDF): {"attachment": f"g{len(asked)}"}}

    store.gateway.files = files  # type: ignore[method-assign] # a hostile one
    with pytest.raises(NotTaken):
        await store.spool.fetched(ID, [entry("f2")])
    assert asked == [ID]


@pytest.mark.parametrize("said", [len(PDF), 1, 0, None, 10**9])
async def test_a_file_that_is_larger_than_what_may_lie_there_is_not_fetched(store: Store, said: int | None) -> None:
    """Whatever an event's envelope says of its size, which nobody signed: the file's own word of it is the bound."""
    store.double.kind = "event"
    spool = store.bounded(max_bytes=len(PDF) - 1)
    with pytest.raises(NotTaken) as wrong:
        await spool.fetched(ID, [{**entry(), "size": said}])
    assert (wrong.value.whole, wrong.value.reason, store.double.ranges) == (True, None, [])


async def test_no_more_of_a_file_is_kept_than_was_announced(store: Store) -> None:
    """A body that goes on is broken off."""

    async def endless(request: web.Request) -> web.StreamResponse:
        headers = {"Repr-Digest": digest(PDF)}
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": "1000"})
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"x" * 300)
        return response

    store.double.faults.extend([refusal(404, "document.unknown"), endless, endless])
    with pytest.raises(NotTaken, match="announced"):
        await store.spool.fetched(ID, [entry()])
    assert sum(each.stat().st_size for each in store.folder.rglob("f1*")) <= 1000


async def test_files_go_when_their_time_is_over(store: Store) -> None:
    """Counted in hours that the agent ran, from the outcome on; no clock is asked."""
    store.unfinished.add(ID)
    await store.spool.fetched(ID, [entry()])
    for _ in range(10):
        await store.spool.sweep()
    assert (store.folder / ID / "f1").exists()
    store.unfinished.clear()
    await store.spool.forgotten(ID)
    for _ in range(BOUNDS.hours):
        await store.spool.sweep()
        assert (store.folder / ID / "f1").exists()
    await store.spool.sweep()
    assert not (store.folder / ID).exists()


async def test_one_folder_that_cannot_be_removed_keeps_no_other(store: Store) -> None:
    """The others grow old all the same; what is no document's stays, whatever its age."""
    await store.spool.fetched(ID, [entry()])
    (store.folder / "lost+found").mkdir()
    (store.folder / ID.replace("01a2", "0000") / ".age").mkdir(parents=True)
    for _ in range(BOUNDS.hours + 1):
        await store.spool.sweep()
    assert not (store.folder / ID).exists()
    assert (store.folder / "lost+found").exists()


async def test_files_are_for_the_agents_user_alone(store: Store) -> None:
    """Every folder that is made for them, whatever the mask says."""
    spool = made(store.folder / "attachments", store.gateway, set())
    (told,) = await spool.fetched(ID, [entry()])
    places = Path(str(told["path"])).parents[:2]
    assert [each.stat().st_mode & 0o777 for each in places] == [0o700, 0o700]


async def test_files_of_an_agent_that_was_killed_go_too(store: Store) -> None:
    """The next agent finds them by itself, where nobody had said that the outcome is written."""
    await store.spool.fetched(ID, [entry()])
    for _ in range(BOUNDS.hours + 1):
        await store.bounded().sweep()
    assert not (store.folder / ID).exists()


async def test_a_large_file_is_not_held_in_memory(store: Store) -> None:
    """64 MiB go through; the process grows by far less."""
    whole = b"%PDF-1.7\n" + bytes(2**26)
    store.double.files["f4"] = whole
    said = entry("f4", whole)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await store.spool.fetched(ID, [said])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000  # KiB
