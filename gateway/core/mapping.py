"""How an endpoint's manifest maps a request onto an agency's own API: addresses, headers and fields, compiled once.

A placeholder ``{/json/pointer}`` (RFC 6901) stands for a text, number or boolean of the request body. Errors name
the pointer and never the value: values are often identifiers of persons.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import quote, unquote

import orjson

from gateway.core.minimise import parts

_PLACEHOLDER = re.compile(r"\{(/[^{}]*)\}")
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?=[/?]|$)")
_WRITTEN_OUT = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*")
"""What may stand in a path and query (RFC 3986, sections 3.3 and 3.4); a fragment is never sent."""
# Khmer and Persian need invisible joiners, so only control characters, line ends and halves of characters are out.
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class _Hole:
    pointer: str
    tokens: tuple[str, ...]

    def text(self, body: Any) -> str:
        value = _find(body, self.tokens)
        if isinstance(value, str):
            return value
        if isinstance(value, bool | int | float):
            return orjson.dumps(value).decode()
        if value is _MISSING:
            raise ValueError(f"the request has nothing at {self.pointer}, which the endpoint needs")
        raise ValueError(f"the request must have a text, number or boolean at {self.pointer}")

    def escaped(self, body: Any) -> str:
        text = self.text(body)
        if _INVISIBLE.search(text):
            raise ValueError(f"the text at {self.pointer} has control characters")
        return quote(text, safe="")

    def segment(self, body: Any) -> str:
        """Percent-encoded, so that it neither ends its path segment nor climbs out of it."""
        text = self.escaped(body)
        if text in {"", ".", ".."}:
            raise ValueError(f"the text at {self.pointer} can be no part of a path")
        return text


_Piece = str | _Hole


def _pieces(template: str) -> list[_Piece]:
    """Literal text and placeholders in turn, beginning and ending with literal text."""
    pieces: list[_Piece] = []
    for index, text in enumerate(_PLACEHOLDER.split(template)):
        if index % 2:
            pieces.append(_Hole(text, _pointer(text)))
        elif "{" in text or "}" in text:
            raise ValueError(
                f"{template!r} has a brace that opens no {{/json/pointer}}; is an environment variable not set?"
            )
        else:
            pieces.append(text)
    return pieces


def _pointer(text: str) -> tuple[str, ...]:
    try:
        return parts(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no JSON Pointer: write it as /member/member") from error


def _find(value: Any, tokens: Sequence[str]) -> Any:
    """What stands there, through objects only; an array on the way has no one value."""
    for token in tokens:
        if not isinstance(value, dict) or token not in value:
            return _MISSING
        value = value[token]
    return value


class Address:
    """The address that a request goes to; placeholders stand in its path and its query."""

    __slots__ = ("_fixed", "_path", "_query")

    def __init__(self, url: str, query: Mapping[str, str]) -> None:
        """Compile. Raises ValueError with a sentence that says what is wrong with the address."""
        self._path: list[_Piece] = []
        self._query: list[_Piece] = []
        for piece in _pieces(url):
            self._take(piece)
        origin = _ORIGIN.match(str(self._path[0]))
        open_ended = origin is None or (len(self._path) > 1 and "/" not in str(self._path[0])[origin.end() :])
        if origin is None or open_ended or int(origin["port"] or 0) > 65535:
            raise ValueError(
                f"the address {url!r} must begin with http:// or https:// and a host, without user or placeholder"
            )
        for piece in (str(self._path[0])[origin.end() :], *self._path[1:], *self._query):
            if isinstance(piece, str) and not _WRITTEN_OUT.fullmatch(piece):
                raise ValueError(f"the address {url!r} has characters that must be percent-encoded, or a fragment")
        _hold_segments(url, self._path)
        for name, template in query.items():
            self._query += ["&" if self._query else "?", quote(name, safe="") + "="]
            self._query += [quote(piece, safe="") if isinstance(piece, str) else piece for piece in _pieces(template)]
        holes = any(isinstance(piece, _Hole) for piece in (*self._path, *self._query))
        self._fixed = None if holes else "".join(map(str, (*self._path, *self._query)))

    def _take(self, piece: _Piece) -> None:
        if self._query or isinstance(piece, _Hole):
            (self._query or self._path).append(piece)
            return
        path, mark, query = piece.partition("?")
        self._path.append(path)
        if mark:
            self._query.append(mark + query)

    @property
    def secure(self) -> bool:
        """Whether it is an https address."""
        return str(self._path[0]).startswith("https:")

    def filled(self, body: Any) -> str:
        """The address for this request. Raises ValueError naming the pointer that has no usable value."""
        if self._fixed is not None:
            return self._fixed
        path = [piece if isinstance(piece, str) else piece.segment(body) for piece in self._path]
        query = [piece if isinstance(piece, str) else piece.escaped(body) for piece in self._query]
        return "".join(path + query)


def _hold_segments(url: str, path: Sequence[_Piece]) -> None:
    """No value can complete a segment to ``..``: beside a placeholder stands nothing, or more than dots."""
    for segment in "".join(piece if isinstance(piece, str) else "{}" for piece in path).split("/")[3:]:
        written = unquote(segment.replace("{}", ""))
        if "{}" in segment and segment != "{}" and not written.strip("."):
            raise ValueError(f"the address {url!r} needs some text between the placeholders of one path segment")


class Line:
    """A header's value, with or without placeholders."""

    __slots__ = ("_pieces", "fixed")

    def __init__(self, template: str) -> None:
        """Compile. Raises ValueError where the template is wrong or no header can carry it."""
        self._pieces = _pieces(template)
        self.fixed: str | None = None
        """The value itself where it holds no placeholder."""
        if len(self._pieces) == 1:
            self.fixed = line(template, "the header's value")

    def filled(self, body: Any) -> str:
        """The value for this request. Raises ValueError naming the pointer that has no usable value."""
        return "".join(
            piece if isinstance(piece, str) else line(piece.text(body), f"the text at {piece.pointer}")
            for piece in self._pieces
        )


def line(text: str, what: str) -> str:
    """The text, if a header can carry it: printable ASCII (RFC 9110, section 5.5). Raises ValueError naming ``what``.

    Latin-1 is left out on purpose: clients and servers disagree whether such bytes are Latin-1 or UTF-8.
    """
    if not (text.isascii() and text.isprintable()):
        raise ValueError(f"{what} has characters that no header can carry")
    return text


class Fields:
    """A new value made of parts of another one: each target pointer takes what stands at its source pointer.

    Pointers pass objects only; ``""`` is the whole value, as a source or as the only target.
    """

    __slots__ = ("_moves",)

    def __init__(self, mapping: Mapping[str, str]) -> None:
        """Compile. Raises ValueError where a pointer is none, or one target lies within another."""
        self._moves = tuple((_pointer(target), _pointer(source)) for target, source in mapping.items())
        targets = sorted(target for target, _ in self._moves)
        for shorter, longer in pairwise(targets):
            if longer[: len(shorter)] == shorter:
                raise ValueError(f"the target /{'/'.join(longer)} lies within the target /{'/'.join(shorter)}")

    def of(self, value: Any) -> Any:
        """The new value; a source that is not there leaves its target out."""
        made: dict[str, Any] = {}
        for target, source in self._moves:
            found = _find(value, source)
            if found is _MISSING:
                continue
            if not target:
                return found
            here = made
            for token in target[:-1]:
                here = here.setdefault(token, {})
            here[target[-1]] = found
        return made
