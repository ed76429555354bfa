"""A connected socket to a host by its name: several addresses are tried, none for long (RFC 8305).

uvloop's ``create_connection`` tries them one after the other, so that one dead address takes all of the time.
"""

import asyncio
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest

from gateway.core.reach import Reach

STAGGER = 0.25
"""Seconds after which the next address is tried beside those before it (RFC 8305, section 5)."""

_Info = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]
"""What getaddrinfo gives for one address."""


class Barred(Exception):
    """The name leads only where the caller may not go; the text says what kind of addresses those are."""


async def reached(host: str, port: int, reach: Reach | None = None) -> socket.socket:
    """Raises OSError: of the name, or of the address that failed first; and Barred, before anything is dialled.

    ``reach`` is asked about each address that the name has now: nobody looks the name up again after it.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return await raced(mixed(found if reach is None else permitted(found, reach)))


def permitted(found: Sequence[_Info], reach: Reach) -> Sequence[_Info]:
    """Those that may be dialled. Raises Barred where there is none."""
    kinds = {each: reach.barred(str(each[4][0])) for each in found}
    left = [each for each, kind in kinds.items() if kind is None]
    if not left:
        raise Barred(f"its name leads to no address but {' and '.join(sorted(set(map(str, kinds.values()))))} ones")
    return left


def mixed(found: Sequence[_Info]) -> list[_Info]:
    """The families in turn, beginning with the one that the system prefers (RFC 8305, section 4)."""
    first = [each for each in found if each[0] == found[0][0]]
    others = [each for each in found if each[0] != found[0][0]]
    return [each for each in chain.from_iterable(zip_longest(first, others)) if each is not None]


async def raced(addresses: Sequence[_Info]) -> socket.socket:
    """The first that answers; the others are let go."""
    if len(addresses) == 1:
        return await _connected(addresses[0])
    attempts: list[asyncio.Task[socket.socket]] = []
    won: socket.socket | None = None
    try:
        for address in addresses:
            attempts.append(asyncio.create_task(_connected(address)))
            if won := await _winner(attempts, STAGGER):
                return won
        while won is None and any(not each.done() for each in attempts):
            won = await _winner(attempts, None)
    finally:
        for each in attempts:
            each.cancel()
        for result in await asyncio.gather(*attempts, return_exceptions=True):
            if isinstance(result, socket.socket) and result is not won:
                result.close()
    return won or attempts[0].result()


async def _winner(attempts: Sequence[asyncio.Task[socket.socket]], seconds: float | None) -> socket.socket | None:
    open_ones = [each for each in attempts if not each.done()]
    done, _ = await asyncio.wait(open_ones, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    return next((each.result() for each in done if not each.exception()), None)


async def _connected(address: _Info) -> socket.socket:
    family, kind, protocol, _, where = address
    connecting = socket.socket(family, kind, protocol)
    try:
        connecting.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connecting, where)
    except BaseException:
        connecting.close()
        raise
    return connecting
