"""Reading a request's body: only when everything before it holds, only up to its limit, only for so long."""

import asyncio

from aiohttp import web
from aiohttp.http_exceptions import TransferEncodingError

from gateway.core.exchange import hold_media, hold_size
from gateway.core.refusal import Refusal

SECONDS = 20.0
"""How long a body may take to arrive."""


async def expect_nothing(_: web.Request) -> None:
    """Leave ``Expect: 100-continue`` unanswered until the body is wanted (RFC 9110, section 10.1.1)."""


async def read(request: web.Request, limit: int) -> bytes:
    """The body. Raises Refusal request.too_large, request.media_type or request.malformed."""
    hold_size(request.content_length, limit)
    hold_media(request.headers.get("Content-Type"), request.headers.get("Content-Encoding"))
    await _invite(request)
    try:
        async with asyncio.timeout(SECONDS):
            return await _read_up_to(request, limit)
    except TimeoutError as error:
        raise Refusal("request.malformed", f"The body did not arrive within {SECONDS:g} seconds.") from error
    except (TransferEncodingError, web.RequestPayloadError) as error:
        raise Refusal("request.malformed", "The body broke off or was framed wrongly.") from error


async def _invite(request: web.Request) -> None:
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
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
