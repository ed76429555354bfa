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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from gateway.edge import notify
from gateway.edge.lifeline import BEAT_SECONDS, READY
from gateway.edge.roster import ParentMeters
from gateway.edge.tasks import cancelled

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
"""Seconds before a worker that died young is replaced: they double from the first pause to the longest."""
YOUNG_SECONDS = 10.0
START_SECONDS = 120.0
SILENT_SECONDS = 30.0


class Life(StrEnum):
    """How far a worker has come."""

    STARTING = "starting"
    SERVING = "serving"
    LEAVING = "leaving"
    """It was told to end."""
    KILLED = "killed"
    """By its parent, whatever it was told before."""
    ENDED = "ended"


TURNS: Mapping[Life, frozenset[Life]] = {
    Life.STARTING: frozenset({Life.SERVING, Life.LEAVING, Life.KILLED, Life.ENDED}),
    Life.SERVING: frozenset({Life.LEAVING, Life.KILLED, Life.ENDED}),
    Life.LEAVING: frozenset({Life.KILLED, Life.ENDED}),
    Life.KILLED: frozenset({Life.ENDED}),
    Life.ENDED: frozenset(),
}
"""What may become of it next."""
BY_SIGNAL = {Life.LEAVING: signal.SIGTERM, Life.KILLED: signal.SIGKILL}

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
    """Without a sign of life, once it serves."""


@dataclass(slots=True, eq=False)
class Worker:
    """One of the processes."""

    number: int
    young: int
    """How many before it died young, one after the other."""
    born: float
    heard: float
    """Its last sign of life; until it serves, when it was born."""
    process: Process | None = None
    address: str = ""
    """Of its operations listener, once it serves."""
    life: Life = Life.STARTING
    code: int = 0
    """What it ended with; minus a signal's number if that ended it."""
    _turned: asyncio.Event = field(default_factory=asyncio.Event)

    def turn(self, life: Life) -> bool:
        """Whether that may become of it; then it has, with the signal that belongs to it."""
        if life not in TURNS[self.life]:
            return False
        self.life = life
        self.remind()
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()
        return True

    def remind(self) -> None:
        """Send it the signal of what it has turned to: it may have had no process then."""
        if self.life in BY_SIGNAL:
            self.send(BY_SIGNAL[self.life])

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def comes_to(self, *lives: Life) -> Life:
        """Wait for one of them."""
        while self.life not in lives:
            await self._turned.wait()
        return self.life

    async def serves(self) -> bool:
        """Whether it comes to that."""
        return await self.comes_to(Life.SERVING, Life.ENDED) is Life.SERVING


