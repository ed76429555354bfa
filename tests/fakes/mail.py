"""A post office without its counter: documents put in by hand, claimed, settled and ended on a real database."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.core.delivery import State
from gateway.core.document import to_register
from gateway.core.life import End as Done
from gateway.core.life import Life, Span
from gateway.core.model import (
    MAILBOX,
    Agency,
    AgencyId,
    Catalogue,
    Effect,
    Kind,
    Service,
    ServiceId,
    Standing,
    SystemId,
    Visibility,
    Way,
    catalogue,
)
from gateway.core.shape import Shape
from gateway.edge.documents import deadlines, ends, gates, lanes, mailbox, sweeping
from gateway.edge.documents.ends import Answer, Outcome
from gateway.edge.documents.opening import Opening, deliver
from gateway.edge.documents.positions import Work, lanes_of
from gateway.edge.documents.records import Lane, LaneKey, Out, Paper, Result, Settlement, Step, body_context
from gateway.edge.documents.scribe import Line, Scribe, signer
from gateway.edge.journal import Book, Journal
from gateway.edge.keys import Keyring, SigningKey
from gateway.edge.store import Driver, Plan, Rows
from tests.fakes import catalogues

T = TypeVar("T")
LETTER, ALERT = ServiceId("letters.official.v1"), ServiceId("disaster.alert.v1")
SENDER, SENDING = SystemId("finance.desk"), AgencyId("finance")
HEALTH, INTERIOR = AgencyId("health"), AgencyId("interior")
PUSH, BOX = "webhook", "mailbox"
DAY = 86_400.0
LONG = 60.0
"""Seconds of a lease that outlasts the test."""
DEAD = -1.0
"""Seconds of a lease whose holder is believed dead at once."""


def way(agency: str, name: str = PUSH, *, unit: str | None = None, receipts: bool = False) -> Way:
    """Everything goes this way; one called ``mailbox…`` is pulled."""
    return Way(
        agency=AgencyId(agency),
        name=name,
        protocol=MAILBOX if name.startswith(BOX) else PUSH,
        services=("*",),
        receipts=receipts,
        unit=unit,
        options={},
        deadline=10.0,
        concurrency=4,
        max_waiting=50_000,
        standing=Standing.ACTIVE,
    )


def life(done_at: Done = Done.REGISTERED, keep_days: int = 365) -> Life:
    """Thirty days to deliver, no order, no files."""
    return Life(None, done_at, Span(30 * DAY), None, None, keep_days)


def service(name: ServiceId = LETTER, of_life: Life | None = None) -> Service:
    """A document that may be anything."""
    anything = Shape({})
    return Service(
        id=name,
        title=name,
        kind=Kind.DOCUMENT,
        effect=Effect.WRITE,
        visibility=Visibility.MEMBERS,
        personal_data=False,
        request_subjects=(),
        response_subjects=(),
        max_bytes=1024,
        standard=None,
        request=anything,
        response=anything,
        life=of_life or life(),
    )


def town(*ways: Way, services: Iterable[Service] = ()) -> Catalogue:
    """The agencies whose ways are given, and the sender's."""
    names = {SENDING, HEALTH, INTERIOR, *(each.agency for each in ways)}
    agencies: dict[AgencyId, Agency] = {}
    for name in names:
        mine = tuple(each for each in ways if each.agency == name)
        agencies[name] = replace(catalogues.agency(name), deliveries=mine)
    known = {each.id: each for each in services or (service(),)}
    return catalogue(
        instance="TEST", zone=UTC, digest="0" * 64, services=known, agencies=agencies, agreements={}, purposes={}
    )


def keyring() -> Keyring:
    """Made for the test."""
    key = SigningKey("k", "ES256", ec.generate_private_key(ec.SECP256R1()))
    return Keyring("TEST", key, (), {}, bytes(32))


def paper(name: str, kind: Kind = Kind.DOCUMENT) -> Paper:
    """Of a document that is called so; so is its reference."""
    digest = hashlib.sha256(name.encode()).digest()
    return Paper(name, kind, SENDER, None, LETTER if kind is Kind.DOCUMENT else ALERT, name, digest)


def fine(out: Out, *, to: State | None = State.ARRIVED, sent: bool = True, **more: Any) -> Result:
    """It was handed over."""
    return Result(out, to, sent, **more)


