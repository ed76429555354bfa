"""The one place where the parts are put together."""

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from aiohttp import web

from gateway import __version__
from gateway.catalogue.reading import Finding
from gateway.catalogue.snapshot import load
from gateway.core.model import Catalogue
from gateway.core.refusal import Refusal
from gateway.edge import api, keys, oauth, operations
from gateway.edge.evidence import administered
from gateway.edge.exchange import Exchanges, Parts
from gateway.edge.identity import Identity
from gateway.edge.issuers import Jwks
from gateway.edge.journal import Journal
from gateway.edge.limits import Limits
from gateway.edge.listener import Bounds, Listener, bound
from gateway.edge.operations import Health, Readiness
from gateway.edge.outbound import HttpOutbound
from gateway.edge.peer import Peers
from gateway.edge.postgres import PostgresDriver, named
from gateway.edge.providers import Providers
from gateway.edge.store import Driver, SqliteDriver, StoreFailed, database_path
from gateway.edge.tally import Tally
from gateway.edge.telemetry import Meters
from gateway.edge.upkeep import PeriodKeys, Upkeep, UsedAssertions
from gateway.edge.writes import Writes
from gateway.protocols.protocol import Surroundings
from gateway.settings import Settings

OPERATIONS_CONNECTIONS = 64
BREAKER = {"closed": 0.0, "half-open": 0.5, "open": 1.0}

log = structlog.get_logger()


