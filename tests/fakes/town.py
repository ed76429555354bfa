"""A small town of agencies around a running gateway, with a provider that does as it is told."""

import asyncio
import itertools
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import orjson
from aiohttp import web

from gateway.app import Gateway
from gateway.edge import archive
from gateway.edge.exchange import Exchanges
from gateway.edge.identity import Identity
from gateway.edge.keys import Keyring
from gateway.edge.postgres import PostgresDriver, dsn_of, named
from gateway.edge.providers import Providers
from gateway.edge.store import Driver, SqliteDriver, database_path
from gateway.edge.upkeep import Upkeep
from gateway.footing import Addresses
from gateway.settings import Settings
from tests.fakes import idp
from tests.fakes.parties import (
    CHANGE,
    CHANGED,
    ISSUER,
    LOOK_UP,
    PARTIES,
    PROTECTED,
    PURPOSE,
    RECORD,
    USUAL,
    Terms,
    catalogue_of,
)
from tests.fakes.systems import Seen
from tests.fakes.valve import Valve

TURNS, PAUSE = 1000, 0.002
"""After so many looks without a pause, so many seconds between two."""

Headers = Mapping[str, str] | Sequence[tuple[str, str]]
Reaction = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def answers(value: Any, status: int = 200, **headers: str) -> Reaction:
    """Give that as JSON."""

    async def react(_: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(value, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return react


def after(event: asyncio.Event, then: Reaction) -> Reaction:
    """Wait first."""

    async def react(request: web.BaseRequest) -> web.StreamResponse:
        await event.wait()
        return await then(request)

    return react


async def never(_: web.BaseRequest) -> web.StreamResponse:
    """Be silent."""
    await asyncio.Event().wait()
    raise AssertionError


async def cuts(request: web.BaseRequest) -> web.StreamResponse:
    """Break the connection off, having read everything."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def usual(request: web.BaseRequest) -> web.StreamResponse:
    """What a good register answers."""
    held = {LOOK_UP: RECORD, CHANGE: CHANGED, PROTECTED: {"office": "Court 4"}}
    return web.json_response(held[request.path.removeprefix("/")])


class Office:
    """The interior ministry's system: an HTTP server that answers as it was told last."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[Seen] = []
        self.react: Reaction = usual
        self.arrived = asyncio.Semaphore(0)
        """Released by each request: acquire it to wait for the next."""
        self._runner: web.ServerRunner | None = None

    async def open(self) -> None:
        """Listen; on the same port as before."""
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.01)
        await self._runner.setup()
        port = int(self.url.rpartition(":")[2] or 0)
        await web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def shut(self) -> None:
        """Connections are refused from now on."""
        if self._runner:
            await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(Seen(request.method, request.raw_path, request.headers, await request.read()))
        self.arrived.release()
        return await self.react(request)


async def until(holds: Callable[[], object], seconds: float = 30) -> None:
    """Let others run until it holds: first of this loop, then also other threads and processes."""
    async with asyncio.timeout(seconds):
        for turn in itertools.count():
            if holds():
                return
            await asyncio.sleep(0 if turn < TURNS else PAUSE)


class Watched(Gateway):
    """A gateway whose exchanges can be reached."""

    exchanges: Exchanges

    def _exchanges(self, identity: Identity, providers: Providers) -> Exchanges:
        self.exchanges = super()._exchanges(identity, providers)
        return self.exchanges


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer; ``body`` is its JSON, or None where it is none."""

    status: int
    headers: Mapping[str, str]
    body: Any
    raw: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A journal entry as an auditor reads it."""

    facts: Mapping[str, Any]
    particulars: Mapping[str, Any]
    kept: archive.Kept


def driver_of(url: str, instance: str) -> Driver:
    """A connection to the database."""
    return PostgresDriver(url, instance) if named(url) else SqliteDriver(database_path(url), instance)


class Records:
    """A database as it is read beside the gateway that writes it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def keys_kept(self) -> list[tuple[str, str]]:
        """Every idempotency key in the database, with its state."""
        return [(key, state) for key, state in self.rows("select key, state from keys order by key")]

    def rows(self, select: str) -> list[tuple[Any, ...]]:
        """What the database holds, read beside the gateway."""
        if named(self.url):
            fetched: list[tuple[Any, ...]] = _in_a_thread(asyncio.run, _fetched(dsn_of(self.url), select))
            return fetched
        with closing(sqlite3.connect(f"file:{database_path(self.url)}?mode=ro", uri=True)) as connection:
            return list(connection.execute(select))

    @property
    def place(self) -> archive.Place:
        """Where the journal is read."""
        return self.url if named(self.url) else database_path(self.url)

    def entries(self, exchange: str | None = None) -> list[Entry]:
        """The journal, or what it has of one exchange."""
        kept: list[archive.Kept] = _in_a_thread(list, archive.entries(self.place))
        read = [Entry(orjson.loads(each.entry), orjson.loads(each.particulars or b"{}"), each) for each in kept]
        return [entry for entry in read if exchange in (None, entry.facts.get("exchange"))]

    def faults(self) -> tuple[str, ...]:
        """What a check of the journal finds."""
        checked: archive.Checked = _in_a_thread(archive.check, self.place)
        return checked.faults


class Town(Records):
    """Everything that a test may touch."""

    def __init__(
        self,
        folder: Path,
        office: Office,
        keyring: Keyring,
        keys: Mapping[str, idp.Key],
        session: aiohttp.ClientSession,
        *,
        url: str | None = None,
    ) -> None:
        self.folder = folder
        self.database = folder / "gateway.sqlite3"
        """Where no ``url`` is given."""
        super().__init__(url or f"sqlite:///{self.database}")
        self.office = office
        self.keys = keys
        self._keyring = keyring
        self._session = session
        self._tokens: dict[tuple[str, str | None], str] = {}
        self.gateway: Watched
        self.valve: Valve
        self.at: Addresses

    @asynccontextmanager
    async def running(self, terms: Terms = USUAL, **settings: Any) -> AsyncIterator[None]:
        """The gateway up, on this town's database."""
        chosen = Settings(
            issuer=ISSUER,
            database=self.url,
            listen="127.0.0.1:0",
            operations_listen="127.0.0.1:0",
            **{"shutdown_seconds": 0.02, **settings},
        )
        self.valve = Valve(driver_of(self.url, chosen.instance))
        self.gateway = Watched(chosen, catalogue_of(self.office.url, self.keys, terms), self._keyring, self.valve)
        async with self.gateway.running() as self.at:
            yield

    def beside(self) -> "Town":
        """Another node with the same keys, provider and database, which is not up yet."""
        return Town(self.folder, self.office, self._keyring, self.keys, self._session, url=self.url)

    def agree(self, terms: Terms, **changes: Any) -> None:
        """Another catalogue from now on, with these fields changed; the endpoints' own terms stay."""
        self.gateway._catalogue = replace(catalogue_of(self.office.url, self.keys, terms), **changes)

    async def upkeep(self, *, minute: bool = False) -> None:
        """What the gateway does every few seconds, or every minute, now."""
        of = self.gateway
        upkeep = Upkeep(of.journal, of.periods, of.limits, of.meters)
        await (upkeep.minute(of.exchanges.tally, of.catalogue) if minute else upkeep.round(of.catalogue))

    async def token(self, system: str, scope: str | None = None) -> str:
        """An access token from the gateway's token endpoint."""
        if (system, scope) not in self._tokens:
            now = time.time()
            said = idp.assertion_claims(system, aud=ISSUER, jti=str(uuid4()), iat=now, exp=now + 60)
            form = {
                "grant_type": "client_credentials",
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": self.keys[system].sign(said),
                **({"scope": scope} if scope else {}),
            }
            async with self._session.post(f"{self.at.public}/oauth/token", data=form) as answer:
                self._tokens[system, scope] = (await answer.json())["access_token"]
        return self._tokens[system, scope]

    def permit(self, system: str, scope: str) -> str:
        """An access token that every node takes."""
        if (system, scope) not in self._tokens:
            self._tokens[system, scope] = self.crafted(system, scope=scope, exp=time.time() + 600)
        return self._tokens[system, scope]

    def crafted(self, system: str, **changes: Any) -> str:
        """An access token with the gateway's own signature that says whatever the test wants."""
        said = idp.access_claims(
            iss=ISSUER,
            sub=system,
            client_id=system,
            client_key=self.keys[system].thumbprint,
            iat=time.time() - 700,
            exp=time.time() + 60,
        )
        return self._keyring.signing.jwt({**said, **changes}, "at+jwt")

    async def call(
        self, system: str | None, service: str, body: Any, *, agency: str = "interior", **headers: str | None
    ) -> Reply:
        """One exchange; ``exchange_case="A 1"`` sends that header, None takes one away, bytes go as they are."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        usual_ones = {"content_type": "application/json", "exchange_purpose": PURPOSE}
        if system is not None and "authorization" not in headers:
            usual_ones["authorization"] = f"Bearer {await self.token(system)}"
        given = {k.replace("_", "-"): v for k, v in {**usual_ones, **headers}.items() if v is not None}
        return await self.ask("POST", f"/v1/exchange/{agency}/{service}", given, raw)

    async def ask(self, method: str, path: str, headers: Headers = (), raw: bytes = b"") -> Reply:
        """Any request to the public listener."""
        url = path if path.startswith("http") else self.at.public + path
        plain = {"skip_auto_headers": ("Content-Type", "User-Agent", "Accept", "Accept-Encoding")}
        async with self._session.request(method, url, headers=headers, data=raw or None, **plain) as answer:  # type: ignore[arg-type] # a mapping of one keyword
            got = await answer.read()
            body = orjson.loads(got) if "json" in answer.content_type else None
            return Reply(answer.status, answer.headers.copy(), body, got)

    async def metrics(self) -> Mapping[str, float]:
        """Every sample of the operations listener, by its name and labels as they are written."""
        text = (await self.ask("GET", f"{self.at.operations}/metrics")).raw.decode()
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}


def _in_a_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    """What brings an event loop of its own cannot run beside the test's."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work, *arguments).result()


async def _fetched(dsn: str, select: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(select)]
    finally:
        await connection.close()


@asynccontextmanager
async def founded(folder: Path, url: str | None = None) -> AsyncIterator[Town]:
    """A town whose gateway is not up yet; without the URL of a database it has a file of its own."""
    office = Office()
    keys = {name: idp.key() for name in PARTIES}
    async with AsyncExitStack() as stack:
        await office.open()
        stack.push_async_callback(office.shut)
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        yield Town(folder, office, idp.keyring(folder / "keys"), keys, session, url=url)


@asynccontextmanager
async def opened(folder: Path, terms: Terms = USUAL, **settings: Any) -> AsyncIterator[Town]:
    """A town with its gateway up."""
    async with founded(folder) as town, town.running(terms, **settings):
        yield town