def waits(out: Out, *, sent: bool = False) -> Result:
    """It was not."""
    return Result(out, None, sent)


@dataclass(slots=True)
class Books:
    """A process's connections to the database, and what can be read there."""

    journal: Journal
    reader: Driver
    catalogue: Catalogue
    keys: Keyring
    count: int = 0

    @property
    def scribe(self) -> Scribe:
        """Writes steps down as the catalogue of the moment says."""
        return Scribe("TEST", signer(self.keys.signing), self.keys.seal, self.keys.mac, lambda: self.catalogue)

    async def run(self, plan: Work[T], lanes: Collection[LaneKey] = ()) -> T:
        """As the only work of its transaction, unless others come at the same time."""
        return await self.journal.run(plan, lanes=lanes)

    async def rows(self, select: str, *values: Any) -> list[tuple[Any, ...]]:
        """What there is."""
        return [tuple(row) for row in await self.reader.read(select, values)]

    async def sql(self, statement: str, *values: Any) -> Rows:
        """Change what there is by hand."""

        def plan(_: Book) -> Plan[Rows]:
            return (yield statement, values)

        return await self.run(plan)

    async def states(self, document: str) -> Mapping[str, str]:
        """By recipient."""
        select = "select recipient, state from deliveries where document = $1 and kind <> 'receipt' order by recipient"
        return dict(await self.rows(select, document))

    async def state(self, document: str) -> str:
        """At its one recipient."""
        (state,) = (await self.states(document)).values()
        return state

    async def steps(self, document: str) -> list[str]:
        """In order."""
        return [row[0] for row in await self.rows("select step from steps where document = $1 order by seq", document)]

    async def entries(self, document: str) -> list[str]:
        """What the journal says of it."""
        said = []
        for (month,) in await self.rows("select month from journal_months order by month"):
            for (entry,) in await self.rows(f"select entry from journal_{month} order by writer, n"):  # noqa: S608
                facts = orjson.loads(entry)
                said += [facts["step"]] if facts.get("document") == document else []
        return said

    async def faults(self) -> tuple[str, ...]:
        """Of the self-check: there must be none."""
        return await sweeping.self_check(self.reader)


class Counter(Books):
    """Where documents are put in."""

    __slots__ = ()

    async def put(
        self,
        name: str,
        recipient: AgencyId = HEALTH,
        okey: str | None = None,
        *,
        by: str = PUSH,
        unit: str = "",
        seconds: float = 30 * DAY,
        overdue: float | None = None,
        also: Sequence[AgencyId] = (),
    ) -> str:
        """A document that was just submitted, on its way to one agency or several."""
        new = [
            Opening(
                document=name,
                lane=(each, okey or name),
                way=by,
                unit=unit,
                pulled=by.startswith(BOX),
                kind="document",
                service=LETTER,
                seconds=seconds,
                overdue_seconds=overdue,
            )
            for each in (recipient, *also)
        ]

        def plan(book: Book) -> Plan[None]:
            now = yield from self._document(name, "submitted", seconds)
            only = None if also else recipient
            first = Step(paper(name), only, State.SUBMITTED, State.SUBMITTED, by=SENDER)
            yield from self.scribe.begin(book, [Line(first)], now)
            yield from deliver(new)

        await self.run(plan, lanes=[each.lane for each in new])
        return name

    async def hold(self, name: str, seconds: float = 30 * DAY) -> str:
        """A document that waits for its second person."""

        def plan(book: Book) -> Plan[None]:
            now = yield from self._document(name, "held", seconds)
            first = Step(paper(name), HEALTH, State.HELD, State.HELD, by=SENDER)
            yield from self.scribe.begin(book, [Line(first)], now)

        await self.run(plan)
        return name

    def _document(self, name: str, state: str, seconds: float) -> Plan[float]:
        body = self.keys.seal(f'"{name}"'.encode(), body_context(name))
        rows = yield (
            (
                "insert into documents (id, kind, state, sender, agency, service, reference, fingerprint, digest, "
                "catalogue, submitted, expires, recipient, head, body) values ($1, 'document', $2, $3, $4, $5, $1, "
                "$6, $6, $7, {now}, {now} + $8, $9, $10, $11) returning submitted"
            ),
            (
                *(name, state, SENDER, SENDING, LETTER, paper(name).digest, self.catalogue.digest, seconds),
                *(HEALTH, b"head", body),
            ),
        )
        return float(rows[0][0])


