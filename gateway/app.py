"""The one place where the parts are put together."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import structlog
from aiohttp import web

from gateway import __version__
from gateway.catalogue.files import Files, read
from gateway.catalogue.lastgood import begun
from gateway.catalogue.snapshot import Loader
from gateway.core.limits import day_of
from gateway.core.model import Catalogue
from gateway.core.refusal import Refusal
from gateway.core.standing import overlay
from gateway.edge import api, keys, lookups, oauth, operations, tracing
from gateway.edge.control import Orders, carry_out, taking
from gateway.edge.database import give_back, opened, warn_of_owner
from gateway.edge.documents.takers import Takers
from gateway.edge.evidence import administered
from gateway.edge.exchange import Exchanges, Parts
from gateway.edge.identity import Identity
from gateway.edge.issuers import Jwks
from gateway.edge.journal import Journal
from gateway.edge.kafka import Kafka
from gateway.edge.limits import Limits
from gateway.edge.listener import Bounds, Listener, inside, watching
from gateway.edge.operations import Health, Readiness
from gateway.edge.outbound import HttpOutbound
from gateway.edge.peer import Peers
from gateway.edge.postgres import named
from gateway.edge.providers import NotConnected, Providers
from gateway.edge.reload import Declared, Places, Reload, Use, begin
from gateway.edge.store import Driver, StoreFailed, database_path
from gateway.edge.suspensions import Suspensions, orders
from gateway.edge.systems import Systems
from gateway.edge.tally import Tally
from gateway.edge.tasks import cancelled
from gateway.edge.telemetry import Meters
from gateway.edge.tls import served
from gateway.edge.upkeep import PeriodKeys, Upkeep, UsedAssertions
from gateway.edge.writes import Writes
from gateway.footing import Addresses, NotStarted, Sockets, keyring_of, listening, trust
from gateway.mailroom import Around, Mailroom
from gateway.protocols.protocol import Surroundings
from gateway.settings import Settings

OPERATIONS_CONNECTIONS = 64
BREAKER = {"closed": 0.0, "half-open": 0.5, "open": 1.0}

log = structlog.get_logger()


class Gateway:
    """A gateway that is being put together, runs, and is taken apart."""

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        keyring: keys.Keyring,
        driver: Driver,
        declared: Declared | None = None,
    ) -> None:
        """``declared`` is what the catalogue was made of; without it nothing is reloaded."""
        self.settings = settings
        self.meters = Meters()
        self.kafka = Kafka(settings.instance, settings.issuer, self.meters)
        self._loaded = catalogue
        self._catalogue = catalogue
        self.suspensions = Suspensions(driver, self.meters)
        self.journal = Journal(driver, observe=self.meters.committed)
        self.limits = Limits(self.journal, time.monotonic)
        self.periods = PeriodKeys(self.journal, keyring)
        self.peers = Peers(settings.trusted_proxies)
        self.tracer: tracing.Tracer = tracing.PassingOn()
        self.tls = served(settings, lambda at: self.meters.certificate.labels("public").set(at))
        self.mailroom = Mailroom(
            driver,
            Around(
                settings=settings,
                keyring=keyring,
                meters=self.meters,
                journal=self.journal,
                limits=self.limits,
                catalogue=lambda: self._catalogue,
                in_force=lambda: self.suspensions.sure(self._catalogue),
            ),
        )
        self._keyring = keyring
        self._driver = driver
        self._draining = False
        self._declared = declared
        self.reload: Reload | None = None

    @property
    def catalogue(self) -> Catalogue:
        """The one in use, with what operators suspended."""
        return self._catalogue

    @contextlib.asynccontextmanager
    async def running(self, sockets: "Sockets | None" = None) -> AsyncIterator["Addresses"]:
        """Both listeners open, until the context ends; then what runs is finished first.

        ``sockets`` are those that the process was given; otherwise it opens its own. Raises NotStarted.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.journal.close)
            self.mailroom.hold(stack)
            sockets = sockets or listening(self.settings)
            self.tracer = _traced(stack, self.settings.instance, self.meters)
            await self._open_journal(stack)
            await self.mailroom.open(stack)
            await _orders_taken(stack, self.settings, self.journal, self.mailroom.orders())
            jwks = Jwks(tls=trust(self.settings.ca_file), events=self.meters)
            stack.push_async_callback(jwks.close)
            identity = Identity(self._keyring, self.settings.issuer, jwks)
            systems = await self._systems(stack)
            providers = systems.providers
            self._follow(stack, systems, jwks)
            exchanges = self._exchanges(identity, providers)
            upkeep = Upkeep(self.journal, self.periods, self.limits, self.meters)
            stack.push_async_callback(_last_minute, upkeep, exchanges.tally, self._catalogue)
            # Ended in the order from here up: what is suspended holds, and the journal is kept in order, until the last
            # exchange has its answer.
            for going in (
                self.suspensions.go_on(lambda: self._loaded, self._lay_over),
                upkeep.go_on(exchanges.tally, lambda: self._catalogue),
            ):
                stack.push_async_callback(cancelled, asyncio.create_task(going))
            aside = await self._aside(stack, sockets.operations, providers, exchanges)
            documents = tuple(self.mailroom.routes(exchanges.front))
            await self.mailroom.start(stack, systems.takers)
            public = await self._public(stack, sockets.public, exchanges, (identity, documents))
            stack.callback(self.mailroom.wake_all)
            stack.callback(setattr, self, "_draining", True)  # closing the listener then gives what runs its time
            _show(self._catalogue, self.meters)
            log.info("started", public=public, operations=aside, catalogue=self._catalogue.digest[:16])
            yield Addresses(public, aside)

    async def _open_journal(self, stack: contextlib.AsyncExitStack) -> None:
        try:
            await self.journal.open(f"gateway {__version__} pid {os.getpid()}")
            await warn_of_owner(self._driver)
        except StoreFailed as error:
            raise NotStarted(str(error)) from error
        try:
            await self.suspensions.look(lambda: self._loaded, self._lay_over)
            await self.periods.renew()
            await self.journal.append(administered(self._catalogue, "start", version=__version__))
        except StoreFailed as error:
            raise NotStarted(f"What is suspended cannot be read: {error}") from error
        except keys.NotOpened as error:
            why = "The database was sealed under another master key: restore gateway/master.key.json, or the database."
            raise NotStarted(why) from error
        except Refusal as error:
            raise NotStarted(f"The journal cannot be written: {error.__cause__ or error.detail}") from error
        stack.push_async_callback(_write_stop, self.limits, self.journal, lambda: self._catalogue)

    def _lay_over(self) -> None:
        """From now on calls are decided by the catalogue with what operators suspended."""
        self._catalogue = overlay(self._loaded, self.suspensions.known)

    def _follow(self, stack: contextlib.AsyncExitStack, systems: Systems, jwks: Jwks) -> None:
        """What changes in the folders is taken into use, at once on SIGHUP, until the context ends."""
        if self._declared is None:
            return

        async def adopt(catalogue: Catalogue, files: Files) -> None:
            systems.adopt(await systems.connect(catalogue, files))
            self._loaded = catalogue
            self._lay_over()
            jwks.follow(catalogue)
            _show(catalogue, self.meters)

        chosen = self.settings
        certificate = (chosen.tls_certificate, chosen.tls_key, chosen.tls_client_ca)
        places = Places(chosen.catalogue, chosen.keys, tuple(path for path in certificate if path is not None))
        use = Use(lambda: self._loaded, adopt, systems.lacking, self.tls.renew if self.tls else None)
        self.reload = Reload(use, self._declared, places, self.journal, self.meters)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload.ask)
        stack.push_async_callback(cancelled, asyncio.create_task(self.reload.go_on()))

    async def _systems(self, stack: contextlib.AsyncExitStack) -> Systems:
        outbound = await stack.enter_async_context(HttpOutbound())
        sign = tuple(key.key for key in self._keyring.webhooks)
        around = Surroundings(outbound, self.settings.run_adapters, webhook_keys=sign)
        systems = Systems(Providers(around, time.monotonic), Takers(around, kafka=self.kafka))
        stack.push_async_callback(self.kafka.close)
        stack.push_async_callback(systems.providers.close)
        stack.push_async_callback(systems.takers.close)
        try:
            start = await begin(systems, self._loaded, self._declared)
        except NotConnected as error:
            raise NotStarted(str(error)) from error
        systems.adopt(start.connected)
        if start.kept:
            was, self._loaded, self._declared = self._loaded.digest, start.connected.catalogue, start.declared
            self._lay_over()
            await self.journal.append(administered(self._loaded, "reload", was=was, kept=start.kept))
        return systems

    def _exchanges(self, identity: Identity, providers: Providers) -> Exchanges:
        parts = Parts(
            catalogue=lambda: self._catalogue,
            in_force=lambda: self.suspensions.sure(self._catalogue),
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
            tracer=self.tracer,
        )
        return Exchanges(parts, Writes(parts))

    async def _public(
        self,
        stack: contextlib.AsyncExitStack,
        on: socket.socket,
        exchanges: Exchanges,
        more: tuple[Identity, Iterable[web.RouteDef]],
    ) -> str:
        app = web.Application()
        identity, documents = more
        app.add_routes(documents)
        around = oauth.Surroundings(
            catalogue=lambda: self.suspensions.sure(self._catalogue),
            clock=time.time,
            steady=time.monotonic,
            peers=self.peers,
            once=UsedAssertions(self.journal),
            events=exchanges.tally,
            strangers=exchanges.strangers,
            tracer=self.tracer,
        )
        app.add_routes(oauth.routes(self._keyring, self.settings.issuer, identity, around))
        app.add_routes(api.routes(exchanges, identity, self.peers, lambda: self._catalogue, self.settings.issuer))
        refuse = api.refusing(exchanges.tally, lambda: self._catalogue, self.settings.issuer)
        chosen = self.settings
        bounds = Bounds(chosen.shutdown_seconds, chosen.max_connections, self.tls, trusted=chosen.trusted_proxies)
        listener = Listener(app, bounds, refuse, watching(self.meters))
        stack.push_async_callback(listener.close)
        return await listener.open(on)

    async def _aside(
        self, stack: contextlib.AsyncExitStack, on: socket.socket, providers: Providers, exchanges: Exchanges
    ) -> str:
        app = web.Application()
        app.add_routes(operations.routes(self.meters, self.health, lambda: self._refresh(providers, exchanges)))
        listener = Listener(app, inside(OPERATIONS_CONNECTIONS))
        stack.push_async_callback(listener.close)
        return await listener.open(on)

    def health(self) -> Health:
        """Whether calls should be sent here, and why not."""
        catalogue = self.reload.health() if self.reload else "ok"
        checks = {"journal": "cannot be written" if self.journal.failing else "ok", "catalogue": catalogue}
        if self.suspensions.late:
            checks["suspensions"] = "cannot be read: nothing is let through"
        if self._draining:
            return Health(Readiness.DRAINING, checks)
        if self.journal.failing or self.suspensions.late:
            return Health(Readiness.UNREADY, checks)
        checks |= {**self.mailroom.complaints(), **self.kafka.complaints()}
        well = all(each == "ok" for each in checks.values())
        return Health(Readiness.READY if well else Readiness.DEGRADED, checks)

    def _refresh(self, providers: Providers, exchanges: Exchanges) -> None:
        meters = self.meters
        meters.in_progress.set(exchanges.in_progress)
        meters.waiting.set(max(self.journal.waiting, self.mailroom.post.waiting))
        meters.failing.set(self.journal.failing)
        meters.documents_failing.set(self.mailroom.failing)
        meters.clock.set(time.time())
        self.kafka.show()
        meters.breakers.clear()
        for where, state in providers.states().items():
            meters.breakers.labels(*where).set(BREAKER[state])
        meters.quota.clear()  # yesterday's is no news today
        for whose, ratio in self.limits.taken(day_of(datetime.now(UTC), self._catalogue.zone)).items():
            meters.quota.labels(*whose).set(ratio)


