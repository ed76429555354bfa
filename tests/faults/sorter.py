"""The queue's workers, to be killed and paused: who submits, who hands over, who polls a mailbox, who disturbs.

Each writes what it did into one file, a line at a time, which puts everybody's doings into one order. Started by
``test_queue`` as processes of their own on PostgreSQL, and as tasks of one process on SQLite.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway.core.delivery import State
from gateway.core.model import AgencyId
from gateway.core.refusal import Refusal
from gateway.edge.documents import sweeping
from gateway.edge.documents.ends import Changed
from gateway.edge.documents.lanes import waiting
from gateway.edge.documents.records import Addressee, Lane, Result, Submission, Taken, body_context
from gateway.edge.documents.submitting import lanes, submit
from gateway.edge.postgres import PostgresDriver
from gateway.edge.store import StoreFailed
from tests.fakes.mail import BOX, DAY, HEALTH, INTERIOR, PUSH, Office, fine, gathered, paper, waits, way, working

LAMPANG = AgencyId("lampang")
WAYS = (way("health"), way("interior"), way("lampang", BOX))
LEASE = 1.0
"""Seconds; a hand-over is not begun in the last fifth of it."""
SLOW = 0.05
"""Seconds that some hand-overs take, so that who is paused has something in hand."""
EACH = 10
"""Submissions at once, and documents that a poller asks for."""


@dataclass(slots=True)
class Stage:
    """Where the workers meet."""

    folder: Path
    chance: random.Random
    going: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared, whoever is about to hand over stands still."""

    def __post_init__(self) -> None:
        self.going.set()

    @property
    def down(self) -> bool:
        """One recipient does not answer."""
        return (self.folder / "down").exists()

    def note(self, *words: object) -> None:
        """One line, after all that were written before."""
        file = os.open(self.folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, (" ".join(map(str, words)) + "\n").encode())
        os.close(file)


async def pause(seconds: float) -> None:
    """Let others go on."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def undaunted(stage: Stage) -> AsyncIterator[None]:
    """Whoever is refused by the database comes back a little later."""
    try:
        yield
    except (Refusal, StoreFailed) as error:
        stage.note("refused", type(error.__cause__ or error).__name__)
        await pause(0.05)


async def submitter(office: Office, stage: Stage, name: str, count: int, keys: int) -> None:
    """So many references, a tenth of which another one sends too."""
    for start in range(0, count, EACH):
        numbers = range(start, start + EACH)
        some = [_submission(office, stage, name, f"both-{n}" if n % 10 == 0 else f"{name}-{n}", keys) for n in numbers]
        outcomes: Sequence[object] = ()
        while not outcomes:  # whoever is not answered asks again
            async with undaunted(stage):
                outcomes = await office.run(submit(some, office.scribe), lanes(some, office.scribe))
        for each, outcome in zip(some, outcomes, strict=True):
            if isinstance(outcome, Taken):
                stage.note("taken", each.paper.reference, outcome.id, outcome.new)


def _submission(office: Office, stage: Stage, name: str, reference: str, keys: int) -> Submission:
    chosen = random.Random(reference)
    recipient = chosen.choice((HEALTH, INTERIOR, LAMPANG))
    pulled = recipient == LAMPANG
    key = f"k{chosen.randrange(keys)}"
    document = f"{name}-{reference}-{stage.chance.getrandbits(40):x}"
    return Submission(
        paper=replace(paper(document), reference=reference),
        fingerprint=hashlib.sha256(reference.encode()).digest(),
        case_tag=None,
        head=b"head",
        body=office.keys.seal(b'"b"', body_context(document)),
        catalogue=office.catalogue.digest,
        seconds=chosen.choice(
            (DAY, DAY, chosen.uniform(0.3, 15))
        ),  # so that some end while they are in somebody's hands
        to=(Addressee(recipient, key, BOX if pulled else PUSH, "", pulled),),
        hold=None,
        attachments=(),
        facts={},
    )


async def dispatcher(office: Office, stage: Stage) -> None:
    """Until it is killed."""
    while True:
        async with undaunted(stage):
            found = await waiting(office.reader)
            for due in found.due:
                if due.way == PUSH:
                    begun = time.monotonic()
                    claimed = await office.claim(due.recipient, lanes_=5, per_lane=5, seconds=LEASE)
                    await gathered(*[_tour(office, stage, lane, begun) for lane in claimed])
            if not found.due:
                await pause(0.02)


def _tour(office: Office, stage: Stage, lane: Lane, begun: float) -> Callable[[], object]:
    async def go() -> None:
        results: list[Result] = []
        for out in lane.out:
            if stage.chance.random() < 0.1:
                await pause(SLOW)
            await stage.going.wait()
            if time.monotonic() - begun > 0.8 * LEASE:
                break
            if lane.key[0] == INTERIOR and stage.down:
                stage.note("failed", out.paper.id)
                results.append(waits(out))
                await office.close_gate(0.2, INTERIOR, probe=lane.probe)
                break
            stage.note("handed", out.paper.id, lane.key[0])
            if stage.chance.random() < 0.03:  # it was sent, and nobody answered
                results.append(waits(out, sent=True))
                break
            if stage.chance.random() < 0.05:
                await office.say(out.paper.id, "registered", AgencyId(lane.key[0]), number="77")
            results.append(fine(out))
        kept = await office.settle(lane, *results)
        if kept and lane.probe and results and results[0].to is State.ARRIVED:
            await office.sql("delete from gates where recipient = $1 and way = $2", lane.key[0], PUSH)

    return go


async def poller(office: Office, stage: Stage) -> None:
    """One that forgets now and then what it has leased."""
    while True:
        async with undaunted(stage):
            claim = f"{stage.chance.getrandbits(64):x}"
            got = await office.lease(LAMPANG, most=EACH, seconds=LEASE, claim=claim)
            for name in got:
                stage.note("handed", name, LAMPANG)
            if stage.chance.random() < 0.15:
                continue
            for name in got:
                answer = await office.say(name, "registered", LAMPANG, number="1", lease=claim)
                if isinstance(answer, Changed):
                    stage.note("registered", name)
            if not got:
                await pause(0.02)


async def disturber(office: Office, stage: Stage) -> None:
    """Recalls, expiries and purges, all the time."""
    while True:
        async with undaunted(stage):
            rows = await office.rows("select document from deliveries where open order by random() limit 3")
            for (name,) in rows:
                if isinstance(await office.recall(name), Changed):
                    stage.note("recalled", name)
            await office.expire(100)
            await office.run(sweeping.purge_lanes(100))
            await pause(0.01)


async def _live(role: str, url: str, folder: Path, name: str) -> None:
    stage = Stage(folder, random.Random(f"{role}{name}{os.getpid()}"))
    async with working(PostgresDriver(url, "DEMO"), *WAYS) as office:
        stage.note("begun", role)
        match role:
            case "submitter":
                who, count, keys = name.split(",")
                await submitter(office, stage, who, int(count), int(keys))
            case "dispatcher":
                await dispatcher(office, stage)
            case "pollers":
                await gathered(*[lambda: poller(office, stage)] * 2)
            case _:
                await disturber(office, stage)


if __name__ == "__main__":
    asyncio.run(_live(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4]))
