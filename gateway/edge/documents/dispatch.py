"""Hands over what waits: a task for each recipient's way that has something, and none for the others.

A submission of this process wakes its way at once. What other processes left, what failed and is due again, and probes
of recipients that did not answer are found by a look at the database every second.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import structlog

from gateway.core.kafka import AWAY
from gateway.core.model import AgencyId, Catalogue
from gateway.core.refusal import Refusal
from gateway.edge.documents import gates, lanes
from gateway.edge.documents.gatekeeping import STOPPED
from gateway.edge.documents.gates import Gate
from gateway.edge.documents.gauges import shown
from gateway.edge.documents.records import Kept
from gateway.edge.documents.road import Desk, Road
from gateway.edge.documents.takers import Key, mark
from gateway.edge.documents.tour import served
from gateway.edge.store import Driver, StoreFailed, StoreRefused
from gateway.edge.tasks import cancelled
from gateway.edge.telemetry import place

LOOK_SECONDS = 1.0
"""Between two looks at what waits."""
SETTLING_SECONDS = 2.0
"""What the database gets at a stop to take down what was handed over last."""

LATE_SECONDS = 5.0
"""From where on it is shown that something could have gone."""

log = structlog.get_logger()


class Dispatcher:
    """Of one process."""

    def __init__(self, desk: Desk, reader: Driver, *, every: float = LOOK_SECONDS) -> None:
        """``every`` are LOOK_SECONDS; ``reader`` reads beside the writer."""
        self._desk = desk
        self._reader = reader
        self._every = every
        self._roads: dict[Key, tuple[Road, asyncio.Task[None]]] = {}
        self._quiet: frozenset[Key] = frozenset()
        """Ways whose gate is closed: what comes for them wakes nobody."""
        self._closing = False

    def wake(self, recipient: AgencyId, way: str) -> None:
        """Something was submitted for it."""
        if (recipient, way) not in self._quiet:
            self._start((recipient, way))

    def keep(self, recipient: AgencyId, way: str, sizes: Sequence[int]) -> Kept | None:
        """Places for deliveries of so many bytes, as many of the first ones as there is room for."""
        key = (recipient, way)
        if self._closing or key in self._quiet or self._desk.hand.takers.away(key):
            return None
        road = self._roads[key][0] if key in self._roads else None
        try:
            open_now, through = served(self._desk.hand.catalogue(), key)
        except Refusal:  # nobody knows what is suspended
            return None
        if not open_now or through is None:
            return None
        return (road or self._begun(key, woken=False)).keep(through, sizes)

    @property
    def handing(self) -> dict[Key, int]:
        """How many lanes are with each recipient just now."""
        return {key: len(road.tours) for key, (road, _) in self._roads.items() if road.tours}

    async def go_on(self) -> None:
        """Look every second, until cancelled."""
        while True:
            try:
                await self.look()
            except (StoreFailed, StoreRefused, Refusal):  # the journal's own alarm tells of a database that cannot
                pass
            except Exception as error:  # noqa: BLE001 - whatever goes wrong in a look, the next one must come
                log.error("dispatch_failed", **place(error))  # noqa: TRY400 - no traceback in a log line
            await asyncio.sleep(self._every)

    async def look(self) -> None:
        """Start what is due. Raises StoreFailed, or Refusal while nobody knows what is suspended."""
        catalogue = self._desk.hand.catalogue()
        closed = await gates.closed(self._reader)
        reopened = await self._reopened(closed, catalogue)
        self._quiet = frozenset((each.recipient, each.way) for each in closed if each.seconds > 0) - reopened
        waiting = await lanes.waiting(self._reader)
        late = {}
        for due in waiting.due:
            key = (due.recipient, due.way)
            if served(catalogue, key)[0]:
                self._start(key)
                late[key] = due.late
        self._show([gate for gate in closed if (gate.recipient, gate.way) not in reopened], late)

    async def close(self, seconds: float) -> None:
        """Claim nothing more, give what is with recipients that time, and settle."""
        self._closing = True
        roads = tuple(self._roads.values())
        for road, _ in roads:
            road.stop()
        tasks = {task for _, task in roads}
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for road, _ in roads:
            road.stop(at_once=True)
        if tasks:
            await asyncio.wait(tasks, timeout=SETTLING_SECONDS)
        await cancelled(*tasks)

    def _start(self, key: Key) -> None:
        if self._closing or self._desk.hand.takers.away(key):
            return
        if key in self._roads:
            self._roads[key][0].wake()
            return
        self._begun(key, woken=True)

    def _begun(self, key: Key, *, woken: bool) -> Road:
        road = Road(key, self._desk, lambda other: self.wake(*other), woken=woken)
        task = asyncio.create_task(road.go())
        self._roads[key] = road, task
        task.add_done_callback(partial(self._over, key, road))
        return road

    def _over(self, key: Key, road: Road, task: "asyncio.Task[None]") -> None:
        del self._roads[key]
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            told = place(error) if isinstance(error, Exception) else {}
            log.error("dispatch_failed", recipient=key[0], way=key[1], **told)
        elif road.shut:
            self._quiet |= {key}
        elif road.wanted:
            self._start(key)

    async def _reopened(self, closed: Iterable[Gate], catalogue: Catalogue) -> frozenset[Key]:
        """Gates of systems that said to take nothing any more, and whose folder has changed since.

        And those that closed because the Kafka cluster was away, when it no longer is: of a thousand agencies that
        share it none waits for a probe of its own.
        """
        found = set()
        for gate in closed:
            key = (gate.recipient, gate.way)
            _, way = served(catalogue, key)
            changed = (
                gate.reason.startswith(f"{STOPPED} ") and way is not None and gate.reason != f"{STOPPED} {mark(way)}"
            )
            back = gate.reason.startswith(AWAY) and not self._desk.hand.takers.away(key)
            if back or changed:
                found.add(key)
        if not found:
            return frozenset()
        opened: frozenset[Key] = frozenset()
        with suppress(Refusal):
            opened = await self._desk.post.run(gates.open_all(sorted(found)))
        for key in opened:
            log.info("gate_opened", recipient=key[0], way=key[1])
        return opened

    def _show(self, closed: Iterable[Gate], late: Mapping[Key, float]) -> None:
        meters = self._desk.hand.meters
        why = {gate: _why(gate) for gate in closed}
        shown(meters.gates, {(gate.recipient, gate.way, said): 1.0 for gate, said in why.items()}, max)
        shown(meters.documents_due, {key: seconds for key, seconds in late.items() if seconds >= LATE_SECONDS}, max)
        meters.dispatch_looked.set(time.time())


def _why(gate: Gate) -> str:
    """In a word: of agencies that share a cluster which is away, none is to blame."""
    if gate.reason.startswith(f"{STOPPED} "):
        return STOPPED
    return "away" if gate.reason.startswith(AWAY) else "failing"
