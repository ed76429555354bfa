"""A town whose gateway hands documents over, to recipients that do as they are told."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from gateway.catalogue.files import NOTHING, Files
from gateway.core.model import Catalogue, Way
from gateway.edge.documents.dispatch import Dispatcher
from gateway.edge.documents.takers import Takers
from gateway.edge.outbound import HttpOutbound
from gateway.edge.providers import Providers
from gateway.edge.systems import Systems
from gateway.protocols.protocol import Surroundings
from gateway.settings import Settings
from tests.fakes import correspondents, idp
from tests.fakes.correspondents import POLITE, WRITERS, Letters
from tests.fakes.post_office import PostTown
from tests.fakes.town import Office, Watched

EVERY = 0.02
"""Seconds between two looks of the dispatcher."""


class Delivering(Watched):
    """A gateway whose ways are connected with files that lie in no catalogue's folder."""

    files: Files = NOTHING
    systems: Systems

    async def _systems(self, stack: AsyncExitStack) -> Systems:
        if self.files is NOTHING:
            self.systems = await super()._systems(stack)
            return self.systems
        outbound = await stack.enter_async_context(HttpOutbound())
        signing = tuple(each.key for each in self._keyring.webhooks)
        around = Surroundings(outbound, python=True, webhook_keys=signing)
        self.systems = Systems(Providers(around, time.monotonic), Takers(around, kafka=self.kafka))
        stack.push_async_callback(self.systems.takers.close)
        self.systems.adopt(await self.systems.connect(self._loaded, self.files))
        return self.systems

    @property
    def dispatcher(self) -> Dispatcher:
        """Of the mailroom."""
        assert self.mailroom.dispatcher is not None
        return self.mailroom.dispatcher


class DeliveryTown(PostTown):
    """Everything that a test of handing over may touch."""

    gateway: Delivering
    files: Files = NOTHING
    topics = "DEMO"
    """With what its topics' names begin: one broker serves all tests."""

    def made(self, chosen: Settings, catalogue: Catalogue) -> Delivering:
        """The gateway, before it is up."""
        gateway = Delivering(chosen, catalogue, self._keyring, self.valve)
        gateway.kafka.instance = self.topics
        gateway.files = self.files
        return gateway

    @asynccontextmanager
    async def serving(self, letters: Letters = POLITE, **settings: Any) -> AsyncIterator[None]:
        """The gateway up, on this town's database; its dispatcher looks more often than it would."""
        async with super().serving(letters, **{"shutdown_seconds": 0.5, **settings}):
            self.gateway.dispatcher._every = EVERY
            yield

    def forget(self) -> None:
        """Tokens of a gateway that is no longer up."""
        self._tokens.clear()

    async def readjusted(self, letters: Letters, files: Files = NOTHING) -> None:
        """Another catalogue from now on, connected as a reload does."""
        declared, systems = self.declared(letters), self.gateway.systems
        systems.adopt(await systems.connect(declared, files))
        self.gateway._loaded = self.gateway._catalogue = declared

    async def comes(self, holds: Callable[[], Any], seconds: float = 30.0) -> None:
        """Wait until it holds; what it looks at may be the database."""
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.to_thread(time.sleep, 0.01)

    def state(self, document: str, recipient: str = "interior") -> str:
        """Of its delivery there."""
        rows = self.rows("select document, recipient, state from deliveries where kind <> 'receipt'")
        (state,) = (each[2] for each in rows if tuple(each[:2]) == (document, recipient))
        return str(state)


def push(agency: str, url: str = "", protocol: str = "webhook", **more: Any) -> Way:
    """A way to a system on loopback."""
    options = {"url": f"{url}/hook", "allow": ["loopback"], **more.pop("options", {})} if url else more.pop("options")
    return correspondents.way(agency, protocol=protocol, options=options, **more)


def declared_in(folder: Path, **contents: str | bytes) -> Files:
    """Files as they would be read: ``adapter`` is the interior's code, everything else a secret in keys/secrets."""
    secrets = folder / "keys" / "secrets"
    secrets.mkdir(parents=True, exist_ok=True)
    held: dict[str, bytes] = {}
    for name, text in contents.items():
        raw = text.encode() if isinstance(text, str) else text
        if name == "adapter":
            held["adapters/interior/adapter.py"] = raw
        else:
            (secrets / name).write_bytes(raw)
            held[f"keys/secrets/{name}"] = sha256(raw).digest()
    return Files(folder, folder / "keys", held, frozenset())


@asynccontextmanager
async def recipient() -> AsyncIterator[Office]:
    """A system that takes documents; ``react`` says how."""
    made = Office()

    async def takes(_: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({})

    made.react = takes
    await made.open()
    try:
        yield made
    finally:
        await made.shut()


@asynccontextmanager
async def founded(folder: Path, url: str | None = None) -> AsyncIterator[DeliveryTown]:
    """A town whose gateway is not up yet; without the URL of a database it has a file of its own."""
    keys = {name: idp.key() for name in WRITERS}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield DeliveryTown(folder, Office(), idp.keyring(folder / "keys"), keys, session, url=url)


@asynccontextmanager
async def delivering(
    folder: Path,
    letters: Letters,
    *,
    url: str | None = None,
    files: Files = NOTHING,
    topics: str = "DEMO",
    **settings: Any,
) -> AsyncIterator[DeliveryTown]:
    """A town with its gateway up."""
    async with founded(folder, url) as town:
        town.files, town.topics = files, topics
        async with town.serving(letters, **settings):
            yield town
