"""One record to its end: what the tables say of its document, its hand-over, what is written before and after."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from gateway.agent.gate import Gate
from gateway.agent.pace import Pace
from gateway.agent.ports import Desk, Foreign, Route, Unwritten
from gateway.agent.records import Checked, Incoming, NotOurs, checked, handed
from gateway.core import cloudevent, handling
from gateway.core.handling import Failure, Known, Standing, Step, Why
from gateway.protocols.handover import Accepted, Handed, NotTaken

OVERTIME_SECONDS = 5.0
"""Beyond its deadline, after which a hand-over that has not ended by itself is ended: its outcome is unknown."""
_CHANCE = random.SystemRandom()

log = structlog.get_logger()


class Hold(Protocol):
    """The group, as a hand-over sees it."""

    async def hold(self, partition: int, position: int) -> None:
        """Make sure that the partition is ours. Raises Lost, Unheld."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Why a record is not finished yet."""

    why: str
    wish: float | None = None
    """Seconds after which to come back; None: longer from time to time."""


@dataclass(frozen=True, slots=True)
class _Stuck:
    """A document at which the system said that it takes nothing."""

    document: str = ""
    answers: int = 0
    """Of the gate, by then."""
    alone: int = 0
    """So often, though the system had answered others since the time before: it is the document."""
    alone_now: bool = False
    """The last time was such a one."""

    def again(self, document: str, answers: int) -> "_Stuck":
        """Once more, or another one."""
        if document != self.document:
            return _Stuck(document, answers)
        alone = answers > self.answers
        return _Stuck(document, answers, self.alone + alone, alone)


