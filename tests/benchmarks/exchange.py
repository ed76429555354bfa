"""What an exchange costs, everything on, beside a bare aiohttp reverse proxy in the same run.

    make bench

Four measurements: processor time as a ratio to the proxy; one worker against two on PostgreSQL; latency added at half
load; memory after a million exchanges. Only ratios travel: absolute times are the machine's.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import uvloop

from gateway.edge import migration
from gateway.edge.listener import bound
from tests.behaviour.server import Server, in_a_thread, running
from tests.benchmarks.callers import CONNECTIONS, paced, round_of
from tests.benchmarks.contenders import Contender, Stage, resident_bytes, staged
from tests.benchmarks.stage import ANSWER, REQUEST

MILLION = 1_000_000


async def measured(contenders: tuple[Contender, ...], calls: int, rounds: int) -> None:
    """A warm-up of each, then interleaved rounds."""
    for contender in contenders:
        await round_of(contender, calls // 2)
        contender.costs.clear()
        contender.rates.clear()
    for _ in range(rounds):
        for contender in contenders:
            await round_of(contender, calls)


def ratio(one: Contender, other: Contender) -> float:
    """Of processor times: the median over rounds that followed each other."""
    return statistics.median(each / base for each, base in zip(one.costs, other.costs, strict=True))


def told(contender: Contender) -> None:
    """Print one contender's rounds."""
    costs = contender.costs
    print(
        f"  {contender.name:20} {statistics.median(costs):6.0f} us of processor time for each call "
        f"({min(costs):.0f} to {max(costs):.0f}), {statistics.median(contender.rates):6.0f} calls a second",
        flush=True,
    )


def beside_a_proxy(gateway: Contender, proxy: Contender, calls: int, rounds: int) -> None:
    """The figure by which changes are judged."""
    uvloop.run(measured((gateway, proxy), calls, rounds))
    print(f"{len(REQUEST)} bytes asked, {len(ANSWER)} answered, {CONNECTIONS} connections, {rounds} rounds of {calls}")
    told(gateway)
    told(proxy)
    print(f"  ratio {ratio(gateway, proxy):.2f}")


def workers(stage: Stage, server: Server, calls: int, rounds: int) -> None:
    """Whether a second worker costs each exchange anything."""
    pair = []
    for count in (1, 2):
        server.run(f"create database bench_{count}", "postgres")
        url = server.url(name=f"bench_{count}")
        in_a_thread(migration.migrate, url, "BENCH")
        on = stage.stack.enter_context(bound("127.0.0.1:0"))
        pair.append(stage.workers(count, url, on))
    one, two = pair
    uvloop.run(measured((one, two), calls, rounds))
    print("On PostgreSQL, workers on one inherited socket (processor time of the workers alone)")
    told(one)
    told(two)
    print(f"  ratio {ratio(two, one):.2f}")


def at_half_load(stage: Stage, gateway: Contender, proxy: Contender, seconds: float) -> None:
    """The time that a caller waits longer, at half the rate of calls that the gateway reached."""
    rate = statistics.median(gateway.rates) / 2
    print(f"Latency at half load: {rate:.0f} calls a second by a timetable")
    base: tuple[float, float] | None = None
    for contender in (stage.provider(), proxy, gateway):
        took = uvloop.run(paced(contender, rate, int(rate * seconds)))
        middle, high = took[len(took) // 2] * 1e3, took[int(len(took) * 0.99)] * 1e3
        base = base or (middle, high)
        added = f"added {middle - base[0]:5.2f} and {high - base[1]:5.2f} ms" if contender.pids else ""
        print(f"  {contender.name:24} median {middle:5.2f} ms, 99th percentile {high:6.2f} ms  {added}", flush=True)


def memory(gateway: Contender, calls: int) -> None:
    """What a gateway that has worked for long holds, against the same one after its first exchanges."""
    before = resident_bytes(gateway.pids[0])
    uvloop.run(round_of(gateway, calls))
    after = resident_bytes(gateway.pids[0])
    print(
        f"Memory: {before / 2**20:.1f} MiB, after {calls} more exchanges {after / 2**20:.1f} MiB ({after / before:.3f})"
    )


def main() -> None:
    """Run what was asked for, and print."""
    parser = argparse.ArgumentParser(description="What an exchange costs.")
    parser.add_argument("calls", nargs="?", type=int, default=6000, help="of each round")
    parser.add_argument("rounds", nargs="?", type=int, default=7)
    parser.add_argument("--only", choices=("ratio", "workers", "latency", "memory"))
    parser.add_argument("--exchanges", type=int, default=MILLION, help="for the measurement of memory")
    asked = parser.parse_args()
    wanted = {asked.only} if asked.only else {"ratio", "workers", "latency", "memory"}
    with tempfile.TemporaryDirectory() as folder, staged(Path(folder)) as stage:
        if wanted - {"workers"}:
            gateway, proxy = stage.gateway(), stage.proxy()
            beside_a_proxy(gateway, proxy, asked.calls, asked.rounds)
            if "latency" in wanted:
                at_half_load(stage, gateway, proxy, seconds=10)
            if "memory" in wanted:
                memory(gateway, asked.exchanges)
        if "workers" in wanted:
            with running() as server:
                workers(stage, server, asked.calls, asked.rounds)


if __name__ == "__main__":
    main()
