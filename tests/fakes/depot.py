"""Uploads and downloads of attachments on a real listener, database and store, without the rest of a gateway."""

import asyncio
import base64
import hashlib
import os
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from gateway.core.life import Accepted, End, Life, Span
from gateway.core.model import (
    AgencyId,
    Agreement,
    AgreementId,
    Catalogue,
    Effect,
    Grant,
    Kind,
    Service,
    ServiceId,
    Standing,
    SystemId,
    Visibility,
)
from gateway.core.shape import Shape
from gateway.edge import archive
from gateway.edge.documents.attachments import Attachments, Stores
from gateway.edge.documents.tidying import Tidying
from gateway.edge.documents.vault import Place, Vault
from gateway.edge.front import Basis, Front
from gateway.edge.identity import Identity
from gateway.edge.issuers import Jwks
from gateway.edge.journal import Book, Journal
from gateway.edge.keys import Keyring
from gateway.edge.listener import Bounds, Listener, bound
from gateway.edge.peer import Peers
from gateway.edge.store import Plan, SqliteDriver
from gateway.edge.telemetry import Meters
from gateway.edge.tracing import PassingOn
from tests.fakes import catalogues, idp
from tests.fakes.valve import Valve

ISSUER = "https://gateway.town.example"
PERMIT = ServiceId("permits.application.v1")
SENDER, RECIPIENT, STRANGER = "saensuk.desk", "interior.permits", "justice.courts"
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 40
LIFE = Life(
    order_by=None,
    done_at=End.ARRIVED,
    deliver_within=Span(86_400.0),
    register_within=None,
    attachments=Accepted(("application/pdf", "image/png"), 2**31, 3),
    keep_days=365,
)


def service(life: Life = LIFE) -> Service:
    """An application for a permit, to which plans belong."""
    return Service(
        id=PERMIT,
        title="Application for a permit",
        kind=Kind.DOCUMENT,
        effect=Effect.WRITE,
        visibility=Visibility.MEMBERS,
        personal_data=False,
        request_subjects=(),
        response_subjects=(),
        max_bytes=16_384,
        standard=None,
        request=Shape({}),
        response=Shape({"not": {}}),
        life=life,
    )


def catalogue_of(keys: Mapping[str, idp.Key], standing: Standing = Standing.ACTIVE) -> Catalogue:
    """Saensuk may send applications to the interior ministry; the courts may send nothing."""
    grant = Grant(
        index=0,
        service=PERMIT,
        provider=AgencyId("interior"),
        consumers=frozenset({SystemId(SENDER)}),
        purposes=frozenset({"permit"}),
        scope=None,
        disclose=None,
        disclosed=None,
        rate=None,
        quota=None,
        require=frozenset(),
        approval=None,
    )
    agreement = Agreement(
        id=AgreementId("MOI-SAENSUK-2026-001"),
        title="Saensuk sends applications",
        legal_basis=None,
        parties=(AgencyId("interior"), AgencyId("saensuk")),
        valid_from=date(2024, 1, 1),
        valid_until=date(2199, 12, 31),
        grants=(grant,),
        standing=Standing.ACTIVE,
    )
    parties = [
        catalogues.agency("saensuk", catalogues.system(SENDER, keys[SENDER].public), standing=standing),
        catalogues.agency("interior", catalogues.system(RECIPIENT, keys[RECIPIENT].public)),
        catalogues.agency("justice", catalogues.system(STRANGER, keys[STRANGER].public)),
    ]
    return catalogues.of(*parties, services=[service()], agreements=[agreement])


@dataclass(frozen=True, slots=True)
class Got:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        """Its JSON."""
        return orjson.loads(self.raw)


def digest(raw: bytes, name: str = "sha256") -> str:
    """The value of Content-Digest."""
    label = {"sha256": "sha-256", "sha512": "sha-512"}[name]
    return f"{label}=:{base64.b64encode(hashlib.new(name, raw).digest()).decode()}:"