class NotStarted(Exception):
    """The gateway cannot start; the text says why and what to do."""

    def __init__(self, reason: str, findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(reason)
        self.findings = findings


class Gateway:
    """A gateway that is being put together, runs, and is taken apart."""

    def __init__(self, settings: Settings, catalogue: Catalogue, keyring: keys.Keyring, driver: Driver) -> None:
        self.settings = settings
        self.meters = Meters()
        self._catalogue = catalogue
        self.journal = Journal(driver, observe=self.meters.committed)
        self.limits = Limits(self.journal, time.monotonic)
        self.periods = PeriodKeys(self.journal, keyring)
        self.peers = Peers()
        self._keyring = keyring
        self._draining = False

    @property
    def catalogue(self) -> Catalogue:
        """The one in use."""
        return self._catalogue

    @contextlib.asynccontextmanager
    async def running(self, sockets: "Sockets | None" = None) -> AsyncIterator["Addresses"]:
        """Both listeners open, until the context ends; then what runs is finished first.

        ``sockets`` are those that the process was given; otherwise it opens its own. Raises NotStarted.
        """
        async with contextlib.AsyncExitStack() as stack:
            sockets = sockets or listening(self.settings)
            await self._open_journal(stack)
            jwks = Jwks(tls=_trust(self.settings.ca_file), events=self.meters)
            stack.push_async_callback(jwks.close)
            identity = Identity(self._keyring, self.settings.issuer, jwks)
            providers = await self._providers(stack)
            exchanges = self._exchanges(identity, providers)
            upkeep = Upkeep(self.journal, self.periods, self.limits, self.meters)
            stack.push_async_callback(_last_minute, upkeep, exchanges.tally, self._catalogue)
            aside = await self._aside(stack, sockets.operations, providers, exchanges)
            public = await self._public(stack, sockets.public, exchanges, identity)
            stack.push_async_callback(
                _cancelled, asyncio.create_task(upkeep.go_on(exchanges.tally, lambda: self._catalogue))
            )
            stack.push_async_callback(self._drain)
            _show(self._catalogue, self.meters)
            log.info("started", public=public, operations=aside, catalogue=self._catalogue.digest[:16])
            yield Addresses(public, aside)

    async def _open_journal(self, stack: contextlib.AsyncExitStack) -> None:
        try:
            await self.journal.open(f"gateway {__version__} pid {os.getpid()}")
        except StoreFailed as error:
            raise NotStarted(str(error)) from error
        stack.push_async_callback(self.journal.close)
        try:
            await self.periods.renew()
        except keys.NotOpened as error:
            reason = (
                "The database was sealed under another master key: restore gateway/master.key.json, or the database."
            )
            raise NotStarted(reason) from error
        await self.journal.append(administered(self._catalogue, "start", version=__version__))
        stack.push_async_callback(self._write_stop)

    async def _write_stop(self) -> None:
        with contextlib.suppress(Refusal):  # a journal that failed must not keep the process alive
            await self.limits.give_back(everything=True)
            await self.journal.append(administered(self._catalogue, "stop"))

    async def _providers(self, stack: contextlib.AsyncExitStack) -> Providers:
        outbound = await stack.enter_async_context(HttpOutbound())
        home = self.settings.catalogue
        around = Surroundings(outbound, self.settings.run_adapters, home, self.settings.keys / "secrets")
        providers = Providers(around, time.monotonic)
        stack.push_async_callback(providers.close)
        try:
            providers.adopt(self._catalogue)
        except ValueError as error:
            raise NotStarted(str(error)) from error
        return providers

    def _exchanges(self, identity: Identity, providers: Providers) -> Exchanges:
        parts = Parts(
            catalogue=lambda: self._catalogue,
            identity=identity,
            limits=self.limits,
            providers=providers,
            journal=self.journal,
            meters=self.meters,
            period_key=self.periods.current,
            seal=self._keyring.seal,
            unseal=self._keyring.open,
            mac=self._keyring.mac,
            types=self.settings.issuer + api.REFUSALS,
            max_in_progress=self.settings.max_in_progress,
            peers=self.peers,
        )
        return Exchanges(parts, Writes(parts))

    async def _public(
        self, stack: contextlib.AsyncExitStack, on: socket.socket, exchanges: Exchanges, identity: Identity
    ) -> str:
        app = web.Application()
        around = oauth.Surroundings(lambda: self._catalogue, time.time, UsedAssertions(self.journal), exchanges.tally)
        app.add_routes(oauth.routes(self._keyring, self.settings.issuer, identity, around))
        app.add_routes(api.routes(exchanges, identity, lambda: self._catalogue, self.settings.issuer))
        listener = Listener(app, Bounds(self.settings.shutdown_seconds, self.settings.max_connections))
        stack.push_async_callback(listener.close)
        return await listener.open(on)

    async def _aside(
        self, stack: contextlib.AsyncExitStack, on: socket.socket, providers: Providers, exchanges: Exchanges
    ) -> str:
        app = web.Application()
        app.add_routes(operations.routes(self.meters, self.health, lambda: self._refresh(providers, exchanges)))
        listener = Listener(app, Bounds(1.0, OPERATIONS_CONNECTIONS))
        stack.push_async_callback(listener.close)
        return await listener.open(on)

    def health(self) -> Health:
        """Whether calls should be sent here, and why not."""
        checks = {"journal": "cannot be written" if self.journal.failing else "ok", "catalogue": "ok"}
        if self._draining:
            return Health(Readiness.DRAINING, checks)
        return Health(Readiness.UNREADY if self.journal.failing else Readiness.READY, checks)

    def _refresh(self, providers: Providers, exchanges: Exchanges) -> None:
        meters = self.meters
        meters.in_progress.set(exchanges.in_progress)
        meters.waiting.set(self.journal.waiting)
        meters.failing.set(self.journal.failing)
        for where, state in providers.states().items():
            meters.breakers.labels(*where).set(BREAKER[state])
        for whose, ratio in self.limits.taken().items():
            meters.quota.labels(*whose).set(ratio)

    async def _drain(self) -> None:
        """Not ready any more; closing the listener then gives what runs its time."""
        self._draining = True


@dataclass(frozen=True, slots=True)
class Sockets:
    """What a gateway listens on; several processes may share the public one."""

    public: socket.socket
    operations: socket.socket


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running gateway listens."""

    public: str
    operations: str


def compose(settings: Settings, environment: Mapping[str, str]) -> Gateway:
    """Everything that can be wrong is found here, before anything listens. Raises NotStarted."""
    loaded = load(
        settings.catalogue,
        instance=settings.instance,
        zone=settings.zone,
        keys=settings.keys,
        at=datetime.now(UTC),
        environment=environment,
    )
    keyring, reasons = _keyring(settings)
    whole = loaded.catalogue is not None and keyring is not None and not reasons
    driver = None
    try:
        driver = _opened(settings, create=whole)
    except StoreFailed as error:
        reasons.append(str(error))
    if loaded.catalogue is not None and keyring is not None and driver is not None and whole:
        return Gateway(settings, loaded.catalogue, keyring, driver)
    if driver is not None:
        _give_back(driver)
    if loaded.catalogue is None:
        raise NotStarted("\n".join([*reasons, "The catalogue has errors:"]), loaded.findings)
    raise NotStarted("\n".join(reasons))


def _keyring(settings: Settings) -> tuple[keys.Keyring | None, list[str]]:
    """The gateway's keys, and what is wrong with the files beside the catalogue's own."""
    keyring, reasons = None, []
    try:
        keyring = keys.read(settings.keys, settings.instance)
    except keys.BadKeys as error:
        reasons.append(str(error))
    try:
        _trust(settings.ca_file)
    except NotStarted as error:
        reasons.append(str(error))
    return keyring, reasons


def _opened(settings: Settings, *, create: bool) -> Driver | None:
    """The database; None where it would have to be made and is not to be. Raises StoreFailed."""
    if named(settings.database):
        try:
            return PostgresDriver(settings.database, settings.instance)
        except ValueError as error:
            raise StoreFailed(str(error)) from error
    path = database_path(settings.database)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise StoreFailed(
            f"GATEWAY_DATABASE: there is no folder {folder}. Make it, owned by the gateway's user, or correct the path."
        )
    if not create and not path.exists():
        return None
    try:
        return SqliteDriver(path, settings.instance)
    except OSError as error:
        raise StoreFailed(f"GATEWAY_DATABASE: {path} cannot be opened ({error.strerror}): who owns it?") from error


def _give_back(driver: Driver) -> None:
    """Close it here and now, whether a loop runs or not."""
    with ThreadPoolExecutor(1) as aside:
        aside.submit(asyncio.run, driver.close()).result()


def spare_garbage_collection() -> None:
    """For a process that serves: what lives as long as it is not looked through again, the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)  # a request leaves hundreds of objects, and few circles


def _show(catalogue: Catalogue, meters: Meters) -> None:
    meters.catalogue.clear()
    meters.catalogue.labels(catalogue.digest[:16]).set(1)
    meters.catalogue_loaded.set(time.time())


def listening(settings: Settings) -> "Sockets":
    """Both sockets. Raises NotStarted."""
    return Sockets(_socket(settings.listen), _socket(settings.operations_listen))


def _socket(address: str) -> socket.socket:
    try:
        return bound(address)
    except OSError as error:
        raise NotStarted(f"{address} cannot be listened on: {error.strerror}. Is another gateway running?") from error


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise NotStarted(f"GATEWAY_CA_FILE {ca_file} cannot be read as certificates in PEM") from error
    return context


async def _last_minute(upkeep: Upkeep, tally: Tally, catalogue: Catalogue) -> None:
    with contextlib.suppress(Refusal):  # as above
        await upkeep.minute(tally, catalogue)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
