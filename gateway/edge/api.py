"""The addresses that systems call, beside the token endpoint: exchanges, the catalogue and its forms, refusals."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

import structlog
from aiohttp import web

from gateway.catalogue import asyncapi, openapi, refusal_page
from gateway.core.exchange import trace
from gateway.core.identity import single
from gateway.core.model import Catalogue, SystemId
from gateway.core.refusal import Refusal
from gateway.edge import problem
from gateway.edge.body import dismiss, expect_nothing
from gateway.edge.evidence import new_id
from gateway.edge.exchange import ADDRESS, Exchanges
from gateway.edge.identity import Identity
from gateway.edge.peer import Peers
from gateway.edge.schemas import Asker, schemas
from gateway.edge.strangers import Strangers
from gateway.edge.tally import Tally
from gateway.edge.telemetry import place
from gateway.edge.texts import Texts

log = structlog.get_logger()

REFUSALS = "/docs/refusals"

Handler = Callable[[web.Request], Awaitable[web.Response]]


def routes(
    exchanges: Exchanges, identity: Identity, peers: Peers, catalogue: Callable[[], Catalogue], issuer: str
) -> tuple[web.RouteDef, ...]:
    """What the public listener serves; anything else is 404 or 405, as a problem document too."""
    refused = refusing(exchanges.tally, catalogue, issuer)

    def told(handler: Handler) -> Handler:
        return _refusing(handler, refused, exchanges.strangers, peers)

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

    who = _asker(identity, peers)
    described = (
        ("/v1/catalogue", _known(openapi.listing, who, catalogue)),
        ("/openapi.json", _known(partial(openapi.document, issuer=issuer), who, catalogue)),
        ("/asyncapi.json", _known(partial(asyncapi.document, issuer=issuer), who, catalogue)),
        *schemas(who, catalogue, issuer),
    )
    return (
        web.post(ADDRESS, exchanges.answer, expect_handler=expect_nothing),
        web.route("*", ADDRESS, told(wrong_method), expect_handler=expect_nothing),
        *(web.get(path, told(handler), expect_handler=expect_nothing) for path, handler in described),
        web.get(REFUSALS, told(refusals), expect_handler=expect_nothing),
        web.route("*", "/{rest:.*}", told(unknown), expect_handler=expect_nothing),
    )


def _asker(identity: Identity, peers: Peers) -> Asker:
    """Which system shows its token."""

    async def asked(request: web.Request, now: Catalogue) -> SystemId:
        authorization = single(request.headers.getall("Authorization", ()), "Authorization")
        certificate = peers.of(request).certificate
        return (await identity.caller(authorization, certificate, now, datetime.now(UTC).timestamp())).system

    return asked


def _known(show: Callable[[Catalogue, SystemId], object], who: Asker, catalogue: Callable[[], Catalogue]) -> Handler:
    """What a system that shows its token sees of the catalogue."""
    texts = Texts(show)

    async def shown(request: web.Request) -> web.Response:
        now = catalogue()
        headers = {"Cache-Control": "private, no-store"}
        text = texts.of(now, await who(request, now))
        return web.Response(body=text, content_type="application/json", headers=headers)

    return shown


def refusing(tally: Tally, catalogue: Callable[[], Catalogue], issuer: str) -> Callable[..., web.Response]:
    """Makes the answer to what is refused before or beside exchanges; it is counted."""

    def refused(refusal: Refusal, exchange: str = "", trace: str = "") -> web.Response:
        exchange = exchange or new_id()
        trace = trace or exchange.replace("-", "")
        tally.refused(refusal.code)
        answer = problem.response(refusal, problem.document(refusal, exchange, trace, catalogue(), issuer + REFUSALS))
        answer.headers["Exchange-Id"] = exchange
        return answer

    return refused


def _refusing(handler: Handler, refused: Callable[..., web.Response], strangers: Strangers, peers: Peers) -> Handler:
    """The handler, its refusals as problem documents, counted."""

    async def answered(request: web.Request) -> web.Response:
        try:
            answer = await handler(request)
        except Refusal as refusal:
            answer = refused(refusal, **_ids(request))
            if answer.status == web.HTTPUnauthorized.status_code:
                await strangers.hold(peers.of(request).address)
        except Exception as error:  # noqa: BLE001 - whatever breaks, the caller gets a problem document
            ids = _ids(request)
            log.error("broken", **ids, **place(error))  # noqa: TRY400 - a traceback quotes values
            answer = refused(Refusal("gateway.broken", "The gateway failed to work on the call."), **ids)
        if not request.content.is_eof():
            await dismiss(request, answer)
        return answer

    return answered


def _ids(request: web.Request) -> dict[str, str]:
    """What is said of a request that is no exchange, and is refused."""
    exchange = new_id()
    return {"exchange": exchange, "trace": trace(request.headers.get("traceparent")) or exchange.replace("-", "")}
