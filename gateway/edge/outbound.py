"""The HTTP client towards agencies' systems: one session, one attempt, every size and time bounded."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Self

import aiohttp
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from gateway import __version__
from gateway.protocols.protocol import Cut, Reply, TooLarge, Unsent

CONNECTIONS = 100
"""To one host and port, under one TLS configuration."""
IDLE_SECONDS = 4.0
"""A pooled connection lives this long unused: less than the five seconds after which common servers hang up."""
CONNECT_SHARE = 0.75
"""Of the time: what waiting for a connection may take. It ends before the whole does, so that a call which found no
connection is known not to have been sent."""


class _Connector(aiohttp.TCPConnector):
    """Gives out no connection on which an answer nobody asked for lies waiting.

    aiohttp 3.14 hands such an answer to the next request: one person's record to whoever asks for another's.
    """

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:  # noqa: ASYNC109 - aiohttp's signature
        while True:
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()


async def _once(request: ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """aiohttp sends PUT and DELETE again, silently, when a kept connection breaks (``retry_persistent_connection``).

    A write must not have two effects, so what it would catch is turned here into what it does not know.
    """
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise Cut(type(error).__name__) from None


class AiohttpOutbound:
    """Outbound over one aiohttp session; an async context manager, to be opened inside the event loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=0, limit_per_host=CONNECTIONS, keepalive_timeout=IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"gateway/{__version__}", "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
            middlewares=(_once,),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        seconds: float,
        max_bytes: int,
        tls: ssl.SSLContext | None = None,
    ) -> Reply:
        """See ``protocols.protocol.Outbound``."""
        if self._session is None or self._session.closed:
            raise Unsent("the gateway is shutting down")
        if seconds <= 0:
            raise Unsent("no time is left")
        # aiohttp's words carry the url, and the url may carry an identifier: hence `from None` throughout.
        target = _target(url)
        try:
            async with asyncio.timeout(seconds):
                response = await self._session.request(
                    method,
                    target,
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(connect=seconds * CONNECT_SHARE, ceil_threshold=seconds),
                    ssl=True if tls is None else tls,
                )
                return await _read(response, max_bytes)
        except aiohttp.ClientConnectorCertificateError as error:
            raise Unsent(str(error.certificate_error)) from None
        except aiohttp.ClientConnectorError as error:
            raise Unsent(error.os_error.strerror or type(error.os_error).__name__) from None
        except (aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise Unsent(type(error).__name__) from None
        except TimeoutError:
            raise TimeoutError(f"no whole answer within {seconds:.3g} seconds") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Cut(type(error).__name__) from None


def _target(url: str) -> URL:
    try:
        target = URL(url, encoded=True)
        if target.scheme in {"http", "https"} and target.port:
            return target
    except ValueError:  # yarl finds a wrong port only when it is asked for it
        pass
    raise Unsent("the address is no http or https url")


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> Reply:
    """The answer with its whole body."""
    chunks = []
    size = 0
    try:
        while size <= max_bytes and (chunk := await response.content.readany()):
            chunks.append(chunk)
            size += len(chunk)
    finally:
        if not response.closed:  # what was left unread takes its connection with it
            response.close()
    if size > max_bytes:
        raise TooLarge(f"more than {max_bytes} bytes")
    return Reply(response.status, response.headers, chunks[0] if len(chunks) == 1 else b"".join(chunks))
