"""The end of a listener: every request that was written is answered, and nobody holds it up."""

import asyncio
import socket

import pytest

from gateway.edge import listener
from gateway.edge.doorkeeper import Bounds
from gateway.edge.listener import bound
from tests.fakes.caller import Place, asked, listening

PATIENT = Bounds(20.0, 64, shares=1, last_call=0.3)
CLOSES = b"\r\nConnection: close"


async def asks_on(place: Place, answers: list[int]) -> None:
    """Request after request on one connection, and another connection after the last answer of one."""
    while True:
        try:
            wire = await place.connect()
        except ConnectionRefusedError:
            return
        head = b""
        while CLOSES not in head:
            wire.send(asked())
            status, head, _ = await wire.answer()  # an empty answer or a reset raises
            answers.append(status)


async def test_every_request_that_was_written_is_answered() -> None:
    """Sixteen callers ask without a pause through a stop: no reset, no empty answer, and then no connection."""
    answers: list[int] = []
    async with listening(PATIENT) as place:
        callers = [asyncio.create_task(asks_on(place, answers)) for _ in range(16)]
        await place.until(lambda: len(answers) > 500)
        await place.listener.close()
        await asyncio.gather(*callers)
    assert set(answers) == {200}


@pytest.mark.parametrize("before", [[], [b""]], ids=["asked before", "never asked"])
async def test_who_waits_may_ask_once_more(before: list[bytes]) -> None:
    """An idle connection, or one that has not said a word, brings a request after the stop began."""
    async with listening(PATIENT) as place:
        wire = await place.connect()
        if not before:
            assert await wire.ask() == 200
        await place.until_held(1)
        stop = asyncio.create_task(place.listener.close())
        await asyncio.sleep(0)
        wire.send(asked())
        status, head, _ = await wire.answer()
        assert (status, CLOSES in head) == (200, True)
        assert await wire.rest() == b""
        await stop


async def test_what_waits_in_the_kernel_is_answered() -> None:
    """A connection that nobody accepted when the stop began belongs to it."""
    async with listening(PATIENT) as place:
        with socket.create_connection(("127.0.0.1", place.port)) as early:  # the loop has not turned since
            early.sendall(asked())
            await place.listener.close()
            early.settimeout(5)
            answer = early.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 200")
    assert CLOSES in answer


async def test_requests_in_a_row_are_all_answered() -> None:
    """Only the last answer says that it is the last."""
    async with listening(PATIENT) as place:
        wire = await place.connect()
        wire.send(asked("/wait") * 3)
        await place.until_running()
        stop = asyncio.create_task(place.listener.close())
        await asyncio.sleep(0)
        place.go_on.set()
        heads = [(await wire.answer())[1] for _ in range(3)]
        assert [CLOSES in head for head in heads] == [False, False, True]
        await stop


async def test_what_runs_gets_its_time() -> None:
    """Longer than the others may wait; its answer says that it is the last."""
    async with listening(PATIENT) as place:
        idle, busy = await place.connect(), await place.connect()
        busy.send(asked("/wait"))
        await place.until_running()
        stop = asyncio.create_task(place.listener.close())
        assert await idle.closed()
        assert not stop.done()
        place.go_on.set()
        status, head, _ = await busy.answer()
        assert (status, CLOSES in head) == (200, True)
        await stop


async def test_a_half_request_is_waited_for() -> None:
    """What has begun to come is no idle connection."""
    async with listening(PATIENT) as place:
        idle, half = await place.connect(), await place.connect()
        half.send(asked()[:20])
        await place.until_held(2)
        assert await half.quiet(0.05)
        stop = asyncio.create_task(place.listener.close())
        assert await idle.closed()
        half.send(asked()[20:])
        assert (await half.answer())[0] == 200
        await stop


@pytest.mark.parametrize("said", [asked("/wait"), asked("/large") * 50, b"GET"], ids=["runs", "unread", "half"])
async def test_a_stop_comes_to_its_end(said: bytes) -> None:
    """Whatever callers do, it takes no longer than it may, and no connection is left."""
    loop = asyncio.get_running_loop()
    async with listening(Bounds(0.2, 64, shares=1)) as place:
        with socket.create_connection(("127.0.0.1", place.port)) as deaf:
            deaf.sendall(said)
            await place.until_held(1)
            await (await place.connect()).quiet(0.05)
            begun = loop.time()
            await place.listener.close()
            assert loop.time() - begun < 0.2 + listener.HANG_UP_SECONDS
            assert place.held[-1] == 0


async def test_a_stop_without_connections_takes_no_time() -> None:
    """Nobody is waited for who is not there."""
    loop = asyncio.get_running_loop()
    async with listening(PATIENT) as place:
        begun = loop.time()
        await place.listener.close()
        assert loop.time() - begun < 5  # of twenty seconds that callers would have
        with pytest.raises(ConnectionRefusedError):
            await place.connect()


async def test_another_process_goes_on_with_the_socket() -> None:
    """Of two listeners on one socket, one stops: it lets go of it and no more."""
    on = bound("127.0.0.1:0")
    async with listening(PATIENT, on.dup()) as one, listening(PATIENT, on) as other:
        await one.listener.close()
        assert [await (await other.connect()).ask() for _ in range(20)] == [200] * 20
        assert one.held[-1:] in ([], [0])
