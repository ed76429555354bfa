"""What the parent of workers tells operators' machines, and where each process is scraped."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import orjson
import pytest
from aiohttp import web

from gateway.edge import operations, roster
from gateway.edge.listener import Bounds, Listener, bound
from gateway.edge.roster import ParentMeters, Roster

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def listening(*routes: web.RouteDef) -> tuple[Listener, str]:
    app = web.Application()
    app.add_routes(routes)
    listener = Listener(app, Bounds(0.1, 8))
    return listener, await listener.open(bound("127.0.0.1:0"))


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("node-1.internal:9090", "node-1.internal"),
        ("10.0.0.5", "10.0.0.5"),
        ("[fd00::5]:9090", "[fd00::5]"),
        ("a/../b", "127.0.0.1"),
        ("evil:9090@other", "127.0.0.1"),
    ],
)
async def test_targets_are_where_prometheus_came_from(host: str, named: str) -> None:
    """The host is that of the request, if it is one; the ports are those that are listened on."""
    listener, address = await listening(operations.targets(lambda own: {"parent": own, "2": 9092}))
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{address}/targets", headers={"Host": host}) as answer,
    ):
        found = orjson.loads(await answer.read())
    await listener.close()
    assert answer.content_type == "application/json"  # anything else is refused by Prometheus
    assert found == [
        {"targets": [f"{named}:{address.rpartition(':')[2]}"], "labels": {"worker": "parent"}},
        {"targets": [f"{named}:9092"], "labels": {"worker": "2"}},
    ]


def says(body: bytes, status: int = 200) -> Handler:
    """A worker that answers that."""

    async def ready(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status)

    return ready


async def silent(_: web.Request) -> web.Response:
    """A worker that does not answer."""
    await asyncio.Event().wait()
    raise AssertionError


READY, DEGRADED = says(b'{"status": "ready"}'), says(b'{"status": "degraded"}')
DRAINING, NONSENSE, OTHER = says(b'{"status": "draining"}', 503), says(b"<h1>no</h1>"), says(b'{"status": "<script>"}')


@pytest.mark.parametrize(
    ("workers", "status", "said"),
    [
        ([READY, READY], "ready", ["ready", "ready"]),
        ([READY, READY, DRAINING], "ready", ["ready", "ready", "draining"]),
        ([READY], "degraded", ["ready"]),
        ([READY, silent], "degraded", ["ready", "unreachable"]),
        ([DEGRADED, DEGRADED], "degraded", ["degraded", "degraded"]),
        ([NONSENSE, OTHER], "unready", ["unreachable", "unreachable"]),
        ([DRAINING], "unready", ["draining"]),
        ([], "unready", []),
    ],
)
async def test_one_worker_that_serves_is_enough(workers: list[Handler], status: str, said: list[str]) -> None:
    """Ready with as many as wanted, degraded with one at least; who says nothing in a second is unreachable."""
    made = [await listening(web.get("/health/ready", worker)) for worker in workers]
    addresses = {number: address for number, (_, address) in enumerate(made, 1)}
    async with aiohttp.ClientSession() as session:
        known = Roster(ParentMeters(), lambda: addresses, 2, lambda: False)
        parent, address = await listening(*roster.routes(known, session))
        async with session.get(f"{address}/health/ready") as answer:
            found = orjson.loads(await answer.read())
        await asyncio.gather(parent.close(), *(listener.close() for listener, _ in made))
    assert answer.status == (503 if status == "unready" else 200)
    assert found == {"status": status, "workers": {str(n): each for n, each in enumerate(said, 1)}}


async def test_a_starting_worker_is_no_target() -> None:
    """It listens nowhere yet; a parent that ends says so, whatever its workers say."""
    async with aiohttp.ClientSession() as session:
        known = Roster(ParentMeters(), lambda: {1: ""}, 1, lambda: True)
        parent, address = await listening(*roster.routes(known, session))
        async with session.get(f"{address}/health/ready") as ready, session.get(f"{address}/targets") as targets:
            assert orjson.loads(await ready.read()) == {"status": "draining", "workers": {"1": "starting"}}
            assert [each["labels"]["worker"] for each in orjson.loads(await targets.read())] == ["parent"]
        await parent.close()
