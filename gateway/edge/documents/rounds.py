"""What a process does for documents every few seconds: deadlines, ways that changed, and what is cleared away."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog

from gateway.core.document import to_register
from gateway.core.model import Catalogue
from gateway.core.refusal import Refusal
from gateway.edge.documents import deadlines, sweeping
from gateway.edge.documents.positions import Work
from gateway.edge.documents.scribe import Scribe
from gateway.edge.documents.second import Second
from gateway.edge.journal import Journal
from gateway.edge.telemetry import place

ROUND_SECONDS = 2.0
"""Seconds between two looks at deadlines and at the catalogue."""
TIDY_SECONDS = 60.0
"""The same for what is cleared away."""
MAX_STEPS = 200
"""Deliveries that one transaction ends, or calls overdue."""
MAX_CLEARED = 1000
"""Rows that one transaction clears away."""
MAX_TIMES = 50
"""Transactions of one kind in one round: the rest comes with the next."""

log = structlog.get_logger()


class Rounds:
    """Every process goes round; each transaction leaves out what another one has in hand."""

    def __init__(self, post: Journal, scribe: Scribe, second: Second, catalogue: Callable[[], Catalogue]) -> None:
        """``catalogue`` gives the one in use."""
        self._post = post
        self._scribe = scribe
        self._second = second
        self._catalogue = catalogue
        self._looked = ""
        """The digest of the catalogue by whose ways lanes were looked through."""
        self._astray: tuple[sweeping.Astray, ...] = ()
        """Of those, the ones that are still to be put right."""

    async def go_on(self) -> None:
        """Until cancelled; processes that start together do not go round together."""
        loop = asyncio.get_running_loop()
        tidied = loop.time() + random.SystemRandom().uniform(0, TIDY_SECONDS) - TIDY_SECONDS
        while True:
            await self.round()
            if loop.time() - tidied >= TIDY_SECONDS:
                tidied = loop.time()
                await self.tidy()
            await asyncio.sleep(random.SystemRandom().uniform(0.5, 1.5) * ROUND_SECONDS)

    async def round(self) -> None:
        """What cannot wait: each part by itself, so that one that fails holds up no other."""
        await self._tried("realign", self._realign)
        await self._tried("expire", lambda: self._all(deadlines.expire(MAX_STEPS, self._scribe), MAX_STEPS))
        await self._tried("overdue", lambda: self._all(deadlines.overdue(MAX_STEPS, self._scribe), MAX_STEPS))

    async def tidy(self) -> None:
        """What can wait."""
        self._looked = ""  # a node on the former catalogue may have used a former way meanwhile
        await self._tried("realign", self._realign)
        await self._tried("purge_lanes", lambda: self._all(sweeping.purge_lanes(MAX_CLEARED), MAX_CLEARED))
        bodies = sweeping.purge_bodies(self._catalogue(), MAX_STEPS)
        await self._tried("purge_bodies", lambda: self._all(bodies, MAX_STEPS))
        await self._tried("purge_gates", lambda: self._post.run(sweeping.purge_gates(self._catalogue())))

    async def _realign(self) -> int:
        """Folders may name other ways now."""
        present = self._catalogue()
        self._second.look(present)
        if present.digest != self._looked:
            self._astray = await self._post.run(sweeping.astray(present))
            self._looked = present.digest
        count = 0
        for lanes in self._astray:
            due = None if lanes.receipts else to_register(present, lanes.service, datetime.now(UTC))
            count += await self._all(sweeping.realign(lanes, self._scribe, MAX_STEPS, due), 1)
        self._astray = tuple([lanes for lanes in self._astray if await self._post.run(sweeping.remains(lanes))])
        return count

    async def _all(self, work: Work[int], most: int) -> int:
        """Again and again, as long as there may be more."""
        total = 0
        for _ in range(MAX_TIMES):
            count = await self._post.run(work)
            total += count
            if count < most:
                break
        return total

    async def _tried(self, part: str, work: Callable[[], Awaitable[int]]) -> None:
        try:
            count = await work()
        except Refusal as refusal:
            log.warning("documents_wait", part=part, code=refusal.code)
        except Exception as error:  # noqa: BLE001 - the next round must come
            log.error("documents_broken", part=part, **place(error))  # noqa: TRY400 - a traceback quotes values
        else:
            if count:
                log.info("documents_swept", part=part, count=count)
