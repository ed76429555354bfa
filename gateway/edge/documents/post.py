"""Collects the submissions that come at the same time into one work: while one batch is in flight the next fills.

What happens to one is its own: a batch that the database refuses is tried one by one, and what must wait for a lane
waits by itself.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.core.model import AgencyId, SystemId
from gateway.core.refusal import Refusal
from gateway.edge.documents.records import Kept, Lane, LaneKey, Place, Reused, Submission, Taken
from gateway.edge.documents.scribe import Scribe
from gateway.edge.documents.submitting import Outcome, known, lanes, pushed, submit
from gateway.edge.journal import Journal, unavailable
from gateway.edge.store import Driver, LanesHeld, StoreFailed, StoreRefused, StoreWaited

MAX_WAITING = 4096
"""Submissions that wait, or are in flight; more are refused."""
MAX_WAITING_BYTES = 268_435_456
"""Of their bodies together."""
MAX_BATCH = 256
"""Submissions in one work."""
MAX_ADDRESSEES = 10_000
"""Of one work, where it has more than one submission."""
MAX_BATCH_BYTES = 8_388_608
"""Of the bodies of one work, where it has more than one submission."""
PATIENCE = 4.0
"""Seconds for which a submission waits for a lane that another transaction holds."""
PAUSE = 0.2
"""Seconds between two tries at such a lane."""


@dataclass(slots=True, eq=False)
class _Letter:
    submission: Submission
    until: float
    """On the loop's clock: when it gives up waiting for a lane."""
    done: "asyncio.Future[Taken | Reused]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def size(self) -> int:
        return len(self.submission.body)


class HandsOver(Protocol):
    """``Dispatcher``."""

    def keep(self, recipient: AgencyId, way: str, sizes: Sequence[int]) -> Kept | None:
        """Places for deliveries of so many bytes, as many of the first ones as there is room for."""


