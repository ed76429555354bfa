"""What the parts of the agent are to each other: the gateway above it, the files, the reports, the figures."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.core.handling import Known, Outcome, Verdict
from gateway.core.model import Way
from gateway.protocols.handover import Taker


class Unreachable(Exception):
    """The gateway gave no usable answer: nothing is decided without it, and it is asked again. One sentence."""


class Unwritten(Exception):
    """The agent's own memory cannot be written or read: the disk is full or gone. Nothing is handed over meanwhile."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the gateway is to be told of one document."""

    number: int
    """Of the report here: they rise, and are told in this order."""
    document: str
    outcome: Outcome
    """``retrieved``, ``registered`` or ``rejected``."""
    register_number: str | None
    reason: str | None
    """A code of ``core.delivery.Reason``, one of those with which a recipient may reject."""


@dataclass(frozen=True, slots=True)
class Told:
    """The gateway has it: a receipt was given, now or before."""


@dataclass(frozen=True, slots=True)
class Final:
    """The gateway will never take it (404, 409): kept and shown, not told again."""

    code: str
    """Of the refusal: ``document.ended``, say."""


@dataclass(frozen=True, slots=True)
class Later:
    """Not now."""

    seconds: float
    """What the gateway wished for; 0: nothing."""


Answered = Told | Final | Later


class Upstream(Protocol):
    """The gateway, as a recipient's system calls it by HTTP."""

    async def keys(self, after: float | None = None) -> Mapping[str, Any]:
        """The keys (a JWKS) with which the instance signs, from a cache. Raises Unreachable.

        ``after`` is a reading of the desk's clock: keys that were fetched before it are not enough. Then it waits until
        the cool-down since the last fetch is over and fetches, once for all who ask: a new key is published before
        anything is signed by it, so that what these keys do not verify was never signed.
        """

    async def state(self, document: str) -> str | None:
        """The document's state at this recipient; None: the gateway knows no such document here. Raises Unreachable."""

    async def report(self, report: Report) -> Answered:
        """Say what became of it. Never raises but CancelledError: no answer is Later."""

    async def arrived(self, after: str | None) -> tuple[Sequence[str], str | None]:
        """A page of the documents that are ``arrived`` here, and where the next one begins. Raises Unreachable."""


