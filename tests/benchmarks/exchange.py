"""Processor time of one exchange, everything on, beside a bare aiohttp reverse proxy in the same run.

    make bench

Interleaved rounds with the same payload and connections; the median round of each, and the ratio. Only the ratio
travels: absolute times are this machine's.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import orjson
import uvloop

from gateway.edge import keys
from tests.benchmarks.stage import ANSWER, PROVIDER, REQUEST, SERVICE

CONNECTIONS = 32
ROUNDS = 7
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Contender:
    """A process under measurement."""

    name: str
    pid: int
    port: int
    head: bytes
    expected: bytes
    costs: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


def processor_seconds(pid: int) -> float:
    """User and system time of all threads of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


class _Caller(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, contender: Contender, left: list[int], done: "asyncio.Future[None]") -> None:
        self._call = contender.head + REQUEST
        self._expected = contender.expected
        self._left = left
        self._done = done
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def _ask(self) -> None:
        if self._left[0] <= 0:
            self._transport.close()
            self._left[1] -= 1
            if self._left[1] == 0 and not self._done.done():
                self._done.set_result(None)
            return
        self._left[0] -= 1
        self._transport.write(self._call)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self._buffer) < end + 4 + length:
            return
        if not self._buffer.startswith(self._expected) and not self._done.done():
            self._done.set_exception(RuntimeError(self._buffer[:600].decode(errors="replace")))
        self._buffer = self._buffer[end + 4 + length :]
        self._ask()


async def round_of(contender: Contender, calls: int) -> None:
    """One round: its processor time for each call, and calls a second."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    left = [calls, CONNECTIONS]
    before, begun = processor_seconds(contender.pid), time.perf_counter()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: _Caller(contender, left, done), "127.0.0.1", contender.port)
    await done
    contender.rates.append(calls / (time.perf_counter() - begun))
    contender.costs.append((processor_seconds(contender.pid) - before) / calls * 1e6)


@contextmanager
def started(*role: str, log: Path) -> Iterator[tuple[int, str]]:
    """A process of the stage, once it is ready: its id, and what it says of itself."""
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "tests.benchmarks.stage", *role], stdout=out, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr
        try:
            for line in process.stderr:
                if line.startswith("READY "):
                    yield process.pid, line.removeprefix("READY ").strip()
                    return
            raise RuntimeError(f"{role[0]} did not start")
        finally:
            process.terminate()
            process.wait(20)
            process.stderr.close()


def contenders(stack: ExitStack, folder: Path) -> tuple[Contender, Contender]:
    """The gateway and the proxy, before one provider."""
    private, public = keys.new_client_key("BENCH")
    del private
    jwk = orjson.dumps(public["keys"][0]).decode()  # type: ignore[index] # a list of one
    _, url = stack.enter_context(started("provider", log=folder / "provider.log"))
    pid, told = stack.enter_context(started("gateway", url, str(folder / "keys"), jwk, log=folder / "gateway.log"))
    address, _, token = told.partition(" ")
    headers = {
        "Authorization": f"Bearer {token}",
        "Exchange-Purpose": "tax_assessment",
        "Exchange-Case": "T-2026-118",
        "Exchange-User": "clerk 7",
    }
    gateway = _contender("gateway", pid, address, headers)
    pid, address = stack.enter_context(started("proxy", url, log=folder / "proxy.log"))
    return gateway, _contender("bare aiohttp proxy", pid, address, headers)


def _contender(name: str, pid: int, address: str, headers: Mapping[str, str]) -> Contender:
    port = int(address.rpartition(":")[2])
    lines = "".join(f"{header}: {value}\r\n" for header, value in headers.items())
    head = (
        f"POST /v1/exchange/{PROVIDER}/{SERVICE} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{lines}"
        f"Content-Type: application/json\r\nContent-Length: {len(REQUEST)}\r\n\r\n"
    )
    return Contender(name, pid, port, head.encode(), b"HTTP/1.1 200")


async def measured(pair: tuple[Contender, Contender], calls: int, rounds: int) -> None:
    """A warm-up of each, then interleaved rounds."""
    for contender in pair:
        await round_of(contender, calls // 2)
        contender.costs.clear()
        contender.rates.clear()
    for _ in range(rounds):
        for contender in pair:
            await round_of(contender, calls)


def main(calls: int = 6000, rounds: int = ROUNDS) -> float:
    """Run, print, and give the ratio."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        pair = contenders(stack, Path(folder))
        uvloop.run(measured(pair, calls, rounds))
    gateway, proxy = pair
    print(f"{len(REQUEST)} bytes asked, {len(ANSWER)} answered, {CONNECTIONS} connections, {rounds} rounds of {calls}")
    for each in pair:
        cost = statistics.median(each.costs)
        print(
            f"  {each.name:20} {cost:6.0f} us of processor time for each call "
            f"({min(each.costs):.0f} to {max(each.costs):.0f}), {statistics.median(each.rates):6.0f} calls a second"
        )
    ratio = statistics.median(each / other for each, other in zip(gateway.costs, proxy.costs, strict=True))
    print(f"  ratio {ratio:.2f}")
    return ratio


if __name__ == "__main__":
    main(*(int(each) for each in sys.argv[1:]))
