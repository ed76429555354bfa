"""One agent, put together: its memory, its gateway, its systems, its place in the group; begun, watched, ended."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from aiohttp import web

from gateway import __version__
from gateway.agent import folder
from gateway.agent.manifest import NotReady, Setup
from gateway.agent.member import Member
from gateway.agent.memory import Ledger, opened
from gateway.agent.meters import AgentMeters
from gateway.agent.ports import Counts, Desk, Route, Unwritten
from gateway.agent.reporting import Reporter
from gateway.agent.spool import Bounds, Spool
from gateway.agent.upstream import Gateway, client_of
from gateway.core import kafka
from gateway.edge import notify, signals
from gateway.edge.listener import Listener, bound, inside
from gateway.edge.operations import Health, Readiness, exposition, live, told
from gateway.edge.outbound import HttpOutbound
from gateway.edge.tasks import cancelled
from gateway.edge.telemetry import place
from gateway.edge.workshop import TAKERS, Workshop
from gateway.protocols.handover import Taker
from gateway.protocols.kafka_link import ClientOptions, client_options
from gateway.protocols.protocol import Surroundings

COUNT_SECONDS = 5.0
"""Between two countings of what the memory holds, by which it is also seen whether it can be read."""
LEAVING_SECONDS = 10.0
"""At a stop, beside the time for what is in hand: to write positions and to leave the group."""
LAST_REPORTS_SECONDS = 5.0
"""At a stop, for what is still to be told; the rest is told after the next start."""
MAX_OPERATORS = 64
"""Connections on the operations listener."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is said on the command line and by settings."""

    data: Path
    operations_listen: str
    shutdown_seconds: float


class Failed(Exception):
    """A part of the agent ended by itself. The text names it."""


def routing(setup: Setup, takers: Mapping[str, Taker]) -> Callable[[str], Route | None]:
    """By service: the first way that matches."""
    routes = [
        Route(each.way, takers[each.way.name], each.takes_key, asyncio.Semaphore(each.way.concurrency))
        for each in setup.plan.deliveries
    ]

    def route(service: str) -> Route | None:
        wanted = {"*", f"{service.partition('.')[0]}.*", service}
        return next((each for each in routes if not wanted.isdisjoint(each.way.services)), None)

    return route


