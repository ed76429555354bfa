"""An agent as a process of its own, which kills or stops itself at one named point of its work.

Started by ``test_races_killed``. The points are, in the order of the work: ``begin``, ``begun``, ``sent``, ``done``,
``committing``, ``committed``, ``reporting``, ``reported``, ``told``.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from gateway.agent import memory
from gateway.agent.line import Line
from gateway.agent.member import Member
from gateway.agent.memory import Due, Ledger, Seen
from gateway.agent.pace import Pace
from gateway.agent.ports import Answered, Desk, Final, Later, Report, Route, Told, Unreachable
from gateway.agent.reporting import Reporter
from gateway.core.handling import Known, Standing
from gateway.edge.outbound import HttpOutbound
from gateway.protocols import document_http
from gateway.protocols.handover import Accepted, Handed, Taker
from gateway.protocols.kafka_link import ClientOptions
from gateway.protocols.protocol import Surroundings
from tests.fakes.agency import Bell, Figures, NoFiles
from tests.fakes.deliveries import push
from tests.fakes.pens import AGENCY, INSTANCE


class Fate:
    """Strikes when a point is reached for the chosen time."""

    def __init__(self, point: str, times: int, how: int) -> None:
        self._point = point
        self._left = times
        self._how = how

    def at(self, point: str) -> None:
        """The process is there."""
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), self._how)


class Doomed(Seen):
    """A memory with points before and after what matters."""

    fate: Fate

    async def write(self, known: Known, *, owed: bool = False) -> None:
        """As ever."""
        begun = known.standing is Standing.BEGUN
        self.fate.at("begin" if begun else "sent")
        await super().write(known, owed=owed)
        self.fate.at("begun" if begun else "done")


class DoomedDue(Due):
    """The same of reports."""

    fate: Fate

    async def reported(self, report: Report, answered: Told | Final) -> None:
        """As ever."""
        self.fate.at("reported")
        await super().reported(report, answered)
        self.fate.at("told")


class Wire:
    """The gateway, by HTTP to the test."""

    def __init__(self, session: aiohttp.ClientSession, url: str, jwks: Mapping[str, Any], fate: Fate) -> None:
        self._session = session
        self._url = url
        self._jwks = jwks
        self._fate = fate

    async def keys(self, after: float | None = None) -> Mapping[str, Any]:  # noqa: ARG002 - the interface's
        """They do not change."""
        return self._jwks

    async def state(self, document: str) -> str | None:
        """As the test says."""
        try:
            async with self._session.get(f"{self._url}/state/{document}") as answer:
                return await answer.text()
        except aiohttp.ClientError as error:
            raise Unreachable(type(error).__name__) from error

    async def report(self, report: Report) -> Answered:
        """To the test."""
        self._fate.at("reporting")
        try:
            async with self._session.post(f"{self._url}/report/{report.document}/{report.outcome}"):
                return Told()
        except aiohttp.ClientError:
            return Later(0.1)

    async def arrived(self, after: str | None) -> tuple[Sequence[str], str | None]:  # noqa: ARG002 - the interface's
        """Nobody asks."""
        return (), None


class Struck:
    """A taker, with a point at which it may die in the midst of what it does."""

    def __init__(self, taker: Taker, fate: Fate) -> None:
        self._taker = taker
        self._fate = fate

    async def take(self, handed: Handed) -> Accepted:
        """As ever."""
        self._fate.at("taking")
        return await self._taker.take(handed)

    async def close(self) -> None:
        """As ever."""
        await self._taker.close()


def doom(ledger: Ledger, fate: Fate) -> tuple[Doomed, DoomedDue]:
    """The same file, with points; also those of the group's positions."""
    seen, due = Doomed(ledger.base), DoomedDue(ledger.base)
    seen.fate = due.fate = fate
    commit = Line.commit

    async def struck(line: Line, positions: Mapping[int, tuple[int, str]]) -> None:
        moved = any(at for at, _ in positions.values())
        if moved:
            fate.at("committing")
        await commit(line, positions)
        if moved:
            fate.at("committed")

    Line.commit = struck  # type: ignore[assignment,method-assign] # this process is there for nothing else
    return seen, due


def router(wanted: Mapping[str, Any], taker: Taker) -> Callable[[str], Route | None]:
    """Everything goes to the one system."""
    room = asyncio.Semaphore(8)
    way = replace(push(AGENCY, wanted["url"], "http"), deadline=20.0)
    return lambda _: Route(way, taker, wanted["takes_key"], room)


async def _live(wanted: Mapping[str, Any]) -> None:
    fate = Fate(wanted["point"], wanted["times"], wanted["how"])
    async with (
        memory.opened(Path(wanted["memory"])) as ledger,
        aiohttp.ClientSession() as session,
        HttpOutbound() as outbound,
    ):
        seen, due = doom(ledger, fate)
        wire = Wire(session, wanted["url"], wanted["jwks"], fate)
        taker = document_http.hand_over(push(AGENCY, wanted["url"], "http"), Surroundings(outbound, python=False))
        reporter = Reporter(due, wire, lambda _: None, time.monotonic)
        desk = Desk(
            instance=INSTANCE,
            agency=AGENCY,
            memory=seen,
            places=ledger.places,
            upstream=wire,
            files=NoFiles(),
            reporting=reporter,
            route=router(wanted, Struck(taker, fate)),
            meters=Figures(Bell()),
            clock=time.monotonic,
        )
        options = ClientOptions(bootstrap_servers=wanted["bootstrap"].split(","), security_protocol="PLAINTEXT")
        member = Member(options, wanted["topic"], wanted["group"], desk, Pace(**wanted["pace"]))
        stops: list[asyncio.Task[None]] = []  # the loop itself keeps no task
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGTERM, lambda: stops.append(asyncio.create_task(member.stop(5)))
        )
        telling = asyncio.create_task(reporter.go_on())
        await member.run()
        await reporter.round()
        telling.cancel()


if __name__ == "__main__":
    asyncio.run(_live(orjson.loads(sys.argv[1])))