class Depot:
    """Everything that a test may touch."""

    def __init__(self, folder: Path, keyring: Keyring, place: Place) -> None:
        self.folder = folder
        self.database = folder / "gateway.sqlite3"
        self.keyring = keyring
        self.keys = {name: idp.key() for name in (SENDER, RECIPIENT, STRANGER)}
        self.catalogue = catalogue_of(self.keys)
        self.vault = Vault(place)
        self.files = folder / "files"
        self.url = ""
        self.valve = Valve(SqliteDriver(self.database, "DEMO"))
        self.journal = Journal(self.valve)
        self.attachments: Attachments
        self.tidying = Tidying("DEMO", self.vault, self.journal, self.valve)
        self.session: aiohttp.ClientSession

    def suspend(self) -> None:
        """Saensuk may do nothing from now on."""
        self.catalogue = catalogue_of(self.keys, Standing.SUSPENDED)

    def token(self, system: str) -> str:
        """An access token with the gateway's own signature."""
        said = idp.access_claims(
            iss=ISSUER,
            sub=system,
            client_id=system,
            client_key=self.keys[system].thumbprint,
            iat=time.time() - 60,
            exp=time.time() + 600,
            scope=None,
        )
        return self.keyring.signing.jwt(said, "at+jwt")

    def request(self, method: str, path: str, system: str, raw: Any = None, **headers: str | None) -> Any:
        """A request whose answer the caller reads itself; ``content_digest=None`` takes a header away."""
        given = {"authorization": f"Bearer {self.token(system)}", **headers}
        named = {name.replace("_", "-"): value for name, value in given.items() if value is not None}
        skip = ("Content-Type", "Accept-Encoding")
        return self.session.request(method, self.url + path, headers=named, data=raw, skip_auto_headers=skip)

    async def ask(self, method: str, path: str, system: str = SENDER, raw: Any = None, **headers: str | None) -> Got:
        """A request and its whole answer."""
        async with self.request(method, path, system, raw, **headers) as answer:
            return Got(answer.status, answer.headers.copy(), await answer.read())

    async def upload(self, raw: bytes = PDF, system: str = SENDER, **headers: str | None) -> Got:
        """A file, with what belongs to it unless ``headers`` say otherwise."""
        usual: dict[str, str | None] = {"content_type": "application/pdf", "content_digest": digest(raw)}
        return await self.ask("POST", "/v1/attachments", system, BytesIO(raw), **{**usual, **headers})

    async def uploaded(self, raw: bytes = PDF) -> str:
        """The id of a file that is there."""
        answer = await self.upload(raw)
        assert answer.status == 201, answer.raw
        return str(answer.body["attachment"])

    async def send(self, attachment: str, document: str, recipient: str, state: str, *, touched: bool) -> None:
        """Rows as a document has them that goes with the file."""

        def plan(_: Book) -> Plan[None]:
            yield (
                "insert into uses (attachment, document) values ($1, $2) on conflict do nothing",
                (attachment, document),
            )
            columns = (
                "document, recipient, okey, kind, service, unit, state, open, touched, attempts, requeued, since, "
                "expires, changed"
            )
            values = "$1, $2, '', 'document', $3, '', $4, false, $5, 0, 0, {now}, {now}, {now}"
            yield f"insert into deliveries ({columns}) values ({values})", (document, recipient, PERMIT, state, touched)  # noqa: S608

        await self.journal.run(plan)

    async def change(self, sql: str, *values: str) -> None:
        """One statement."""

        def plan(_: Book) -> Plan[None]:
            yield sql, values

        await self.journal.run(plan)

    async def rows(self, select: str) -> list[Any]:
        """What the database holds."""
        return [tuple(row) for row in await self.valve.read(select)]

    async def entries(self, step: str) -> list[Any]:
        """The journal's entries of one step."""
        kept = await asyncio.to_thread(lambda: list(archive.entries(self.database)))
        return [facts for facts in (orjson.loads(each.entry) for each in kept) if facts["step"] == step]

    def stored(self) -> list[str]:
        """Every file that lies in the store's folder, with what is not finished."""
        walked = os.walk(self.files)  # passes over what is removed meanwhile, where Path.rglob raises
        found = (os.path.relpath(Path(folder, name), self.files) for folder, _, names in walked for name in names)
        return sorted(path for path in found if path != "instance")


@asynccontextmanager
async def opened(folder: Path, place: Place | None = None, **bounds: Any) -> AsyncIterator[Depot]:
    """A depot that answers."""
    depot = Depot(folder, idp.keyring(folder / "keys"), place or Place(folder / "files"))
    meters = Meters()
    async with AsyncExitStack() as stack:
        jwks = Jwks(tls=ssl.create_default_context(), events=meters)
        stack.push_async_callback(jwks.close)
        stack.push_async_callback(depot.journal.close)
        await depot.journal.open("test")
        basis = Basis(
            catalogue=lambda: depot.catalogue,
            in_force=lambda: depot.catalogue,
            identity=Identity(depot.keyring, ISSUER, jwks),
            journal=depot.journal,
            meters=meters,
            period_key=lambda: b"k" * 32,
            types=ISSUER,
            max_in_progress=100,
            peers=Peers(()),
            tracer=PassingOn(),
        )
        stores = Stores(depot.vault, depot.valve, depot.journal, depot.journal)
        depot.attachments = Attachments(Front(basis), stores, meters)
        app = web.Application()
        app.add_routes(depot.attachments.routes())
        usual: dict[str, Any] = {"shutdown_seconds": 0.02, "connections": 100}
        listener = Listener(app, Bounds(**{**usual, **bounds}))
        stack.push_async_callback(listener.close)
        depot.url = await listener.open(bound("127.0.0.1:0"))
        depot.session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
        )
        yield depot


def smaller(**changes: Any) -> Service:
    """The service with other terms for files."""
    assert LIFE.attachments is not None
    return service(replace(LIFE, attachments=replace(LIFE.attachments, **changes)))
