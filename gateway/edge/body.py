"""Reading a request's body: only when everything before it holds, only up to its limit, only for so long."""

import asyncio
import contextlib

from aiohttp import web
from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import TransferEncodingError

from gateway.core.exchange import hold_media, hold_size
from gateway.core.refusal import Refusal

SECONDS = 20.0
"""How long a body may take to arrive."""
LINGER = 1.0
"""Seconds that a caller has to read an answer that came before its body was wanted."""
LINGER_BYTES = 256 * 1024
"""What is still taken in of such a body: most honest callers come to their end within it."""

BROKEN = (TransferEncodingError, web.RequestPayloadError, ConnectionError)
"""What reading raises where a body was framed wrongly, or its sender went away."""


async def expect_nothing(request: web.Request) -> None:
    """Leave ``Expect: 100-continue`` unanswered until the body is wanted (RFC 9110, section 10.1.1)."""
    if request.headers["Expect"].lower() != "100-continue":
        raise web.HTTPExpectationFailed


async def read(request: web.Request, limit: int) -> bytes:
    """The body. Raises Refusal request.too_large, request.media_type or request.malformed."""
    hold_size(request.content_length, limit)
    hold_media(request.headers.get("Content-Type"), request.headers.get("Content-Encoding"))
    if request.content.is_eof():  # all of it came with the head: nothing to wait for
        raw = request.content.read_nowait()
        hold_size(len(raw), limit)
        return raw
    await invite(request)
    try:
        async with asyncio.timeout(SECONDS):
            return await _read_up_to(request, limit)
    except TimeoutError as error:
        raise Refusal("request.malformed", f"The body did not arrive within {SECONDS:g} seconds.") from error
    except BROKEN as error:
        raise Refusal("request.malformed", "The body broke off or was framed wrongly.") from error


async def invite(request: web.Request) -> None:
    """Tell a caller who waits for it that the body is wanted now."""
    expected = request.version >= HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue"
    if expected and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _read_up_to(request: web.Request, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := await request.content.readany():
        size += len(chunk)
        if size > limit:
            hold_size(size, limit)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def dismiss(request: web.Request, answer: web.Response) -> None:
    """Answer a request whose body nobody wants, then hang up.

    Closing while bytes still come in resets the connection, and the reset may overtake the answer (RFC 9112, section
    9.6): so a little is taken in, then nothing more, which stops the sender; and only then is it closed.
    """
    answer.force_close()
    with contextlib.suppress(TimeoutError, *BROKEN):
        await answer.prepare(request)
        await answer.write_eof()
        async with asyncio.timeout(LINGER):
            left = LINGER_BYTES
            while left > 0 and (chunk := await request.content.readany()):
                left -= len(chunk)
            if left > 0:
                return  # it came to its end
            await asyncio.Event().wait()
    request.protocol.force_close()
