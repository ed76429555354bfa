"""How the HTTP client keeps, shares, waits for and gives up connections: against real sockets."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme

from gateway.edge.outbound import CONNECTIONS, HttpOutbound
from gateway.protocols.protocol import Cut, Manner, Reply, Unsent
from tests.fakes import systems
from tests.fakes.systems import OK, System, hostile

HUGE = b"x" * 16 * 1024 * 1024
"""More than the sockets on both sides hold back."""


@pytest.fixture
async def outbound() -> AsyncIterator[HttpOutbound]:
    async with HttpOutbound() as opened:
        yield opened


async def say(
    outbound: HttpOutbound, system: System, body: bytes = b"{}", seconds: float = 5.0, tls: ssl.SSLContext | None = None
) -> Reply:
    return await outbound.send(
        "POST", system.url, headers={}, body=body, seconds=seconds, max_bytes=1000, manner=Manner(tls)
    )


def certified(name: str = "localhost") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's side, and a client's that trusts its authority."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return server, trusting


async def test_a_connection_is_used_again(outbound: HttpOutbound) -> None:
    """One after the other, calls share one connection."""
    async with hostile(systems.echoes) as system:
        assert [(await say(outbound, system, body)).body for body in (b"1", b"2", b"3")] == [b"1", b"2", b"3"]
    assert system.connections == 1


async def test_many_calls_share_few_connections(outbound: HttpOutbound) -> None:
    """Two calls for each connection that there may be: each gets its own answer, and none a connection too many."""
    bodies = [b"%d" % number for number in range(2 * CONNECTIONS)]
    async with hostile(systems.echoes) as system:
        replies = await asyncio.gather(*(say(outbound, system, body, 30.0) for body in bodies))
    assert [reply.body for reply in replies] == bodies
    assert system.connections == CONNECTIONS


async def test_who_waits_longest_is_next() -> None:
    """Connections are given out in the order in which they were asked for."""
    bodies = [b"%d" % number for number in range(5)]
    async with HttpOutbound(connections=1) as narrow, hostile(systems.echoes) as system:
        await asyncio.gather(*(say(narrow, system, body) for body in bodies))
    assert [seen.body for seen in system.seen] == bodies


@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_who_stops_waiting_takes_nothing_along(victim: int) -> None:
    """Whenever a caller is cancelled, the others are answered: in flight, waiting, or just given a connection."""
    async with HttpOutbound(connections=1) as narrow, hostile(systems.echoes) as system:
        for turns in range(20):
            tasks = [asyncio.create_task(say(narrow, system, b"%d" % number)) for number in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)
            tasks[victim].cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, Reply) for number, end in enumerate(ends) if number != victim)


async def test_a_broken_connection_makes_room() -> None:
    """Who waits behind a call that breaks opens a connection of its own."""
    async with HttpOutbound(connections=1) as narrow, hostile(systems.resets) as system:
        ends = await asyncio.gather(*(say(narrow, system) for _ in range(3)), return_exceptions=True)
    assert [type(end) for end in ends] == [Cut, Cut, Cut]
    assert system.connections == 3


async def test_a_refused_connection_makes_room() -> None:
    """A place that nothing came of is free again."""
    gone = System("http://127.0.0.1:1")
    async with HttpOutbound(connections=1) as narrow:
        ends = await asyncio.gather(*(say(narrow, gone) for _ in range(3)), return_exceptions=True)
        assert not narrow._pools
    assert [type(end) for end in ends] == [Unsent, Unsent, Unsent]


async def test_unused_connections_are_closed() -> None:
    """After their time; then nothing is kept of where they led."""
    async with HttpOutbound(idle_seconds=0.05) as outbound, hostile(systems.echoes) as system:
        await say(outbound, system)
        await asyncio.wait_for(system.ended.wait(), 30)
        assert not outbound._pools
        await say(outbound, system)
    assert system.connections == 2


async def test_a_connection_that_was_closed_is_not_used(outbound: HttpOutbound) -> None:
    """A system that hangs up after an answer costs nobody a call."""
    async with hostile(systems.echoes_and_hangs_up) as system:
        for body in (b"1", b"2", b"3"):
            assert (await say(outbound, system, body)).body == body
            await system.ended.wait()
            system.ended.clear()
    assert system.connections == 3


async def test_two_answers_to_one_request(outbound: HttpOutbound) -> None:
    """The second never reaches the next caller, however fast it came."""
    async with hostile(systems.echoes_twice_at_once) as system:
        assert [(await say(outbound, system, body)).body for body in (b"1", b"2")] == [b"1", b"2"]
    assert system.connections == 2


async def test_an_answer_that_the_loop_has_not_seen_yet(outbound: HttpOutbound) -> None:
    """What came in since the event loop last looked spoils a kept connection too."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        system = System(f"http://127.0.0.1:{server.getsockname()[1]}")
        first = asyncio.create_task(say(outbound, system))
        kept, _ = await loop.sock_accept(server)
        with kept:
            await loop.sock_recv(kept, 1000)
            await loop.sock_sendall(kept, OK + b"Content-Length: 1\r\n\r\n1")
            assert (await first).body == b"1"
            kept.sendall(OK + b"Content-Length: 1\r\n\r\n2")
            with pytest.raises(TimeoutError):
                await say(outbound, system, seconds=0.6)  # on a new connection, where nobody answers


