"""What the HTTP client makes of agencies' systems, down to those that mean harm: against real sockets."""

import asyncio
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Iterator

import pytest
import trustme
from aiohttp import web

from gateway import __version__
from gateway.edge.outbound import HttpOutbound
from gateway.protocols.protocol import Cut, Manner, Reply, TooLarge, Unsent
from tests.fakes import systems
from tests.fakes.systems import Behaviour, Line, Seen, hostile, well_behaved

SECRET = "KH-0042"


@pytest.fixture
async def outbound() -> AsyncIterator[HttpOutbound]:
    async with HttpOutbound() as opened:
        yield opened


async def post(outbound: HttpOutbound, url: str, method: str = "POST", **bounds: float) -> Reply:
    return await outbound.send(
        method,
        f"{url}/persons/{SECRET}",
        headers={"X-One": "1"},
        body=b"{}" if method != "GET" else None,
        seconds=bounds.get("seconds", 5.0),
        max_bytes=int(bounds.get("max_bytes", 10_000)),
    )


async def echo(seen: Seen) -> web.Response:
    return web.Response(body=seen.body, headers={"X-Two": "2"})


@pytest.fixture
def refused_port() -> Iterator[str]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


async def test_an_answer(outbound: HttpOutbound) -> None:
    """The request arrives as it was given, with nothing of the gateway but its name, and the answer comes whole."""
    async with well_behaved(echo) as system:
        reply = await post(outbound, system.url)
    assert (reply.status, reply.body, reply.headers.get("x-two")) == (200, b"{}", "2")
    (seen,) = system.seen
    assert (seen.method, seen.target, seen.body) == ("POST", f"/persons/{SECRET}", b"{}")
    assert (seen.headers["User-Agent"], seen.headers["Accept-Encoding"]) == (f"gateway/{__version__}", "identity")


async def test_percent_encoding_is_left_alone(outbound: HttpOutbound) -> None:
    """What was encoded as one segment arrives as one segment."""
    async with well_behaved(echo) as system:
        await outbound.send("GET", f"{system.url}/a%2Fb%2e?c=%26", headers={}, body=None, seconds=5, max_bytes=10)
    assert system.seen[0].target == "/a%2Fb%2e?c=%26"


async def test_redirects_and_cookies_are_not_followed(outbound: HttpOutbound) -> None:
    """A redirect is an answer, and a cookie is forgotten."""

    async def redirect(_: Seen) -> web.Response:
        return web.Response(status=307, headers={"Location": "/elsewhere", "Set-Cookie": "a=b"})

    async with well_behaved(redirect) as system:
        assert (await post(outbound, system.url)).status == 307
        await post(outbound, system.url)
    assert [seen.target for seen in system.seen] == [f"/persons/{SECRET}"] * 2
    assert all("Cookie" not in seen.headers for seen in system.seen)


async def test_a_compressed_answer_stays_compressed(outbound: HttpOutbound) -> None:
    """Nothing is unpacked, so that no small answer becomes a large one."""

    async def packed(_: Seen) -> web.Response:
        return web.Response(body=b"\x1f\x8b no gzip", headers={"Content-Encoding": "gzip"})

    async with well_behaved(packed) as system:
        assert (await post(outbound, system.url)).body == b"\x1f\x8b no gzip"


async def test_a_refused_port_is_unsent(outbound: HttpOutbound, refused_port: str) -> None:
    """Nothing left where nobody listens."""
    with pytest.raises(Unsent):
        await post(outbound, refused_port)


async def test_an_unknown_name_is_unsent(outbound: HttpOutbound) -> None:
    """Nothing left where the name does not exist (RFC 6761, section 6.4)."""
    with pytest.raises(Unsent):
        await post(outbound, "http://nowhere.invalid")


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "gopher://127.0.0.1"])
async def test_no_address_is_unsent(outbound: HttpOutbound, url: str) -> None:
    """Nothing left for an address that is none."""
    with pytest.raises(Unsent):
        await post(outbound, url)


async def test_no_time_left_is_unsent(outbound: HttpOutbound) -> None:
    """A call whose time is over is not begun."""
    async with well_behaved(echo) as system:
        with pytest.raises(Unsent):
            await post(outbound, system.url, seconds=0.0)
    assert not system.seen


async def test_a_connection_that_takes_too_long_is_unsent(outbound: HttpOutbound) -> None:
    """A server that never finishes the TLS handshake has not seen the request."""

    async def silent(line: Line) -> None:
        await line.hung_up()

    async with hostile(silent) as system:
        with pytest.raises(Unsent):
            await post(outbound, system.url.replace("http:", "https:"), seconds=0.1)


