"""An agency's own register behind an agent: it enters documents, refuses some, and counts how often each comes."""

import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from tests.fakes.addressees import Came, Ledger
from tests.fakes.serving import pause

STATUSES = {"registered": 200, "retrieved": 204, "rejected": 422}


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of a document here."""

    state: str
    """As its sender is to see it."""
    number: str | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """A hand-over of a document."""

    by: str
    """Which agent: the path of its address."""
    attempt: int
    """Of this agent."""
    again: bool
    at: float


@dataclass(slots=True)
class Registry:
    """Every tenth document is refused, every third has no number; the same id gets the same answer."""

    work: float
    """Seconds that one document may take."""
    ledger: Ledger = field(default_factory=Ledger)
    entries: dict[str, Entry] = field(default_factory=dict)
    """By id."""
    visits: defaultdict[str, list[Visit]] = field(default_factory=lambda: defaultdict(list))
    """Each time that it came, by id."""
    worked: Counter[str] = field(default_factory=Counter)
    """How often it did something, by id."""
    url: str = ""
    holding: int = 0
    """Documents that it works on."""
    _chance: random.Random = field(default_factory=lambda: random.Random(7))

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Written down as it comes in, whether or not anybody waits for the answer."""
        said, body = request.headers, orjson.loads(await request.read())
        came = Came(said["Exchange-Id"], body["case"], body["n"], said["Exchange-Redelivered"] == "?1")
        self.ledger.take(came)
        self.visits[came.id].append(Visit(request.path, int(said["Exchange-Attempt"]), came.again, time.monotonic()))
        if came.id not in self.entries:
            self.entries[came.id] = self._entered(came)
            self.worked[came.id] += 1
        self.holding += 1
        await pause(self._chance.uniform(0, self.work))
        self.holding -= 1
        entry = self.entries[came.id]
        told = {"register": {"number": entry.number}} if entry.number else None
        return web.json_response(told, status=STATUSES[entry.state])

    def _entered(self, came: Came) -> Entry:
        if came.n % 10 == 9:
            return Entry("rejected")
        return Entry("retrieved") if came.n % 3 == 2 else Entry("registered", f"R-{len(self.entries) + 1}")

    @property
    def beyond(self) -> int:
        """Hand-overs that were not the first of their document."""
        return len(self.ledger.came) - len(self.ledger.first)


@asynccontextmanager
async def registry(work: float = 0.02) -> AsyncIterator[Registry]:
    """One that listens."""
    made = Registry(work)
    runner = web.ServerRunner(web.Server(made.answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield made
    finally:
        await runner.cleanup()
