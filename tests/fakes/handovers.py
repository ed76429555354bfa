"""Letters to an office that is pushed to, and what their sender and the gates show of them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from gateway.core.model import Way
from tests.fakes.correspondents import DESK, POLITE, Letters
from tests.fakes.deliveries import DeliveryTown, delivering, push
from tests.fakes.town import Office

INTERIOR = "interior"


def to(*ways: Way, **changes: Any) -> Letters:
    """Agencies that are pushed to; the others have mailboxes."""
    by: dict[str, tuple[Way, ...]] = {}
    for each in ways:
        by[each.agency] = (*by.get(each.agency, ()), each)
    return replace(POLITE, ways=by, **changes)


@asynccontextmanager
async def writing(folder: Path, office: Office, **more: Any) -> AsyncIterator[DeliveryTown]:
    """The interior ministry's office is pushed to."""
    async with delivering(folder, to(push(INTERIOR, office.url, **more))) as town:
        yield town


async def sent(town: DeliveryTown, case: str = "A", agency: str = INTERIOR, **more: Any) -> str:
    """A letter of that case; its id."""
    answer = await town.send({"case": case, "subject": case, **more}, to=f"/documents/{agency}")
    assert answer.status == 202, answer.body
    return str(answer.body["document"])


async def shown(town: DeliveryTown, document: str) -> Mapping[str, Any]:
    """As its sender sees it at its one recipient."""
    answer = await town.say("GET", f"/documents/{document}", DESK)
    found: Mapping[str, Any] = answer.body["recipients"][0]
    return found


async def comes_to(town: DeliveryTown, document: str, *states: str, seconds: float = 30) -> Mapping[str, Any]:
    """Wait until its sender sees it in one of the states, as senders do: by calls that wait for a change."""
    found: Mapping[str, Any] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            wait: dict[str, str] = {}
            while found.get("state") not in states:
                answer = await town.say("GET", f"/documents/{document}", DESK, **wait)
                if answer.status == 200:
                    found = answer.body["recipients"][0]
                    wait = {"prefer": "wait=1", "if_none_match": answer.headers["ETag"]}
    assert found.get("state") in states, found
    return found


async def met(office: Office, times: int = 1) -> None:
    """Wait until it was asked so often more."""
    async with asyncio.timeout(30):
        for _ in range(times):
            await office.arrived.acquire()


def ids(office: Office) -> list[str]:
    """Of the webhooks that came, in order."""
    return [orjson.loads(seen.body)["data"]["id"] for seen in office.seen]


def gates(town: DeliveryTown) -> list[tuple[Any, ...]]:
    """Those that are closed."""
    return town.rows("select recipient, way, failures, reason from gates")


async def closed(town: DeliveryTown) -> None:
    """Wait until a gate is."""
    async with asyncio.timeout(30):
        while not gates(town):
            await town.metrics()  # a request, while others run
