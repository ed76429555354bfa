"""One partition in this member's hands: its records one after the other, each to its end before the next."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from gateway.agent.gate import Gate
from gateway.agent.pace import Pace
from gateway.agent.ports import Desk, Foreign, Route, Unreachable, Unwritten
from gateway.agent.records import Checked, Incoming, NotOurs, checked, handed
from gateway.core import cloudevent, handling
from gateway.core.handling import Failure, Known, Standing, Step, Why
from gateway.protocols.handover import Accepted, Handed, NotTaken

OVERTIME_SECONDS = 5.0
"""Beyond its deadline, after which a hand-over that has not ended by itself is ended: its outcome is unknown."""
_CHANCE = random.SystemRandom()

log = structlog.get_logger()


class Lost(Exception):
    """The partition belongs to another member of the group by now, or may."""


class Unheld(Exception):
    """Kafka does not say whether the partition is still ours: nothing is handed over meanwhile."""


class Source(Protocol):
    """The group, as one partition sees it."""

    async def begin(self, partition: int) -> handling.Start:
        """Find where reading begins, and write to the group that it begins here. Raises Lost, Unheld, Unwritten."""

    async def records(self, partition: int) -> Sequence[Incoming]:
        """The next ones; none after a while in which nothing came. Raises Lost, and LookupError where the topic does
        not have the position any more."""

    async def hold(self, partition: int, position: int) -> None:
        """Make sure that the partition is ours. Raises Lost, Unheld."""

    def finished(self, partition: int, position: int) -> None:
        """Everything below it is finished."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Why a record is not finished yet."""

    why: str
    wish: float | None = None