class Files(Protocol):
    """The files that go along with a document."""

    async def fetched(self, document: str, attachments: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """The envelope's entries, each with ``path``: where it lies, whole and checked.

        Raises ``handover.NotTaken`` with ``sent=False``: ``whole`` where nothing can be fetched now (gateway, disk).
        """

    async def forgotten(self, document: str) -> None:
        """Its outcome is written: the files may go. Never raises."""


class Reporting(Protocol):
    """Who tells the gateway what the memory holds."""

    @property
    def full(self) -> bool:
        """More reports wait than may: nothing is handed over meanwhile."""

    def owed(self) -> None:
        """There is something new to tell."""


class Meters(Protocol):
    """The agent's figures."""

    def handed_over(self, service: str, outcome: str, seconds: float) -> None:
        """A hand-over ended: retrieved, registered, rejected, again, unknown. The service is one that was checked."""

    def duplicate(self) -> None:
        """A record was passed over, as its document had been handed over before."""

    def refused(self, why: str) -> None:
        """A record was not taken: ``handling.Why``."""

    def lag(self, partition: int, records: int, age: float) -> None:
        """Records not yet finished, and the seconds since the oldest of them was written."""

    def assigned(self, partitions: Sequence[int]) -> None:
        """These are ours from now on; figures of others go."""

    def rebalanced(self) -> None:
        """The group was divided anew."""

    def paused(self, partition: int, why: str | None) -> None:
        """``system``, ``unknown``, ``disk``, ``gateway``, ``reports``, ``files``, ``document``, ``kafka``; None: on."""

    def system(self, way: str, *, up: bool) -> None:
        """Whether the agency's own system behind that way takes documents."""

    def restarted(self) -> None:
        """The consumer had died and was made anew."""


@dataclass(frozen=True, slots=True)
class Route:
    """The agency's own system for some services."""

    way: Way
    taker: Taker
    takes_key: bool
    """It takes the document's id as a key: what it may have already can be handed over again."""
    room: asyncio.Semaphore
    """Of ``way.concurrency``: hand-overs at once."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What the memory holds."""

    seen: int
    unreported: int
    unsettled: int
    """Outcome unknown: a person must say."""
    refused_reports: int
    """Outcomes that the gateway will never take."""
    foreign: int
    """Records that were no document of this gateway for this agency."""
    gaps: int
    """Partitions of which records went before they were read."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A record that was not taken, and of which no outcome is told."""

    partition: int
    position: int
    why: str
    """``handling.Why``."""
    detail: str
    """One sentence without anything of the record."""
    claimed: str | None = None
    """The id that it gives itself: anybody can write that."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that went, by retention or with the topic, before they were read here."""

    partition: int
    expected: int
    """The position at which reading should have gone on."""
    begins: int
    """Where it went on instead."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What a person said of an unknown outcome."""

    document: str
    verdict: Verdict
    by: str
    why: str
    at: float
    """Seconds since 1970, by this machine's clock."""


class Memory(Protocol):
    """What the agent knows of documents, on its own disk; each call is one durable transaction. Raises Unwritten."""

    async def look(self, document: str) -> Known | None:
        """What is known of it."""

    async def write(self, known: Known, *, owed: bool = False) -> None:
        """This is known of it from now on. ``owed``: its outcome is to be told, again if it was told before."""

    async def unsettled(self) -> Sequence[Known]:
        """Documents whose outcome is unknown."""

    async def decide(self, document: str, verdict: Verdict, number: str | None = None, *, by: str, why: str) -> bool:
        """A person settles an unknown outcome, and is remembered. False: there is none to settle."""

    async def decisions(self, limit: int) -> Sequence[Decided]:
        """What people said, the newest first."""

    async def unknown(self, documents: Sequence[str]) -> Sequence[str]:
        """Those of which nothing is known here (A15)."""

    async def forget(self, partition: int, below: int) -> None:
        """Documents whose records the topic does not hold any more, and whose outcomes were told."""

    async def stranded(self, partition: int, below: int, limit: int) -> Sequence[str]:
        """Some of those that were not finished here, and whose records the topic does not hold any more."""

    async def drop(self, document: str, partition: int, below: int) -> None:
        """One of those: nobody is handed it any more."""


class Dues(Protocol):
    """What the gateway has yet to be told, beside the memory in one file. Raises Unwritten."""

    async def unreported(self, limit: int, after: int = 0) -> Sequence[Report]:
        """The oldest outcomes that the gateway was not told, with numbers above ``after``."""

    async def reported(self, report: Report, answered: Told | Final) -> None:
        """The gateway answered; no effect where the outcome is to be told anew meanwhile."""

    async def refused(self) -> Sequence[tuple[Report, str]]:
        """Outcomes that the gateway will never take, each with its code."""


class Places(Protocol):
    """What the agent knows of the topic's partitions, in the same file. Raises Unwritten."""

    @property
    def identity(self) -> str:
        """Of this memory alone: a new one has another."""

    async def reached(self, partition: int) -> int | None:
        """The position behind the last record that was finished here."""

    async def finished(self, positions: Mapping[int, int]) -> None:
        """By partition: everything below this position is finished."""

    async def keep(self, foreign: Foreign) -> None:
        """Remember where a record lies that was not taken; beyond a bound the oldest go."""

    async def foreign(self) -> Sequence[Foreign]:
        """The newest first."""

    async def missed(self, gap: Gap) -> None:
        """Records went unread: it stays until a person has looked."""

    async def gaps(self) -> Sequence[Gap]:
        """What went unread."""

    async def looked(self) -> None:
        """A person has looked at the gaps and at the records that were not taken: the alarm is over."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What a member of the group works with."""

    instance: str
    agency: str
    memory: Memory
    places: Places
    upstream: Upstream
    files: Files
    reporting: Reporting
    route: Callable[[str], Route | None]
    """By service: the first way that matches."""
    meters: Meters
    clock: Callable[[], float]
    """Monotonic seconds."""
