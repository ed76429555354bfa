"""The addresses that systems call, beside the token endpoint: exchanges, catalogue, OpenAPI, the refusals' page."""

import html
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import lru_cache

import orjson
from aiohttp import web

from gateway.catalogue import openapi
from gateway.core.identity import single
from gateway.core.model import Catalogue, SystemId
from gateway.core.refusal import TABLE, Refusal
from gateway.edge import problem
from gateway.edge.body import dismiss, expect_nothing
from gateway.edge.evidence import new_id
from gateway.edge.exchange import Exchanges
from gateway.edge.identity import Identity

REFUSALS = "/docs/refusals"
EXCHANGE = "/v1/exchange/{agency}/{service}"

Handler = Callable[[web.Request], Awaitable[web.Response]]


def routes(
    exchanges: Exchanges, identity: Identity, catalogue: Callable[[], Catalogue], issuer: str
) -> tuple[web.RouteDef, ...]:
    """What the public listener serves; anything else is 404 or 405, as a problem document too."""

    @lru_cache(maxsize=256)
    def listing(now: Catalogue, consumer: SystemId) -> bytes:
        return orjson.dumps(openapi.listing(now, consumer))

    @lru_cache(maxsize=256)
    def described(now: Catalogue, consumer: SystemId) -> bytes:
        return orjson.dumps(openapi.document(now, consumer, issuer))

    def known(show: Callable[[Catalogue, SystemId], bytes]) -> Handler:
        async def shown(request: web.Request) -> web.Response:
            now = catalogue()
            authorization = single(request.headers.getall("Authorization", ()), "Authorization")
            caller = await identity.caller(authorization, None, now, datetime.now(UTC).timestamp())
            headers = {"Cache-Control": "private, no-store"}
            return web.Response(body=show(now, caller.system), content_type="application/json", headers=headers)

        return _refusing(shown, exchanges, catalogue, issuer)

    page = _page()

    async def refusals(_: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    async def unknown(request: web.Request) -> web.Response:
        raise Refusal(
            "catalogue.unknown",
            f"There is nothing to {request.method} here; see /openapi.json, /v1/catalogue and /docs/refusals.",
        )

    async def wrong_method(request: web.Request) -> web.Response:
        raise Refusal("request.method", f"Exchanges are called with POST, not {request.method}.")

    return (
        web.post(EXCHANGE, exchanges.answer, expect_handler=expect_nothing),
        web.route("*", EXCHANGE, _refusing(wrong_method, exchanges, catalogue, issuer), expect_handler=expect_nothing),
        web.get("/v1/catalogue", known(listing)),
        web.get("/openapi.json", known(described)),
        web.get(REFUSALS, _refusing(refusals, exchanges, catalogue, issuer)),
        web.route("*", "/{rest:.*}", _refusing(unknown, exchanges, catalogue, issuer), expect_handler=expect_nothing),
    )


def _refusing(handler: Handler, exchanges: Exchanges, catalogue: Callable[[], Catalogue], issuer: str) -> Handler:
    """The handler, its refusals as problem documents, counted."""

    async def answered(request: web.Request) -> web.Response:
        try:
            answer = await handler(request)
        except Refusal as refusal:
            exchange = new_id()
            exchanges.count_refusal(refusal.code)
            answer = problem.response(refusal, problem.document(refusal, exchange, catalogue(), issuer + REFUSALS))
            answer.headers["Exchange-Id"] = exchange
        if not request.content.is_eof():
            await dismiss(request, answer)
        return answer

    return answered


def _page() -> str:
    """The page that every problem's ``type`` leads to."""
    rows = "".join(
        f'<section id="{code}"><h2>{code}</h2><p><strong>{kind.status}</strong> {html.escape(kind.title)}.</p>'
        f"<p>{html.escape(kind.remedy)}</p></section>"
        for code, kind in sorted(TABLE.items(), key=lambda row: (row[1].status, row[0]))
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<title>Refusals and faults</title><style>body{font:1rem/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem "
        "auto;padding:0 1rem}h2{font:600 1.1rem ui-monospace,monospace;overflow-wrap:anywhere}section{border-top:1px "
        "solid #ccc}section:target{background:#fff6d6}</style><h1>Refusals and faults</h1><p>Every answer that is no "
        f"success carries one of these codes.</p>{rows}</html>"
    )
