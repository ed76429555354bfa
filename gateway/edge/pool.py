"""Several processes that serve on one socket, as their parent keeps them: started, watched, replaced, ended.

A channel to each carries its signs of life, one a line; the channel's end tells a worker that the parent is gone.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from asyncio.subprocess import Process
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from gateway.edge import notify
from gateway.edge.lifeline import BEAT_SECONDS, READY
from gateway.edge.roster import ParentMeters

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
"""Seconds before a worker that died young is replaced: they double from the first pause to the longest."""
YOUNG_SECONDS = 10.0
START_SECONDS = 120.0
SILENT_SECONDS = 30.0

log = structlog.get_logger()


class Ended(Exception):
    """The first worker ended before it served."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
        """What it ended with; minus a signal's number if that ended it."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a worker has."""

    end: float
    """From SIGTERM to its end."""
    start: float = START_SECONDS
    """From its start until it serves."""
    silent: float = SILENT_SECONDS
    """Without a sign of life."""


@dataclass(slots=True, eq=False)
class Worker:
    """One of the processes."""

    number: int
    young: int
    """How many before it died young, one after the other."""
    born: float
    heard: float
    process: Process | None = None
    address: str = ""
    """Of its operations listener, once it serves."""
    reload: bool = False
    """It is to read the catalogue again as soon as it can hear that."""
    leaving: bool = False
    """It was told to end."""
    stuck: bool = False
    code: int = 0
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """It serves, or it ended before."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def serves(self) -> bool:
        """Whether it comes to that."""
        await self.settled.wait()
        return bool(self.address) and not self.ended.is_set()

    def told(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class Pool:
    """The workers of one parent."""

    def __init__(self, program: tuple[str, ...], public: socket.socket, patience: Patience) -> None:
        self.meters = ParentMeters()
        self.meters.living.set_function(lambda: sum(1 for worker in self._staying() if worker.address))
        self.draining = False
        self._hands = _Hands(program, public)
        self._patience = patience
        self._wanted = 0
        self._workers: dict[int, Worker] = {}
        self._lives: set[asyncio.Task[None]] = set()

    def addresses(self) -> Mapping[int, str]:
        """By number, where each living worker tells its metrics; empty until it serves."""
        return {number: worker.address for number, worker in self._workers.items()}

    async def begin(self) -> None:
        """Start one. Raises Ended if it does not come to serve."""
        first = self._started()
        if not await first.serves():
            raise Ended(first.code)

    async def fill(self, wanted: int) -> None:
        """Start the others; from now on there are so many."""
        self._wanted = wanted
        self.meters.wanted.set(wanted)
        others = [self._started() for _ in range(wanted - len(self._staying()))]
        await asyncio.gather(*(other.serves() for other in others))

    async def roll(self) -> None:
        """Replace one after the other: the new one serves before the old one is told to end."""
        began = time.monotonic()
        for old in self._staying():
            if old.ended.is_set():
                continue  # what took its place is new
            new = self._started()
            if not await new.serves():
                log.error("roll_stopped", number=new.number)
                return
            await self._retired(old)
        log.info("rolled", seconds=round(time.monotonic() - began, 1))

    def reload(self) -> None:
        """Every worker reads the catalogue again; one that is still starting does so when it serves."""
        for worker in self._workers.values():
            worker.reload = True
            if worker.address:
                worker.told(signal.SIGHUP)

    async def end(self) -> None:
        """Tell all to end, and wait until they did."""
        self.draining, self._wanted = True, 0
        await asyncio.gather(*(self._retired(worker) for worker in self._workers.values()))

    async def watch(self) -> None:
        """For ever: kill what gives no sign of life."""
        seen = time.monotonic()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            before, seen = seen, time.monotonic()
            stood_still = seen - before > 5 * BEAT_SECONDS  # this process did, and heard nothing meanwhile
            for worker in self._workers.values():
                if stood_still:
                    worker.heard = seen
                elif seen - worker.heard > (self._patience.silent if worker.address else self._patience.start):
                    _kill(worker)

    def _staying(self) -> list[Worker]:
        # a copy: a scrape looks from a thread of its own
        return [worker for worker in tuple(self._workers.values()) if not worker.leaving]

    def _started(self, young: int = 0) -> Worker:
        now = time.monotonic()
        free = set(range(1, len(self._workers) + 2)) - self._workers.keys()
        worker = Worker(min(free), young, born=now, heard=now)
        self._workers[worker.number] = worker
        life = asyncio.create_task(self._live(worker))
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)
        return worker

    async def _live(self, worker: Worker) -> None:
        """From its start to its end, and what comes after it."""
        worker.code = await self._hands.hold(worker)
        del self._workers[worker.number]
        reason = "stuck" if worker.stuck else _reason(worker.code, told=worker.leaving)
        self.meters.exits.labels(reason).inc()
        if worker.leaving:
            log.info("worker_ended", number=worker.number, reason=reason)
        else:
            log.warning("worker_lost", number=worker.number, reason=reason, code=worker.code)
        worker.ended.set()
        worker.settled.set()
        young = worker.young + 1 if time.monotonic() - worker.born < YOUNG_SECONDS and not worker.leaving else 0
        if young:
            await asyncio.sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(young - 1, 16)))
        if len(self._staying()) < self._wanted:
            self._started(young)

    async def _retired(self, worker: Worker) -> None:
        worker.leaving = True
        worker.told(signal.SIGTERM)
        try:
            await asyncio.wait_for(worker.ended.wait(), self._patience.end)
        except TimeoutError:
            _kill(worker)
            await worker.ended.wait()


@dataclass(frozen=True, slots=True)
class _Hands:
    """What starts a worker and hears it."""

    program: tuple[str, ...]
    public: socket.socket

    async def hold(self, worker: Worker) -> int:
        """From its start to its end; the code that it ended with."""
        ours, theirs = socket.socketpair()
        with ours:
            try:
                with theirs:
                    worker.process = await self._spawned(worker.number, theirs)
            except OSError as error:
                why = error.strerror
                log.error("worker_not_started", number=worker.number, why=why)  # noqa: TRY400 - no traceback in a log line
                return 1
            if worker.leaving:
                worker.told(signal.SIGTERM)
            await asyncio.gather(_hear(worker, ours), worker.process.wait())
        return worker.process.returncode or 0

    async def _spawned(self, number: int, control: socket.socket) -> Process:
        """A process in a session of its own: what is typed at the terminal reaches the parent alone. Raises OSError."""
        handed = (self.public.fileno(), control.fileno())
        return await asyncio.create_subprocess_exec(
            *self.program,
            *(f"--number={number}", f"--public={handed[0]}", f"--control={handed[1]}"),
            pass_fds=handed,
            start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name not in notify.VARIABLES},
        )


async def _hear(worker: Worker, channel: socket.socket) -> None:
    """Its signs of life until its end."""
    reader, writer = await asyncio.open_connection(sock=channel)
    with contextlib.suppress(OSError, ValueError):  # who is killed may reset; a line without an end is no sign of life
        while line := await reader.readline():
            worker.heard = time.monotonic()
            if line.startswith(READY):
                worker.address = line.removeprefix(READY).decode().strip()
                if worker.reload:
                    worker.told(signal.SIGHUP)
                worker.settled.set()
                pid = worker.process.pid if worker.process else 0
                log.info("worker_started", number=worker.number, pid=pid, operations=worker.address)
    writer.close()


def _reason(code: int, *, told: bool) -> str:
    if code == 0 or (told and code == -signal.SIGTERM):  # told before it had an answer of its own to the signal
        return "clean"
    return "killed" if code < 0 else "failed"


def _kill(worker: Worker) -> None:
    if not worker.stuck:
        worker.stuck = True
        log.error("worker_stuck", number=worker.number)
    worker.told(signal.SIGKILL)
