"""HTTP/1.1 as bytes, without any IO: how a request is written and how an answer is read (RFC 9112).

llhttp, by way of httptools, parses strictly: it refuses bare line feeds, folded and malformed header lines, two
lengths, and a length beside a transfer coding. What it leaves open is bounded or refused here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import httptools

from gateway import __version__
from gateway.protocols.protocol import Cut, Reply, TooLarge

MAX_HEAD = 65536
"""Bytes of an answer's head, everything before it and its trailers included."""
MAX_FIELDS = 128
"""Header lines of an answer."""
MAX_INFORMATIONAL = 64
"""Answers of the 100s before the real one."""
_CHUNKING = 8
"""Raw bytes for each byte of a body, at most: a body in chunks of one byte has six."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
"""A request of these has a length even where it has no body (RFC 9110, section 8.6)."""
_URL = re.compile(r'(https?://[A-Za-z0-9._:\[\]-]+)((?:[/?][!"$-~]*)?)')
"""Origin and target. The target is visible ASCII: no space or line end can change the request line."""
_AUTHORITY = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = frozenset(
    {"connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"accept-encoding", "user-agent"}
)
"""What says where a message ends, and what every request has; given twice, one of them could be believed."""
_EVERYWHERE = f"User-Agent: gateway/{__version__}\r\nAccept-Encoding: identity\r\n"
_START = b"HTTP/1."


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request goes."""

    secure: bool
    host: str
    """Without the brackets of an IPv6 address."""
    port: int
    field: str
    """The Host header's value: without a port that is the scheme's own."""
    key: tuple[bool, str, int]


def parted(url: str) -> tuple[Origin, str]:
    """The origin of an address, and the target of its request line. Raises ValueError."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError("the address is no http or https url")
    target = found[2]
    return origin(found[1]), target if target.startswith("/") else "/" + target


@lru_cache(maxsize=1024)
def origin(text: str) -> Origin:
    """Of ``scheme://authority``. Only this is remembered: a whole address may hold an identifier."""
    scheme, _, authority = text.partition("://")
    found = _AUTHORITY.fullmatch(authority)
    own = 443 if scheme == "https" else 80
    port = own if found is None or found["port"] is None else int(found["port"])
    if found is None or not 0 < port < 65536:
        raise ValueError("the address is no http or https url")
    host = (found["six"] or found["name"]).lower()
    field = f"[{host}]" if found["six"] else host
    return Origin(scheme == "https", host, port, field if port == own else f"{field}:{port}", (own == 443, host, port))


