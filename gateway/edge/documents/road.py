"""One recipient's way with something to hand over: lanes claimed, sent on their tours, and settled together."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field

import structlog

from gateway.core.delivery import State
from gateway.core.model import Way
from gateway.core.refusal import Refusal
from gateway.edge.documents import lanes
from gateway.edge.documents.gatekeeping import judged, judging, receipts, tell
from gateway.edge.documents.records import RECEIPT, Kept, Lane, LaneKey, Place
from gateway.edge.documents.scribe import Scribe
from gateway.edge.documents.takers import Key
from gateway.edge.documents.tour import USABLE, Hand, Tour, lease, served
from gateway.edge.journal import Journal
from gateway.edge.telemetry import place

PER_LANE = 16
"""Documents of one lane in one claim: what is in hand stays bounded, and a long lane lets others through."""
CONCURRENCY = 4
"""Lanes at once of a way that the folder does not name any more."""
AHEAD = 4
"""Times the way's concurrency: lanes that are claimed, so that the next one is there when a place becomes free."""
MAX_UNSETTLED = 4
"""Times the way's concurrency: tours that ended and wait for the database. Nothing is claimed beyond it."""
AGAIN_SECONDS = 0.25
"""Between two attempts to settle while the database cannot, until the lease has ended."""
MAX_WAY_BYTES = 16 * 2**20
MAX_IN_HAND_BYTES = 64 * 2**20
"""Of bodies that one way has in hand, and all ways of the process; beyond it a way has one document at a time."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Desk:
    """What all roads of a process share."""

    hand: Hand
    post: Journal
    scribe: Scribe
    streaks: MutableMapping[Key, set[str]] = field(default_factory=dict)
    """Documents that failed since the last success of the way, where any did."""
    in_hand: MutableMapping[Key, int] = field(default_factory=dict)
    """Bytes of the bodies that each way has in hand."""
    claims: Callable[[], int] = field(default_factory=lambda: itertools.count(1).__next__)

    def claim(self) -> str:
        """A name that no other claim has."""
        return f"{self.post.writer}.{self.claims()}"

    def room(self, key: Key) -> int:
        """Bytes of bodies that a claim may bring; what has nothing in hand gets one document in any case."""
        own = self.in_hand.get(key, 0)
        room = min(lanes.MAX_CLAIMED_BYTES, MAX_WAY_BYTES - own, MAX_IN_HAND_BYTES - sum(self.in_hand.values()))
        return room if own else max(1, room)


class Road:
    """From the first document that waits until none does."""

    def __init__(self, key: Key, desk: Desk, wake: Callable[[Key], None], *, woken: bool = True) -> None:
        """``wake`` is told of ways for which this road has made something: receipts.

        ``woken``: something waits, as far as is known.
        """
        self.key = key
        self.shut = False
        """Its gate was closed by this road."""
        self._desk = desk
        self._wake = wake
        self._more = woken
        """A claim may find something."""
        self._kept = 0
        """Places for what is being taken in just now."""
        self._stir = asyncio.Event()
        self._concurrency = CONCURRENCY
        self._ready: deque[Tour] = deque()
        """Claimed, and waiting for a place."""
        self.tours: dict[asyncio.Task[None], Tour] = {}
        """Lanes that are with the recipient."""
        self._ended: list[Tour] = []
        self._settling: asyncio.Task[None] | None = None
        self._stopping = False
        self._over = False

    @property
    def wanted(self) -> bool:
        """It was woken after its last claim."""
        return self._more and not self.shut and not self._stopping

    def wake(self) -> None:
        """Something has come, or has become due."""
        self._more = True
        self._stir.set()

    def keep(self, way: Way, sizes: Sequence[int]) -> Kept | None:
        """Places for what is about to be taken in; none where something waits already: that comes first."""
        unsettled = len(self._ended) > MAX_UNSETTLED * way.concurrency
        if self._more or self._stopping or self.shut or self._over or unsettled:
            return None
        hand, desk = self._desk.hand, self._desk
        self._concurrency = way.concurrency
        room, count, size = desk.room(self.key), 0, 0
        free = AHEAD * way.concurrency - len(self.tours) - len(self._ready) - self._kept
        for each in sizes[: max(0, free)]:
            if size >= room:
                break
            count, size = count + 1, size + each
        if not count:
            return None
        self._kept += count
        desk.in_hand[self.key] = desk.in_hand.get(self.key, 0) + size
        seconds = lease(way)
        place = Place(way.name, desk.claim(), seconds)
        return Kept(way, place, count, size, until=hand.clock() + USABLE * seconds, begin=self._carry)

    def _carry(self, kept: Kept, claimed: Sequence[Lane]) -> None:
        self._kept -= kept.count
        held = self._desk.in_hand
        held[self.key] = held.get(self.key, 0) + sum(lane.size for lane in claimed) - kept.size
        self._ready.extend(Tour(self._desk.hand, kept.way, self.key, lane, kept.until) for lane in claimed)
        self._begin()
        self._stir.set()

    def stop(self, *, at_once: bool = False) -> None:
        """Begin nothing more; what is with the recipient may end, or is waited for no longer."""
        self._stopping = True
        for tour in self.tours.values():
            tour.stopping = True
        self._begin()
        self._stir.set()
        if at_once:
            for task in self.tours:
                task.cancel()

    async def go(self) -> None:
        """Until nothing is due, or the gate is closed, and all is settled."""
        try:
            while True:
                self._stir.clear()
                if self.wanted:
                    await self._claim()
                if not any((self.tours, self._ready, self._ended, self._settling, self._kept)):
                    if self.wanted:
                        continue
                    return
                if not self._stir.is_set():
                    await self._stir.wait()
        finally:
            self._over = True
            self._desk.in_hand.pop(self.key, None)

    async def _claim(self) -> None:
        """As many lanes as may be in hand; where there is no room for some, the next tour that ends makes it."""
        desk, hand = self._desk, self._desk.hand
        try:
            open_now, way = served(hand.catalogue(), self.key)
            places = self._concurrency = way.concurrency if way else CONCURRENCY
            free = AHEAD * places - len(self.tours) - len(self._ready) - self._kept
            room = desk.room(self.key)
            if free < places or room <= 0 or len(self._ended) > MAX_UNSETTLED * places:
                return
            self._more = False
            if not open_now:
                return
            begun, seconds = hand.clock(), lease(way)
            plan = lanes.claim(*self.key, desk.claim(), lanes=free, per_lane=PER_LANE, seconds=seconds, most_bytes=room)
            found = await desk.post.run(plan)
        except Refusal:  # nobody knows what is suspended, or the database cannot: the next look tries again
            self._more = False
            return
        size = sum(lane.size for lane in found)
        desk.in_hand[self.key] = desk.in_hand.get(self.key, 0) + size
        self._more = self._more or len(found) == free or size >= room
        until = begun + USABLE * seconds
        self._ready.extend(Tour(hand, way, self.key, lane, until) for lane in found)
        self._begin()

    def _begin(self) -> None:
        """Fill the free places; where nothing more may be begun, give back what waits for one."""
        if self._stopping or self.shut:
            self._ended.extend(self._ready)
            self._ready.clear()
        while self._ready and len(self.tours) < self._concurrency:
            tour = self._ready.popleft()
            task = asyncio.create_task(tour.go())
            self.tours[task] = tour
            task.add_done_callback(self._returned)
        if self._ended and self._settling is None:
            self._settling = asyncio.create_task(self._settle())

    def _returned(self, task: "asyncio.Task[None]") -> None:
        tour = self.tours.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("handover_failed", recipient=self.key[0], way=self.key[1], **_placed(error))
        self.shut = self.shut or (tour.fault is not None and tour.fault.whole)
        self._ended.append(tour)
        self._begin()
        self._stir.set()

    async def _settle(self) -> None:
        """All that have ended by now, in one transaction; those that end meanwhile, in the next."""
        try:
            while self._ended:
                tours, self._ended = self._ended, []
                until = min(tour.until for tour in tours)
                while not await self._settled(tours):
                    if self._desk.hand.clock() > until:
                        break
                    await asyncio.sleep(AGAIN_SECONDS)  # not settled, all of it would be handed over once more
                held = self._desk.in_hand
                held[self.key] = held.get(self.key, 0) - sum(tour.lane.size for tour in tours)
                self._more = self._more or any(tour.again for tour in tours)
        finally:
            self._settling = None
            self._stir.set()

    async def _settled(self, tours: list[Tour]) -> bool:
        desk = self._desk
        settlements = [tour.settlement() for tour in tours]
        held: set[LaneKey] = {tour.lane.key for tour in tours}
        held |= {lane for tour in tours for each in tour.results for lane in desk.scribe.lanes(each.out.paper)}
        settling = lanes.settle(settlements, desk.scribe)
        verdict = judged(self.key, tours, desk.streaks, desk.hand.chance())
        self.shut = self.shut or verdict.shuts
        try:
            kept, failures = await desk.post.run(judging(settling, verdict), lanes=held)
        except Refusal:
            return False
        except Exception as error:  # noqa: BLE001 - a mistake of ours: the leases end, and it is handed over again
            log.error("settlement_failed", recipient=self.key[0], way=self.key[1], **place(error))  # noqa: TRY400 - same
            return True
        if kept.count(False):
            log.warning("claim_lost", recipient=self.key[0], way=self.key[1], lanes=kept.count(False))
        _count([tour for tour, held in zip(tours, kept, strict=True) if held])
        tell(self.key, verdict, failures)
        for key in receipts(tours, desk.hand):
            self._wake(key)
        return True


def _count(tours: Iterable[Tour]) -> None:
    """How long it took what these tours brought there."""
    now = time.time()
    for tour in tours:
        for each in tour.results:
            if tour.way and each.out.kind != RECEIPT and each.to in (State.ARRIVED, State.REGISTERED):
                tour.hand.meters.arrived(tour.way.protocol, now - each.out.since)


def _placed(error: BaseException) -> dict[str, str]:
    return place(error) if isinstance(error, Exception) else {"error": type(error).__name__}