async def test_a_full_pool_is_unsent() -> None:
    """A call that found no free connection in its time did not leave."""
    async with HttpOutbound(connections=1) as narrow, hostile(systems.never_answers) as system:
        first = asyncio.create_task(post(narrow, system.url, seconds=1.5))
        await system.reached.wait()
        with pytest.raises(Unsent):
            await post(narrow, system.url, seconds=0.1)
        with pytest.raises(TimeoutError):
            await first
    assert len(system.seen) == 1


@pytest.mark.parametrize(
    "behaviour",
    [
        systems.hangs_up_at_once,
        systems.resets,
        systems.talks_garbage,
        systems.answers_half,
        systems.endless_header,
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
async def test_a_broken_connection_is_cut_and_never_tried_again(
    outbound: HttpOutbound, behaviour: Behaviour, method: str
) -> None:
    """Whatever breaks after bytes may have left is Cut, after one attempt, for every method."""
    async with hostile(behaviour) as system:
        with pytest.raises(Cut):
            await post(outbound, system.url, method)
    assert system.connections == 1


@pytest.mark.parametrize("behaviour", [systems.never_answers, systems.drips, systems.only_ever_continues])
async def test_time_is_bounded(outbound: HttpOutbound, behaviour: Behaviour) -> None:
    """The time holds for the whole answer, however busy the line is."""
    async with hostile(behaviour) as system:
        with pytest.raises(TimeoutError):
            await post(outbound, system.url, seconds=0.6)
    assert len(system.seen) == 1


@pytest.mark.parametrize("behaviour", [systems.announces_too_much, systems.never_stops])
async def test_size_is_bounded(outbound: HttpOutbound, behaviour: Behaviour) -> None:
    """An answer is read up to its bound, whatever was announced, and its connection is given up."""
    async with hostile(behaviour) as system:
        with pytest.raises(TooLarge):
            await post(outbound, system.url, max_bytes=4096)


async def test_the_bound_itself_is_allowed(outbound: HttpOutbound) -> None:
    """An answer of exactly the bound passes."""

    async def full(_: Seen) -> web.Response:
        return web.Response(body=b"x" * 100_000)

    async with well_behaved(full) as system:
        assert len((await post(outbound, system.url, max_bytes=100_000)).body) == 100_000
        with pytest.raises(TooLarge):
            await post(outbound, system.url, max_bytes=99_999)


async def test_switching_protocols_is_an_answer_without_a_body(outbound: HttpOutbound) -> None:
    """101 neither hangs nor leaves its connection in the pool."""
    async with hostile(systems.switches_protocols) as system:
        for _ in range(2):
            assert (await post(outbound, system.url)).status == 101
    assert system.connections == 2


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "GET"])
async def test_a_kept_connection_that_breaks_is_cut(outbound: HttpOutbound, method: str) -> None:
    """Where a used connection breaks under a request, nobody knows whether it was seen: it is not sent again."""
    async with hostile(systems.answers_once) as system:
        assert (await post(outbound, system.url, method)).status == 200
        with pytest.raises(Cut):
            await post(outbound, system.url, method)
    assert (system.connections, len(system.seen)) == (1, 2)


async def test_an_answer_that_nobody_asked_for_reaches_nobody(outbound: HttpOutbound) -> None:
    """A second answer on a kept connection is not taken for the answer to the next request."""
    again = asyncio.Event()
    async with hostile(systems.answers_twice(again)) as system, well_behaved(echo) as other:
        first = await outbound.send("POST", system.url, headers={}, body=b'"first"', seconds=5, max_bytes=99)
        again.set()
        await post(outbound, other.url)  # meanwhile the second answer comes in
        second = await outbound.send("POST", system.url, headers={}, body=b'"second"', seconds=5, max_bytes=99)
    assert (first.body, second.body) == (b'"first"', b'"second"')


async def test_certificates_are_checked(outbound: HttpOutbound) -> None:
    """An unknown authority is Unsent; a configured one is trusted."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with well_behaved(echo, server) as system:
        with pytest.raises(Unsent, match="certificate"):
            await post(outbound, system.url)
        reply = await outbound.send(
            "POST", system.url, headers={}, body=b"{}", seconds=5, max_bytes=9, manner=Manner(trusting)
        )
    assert (reply.body, len(system.seen)) == (b"{}", 1)


@pytest.mark.parametrize("behaviour", [systems.resets, systems.never_answers, systems.talks_garbage])
async def test_errors_hold_nothing_of_the_address(outbound: HttpOutbound, behaviour: Behaviour) -> None:
    """An address may hold a person's number, so no error says it, nor does what would be printed with it."""
    async with hostile(behaviour) as system:
        with pytest.raises((Cut, TimeoutError)) as caught:
            await post(outbound, system.url, seconds=0.8)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


async def test_a_closed_client_sends_nothing() -> None:
    """After shutdown a call is Unsent."""
    async with HttpOutbound() as outbound:
        pass
    with pytest.raises(Unsent):
        await post(outbound, "http://127.0.0.1:1")
