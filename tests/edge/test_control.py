"""The socket on which a gateway takes orders: whose it is, what it takes, and what it makes of everything else."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.edge.control import (
    LONGEST_PATH,
    MAX_AT_ONCE,
    MAX_LINE,
    MAX_TEXT,
    BadOrder,
    Order,
    Outcome,
    hand_over,
    hold_fields,
    taking,
)
from gateway.edge.store import StoreFailed


class Desk:
    """Takes orders and says what they were; waits with ``slow`` ones."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "gateway.sqlite3"
        self.path = folder / "gateway.sqlite3.control"
        self.seen: list[Order] = []
        self.go_on = asyncio.Event()

    async def done(self, order: Order) -> Outcome:
        self.seen.append(order)
        match order.kind:
            case "bad":
                raise BadOrder("that cannot be done")
            case "broken":
                raise LookupError("a value")
            case "slow":
                await self.go_on.wait()
        return Outcome(done=True, text=f"{order.kind} was done")

    async def said(self, line: bytes) -> bytes:
        """What is answered to whatever is sent."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(line)
        answer = await reader.readline()
        writer.close()
        return answer


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path)
    async with taking(made.database, made.done):
        yield made
    assert not made.path.exists()


async def test_an_order_arrives_as_it_was_given(desk: Desk) -> None:
    """Kind and fields go over, the outcome comes back."""
    order = Order("suspend", {"name": "finance.tax", "reason": "„ទូរស័ព្ទ”"})
    assert await hand_over(desk.database, order) == Outcome(done=True, text="suspend was done")
    assert desk.seen == [order]


async def test_the_socket_is_the_owners_alone(desk: Desk) -> None:
    """Nobody else can connect: mode 0600."""
    mode = desk.path.stat().st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)


async def test_what_cannot_be_done_is_told(desk: Desk) -> None:
    """A bad order in its own words; a mistake of the program without its words, which may quote values."""
    assert await hand_over(desk.database, Order("bad", {})) == Outcome(done=False, text="that cannot be done")
    broken = await hand_over(desk.database, Order("broken", {}))
    assert (broken.done, "a value" in broken.text) == (False, False)
    assert (await hand_over(desk.database, Order("next", {}))).done is True


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"suspend everything\n",
        b"[]\n",
        b'{"kind": "suspend"}\n',
        b'{"kind": 1, "fields": {}}\n',
        b'{"kind": "suspend", "fields": []}\n',
        b'{"kind": "suspend", "fields": {"name": 1}}\n',
        b'{"kind": "suspend", "fields": {}, "more": 1}\n',
        b'{"kind": "suspend", "fields": {}}\xff\n',
        b" " * MAX_LINE + b"{}\n",
    ],
)
async def test_what_is_no_order_is_refused(desk: Desk, line: bytes) -> None:
    """In a sentence, without doing anything."""
    assert (await desk.said(line)).startswith(b'{"done":false,"text":"an order ')
    assert desk.seen == []


@pytest.mark.parametrize(
    "reason",
    [
        "បាត់\u200bកុំព្យូទ័រ",  # Khmer puts a space of no width between words
        "คอมพิวเตอร์\u200bหาย",
        "a\u00a0b",
        "\u200ek\u200f",
        "x" * MAX_TEXT,
    ],
)
def test_every_script_has_its_reasons(reason: str) -> None:
    """What is written with signs that are not printable by themselves is a line all the same."""
    hold_fields({"reason": reason}, ["reason"])


@pytest.mark.parametrize(
    "between", ["\n", "\r", "\t", "\0", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\udcff", "\u202a", "\u202e"]
)
def test_a_reason_plays_no_tricks_on_a_terminal(between: str) -> None:
    """Control characters, ends of lines and turns of direction are refused, wherever they stand."""
    for reason in (
        f"a{between}b",
        f"{between}a",
        f"a{between}",
        "a\u2066b",
        "a\u2069b",
        " ",
        "\u200b",
        "x" * (MAX_TEXT + 1),
    ):
        with pytest.raises(BadOrder, match="reason must be one line of 1 to 500 characters"):
            hold_fields({"reason": reason}, ["reason"])


async def test_few_orders_are_taken_at_once(desk: Desk) -> None:
    """More are told to try again; those that were taken are carried out."""
    slow = [asyncio.ensure_future(hand_over(desk.database, Order("slow", {}))) for _ in range(MAX_AT_ONCE)]
    while len(desk.seen) < MAX_AT_ONCE:  # noqa: ASYNC110 - the tasks run in between
        await asyncio.sleep(0)
    assert "try again" in (await hand_over(desk.database, Order("one too many", {}))).text
    desk.go_on.set()
    assert {outcome.done for outcome in await asyncio.gather(*slow)} == {True}


async def test_a_stop_finishes_what_runs(tmp_path: Path) -> None:
    """An order that was taken is carried out and answered."""
    desk = Desk(tmp_path)
    async with taking(desk.database, desk.done):
        running = asyncio.ensure_future(hand_over(desk.database, Order("slow", {})))
        while not desk.seen:  # noqa: ASYNC110 - the task runs in between
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, desk.go_on.set)
    assert desk.go_on.is_set()
    assert (await running).done is True


async def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    """A stale socket does no harm; a file that is none stays, and stops the start."""
    desk = Desk(tmp_path)
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(desk.path))
    left.close()
    with pytest.raises(StoreFailed, match=r"in use by a process that takes no orders.*Try again"):
        await hand_over(desk.database, Order("next", {}))
    async with taking(desk.database, desk.done):
        assert (await hand_over(desk.database, Order("next", {}))).done is True
    desk.path.write_text("somebody's")
    with pytest.raises(StoreFailed, match="orders cannot be taken at"):
        async with taking(desk.database, desk.done):
            pass
    assert desk.path.read_text("utf-8") == "somebody's"


async def test_a_path_that_no_socket_can_have(tmp_path: Path) -> None:
    """A sentence says so, instead of the operating system's."""
    long = tmp_path / ("x" * (LONGEST_PATH + 1 - len(os.fsencode(tmp_path)) - len("/.control")))
    with pytest.raises(StoreFailed, match="longer than the 107 bytes that a socket's may have"):
        async with taking(long, Desk(tmp_path).done):
            pass
    async with taking(long.with_name(long.name[1:]), Desk(tmp_path).done):
        pass


async def test_a_gateway_that_breaks_off(tmp_path: Path) -> None:
    """Whoever gave the order learns that nobody knows."""

    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'{"done":')
        writer.close()

    database = tmp_path / "gateway.sqlite3"
    server = await asyncio.start_unix_server(hangs_up, f"{database}.control")
    with pytest.raises(StoreFailed, match="whether it was done is not known"):
        await hand_over(database, Order("next", {}))
    server.close()
