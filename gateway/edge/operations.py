"""What operators' machines ask, on a listener of their own: metrics, liveness, readiness, where to scrape."""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics

from gateway.edge.telemetry import Meters

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(:[0-9]{1,5})?")
_OPENMETRICS = re.compile(r"(?:^|,)\s*application/openmetrics-text\s*(?:[;,]|$)", re.IGNORECASE)
"""What Prometheus accepts best; the version is 1.0.0, whatever else is asked for."""


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

    async def metrics(request: web.Request) -> web.Response:
        refresh()
        return await exposition(request, meters.registry)

    async def ready(_: web.Request) -> web.Response:
        now = health()
        status = 200 if now.readiness in (Readiness.READY, Readiness.DEGRADED) else 503
        return told({"status": now.readiness, "checks": now.checks}, status)

    return (
        web.get("/metrics", metrics),
        web.get("/health/live", live),
        web.get("/health/ready", ready),
        targets(lambda own: {"1": own}),
    )


async def live(_: web.Request) -> web.Response:
    """It answers, so it lives."""
    return told({"status": "live"}, 200)


async def exposition(request: web.Request, registry: CollectorRegistry) -> web.Response:
    """Metrics as OpenMetrics, which has exemplars, for who asks for that; otherwise in Prometheus' text format."""
    asked = _OPENMETRICS.search(",".join(request.headers.getall("Accept", ())))
    text = await asyncio.to_thread(openmetrics.generate_latest if asked else generate_latest, registry)
    media = openmetrics.CONTENT_TYPE_LATEST if asked else CONTENT_TYPE_PLAIN_0_0_4
    return web.Response(body=text, headers={"Content-Type": media})


def targets(workers: Callable[[int], Mapping[str, int]]) -> web.RouteDef:
    """Prometheus' HTTP service discovery: every process with the port of its metrics, this one's given.

    The host is the one by which Prometheus came here; the address that is listened on may be 0.0.0.0.
    """

    async def found(request: web.Request) -> web.Response:
        here, port = request.get_extra_info("sockname")[:2]
        named = _HOST.fullmatch(request.headers.get("Host", ""))
        host = named[1] if named else f"[{here}]" if ":" in here else here
        return told(
            [{"targets": [f"{host}:{each}"], "labels": {"worker": worker}} for worker, each in workers(port).items()],
            200,
        )

    return web.get("/targets", found)


def told(body: object, status: int) -> web.Response:
    """An answer in JSON, true only now."""
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json", headers=headers)