class Partition:
    """Work it off by ``run``; ``leave`` ends it."""

    def __init__(self, number: int, desk: Desk, source: Source, pace: Pace, gates: Callable[[Route], Gate]) -> None:
        self.number = number
        self._desk = desk
        self._source = source
        self._pace = pace
        self._gates = gates
        self._doubtful_below = 0
        self._busy = False
        """Between ``begun`` and what became of it: it must not be broken off."""
        self._leaving = False
        self.position: int | None = None
        """The first record that is not finished."""
        self.oldest: float | None = None
        """When that was written, if it is in hand: seconds since 1970."""

    async def run(self) -> None:
        """Until the partition is lost, or left."""
        try:
            await self._begin()
            while not self._leaving:
                try:
                    batch = await self._source.records(self.number)
                except LookupError:  # the topic has lost what comes next (A15)
                    await self._begin()
                    continue
                for incoming in batch:
                    await self._finish(incoming)
        except Lost:
            log.info("partition_lost", partition=self.number, position=self.position)

    async def leave(self, task: "asyncio.Task[None]", seconds: float) -> bool:
        """Take nothing more, finish what is in hand. False: it is not finished in time, and goes on by itself."""
        self._leaving = True
        if not self._busy:
            task.cancel()
        done, _ = await asyncio.wait([task], timeout=seconds)
        return bool(done)

    async def _begin(self) -> None:
        failures = 0
        while True:
            try:
                start = await self._source.begin(self.number)
            except (Unheld, Unwritten) as error:
                failures += 1
                await self._wait(Pause("disk" if isinstance(error, Unwritten) else "kafka"), failures, str(error))
            else:
                self.position, self.oldest = start.position, None
                self._doubtful_below = start.doubtful_below
                self._desk.meters.paused(self.number, None)
                return

    async def _finish(self, incoming: Incoming) -> None:
        """One record to its end, however long that takes. Raises Lost."""
        self.oldest = incoming.written
        failures = 0
        while True:
            if self._leaving:
                raise Lost
            pause, detail = await self._tried(incoming)
            if pause is None:
                break
            failures += 1
            await self._wait(pause, failures, detail)
        if failures:
            self._desk.meters.paused(self.number, None)
        self.position, self.oldest = incoming.position + 1, None
        self._source.finished(self.number, self.position)

    async def _tried(self, incoming: Incoming) -> tuple[Pause | None, str]:
        try:
            found = await self._checked(incoming)
            return (None if found is None else await self._dealt(found)), ""
        except Unwritten as error:
            return Pause("disk"), str(error)
        except Unreachable as error:
            return Pause("gateway"), str(error)
        except Unheld as error:
            return Pause("kafka"), str(error)

    async def _checked(self, incoming: Incoming) -> Checked | None:
        desk = self._desk
        try:
            return await checked(incoming, desk.upstream, desk.instance, desk.agency)
        except NotOurs as error:
            claimed = cloudevent.named(incoming.headers)
            await self._alarm(Foreign(self.number, incoming.position, error.why, error.detail, claimed))
            return None

    async def _alarm(self, foreign: Foreign) -> None:
        await self._desk.places.keep(foreign)
        self._desk.meters.refused(foreign.why)
        where = {"partition": foreign.partition, "position": foreign.position}
        log.warning("record_refused", **where, why=foreign.why, detail=foreign.detail)

    async def _dealt(self, found: Checked) -> Pause | None:
        """What the tables say of it. None: it is finished. Raises Lost, Unheld, Unwritten, Unreachable."""
        desk, record = self._desk, found.record
        known = await desk.memory.look(record.document)
        route = desk.route(record.service)
        takes_key = route is not None and route.takes_key
        doubtful = record.position < self._doubtful_below
        step = handling.met(record, known, takes_key=takes_key, doubtful=doubtful)
        asked = step is Step.ASK
        if asked:
            step = handling.answered(await desk.upstream.state(record.document))
        match step:
            case Step.HAND_OVER:
                return await self._handed_over(found, handling.begun(record, known, repeated=asked), route)
            case Step.ASK:
                return Pause("gateway")
            case Step.ALARM:
                said = "another body came under this id before"
                await self._alarm(Foreign(self.number, record.position, Why.OTHER_BYTES, said, record.document))
            case Step.STOP if known is not None:
                return await self._stopped(known)
            case Step.TELL if known is not None:
                await self._write(handling.retold(record, known))
                desk.meters.duplicate()
            case Step.GIVE_UP if known is not None:
                await self._write(handling.given_up(record, known))
                desk.meters.handed_over(record.service, "rejected", 0.0)
            case _:
                if known is None:
                    await desk.memory.write(handling.passed(record))
                desk.meters.duplicate()
        return None

    async def _stopped(self, known: Known) -> Pause:
        if known.standing is not Standing.UNKNOWN:
            await self._desk.memory.write(handling.stopped(known))
            where = {"partition": self.number, "position": known.position}
            log.error("outcome_unknown", document=known.document, service=known.service, **where)
        return Pause("unknown")

    async def _handed_over(self, found: Checked, begun: Known, route: Route | None) -> Pause | None:
        if self._desk.reporting.full:
            return Pause("reports")
        if route is None:
            detail = f"no way of agent.yaml is for the service {found.record.service}"
            return await self._settled(begun, NotTaken(detail, sent=False, whole=False), takes_key=False)
        gate = self._gates(route)
        if gate.closed:
            self._desk.meters.paused(self.number, "system")
        async with gate.passed(), route.room:
            try:
                files = await self._files(found)
                going = handed(found, begun, files, route.way.deadline)
            except NotTaken as error:
                if error.whole:  # the gateway's fault or the disk's: it says nothing of the agency's system
                    return Pause("files", error.retry_after)
                return await self._settled(begun, error, takes_key=route.takes_key)
            await self._source.hold(self.number, begun.position)
            return await self._taken(going, begun, route, gate)

    async def _files(self, found: Checked) -> Sequence[Mapping[str, Any]]:
        attachments = found.event.envelope.get("attachments") or ()
        return await self._desk.files.fetched(found.record.document, attachments) if attachments else ()

    async def _taken(self, going: Handed, begun: Known, route: Route, gate: Gate) -> Pause | None:
        """From the word ``begun`` on the disk to the word what became of it: never broken off by us."""
        desk = self._desk
        self._busy = True
        try:
            await desk.memory.write(begun)
            since = desk.clock()
            try:
                accepted = await _take(route, going)
            except NotTaken as error:
                self._heard(gate, route, error)
                return await self._settled(begun, error, takes_key=route.takes_key, since=since)
            self._heard(gate, route, None)
            known = handling.taken(begun, accepted.number)
            await self._surely(lambda: self._write(known))
            desk.meters.handed_over(begun.service, known.outcome or "", desk.clock() - since)
            await desk.files.forgotten(begun.document)
            return None
        finally:
            self._busy = False

    def _heard(self, gate: Gate, route: Route, error: NotTaken | None) -> None:
        """What the system's answer says of the system."""
        down = error is not None and error.whole
        if down:
            gate.failed(error.retry_after if error else None)
        else:
            gate.answered()
        self._desk.meters.system(route.way.name, up=not down)

    async def _settled(
        self, begun: Known, error: NotTaken, *, takes_key: bool, since: float | None = None
    ) -> Pause | None:
        desk = self._desk
        known = handling.failed(begun, Failure(error.sent, error.whole, error.reason), takes_key=takes_key)
        if since is None:
            await self._write(known)
        else:
            await self._surely(lambda: self._write(known))
        outcome = known.outcome or ("unknown" if known.standing is Standing.UNKNOWN else "again")
        desk.meters.handed_over(begun.service, outcome, 0.0 if since is None else desk.clock() - since)
        where = {"partition": self.number, "position": begun.position}
        log.warning("not_handed_over", document=begun.document, **where, outcome=outcome, why=error.detail)
        match known.standing:
            case Standing.REFUSED:
                await desk.files.forgotten(begun.document)
                return None
            case Standing.UNKNOWN:
                return Pause("unknown")
            case _ if error.whole:
                return Pause("system", 0.0)  # the gate counts
            case _:
                wish = self._pace.document_pause(known.tries, _CHANCE.random(), error.retry_after)
                return Pause("document", wish)

    async def _write(self, known: Known) -> None:
        owed = known.outcome is not None
        await self._desk.memory.write(known, owed=owed)
        if owed:
            self._desk.reporting.owed()

    async def _surely(self, write: Callable[[], Awaitable[None]]) -> None:
        """What became of a document is lost to nobody while this process lives, however long the disk is full."""
        failures = 0
        while True:
            try:
                return await write()
            except Unwritten as error:
                failures += 1
                self._desk.meters.paused(self.number, "disk")
                log.error("outcome_not_written", partition=self.number, why=str(error))  # noqa: TRY400 - its cause is known
                await asyncio.sleep(self._pace.pause(failures, _CHANCE.random()))

    async def _wait(self, pause: Pause, failures: int, detail: str) -> None:
        self._desk.meters.paused(self.number, pause.why)
        if detail and failures == 1:
            log.warning("partition_paused", partition=self.number, why=pause.why, detail=detail)
        if pause.why in ("unknown", "reports"):
            seconds = self._pace.again
        elif pause.why in ("system", "document"):
            seconds = pause.wish or 0.0
        else:
            seconds = self._pace.pause(failures, _CHANCE.random(), pause.wish)
        await asyncio.sleep(seconds)


async def _take(route: Route, going: Handed) -> Accepted:
    """Raises NotTaken. A taker keeps its deadline itself; this one is for one that does not."""
    try:
        async with asyncio.timeout(going.seconds + OVERTIME_SECONDS):
            return await route.taker.take(going)
    except TimeoutError as error:
        detail = f"the way {route.way.name} did not keep its deadline of {going.seconds:.0f} s"
        raise NotTaken(detail, sent=True, whole=True) from error
