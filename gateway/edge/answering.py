"""What a connection answers by itself: aiohttp's own answers are texts that quote what was sent.

Decision 13 says why this is a subclass of aiohttp's.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from gateway.core.refusal import Refusal
from gateway.edge.telemetry import place

MAX_HEADERS = 64
MAX_LINE = 8190
"""Bytes of the request's target, of a header's name, and of its value."""
MAX_HEAD = 65_536
"""Bytes of a head that comes in pieces."""
KEEPALIVE = 75.0
"""Seconds that a connection may be idle."""
LINGER_SECONDS = 1.0
"""Seconds that a caller has to read why its bytes are no request."""

log = structlog.get_logger()

Answered = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refuse = Callable[[Refusal], web.Response]


@dataclass(frozen=True, slots=True)
class House:
    """What answers on the connections of one listener."""

    server: web.Server
    answered: Answered
    """The application."""
    refuse: Refuse
    """Puts into words what never reaches it."""


class Answering(RequestHandler):
    """A connection that refuses in the house's form, and says so when it will be closed."""

    __slots__ = ("_gone", "_house", "_last", "_wire")

    def __init__(self, house: House) -> None:
        super().__init__(
            house.server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # None is how aiohttp says: no such log
            keepalive_timeout=KEEPALIVE,
            lingering_time=0,  # a body that nobody wants is not taken in; exchanges dismiss it with care
            max_headers=MAX_HEADERS,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            auto_decompress=False,
        )
        self._request_handler = self._handled
        self._house = house
        self._last = False
        """What is answered when no other request waits says that the connection will be closed."""
        self._wire: asyncio.Transport | None = None
        """The transport, also after aiohttp has let go of it."""
        self._gone: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast("asyncio.Transport", transport)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._wire = None
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def _handled(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        message = request._message  # noqa: SLF001 - a request tells the form of its target nowhere else
        if message.version is not HttpVersion11 or message.upgrade or message.path[0] != "/":  # seldom
            self._hold_form(message)
        return self._house.answered(request)

    def _hold_form(self, message: RawRequestMessage) -> None:
        if message.path[0] != "/":
            raise Refusal(
                "request.malformed",
                "The target of a request is a path such as /v1/catalogue: the gateway is no proxy.",
            )
        if message.version < HttpVersion11 and (message.version < HttpVersion10 or message.chunked):
            raise Refusal("request.malformed", "Use HTTP/1.1: HTTP/0.9 is too old, and HTTP/1.0 knows no chunks.")
        if message.upgrade:  # not taken (RFC 9110, section 7.8); what follows may be in the other protocol
            self._last = True

    def finish_response(self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None) -> Any:
        if type(resp) is not web.Response and isinstance(resp, web.HTTPException):  # the class has a slow isinstance
            resp = self._refused(_in_our_words(resp))
        elif self._last and not self._messages:
            resp.force_close()
        return super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002 - the refusal has its own
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes what was sent
    ) -> web.StreamResponse:
        """The answer to what nobody else answered. Raises ConnectionError where one was begun already."""
        if isinstance(exc, Refusal):
            return self._refused(exc)
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionError from exc
        if isinstance(exc, Exception):
            log.error("broken", **place(exc))
        return self._refused(Refusal("gateway.broken", "The gateway failed to work on the request."))

    def _make_error_handler(self, err_info: _ErrInfo) -> Answered:
        return partial(self._malformed, err_info.exc)

    async def _malformed(self, error: BaseException, request: web.BaseRequest) -> web.StreamResponse:
        """Say that it is no request, and stay a moment: closing while bytes come in may overtake the answer."""
        answer = self._refused(Refusal("request.malformed", _what_is_wrong(error)))
        await answer.prepare(request)
        await answer.write_eof()
        if self._wire is not None and not self._wire.is_closing():
            if self._wire.can_write_eof():
                self._wire.write_eof()
            self._gone = self._loop.create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    await self._gone
        return answer

    def _refused(self, refusal: Refusal) -> web.Response:
        answer = self._house.refuse(refusal)
        answer.force_close()
        return answer


def _in_our_words(answer: web.HTTPException) -> Refusal:
    if answer.status == web.HTTPNotFound.status_code:
        return Refusal("catalogue.unknown", "There is nothing here; see /openapi.json and /v1/catalogue.")
    if answer.status == web.HTTPExpectationFailed.status_code:
        return Refusal("request.malformed", "The header Expect can say 100-continue and nothing else.")
    return Refusal("request.malformed", "The request does not fit the address; see /openapi.json.")


def _what_is_wrong(error: BaseException) -> str:
    """Never in the words of the parser, which quote what was sent."""
    if isinstance(error, LineTooLong):
        return (
            "The head of the request is too long: "
            f"{MAX_LINE} bytes for its target, for a header's name and for its value, {MAX_HEAD} for all together."
        )
    return (
        "What was sent is no request of HTTP/1.1 (RFC 9112), has no Host, frames its body in two ways or wrongly, "
        f"or has more than {MAX_HEADERS} headers."
    )
