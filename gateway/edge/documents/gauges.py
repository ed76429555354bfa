"""What waits, stands still or is wrong among documents, as Prometheus sees it; every process shows the same.

Each look is a few statements that follow indexes, so that it costs little however much waits.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, TypeVar

import structlog
from prometheus_client import Gauge

from gateway.core.model import AgencyId, Catalogue
from gateway.edge.documents import sweeping
from gateway.edge.documents.bounds import Bounds, Where, most
from gateway.edge.store import Reads, StoreFailed, StoreRefused
from gateway.edge.telemetry import Meters, place

LOOK_SECONDS = 5.0
"""Between two looks, at least."""
SHARE = 20
"""A look that took long is followed by a longer pause: looks take at most this part of the time."""
CHECK_SECONDS = 3600.0
"""Between two self-checks of a process."""
MAX_SHOWN = 200
"""Recipients, or ways, that one gauge names: those with the highest values. The others are one together."""
OTHERS = "(others)"
"""Their name, which no agency can have."""
UNDELIVERABLE_SECONDS = sweeping.LEAST_DAYS * sweeping.DAY
"""For which something undeliverable is shown: so long it can certainly be requeued."""

# A loose scan of the index deliveries_oldest: the next recipient, and of each the one that has waited longest.
OLDEST = """
with recursive r(recipient) as (
  select (select d.recipient from deliveries d where d.open order by d.recipient limit 1)
  union all
  select (select d.recipient from deliveries d where d.open and d.recipient > r.recipient order by d.recipient limit 1)
    from r where r.recipient is not null)
select recipient,
       {now} - (select d.since from deliveries d where d.open and d.recipient = r.recipient order by d.since limit 1)
  from r where recipient is not null
"""
UNDELIVERABLE = (
    "select recipient, count(*) from deliveries "
    "where state = 'undeliverable' and changed > {now} - $1 group by recipient"
)
APPROVALS = (
    "select approver, count(*), {now} - min(submitted) from documents where state = 'held' and approver is not null "
    "group by approver"
)

log = structlog.get_logger()

Labels = TypeVar("Labels", bound=tuple[str, ...])


def shown(gauge: Gauge, values: Mapping[Labels, float], fold: Callable[[Collection[float]], float]) -> None:
    """Show the highest under their names, and the rest folded into one; what is not among them is gone."""
    gauge.clear()
    ordered = sorted(values.items(), key=lambda each: (-each[1], each[0]))
    for labels, value in ordered[:MAX_SHOWN]:
        gauge.labels(*labels).set(value)
    if rest := [value for _, value in ordered[MAX_SHOWN:]]:
        gauge.labels(*(OTHERS for _ in ordered[0][0])).set(fold(rest))


class Gauges:
    """Of one process."""

    def __init__(self, reader: Reads, bounds: Bounds, catalogue: Callable[[], Catalogue], meters: Meters) -> None:
        """``catalogue`` gives the one in use."""
        self._reader = reader
        self._bounds = bounds
        self._catalogue = catalogue
        self._meters = meters

    async def look(self) -> None:
        """Show what waits. Raises StoreFailed or StoreRefused, and then what was shown stays."""
        meters = self._meters
        oldest = await self._reader.read(OLDEST)
        undeliverable = await self._reader.read(UNDELIVERABLE, (UNDELIVERABLE_SECONDS,))
        held = await self._reader.read(APPROVALS)
        shown(meters.documents_waiting, self._bounds.waiting, sum)
        shown(meters.documents_bound, self._ratios(), max)
        shown(meters.documents_oldest, {(row[0],): max(0.0, row[1]) for row in oldest}, max)
        shown(meters.undeliverable, {(row[0],): row[1] for row in undeliverable}, sum)
        shown(meters.approvals, {(row[0],): row[1] for row in held}, sum)
        shown(meters.approvals_oldest, {(row[0],): max(0.0, row[2]) for row in held}, max)

    def _ratios(self) -> Mapping[Where, float]:
        """What waits against what may, on the ways that folders name."""
        agencies = self._catalogue().agencies
        found: dict[Where, float] = {}
        for (recipient, name, bound), waiting in self._bounds.counted.items():
            agency = agencies.get(AgencyId(recipient))
            for way in agency.deliveries if agency else ():
                if way.name == name:
                    ratio = waiting / most(way, bound)
                    found[recipient, name] = max(ratio, found.get((recipient, name), 0.0))
        return found

    async def check(self) -> None:
        """Hold lanes against deliveries, as `gateway documents check` does. Raises StoreFailed or StoreRefused."""
        faults = await sweeping.self_check(self._reader)
        self._meters.documents_faults.set(len(faults))
        if faults:
            log.error("documents_at_fault", count=len(faults))

    async def go_on(self, sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep) -> None:
        """Look again and again, until cancelled; processes that start together do not check together."""
        due = time.monotonic() + random.SystemRandom().uniform(0.01, 1) * CHECK_SECONDS
        for _ in itertools.count():
            begun = time.monotonic()
            try:
                await self.look()
                if begun >= due:
                    due = begun + CHECK_SECONDS
                    await self.check()
            except (StoreFailed, StoreRefused):  # told of by whoever writes
                pass
            except Exception as error:  # noqa: BLE001 - the next look must come
                log.error("gauges_broken", **place(error))  # noqa: TRY400 - a traceback quotes values
            await sleep(max(LOOK_SECONDS, SHARE * (time.monotonic() - begun)))