class Pool:
    """The workers of one parent."""

    def __init__(self, program: tuple[str, ...], public: socket.socket, patience: Patience) -> None:
        self.meters = ParentMeters()
        self.meters.living.set_function(lambda: _serving(self._staying()))
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
            if Life.LEAVING not in TURNS[old.life]:
                continue  # what takes its place is new
            new = self._started()
            if not await new.serves():
                log.error("roll_stopped", number=new.number)
                return
            await self._retired(old)
        log.info("rolled", seconds=round(time.monotonic() - began, 1))

    def reload(self) -> None:
        """Every worker reads the catalogue again; one that is still starting reads it after this in any case."""
        for worker in self._workers.values():
            if worker.life is Life.SERVING:
                worker.send(signal.SIGHUP)

    async def end(self) -> None:
        """Tell all to end, and wait until they did."""
        self.draining, self._wanted = True, 0
        await asyncio.gather(*(self._retired(worker) for worker in self._workers.values()))

    async def watch(self) -> None:
        """For ever: kill what does not come to serve, and what gives no sign of life.

        Of those that serve one place is filled again before the next is made empty: what holds all of them up at once,
        such as a file that is slow to read, may pass; killed together, they would leave nobody to answer.
        """
        seen = time.monotonic()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            before, seen = seen, time.monotonic()
            stood_still = seen - before > 5 * BEAT_SECONDS  # this process did, and heard nothing meanwhile
            for worker in self._staying():
                spare = worker.life is Life.SERVING and _serving(self._staying()) >= self._wanted
                if stood_still:
                    worker.heard = seen
                elif seen - worker.heard > (self._patience.silent if spare else self._patience.start):
                    _kill(worker)

    def _staying(self) -> list[Worker]:
        # a copy: a scrape looks from a thread of its own
        return [worker for worker in tuple(self._workers.values()) if worker.life in (Life.STARTING, Life.SERVING)]

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
        try:
            worker.code = await self._hands.hold(worker)
        except Exception as error:  # noqa: BLE001 - a worker that never counts as ended is missed for ever
            why = error.strerror if isinstance(error, OSError) else type(error).__name__
            log.error("worker_not_started", number=worker.number, why=why)  # noqa: TRY400 - no traceback in a log line
            worker.code = 1
        told = worker.life is Life.LEAVING
        reason = "stuck" if worker.life is Life.KILLED else _reason(worker.code, told=told)
        del self._workers[worker.number]
        worker.turn(Life.ENDED)
        self.meters.exits.labels(reason).inc()
        if told:
            log.info("worker_ended", number=worker.number, reason=reason)
        else:
            log.warning("worker_lost", number=worker.number, reason=reason, code=worker.code)
        young = worker.young + 1 if time.monotonic() - worker.born < YOUNG_SECONDS and not told else 0
        if young:
            await asyncio.sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(young - 1, 16)))
        if len(self._staying()) < self._wanted:
            self._started(young)

    async def _retired(self, worker: Worker) -> None:
        worker.turn(Life.LEAVING)
        try:
            await asyncio.wait_for(worker.comes_to(Life.ENDED), self._patience.end)
        except TimeoutError:
            _kill(worker)
            await worker.comes_to(Life.ENDED)


@dataclass(frozen=True, slots=True)
class _Hands:
    """What starts a worker and hears it."""

    program: tuple[str, ...]
    public: socket.socket

    async def hold(self, worker: Worker) -> int:
        """From its start to its end; the code that it ended with. Raises OSError."""
        ours, theirs = socket.socketpair()
        with ours:  # closed, it tells the worker to end
            with theirs:
                worker.process = await self._spawned(worker.number, theirs)
            worker.remind()
            hearing = asyncio.create_task(_hear(worker, ours))
            code = await worker.process.wait()
            await cancelled(hearing)  # what it has left behind may hold the channel
        return code

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
    try:
        reader, writer = await asyncio.open_connection(sock=channel)
    except OSError:  # of a worker that cannot be heard nothing would be known
        _kill(worker)
        return
    try:
        with contextlib.suppress(OSError, ValueError):  # who is killed may reset; an endless line is no sign of life
            while line := await reader.readline():
                _heard(worker, line)
    finally:
        writer.close()


def _heard(worker: Worker, line: bytes) -> None:
    if line.startswith(READY):
        worker.address = line.removeprefix(READY).decode().strip()
        worker.turn(Life.SERVING)
        pid = worker.process.pid if worker.process else 0
        log.info("worker_started", number=worker.number, pid=pid, operations=worker.address)
    if worker.life is not Life.STARTING:  # signs of life alone give it no more time to start
        worker.heard = time.monotonic()


def _serving(workers: Iterable[Worker]) -> int:
    return sum(1 for worker in workers if worker.life is Life.SERVING)


def _reason(code: int, *, told: bool) -> str:
    if code == 0 or (told and code == -signal.SIGTERM):  # told before it had an answer of its own to the signal
        return "clean"
    return "killed" if code < 0 else "failed"


def _kill(worker: Worker) -> None:
    if worker.turn(Life.KILLED):
        log.error("worker_stuck", number=worker.number)
