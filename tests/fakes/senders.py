"""A system that sends documents, and sends each again with its reference until it is answered."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.fakes.district import LETTER, PURPOSE
from tests.fakes.serving import pause

BEAT = 0.005
"""Seconds between two documents of a case."""
PATIENCE = 30.0
"""Seconds for an answer."""
AGAIN = 3.0
"""Seconds after which a document that was not answered is sent again."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, or None where none came."""

    status: int | None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def code(self) -> str | None:
        """Of a refusal."""
        return self.body.get("code") if isinstance(self.body, dict) else None


@dataclass(slots=True)
class Desk:
    """What it sent, and what it was told."""

    session: aiohttp.ClientSession
    where: Callable[[], str]
    """The address of a gateway, asked for each call."""
    token: str
    receipts: defaultdict[tuple[str, str], set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    """Document and receipt, by recipient and reference: one, however often it was sent."""
    told: Counter[str] = field(default_factory=Counter)
    """Statuses and codes."""
    at: dict[str, float] = field(default_factory=dict)
    """When the 202 of each document came."""
    beat: float = BEAT

    async def call(self, method: str, path: str, body: Any = None, *, url: str | None = None, **headers: str) -> Reply:
        """One call; ``exchange_case`` is the header Exchange-Case."""
        return await self._call(method, f"{url or self.where()}{path}", body, headers)

    async def _call(
        self, method: str, address: str, body: Any, headers: Mapping[str, str], seconds: float = PATIENCE
    ) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        said = {"Authorization": f"Bearer {self.token}", **named}
        limit = aiohttp.ClientTimeout(seconds)
        try:
            async with self.session.request(method, address, json=body, headers=said, timeout=limit) as answer:
                return Reply(answer.status, await answer.json(content_type=None), answer.headers.copy())
        except (aiohttp.ClientError, ConnectionError, TimeoutError, ValueError):
            return Reply(None)

    async def submit(
        self, to: str, reference: str, body: Any, service: str = LETTER, *, url: str | None = None, **more: str
    ) -> Reply:
        """Once, wherever."""
        path = f"/v1/documents/{to}/{service}" if to else f"/v1/documents/{service}"
        key = {"Idempotency_Key": f'"{reference}"', "Exchange_Purpose": PURPOSE}
        reply = await self._call("POST", f"{url or self.where()}{path}", body, {**key, **more}, AGAIN)
        self.told[str(reply.code or reply.status)] += 1
        if reply.status == 202:
            self.receipts[to, reference].add((reply.body["document"], reply.body["receipt"]))
            self.at.setdefault(reply.body["document"], time.perf_counter())
        return reply

    async def send(self, to: str, reference: str, body: Any, service: str = LETTER, **more: Any) -> str:
        """Again and again, until it is answered; the document's id."""
        while True:
            reply = await self.submit(to, reference, body, service, **more)
            if reply.status == 202:
                return str(reply.body["document"])
            assert reply.status in (None, 409, 503), reply
            await pause(0.05)

    async def write(self, to: str, case: str, enough: asyncio.Event, headers: Mapping[str, str]) -> int:
        """The files of a case, one after the other, until it is enough; how many."""
        n = 0
        while not enough.is_set():
            await self.send(to, f"{case}-{n}", {"case": case, "n": n, "text": "x" * 200}, **headers)
            n += 1
            await pause(self.beat)
        return n

    @property
    def acknowledged(self) -> dict[tuple[str, str], str]:
        """The id of each reference that was answered 202."""
        return {reference: next(iter(told))[0] for reference, told in self.receipts.items()}
