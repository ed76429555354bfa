"""Races of the agent, reference/flow-and-journal.md 5.3: killed, or stopped, between any two of its steps."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from gateway.agent.memory import opened
from gateway.core.handling import MAX_TRIES, Verdict
from tests.fakes.agency import QUICK, House, Met, house
from tests.fakes.brokers import Brokers

LETTERS = (1, 2, 3)
DOUBT = ("begun", "taking", "sent")
"""Where the system may have it, or not, and nobody knows."""
SURE = ("begin", "done")
BESIDE = ("committing", "committed", "reporting", "reported", "told")
"""What goes on beside the hand-overs."""


class Front:
    """The test as a process sees it: the agency's system and the gateway, by HTTP."""

    def __init__(self, agency: House, memory: Path) -> None:
        self.agency = agency
        self.memory = memory
        self.url = ""
        self.told: list[tuple[str, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        """Whatever it asks."""
        match request.path.split("/")[1:]:
            case ["state", document]:
                return web.Response(text=await self.agency.hub.state(document))
            case ["report", document, outcome]:
                self.told.append((document, outcome))
            case _:
                self._met(request, orjson.loads(await request.read()))
        self.agency.bell.ring()
        return web.Response()

    def _met(self, request: web.Request, body: Any) -> None:
        said = request.headers
        again = said["Exchange-Redelivered"] == "?1"
        met = Met(said["Exchange-Id"], body["n"], again, int(said["Exchange-Attempt"]), int(said["Exchange-Late"]))
        self.agency.system.met.append(met)

    @asynccontextmanager
    async def agent(self, point: str = "", times: int = 1, how: int = signal.SIGKILL) -> AsyncIterator[Any]:
        """A process; killed at the end if it lives."""
        agency = self.agency
        wanted = {
            "bootstrap": agency.kafka.bootstrap,
            "topic": agency.topic,
            "group": agency.group,
            "memory": str(self.memory),
            "jwks": agency.pen.jwks,
            "url": self.url,
            "takes_key": agency.takes_key,
            "pace": asdict(replace(QUICK, session=2.0, fresh=1.0)),
            "point": point,
            "times": times,
            "how": int(how),
        }
        arguments = ("-m", "tests.agent.victim", orjson.dumps(wanted).decode())
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.DEVNULL)
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@asynccontextmanager
async def fronted(kafka: Brokers, folder: Path, partitions: int = 1, *, takes_key: bool = True) -> AsyncIterator[Front]:
    """An agency whose agent is a process."""
    async with house(kafka, partitions) as agency:
        agency.takes_key = takes_key
        front = Front(agency, folder / "one")
        runner = web.ServerRunner(web.Server(front.answer))  # type: ignore[arg-type] # a request is one of its own
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        front.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield front
        finally:
            await runner.cleanup()


async def killed(front: Front, point: str, times: int = 2) -> None:
    """One dies there."""
    async with front.agent(point, times) as process, asyncio.timeout(60):
        assert await process.wait() == -signal.SIGKILL


async def in_peace(front: Front, position: int = len(LETTERS)) -> None:
    """Another one works until the group stands there, and everything is told; it ends in good order."""
    async with front.agent() as process:
        await front.agency.commits(position)
        await front.agency.bell.until(lambda: len({document for document, _ in front.told}) == position)
        process.terminate()
        async with asyncio.timeout(60):
            assert await process.wait() == 0


@pytest.mark.parametrize("point", SURE)
async def test_a04_a_kill_where_all_is_known_repeats_nothing(kafka: Brokers, tmp_path: Path, point: str) -> None:
    """Before ``begun``, or after the outcome was written: each letter is handed over once, and its outcome told."""
    async with fronted(kafka, tmp_path) as front:
        ids = await front.agency.write(*LETTERS)
        await killed(front, point)
        await in_peace(front)
        assert front.agency.system.ids == ids
        assert set(front.told) == {(each, "retrieved") for each in ids}


@pytest.mark.parametrize("point", BESIDE)
async def test_a05_a_kill_beside_a_hand_over_repeats_nothing(kafka: Brokers, tmp_path: Path, point: str) -> None:
    """Around the group's position, and around the report: the gateway is told again at most."""
    async with fronted(kafka, tmp_path) as front:
        ids = await front.agency.write(1)
        await killed(front, point, 1)
        ids += await front.agency.write(2, 3)
        await in_peace(front)
        assert front.agency.system.ids == ids
        assert set(front.told) == {(each, "retrieved") for each in ids}
        assert len(front.told) <= len(ids) + 1


@pytest.mark.parametrize("point", DOUBT)
async def test_a03_a_kill_in_doubt_repeats_where_ids_are_keys(kafka: Brokers, tmp_path: Path, point: str) -> None:
    """Between ``begun`` and its outcome: handed over again under the same id, marked; nothing else is repeated."""
    async with fronted(kafka, tmp_path) as front:
        ids = await front.agency.write(*LETTERS)
        await killed(front, point)
        await in_peace(front)
        met = front.agency.system.met
        assert list(dict.fromkeys(each.id for each in met)) == ids
        assert [each.id for each in met if each.attempt > 1] == [ids[1]]
        assert len(met) == len(ids) + (point == "sent")
        assert set(front.told) == {(each, "retrieved") for each in ids}


@pytest.mark.parametrize("point", DOUBT)
async def test_a03_a_kill_in_doubt_stops_where_they_are_none(kafka: Brokers, tmp_path: Path, point: str) -> None:
    """Never a second hand-over that nobody knows of: the partition stands until a person has said what is true."""
    async with fronted(kafka, tmp_path, takes_key=False) as front:
        ids = await front.agency.write(*LETTERS)
        await killed(front, point)
        async with opened(front.memory) as ledger, front.agent():
            async with asyncio.timeout(60):
                while [each.document for each in await ledger.memory.unsettled()] != [ids[1]]:
                    pass
            assert front.agency.system.ids == ids[: 2 if point == "sent" else 1]
            verdict = Verdict.TAKEN if point == "sent" else Verdict.AGAIN
            assert await ledger.memory.decide(ids[1], verdict, by="a person", why="looked it up")
            await front.agency.commits(3)
        assert front.agency.system.ids == ids


@pytest.mark.parametrize("point", DOUBT)
async def test_a03_a_kill_among_many_repeats_nothing_unmarked(kafka: Brokers, tmp_path: Path, point: str) -> None:
    """Partitions share transactions: what the system meets was on the disk before; of each, one may be in doubt."""
    async with fronted(kafka, tmp_path, partitions=4) as front:
        ids = [each for n in range(4) for each in await front.agency.write(*range(5 * n, 5 * n + 5), partition=n)]
        await killed(front, point, 7)
        async with front.agent() as process, asyncio.timeout(60):
            await front.agency.bell.until(lambda: {document for document, _ in front.told} == set(ids))
            process.terminate()
            assert await process.wait() == 0
        met = front.agency.system.met
        repeats = [each for n, each in enumerate(met) if each.id in {other.id for other in met[:n]}]
        assert {each.id for each in met} == set(ids)
        assert [each for each in repeats if not each.again or each.attempt < 2] == []
        assert len(repeats) <= 4


async def test_a09_a_letter_that_kills_the_agent_is_rejected_in_the_end(kafka: Brokers, tmp_path: Path) -> None:
    """Each crash was written down as a try before it happened: no crash loop, and the next letter is handed over."""
    async with fronted(kafka, tmp_path) as front:
        (first, second) = await front.agency.write(1, 2)
        await killed(front, "taking", 1)
        await killed(front, "taking", 1)
        async with opened(front.memory) as ledger:
            known = await ledger.memory.look(first)
            assert known is not None
            assert known.tries == 2
            await ledger.memory.write(replace(known, tries=MAX_TRIES - 1))
        await killed(front, "taking", 1)
        await in_peace(front, 2)
        assert front.agency.system.ids == [second]
        assert front.told == [(first, "rejected"), (second, "retrieved")]


@pytest.mark.parametrize("point", ["begun", "sent", "done", "committing"])
async def test_a13_a_member_that_wakes_late_writes_no_position(kafka: Brokers, tmp_path: Path, point: str) -> None:
    """Stopped for longer than the group waits: another one goes on; what nobody was told of is repeated, once."""
    async with fronted(kafka, tmp_path) as front:
        agency = front.agency
        await agency.write(*LETTERS)
        async with front.agent(point, 1, signal.SIGSTOP) as process:
            await asyncio.to_thread(os.waitid, os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            async with agency.agent(tmp_path / "two", replace(QUICK, session=6.0)):
                await agency.commits(3)
                process.send_signal(signal.SIGCONT)
                await agency.write(4)
                await agency.commits(4)
            await agency.write(5)
            await agency.commits(5)
            assert set(agency.system.numbers) == {1, 2, 3, 4, 5}
            untold = len(LETTERS) if point == "committing" else 1
            assert len(agency.system.ids) <= 5 + untold