class Post:
    """The one entrance for documents of this process."""

    def __init__(
        self,
        journal: Journal,
        reader: Driver,
        scribe: Scribe,
        *,
        dispatcher: Callable[[], HandsOver | None] = lambda: None,
        patience: float = PATIENCE,
    ) -> None:
        """``dispatcher`` is asked for places, so that what is taken in is on its way with the same transaction."""
        self._dispatcher = dispatcher
        self._patience = patience
        self._journal = journal
        self._reader = reader
        self._scribe = scribe
        self._waiting: list[_Letter] = []
        self._letters = 0
        self._bytes = 0
        self._flight: asyncio.Task[None] | None = None
        self._aside: set[asyncio.Task[None]] = set()

    async def submit(self, submission: Submission) -> Taken | Reused:
        """Take it in; returns when that is durable.

        Raises Refusal: attachment.unknown, idempotency.running, journal.unavailable.
        """
        if self._letters >= MAX_WAITING or self._bytes + len(submission.body) > MAX_WAITING_BYTES:
            raise unavailable()
        letter = _Letter(submission, asyncio.get_running_loop().time() + self._patience)
        self._waiting.append(letter)
        self._count(letter, 1)
        if self._flight is None:
            self._flight = asyncio.create_task(self._fly())
        try:
            return await letter.done
        finally:
            self._count(letter, -1)

    async def known(self, sender: SystemId, reference: str) -> tuple[Taken, bytes] | None:
        """What was taken in under the reference, and its fingerprint. Raises Refusal journal.unavailable."""
        try:
            return await known(self._reader, sender, reference)
        except (StoreFailed, StoreRefused) as error:
            raise unavailable() from error

    async def close(self) -> None:
        """Returns when nothing is on its way any more; before the journal is closed."""
        while going := [task for task in (self._flight, *self._aside) if task]:
            await asyncio.wait(going)

    def _count(self, letter: _Letter, by: int) -> None:
        self._letters += by
        self._bytes += by * letter.size

    async def _fly(self) -> None:
        try:
            while self._waiting:
                await self._carry(self._load())
        finally:
            self._flight = None

    def _load(self) -> list[_Letter]:
        """The next batch: the first that wait, as many as go together."""
        addressees = size = count = 0
        for letter in self._waiting[:MAX_BATCH]:
            addressees += len(letter.submission.to)
            size += letter.size
            if count and (addressees > MAX_ADDRESSEES or size > MAX_BATCH_BYTES):
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def _carry(self, letters: Sequence[_Letter]) -> None:
        """Take them in together, and what cannot be so by itself."""
        try:
            outcomes = await self._taken_in([letter.submission for letter in letters])
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not leave callers waiting
            await self._part(letters, error)
        else:
            for letter, outcome in zip(letters, outcomes, strict=True):
                _tell(letter, outcome)

    async def _taken_in(self, submissions: Sequence[Submission]) -> Sequence[Outcome]:
        """In one transaction; what was claimed by it is on its way when this returns."""
        first = min((each.paper.sender, each.paper.reference) for each in submissions)
        outcomes: Sequence[Outcome] = ()
        kept, places = _keep(submissions, self._dispatcher())
        try:
            outcomes = await self._journal.run(
                submit(submissions, self._scribe, places),
                locks=("documents", *first),
                lanes=lanes(submissions, self._scribe),
            )
        finally:
            _begin(kept, outcomes)
        return outcomes

    async def _part(self, letters: Sequence[_Letter], error: Exception) -> None:
        match error.__cause__ if isinstance(error, Refusal) else error:
            case LanesHeld() as cause:
                stuck = [each for each in letters if lanes([each.submission], self._scribe) & cause.lanes]
                self._wait(stuck, error)
                if free := [each for each in letters if each not in stuck]:
                    await self._carry(free)
            case StoreFailed() | None:
                _refuse(letters, error)
            case _ if len(letters) > 1:
                await asyncio.gather(*(self._carry([letter]) for letter in letters))
            case StoreWaited():
                self._wait(letters, error)
            case _:
                _refuse(letters, error)

    def _wait(self, letters: Sequence[_Letter], error: Exception) -> None:
        """Try them again a little later, as long as they have patience."""
        now = asyncio.get_running_loop().time()
        patient = [letter for letter in letters if now < letter.until]
        _refuse([letter for letter in letters if letter not in patient], error)
        if patient:
            task = asyncio.create_task(self._again(patient))
            self._aside.add(task)
            task.add_done_callback(self._aside.discard)

    async def _again(self, letters: Sequence[_Letter]) -> None:
        await asyncio.sleep(PAUSE)
        await self._carry(letters)


def _keep(
    submissions: Sequence[Submission], dispatcher: HandsOver | None
) -> tuple[Sequence[Kept], Mapping[LaneKey, Place]]:
    """What may be claimed as it is taken in: a document that waits for nothing need not be looked for."""
    found: list[Kept] = []
    places: dict[LaneKey, Place] = {}
    if dispatcher is None:
        return found, places
    wanted: dict[tuple[AgencyId, str], list[tuple[LaneKey, int]]] = {}
    for each in submissions:
        for to in pushed(each):
            wanted.setdefault((to.recipient, to.way), []).append((to.lane, len(each.raw)))
    for (recipient, way), some in wanted.items():
        if kept := dispatcher.keep(recipient, way, [size for _, size in some]):
            found.append(kept)
            places.update((lane, kept.place) for lane, _ in some[: kept.count])
    return found, places


def _begin(kept: Iterable[Kept], outcomes: Iterable[Outcome]) -> None:
    """Have handed over what was claimed; the places of what was not are free again."""
    claimed: dict[str, list[Lane]] = {}
    for outcome in outcomes:
        for lane in outcome.lanes if isinstance(outcome, Taken) else ():
            claimed.setdefault(lane.claim, []).append(lane)
    for each in kept:
        each.begin(each, claimed.get(each.place.claim, ()))


def _refuse(letters: Sequence[_Letter], error: Exception) -> None:
    for letter in letters:
        told = unavailable(error.__cause__) if isinstance(error, Refusal) else error
        told.__cause__ = error.__cause__
        _tell(letter, told)


def _tell(letter: _Letter, outcome: Taken | Reused | Exception) -> None:
    if letter.done.done():  # the caller went away
        return
    if isinstance(outcome, Exception):
        letter.done.set_exception(outcome)
    else:
        letter.done.set_result(outcome)
