"""How requests are written and answers read, byte by byte and without a network."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import __version__
from gateway.edge.wire import MAX_FIELDS, MAX_HEAD, MAX_INFORMATIONAL, Reader, parted, written
from gateway.protocols.protocol import Cut, Reply, TooLarge

OK = b"HTTP/1.1 200 OK\r\n"
TWO = OK + b"Content-Length: 2\r\n\r\n{}"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(pieces: Iterable[bytes], method: str = "POST", max_bytes: int = 1000) -> tuple[Reply, bool] | None:
    """The answer and whether its connection can carry another one; None while it is not whole."""
    reader = Reader()
    reader.expect(method, max_bytes)
    whole = False
    for piece in pieces:
        whole = reader.feed(piece)
    return (reader.reply(), reader.reusable) if whole else None


def whole(data: bytes, method: str = "POST", max_bytes: int = 1000) -> tuple[Reply, bool]:
    found = read([data], method, max_bytes)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "answer",
    {
        "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        "the same length twice": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        "a list of lengths": OK + b"Content-Length: 2, 2\r\n\r\n{}",
        "a signed length": OK + b"Content-Length: +2\r\n\r\n{}",
        "a length beyond counting": OK + b"Content-Length: 99999999999999999999\r\n\r\n{}",
        "a length and a coding": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "a coding and a length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "a coding that was not offered": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "a coding that hardly differs": OK + b"Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "the coding twice": OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n2\r\n{}\r\n0\r\n\r\n",
        "a coding of HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "a length in a trailer": CHUNKED + b"2\r\n{}\r\n0\r\nContent-Length: 9\r\n\r\n",
        "a wrong chunk size": CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
        "a chunk size beyond counting": CHUNKED + b"10000000000000002\r\n{}\r\n0\r\n\r\n",
        "a chunk that goes on": CHUNKED + b"2\r\n{} \r\n0\r\n\r\n",
        "chunks with bare line feeds": CHUNKED + b"2\n{}\n0\n\n",
        "a folded line": OK + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
        "a bare line feed": OK + b"X: a\nContent-Length: 2\r\n\r\n{}",
        "a bare carriage return": OK + b"X: a\rY: b\r\nContent-Length: 2\r\n\r\n{}",
        "NUL in a value": OK + b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}",
        "NUL in a name": OK + b"X\0: ab\r\nContent-Length: 2\r\n\r\n{}",
        "a space before the colon": OK + b"Content-Length : 2\r\n\r\n{}",
        "no colon": OK + b"Content-Length\r\n\r\n{}",
        "no name": OK + b": 2\r\nContent-Length: 2\r\n\r\n{}",
        "too many lines": OK + b"X: a\r\n" * 10_000 + b"\r\n",
        "one line too many": OK + b"X: a\r\n" * (MAX_FIELDS + 1) + b"\r\n",
        "a huge line": OK + b"X: " + b"x" * (MAX_HEAD + 1) + b"\r\nContent-Length: 0\r\n\r\n",
        "a huge reason phrase": b"HTTP/1.1 200 " + b"x" * (MAX_HEAD + 1),
        "a flood before the answer": b"HTTP/1.1 103 Early\r\n\r\n" * (MAX_INFORMATIONAL + 1) + TWO,
        "no HTTP": b"\x16\x03\x01 this is no HTTP at all\r\n\r\n",
        "an empty line first": b"\r\n" + TWO,
        "another protocol": b"RTSP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/2": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\n{}",
        "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\n{}",
        "status 000": b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\n{}",
        "status 600": b"HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\n{}",
    }.items(),
    ids=lambda pair: pair[0],
)
def test_an_answer_that_could_be_read_in_two_ways_is_cut(answer: tuple[str, bytes]) -> None:
    """Whatever is no HTTP/1, has no bounds, or ends where two readers would disagree, is no answer: in any pieces."""
    _, data = answer
    with pytest.raises(Cut):
        read([data])
    with pytest.raises(Cut):
        read(data[i : i + 1] for i in range(len(data)))


@pytest.mark.parametrize(
    ("data", "status", "body", "reusable"),
    [
        (TWO, 200, b"{}", True),
        (OK + b"Content-Length: 0\r\n\r\n", 200, b"", True),
        (CHUNKED + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", 200, b"{}", True),
        (CHUNKED + b'2;a=b;c="d"\r\n{}\r\n0;x\r\nX-Two: late\r\nX-Three: 3\r\n\r\n', 200, b"{}", True),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", 304, b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nX-Two: 1\r\n\r\n" + TWO, 200, b"{}", True),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}", 204, b"", False),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nbytes", 101, b"", False),
        (b"HTTP/1.1 101 Switching\r\n\r\nbytes", 101, b"", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", False),
        (OK + b"Connection: x, Close\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", False),
        (TWO + TWO, 200, b"{}", False),
        (TWO + b"garbage", 200, b"{}", False),
        (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}" + TWO, 200, b"{}", False),
    ],
)
def test_an_answer_ends_where_it_says(data: bytes, status: int, body: bytes, reusable: bool) -> None:  # noqa: FBT001
    """One answer is read, nothing behind it; a connection with more on it, or said to end, carries no other one."""
    reply, kept = whole(data)
    assert (reply.status, reply.body, kept) == (status, body, reusable)
    assert "x-two" not in reply.headers


def test_an_answer_to_head_has_no_body() -> None:
    """The length in it is another request's (RFC 9110, section 9.3.2)."""
    reply, reusable = whole(OK + b"Content-Length: 2\r\n\r\n", "HEAD")
    assert (reply.status, reply.body, reply.headers["content-length"], reusable) == (200, b"", "2", False)


