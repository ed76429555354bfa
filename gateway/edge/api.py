"""The addresses that systems call, beside the token endpoint: exchanges, catalogue, OpenAPI, the refusals' page."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import lru_cache, partial

import orjson
import structlog
from aiohttp import web

from gateway.catalogue import openapi, refusal_page
from gateway.core.identity import single
from gateway.core.model import Catalogue, SystemId
from gateway.core.refusal import Refusal
from gateway.edge import problem
from gateway.edge.body import dismiss, expect_nothing
from gateway.edge.evidence import new_id
from gateway.edge.exchange import Exchanges
from gateway.edge.identity import Identity
from gateway.edge.tally import Tally
from gateway.edge.telemetry import place

log = structlog.get_logger()

REFUSALS = "/docs/refusals"
EXCHANGE = "/v1/exchange/{agency}/{service}"

Handler = Callable[[web.Request], Awaitable[web.Response]]


def routes(
    exchanges: Exchanges, identity: Identity, catalogue: Callable[[], Catalogue], issuer: str
) -> tuple[web.RouteDef, ...]:
    """What the public listener serves; anything else is 404 or 405, as a problem document too."""
    told = partial(_refusing, tally=exchanges.tally, catalogue=catalogue, issuer=issuer)

    page = refusal_page.page()

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
        web.route("*", EXCHANGE, told(wrong_method), expect_handler=expect_nothing),
        web.get("/v1/catalogue", told(_known(openapi.listing, identity, catalogue))),
        web.get("/openapi.json", told(_known(partial(openapi.document, issuer=issuer), identity, catalogue))),
        web.get(REFUSALS, told(refusals)),
        web.route("*", "/{rest:.*}", told(unknown), expect_handler=expect_nothing),
    )


def _known(
    show: Callable[[Catalogue, SystemId], object], identity: Identity, catalogue: Callable[[], Catalogue]
) -> Handler:
    """What a system that shows its token sees of the catalogue."""

    @lru_cache(maxsize=256)
    def written(now: Catalogue, consumer: SystemId) -> bytes:
        return orjson.dumps(show(now, consumer))

    async def shown(request: web.Request) -> web.Response:
        now = catalogue()
        authorization = single(request.headers.getall("Authorization", ()), "Authorization")
        caller = await identity.caller(authorization, now, datetime.now(UTC).timestamp())
        headers = {"Cache-Control": "private, no-store"}
        return web.Response(body=written(now, caller.system), content_type="application/json", headers=headers)

    return shown


def _refusing(handler: Handler, tally: Tally, catalogue: Callable[[], Catalogue], issuer: str) -> Handler:
    """The handler, its refusals as problem documents, counted."""

    def refused(refusal: Refusal) -> web.Response:
        exchange = new_id()
        tally.refused(refusal.code)
        answer = problem.response(refusal, problem.document(refusal, exchange, catalogue(), issuer + REFUSALS))
        answer.headers["Exchange-Id"] = exchange
        return answer

    async def answered(request: web.Request) -> web.Response:
        try:
            answer = await handler(request)
        except Refusal as refusal:
            answer = refused(refusal)
        except Exception as error:  # noqa: BLE001 - whatever breaks, the caller gets a problem document
            log.error("broken", **place(error))  # noqa: TRY400 - a traceback quotes values
            answer = refused(Refusal("gateway.broken", "The gateway failed to work on the call."))
        if not request.content.is_eof():
            await dismiss(request, answer)
        return answer

    return answered
