"""What a document costs from HTTP to its arrival, by way, and how long that takes.

Bodies of 1 KiB, 32 connections, each document in a lane of its own. Processor time is the gateway's alone, from the
first request to the last delivery that is settled; beside it, in the same run, a bare aiohttp reverse proxy and, where
there is Java, a bare aiokafka producer at the same broker. An agent then takes what lies in its agency's topic.
"""

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import cast

import uvloop

from tests.benchmarks.callers import CONNECTIONS, round_of
from tests.benchmarks.contenders import Contender, processor_seconds, staged
from tests.benchmarks.kafka_stage import BareProducer, agents_work, broker
from tests.benchmarks.post_stage import BODY, KAFKA, WAYS, Serving, service, serving

TAKEN = b"HTTP/1.1 202"
PATIENCE = 120.0
"""Seconds for everything of a round to arrive."""


class Recipient(asyncio.Protocol):
    """Takes whatever is posted, and notes when which document came."""

    came: dict[str, float]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready."""
        self._transport = cast("asyncio.Transport", transport)
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = int(_header(head, b"content-length") or 0)
            if len(self._buffer) < end + 4 + length:
                return
            name = _header(head, b"webhook-id") or _header(head, b"exchange-id")
            self.came.setdefault(name.decode(), time.perf_counter())
            self._buffer = self._buffer[end + 4 + length :]
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


def _header(head: bytes, name: bytes) -> bytes:
    return head.partition(b"\r\n" + name + b":")[2].partition(b"\r\n")[0].strip()


class Sender(asyncio.Protocol):
    """One connection that submits, one document after another."""

    def __init__(self, gateway: Serving, way: str) -> None:
        lines = (
            f"POST /v1/documents/office_{way}/{service(way)} HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\n"
            f"Authorization: Bearer {gateway.token}\r\nExchange-Purpose: correspondence\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n"
        )
        self._head = lines.encode()
        self._answer: asyncio.Future[str] | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody closes it but us."""
        if self._answer and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the connection was closed"))

    async def submit(self, reference: str) -> str:
        """Submit one; the document's id."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(self._head + f"Idempotency-Key: {reference}\r\n\r\n".encode() + BODY)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        """Gather the answer."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._answer is None:
            return
        head = self._buffer[:end].lower()
        if len(self._buffer) < end + 4 + int(_header(head, b"content-length")):
            return
        if self._buffer.startswith(TAKEN):
            self._answer.set_result(_header(head, b"location").decode().rpartition("/")[2])
        else:
            self._answer.set_exception(RuntimeError(self._buffer[:600].decode(errors="replace")))
        self._buffer = b""

    def close(self) -> None:
        """No more."""
        self._transport.close()


