"""Bodies on the wire: who may not call is answered before the body is read, and nobody sends more than is taken."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from gateway.edge import body
from gateway.edge.telemetry import _Wordless
from tests.fakes.parties import LOOK_UP, MAX_BYTES, PERSON, PURPOSE, TAX
from tests.fakes.town import Town, opened, until

GIB = 2**30
MIB = 2**20
BODY = orjson.dumps(PERSON)
CHUNKED = {"Transfer-Encoding": "chunked"}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture
async def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    """A town whose gateway loses its patience with bodies early."""
    monkeypatch.setattr(body, "LINGER", 0.1)
    monkeypatch.setattr(body, "SECONDS", 0.3)
    async with opened(tmp_path) as town:
        yield town


@dataclass(frozen=True, slots=True)
class Said:
    """An answer as it came over the wire."""

    head: bytes
    body: Any

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])


@dataclass(frozen=True, slots=True)
class Wire:
    """A connection to the gateway's public listener."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self, headers: Mapping[str, str], path: str = f"/v1/exchange/interior/{LOOK_UP}") -> None:
        lines = [f"POST {path} HTTP/1.1", "Host: gateway", *(f"{name}: {value}" for name, value in headers.items())]
        await self.send("\r\n".join([*lines, "\r\n"]).encode())

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def flood(self, piece: bytes) -> int:
        """Send 1 GiB without ever looking at the answer, until the gateway stops it; the bytes that it took."""
        taken = 0
        try:
            while taken < GIB:
                await self.send(piece)
                taken += len(piece)
        except ConnectionError:
            pass
        return taken

    async def answer(self) -> Said:
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = (line.partition(b": ") for line in head.lower().splitlines())
        length = next(int(value) for name, _, value in lines if name == b"content-length")
        raw = await self.reader.readexactly(length)
        return Said(head, orjson.loads(raw) if b"json" in head else raw)

    async def closed(self) -> bool:
        """Whether the gateway hangs up, having said nothing more."""
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True


