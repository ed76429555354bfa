"""What the exchange benchmark plays on: a fixed provider, the gateway and a bare proxy, a process each."""

import asyncio
import dataclasses
import signal
import socket
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import cast

import aiohttp
import orjson
import uvloop
from aiohttp import web

from gateway.app import Gateway
from gateway.core.jwk import thumbprint
from gateway.core.minimise import cut_of
from gateway.core.model import (
    Agency,
    AgencyId,
    Agreement,
    AgreementId,
    Catalogue,
    Effect,
    Endpoint,
    Grant,
    Kind,
    Obligation,
    Pointer,
    Rate,
    Service,
    ServiceId,
    Standing,
    System,
    SystemId,
    Visibility,
    catalogue,
)
from gateway.core.shape import Shape
from gateway.edge import keys
from gateway.edge.listener import bound
from gateway.edge.postgres import PostgresDriver
from gateway.edge.store import SqliteDriver
from gateway.edge.telemetry import configure_logging
from gateway.footing import Sockets, spare_garbage_collection
from gateway.settings import Settings

CONSUMER = SystemId("finance.local_tax")
PROVIDER = AgencyId("interior")
SERVICE = ServiceId("population.person_lookup.v1")
_TEXT = {"type": "string", "minLength": 1, "maxLength": 400, "pattern": "^[^\\u0000-\\u001f]*$"}
_IDENTIFIER = {
    "type": "object",
    "required": ["scheme", "value"],
    "additionalProperties": False,
    "properties": {"scheme": _TEXT, "value": {"type": "string", "pattern": "^[0-9]{9}$"}},
}
ADDRESSES = [{"lines": ["House 12, Street 900", "Village Demo 3"], "city": "Phnom Penh", "since": "2019-03-02"}] * 5
REQUEST = orjson.dumps(
    {"identifier": {"scheme": "KH-DEMO", "value": "900100013"}, "reason": "r" * 300, "known": ADDRESSES[:4]}
)
ANSWER = orjson.dumps(
    {
        "identifier": {"scheme": "KH-DEMO", "value": "900100013"},
        "name": {"native": "គំរូ ដារា", "latin": "Komru Dara"},
        "birth_date": "1988-04-17",
        "sex": "male",
        "addresses": ADDRESSES,
        "note": "n" * 160,
    }
)


def _schema(required: list[str], properties: dict[str, object]) -> Shape:
    return Shape({"type": "object", "required": required, "additionalProperties": False, "properties": properties})


def staged(url: str, jwk: dict[str, object]) -> Catalogue:
    """One agreement, everything on: scope, purpose, case, user, rate, quota, disclosure, persons in the journal."""
    addresses = {
        "type": "array",
        "maxItems": 20,
        "items": {
            "type": "object",
            "required": ["lines", "city"],
            "additionalProperties": False,
            "properties": {
                "lines": {"type": "array", "items": _TEXT},
                "city": _TEXT,
                "since": {"type": "string", "format": "date"},
            },
        },
    }
    service = Service(
        id=SERVICE,
        title="Look up a resident",
        kind=Kind.EXCHANGE,
        effect=Effect.READ,
        visibility=Visibility.MEMBERS,
        personal_data=True,
        request_subjects=(Pointer("/identifier"),),
        response_subjects=(Pointer("/identifier"),),
        max_bytes=16384,
        standard=None,
        request=_schema(["identifier"], {"identifier": _IDENTIFIER, "reason": _TEXT, "known": addresses}),
        response=_schema(
            ["identifier", "name"],
            {
                "identifier": _IDENTIFIER,
                "name": {"type": "object", "properties": {"native": _TEXT, "latin": _TEXT}},
                "birth_date": {"type": "string", "format": "date"},
                "sex": {"enum": ["male", "female", "others", "unknown"]},
                "addresses": addresses,
                "note": _TEXT,
            },
        ),
    )
    disclosed = tuple(map(Pointer, ("/identifier", "/name", "/birth_date", "/addresses")))
    grant = Grant(
        index=0,
        service=SERVICE,
        provider=PROVIDER,
        consumers=frozenset({CONSUMER}),
        purposes=frozenset({"tax_assessment"}),
        scope="population:read",
        disclose=cut_of(disclosed),
        disclosed=disclosed,
        rate=Rate(1_000_000, 1.0),
        quota=1_000_000_000,
        require=frozenset({Obligation.CASE, Obligation.USER}),
    )
    agreement = Agreement(
        AgreementId("BENCH-1"),
        "Benchmark",
        "none",
        (PROVIDER, AgencyId("finance")),
        date(2020, 1, 1),
        date(2090, 1, 1),
        (grant,),
        Standing.ACTIVE,
    )
    options = {"url": url}
    endpoint = Endpoint(
        PROVIDER, SERVICE, "http", options, 10.0, 1000, None, takes_key=False, standing=Standing.ACTIVE, maintenance=()
    )
    system = System(
        CONSUMER,
        AgencyId("finance"),
        frozenset({"population:read"}),
        (jwk,),
        frozenset({thumbprint(jwk)}),
        None,
        certificate_bound=False,
        standing=Standing.ACTIVE,
    )
    interior = _agency("interior")
    finance = _agency("finance")
    agencies = {
        PROVIDER: dataclasses.replace(interior, endpoints={SERVICE: endpoint}),
        AgencyId("finance"): dataclasses.replace(finance, systems={CONSUMER: system}),
    }
    return catalogue(
        instance="BENCH",
        zone=UTC,
        digest="0" * 64,
        services={SERVICE: service},
        agencies=agencies,
        agreements={agreement.id: agreement},
        purposes={"tax_assessment": "Tax"},
    )