class Agent:
    """One agent."""

    def __init__(self, setup: Setup, chosen: Chosen) -> None:
        self._setup = setup
        self._chosen = chosen
        self.meters = AgentMeters(setup.plan.agency, setup.plan.instance)
        self.gateway: Gateway
        self.member: Member
        self.reporter: Reporter
        self.address = ""
        """Where it tells operators of itself, once it does."""
        self._counts: Counts | None = None
        self._draining = False

    async def serve(self, stop: asyncio.Event) -> None:
        """Until ``stop`` is set. Raises NotReady, and Failed where a part of it ended by itself."""
        async with contextlib.AsyncExitStack() as stack:
            whose = folder.whose(self._setup.plan.agency, self._setup.plan.instance)
            stack.enter_context(folder.alone(self._chosen.data, whose))
            ledger = await stack.enter_async_context(self._memory())
            spool, desk = await self._desk(stack, ledger)
            options = await asyncio.to_thread(self._options)
            instance, agency = self._setup.plan.instance, self._setup.plan.agency
            self.member = Member(options, kafka.topic(instance, agency), kafka.group(instance, agency), desk)
            await self._count(ledger)
            self.address = await self._operations(stack)
            tasks = {
                "member": asyncio.create_task(self.member.run()),
                "reporter": asyncio.create_task(self.reporter.go_on()),
                "gateway": asyncio.create_task(self.gateway.watch()),
                "attachments": asyncio.create_task(spool.go_on()),
                "counting": asyncio.create_task(self._counting(ledger)),
                "watchdog": asyncio.create_task(notify.watched()),
            }
            stack.push_async_callback(cancelled, *tasks.values())
            log.info("agent_started", agency=agency, instance=instance, version=__version__, operations=self.address)
            notify.ready()
            failed = await _ended(stop, tasks)
            notify.stopping()
            await self._stopped(tasks["member"])
            if failed is not None:
                raise Failed(failed)

    @contextlib.asynccontextmanager
    async def _memory(self) -> AsyncIterator[Ledger]:
        path = self._chosen.data / folder.MEMORY_FILE
        try:
            async with opened(path) as ledger:
                yield ledger
        except Unwritten as error:
            raise NotReady(f"{path} cannot be used: {error}") from error

    async def _desk(self, stack: contextlib.AsyncExitStack, ledger: Ledger) -> tuple[Spool, Desk]:
        plan = self._setup.plan
        outbound = await stack.enter_async_context(HttpOutbound())
        takers = await self._takers(outbound)
        for each in takers.values():
            stack.push_async_callback(each.close)
        self.gateway = Gateway(await asyncio.to_thread(client_of, self._setup), plan.agency)
        stack.push_async_callback(self.gateway.aclose)
        self.reporter = Reporter(ledger.dues, self.gateway, self.meters.told, time.monotonic)

        async def finished(document: str) -> bool:
            known = await ledger.memory.look(document)
            return known is None or known.outcome is not None

        bounds = Bounds(plan.attached.hours, plan.attached.max_bytes)
        spool = Spool(self._chosen.data.resolve() / "attachments", self.gateway, bounds, finished)
        desk = Desk(
            instance=plan.instance,
            agency=plan.agency,
            memory=ledger.memory,
            places=ledger.places,
            upstream=self.gateway,
            files=spool,
            reporting=self.reporter,
            route=routing(self._setup, takers),
            meters=self.meters,
            clock=time.monotonic,
        )
        return spool, desk

    async def _takers(self, outbound: HttpOutbound) -> dict[str, Taker]:
        """By the way's name. Raises NotReady."""
        around = Surroundings(outbound, python=True, files=self._setup.files)
        wanted = {(each.way.agency, each.way.name): each.way for each in self._setup.plan.deliveries}
        made = await Workshop(TAKERS).made(wanted, around)
        wrong = [f"the way {name}: {each}" for (_, name), each in made.items() if isinstance(each, str)]
        if wrong:
            raise NotReady("The agency's systems cannot be connected:\n" + "\n".join(wrong))
        return {name: each for (_, name), each in made.items() if not isinstance(each, str)}

    def _options(self) -> ClientOptions:
        """How the cluster is reached; made in a thread, as files are read."""
        try:
            return client_options(self._setup.plan.kafka, self._setup.files)
        except ValueError as error:
            raise NotReady(f"Kafka cannot be connected: {error}") from error

    async def _counting(self, ledger: Ledger) -> None:
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            await self._count(ledger)

    async def _count(self, ledger: Ledger) -> None:
        try:
            self._counts = await ledger.counts()
            self.reporter.waiting = self._counts.unreported
        except Unwritten as error:
            if self._counts is not None:
                log.error("memory_failed", why=str(error))  # noqa: TRY400 - no traceback in a log line
            self._counts = None

    async def _operations(self, stack: contextlib.AsyncExitStack) -> str:
        async def metrics(request: web.Request) -> web.Response:
            up = {"gateway": self.gateway.complaint is None, "kafka": self.member.complaint is None}
            self.meters.unreported_oldest.set(self.reporter.oldest)
            self.meters.show(self._counts, **up)
            return await exposition(request, self.meters.registry)

        async def ready(_: web.Request) -> web.Response:
            now = self.health()
            status = 200 if now.readiness in (Readiness.READY, Readiness.DEGRADED) else 503
            return told({"status": now.readiness, "checks": now.checks}, status)

        app = web.Application()
        app.add_routes([web.get("/metrics", metrics), web.get("/health/live", live), web.get("/health/ready", ready)])
        listener = Listener(app, inside(MAX_OPERATORS))
        try:
            address = await listener.open(bound(self._chosen.operations_listen))
        except OSError as error:
            where = self._chosen.operations_listen
            raise NotReady(
                f"{where} cannot be listened on: {error.strerror}. Name another --operations-listen."
            ) from error
        stack.push_async_callback(listener.close)
        return address

    def health(self) -> Health:
        """Of ``/health/ready``: what is wrong is said by part, and only a memory that fails is ``unready``."""
        counts, why = self._counts, set(self.meters.why.values())
        checks = {
            "memory": "cannot be written, or not be read" if counts is None or "disk" in why else "ok",
            "gateway": self.gateway.complaint or "ok",
            "kafka": self.member.complaint or "ok",
            "systems": f"take nothing now: {', '.join(sorted(self.meters.down))}" if self.meters.down else "ok",
            "reports": "too many wait: nothing is handed over" if self.reporter.full else "ok",
            "outcomes": _unknown(counts),
        }
        if self._draining:
            return Health(Readiness.DRAINING, checks)
        if checks["memory"] != "ok":
            return Health(Readiness.UNREADY, checks)
        well = set(checks.values()) == {"ok"}
        return Health(Readiness.READY if well else Readiness.DEGRADED, checks)

    async def _stopped(self, reading: asyncio.Task[None]) -> None:
        """What is in hand has its time, is written and committed; then what is owed is told, as far as that goes."""
        self._draining = True
        log.info("agent_stopping", seconds=self._chosen.shutdown_seconds)
        await self.member.stop(self._chosen.shutdown_seconds)
        await asyncio.wait({reading}, timeout=LEAVING_SECONDS)
        await cancelled(reading)
        with contextlib.suppress(TimeoutError, Unwritten):
            async with asyncio.timeout(LAST_REPORTS_SECONDS):
                await self.reporter.round()


def _unknown(counts: Counts | None) -> str:
    unknown = counts.unsettled if counts else 0
    return f"{unknown} unknown: `gateway agent show` lists them" if unknown else "ok"


async def _ended(stop: asyncio.Event, tasks: Mapping[str, asyncio.Task[None]]) -> str | None:
    """Wait for the stop; or the name of a part that ended by itself, which none may."""
    stopping = asyncio.create_task(stop.wait())
    try:
        lasting = {task: name for name, task in tasks.items() if name != "watchdog"}
        await asyncio.wait({stopping, *lasting}, return_when=asyncio.FIRST_COMPLETED)
        for task, name in lasting.items():
            if task.done() and not task.cancelled():
                error = task.exception()
                said = place(error) if isinstance(error, Exception) else {"error": "none", "place": "its end"}
                log.error("agent_failed", part=name, **said)
                return name
        return None
    finally:
        await cancelled(stopping)


async def agent(setup: Setup, chosen: Chosen) -> None:
    """An agent as a process: until SIGTERM or SIGINT. Raises NotReady, Failed."""
    stop = signals.answered(reload=_nothing, roll=_nothing)
    await Agent(setup, chosen).serve(stop)


def _nothing() -> None:
    log.info("agent_signal_ignored")