@asynccontextmanager
async def connected(town: Town) -> AsyncIterator[Wire]:
    to = urlsplit(town.at.public)
    sock = socket.create_connection((to.hostname, to.port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)  # what lies there counts as sent
    reader, writer = await asyncio.open_connection(sock=sock)
    writer.transport.set_write_buffer_limits(0)
    yield Wire(reader, writer)
    writer.transport.abort()


async def permitted(town: Town, **more: str) -> dict[str, str]:
    """The head of a call that may be made."""
    usual = {"Content-Type": "application/json", "Exchange-Purpose": PURPOSE}
    return {"Authorization": f"Bearer {await town.token(TAX)}", **usual, **more}


async def strangers(town: Town, which: str) -> dict[str, str]:
    """The head of a caller without rights."""
    if which == "no token":
        return {}
    return {**await permitted(town), "Authorization": f"Bearer {await town.token('finance.audit_office')}"}


callers = pytest.mark.parametrize(
    ("which", "code"), [("no token", "identity.missing"), ("no agreement", "policy.no_agreement")]
)


@callers
async def test_a_gibibyte_that_is_announced_is_refused_before_a_byte_of_it(town: Town, which: str, code: str) -> None:
    """A caller without rights is answered by what the head says, whatever size it announces."""
    async with connected(town) as wire:
        await wire.head({**await strangers(town, which), "Content-Length": str(GIB)})
        answer = await wire.answer()
    assert answer.body["code"] == code
    assert b"\r\nconnection: close\r\n" in answer.head.lower()


@callers
@pytest.mark.parametrize(
    ("framing", "piece"),
    [(CHUNKED, b"10000\r\n" + b"x" * 65_536 + b"\r\n"), ({"Content-Length": str(GIB)}, b"x" * 65_536)],
    ids=["chunked", "announced"],
)
async def test_a_gibibyte_that_is_sent_is_not_taken_in(
    town: Town, which: str, code: str, framing: Mapping[str, str], piece: bytes
) -> None:
    """A caller without rights who sends all the same is stopped long before the end, and can still read why."""
    async with connected(town) as wire:
        await wire.head({**await strangers(town, which), **framing})
        flood = asyncio.create_task(wire.flood(piece))
        answer = await wire.answer()
        taken = await flood
    assert answer.body["code"] == code
    assert taken < 8 * MIB


@callers
async def test_who_may_not_call_is_never_told_to_go_on(town: Town, which: str, code: str) -> None:
    """Expect: 100-continue gets the refusal and nothing before it."""
    async with connected(town) as wire:
        await wire.head({**await strangers(town, which), "Content-Length": str(GIB), "Expect": "100-continue"})
        answer = await wire.answer()
        assert await wire.closed()
    assert answer.body["code"] == code


@pytest.mark.parametrize("path", ["/v1/exchange/Nobody/x", "/nothing/here"])
async def test_an_unknown_address_takes_nothing_in(town: Town, path: str) -> None:
    """A gibibyte to an address that does not exist is stopped as well."""
    async with connected(town) as wire:
        await wire.head(CHUNKED, path)
        flood = asyncio.create_task(wire.flood(b"10000\r\n" + b"x" * 65_536 + b"\r\n"))
        answer = await wire.answer()
        assert (answer.body["code"], await flood < 8 * MIB) == ("catalogue.unknown", True)


async def test_the_token_endpoint_takes_nothing_in(town: Town) -> None:
    """Whoever sends a gibibyte for a token is stopped, too."""
    async with connected(town) as wire:
        await wire.head({**CHUNKED, "Content-Type": "application/x-www-form-urlencoded"}, "/oauth/token")
        flood = asyncio.create_task(wire.flood(b"10000\r\n" + b"x" * 65_536 + b"\r\n"))
        answer = await wire.answer()
        assert (answer.status, await flood < 8 * MIB) == (413, True)


@pytest.mark.parametrize("expect", [{}, {"Expect": "100-continue"}], ids=["sent at once", "asked first"])
async def test_too_large_is_refused_when_it_is_announced(town: Town, expect: Mapping[str, str]) -> None:
    """Who may call and announces more than the service takes is refused by the head alone."""
    async with connected(town) as wire:
        await wire.head({**await permitted(town), **expect, "Content-Length": str(MAX_BYTES + 1)})
        answer = await wire.answer()
    assert (answer.status, answer.body["code"]) == (413, "request.too_large")


async def test_too_large_is_cut_off_where_it_was_not_announced(town: Town) -> None:
    """A chunked body is refused as soon as it passes the limit; its caller need not come to an end."""
    async with connected(town) as wire:
        await wire.head(await permitted(town, **CHUNKED))
        await wire.send(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
        answer = await wire.answer()
        assert await wire.closed()
    assert (answer.status, answer.body["code"]) == (413, "request.too_large")
    assert not town.office.seen


@pytest.mark.parametrize("size", [MAX_BYTES, MAX_BYTES + 1])
async def test_the_limit_is_exact(town: Town, size: int) -> None:
    """A body of the limit's size is taken; one byte more is not."""
    reply = await town.call(TAX, LOOK_UP, BODY.ljust(size))
    assert reply.status == (200 if size == MAX_BYTES else 413)


async def test_who_may_call_is_told_to_go_on(town: Town) -> None:
    """Expect: 100-continue gets 100 once everything before the body holds, and then the answer."""
    async with connected(town) as wire:
        await wire.head(await permitted(town, Expect="100-continue", **{"Content-Length": str(len(BODY))}))
        assert await wire.reader.readexactly(len(CONTINUE)) == CONTINUE
        await wire.send(BODY)
        answer = await wire.answer()
    assert (answer.status, answer.body["identifier"]) == (200, PERSON["identifier"])


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({"content_encoding": "gzip"}, "compressed"),
        ({"content_type": "application/json; charset=utf-16"}, "UTF-8"),
        ({"content_type": "application/json; charset=utf-8; charset=utf-16"}, "UTF-8"),
        ({"content_type": "text/json"}, "application/json"),
        ({"content_type": None}, "application/json"),
    ],
)
async def test_anything_but_plain_json_is_refused(town: Town, headers: Any, detail: str) -> None:
    """Compressed bodies, other characters and other media are 415; so nothing is ever unpacked."""
    reply = await town.call(TAX, LOOK_UP, BODY, **headers)
    assert (reply.status, reply.body["code"]) == (415, "request.media_type")
    assert detail in reply.body["detail"]


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"'])
async def test_utf_8_may_be_said(town: Town, charset: str) -> None:
    """The one charset that is taken may be named."""
    reply = await town.call(TAX, LOOK_UP, BODY, content_type=f"application/json; charset={charset}")
    assert reply.status == 200