class Measuring:
    """A gateway, its senders, and the recipient."""

    def __init__(self, gateway: Serving, came: dict[str, float]) -> None:
        self._gateway = gateway
        self._came = came
        self._number = 0

    async def connected(self, stack: AsyncExitStack, way: str) -> list[Sender]:
        """So many connections."""
        senders = []
        for _ in range(CONNECTIONS):
            _, sender = await asyncio.get_running_loop().create_connection(
                lambda: Sender(self._gateway, way), "127.0.0.1", self._gateway.port
            )
            stack.callback(sender.close)
            senders.append(sender)
        return senders

    def reference(self) -> str:
        """A fresh one."""
        self._number += 1
        return f"R-{self._number}"

    async def burst(self, way: str, count: int) -> tuple[float, float]:
        """So many as fast as they are taken. Gives documents a second and microseconds of processor time for each."""
        async with AsyncExitStack() as stack:
            senders = await self.connected(stack, way)
            left = count
            before, begun = processor_seconds(self._gateway.pid), time.perf_counter()

            async def going(sender: Sender) -> None:
                nonlocal left
                while left > 0:
                    left -= 1
                    await sender.submit(self.reference())

            await asyncio.gather(*map(going, senders))
            await self.arrived(way)
            took = time.perf_counter() - begun
        return count / took, (processor_seconds(self._gateway.pid) - before) / count * 1e6

    async def paced(self, way: str, rate: float, count: int) -> list[float]:
        """So many, ``rate`` a second: the seconds from each one's 202 to its arrival, sorted."""
        taken: dict[str, float] = {}
        async with AsyncExitStack() as stack:
            free: asyncio.Queue[Sender] = asyncio.Queue()
            for sender in await self.connected(stack, way):
                free.put_nowait(sender)

            async def one() -> None:
                sender = await free.get()
                taken[await sender.submit(self.reference())] = time.perf_counter()
                free.put_nowait(sender)

            begun = time.perf_counter()
            tasks = []
            for number in range(count):
                if (rest := begun + number / rate - time.perf_counter()) > 0:
                    await asyncio.sleep(rest)
                tasks.append(asyncio.create_task(one()))
            await asyncio.gather(*tasks)
            await self.arrived(way)
        return sorted(max(0.0, self._came[each] - at) for each, at in taken.items())

    async def arrived(self, way: str) -> None:
        """Wait until nothing waits any more."""
        end = time.perf_counter() + PATIENCE
        select = "select count(*) from deliveries where recipient = ? and state <> 'arrived'"
        with closing(sqlite3.connect(f"file:{self._gateway.folder / 'gateway.sqlite3'}?mode=ro", uri=True)) as database:
            while database.execute(select, (f"office_{way}",)).fetchone()[0]:
                if time.perf_counter() > end:
                    raise TimeoutError(f"not everything arrived by {way}")
                await asyncio.sleep(0.01)


async def measured(folder: Path, proxy: Contender, asked: argparse.Namespace, bootstrap: str | None) -> None:
    """Everything, in turns, and told."""
    came: dict[str, float] = {}
    kind = type("Noting", (Recipient,), {"came": came})
    server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", 0)
    recipient = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    ways = (*WAYS, KAFKA) if bootstrap else WAYS
    costs: dict[str, list[float]] = {way: [] for way in ways}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    producer = BareProducer(bootstrap) if bootstrap else None
    if producer:
        await producer.open()
    with serving(folder, recipient, bootstrap=bootstrap) as gateway:
        measuring = Measuring(gateway, came)
        for number in range(asked.rounds + 1):
            await round_of(proxy, asked.documents)
            if producer:
                await producer.burst(asked.documents)
            for way in ways:
                rate, cost = await measuring.burst(way, asked.documents)
                if number:  # the first one warms up
                    rates[way].append(rate)
                    costs[way].append(cost)
        told(costs, rates, statistics.median(proxy.costs[1:]), producer)
        for way in ("webhook", "http"):
            half = statistics.median(rates[way]) / 2
            took = await measuring.paced(way, half, int(half * 10))
            middle, late = took[len(took) // 2], took[int(len(took) * 0.99)]
            print(f"202 to arrival, {way}, {half:.0f} a second: median {middle * 1e3:.1f} ms, 99th {late * 1e3:.1f} ms")
        if bootstrap:
            await agents_work(gateway, bootstrap)
    server.close()


def told(
    costs: dict[str, list[float]], rates: dict[str, list[float]], proxy: float, producer: BareProducer | None
) -> None:
    """Costs beside those of the proxy and of the producer."""
    print(f"bare aiohttp proxy       {proxy:6.0f} us a call")
    for way, each in costs.items():
        cost, rate = statistics.median(each), statistics.median(rates[way])
        print(f"HTTP to arrived, {way:8s}{cost:6.0f} us a document ({cost / proxy:.2f}), {rate:6.0f} a second")
    if producer:
        bare, cost = statistics.median(producer.costs[1:]), statistics.median(costs[KAFKA])
        print(f"bare aiokafka producer   {bare:6.0f} us a record; HTTP to acknowledged is {cost / bare:.1f} times that")


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description="What a document costs.")
    parser.add_argument("documents", nargs="?", type=int, default=3000, help="of each round and way")
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        staged(Path(folder) / "exchange") as stage,
        broker(Path(folder) / "kafka") as bootstrap,
    ):
        post = Path(folder) / "post"
        post.mkdir()
        uvloop.run(measured(post, stage.proxy(), asked, bootstrap))


if __name__ == "__main__":
    main()
