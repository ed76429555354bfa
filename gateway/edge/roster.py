"""What the parent of several workers answers operators' machines: where each is scraped and how it is."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from gateway import __version__
from gateway.edge import operations
from gateway.edge.operations import Readiness

ASK_SECONDS = 1.0
"""A worker that does not say by then how it is counts as unreachable."""
MAX_SAID = 65536

PARENT = "parent"
"""The ``worker`` label of the parent's own metrics."""
STARTING = "starting"
UNREACHABLE = "unreachable"

Exit = ("clean", "failed", "killed", "stuck")


class ParentMeters:
    """The metrics of the process that keeps the workers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.living = Gauge("gateway_workers", "Workers that serve.", registry=self.registry)
        self.wanted = Gauge("gateway_workers_wanted", "How many there are to be.", registry=self.registry)
        self.exits = Counter(
            "gateway_worker_exits", "Workers that ended, by reason.", ["reason"], registry=self.registry
        )
        for reason in Exit:
            self.exits.labels(reason)
        self.build = Gauge("gateway_build_info", "The program.", ["version"], registry=self.registry)
        self.build.labels(__version__).set(1)


@dataclass(frozen=True, slots=True)
class Roster:
    """What is asked about."""

    meters: ParentMeters
    addresses: Callable[[], Mapping[int, str]]
    """By number, the address of each living worker's operations listener; empty until it serves."""
    wanted: int
    draining: Callable[[], bool]


def routes(roster: Roster, session: aiohttp.ClientSession) -> tuple[web.RouteDef, ...]:
    """``session`` asks the workers."""

    async def metrics(request: web.Request) -> web.Response:
        return await operations.exposition(request, roster.meters.registry)

    async def ready(_: web.Request) -> web.Response:
        addresses = sorted(roster.addresses().items())
        said = await asyncio.gather(*(_asked(session, address) for _, address in addresses))
        now = Readiness.DRAINING if roster.draining() else _together(said, roster.wanted)
        body = {
            "status": now,
            "workers": {str(number): each for (number, _), each in zip(addresses, said, strict=True)},
        }
        return operations.told(body, 200 if now in (Readiness.READY, Readiness.DEGRADED) else 503)

    return (
        web.get("/metrics", metrics),
        web.get("/health/live", operations.live),
        web.get("/health/ready", ready),
        operations.targets(lambda own: {PARENT: own, **_ports(roster.addresses())}),
    )


def _ports(addresses: Mapping[int, str]) -> dict[str, int]:
    return {str(number): int(address.rpartition(":")[2]) for number, address in sorted(addresses.items()) if address}


def _together(said: list[str], wanted: int) -> Readiness:
    """One that serves is enough; fewer than there are to be is worth a word."""
    if said.count(Readiness.READY) >= wanted:
        return Readiness.READY
    return Readiness.DEGRADED if {Readiness.READY, Readiness.DEGRADED} & set(said) else Readiness.UNREADY


async def _asked(session: aiohttp.ClientSession, address: str) -> str:
    if not address:
        return STARTING
    try:
        async with asyncio.timeout(ASK_SECONDS), session.get(f"{address}/health/ready") as answer:
            said = orjson.loads(await answer.content.read(MAX_SAID))
            return Readiness(said["status"])
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, TypeError, KeyError):
        return UNREACHABLE
