"""Endpoints while they are connected, replaced and let go of: nobody else waits, and nobody is sent elsewhere."""

import asyncio
import threading
import time
from dataclasses import replace

import pytest

from gateway.catalogue.files import NOTHING
from gateway.core.model import Endpoint, ServiceId
from gateway.edge.outbound import HttpOutbound
from gateway.edge.providers import NotConnected, Providers
from gateway.edge.workshop import Workshop
from gateway.protocols.protocol import Surroundings
from tests.edge.test_providers import ANSWER, KEY, Clock, Scripted, adopt, ask, fault, of, reloading
from tests.fakes.systems import endpoint
from tests.fakes.town import until


async def test_close_waits_for_all_at_once() -> None:
    """A system that is slow to let go of delays the end by its own time, not each by its own one after the other."""
    made = [Scripted(), Scripted()]
    for one, other in (made, reversed(made)):
        one.goes = other.gone
    handed = iter(made)
    providers = Providers(
        Surroundings(HttpOutbound(), python=False), Clock(), Workshop({"scripted": lambda *_: next(handed)})
    )
    await adopt(providers, of(endpoint("scripted"), replace(endpoint("scripted"), service=ServiceId("a.b.v1"))))
    async with asyncio.timeout(20):
        await providers.close()
    assert [each.closed for each in made] == [1, 1]


async def test_what_is_replaced_too_often_sends_nobody_elsewhere() -> None:
    """An exchange whose own system is no longer there is refused unsent; the system of today does not get it."""
    providers, made = reloading()
    before = endpoint("scripted", a=1)
    await adopt(providers, of(before))
    await adopt(providers, of(endpoint("scripted", a=2)))
    await until(lambda: made[0].closed)
    found = await fault(providers, before)
    assert (found.code, found.sent, [len(each.calls) for each in made]) == ("provider.unavailable", False, [0, 0])


async def test_code_that_hangs_holds_up_nobody() -> None:
    """The loop goes on while an agency's code is loaded, which fails in time; what comes too late is closed."""
    end, late = threading.Event(), Scripted()

    def hangs(endpoint: Endpoint, surroundings: Surroundings) -> Scripted:
        end.wait(10)
        return late

    providers = Providers(Surroundings(HttpOutbound(), python=True), Clock(), Workshop({"python": hangs}, seconds=0.05))
    turns = asyncio.create_task(turned())
    with pytest.raises(NotConnected, match=r"adapter\.py was not loaded within"):
        await providers.connect(of(endpoint("python")), NOTHING)
    turns.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turns
    end.set()
    await until(lambda: late.closed)


async def turned() -> None:
    """Fails where the loop stands still for long."""
    last = time.monotonic()
    while True:
        await asyncio.sleep(0)
        last, before = time.monotonic(), last
        assert last - before < 2


async def test_what_cannot_be_connected_may_be_lacking() -> None:
    """Where others serve already it answers provider.unavailable, also after a reload that leaves it as it was."""
    providers, _ = reloading()
    lacking = endpoint("scripted", wrong=True)
    good = replace(endpoint("scripted"), service=ServiceId("a.b.v1"))
    providers.adopt(await providers.connect(of(lacking, good), NOTHING, whole=False))
    await adopt(providers, of(lacking, replace(good, deadline=1.0)))
    found = await fault(providers, lacking)
    assert (found.code, found.sent) == ("provider.unavailable", False)
    assert providers.lacking() == {KEY: "its options are wrong"}
    assert await ask(providers, replace(good, deadline=1.0)) is ANSWER
    with pytest.raises(NotConnected):
        await providers.connect(of(replace(lacking, deadline=1.0), good), NOTHING)
