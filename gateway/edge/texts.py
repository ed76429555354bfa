"""What callers see of one catalogue, each text written once; nothing of an earlier catalogue is kept."""

from collections.abc import Callable, Hashable
from hashlib import sha256
from typing import Generic, TypeVarTuple

import orjson

from gateway.core.model import Catalogue

MAX_TEXTS = 256
"""Texts of one kind that are kept."""

_Key = TypeVarTuple("_Key")


class Texts(Generic[*_Key]):
    """JSON by what it is asked for with."""

    def __init__(self, show: Callable[[Catalogue, *_Key], object]) -> None:
        """``show`` may refuse: nothing is kept then."""
        self._show = show
        self._catalogue: Catalogue | None = None
        self._texts: dict[tuple[Hashable, ...], bytes] = {}

    def of(self, now: Catalogue, *key: *_Key) -> bytes:
        """As it is shown under this catalogue."""
        if now is not self._catalogue or len(self._texts) >= MAX_TEXTS:
            self._catalogue, self._texts = now, {}
        if key not in self._texts:
            self._texts[key] = orjson.dumps(self._show(now, *key))
        return self._texts[key]


def tag(text: bytes) -> str:
    """A strong validator of it (RFC 9110, section 8.8.3)."""
    return f'"{sha256(text).hexdigest()[:32]}"'


def unchanged(tag: str, given: str | None) -> bool:
    """Whether the caller has it already, by its If-None-Match (RFC 9110, section 13.1.2)."""
    known = [each.strip().removeprefix("W/") for each in (given or "").split(",")]
    return tag in known or known == ["*"]