def test_without_a_length_the_end_of_the_stream_ends_it() -> None:
    """Such an answer is whole at the end, and one with a length or in chunks is not."""
    for head, ended in ((OK + b"\r\n", True), (OK + b"Content-Length: 3\r\n\r\n", False), (CHUNKED + b"3\r\n", False)):
        reader = Reader()
        reader.expect("POST", 10)
        assert not reader.feed(head + b"{}")
        assert (reader.end(), reader.reusable) == (ended, False)
    assert not Reader().end()


def test_header_lines() -> None:
    """Names are asked for in lower case, values are stripped, and what is said twice is one list."""
    reply, _ = whole(OK + b"X-A:\t a \t\r\nx-a: b\r\nEmpty:\r\nLatin: \xe9\r\nContent-Length: 0\r\n\r\n")
    assert reply.headers == {"x-a": "a, b", "empty": "", "latin": "é", "content-length": "0"}


@pytest.mark.parametrize(
    "data", [OK + b"Content-Length: 11\r\n\r\n" + b"x" * 11, CHUNKED + b"b\r\n" + b"x" * 11, OK + b"\r\n" + b"x" * 11]
)
def test_the_body_is_bounded(data: bytes) -> None:
    """Ten bytes pass and eleven do not, however they come."""
    with pytest.raises(TooLarge):
        read([data], max_bytes=10)
    assert read([data], max_bytes=11) is None or whole(data, max_bytes=11)[0].body == b"x" * 11


@pytest.mark.parametrize("endless", [b"1;" + b"x" * 200_000, b"0\r\n" + b"X: a\r\n" * 10_000])
def test_what_stands_around_chunks_is_bounded(endless: bytes) -> None:
    """Extensions and trailers cannot go on for ever beside a small body."""
    with pytest.raises((Cut, TooLarge)):
        read([CHUNKED, endless], max_bytes=10)


def test_a_reader_begins_anew() -> None:
    """Nothing of an answer is left in the next one on the same connection."""
    reader = Reader()
    for number in (b"1", b"2"):
        reader.expect("POST", 1)
        assert reader.feed(OK + b"Content-Length: 1\r\nX-%b: x\r\n\r\n%b" % (number, number))
        assert reader.reply() == Reply(200, {"content-length": "1", f"x-{number.decode()}": "x"}, number)


_VALUE = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=20)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """A valid answer whose end it says itself."""
    names = draw(st.lists(st.from_regex(r"X-[A-Za-z0-9]{1,8}", fullmatch=True), max_size=5))
    lines = b"".join(f"{name}: {draw(_VALUE)}\r\n".encode("latin-1") for name in names)
    chunks = draw(st.lists(st.binary(min_size=1, max_size=30), max_size=4))
    before = b"HTTP/1.1 100 Continue\r\n\r\n" * draw(st.integers(0, 2))
    status = b"HTTP/1.1 %d Some Reason\r\n" % draw(st.sampled_from([200, 201, 404, 503]))
    if draw(st.booleans()):
        body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        return before + status + lines + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"
    return before + status + lines + b"Content-Length: %d\r\n\r\n" % len(b"".join(chunks)) + b"".join(chunks)


