"""Hosts with several addresses, some of which lead nowhere."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gateway.core.reach import Reach
from gateway.edge.dialing import Barred, mixed, permitted, raced

Info = tuple[int, int, int, str, tuple[str, int]]


def info(server: socket.socket) -> Info:
    return (socket.AF_INET, socket.SOCK_STREAM, 0, "", server.getsockname())


@pytest.fixture
def alive() -> Iterator[Info]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield info(server)


@pytest.fixture
def refusing() -> Iterator[Info]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield info(held)


@pytest.fixture
def silent() -> Iterator[Info]:
    """Where connecting neither succeeds nor fails: its queue is full."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield info(server)


async def test_one_address(alive: Info, refusing: Info) -> None:
    """It is connected to, or its error is told."""
    with await raced([alive]) as connected:
        assert connected.getpeername() == alive[4]
    with pytest.raises(ConnectionRefusedError):
        await raced([refusing])


async def test_an_address_that_refuses(alive: Info, refusing: Info) -> None:
    """The next one is tried at once; where all refuse, that is the error."""
    with await raced([refusing, alive]) as connected:
        assert connected.getpeername() == alive[4]
    with pytest.raises(ConnectionRefusedError):
        await raced([refusing, refusing])


@pytest.mark.parametrize("turned", [False, True])
async def test_an_address_that_is_silent(alive: Info, silent: Info, turned: bool) -> None:  # noqa: FBT001
    """It does not keep the others from being tried, and nothing is left open."""
    async with asyncio.timeout(20):
        with await raced([alive, silent] if turned else [silent, alive]) as connected:
            assert connected.getpeername() == alive[4]


async def test_giving_up(silent: Info) -> None:
    """Who runs out of time leaves nothing behind."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await raced([silent, silent])


def test_families_take_turns() -> None:
    """A family that leads nowhere costs one attempt before the other one is tried."""
    six, four = ((family, 1, 6, "", ("", 0)) for family in (socket.AF_INET6, socket.AF_INET))
    assert mixed([six, six, six, four]) == [six, four, six, six]
    assert mixed([four]) == [four]


def test_only_what_is_permitted_is_left() -> None:
    """Of a name with several addresses those that may be dialled; where there is none, it is told why."""
    good, local = ((socket.AF_INET, socket.SOCK_STREAM, 6, "", (at, 80)) for at in ("10.0.0.7", "127.0.0.1"))
    assert permitted([local, good], Reach()) == [good]
    assert permitted([local, good], Reach(loopback=True)) == [local, good]
    with pytest.raises(Barred, match="loopback"):
        permitted([local], Reach())