async def test_a_body_in_many_chunks_is_one_body(town: Town) -> None:
    """Byte by byte, with a chunk extension and a trailer, it is still what was sent."""
    async with connected(town) as wire:
        await wire.head(await permitted(town, **CHUNKED))
        for byte in BODY:
            await wire.send(b"1;note=x\r\n" + bytes([byte]) + b"\r\n")
        await wire.send(b"0\r\nTrailer: x\r\n\r\n")
        answer = await wire.answer()
    assert answer.status == 200
    assert town.office.seen[0].body == BODY


@pytest.mark.parametrize(
    "framed",
    [
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\nfoo\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}KH-90010001\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"Content-Length: -1\r\n\r\n",
        b"Transfer-Encoding: gzip, chunked, identity\r\n\r\n",
    ],
)
async def test_broken_framing_is_refused_and_not_quoted(
    town: Town, framed: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """What two readers could read as two requests is 400 and the end of the connection; no log has its bytes."""
    logger = logging.getLogger("aiohttp.server")
    wordless = _Wordless()
    logger.addFilter(wordless)
    async with connected(town) as wire:
        await wire.head(await permitted(town))
    async with connected(town) as wire:
        head = "".join(f"{name}: {value}\r\n" for name, value in (await permitted(town)).items())
        start = f"POST /v1/exchange/interior/{LOOK_UP} HTTP/1.1\r\nHost: gateway\r\n{head}"
        await wire.send(start.encode() + framed)
        answer = await wire.answer()
        assert await wire.closed()
    logger.removeFilter(wordless)
    assert answer.status == 400
    assert "90010001" not in caplog.text
    assert not town.office.seen


@pytest.mark.parametrize("later", [b"", b"zz\r\nfoo"], ids=["nothing", "nonsense"])
async def test_a_body_that_never_ends_is_not_waited_for(town: Town, later: bytes) -> None:
    """Whoever keeps silent in the middle of a body, or goes on with what is no chunk, is refused after some time."""
    async with connected(town) as wire:
        await wire.head(await permitted(town, **CHUNKED))
        await wire.send(b"2\r\n{}\r\n")
        await until(lambda: town.gateway.exchanges.in_progress)
        await wire.send(later)
        answer = await wire.answer()
        assert await wire.closed()
    assert (answer.status, answer.body["code"]) == (400, "request.malformed")


async def test_half_a_body_leaves_nothing_behind(town: Town) -> None:
    """Who goes away in the middle is refused in the journal, as the caller's fault, and holds no place any more."""
    async with connected(town) as wire:
        await wire.head(await permitted(town, **{"Content-Length": "100"}))
        await wire.send(b'{"identifier":')
        await until(lambda: town.gateway.exchanges.in_progress)
    await until(lambda: not town.gateway.exchanges.in_progress)
    codes = [entry.facts["code"] for entry in town.entries() if "code" in entry.facts]
    assert codes == ["request.malformed"]
    assert (await town.metrics())['gateway_refusals_total{code="gateway.broken"}'] == 0


async def test_a_connection_goes_on_after_a_refusal(town: Town) -> None:
    """Where the body came with the head, the next call may use the same connection."""
    async with connected(town) as wire:
        for purpose, status in (("statistics", 403), (PURPOSE, 200)):
            head = await permitted(town, **{"Content-Length": str(len(BODY)), "Exchange-Purpose": purpose})
            lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
            start = f"POST /v1/exchange/interior/{LOOK_UP} HTTP/1.1\r\nHost: gateway\r\n{lines}\r\n"
            await wire.send(start.encode() + BODY)
            assert (await wire.answer()).status == status


async def test_an_old_client_is_not_told_to_go_on(town: Town) -> None:
    """HTTP/1.0 knows no 100 Continue (RFC 9110, section 10.1.1)."""
    head = await permitted(town, Expect="100-continue", **{"Content-Length": str(len(BODY))})
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    async with connected(town) as wire:
        await wire.send(f"POST /v1/exchange/interior/{LOOK_UP} HTTP/1.0\r\n{lines}\r\n".encode())
        await wire.send(BODY)
        assert (await wire.answer()).status == 200
