"""The event loops that tests of the network run on: the gateway's own, and the standard library's."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}
"""``gateway serve`` runs on uvloop, which is not to be had everywhere."""
ON_BOTH = {
    "test_outbound.py",
    "test_connections.py",
    "test_dialing.py",
    "test_peer.py",
    "test_listener.py",
    "test_drain.py",
    "test_tls.py",
}


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What speaks to transports itself must do so on both; for everything else one is enough."""
    return LOOPS if item.path.name in ON_BOTH else {"asyncio": LOOPS["asyncio"]}
