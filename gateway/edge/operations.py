"""What operators' machines ask, on a listener of their own: metrics, liveness, readiness."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import orjson
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from gateway.edge.telemetry import Meters


class Readiness(StrEnum):
    """Whether calls should be sent here."""

    READY = "ready"
    DEGRADED = "degraded"
    """Ready, and something that not every call needs is failing."""
    UNREADY = "unready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Health:
    """The answer of ``/health/ready``."""

    readiness: Readiness
    checks: Mapping[str, str]
    """By part: ok, or what is wrong with it."""


def routes(meters: Meters, health: Callable[[], Health], refresh: Callable[[], None]) -> tuple[web.RouteDef, ...]:
    """``refresh`` brings the gauges up to date before each scrape."""

    async def metrics(_: web.Request) -> web.Response:
        refresh()
        text = await asyncio.to_thread(generate_latest, meters.registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def live(_: web.Request) -> web.Response:
        return _json({"status": "live"}, 200)

    async def ready(_: web.Request) -> web.Response:
        now = health()
        status = 200 if now.readiness in (Readiness.READY, Readiness.DEGRADED) else 503
        return _json({"status": now.readiness, "checks": now.checks}, status)

    return (web.get("/metrics", metrics), web.get("/health/live", live), web.get("/health/ready", ready))


def _json(body: Mapping[str, object], status: int) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json", headers=headers)
