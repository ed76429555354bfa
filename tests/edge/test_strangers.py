"""Who fails to prove who they are again and again, from one address, is answered late."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.core.model import Rate
from gateway.edge.strangers import MAX_ADDRESSES, WAIT_SECONDS, Strangers
from tests.fakes.parties import LOOK_UP, PERSON, TAX
from tests.fakes.town import Reply, Town, opened


def test_an_address_has_so_many_at_once() -> None:
    """Then each waits, until time has passed; other addresses do not, but the same subscriber's of IPv6 do."""
    now = [1000.0]
    strangers = Strangers(lambda: now[0], Rate(3, 3.0))
    assert [strangers.waits("192.0.2.1") for _ in range(5)] == [False, False, False, True, True]
    assert not strangers.waits("192.0.2.2")
    assert [strangers.waits(f"2001:db8::{number}") for number in range(5)] == [False, False, False, True, True]
    assert strangers.waits("::ffff:192.0.2.1")
    now[0] += 1.0
    assert [strangers.waits("192.0.2.1") for _ in range(2)] == [False, True]


def test_addresses_are_bounded() -> None:
    """The one that was seen longest ago is forgotten; what is no address is never known."""
    strangers = Strangers(lambda: 1000.0, Rate(1, 10.0))
    for number in range(MAX_ADDRESSES + 1):
        strangers.waits(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert strangers.waits("10.0.0.1")
    assert not strangers.waits("10.0.0.0")
    assert [strangers.waits("") for _ in range(2)] == [False, False]


FORM = (
    b"grant_type=client_credentials&client_assertion=x"
    b"&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)
DOORS: tuple[Callable[[Town], Awaitable[Reply]], ...] = (
    lambda town: town.call(TAX, LOOK_UP, PERSON, authorization="Bearer x"),
    lambda town: town.ask("GET", "/v1/catalogue", {"Authorization": "Bearer x"}),
    lambda town: town.ask("POST", "/oauth/token", {"Content-Type": "application/x-www-form-urlencoded"}, FORM),
)


@pytest.mark.parametrize("door", DOORS)
async def test_only_failures_wait(tmp_path: Path, door: Callable[[Town], Awaitable[Reply]]) -> None:
    """Beyond what is answered at once a forged proof waits at every door; a good call of the same address does not."""
    async with opened(tmp_path) as town:
        await town.token(TAX)
        while not town.gateway.exchanges.strangers.waits("127.0.0.1"):
            pass
        begun = time.monotonic()
        assert (await door(town)).status == 401
        assert time.monotonic() - begun >= WAIT_SECONDS
        begun = time.monotonic()
        assert (await town.call(TAX, LOOK_UP, PERSON)).status == 200
        assert time.monotonic() - begun < WAIT_SECONDS