def compose(settings: Settings, environment: Mapping[str, str], last_good: Path | None = None) -> Gateway:
    """Everything that can be wrong is found here, before anything listens. Raises NotStarted.

    ``last_good`` is where processes that serve together keep the files that worked last.
    """
    loader = Loader(settings.instance, settings.zone, environment)
    present = read(settings.catalogue, settings.keys)
    loaded, files = begun(present, lambda files: loader.load(files, datetime.now(UTC)), last_good)
    declared = Declared(files, loader, last_good)
    keyring, reasons = keyring_of(settings)
    reasons += tracing.mistakes(environment)
    whole = loaded.catalogue is not None and keyring is not None and not reasons
    driver = None
    try:
        driver = opened(settings.database, settings.instance, create=whole)
    except StoreFailed as error:
        reasons.append(str(error))
    if loaded.catalogue is not None and keyring is not None and driver is not None and whole:
        return Gateway(settings, loaded.catalogue, keyring, driver, declared)
    if driver is not None:
        give_back(driver)
    if loaded.catalogue is None:
        raise NotStarted("\n".join([*reasons, "The catalogue has errors:"]), loaded.findings)
    raise NotStarted("\n".join(reasons))


def _show(catalogue: Catalogue, meters: Meters) -> None:
    meters.catalogue.clear()
    meters.catalogue.labels(catalogue.digest[:16]).set(1)
    meters.catalogue_loaded.set(time.time())
    meters.deadline.clear()
    for agency in catalogue.agencies.values():
        for endpoint in agency.endpoints.values():
            if endpoint.deadline:  # documents and events have none here: nobody waits for their answer
                meters.deadline.labels(endpoint.provider, endpoint.service).set(endpoint.deadline)
    meters.expect(each.id for each in catalogue.services.values() if each.life)