class Handing:
    """For one partition: its records come one after the other."""

    def __init__(self, desk: Desk, hold: Hold, pace: Pace, gates: Callable[[Route], Gate]) -> None:
        self._desk = desk
        self._hold = hold
        self._pace = pace
        self._gates = gates
        self._stuck = _Stuck()
        self.busy = False
        """Between ``begun`` and what became of it: it must not be broken off."""

    async def done(self, incoming: Incoming, doubtful_below: int) -> Pause | None:
        """None: the record is finished. Raises Lost, Unheld, Unwritten, Unreachable: nothing has become of it yet."""
        desk = self._desk
        try:
            found = await checked(incoming, desk.upstream, desk.instance, desk.agency)
        except NotOurs as error:
            claimed = cloudevent.named(incoming.headers)
            await self.alarm(Foreign(incoming.partition, incoming.position, error.why, error.detail, claimed))
            return None
        return await self._dealt(found, doubtful=incoming.position < doubtful_below)

    async def _dealt(self, found: Checked, *, doubtful: bool) -> Pause | None:
        desk, record = self._desk, found.record
        known = await desk.memory.look(record.document)
        route = desk.route(record.service)
        takes_key = route is not None and route.takes_key
        step = handling.met(record, known, takes_key=takes_key, doubtful=doubtful)
        if asked := step is Step.ASK:
            step = handling.answered(await desk.upstream.state(record.document))
        match step:
            case Step.HAND_OVER:
                return await self._handed_over(found, handling.begun(record, known, repeated=asked and doubtful), route)
            case Step.ASK:
                return Pause("gateway")
            case Step.STOP if known is not None:
                return await self._stopped(known)
            case Step.ALARM:
                said = "another body came under this id before"
                await self.alarm(Foreign(record.partition, record.position, Why.OTHER_BYTES, said, record.document))
            case Step.TELL if known is not None:
                await self._write(known)
                desk.meters.duplicate()
            case Step.GIVE_UP if known is not None:
                await self._write(handling.given_up(record, known))
                desk.meters.handed_over(record.service, "rejected", 0.0)
            case _:
                if asked and known is None:
                    await desk.memory.write(handling.passed(record))
                desk.meters.duplicate()
        return None

    async def alarm(self, foreign: Foreign) -> None:
        """A record is passed over, and people are told. Raises Unwritten."""
        await self._desk.places.keep(foreign)
        self._desk.meters.refused(foreign.why)
        where = {"partition": foreign.partition, "position": foreign.position}
        log.warning("record_refused", **where, why=foreign.why, detail=foreign.detail)

    async def _stopped(self, known: Known) -> Pause:
        if known.standing is not Standing.UNKNOWN:
            await self._desk.memory.write(handling.stopped(known))
            where = {"partition": known.partition, "position": known.position}
            log.error("outcome_unknown", document=known.document, service=known.service, **where)
        return Pause("unknown", self._pace.again)

    async def _handed_over(self, found: Checked, begun: Known, route: Route | None) -> Pause | None:
        if self._desk.reporting.full:
            return Pause("reports", self._pace.again)
        if route is None:
            detail = f"no way of agent.yaml is for the service {begun.service}"
            return await self._not_taken(begun, NotTaken(detail, sent=False, whole=False), takes_key=True)
        try:  # before its turn: a file that takes its time holds up nobody else's document
            going = handed(found, begun, await self._files(found), route.way.deadline)
        except NotTaken as error:
            if error.whole:  # the gateway's fault or the disk's: it says nothing of the agency's system
                return Pause("files", error.retry_after)
            return await self._not_taken(begun, error, takes_key=route.takes_key)
        gate = self._gates(route)
        if gate.closed:
            self._desk.meters.paused(begun.partition, "system")
        async with gate.passed(), route.room:
            await self._hold.hold(begun.partition, begun.position)
            return await self._given(going, begun, route, gate)

    async def _files(self, found: Checked) -> Sequence[Mapping[str, Any]]:
        attachments = found.event.envelope.get("attachments") or ()
        return await self._desk.files.fetched(found.record.document, attachments) if attachments else ()

    async def _given(self, going: Handed, begun: Known, route: Route, gate: Gate) -> Pause | None:
        """From the word ``begun`` on the disk to the word what became of it: never broken off by us."""
        desk = self._desk
        self.busy = True
        try:
            await desk.memory.write(begun)
            since = desk.clock()
            try:
                accepted = await _take(route, going)
            except NotTaken as error:
                if error.whole:
                    self._stuck = self._stuck.again(begun.document, gate.answers)
                self._heard(gate, route, error)
                return await self._not_taken(begun, error, takes_key=route.takes_key, since=since)
            self._heard(gate, route, None)
            known = handling.taken(begun, accepted.number)
            await self._surely(begun.partition, lambda: self._write(known))
            desk.meters.handed_over(begun.service, str(known.outcome), desk.clock() - since)
            if going.envelope["attachments"]:
                await desk.files.forgotten(begun.document)
            return None
        finally:
            self.busy = False

    def _heard(self, gate: Gate, route: Route, error: NotTaken | None) -> None:
        """What the system's answer says of the system."""
        down = error is not None and error.whole
        if error is not None and down:
            gate.failed(error.retry_after)
        else:
            gate.answered()
        self._desk.meters.system(route.way.name, up=not down)

    async def _not_taken(
        self, begun: Known, error: NotTaken, *, takes_key: bool, since: float | None = None
    ) -> Pause | None:
        """``since``: when it was tried; None: it came to no try, and nothing is lost if it cannot be written."""
        desk = self._desk
        wears = self._stuck.alone_now and self._stuck.alone > self._pace.patience
        failure = Failure(error.sent, error.whole and not wears, error.reason)
        known = handling.failed(begun, failure, takes_key=takes_key)
        if since is None:
            await self._write(known)
        else:
            await self._surely(begun.partition, lambda: self._write(known))
        outcome = known.outcome or ("unknown" if known.standing is Standing.UNKNOWN else "again")
        desk.meters.handed_over(begun.service, outcome, 0.0 if since is None else desk.clock() - since)
        where = {"partition": begun.partition, "position": begun.position}
        log.warning("not_handed_over", document=begun.document, **where, outcome=outcome, why=error.detail)
        match known.standing:
            case Standing.REFUSED:
                await desk.files.forgotten(begun.document)
                return None
            case Standing.UNKNOWN:
                return Pause("unknown", self._pace.again)
            case _ if error.whole and not self._stuck.alone:
                return Pause("system", 0.0)  # the gate knows how long
            case _ if error.whole:  # or the gate would be closed to all others again and again, by this one
                pause = self._pace.document_pause(self._stuck.alone, _CHANCE.random(), error.retry_after)
                return Pause("document", pause)
            case _:
                return Pause("document", self._pace.document_pause(known.tries, _CHANCE.random(), error.retry_after))

    async def _write(self, known: Known) -> None:
        owed = known.outcome is not None
        await self._desk.memory.write(known, owed=owed)
        if owed:
            self._desk.reporting.owed()

    async def _surely(self, partition: int, write: Callable[[], Awaitable[None]]) -> None:
        """What became of a document is not lost while this process lives, however long the disk is full."""
        failures = 0
        while True:
            try:
                return await write()
            except Unwritten as error:
                failures += 1
                self._desk.meters.paused(partition, "disk")
                log.warning("outcome_not_written", partition=partition, why=str(error))
                await asyncio.sleep(self._pace.pause(failures, _CHANCE.random()))


async def _take(route: Route, going: Handed) -> Accepted:
    """Raises NotTaken. A taker does so itself, in time; this is for one that does not."""
    try:
        async with asyncio.timeout(going.seconds + OVERTIME_SECONDS):
            return await route.taker.take(going)
    except NotTaken:
        raise
    except TimeoutError as error:
        detail = f"the way {route.way.name} did not keep its deadline of {going.seconds:.0f} s"
        raise NotTaken(detail, sent=True, whole=True) from error
    except Exception as error:  # a record must not end the partition, whatever it does to a way (A9)
        detail = f"the way {route.way.name} failed with {type(error).__name__}"
        raise NotTaken(detail, sent=True, whole=False) from error
