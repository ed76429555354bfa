"""Whose request it is: by the socket, by the connection's certificate, or by a trusted proxy's word."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from multidict import CIMultiDict

from gateway.core.refusal import Refusal
from gateway.edge.peer import MAX_HOPS, Peers
from tests.fakes.certificates import Certificate, calling, certificate, serving
from tests.fakes.town import until

HERE = ("127.0.0.1/32", "10.0.0.0/8", "2001:db8:5::/48")
CERTIFICATE = certificate()
Headers = Sequence[tuple[str, str]]


class Mirror:
    """A server that says whose request it got."""

    def __init__(self, trusted: Sequence[str], url: str) -> None:
        self.peers = Peers([ip_network(each) for each in trusted])
        self.url = url

    async def handle(self, request: web.Request) -> web.Response:
        peer = self.peers.of(request)
        try:
            return web.json_response([peer.address, peer.certificate])
        except Refusal as refusal:
            return web.json_response([peer.address, refusal.code, refusal.detail])


@asynccontextmanager
async def mirror(*trusted: str, tls: bool = False, host: str = "127.0.0.1") -> AsyncIterator[Mirror]:
    made = Mirror(trusted, "")
    app = web.Application()
    app.router.add_get("/", made.handle)
    server = TestServer(app, host=host)
    await server.start_server(ssl=serving() if tls else None)
    made.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.port}/"
    try:
        yield made
    finally:
        await server.close()


async def told(mirror: Mirror, headers: Headers = (), shown: Certificate | None = None) -> list[str | None]:
    """What the server says of this request."""
    connector = aiohttp.TCPConnector(ssl=calling(shown))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(mirror.url, headers=CIMultiDict(headers)) as answer,
    ):
        said: list[str | None] = await answer.json()
        return said


async def test_a_stranger_speaks_for_nobody() -> None:
    """Whoever is no trusted proxy cannot make up an address or a certificate, well-formed or not."""
    claimed = [("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=203.0.113.9")]
    for word in (CERTIFICATE.sequence, CERTIFICATE.escaped, "garbage"):
        async with mirror("192.0.2.1") as elsewhere, mirror() as nowhere:
            for server in (elsewhere, nowhere):
                assert await told(server, [*claimed, ("Client-Cert", word)]) == ["127.0.0.1", None]


@pytest.mark.parametrize(
    ("said", "address"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        (["198.51.100.7, 203.0.113.9"], "203.0.113.9"),
        (["198.51.100.7", "203.0.113.9, 10.1.2.3"], "203.0.113.9"),
        (["evil, 203.0.113.9,10.1.2.3 , 127.0.0.1"], "203.0.113.9"),
        (["2001:db8::9, 2001:db8:5::1"], "2001:db8::9"),
        (["::ffff:203.0.113.9, ::ffff:10.1.2.3"], "203.0.113.9"),
        (["2001:DB8:0::0:9"], "2001:db8::9"),
        (["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ([], "127.0.0.1"),
        ([""], "127.0.0.1"),
        (["203.0.113.9, "], "127.0.0.1"),
        (["203.0.113.9, unknown"], "127.0.0.1"),
        (["203.0.113.9, fe80::1%<script>"], "127.0.0.1"),
        (["203.0.113.9:443"], "127.0.0.1"),
        (["0x7f.1"], "127.0.0.1"),
        (["203.0.113.9" + ", 10.1.2.3" * (MAX_HOPS - 1)], "203.0.113.9"),
        (["198.51.100.7, 203.0.113.9" + ", 10.1.2.3" * MAX_HOPS], "127.0.0.1"),
        (["203.0.113.9" + "," * 4000], "127.0.0.1"),
    ],
)
async def test_address_through_a_proxy(said: Sequence[str], address: str) -> None:
    """A trusted proxy's last address that is no proxy counts; what is no address is never repeated."""
    async with mirror(*HERE) as server:
        assert await told(server, [("X-Forwarded-For", each) for each in said]) == [address, None]


@pytest.mark.parametrize("word", [CERTIFICATE.sequence, CERTIFICATE.escaped, CERTIFICATE.escaped.replace("%2B", "+")])
async def test_certificate_through_a_proxy(word: str) -> None:
    """A trusted proxy's certificate counts, as RFC 9440 writes it and as nginx does."""
    async with mirror(*HERE) as server:
        assert await told(server, [("Client-Cert", word)]) == ["127.0.0.1", CERTIFICATE.thumbprint]


@pytest.mark.parametrize(
    "words",
    [
        [CERTIFICATE.sequence, CERTIFICATE.sequence],
        [CERTIFICATE.sequence, certificate().escaped],
        [""],
        ["(null)"],
        ["::"],
        [":AAAA:"],
        [":" + CERTIFICATE.sequence],
        [CERTIFICATE.sequence[:-2] + ":"],
        [CERTIFICATE.sequence.replace(":", "")],
        [CERTIFICATE.sequence + ", " + CERTIFICATE.sequence],
        [CERTIFICATE.sequence + ";a=1"],
        [CERTIFICATE.escaped * 2],
        ["x" + CERTIFICATE.escaped],
        [CERTIFICATE.escaped[:-30]],
        [CERTIFICATE.escaped.replace("CERTIFICATE", "PRIVATE%20KEY")],
        ["-----BEGIN%20CERTIFICATE-----%0A%0A-----END%20CERTIFICATE-----"],
        ["%ff%fe"],
    ],
)
async def test_no_certificate_through_a_proxy(words: Sequence[str]) -> None:
    """A header twice, or anything but one certificate, is refused, and nothing of it is repeated."""
    async with mirror(*HERE) as server:
        address, code, detail = await told(server, [("Client-Cert", word) for word in words])
    assert (address, code) == ("127.0.0.1", "request.malformed")
    assert detail is not None
    assert "one certificate" in detail
    assert not any(word in detail for word in words if word not in ("", "::"))


async def test_certificate_of_the_connection() -> None:
    """On a connection of our own the certificate is the one that the handshake proved; without one there is none."""
    async with mirror(tls=True) as server:
        assert await told(server, shown=CERTIFICATE) == ["127.0.0.1", CERTIFICATE.thumbprint]
        assert await told(server, [("Client-Cert", CERTIFICATE.sequence)]) == ["127.0.0.1", None]


async def test_certificate_of_the_proxy_itself() -> None:
    """The certificate with which a proxy connects is not taken for its callers'."""
    async with mirror("127.0.0.1", tls=True) as server:
        assert await told(server, shown=CERTIFICATE) == ["127.0.0.1", None]
        theirs = certificate()
        assert (await told(server, [("Client-Cert", theirs.escaped)], CERTIFICATE))[1] == theirs.thumbprint


async def test_certificate_is_read_once_for_each_connection() -> None:
    """Calls on one connection share what was read of it, which goes when the connection does."""
    async with mirror(tls=True) as server:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=calling(CERTIFICATE))) as session:
            for _ in range(3):
                async with session.get(server.url) as answer:
                    assert (await answer.json())[1] == CERTIFICATE.thumbprint
            assert len(server.peers._seen) == 1
        await until(lambda: not server.peers._seen)


async def test_ipv4_on_an_ipv6_socket() -> None:
    """A proxy that comes to an IPv6 socket by IPv4 is known by its IPv4 address, and so is everybody else."""
    async with mirror("127.0.0.1", host="::") as trusting, mirror(host="::") as other:
        assert await told(trusting, [("X-Forwarded-For", "203.0.113.9")]) == ["203.0.113.9", None]
        assert await told(other, [("X-Forwarded-For", "203.0.113.9")]) == ["127.0.0.1", None]