async def _orders_taken(stack: contextlib.AsyncExitStack, settings: Settings, journal: Journal, more: Orders) -> None:
    """On SQLite nobody else can write, so that this process does what operators order."""
    if named(settings.database):
        return
    known = {**orders(settings.instance), **lookups.orders(settings.instance), **more}
    place = database_path(settings.database)
    try:
        await stack.enter_async_context(taking(place, lambda order: carry_out(order, known, journal)))
    except StoreFailed as error:
        raise NotStarted(f"GATEWAY_DATABASE: {error}") from error


async def _write_stop(limits: Limits, journal: Journal, catalogue: Callable[[], Catalogue]) -> None:
    with contextlib.suppress(Refusal):  # a journal that failed must not keep the process alive
        await limits.give_back(everything=True)
        await journal.append(administered(catalogue(), "stop"))


def _traced(stack: contextlib.AsyncExitStack, instance: str, meters: Meters) -> tracing.Tracer:
    try:
        tracer = tracing.opened(os.environ, instance, meters)
    except ValueError as error:
        raise NotStarted(str(error)) from error
    stack.push_async_callback(tracer.close)
    return tracer


async def _last_minute(upkeep: Upkeep, tally: Tally, catalogue: Catalogue) -> None:
    with contextlib.suppress(Refusal):  # as above
        await upkeep.minute(tally, catalogue)
