"""Other parties' published keys: an asynchronous cache of JWKS addresses that the catalogue names.

A set is fresh for five minutes and then renewed in the background while it is still used; the last good set is kept
for a day when its address fails. An unknown ``kid`` fetches once for everybody who waits, at most every ten seconds for
each address, so that forged tokens cannot turn the gateway against an issuer (GHSA-2gx3-rcp4-g85q).
"""

import asyncio
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp

from gateway.core.jwk import BadKey, VerifyingKey, verifying_key
from gateway.core.model import Catalogue
from gateway.core.shape import Malformed, parse

FRESH = 300.0
"""Seconds for which a set is used without a second thought."""
KEPT = 86_400.0
"""Seconds for which the last good set is used while its address fails."""
COOL_DOWN = 10.0
"""Seconds between two fetches of one address."""
UNKNOWN = 60.0
"""Seconds for which a kid that a good set lacked is not looked for again."""
MAX_UNKNOWN = 256
"""Such kids remembered, for each address."""
MAX_BYTES = 65_536
MAX_KEYS = 64
SECONDS = 5.0
"""For one fetch in all."""

MAX_WAITING = 64
"""Callers that wait for one address; others are told at once that it cannot be asked."""


class KeysUnavailable(Exception):
    """No good set is at hand and none can be had now."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after
        """Seconds."""


class KeyEvents(Protocol):
    """Who counts and logs what becomes of fetches."""

    def keys(self, address: str, outcome: str) -> None:
        """``fetched``, or one sentence on what failed."""


class _Unfit(Exception):
    """The address gave no set that can be used. The message says why."""


@dataclass(slots=True)
class _Place:
    """What is known of one address."""

    keys: Mapping[str, VerifyingKey] = field(default_factory=dict)
    thumbprints: frozenset[str] = frozenset()
    good_at: float | None = None
    """When the last good set came; None: there is none to be used."""
    tried_at: float | None = None
    task: asyncio.Task[None] | None = None
    unknown: OrderedDict[str, float] = field(default_factory=OrderedDict)
    waiting: int = 0


class Jwks:
    """The keys behind https addresses."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext,
        events: KeyEvents,
        clock: Callable[[], float] = time.monotonic,
        seconds: float = SECONDS,
    ) -> None:
        """``tls`` verifies the servers; ``clock`` counts seconds and never goes back; a fetch has ``seconds``."""
        self._seconds = seconds
        self._tls = tls
        self._events = events
        self._clock = clock
        self._places: dict[str, _Place] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    async def key(self, address: str, kid: str) -> VerifyingKey | None:
        """The key, or None where the set lacks it. ``address`` must come from the catalogue, never from a token.

        Raises KeysUnavailable.
        """
        place = self._current(address)
        found = place.keys.get(kid)
        if found is not None:
            return found
        asked = self._clock()
        if asked - place.unknown.get(kid, -UNKNOWN) < UNKNOWN:
            return None
        if self._may_ask(place):
            self._ask(address, place)
        task = place.task
        if task is not None:
            if place.waiting >= MAX_WAITING:  # a slow address must not fill the gateway with callers
                raise KeysUnavailable(COOL_DOWN)
            place.waiting += 1
            try:
                await asyncio.wait({task})  # does not cancel it when this caller goes away
            finally:
                place.waiting -= 1
        if place.good_at is None:
            raise KeysUnavailable(COOL_DOWN)
        found = place.keys.get(kid)
        if found is None and task is not None and place.good_at >= asked:
            _remember(place.unknown, kid, place.good_at)
        return found

    def lists(self, address: str, thumbprint: str) -> bool | None:
        """Whether the set at hand has the key with this RFC 7638 thumbprint; None where no set is at hand."""
        if address not in self._places:
            return None
        place = self._current(address)
        return None if place.good_at is None else thumbprint in place.thumbprints

    def follow(self, catalogue: Catalogue) -> None:
        """Forget the addresses that a new catalogue no longer names."""
        named = {system.keys_url for system in catalogue.systems.values()}
        named |= {issuer.keys_url for agency in catalogue.agencies.values() for issuer in agency.issuers}
        self._places = {address: place for address, place in self._places.items() if address in named}

    async def close(self) -> None:
        """Stop what runs and let go of connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _current(self, address: str) -> _Place:
        """The place, its set dropped where it is too old, and renewed in the background where it is not fresh."""
        place = self._places.setdefault(address, _Place())
        if place.good_at is not None:
            age = self._clock() - place.good_at
            if age > KEPT:
                place.keys, place.thumbprints, place.good_at = {}, frozenset(), None
            elif age > FRESH and self._may_ask(place):
                self._ask(address, place)
        return place

    def _may_ask(self, place: _Place) -> bool:
        return place.task is None and (place.tried_at is None or self._clock() - place.tried_at >= COOL_DOWN)

    def _ask(self, address: str, place: _Place) -> None:
        task = place.task = asyncio.create_task(self._renew(address, place))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _renew(self, address: str, place: _Place) -> None:
        try:
            keys = _usable(await self._fetch(address))
        except _Unfit as fault:
            self._events.keys(address, str(fault))
        else:
            place.keys = keys
            place.thumbprints = frozenset(key.thumbprint for key in keys.values())
            place.good_at = self._clock()
            self._events.keys(address, "fetched")
        finally:
            place.tried_at = self._clock()  # at the end: a slow address is left in peace as long as a fast one
            place.task = None

    async def _fetch(self, address: str) -> bytes:
        if not address.startswith("https://"):
            raise _Unfit("the address is not https")
        if self._session is None:
            self._session = _session(self._tls, self._seconds)
        body = bytearray()
        try:
            async with self._session.get(address, allow_redirects=False) as response:
                if response.status != 200:
                    raise _Unfit(f"the address answered {response.status}, not 200; redirects are not followed")
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise _Unfit(f"the set is larger than {MAX_BYTES} bytes")
        except TimeoutError as error:
            raise _Unfit(f"the address did not answer within {self._seconds:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _Unfit(f"the address cannot be reached ({type(error).__name__})") from error
        return bytes(body)


def _session(tls: ssl.SSLContext, seconds: float) -> aiohttp.ClientSession:
    """A client that keeps nothing and unpacks nothing: a compressed answer could be a bomb."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, limit=32, limit_per_host=2),
        timeout=aiohttp.ClientTimeout(total=seconds),
        headers={"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


def _usable(raw: bytes) -> Mapping[str, VerifyingKey]:
    """The keys that the gateway takes, by kid; others, for encryption say, are passed over (RFC 7517, section 5)."""
    try:
        document = parse(raw)
    except Malformed as error:
        raise _Unfit(f"the set is {error}") from error
    given = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(given, list) or len(given) > MAX_KEYS:
        raise _Unfit(f"the set has no list of at most {MAX_KEYS} keys")
    keys: dict[str, VerifyingKey] = {}
    ambiguous = set()
    for jwk in given:
        try:
            key = verifying_key(jwk if isinstance(jwk, dict) else {})
        except BadKey:
            continue
        if key.kid in keys:
            ambiguous.add(key.kid)
        keys[key.kid] = key
    return {kid: key for kid, key in keys.items() if kid not in ambiguous}


def _remember(unknown: OrderedDict[str, float], kid: str, at: float) -> None:
    unknown[kid] = at
    unknown.move_to_end(kid)
    if len(unknown) > MAX_UNKNOWN:
        unknown.popitem(last=False)
