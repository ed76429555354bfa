"""The part of the composition root that puts documents together: taken in, handed over, answered, kept in order.

It has a journal's writer of its own, so that an exchange never waits for somebody's lane.
"""

import asyncio
import collections
import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from aiohttp import web

from gateway import __version__
from gateway.core.model import Catalogue
from gateway.core.receipt import STATEMENT
from gateway.core.refusal import Refusal
from gateway.edge.control import Orders
from gateway.edge.documents import orders
from gateway.edge.documents.approvals import Approvals, Chamber
from gateway.edge.documents.asking import Asking
from gateway.edge.documents.attachments import Attachments, Stores
from gateway.edge.documents.attesting import attesting
from gateway.edge.documents.bounds import Bounds
from gateway.edge.documents.dispatch import Dispatcher
from gateway.edge.documents.gauges import Gauges
from gateway.edge.documents.inbox import Inbox
from gateway.edge.documents.leasing import Leases
from gateway.edge.documents.listing import Listing
from gateway.edge.documents.post import Post
from gateway.edge.documents.reach import Reach
from gateway.edge.documents.reading import Reading, Shelf
from gateway.edge.documents.reception import Reception
from gateway.edge.documents.records import RECEIPT, Addressee
from gateway.edge.documents.replies import Replies
from gateway.edge.documents.road import Desk
from gateway.edge.documents.rounds import Rounds
from gateway.edge.documents.scribe import Scribe, signer
from gateway.edge.documents.second import Second
from gateway.edge.documents.subscriptions import Subscriptions
from gateway.edge.documents.takers import Takers
from gateway.edge.documents.taking import Counter, Taking
from gateway.edge.documents.tidying import Tidying
from gateway.edge.documents.tour import Hand
from gateway.edge.documents.untaken import Untaken
from gateway.edge.documents.vault import Vault
from gateway.edge.documents.view import newest
from gateway.edge.documents.waiting import Waiters
from gateway.edge.front import Front
from gateway.edge.journal import Happened, Journal
from gateway.edge.keys import Keyring
from gateway.edge.limits import Limits
from gateway.edge.store import Driver, StoreFailed
from gateway.edge.tasks import cancelled
from gateway.edge.telemetry import Meters
from gateway.footing import NotStarted, vault_of
from gateway.settings import Settings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a process gives to its documents."""

    settings: Settings
    keyring: Keyring
    meters: Meters
    journal: Journal
    limits: Limits
    catalogue: Callable[[], Catalogue]
    in_force: Callable[[], Catalogue]
    """The same; raises Refusal journal.unavailable while nobody knows what is suspended."""


class Mailroom:
    """The documents of one process."""

    def __init__(self, driver: Driver, around: Around) -> None:
        self._around = around
        keyring = around.keyring
        self.reader = driver.beside()
        self.waiters = Waiters(partial(newest, self.reader))
        self.post = Journal(driver.beside(), observe=around.meters.committed, tell=self._happened)
        sign = signer(keyring.signing)
        self.bounds = Bounds(self.reader)
        self.scribe = Scribe(
            around.settings.instance,
            sign,
            keyring.seal,
            keyring.mac,
            around.catalogue,
            full=lambda way: self.bounds.full(way, RECEIPT),
        )
        self.second = Second(self.reader, around.in_force, keyring.open)
        self.submitting = Post(self.post, self.reader, self.scribe, dispatcher=lambda: self.dispatcher)
        self.gauges = Gauges(self.reader, self.bounds, around.catalogue, around.meters)
        self.vault: Vault | None = None
        self.reach: Reach | None = None
        self.inbox: Inbox | None = None
        self.dispatcher: Dispatcher | None = None

    def hold(self, stack: contextlib.AsyncExitStack) -> None:
        """What it has of the database is given back when the context ends, however far the start came."""
        stack.push_async_callback(self.reader.close)
        stack.push_async_callback(self.post.close)

    async def open(self, stack: contextlib.AsyncExitStack) -> None:
        """Its writer, and the place for files. Raises NotStarted."""
        try:
            await self.post.open(f"gateway {__version__} pid {os.getpid()} documents")
        except StoreFailed as error:
            raise NotStarted(str(error)) from error
        stack.push_async_callback(self.submitting.close)
        self.vault = vault_of(self._around.settings, self._around.catalogue())
        if self.vault is not None:
            claimed = False
            try:
                claimed = await self.vault.claim(self._around.settings.instance)
            except Refusal:  # as any store that is down for a while: uploads get 503 until it is back
                log.warning("attachments_unavailable", why="cannot be reached")
            else:
                if not claimed:
                    raise NotStarted("GATEWAY_ATTACHMENTS belongs to another instance: name a place of its own.")
            self.reach = Reach(self.vault, self._around.settings.instance, self._around.meters, claimed=claimed)

    def orders(self) -> Orders:
        """What operators may order of documents."""
        return orders.orders(self.scribe, self._around.catalogue)

    def routes(self, front: Front) -> Iterator[web.RouteDef]:
        """What the public listener serves of documents."""
        around, keyring = self._around, self._around.keyring
        asking = Asking(front, self.reader)
        files = Attachments(front, Stores(self.vault, self.reader, self.post, around.journal), around.meters)
        counter = Counter(
            limits=around.limits,
            post=self.post,
            submitting=self.submitting,
            asking=asking,
            attachments=files,
            bounds=self.bounds,
            seal=keyring.seal,
            mac=keyring.mac,
            arrived=self._arrived,
        )
        reception = Reception(
            front=front,
            catalogue=around.catalogue,
            in_force=around.in_force,
            post=self.post,
            reader=self.reader,
            scribe=self.scribe,
            mac=keyring.mac,
            meters=around.meters,
        )
        self.inbox = Inbox(reception, Leases(self.post, self.scribe, self.second, keyring.open))
        yield from files.routes()
        yield from self.inbox.routes()
        yield from Replies(reception).routes()
        yield from Listing(asking, keyring.mac).routes()
        yield from Subscriptions(asking, self.post).routes()
        yield from self._looks(asking)
        yield from Taking(front, counter).routes()  # last: its addresses are the widest

    def _looks(self, asking: Asking) -> Iterator[web.RouteDef]:
        """What senders and second persons look at, and decide."""
        around, keyring = self._around, self._around.keyring
        shelf = Shelf(
            asking=asking,
            reader=self.reader,
            post=self.post,
            scribe=self.scribe,
            unseal=keyring.open,
            waiters=self.waiters,
        )
        chamber = Chamber(
            asking=asking,
            in_force=around.in_force,
            post=self.post,
            journal=around.journal,
            scribe=self.scribe,
            bounds=self.bounds,
            unseal=keyring.open,
            mac=keyring.mac,
            arrived=self._arrived,
        )
        yield from Reading(shelf).routes()
        yield from Approvals(chamber).routes()

    async def start(self, stack: contextlib.AsyncExitStack, takers: Takers) -> None:
        """What goes on by itself, until the context ends; what is being handed over then has the time of a stop."""
        around = self._around
        hand = Hand(
            catalogue=around.in_force,
            second=self.second,
            takers=takers,
            unseal=around.keyring.open,
            meters=around.meters,
            tell=Untaken(time.monotonic).note,
            attest=attesting(around.settings.instance, signer(around.keyring.signing, STATEMENT)),
        )
        self.dispatcher = Dispatcher(Desk(hand, self.post, self.scribe), self.reader)
        stack.push_async_callback(self.dispatcher.close, around.settings.shutdown_seconds)
        going = [
            Rounds(self.post, self.scribe, self.second, around.catalogue).go_on(),
            self.bounds.go_on(),
            self.gauges.go_on(),
            self.waiters.go_on(),
            self.dispatcher.go_on(),
        ]
        if self.reach is not None:
            going.append(self.reach.go_on())
        if self.vault is not None:
            going.append(Tidying(around.settings.instance, self.vault, self.post, self.reader).go_on())
        if self.inbox is not None:
            going.append(self.inbox.waiters.go_on())
        stack.push_async_callback(cancelled, *map(asyncio.create_task, going))

    def complaints(self) -> Mapping[str, str]:
        """What is wrong with documents just now, for `/health/ready`; exchanges go on."""
        found = {}
        if self.failing:
            found["documents"] = "cannot be written, or not be read"
        if self.reach is not None and self.reach.wrong:
            found["attachments"] = self.reach.wrong
        return found

    @property
    def failing(self) -> bool:
        """Submissions are refused."""
        return self.post.failing or self.bounds.late

    def wake_all(self) -> None:
        """The process stops: whoever waits for something to come gets an answer now."""
        self.waiters.close()
        if self.inbox is not None:
            self.inbox.waiters.close()

    def _happened(self, about: Sequence[Happened]) -> None:
        """This process wrote something down of documents."""
        meters = self._around.meters
        for what, times in collections.Counter((service, step) for _, service, step in about).items():
            meters.child(meters.documents, *what).inc(times)
        self.waiters.tell({document for document, _, _ in about})

    def _arrived(self, to: Iterable[Addressee]) -> None:
        """This process took something in for these."""
        for each in to:
            if not each.pulled and self.dispatcher is not None:
                self.dispatcher.wake(each.recipient, each.way)
        if self.inbox is not None:
            self.inbox.arrived(to)
