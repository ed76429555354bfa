"""Tells the gateway what became of documents: from the agent's own table, in order, until it is answered."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from gateway.agent.ports import Dues, Final, Later, Report, Told, Unwritten, Upstream
from gateway.core import backoff

MAX_OWED = 10_000
"""Outcomes that may wait for the gateway; beyond it nothing more is handed over."""
MAX_AT_ONCE = 8
"""Reports under way, each of another document."""
MAX_PAGE = 256
"""Outcomes that are taken from the table at once."""
LONGEST_PAUSE = 30.0
"""Seconds between two tries: when the gateway is back after a day, it learns within half a minute."""
IN_A_ROW = 3
"""Documents for which the gateway has no answer, one after the other, before it is left alone altogether."""
LOOK_SECONDS = 5.0
"""Between two looks into the table where nobody says that there is something: a person may have settled one."""

log = structlog.get_logger()


def chance() -> float:
    """Between 0 and 1."""
    return secrets.randbelow(1_000_000) / 1_000_000


@dataclass(slots=True)
class Patience:
    """How long the gateway is left alone."""

    failures: int = 0
    until: float = float("-inf")

    def failed(self, now: float, wish: float, drawn: float) -> None:
        """Once more."""
        self.failures += 1
        pause = min(backoff.pause(self.failures, drawn), LONGEST_PAUSE)
        self.until = now + max(pause, min(wish, backoff.LONGEST_WISH))


@dataclass(slots=True)
class Reporter:
    """Who tells. One runs in each agent."""

    dues: Dues
    upstream: Upstream
    tell: Callable[[str], object]
    """Counts a report by its outcome: told, final, later."""
    clock: Callable[[], float]
    drawn: Callable[[], float] = chance
    waiting: int = 0
    """Outcomes that the gateway was not told, as counted last."""
    _patience: Patience = field(default_factory=Patience)
    """With the gateway as a whole."""
    _single: dict[str, Patience] = field(default_factory=dict)
    """With a document that the gateway has no answer for, though it answers others."""
    _head: tuple[int, float] | None = None
    """The first that was not told when it was looked last, and since when it has been the first."""
    _row: int = 0
    """Reports without an answer since the last one with."""
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def full(self) -> bool:
        """See ``ports.Reporting``."""
        return self.waiting >= MAX_OWED

    @property
    def oldest(self) -> float:
        """Seconds for which one and the same outcome could not be told; since this start, as the table has no times."""
        return 0.0 if self._head is None else self.clock() - self._head[1]

    def owed(self) -> None:
        """See ``ports.Reporting``."""
        self.waiting += 1
        self._woken.set()

    async def go_on(self) -> None:
        """For ever."""
        while True:
            self._woken.clear()
            left = self._patience.until - self.clock()
            if left > 0.0:
                await asyncio.sleep(left)
            try:
                await self.round()
            except Unwritten as error:
                log.warning("outcomes_not_read", why=str(error))
            if self._patience.until <= self.clock():
                await self._rested()

    async def round(self) -> None:
        """Tell everything that the table holds and whose time has come, page by page. Raises Unwritten."""
        after, seen = 0, set[str]()
        while page := await self._page(after):
            after = page[-1].number
            seen.update(each.document for each in page)
            await self._told(page)
            if self._patience.until > self.clock():
                break
        else:
            self._single = {each: patience for each, patience in self._single.items() if each in seen}

    async def _page(self, after: int) -> Sequence[Report]:
        page = await self.dues.unreported(MAX_PAGE, after)
        if after == 0:
            known, first = self._head, page[0].number if page else None
            if first is None:
                self._head = None
            elif known is None or known[0] != first:
                self._head = first, self.clock()
        return page

    async def _told(self, page: Sequence[Report]) -> None:
        """Those of one document one after the other, those of others beside them. Raises Unwritten."""
        by_document: dict[str, list[Report]] = {}
        for each in page:
            by_document.setdefault(each.document, []).append(each)
        places = asyncio.Semaphore(MAX_AT_ONCE)
        told = (self._of_one(reports, places) for reports in by_document.values())
        for wrong in await asyncio.gather(*told, return_exceptions=True):
            if wrong is not None:
                raise wrong

    async def _of_one(self, reports: Sequence[Report], places: asyncio.Semaphore) -> None:
        """In order: a later outcome of a document never comes before an earlier one."""
        for report in reports:
            async with places:
                document, now = report.document, self.clock()
                own = self._single.get(document)
                if self._patience.until > now or (own is not None and own.until > now):
                    return
                said = await self.upstream.report(report)
                if isinstance(said, Later):
                    self._unanswered(document, said.seconds)
                    return
                await self._answered(report, said)

    def _unanswered(self, document: str, wish: float) -> None:
        """One document may be at fault; several in a row, and it is the gateway."""
        self.tell("later")
        now, drawn = self.clock(), self.drawn()
        self._single.setdefault(document, Patience()).failed(now, wish, drawn)
        self._row += 1
        if self._row >= IN_A_ROW or wish > 0.0:
            self._patience.failed(now, wish, drawn)

    async def _answered(self, report: Report, said: Told | Final) -> None:
        self._row, self._patience = 0, Patience()
        self._single.pop(report.document, None)
        if isinstance(said, Final):
            log.warning("outcome_refused", document=report.document, outcome=str(report.outcome), code=said.code)
        self.tell("final" if isinstance(said, Final) else "told")
        await self.dues.reported(report, said)
        self.waiting = max(0, self.waiting - 1)

    async def _rested(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._woken.wait()