def _agency(name: str) -> Agency:
    contacts = dict.fromkeys(("technical", "security", "data_protection"), f"desk@{name}.example")
    return Agency(AgencyId(name), {"en": name}, "gov", "KH", contacts, (), frozenset(), {}, {}, {}, (), Standing.ACTIVE)


class _Fixed(asyncio.Protocol):
    """An HTTP/1.1 server that costs next to nothing: one answer, whatever was asked."""

    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or b"0")
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            self.transport.write(self.head % len(ANSWER) + ANSWER)


async def provide() -> None:
    """The provider's process: prints its address, then answers."""
    server = await asyncio.get_running_loop().create_server(_Fixed, "127.0.0.1", 0)
    _told(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    await _stopped()


HOP_BY_HOP = frozenset({"connection", "content-length", "host", "keep-alive", "te", "transfer-encoding", "upgrade"})


async def proxy(url: str) -> None:
    """A bare aiohttp reverse proxy: body and headers passed on, and back; no check of anything."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
    )

    async def passed(request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        async with session.post(url, data=body, headers=headers) as answer:
            back = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            return web.Response(body=await answer.read(), status=answer.status, headers=back)

    app = web.Application()
    app.router.add_post("/{anything:.*}", passed)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    _told(f"http://127.0.0.1:{runner.addresses[0][1]}")
    await _stopped()


async def gateway(
    url: str, folder: Path, jwk: dict[str, object], database: str = "", shared: int | None = None
) -> None:
    """A gateway as ``gateway serve`` runs it, on a catalogue of values; ``shared`` is an inherited socket."""
    configure_logging("INFO")
    chosen = Settings(
        instance="BENCH",
        keys=folder,
        database=database or f"sqlite:///{folder / 'g.sqlite3'}",
        listen="127.0.0.1:0",
        operations_listen="127.0.0.1:0",
    )
    keyring = keys.read(folder, "BENCH")
    driver = PostgresDriver(database, "BENCH") if database else SqliteDriver(folder / "g.sqlite3", "BENCH")
    running = Gateway(chosen, staged(url, jwk), keyring, driver)
    sockets = None if shared is None else Sockets(socket.socket(fileno=shared), bound(chosen.operations_listen))
    async with running.running(sockets) as addresses:
        spare_garbage_collection()  # as gateway serve does
        _told(f"{addresses.public} {keyring.signing.jwt(_claims(chosen.issuer, jwk), 'at+jwt')}")
        await _stopped()


def _claims(issuer: str, jwk: dict[str, object]) -> dict[str, object]:
    now = int(datetime.now(UTC).timestamp())
    return {
        "iss": issuer,
        "aud": "BENCH",
        "sub": CONSUMER,
        "client_id": CONSUMER,
        "scope": "population:read",
        "jti": "bench",
        "iat": now,
        "exp": now + 7200,
        "client_key": thumbprint(jwk),
    }


def made_keys(folder: Path) -> None:
    """The gateway's own keys."""
    (folder / "gateway").mkdir(parents=True)
    keys.save(folder / "gateway" / "signing.jwk.json", keys.new_signing_key("BENCH"))
    keys.save(folder / "gateway" / "master.key.json", keys.new_master_key("BENCH"))


def _told(line: str) -> None:
    sys.stderr.write(f"READY {line}\n")
    sys.stderr.flush()


async def _stopped() -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()


def main(role: str, *given: str) -> None:
    """Play one role: ``provider``, ``proxy URL`` or ``gateway URL FOLDER JWK [DATABASE SOCKET]``."""
    match role:
        case "provider":
            uvloop.run(provide())
        case "proxy":
            uvloop.run(proxy(given[0]))
        case "gateway":
            url, folder, jwk, *shared = given
            of = (shared[0], int(shared[1])) if shared else ()
            uvloop.run(gateway(url, Path(folder), orjson.loads(jwk), *of))


if __name__ == "__main__":
    main(*sys.argv[1:])
