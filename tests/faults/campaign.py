"""Gateways under load with documents, to be killed, stopped and cut off; counted at both ends."""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from gateway.edge.tasks import cancelled
from tests.fakes.addressees import Ledger, Poller, hook
from tests.fakes.district import CLERK, HALL, LETTER, NOTE, SENDER, District, Pushed
from tests.fakes.senders import Desk, Reply
from tests.fakes.serving import Node, pause, serving, sound

KILLS = int(os.environ.get("GATEWAY_TEST_KILLS", "3"))
"""Of each campaign; twenty take some minutes."""
CASES = 2
"""Files that are written at the same time, to each agency."""
NOTED = "note."
"""With what their case begins that keep no order."""
EVERYWHERE = ""
"""The address that names no recipient: all of them get it."""
PATIENCE = 120.0
"""Seconds for everything to arrive."""
LEASE = 7.5
"""Seconds that a claim of a way with a deadline of a second lasts (``tour.lease``)."""
MINUTE = 61.0
"""What a poller's lease lasts, and a bit."""
_OPEN = "select count(*) from deliveries where open"
_PASSED = "update lanes set lease = lease - {0}, due = due - {0} where lease > 0"


@dataclass(slots=True)
class Store:
    """The database, seen from beside."""

    url: str
    socket: Path | None = None
    """Of PostgreSQL."""

    async def number(self, select: str) -> int:
        """The one number that it finds."""
        rows = await self._said(select, write=False)
        return int(rows[0][0])

    async def passed(self, seconds: float, which: str = "true") -> None:
        """So much time passes for what is leased: nobody wants to wait for it."""
        await self._said(f"{_PASSED.format(seconds)} and {which}", write=True)

    async def _said(self, sql: str, *, write: bool) -> list[Any]:
        if self.socket is None:
            return await asyncio.to_thread(self._file, sql, write)
        connection = await asyncpg.connect(user="postgres", database="town", host=str(self.socket))
        try:
            found: list[Any] = await connection.fetch(sql)
        finally:
            await connection.close()
        return found

    def _file(self, sql: str, write: bool) -> list[Any]:  # noqa: FBT001 - to_thread takes positions
        mode = "rw" if write else "ro"
        path = self.url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(f"file:{path}?mode={mode}", uri=True, timeout=30)) as database, database:
            return database.execute(sql).fetchall()