async def test_byte_by_byte(outbound: HttpOutbound) -> None:
    """An answer in the smallest pieces is the same answer."""
    async with hostile(systems.echoes_byte_by_byte) as system:
        assert (await say(outbound, system, b'{"a": 1}')).body == b'{"a": 1}'


async def test_an_answer_before_the_request_was_read(outbound: HttpOutbound) -> None:
    """It counts, and its connection, on which half a request lies, carries no other one."""
    async with hostile(systems.refuses_early) as system:
        for _ in range(2):
            assert (await say(outbound, system, HUGE)).status == 413
    assert system.connections == 2


async def test_a_request_that_is_not_read_is_let_go(outbound: HttpOutbound) -> None:
    """After its time nothing of it is kept, however much was still to be sent."""
    async with hostile(systems.reads_nothing) as system:
        with pytest.raises(TimeoutError):
            await say(outbound, system, HUGE, seconds=0.6)
        await asyncio.sleep(0)
        assert not outbound._pools


async def test_a_cancelled_call_is_broken_off(outbound: HttpOutbound) -> None:
    """The system sees that nobody waits any more, and the connection is not used again."""
    async with hostile(systems.never_answers) as system:
        task = asyncio.create_task(say(outbound, system))
        await system.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await system.ended.wait()


async def test_closing_ends_everything() -> None:
    """Whatever is under way ends at once: what may have arrived as Cut, and what has not as Unsent."""
    async with hostile(systems.never_answers) as system:
        async with HttpOutbound(connections=1) as outbound:
            dialing = System(system.url.replace("http:", "https:"))  # its handshake is never answered
            tasks = [asyncio.create_task(say(outbound, target)) for target in (system, system, dialing)]
            await system.reached.wait()
        ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 4)
    assert [type(end) for end in ends] == [Cut, Unsent, Unsent]


@pytest.mark.parametrize("secure", [False, True])
async def test_an_answer_that_ends_with_its_stream(outbound: HttpOutbound, secure: bool) -> None:  # noqa: FBT001
    """It is whole where the system itself says that it has ended."""
    server, trusting = certified()
    async with hostile(systems.ends_with_the_stream, server if secure else None) as system:
        for _ in range(2):
            assert (await say(outbound, system, tls=trusting)).body == b"12"
    assert system.connections == 2


async def test_an_answer_that_is_cut_off(outbound: HttpOutbound) -> None:
    """Over TLS nobody on the way can make 1 of 12."""
    server, trusting = certified()
    async with hostile(systems.is_cut_off, server) as system:
        with pytest.raises(Cut):
            await say(outbound, system, tls=trusting)


async def test_a_certificate_of_somebody_else(outbound: HttpOutbound) -> None:
    """A trusted authority's certificate for another name is no certificate, and nothing is sent."""
    server, trusting = certified("other.test")
    async with hostile(systems.echoes, server) as system:
        with pytest.raises(Unsent, match="certificate"):
            await say(outbound, system, tls=trusting)
    assert not system.seen


async def test_a_connection_belongs_to_one_configuration(outbound: HttpOutbound) -> None:
    """What was connected under one trust, or as one client, is never used under another one."""
    server, trusting = certified()
    async with hostile(systems.echoes, server) as system:
        await say(outbound, system, tls=trusting)
        with pytest.raises(Unsent):
            await say(outbound, system)
        await say(outbound, system, tls=trusting)
    assert (system.connections, len(system.seen)) == (1, 2)


def _has_six() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_six(), reason="this machine has no IPv6")
async def test_version_six(outbound: HttpOutbound) -> None:
    """An address of IPv6 is connected to without its brackets and named with them."""
    async with hostile(systems.echoes, host="::1") as system:
        assert (await say(outbound, system)).body == b"{}"
    assert system.seen[0].headers["host"] == system.url.removeprefix("http://")