class Office(Counter):
    """A process that does the work of the queue."""

    __slots__ = ()

    async def claim(
        self,
        recipient: AgencyId = HEALTH,
        by: str = PUSH,
        *,
        lanes_: int = 100,
        per_lane: int = 10,
        seconds: float = LONG,
        most_bytes: int = lanes.MAX_CLAIMED_BYTES,
    ) -> tuple[Lane, ...]:
        """As a dispatcher does."""
        self.count += 1
        name = f"{self.journal.writer}-{self.count}"
        how = {"lanes": lanes_, "per_lane": per_lane, "most_bytes": most_bytes}
        return await self.run(lanes.claim(recipient, by, name, seconds=seconds, **how))

    async def settle(self, lane: Lane, *results: Result, back_off: float = 0.0) -> bool:
        """One lane."""
        held = [lane.key, *(key for out in lane.out for key in self.scribe.lanes(out.paper))]
        (kept,) = await self.run(lanes.settle([Settlement(lane, results, back_off)], self.scribe), held)
        return kept

    async def hand_over(self, recipient: AgencyId = HEALTH, by: str = PUSH, **how: Any) -> list[str]:
        """Claim, hand everything over, settle; gives what was handed over, in order."""
        handed = []
        for lane in await self.claim(recipient, by, **how):
            handed += [out.paper.id for out in lane.out]
            assert await self.settle(lane, *(fine(out) for out in lane.out))
        return handed

    async def lease(
        self,
        agency: AgencyId = HEALTH,
        *,
        ways: Sequence[str] = (BOX,),
        unit: str | None = None,
        most: int = 10,
        seconds: float = LONG,
        claim: str = "poller",
    ) -> list[str]:
        """As a poller does; gives what it gets."""
        got = await self.run(mailbox.lease(agency, ways, unit, max=most, seconds=seconds, claim=claim))
        return [out.paper.id for lane in got for out in lane.out]

    async def say(
        self, document: str, outcome: str, recipient: AgencyId = HEALTH, *, lease: str | None = None, **more: Any
    ) -> Answer:
        """As a recipient does."""
        ways = {each.name: each.pulled for each in self.catalogue.agencies[recipient].deliveries}
        said = Outcome(outcome, f"{recipient}.desk", lease=lease, ways=ways, **more)
        plan = ends.outcome(document, recipient, said, self.scribe)
        return await self.run(plan, await lanes_of(self.reader, document, recipient))

    async def recall(self, document: str, recipient: AgencyId | None = None) -> Answer:
        """As a sender does."""
        plan = ends.recall(document, recipient, SENDER, self.scribe)
        return await self.run(plan, await lanes_of(self.reader, document, recipient))

    async def realign(self, limit: int = 1000) -> int:
        """As a process does that looks at its folders."""
        count = 0
        for each in await self.run(sweeping.astray(self.catalogue)):
            due = None if each.receipts else to_register(self.catalogue, each.service, datetime.now(UTC))
            while moved := await self.run(sweeping.realign(each, self.scribe, limit, due)):
                count += moved
        return count

    async def expire(self, limit: int = 1000) -> int:
        """As the sweeper of deadlines does."""
        return await self.run(deadlines.expire(limit, self.scribe))

    async def close_gate(self, seconds: float, recipient: AgencyId = HEALTH, *, probe: bool = True) -> int:
        """It does not answer."""
        return await self.run(gates.close(recipient, PUSH, lambda _: seconds, "refused", probe=probe))


@asynccontextmanager
async def working(driver: Driver, *ways: Way, services: Iterable[Service] = ()) -> AsyncIterator[Office]:
    """An office on a database."""
    journal, reader = Journal(driver), driver.beside()
    await journal.open("test")
    try:
        yield Office(journal, reader, town(*ways, services=services), keyring())
    finally:
        await journal.close()
        await reader.close()


async def gathered(*works: Callable[[], Any]) -> list[Any]:
    """All at the same time."""
    return list(await asyncio.gather(*(work() for work in works)))
