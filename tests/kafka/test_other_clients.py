"""Reading a topic without the gateway's code: kcat, and the register of deploy/kafka/consumers, as agencies run it."""

import asyncio
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from pathlib import Path

import jwt
import orjson
import pytest

from tests.fakes import idp
from tests.fakes.brokers import Brokers
from tests.fakes.correspondents import ALERT, ALERTS, FLOOD, REGISTER, SILA
from tests.fakes.handovers import comes_to, sent, shown
from tests.fakes.kafka_python import Record, write
from tests.fakes.streams import StreamTown, stream, streaming, streams

CONSUMERS = Path(__file__).parents[2] / "deploy" / "kafka" / "consumers"
PATIENCE = 60.0
QUICK = ("session.timeout.ms=2000", "heartbeat.interval.ms=500")
"""So that a member that was killed is missed at once."""


@pytest.fixture
async def town(kafka: Brokers, tmp_path: Path) -> AsyncIterator[StreamTown]:
    async with streaming(tmp_path, kafka, streams(stream("interior"), stream("sila"))) as town:
        yield town


class Running:
    """The register of an agency, in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, book: Path) -> None:
        self._process = process
        self._book = book
        self.lines: list[str] = []

    async def says(self, *words: str) -> str:
        """The next line that has these words."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while line := (await self._process.stdout.readline()).decode():
                self.lines.append(line)
                if all(word in line for word in words):
                    return line
        raise AssertionError(f"it ended without {words}: {self.lines}")

    def numbered(self) -> list[tuple[int, str]]:
        """What stands in the book."""
        found: list[tuple[int, str]] = []
        with closing(sqlite3.connect(self._book)) as book, suppress(sqlite3.OperationalError):  # it has not begun yet
            found += book.execute("select number, document from book order by number")
        return found

    async def end(self, how: signal.Signals) -> int:
        """Stop it."""
        self._process.send_signal(how)
        return await asyncio.wait_for(self._process.wait(), PATIENCE)


@asynccontextmanager
async def register(town: StreamTown, system: str = REGISTER) -> AsyncIterator[Running]:
    """As an agency starts it."""
    agency, key = system.partition(".")[0], town.keys[system]
    private, book = town.folder / f"{system}.jwk", town.folder / f"{agency}.sqlite3"
    private.write_bytes(orjson.dumps({**key.private, "kid": key.thumbprint}))
    given = {"instance": town.instance, "agency": agency, "kafka": town.brokers.bootstrap, "gateway": town.at.public}
    given |= {"system": system, "key": str(private), "book": str(book)}
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(CONSUMERS / "register.py"), *words),
        *(word for option in QUICK for word in ("--option", option)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Running(process, book)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_kcat_shows_what_lies_there(town: StreamTown) -> None:
    """Key, headers and body of each record, and then it ends; a Debian package is all that it takes."""
    if shutil.which("kcat") is None:
        missing = "kcat is not there (Debian: apt-get install kcat)."
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    ids = [await sent(town, case) for case in "AB"]
    lying = await town.lies(2)
    command = (CONSUMERS / "show.sh", town.brokers.bootstrap, town.topic("interior"))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    printed, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 0
    assert all(f"ce_id={each}," in printed.decode() for each in ids)
    assert all((each.key or b"") in printed and (each.value or b"") in printed for each in lying)


async def test_a_register_without_our_code(town: StreamTown) -> None:
    """What comes gets a number, which its sender learns; also of a letter to several, and of a part of an event."""
    both = await town.send(to="/documents", exchange_to="interior, sila")
    alert = await town.send(FLOOD, to="/events", service=ALERT, system=ALERTS)
    letter = await sent(town)
    async with register(town) as interior, register(town, SILA) as sila:
        await interior.says(letter, "new", "registered")
        await sila.says("new", "registered")
        await sila.says("new", "registered")  # of two partitions: neither comes before the other
        found = await comes_to(town, letter, "registered")
        assert (int(found["number"].removeprefix("R-")), letter) in interior.numbered()
        assert (await interior.end(signal.SIGTERM), await sila.end(signal.SIGTERM)) == (0, 0)
        assert {document for _, document in sila.numbered()} == {both.body["document"], alert.body["document"]}


async def test_what_comes_again_gets_no_second_number(town: StreamTown) -> None:
    """Nor is another outcome told: the gateway answers with the same receipt."""
    letter = await sent(town)
    (record,) = await town.lies(1)
    for _ in range(2):
        await write(town.brokers.bootstrap, town.topic("interior"), record)
    async with register(town) as running:
        await running.says(letter, "new", "registered")
        for _ in range(2):
            await running.says("R-1", letter, "known", "registered")
        assert running.numbered() == [(1, letter)]


async def test_killed_it_goes_on_where_it_was(town: StreamTown) -> None:
    """At whatever moment after the line in its book: the same number, told to the sender, and none twice."""
    ids = [await sent(town, case) for case in "ABCDE"]
    async with register(town) as running:
        async with asyncio.timeout(PATIENCE):
            while not running.numbered():  # noqa: ASYNC110 - it is another process: nobody here sets an event
                await asyncio.sleep(0)
        await running.end(signal.SIGKILL)
        before = running.numbered()
    async with register(town) as running:
        for letter in ids:
            await comes_to(town, letter, "registered", seconds=PATIENCE)
        booked = running.numbered()
        assert (booked[: len(before)], sorted(document for _, document in booked)) == (before, sorted(ids))
        assert {(await shown(town, letter))["number"] for letter in ids} == {f"R-{number}" for number, _ in booked}


def without(record: Record, *names: str, **other: bytes) -> Record:
    """The record with other headers."""
    kept = [(name, other.get(name, value)) for name, value in record.headers if name not in names]
    return replace(record, headers=tuple(kept))


def signed(record: Record, **header: str) -> Record:
    """With the word of somebody else, who gives himself the name of the gateway's key."""
    names = {"typ": "exchange-receipt+jwt", "kid": jwt.get_unverified_header(record.said("receipt"))["kid"], **header}
    return without(record, receipt=idp.key().sign({"document": record.said("ce_id")}, **names).encode())


FORGED: dict[str, Callable[[Record], Record]] = {
    "it is not what was signed": lambda record: replace(record, value=(record.value or b"") + b" "),
    "its signature is not the gateway's": signed,
    "it is signed by a key that the gateway does not publish": lambda record: signed(record, kid="none"),
    "what is signed in it is no receipt": lambda record: signed(record, typ="at+jwt"),
    "nothing says that it is for this agency": lambda record: without(record, "receipt"),
    "it has no value, or a header twice": lambda record: replace(record, headers=record.headers * 2),
}


async def test_what_the_gateway_did_not_sign_is_set_aside(town: StreamTown) -> None:
    """Whoever gets a record into the topic enters nothing and ends nothing: the real document comes all the same."""
    letter, other = await sent(town), await sent(town, agency="sila")
    (record,), (foreign,) = await town.lies(1), await town.lies(1, "sila")
    for forge in FORGED.values():
        await write(town.brokers.bootstrap, town.topic("interior"), forge(record))
    await write(town.brokers.bootstrap, town.topic("interior"), replace(foreign, partition=record.partition))
    async with register(town) as running:
        await running.says(letter, "new", "registered")
        for why in FORGED:
            await running.says("set aside", f"partition {record.partition}", why)
        await running.says("set aside", "it is for another agency")
        assert running.numbered() == [(1, letter)]
    assert (await shown(town, other))["state"] == "arrived"