def written(method: str, where: Origin, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """The whole request. Raises ValueError where a header cannot be sent as it is."""
    _hold(method, tuple(headers))
    values = "".join(headers.values())
    if not (values.isascii() and values.isprintable()):
        raise ValueError("a header's value has characters that no header can carry")
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    length = "" if body is None and method not in _WITH_BODY else f"Content-Length: {len(body or b'')}\r\n"
    head = f"{method} {target} HTTP/1.1\r\nHost: {where.field}\r\n{_EVERYWHERE}{lines}{length}\r\n"
    return head.encode("ascii") + (body or b"")


@lru_cache(maxsize=1024)
def _hold(method: str, names: tuple[str, ...]) -> None:
    """The same few each time, so that they are looked at once."""
    if method not in _METHODS:
        raise ValueError("the method is none that the gateway sends")
    if not all(map(_TOKEN.fullmatch, names)):
        raise ValueError("a header's name has characters that no header can carry")
    lowered = [name.lower() for name in names]
    if len(set(lowered)) < len(lowered) or not _OURS.isdisjoint(lowered):
        raise ValueError("a header is given twice, or is one that the client sets itself")


def _too_large(max_bytes: int, status: int, headers: Mapping[str, str]) -> TooLarge:
    return TooLarge(f"more than {max_bytes} bytes", Reply(status, headers, b""))


class _Enough(Exception):
    """Stops the parser; what for stands in the reader."""


class Reader:
    """Reads the answers of one connection, one at a time; ``on_...`` are llhttp's callbacks."""

    __slots__ = (
        "_bodiless",
        "_chunks",
        "_fault",
        "_fields",
        "_head",
        "_headed",
        "_headers",
        "_informational",
        "_max_bytes",
        "_parser",
        "_received",
        "_size",
        "_start",
        "_status",
        "_until_close",
        "_whole",
        "reusable",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.expect("GET", 0)

    def expect(self, method: str, max_bytes: int) -> None:
        """The next bytes are the answer to a request of this method."""
        self._bodiless = method == "HEAD"
        self._max_bytes = max_bytes
        self._chunks: list[bytes] = []
        self._size = self._received = self._head = self._fields = self._informational = self._status = 0
        self._headers: dict[str, str] = {}
        self._start = b""
        self._fault: Cut | TooLarge | None = None
        self._headed = self._until_close = self._whole = False
        self.reusable = False
        """Once the answer is whole: whether the connection may carry another one."""

    def feed(self, data: bytes) -> bool:
        """Take in what came; whether the answer is whole now. Raises Cut and TooLarge."""
        if self._received < len(_START):  # llhttp speaks RTSP and ICE too, and skips empty lines
            self._start = (self._start + data[: len(_START)])[: len(_START)]
            if not _START.startswith(self._start):
                raise Cut("the answer is no HTTP/1")
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.reusable = False
        except httptools.HttpParserError as error:
            if self._fault is not None:
                raise self._fault from None
            if not self._whole:
                raise Cut(f"the answer is no HTTP: {error}") from None
            self.reusable = False
        if not self._whole:
            self._hold_received()
        return self._whole

    def _hold_received(self) -> None:
        """What stands in no header and no body is bounded too: a reason phrase, extensions of chunks."""
        if not self._headed and self._received > MAX_HEAD:
            raise Cut("the answer's head is too large")
        if self._received > MAX_HEAD + _CHUNKING * self._max_bytes:
            raise _too_large(self._max_bytes, self._status, self._headers)

    def end(self) -> bool:
        """The other side has said all; whether that makes the answer whole."""
        self._whole = self._whole or self._until_close
        self.reusable = False
        return self._whole

    def reply(self) -> Reply:
        """The whole answer."""
        chunks = self._chunks
        return Reply(self._status, self._headers, chunks[0] if len(chunks) == 1 else b"".join(chunks))

    def _stop(self, fault: Cut | TooLarge) -> _Enough:
        self._fault = fault
        return _Enough()

    def on_message_begin(self) -> None:
        if self._whole:  # a second answer behind the first one
            raise _Enough

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._head += len(name) + len(value)
        if self._fields > MAX_FIELDS or self._head > MAX_HEAD:
            raise self._stop(Cut("the answer's head is too large"))
        if not self._headed:  # otherwise it is a trailer, which nobody asked for (RFC 9110, section 6.5.1)
            key, text = name.decode("ascii").lower(), value.decode("latin-1").strip(" \t")
            self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        status = self._status = self._parser.get_status_code()
        version = self._parser.get_http_version()
        if not 100 <= status <= 599 or version not in {"1.1", "1.0"}:
            raise self._stop(Cut("the answer is no HTTP/1"))
        if status < 200 and status != 101:
            return
        coding = self._headers.get("transfer-encoding")
        if coding is not None and (coding.lower() != "chunked" or version == "1.0"):
            # Where such a body ends is a matter of opinion (RFC 9112, section 6.1).
            raise self._stop(Cut("the answer's transfer coding is not the one that was offered"))
        self.reusable = version == "1.1" and status != 101
        self._until_close = coding is None and "content-length" not in self._headers
        self._headed = True
        if self._bodiless:  # llhttp cannot be told, and would wait for the body that is announced
            self._whole, self.reusable = True, False
            raise _Enough

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._max_bytes:
            raise self._stop(_too_large(self._max_bytes, self._status, self._headers))
        self._chunks.append(data)

    def on_message_complete(self) -> None:
        if self._headed:
            self._whole = True
            self.reusable = self.reusable and self._parser.should_keep_alive()
            return
        self._informational += 1
        if self._informational > MAX_INFORMATIONAL:
            raise self._stop(Cut("the answer only ever begins"))
        self._headers = {}