@dataclass(slots=True)
class Campaign:
    """Who takes part."""

    district: District
    store: Store
    desk: Desk
    ledgers: Mapping[str, Ledger]
    stack: AsyncExitStack
    nodes: list[Node]
    chance: random.Random
    begun: float = field(default_factory=time.monotonic)
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    done: list[str] = field(default_factory=list)
    """What was done to the gateways."""
    writers: list[asyncio.Task[int]] = field(default_factory=list)

    async def start(self, url: str | None = None) -> Node:
        """One more gateway."""
        node = await self.stack.enter_async_context(serving(self.district, url or self.store.url))
        self.nodes.append(node)
        return node

    async def kill(self, *, back: bool = True) -> None:
        """The one that runs longest, at a random moment, and start another one."""
        await pause(self.chance.uniform(0.05, 1.0))
        node = self.nodes.pop(0)
        await node.killed()
        self.done.append("kill")
        if back:
            await self.start()

    async def halt(self, seconds: float) -> None:
        """The newest one stands still for so long."""
        node = self.nodes[-1]
        await node.stopped()
        self.done.append(f"stop for {seconds} s")
        await pause(seconds)
        node.signal(signal.SIGCONT)

    def write(self) -> None:
        """The load, to each agency, and to all at once: notes, and files of cases."""
        for to, number in itertools.product((*self.ledgers, EVERYWHERE), range(1 + CASES)):
            names = {"Exchange_To": ", ".join(self.ledgers)} if to == EVERYWHERE else {}
            case = f"{to or 'all'}{number}"
            work = self.desk.write(to, case, self.enough, names) if number else self._notes(to, names)
            self.writers.append(asyncio.create_task(work))

    async def _notes(self, to: str, headers: Mapping[str, str]) -> int:
        """Documents that keep no order, which are claimed as they are taken in; how many."""
        for n in itertools.count():
            if self.enough.is_set():
                break
            case = f"{NOTED}{to or 'all'}{n}"
            await self.desk.send(to, f"{case}-0", {"case": case, "n": 0, "text": "x" * 200}, NOTE, **headers)
            await pause(self.desk.beat)
        return n

    async def end(self) -> None:
        """No more load; returns when everything is answered, has arrived and is settled."""
        self.enough.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self.writers)
            for turn in itertools.count():
                if not self._missing() and not await self.store.number(_OPEN):
                    return
                if turn % 50 == 0 and self.store.socket is not None:  # beside a gateway, one does not write to a file
                    await self.store.passed(MINUTE, "way = 'mailbox'")
                await pause(0.1)

    def _missing(self) -> int:
        return sum(len(wanted - self.ledgers[name].first.keys()) for name, wanted in self.expected().items())

    def expected(self) -> dict[str, set[str]]:
        """Ids by agency: what was answered 202."""
        told = self.desk.acknowledged
        return {
            name: {document for (to, _), document in told.items() if to in (name, EVERYWHERE)} for name in self.ledgers
        }

    async def same_again(self) -> None:
        """Some references are sent once more, to every gateway: their receipts are held against the first ones."""
        some = self.chance.sample(sorted(self.desk.receipts), min(20, len(self.desk.receipts)))
        for node, (to, reference) in itertools.product(self.nodes, some):
            case, _, n = reference.rpartition("-")
            names = {"Exchange_To": ", ".join(self.ledgers)} if to == EVERYWHERE else {}
            body = {"case": case, "n": int(n), "text": "x" * 200}
            service = NOTE if case.startswith(NOTED) else LETTER
            sent = partial(self.desk.submit, to, reference, body, service, url=node.url, **names)
            async with asyncio.timeout(PATIENCE):
                while (reply := await sent()) == Reply(None):
                    pass
            assert (reply.status, reply.headers.get("Exchange-Replayed")) == (202, "?1"), reply

    async def counted(self) -> "Found":
        """What must be nought."""
        expected, ledgers = self.expected(), self.ledgers
        return Found(
            lost=self._missing(),
            strange=sum(len(each.first.keys() - expected[name]) for name, each in ledgers.items()),
            twice=sum(each.twice for each in ledgers.values()),
            unannounced=sum(each.unannounced for each in ledgers.values()),
            disorder=sum(each.disorder for each in ledgers.values()),
            two_receipts=sum(len(each) != 1 for each in self.desk.receipts.values())
            + sum(len(each) != 1 for ledger in ledgers.values() for each in ledger.receipts.values()),
            documents_without_reference=await self.store.number("select count(*) from documents")
            - len(self.desk.receipts),
            told=self._figures(await sound(self.district, self.store.url)),
        )

    def _figures(self, checked: str) -> str:
        came = {name: f"{len(each.came)} times {len(each.first)}" for name, each in self.ledgers.items()}
        took = time.monotonic() - self.begun
        sent = f"{len(self.desk.receipts)} references, answers {dict(self.desk.told)}"
        return f"{took:.0f} s, {self.done}: {sent}; came {came}; {checked}"


@dataclass(frozen=True, slots=True)
class Found:
    """Counted at both ends."""

    lost: int
    strange: int
    """Came, and was never answered 202."""
    twice: int
    """The same words under two ids: a recipient that looks at the id takes them twice."""
    unannounced: int
    disorder: int
    two_receipts: int
    """References, or outcomes, with more than one."""
    documents_without_reference: int
    told: str

    @property
    def wrong(self) -> dict[str, int]:
        """What is not nought."""
        names = ("lost", "strange", "twice", "unannounced", "disorder", "two_receipts", "documents_without_reference")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


@asynccontextmanager
async def campaign(folder: Path, store: Store, seed: int = 1) -> AsyncIterator[Campaign]:
    """A district with a webhook, an HTTP address and a mailbox that is polled; no gateway runs yet."""
    async with AsyncExitStack() as stack:
        north, south = [await stack.enter_async_context(hook()) for _ in range(2)]
        district = District(folder)
        district.found([Pushed("north", north.url), Pushed("south", south.url, "http")])
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        nodes: list[Node] = []
        chance = random.Random(seed)
        ledgers = {"north": north.ledger, "south": south.ledger, HALL: Ledger()}

        def where() -> str:
            return chance.choice(nodes).url if nodes else "http://127.0.0.1:1"

        desk = Desk(session, where, district.token(SENDER))
        going = Campaign(district, store, desk, ledgers, stack, nodes, chance)
        async with _polled(lambda: Poller(session, where, district.token(CLERK), ledgers[HALL])):
            try:
                yield going
            finally:
                await cancelled(*going.writers)


@asynccontextmanager
async def _polled(poller: Callable[[], Poller]) -> AsyncIterator[None]:
    """By two of them."""
    tasks = [asyncio.create_task(poller().poll()) for _ in range(2)]
    try:
        yield
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await cancelled(*tasks)
