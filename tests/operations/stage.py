"""Two workers of one node under the eyes of a real Prometheus, and a municipality whose system does as it is told."""

import asyncio
import contextlib
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import aiohttp
from aiohttp import web

from deploy.demo.ministries import KAFKA, VARIABLES
from deploy.demo.papers import ALERT, LETTER, LETTER_BODY, alert
from gateway.client import GatewayClient, GatewayError, Pace
from tests.behaviour.server import Server
from tests.fakes.parent import Parent, parent
from tests.fakes.prometheus import Prometheus, watching
from tests.fakes.town import Office, Reaction, answers
from tests.system.test_serve import PRIVATE, ROOT, settings
from tests.system.test_serve_postgres import command

T = TypeVar("T")
CALLER = "finance.local_tax"
SERVICE = "places.office_directory.v1"
QUOTA = 30
"""Calls a day to Lampang; there is none for Saensuk."""
CENTRE = "disaster_prevention.warning_centre"
"""Tells the municipalities of floods."""
WRITER = "interior_safety.correspondence"
"""Writes letters to ministries."""
DIRECTORY = "policies/LOCAL-DIRECTORY-2026-001.yaml"
PATIENCE = 90.0
"""Seconds for an alert to fire, and to clear; alone, it takes a few."""

good = answers({"as_of": "2026-11-02", "offices": []})
nonsense = answers({"as_of": "yesterday", "offices": "many"})


async def late(request: web.BaseRequest) -> web.StreamResponse:
    """What a good system answers, after two thirds of its deadline."""
    due: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.7, due.set_result, None)
    await due
    return await good(request)


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that a test may touch."""

    office: Office
    """Behind the endpoints of Saensuk and Lampang."""
    catalogue: Path
    environment: Mapping[str, str]
    gateway: Parent
    prometheus: Prometheus
    client: GatewayClient
    centre: GatewayClient
    writer: GatewayClient
    session: aiohttp.ClientSession

    async def ask(self, agency: str = "saensuk") -> None:
        """One call, whatever becomes of it."""
        with contextlib.suppress(GatewayError):
            await self.client.exchange(agency, SERVICE, {"subdivision": "TH-20"}, purpose="public_information")

    async def ask_lampang(self) -> None:
        """One call that a quota counts."""
        await self.ask("lampang")

    async def warn(self) -> None:
        """An event to all municipalities, whatever becomes of it."""
        with contextlib.suppress(GatewayError):
            await self.centre.publish(
                ALERT, alert(), purpose="civil_protection", reference=uuid4().hex, scope="alerts:publish"
            )

    async def write(self) -> None:
        """A letter to the Ministry of Justice, whatever becomes of it."""
        with contextlib.suppress(GatewayError):
            await self.writer.send(
                *("justice", LETTER, LETTER_BODY),
                purpose="official_correspondence",
                reference=uuid4().hex,
                scope="letters:send",
            )

    async def wait(self) -> None:
        """Nobody calls."""

    async def ask_for_tokens(self) -> None:
        """A request for a token that nobody gets."""
        form = {"grant_type": "client_credentials", "client_assertion": "nonsense"}
        async with self.session.post(f"{self.environment['GATEWAY_ISSUER']}/oauth/token", data=form) as answer:
            assert answer.status in (400, 401)

    def react(self, reaction: Reaction) -> None:
        """What the municipalities' system does from now on."""
        self.office.react = reaction

    def agree(self, before: str, after: str, file: str = DIRECTORY) -> None:
        """A file is changed, and the gateway told, as `systemctl reload gateway` does."""
        path = self.catalogue / file
        text = path.read_text("utf-8")
        assert before in text
        path.write_text(text.replace(before, after), "utf-8")
        self.gateway.process.send_signal(signal.SIGHUP)

    async def order(self, *words: str) -> str:
        """What a command of the gateway prints on a node."""
        return await asyncio.to_thread(command, dict(self.environment), *words)

    async def processes(self) -> set[str]:
        """Those whose metrics Prometheus gets."""
        return {each["metric"]["worker"] for each in await self.prometheus.query("up == 1")}

    async def until(
        self, holds: Callable[[T], object], look: Callable[[], Awaitable[T]], ask: Callable[[], Awaitable[None]]
    ) -> T:
        """Go on calling until it holds of what is seen."""
        ended = asyncio.ensure_future(self.gateway.process.wait())
        try:
            async with asyncio.timeout(PATIENCE):
                while not holds(seen := await look()):
                    await asyncio.gather(ask(), ask(), ask())
                    done, _ = await asyncio.wait({ended}, timeout=0.05)  # it must not end; and Prometheus needs time
                    assert not done
                return seen
        finally:
            ended.cancel()


def _copied(folder: Path) -> Path:
    """The demonstration's catalogue; whoever reads Lampang's directory has a quota."""
    for name in ("schemas", "adapters", "policies"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "kafka.yaml", folder)
    path = folder / DIRECTORY
    saensuk, limits, lampang = path.read_text("utf-8").partition("    limits: {rate: 20/s}\n")
    assert limits
    lampang = lampang.replace("rate: 20/s", f"rate: 1000/s, quota: {QUOTA}/day")
    path.write_text(saensuk + lampang, "utf-8")
    return folder


@asynccontextmanager
async def staged(folder: Path, server: Server) -> AsyncIterator[Stage]:
    """All of it up."""
    office = Office()
    office.react = good
    catalogue = _copied(folder / "catalogue")
    async with AsyncExitStack() as stack:
        await office.open()
        stack.push_async_callback(office.shut)
        environment = {
            **settings(folder, {**dict.fromkeys(VARIABLES, office.url), **KAFKA}),
            "GATEWAY_DATABASE": server.url(name="gateway_demo"),
            "GATEWAY_CATALOGUE": str(catalogue),
        }
        await asyncio.to_thread(command, environment, "migrate")
        gateway = await stack.enter_async_context(parent(environment))
        operations = f"http://{environment['GATEWAY_OPERATIONS_LISTEN']}"
        prometheus = await stack.enter_async_context(watching(folder / "prometheus", operations))
        client, centre, writer = [
            await stack.enter_async_context(
                GatewayClient(
                    environment["GATEWAY_ISSUER"],
                    client_id=system,
                    key=PRIVATE / f"{system}.jwk.json",
                    pace=Pace(attempts=1),
                )
            )
            for system in (CALLER, CENTRE, WRITER)
        ]
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Stage(office, catalogue, environment, gateway, prometheus, client, centre, writer, session)
