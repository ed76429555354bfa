"""``GET /schemas/…``: the schema of what is said, at the address that a CloudEvent's ``dataschema`` names."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from gateway.catalogue import disclosure
from gateway.core.model import Catalogue, SystemId
from gateway.edge.texts import Texts, tag, unchanged

FRESH_SECONDS = 300
"""For which whoever fetched a schema may use it without asking again."""

Asker = Callable[[web.Request, Catalogue], Awaitable[SystemId]]
"""Who calls; raises Refusal."""


def schemas(
    who: Asker, catalogue: Callable[[], Catalogue], issuer: str
) -> tuple[tuple[str, Callable[[web.Request], Awaitable[web.Response]]], ...]:
    """The addresses, and what answers there to a system that shows its token."""

    def show(now: Catalogue, consumer: SystemId, service: str, part: str) -> dict[str, Any]:
        seen = disclosure.schema(now, consumer, service, part)
        return disclosure.identified(seen, issuer + disclosure.address(service, part))

    texts = Texts(show)
    receipts = Texts(lambda _: disclosure.identified(disclosure.RECEIPT_SCHEMA, issuer + disclosure.RECEIPT))

    async def of_service(request: web.Request) -> web.Response:
        now = catalogue()
        consumer = await who(request, now)
        return _answered(request, texts.of(now, consumer, request.match_info["service"], request.match_info["part"]))

    async def of_receipts(request: web.Request) -> web.Response:
        now = catalogue()
        await who(request, now)
        return _answered(request, receipts.of(now))

    return (disclosure.RECEIPT, of_receipts), (disclosure.address("{service}", "{part}"), of_service)


def _answered(request: web.Request, text: bytes) -> web.Response:
    """Others may see less of it at the same address: it is the caller's own."""
    found = tag(text)
    headers = {"ETag": found, "Cache-Control": f"private, max-age={FRESH_SECONDS}", "Vary": "Authorization"}
    if unchanged(found, request.headers.get("If-None-Match")):
        return web.Response(status=web.HTTPNotModified.status_code, headers=headers)
    return web.Response(body=text, content_type="application/schema+json", headers=headers)
