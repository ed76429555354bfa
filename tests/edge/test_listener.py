"""The door of the public listener: who finds room, how long one may take to ask and to read, what is no request."""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network

import orjson
import pytest

from gateway.edge import body, connection, doorkeeper
from gateway.edge.doorkeeper import Bounds, room
from gateway.edge.listener import bound
from tests.fakes.caller import MOST, Place, asked, listening

SOON = 0.2
FEW = Bounds(0.02, 8)


@pytest.fixture
async def place(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """A listener that is soon out of patience."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", SOON)
    monkeypatch.setattr(connection, "UNREAD_SECONDS", SOON)
    on = bound("127.0.0.1:0")
    on.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # what the kernel takes counts as sent
    async with listening(Bounds(0.02, 64), on) as place:
        yield place


# Room


async def test_one_address_has_a_quarter_of_the_connections() -> None:
    """A third connection of eight from one address is ended, and another address is served."""
    async with listening(FEW) as place:
        for _ in range(2):
            assert await (await place.connect()).ask() == 200
        assert await place.refused()
        assert await (await place.connect("127.0.0.2")).ask() == 200
        assert (place.seen, place.held[-1]) == ({"address": 1}, 3)


async def test_there_are_so_many_connections_and_no_more() -> None:
    """Four addresses take all four; the fifth finds no room until one leaves."""
    async with listening(Bounds(0.02, 4)) as place:
        for last in range(1, 5):
            assert await (await place.connect(f"127.0.0.{last}")).ask() == 200
        assert await place.refused("127.0.0.5")
        assert place.seen == {"full": 1}
        place.wires[0].writer.close()
        await place.until_held(3)
        assert await (await place.connect("127.0.0.5")).ask() == 200


async def test_a_proxy_speaks_for_many() -> None:
    """An address that is trusted may have all connections."""
    async with listening(Bounds(0.02, 4, trusted=(ip_network("127.0.0.0/24"),))) as place:
        assert [await (await place.connect()).ask() for _ in range(4)] == [200] * 4
        assert await place.refused()


async def test_a_place_is_given_back() -> None:
    """However a connection ends, another one may come: after an answer, a reset, no request, a broken one."""
    async with listening(FEW) as place:
        for said in (asked("/", "Connection: close"), asked("/large"), b"", b"no http\r\n\r\n") * 5:
            wire = await place.connect()
            wire.send(said)
            await wire.writer.drain()
            wire.writer.transport.abort()
            await place.until_held(0)
        assert not place.seen
        assert await (await place.connect()).ask() == 200


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("::1", "0.0.0.1", False),
    ],
)
def test_whose_an_address_is(one: str, other: str, *, same: bool) -> None:
    """IPv6 counts by 64 bits, which one subscriber has; IPv4 written as IPv6 is IPv4."""
    whose = [doorkeeper._counted(ip_address(each)) for each in (one, other)]
    assert (whose[0] == whose[1]) is same


async def test_without_descriptors_the_others_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the process may open no further file, a new connection waits, the loop does not spin, and it goes on."""
    monkeypatch.setattr(doorkeeper, "REST_SECONDS", 0.05)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with listening(Bounds(0.02, 64)) as place:
        early = await place.connect()
        assert await early.ask() == 200
        with socket.create_connection(("127.0.0.1", place.port)) as late:
            free = os.dup(late.fileno())
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
            try:
                assert await early.quiet(0.2)
                assert await early.ask() == 200
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert 1 <= place.seen["descriptors"] < 10
            await place.until_held(2)


def test_the_process_opens_as_many_files_as_it_may() -> None:
    """The soft limit is raised to the hard one; where that is too little, the sentence says what to do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    room(16, 16)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this machine sets no limit to open files")
    with pytest.raises(ValueError, match=r"GATEWAY_MAX_CONNECTIONS \d+ .*LimitNOFILE="):
        room(hard, 1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Time


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: g\r\nX: ", b"GET /\r\n"], ids=["none", "half", "0.9"])
async def test_a_head_must_come_in_time(place: Place, said: bytes) -> None:
    """Whoever connects and sends no whole head is hung up on."""
    wire = await place.connect()
    wire.send(said)
    assert await wire.closed()
    assert place.seen == {"head": 1}
    assert place.held[-1] == 0


async def test_a_head_in_drops_is_no_faster(place: Place) -> None:
    """A byte now and then does not begin the time anew; the second head on a connection has no more."""
    wire = await place.connect()
    assert await wire.ask() == 200
    wire.send(b"GET / HTTP/1.1\r\nX: ")
    drops = 0
    while await wire.quiet(SOON / 8):
        wire.send(b"a")
        drops += 1
        assert drops < 1000
    assert place.seen == {"head": 1}


async def test_an_idle_connection_stays(place: Place) -> None:
    """Between two requests nothing has to come."""
    wire = await place.connect()
    assert await wire.ask() == 200
    assert await wire.quiet(2 * SOON)
    assert await wire.ask() == 200


async def test_a_body_has_its_own_time(place: Place) -> None:
    """The head's time ends with the head."""
    wire = await place.connect()
    wire.send(asked("/read", "Content-Type: application/json", "Content-Length: 2", method="POST"))
    assert await wire.quiet(2 * SOON)
    wire.send(b"{}")
    assert (await wire.answer())[::2] == (200, b"{}")


@pytest.mark.parametrize("said", [asked("/large") * 40, asked("/some", "Connection: close")], ids=["many", "last"])
async def test_who_reads_nothing_is_hung_up_on(place: Place, said: bytes) -> None:
    """Requests in a row, or one that ends the connection, and never a look at the answer."""
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", place.port))
        deaf.sendall(said)
        await place.until_held(1)
        await place.until_held(0)
    assert place.seen == {"unread": 1}


async def test_who_reads_slowly_gets_everything(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes some of it in time is waited for, several times over."""
    monkeypatch.setattr(connection, "UNREAD_BYTES", 1)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        slow.connect(("127.0.0.1", place.port))
        slow.setblocking(False)
        slow.sendall(asked("/large", "Connection: close"))
        got, loop = 0, asyncio.get_running_loop()
        while piece := await loop.sock_recv(slow, 32_768):
            got += len(piece)
            await (await place.connect()).quiet(SOON / 16)
            place.wires.pop().writer.transport.abort()
    assert got > MOST
    assert not place.seen["unread"]


# What is no request

NONE = {
    "junk": b"MARKED-xx\r\n\r\n",
    "TLS": bytes.fromhex("16030100f8010000f40303") + b"MARKED" * 10,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3.0": b"GET /MARKED HTTP/3.0\r\nHost: g\r\n\r\n",
    "HTTP/0.9": b"GET /MARKED\r\n\r\n",
    "another method": b"MARKED / HTTP/1.1\r\nHost: g\r\n\r\n",
    "a proxy's": asked("http://marked.example/"),
    "a proxy's port": asked("http://MARKED:99999/"),
    "a tunnel": asked("marked.example:443", method="CONNECT"),
    "a star": asked("*", "X: MARKED", method="OPTIONS"),
    "no host": b"GET /MARKED HTTP/1.1\r\n\r\n",
    "bytes": "GET /MARKED\xe9 HTTP/1.1\r\nHost: g\r\n\r\n".encode("latin-1"),
    "line feeds": b"GET /MARKED HTTP/1.1\nHost: g\n\n",
    "a long target": asked(f"/MARKED{'a' * 9000}"),
    "a long header": asked("/", f"X: MARKED{'a' * 9000}"),
    "a long name": asked("/", f"MARKED{'a' * 9000}: x"),
    "many headers": asked("/", *["X: MARKED"] * 65),
    "ten thousand headers": asked("/", *[f"X: {'MARKED' * 9}"] * 10_000),
    "a wrong chunk": asked("/read", "Transfer-Encoding: chunked", method="POST") + b"MARKED\r\n",
    "trailers": asked("/read", "Transfer-Encoding: chunked", method="POST")
    + b"0\r\n"
    + b"X: MARKED\r\n" * 99
    + b"\r\n",
    "an expectation": asked("/", "Expect: MARKED"),
    "an expectation of a body": asked("/read", "Expect: MARKED", "Content-Length: 3", method="POST"),
}


@pytest.mark.parametrize("which", NONE)
async def test_what_is_no_request_is_a_problem(which: str) -> None:
    """400 as a problem document, nothing of what was sent in it, the connection closed, and not by a reset."""
    async with listening(FEW) as place:
        wire = await place.connect()
        wire.send(NONE[which] + asked("/large"))
        status, head, said = await wire.answer()
        assert await wire.rest() == b""
    assert (status, orjson.loads(said)["code"]) == (400, "request.malformed")
    assert b"\r\nContent-Type: application/problem+json\r\n" in head
    assert b"MARKED" not in (head + said).upper()
    assert b"aiohttp" not in head


@pytest.mark.parametrize(
    "said",
    [
        asked("/", *[f"X: {'MARKED' * 700}"] * 30)[:-2],
        b"POST /read HTTP/1.0\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["a long head in pieces", "chunks in HTTP/1.0"],
)
async def test_what_would_be_taken_by_others_is_not(said: bytes) -> None:
    """A head without an end is refused by its size; HTTP/1.0 has no chunks (RFC 9112, section 6.1)."""
    async with listening(FEW) as place:
        wire = await place.connect()
        wire.send(said)
        status, _, document = await wire.answer()
        assert await wire.rest() == b""
    assert (status, orjson.loads(document)["code"]) == (400, "request.malformed")


async def test_who_goes_on_sending_nonsense_can_read_why() -> None:
    """The answer is not overtaken by a reset, and of what follows little is taken in."""
    taken = 0
    async with listening(FEW) as place:
        wire = await place.connect()
        wire.writer.transport.set_write_buffer_limits(0)
        wire.send(b"no http\r\n\r\n" + bytes(8 << 20))
        status, _, _ = await wire.answer()
        with contextlib.suppress(ConnectionError):
            while taken < 1 << 30:
                wire.send(bytes(65_536))
                await wire.writer.drain()
                taken += 65_536
    assert (status, taken < 1 << 26) == (400, True)


async def test_a_404_of_the_library_is_one_too() -> None:
    """An address that the application does not know."""
    async with listening(FEW) as place:
        wire = await place.connect()
        wire.send(asked("/MARKED%0a"))
        status, _, said = await wire.answer()
    assert (status, orjson.loads(said)["code"]) == (404, "catalogue.unknown")
    assert b"MARKED" not in said


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
async def test_an_upgrade_is_not_taken(upgrade: str) -> None:
    """The answer is that of HTTP/1.1, and what follows is read by nobody."""
    async with listening(FEW) as place:
        wire = await place.connect()
        wire.send(asked("/", "Connection: Upgrade", f"Upgrade: {upgrade}") + asked("/large"))
        status, head, _ = await wire.answer()
        assert (status, b"\r\nConnection: close" in head) == (200, True)
        assert await wire.closed()


async def test_what_comes_before_nonsense_is_answered() -> None:
    """A request that runs is answered, then the nonsense behind it, and that is the end."""
    async with listening(FEW) as place:
        wire = await place.connect()
        wire.send(asked("/wait"))
        await wire.writer.drain()
        await place.until_running()
        wire.send(b"no http\r\n\r\n")
        assert await wire.quiet(0.05)
        place.go_on.set()
        assert [(await wire.answer())[0] for _ in range(2)] == [200, 400]
        assert await wire.rest() == b""


@pytest.mark.parametrize("piece", [b"ZZ\r\n", b"2\r\nabc\r\n", b"-1\r\n\r\n"])
async def test_a_body_that_breaks_is_answered_at_once(piece: bytes) -> None:
    """Nobody waits out the body's time for chunks that are wrong."""
    async with listening(FEW) as place:
        wire = await place.connect()
        wire.send(asked("/read", "Content-Type: application/json", "Transfer-Encoding: chunked", method="POST"))
        await place.until_running()
        wire.send(b"2\r\n{}\r\n")
        begun = asyncio.get_running_loop().time()
        wire.send(piece)
        status, _, said = await wire.answer()
        assert (status, orjson.loads(said)["code"]) == (400, "request.malformed")
        assert asyncio.get_running_loop().time() - begun < body.SECONDS / 2


async def test_a_mistake_of_the_program_is_a_problem() -> None:
    """500 in the house's form where nobody caught it."""
    async with listening(FEW) as place:
        wire = await place.connect()
        wire.send(asked("/shown"))  # there is no TLS here
        status, _, said = await wire.answer()
    assert (status, orjson.loads(said)["code"]) == (500, "gateway.broken")
