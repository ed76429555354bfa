"""Systems that receive documents and look at their ids: pushed to over HTTP, or polling their agency's mailbox."""

import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from tests.fakes import ports
from tests.fakes.serving import pause

TAKEN = 204
CUT = 0
"""Instead of a status: the connection is closed in the middle."""
Reacts = Callable[["Came"], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Came:
    """A document, as it came."""

    id: str
    case: str
    n: int
    again: bool
    """It was announced as perhaps not the first time."""


@dataclass(slots=True)
class Ledger:
    """What one agency's systems have got."""

    came: list[Came] = field(default_factory=list)
    """Every attempt that was taken, or leased."""
    first: dict[str, Came] = field(default_factory=dict)
    """By id, in the order in which they came for the first time."""
    unannounced: int = 0
    """Came again, and did not say so."""
    at: dict[str, float] = field(default_factory=dict)
    """When each came first."""
    receipts: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Of the outcomes that were said, by id."""

    def take(self, came: Came) -> None:
        """Note it."""
        self.came.append(came)
        if came.id in self.first:
            self.unannounced += not came.again
            return
        self.first[came.id] = came
        self.at[came.id] = time.perf_counter()

    @property
    def twice(self) -> int:
        """Documents that a system which looks at ids has got more than once: the same words under two ids."""
        words = Counter((each.case, each.n) for each in self.first.values())
        return sum(count - 1 for count in words.values())

    @property
    def disorder(self) -> int:
        """Documents that came, for the first time, before the one that precedes them in their case."""
        expected: Counter[str] = Counter()
        wrong = 0
        for each in self.first.values():
            wrong += each.n != expected[each.case]
            expected[each.case] += 1
        return wrong


async def takes(_: Came) -> int:
    """Whatever comes."""
    return TAKEN


@dataclass(slots=True)
class Hook:
    """A system to which documents are pushed."""

    ledger: Ledger = field(default_factory=Ledger)
    reacts: Reacts = takes
    url: str = ""
    tries: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """When each came, taken or not, by id."""
    holding: int = 0
    """Requests that wait for their answer."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Look at what comes; note it where it is taken, before the answer leaves."""
        came = _came(request, orjson.loads(await request.read()))
        self.tries[came.id].append(time.perf_counter())
        self.holding += 1
        try:
            status = await self.reacts(came)
        finally:
            self.holding -= 1
        if status == CUT and request.transport is not None:
            request.transport.abort()
            return web.Response()
        if status < 300:
            self.ledger.take(came)
        return web.Response(status=status)


def _came(request: web.BaseRequest, said: Any) -> Came:
    if "webhook-id" in request.headers:
        body, again = said["data"]["body"], bool(said["data"]["redelivered"])
        return Came(request.headers["webhook-id"], body["case"], body["n"], again)
    again = request.headers["Exchange-Redelivered"] == "?1"
    return Came(request.headers["Exchange-Id"], said["case"], said["n"], again)


@asynccontextmanager
async def hook(reacts: Reacts = takes) -> AsyncIterator[Hook]:
    """One that listens."""
    made = Hook(reacts=reacts)
    runner = web.ServerRunner(web.Server(made.answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield made
    finally:
        await runner.cleanup()


def refusing() -> str:
    """The address of a system that is down: nobody listens there."""
    return f"http://127.0.0.1:{ports.free()[0]}/"


@dataclass(slots=True)
class Poller:
    """A system that asks for its agency's documents all the time, registers each, and repeats what was not answered."""

    session: aiohttp.ClientSession
    where: Callable[[], str]
    token: str
    ledger: Ledger
    most: int = 20

    async def poll(self) -> None:
        """Until cancelled."""
        while True:
            status, told = await self._said("GET", f"/v1/inbox?max={self.most}&wait=1", None)
            if status != 200:
                await pause(0.05)
                continue
            for each in told["documents"]:
                self.ledger.take(Came(each["id"], each["body"]["case"], each["body"]["n"], each["redelivered"]))
            for each in told["documents"]:
                await self._register(each["id"], told["lease"])

    async def _register(self, document: str, lease: str) -> None:
        said = {"outcome": "registered", "number": document[-6:], "lease": lease}
        while True:
            status, told = await self._said("POST", f"/v1/inbox/{document}", said)
            if status == 200:
                self.ledger.receipts[document].add(told["receipt"])
            if status in (200, 409):  # registered, or its lease is somebody else's by now
                return
            await pause(0.05)

    async def _said(self, method: str, path: str, body: Any) -> tuple[int | None, Any]:
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            url, limit = f"{self.where()}{path}", aiohttp.ClientTimeout(30)
            async with self.session.request(method, url, json=body, headers=headers, timeout=limit) as answer:
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, ConnectionError, TimeoutError, ValueError):
            return None, None
