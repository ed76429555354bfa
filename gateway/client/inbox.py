"""The mailbox of a system that receives documents: leased, handled, answered."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from gateway.client import refusals
from gateway.client.line import Line, encoded, named
from gateway.client.wire import GatewayError, Request

Say = Callable[[str, Mapping[str, str | None]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Received:
    """A document, an event or a receipt from the mailbox. What you have under its ``id`` already, do not take twice."""

    id: str
    kind: str
    """``document``, ``event`` or ``receipt``."""
    service: str
    body: Any = field(repr=False)
    envelope: Mapping[str, Any] = field(repr=False)
    """Everything that is said beside the body (docs/documents.md)."""
    _say: Say = field(repr=False, compare=False)

    async def retrieved(self) -> dict[str, Any]:
        """It is in your system."""
        return await self._say(self.id, {"outcome": "retrieved"})

    async def registered(self, number: str) -> dict[str, Any]:
        """It has a register number."""
        return await self._say(self.id, {"outcome": "registered", "number": number})

    async def rejected(self, reason: str, text: str | None = None) -> dict[str, Any]:
        """It is not taken: a code such as ``wrongly_addressed``, and words for the sender."""
        return await self._say(self.id, {"outcome": "rejected", "reason": reason, "text": text})

    async def forwarded(self, unit: str, text: str | None = None) -> dict[str, Any]:
        """Another unit of the same agency is to have it."""
        return await self._say(self.id, {"outcome": "forwarded", "unit": unit, "text": text})


class Receiving:
    """What a system that receives documents can do."""

    _line: Line

    async def inbox(
        self, *, unit: str | None = None, most: int = 10, wait: int = 20, forever: bool = True
    ) -> AsyncIterator[Received]:
        """What comes, as it comes; without ``forever`` until nothing came within ``wait`` seconds.

        What you have in hand stays leased to you, and its lane waits, until you ask for the next. What you say nothing
        about comes again when the lease has run out: a minute later at most.
        """
        given = {"max": str(most), "wait": str(wait), "unit": unit}
        query = urlencode({name: value for name, value in given.items() if value is not None})
        while True:
            reply = await self._line.call(Request("GET", f"/v1/inbox?{query}"), None, 30.0 + wait)
            came = refusals.listed(reply, self._line.wire.url, "documents", id=str, kind=str)
            told = refusals.document(reply)
            lease, seconds = refusals.text(told, "lease"), told.get("seconds")
            async with self._renewed(lease, max(1.0, seconds) if isinstance(seconds, int | float) else 60.0):
                for each in came:
                    yield self._received(each, lease)
            if not came and not forever:
                return

    async def answer(self, document: str, outcome: str, *, timeout: float = 30.0, **said: str | None) -> dict[str, Any]:  # noqa: ASYNC109 - as in exchange
        """Say an outcome of a document that came by whatever way: ``number=``, ``reason=``, ``text=``, ``unit=``.

        Raises Conflict where its life has ended otherwise, or somebody else has the lease.
        """
        return await self._say(document, {"outcome": outcome, **said}, timeout)

    def _received(self, told: Mapping[str, Any], lease: str | None) -> Received:
        async def say(document: str, said: Mapping[str, str | None]) -> dict[str, Any]:
            return await self._say(document, {**said, "lease": lease}, 30.0)

        envelope = {name: value for name, value in told.items() if name != "body"}
        service, body = refusals.text(told, "service") or "", told.get("body")
        return Received(id=told["id"], kind=told["kind"], service=service, body=body, envelope=envelope, _say=say)

    async def _say(self, document_id: str, said: Mapping[str, str | None], seconds: float) -> dict[str, Any]:
        body = encoded({name: value for name, value in said.items() if value is not None})
        request = Request(
            "POST", f"/v1/inbox/{named('document', document_id)}", {"Content-Type": "application/json"}, body
        )
        reply = await self._line.call(request, None, seconds)
        return refusals.told(reply, self._line.wire.url, document=str, state=str)

    @asynccontextmanager
    async def _renewed(self, lease: str | None, seconds: float) -> AsyncIterator[None]:
        """The lease is renewed as long as the context lasts."""
        if lease is None:
            yield
            return
        renewing = asyncio.create_task(self._renew(lease, seconds / 3))
        try:
            yield
        finally:
            renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing

    async def _renew(self, lease: str, every: float) -> None:
        body = encoded({"lease": lease})
        while True:
            await self._line.pace.sleep(every)
            # Where it fails, the lease runs out, and the outcome says so.
            with contextlib.suppress(GatewayError):
                request = Request("POST", "/v1/inbox/lease", {"Content-Type": "application/json"}, body)
                await self._line.call(request, None, every)
