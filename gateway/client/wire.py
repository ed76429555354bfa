"""One HTTP request to the gateway and its answer, read whole and bounded."""

import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import aiohttp

from gateway import __version__

MAX_ANSWER = 16 * 2**20
MAX_PROBLEM = 256 * 2**10
_CONNECT_SECONDS = 5.0

UNSENDABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""What no header may hold: control characters, and halves of characters."""


class GatewayError(Exception):
    """No answer was had. ``str()`` of it can be logged: it holds no key, no token and nothing of a body."""

    temporary = False
    """The same call with the same idempotency key may succeed later."""
    retry_after: float | None = None
    """Seconds that the gateway asks to wait."""
    idempotency_key: str | None = None
    """The key that went along: send it again when you repeat the call."""


class Unreachable(GatewayError):
    """The gateway did not answer, or something else did. Whether it took the call is not known."""

    def __init__(self, detail: str, *, temporary: bool = False, status: int | None = None) -> None:
        super().__init__(detail)
        self.temporary = temporary
        self.status = status
        """Of an answer that was not the gateway's."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | Callable[[], AsyncIterator[bytes]] | None = field(default=None, repr=False)
    """A function makes it anew for each attempt."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Wire:
    """One HTTP request to the gateway and its answer, read whole; every failure of it is Unreachable."""

    def __init__(self, url: str, trust: ssl.SSLContext | None) -> None:
        self.url = url
        self._trust = trust
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def send(self, request: Request, seconds: float) -> Reply:
        if seconds <= 0:
            raise Unreachable("The time for this call was over before it could be sent; give it a longer timeout.")
        bounds = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_SECONDS)
        async with self.stream(request, bounds) as response:
            return Reply(response.status, response.headers, await self.read(response))

    @contextlib.asynccontextmanager
    async def stream(self, request: Request, bounds: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer as it comes; whatever of it fails within the context is Unreachable."""
        try:
            async with self._open().request(
                request.method,
                self.url + request.path,
                headers=request.headers,
                data=request.body() if callable(request.body) else request.body,
                allow_redirects=False,
                timeout=bounds,
            ) as response:
                yield response
        except TimeoutError as error:
            raise Unreachable(
                f"{self.url} did not answer in time; look at the way to it, or give the call a longer timeout.",
                temporary=True,
            ) from error
        except aiohttp.ClientSSLError as error:
            raise Unreachable(f"{self.url} is not trusted: {error}. Name the right ca_file.") from error
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(f"{self.url} cannot be reached: {error}.", temporary=True) from error
        except (aiohttp.ClientError, OSError) as error:
            # Not chained: aiohttp's response errors carry the request's headers, and with them the token.
            raise Unreachable(
                f"The connection to {self.url} was lost before its answer was whole ({type(error).__name__}).",
                temporary=True,
            ) from None

    async def close(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise Unreachable("This client was closed; make a new one.")
        if self._session is None:  # made here, because it belongs to the running loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._trust or True),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"exchange-gateway-client/{__version__}"},
            )
        return self._session

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole answer, bounded."""
        most = MAX_ANSWER if response.ok else MAX_PROBLEM
        whole = bytearray()
        async for chunk in response.content.iter_any():
            whole += chunk
            if len(whole) > most:
                raise Unreachable(
                    f"{self.url} sent an answer of more than {most} bytes, which was given up.", status=response.status
                )
        return bytes(whole)
