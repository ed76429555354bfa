"""A town around a running gateway whose agencies write letters to each other."""

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import orjson

from gateway.core.model import Catalogue, SystemId
from gateway.settings import Settings
from tests.fakes import idp
from tests.fakes.correspondents import DESK, IDPS, LETTER, POLITE, PURPOSE, TEXT, WRITERS, Letters, catalogue_of
from tests.fakes.parties import ISSUER
from tests.fakes.town import Office, Reply, Town, Watched, driver_of, until
from tests.fakes.valve import Valve


class PostTown(Town):
    """Everything that a test of documents may touch."""

    @asynccontextmanager
    async def serving(self, letters: Letters = POLITE, **settings: Any) -> AsyncIterator[None]:
        """The gateway up, on this town's database."""
        chosen = Settings(
            issuer=ISSUER,
            database=self.url,
            listen="127.0.0.1:0",
            operations_listen="127.0.0.1:0",
            **{"shutdown_seconds": 0.02, "attachments": str(self.folder / "files"), **settings},
        )
        self.valve = Valve(driver_of(self.url, chosen.instance))
        self.gateway = self.made(chosen, self.declared(letters))
        async with self.gateway.running() as self.at:
            yield

    def made(self, chosen: Settings, catalogue: Catalogue) -> Watched:
        """The gateway, before it is up."""
        return Watched(chosen, catalogue, self._keyring, self.valve)

    def declared(self, letters: Letters) -> Catalogue:
        """The catalogue under these terms; each has a digest of its own."""
        return replace(catalogue_of(self.keys, letters), digest=uuid4().hex * 2)

    def changed(self, letters: Letters) -> None:
        """Another catalogue from now on."""
        self.gateway._loaded = self.gateway._catalogue = self.declared(letters)

    def beside(self) -> "PostTown":
        """Another node with the same keys and database, which is not up yet."""
        return PostTown(self.folder, self.office, self._keyring, self.keys, self._session, url=self.url)

    def says(self, agency: str, **claims: Any) -> str:
        """An assertion of the agency's own issuer about a person: ``sub``, ``post``."""
        issuer = IDPS[agency]
        said = idp.person_claims(**{"iss": issuer, "exp": time.time() + 600, **claims})
        return self.keys[issuer].sign(said)

    async def send(
        self,
        body: Any = TEXT,
        to: str = "/documents/interior",
        service: str = LETTER,
        system: str | None = DESK,
        **headers: str | None,
    ) -> Reply:
        """Submit; the reference is a fresh one where ``idempotency_key`` is not given."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        usual = {"content_type": "application/json", "exchange_purpose": PURPOSE, "idempotency_key": uuid4().hex}
        given = {name: value for name, value in {**usual, **headers}.items() if value is not None}
        return await self.say("POST", f"{to}/{service}", system, raw, **given)

    async def upload(self, raw: bytes, system: str = DESK) -> str:
        """The id of a text that a system brought."""
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(raw).digest()).decode()}:"
        reply = await self.say("POST", "/attachments", system, raw, content_type="text/plain", content_digest=digest)
        assert reply.status == 201, reply.body
        return str(reply.body["attachment"])

    async def say(
        self, method: str, path: str, system: str | None = DESK, body: Any = b"", **headers: str | None
    ) -> Reply:
        """Any call of a system to ``/v1`` and the path; bytes go as they are."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        given = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        if system is not None and "authorization" not in given:
            given["authorization"] = f"Bearer {await self.token(system)}"
        if not isinstance(body, bytes):
            given.setdefault("content-type", "application/json")
        return await self.ask(method, f"/v1{path}", given, raw)


async def slowly(
    town: PostTown, path: str, system: str, body: Any, meanwhile: Callable[[], None], **headers: str
) -> tuple[int, Any]:
    """A call whose body stops half way until the gateway waits for the rest of it and ``meanwhile`` is done."""
    raw, going = orjson.dumps(body), asyncio.Event()

    async def parts() -> AsyncIterator[bytes]:
        yield raw[:5]
        await going.wait()
        yield raw[5:]

    token = await town.token(system)
    given = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}

    async def called() -> tuple[int, Any]:
        async with town._session.post(f"{town.at.public}/v1{path}", data=parts(), headers=given) as answer:
            return answer.status, orjson.loads(await answer.read())

    call = asyncio.create_task(called())
    shares = town.gateway.exchanges.front.shares
    await until(lambda: shares[SystemId(system)] > 0)
    meanwhile()
    going.set()
    return await call


def claims_of(receipt: str) -> Mapping[str, Any]:
    """What a receipt says; its signature is not looked at."""
    text = receipt.split(".")[1]
    claims: Mapping[str, Any] = orjson.loads(idp.unb64(text))
    return claims


@asynccontextmanager
async def founded(folder: Path, url: str | None = None) -> AsyncIterator[PostTown]:
    """A town whose gateway is not up yet; without the URL of a database it has a file of its own."""
    keys = {name: idp.key() for name in WRITERS}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield PostTown(folder, Office(), idp.keyring(folder / "keys"), keys, session, url=url)


@asynccontextmanager
async def opened(
    folder: Path, letters: Letters = POLITE, *, url: str | None = None, **settings: Any
) -> AsyncIterator[PostTown]:
    """A town with its gateway up."""
    async with founded(folder, url) as town, town.serving(letters, **settings):
        yield town
