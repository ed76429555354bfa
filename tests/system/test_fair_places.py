"""One consumer's calls, however they fail and however many they are, leave others their way to a provider."""

import asyncio
from pathlib import Path
from typing import Any

import orjson

from gateway.core.breaker import FAILURES
from tests.fakes.parties import CHANGE, MOVED, TAX, Terms
from tests.fakes.town import Reply, Town, after, answers, opened, until, usual

COURTS = "justice.courts"


async def write(town: Town, system: str, key: str, **body: str) -> Reply:
    return await town.call(system, CHANGE, {**MOVED, **body}, idempotency_key=f'"{key}"')


async def test_who_asks_what_breaks_a_provider_waits_alone(tmp_path: Path) -> None:
    """Five calls of one consumer that a provider answers with 500: the next one is not sent, another consumer's is."""

    async def breaks(request: Any) -> Any:
        odd = orjson.loads(await request.read())["city"] == "odd"
        return await (answers({}, 500) if odd else usual)(request)

    async with opened(tmp_path) as town:
        town.office.react = breaks
        failed = [await write(town, TAX, f"k{n}", city="odd") for n in range(FAILURES)]
        assert {reply.body["code"] for reply in failed} == {"provider.broken"}
        kept_out = await write(town, TAX, "next")
        assert (kept_out.body["code"], kept_out.headers["Retry-After"]) == ("provider.unavailable", "5")
        assert "calls of yours" in kept_out.body["detail"]
        assert (await write(town, COURTS, "k")).status == 200
        assert (await town.metrics())[f'gateway_breaker_open{{provider="interior",service="{CHANGE}"}}'] == 1


async def test_one_consumer_does_not_hold_every_place_of_an_endpoint(tmp_path: Path) -> None:
    """While another one asks, forty slow calls of one get half of the twenty places, and the other's goes through."""
    release = asyncio.Event()
    async with opened(tmp_path, Terms(concurrency=20)) as town:
        await write(town, COURTS, "before")
        await town.token(TAX)
        town.office.react = after(release, usual)
        calls = [asyncio.create_task(write(town, TAX, f"k{n}")) for n in range(40)]
        await until(lambda: sum(call.done() for call in calls) == 30)
        town.office.react = usual
        assert (await write(town, COURTS, "k")).status == 200
        release.set()
        replies = await asyncio.gather(*calls)
        assert sorted(reply.status for reply in replies) == [200] * 10 + [503] * 30
