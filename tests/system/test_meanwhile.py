"""What happens while an exchange is under way holds for it too: a suspension, a revocation, the end of the process."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest

from gateway.core.model import Standing
from gateway.edge.control import Order, hand_over
from tests.fakes.parties import CHANGE, LOOK_UP, MOVED, PERSON, PURPOSE, TAX, Terms
from tests.fakes.town import Town, after, founded, opened, until, usual

RAW = orjson.dumps(PERSON)


async def half(town: Town) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A look-up whose body has come half, so that it is permitted and waits."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(town.at.public.rpartition(":")[2]))
    writer.write(
        f"POST /v1/exchange/interior/{LOOK_UP} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer "
        f"{await town.token(TAX)}\r\nExchange-Purpose: {PURPOSE}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(RAW)}\r\nConnection: close\r\n\r\n".encode()
        + RAW[:5]
    )
    await until(lambda: town.gateway.exchanges.in_progress)
    return reader, writer


async def ended(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> str:
    """What it is answered when the rest of the body comes: the code, or the record's name."""
    reader, writer = streams
    writer.write(RAW[5:])
    body = orjson.loads((await reader.read()).partition(b"\r\n\r\n")[2])
    writer.close()
    return str(body.get("code", body.get("name")))


@pytest.mark.parametrize(
    ("terms", "outcome"),
    [
        (Terms(), "Sok Dara"),
        (Terms(standing=Standing.SUSPENDED), "policy.suspended"),
        (Terms(tax_office=Standing.REVOKED), "identity.revoked"),
        (Terms(scopes=()), "policy.scope"),
        (Terms(until=2001), "policy.expired"),
    ],
)
async def test_a_slow_body_outlives_nothing(tmp_path: Path, terms: Terms, outcome: str) -> None:
    """Whatever ends while the body comes in ends this exchange, before the provider is asked."""
    async with opened(tmp_path, Terms(scopes=("population:read",))) as town:
        streams = await half(town)
        town.agree(terms)
        assert await ended(streams) == outcome
        assert len(town.office.seen) == (outcome == "Sok Dara")


async def test_a_process_that_drains_learns_of_suspensions(tmp_path: Path) -> None:
    """An operator's word holds for the last exchange that a stopping process takes."""
    order = Order("suspend", {"kind": "agency", "name": "interior", "standing": "suspended", "reason": "r", "who": "w"})
    async with founded(tmp_path) as town, AsyncExitStack() as stack:
        await stack.enter_async_context(town.running(shutdown_seconds=20))
        streams = await half(town)
        ending = asyncio.create_task(stack.aclose())
        await until(lambda: town.gateway.health().readiness == "draining")
        assert (await hand_over(town.database, order)).done
        async with asyncio.timeout(30):
            await until(lambda: town.gateway.catalogue.agencies["interior"].standing is Standing.SUSPENDED)  # type: ignore[index] # a name
        said = await ended(streams)
        await ending
    assert said == "policy.suspended"


async def test_a_write_that_is_broken_off_has_one_last_word(tmp_path: Path) -> None:
    """Cut off while its answer is being written down: that entry is its only final one."""
    async with founded(tmp_path) as town, AsyncExitStack() as stack:
        await stack.enter_async_context(town.running())
        may_answer = asyncio.Event()
        town.office.react = after(may_answer, usual)
        writing = asyncio.create_task(town.call(TAX, CHANGE, MOVED, idempotency_key='"k"'))
        await town.office.arrived.acquire()
        town.valve.gate.clear()
        may_answer.set()
        await town.valve.holding.wait()
        ending = asyncio.create_task(stack.aclose())
        await until(lambda: town.gateway.exchanges.in_progress == 0)
        town.valve.gate.set()
        await ending
        await asyncio.gather(writing, return_exceptions=True)
    about = [(entry.facts["step"], entry.facts.get("code")) for entry in town.entries() if "exchange" in entry.facts]
    assert about == [("admitted", None), ("answered", None)]