@given(answers(), st.lists(st.integers(0, 400)))
def test_pieces_do_not_matter(data: bytes, cuts: list[int]) -> None:
    """However an answer is cut into pieces on its way, the same is read, and nothing before its last byte."""
    ends = [0, *sorted(min(cut, len(data) - 1) for cut in cuts), len(data)]
    pieces = [data[begin:end] for begin, end in pairwise(ends)]
    assert read(pieces) == read([data]) == read(data[i : i + 1] for i in range(len(data)))
    assert read(pieces[:-1]) is None


def test_a_request() -> None:
    """Host first, then the client's own lines, the given ones, and the length of the body."""
    where, target = parted("http://registry.test:8080/persons?x=%26")
    assert written("POST", where, target, {"X-One": "1"}, b"{}") == (
        b"POST /persons?x=%26 HTTP/1.1\r\nHost: registry.test:8080\r\nUser-Agent: gateway/"
        + __version__.encode()
        + b"\r\nAccept-Encoding: identity\r\nX-One: 1\r\nContent-Length: 2\r\n\r\n{}"
    )


@pytest.mark.parametrize(
    ("method", "length"), [("POST", True), ("PUT", True), ("PATCH", True), ("GET", False), ("DELETE", False)]
)
def test_a_request_without_a_body(method: str, length: bool) -> None:  # noqa: FBT001
    """It says so where a body could be expected (RFC 9110, section 8.6)."""
    where, target = parted("http://h/")
    assert (b"\r\nContent-Length: 0\r\n" in written(method, where, target, {}, None)) is length


@pytest.mark.parametrize(
    ("url", "host", "port", "field", "target"),
    [
        ("http://h", "h", 80, "h", "/"),
        ("http://H:80/a", "h", 80, "h", "/a"),
        ("https://h:443?b", "h", 443, "h", "/?b"),
        ("https://h:80/?b", "h", 80, "h:80", "/?b"),
        ("http://[::1]/", "::1", 80, "[::1]", "/"),
        ("http://[::1]:8080/", "::1", 8080, "[::1]:8080", "/"),
    ],
)
def test_an_address(url: str, host: str, port: int, field: str, target: str) -> None:
    """The host to connect to has no brackets, the Host header has them, and no port that goes without saying."""
    where, found = parted(url)
    assert (where.host, where.port, where.field, found) == (host, port, field, target)
    assert where.secure == url.startswith("https:")


@pytest.mark.parametrize(
    "url",
    [
        *("gopher://h/", "http://", "http:///a", "http://h:0/", "http://h:99999/", "http://h:/", "http://h:8x/"),
        *("http://user@h/", "http://[::1/", "http://::1/", "http://h/a b", "http://h/a\r\nX: 1", "http://h/\u00e9"),
        *("http://h/#part", "http://h\\a/", "//h/", ""),
    ],
)
def test_no_address(url: str) -> None:
    """What is none, or could end the request line, is refused without being repeated."""
    with pytest.raises(ValueError, match="no http or https url"):
        parted(url)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {"X": "a\r\nY: b"}),
        ("POST", {"X": "a\nb"}),
        ("POST", {"X": "a\0"}),
        ("POST", {"X": "\u00e9"}),
        ("POST", {"X\r\nY": "a"}),
        ("POST", {"X\nY": "a"}),
        ("POST", {"X Y": "a"}),
        ("POST", {"": "a"}),
        ("POST", {"X": "a", "": "b"}),
        ("POST", {"X": "a", "x": "b"}),
        ("POST", {"content-length": "0"}),
        ("POST", {"Transfer-Encoding": "chunked"}),
        ("POST", {"HOST": "other"}),
        ("POST /", {}),
        ("CONNECT", {}),
    ],
)
def test_no_header_changes_the_request(method: str, headers: dict[str, str]) -> None:
    """Nothing that is given can add a line, end the head, or say a second time where the body ends."""
    where, target = parted("http://h/")
    with pytest.raises(ValueError, match=r"header|method"):
        written(method, where, target, headers, b"{}")
