"""The processes under measurement, and what they cost."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket

import orjson

from gateway.edge import keys
from tests.benchmarks.stage import PROVIDER, REQUEST, SERVICE, made_keys

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Contender:
    """One or more processes behind one port."""

    name: str
    pids: tuple[int, ...]
    port: int
    head: bytes
    costs: list[float] = field(default_factory=list)
    """Microseconds of processor time for each call, by round."""
    rates: list[float] = field(default_factory=list)
    """Calls a second."""

    @property
    def call(self) -> bytes:
        """One request."""
        return self.head + REQUEST


def processor_seconds(*pids: int) -> float:
    """User and system time of all threads of the processes."""
    spent = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        spent += int(fields[11]) + int(fields[12])
    return spent / _TICK


def resident_bytes(pid: int) -> int:
    """What of a process is in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE


@contextmanager
def started(*role: str, log: Path, shared: socket | None = None) -> Iterator[tuple[int, str]]:
    """A process of the stage, once it is ready: its id, and what it says of itself."""
    given = () if shared is None else (shared.fileno(),)
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "tests.benchmarks.stage", *role],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=given,
        )
        assert process.stderr
        try:
            for line in process.stderr:
                if line.startswith("READY "):
                    yield process.pid, line.removeprefix("READY ").strip()
                    return
                sys.stderr.write(line)
            raise RuntimeError(f"{role[0]} did not start")
        finally:
            process.terminate()
            process.wait(30)
            process.stderr.close()


@dataclass
class Stage:
    """Where everything plays: a folder, a provider, a system's key."""

    stack: ExitStack
    folder: Path
    url: str
    jwk: str

    def gateway(self) -> Contender:
        """The gateway on SQLite."""
        given = (self.url, str(self.folder / "keys"), self.jwk)
        pid, told = self.stack.enter_context(started("gateway", *given, log=self.folder / "gateway.log"))
        return _contender("gateway", (pid,), told)

    def workers(self, count: int, database: str, on: socket) -> Contender:
        """So many processes of the gateway on one PostgreSQL and one inherited socket."""
        pids = []
        for number in range(count):
            given = (self.url, str(self.folder / "keys"), self.jwk, database, str(on.fileno()))
            log = self.folder / f"worker-{count}-{number}.log"
            pid, told = self.stack.enter_context(started("gateway", *given, log=log, shared=on))
            pids.append(pid)
        return _contender(f"{count} workers" if count > 1 else "1 worker", tuple(pids), told)

    def proxy(self) -> Contender:
        """A bare reverse proxy."""
        pid, told = self.stack.enter_context(started("proxy", self.url, log=self.folder / "proxy.log"))
        return _contender("bare aiohttp proxy", (pid,), told)

    def provider(self) -> Contender:
        """The provider itself, without anything between."""
        return _contender("provider, asked straight", (), self.url.rstrip("/"))


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """A stage with its provider."""
    made_keys(folder / "keys")
    _, public = keys.new_client_key("BENCH")
    jwk = orjson.dumps(public["keys"][0]).decode()  # type: ignore[index] # a list of one
    with ExitStack() as stack:
        _, url = stack.enter_context(started("provider", log=folder / "provider.log"))
        yield Stage(stack, folder, url, jwk)


def _contender(name: str, pids: tuple[int, ...], told: str) -> Contender:
    address, _, token = told.partition(" ")
    port = int(address.rpartition(":")[2])
    headers: Mapping[str, str] = {
        "Authorization": f"Bearer {token or 'x' * 600}",
        "Exchange-Purpose": "tax_assessment",
        "Exchange-Case": "T-2026-118",
        "Exchange-User": "clerk 7",
    }
    lines = "".join(f"{header}: {value}\r\n" for header, value in headers.items())
    head = (
        f"POST /v1/exchange/{PROVIDER}/{SERVICE} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{lines}"
        f"Content-Type: application/json\r\nContent-Length: {len(REQUEST)}\r\n\r\n"
    )
    return Contender(name, pids, port, head.encode())
