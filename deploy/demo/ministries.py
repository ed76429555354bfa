"""The pretend ministries: real HTTP systems on the loopback interface, with synthetic people.

The register of the Ministry of Interior can be made to misbehave: six identifiers of nobody stand for what a real
system does on a bad day. They work in every request that names a person.

=============  =========  ====================================================================
name           value      what the register does
=============  =========  ====================================================================
SLOW           999900015  answers after half a minute, long after every deadline
NONSENSE       999900028  answers 200 with a page for people instead of a record
WRONG          999900031  answers 200 with a record that lacks what the schema requires, and
                          with a note of the register's own that nobody outside may see
UNAVAILABLE    999900044  answers 503 and asks to come back in two seconds
CUT_OFF        999900057  hangs up in the middle
REFUSED        999900060  answers 400
=============  =========  ====================================================================
"""

import asyncio
import hmac
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from deploy.demo.people import identified, identifier
from deploy.demo.register import Outcome, Register
from deploy.demo.townhalls import SYSTEMS, TownHalls

SLOW = identifier(99990001)
NONSENSE = identifier(99990002)
WRONG = identifier(99990003)
UNAVAILABLE = identifier(99990004)
CUT_OFF = identifier(99990005)
REFUSED = identifier(99990006)

NOTE = "Internal note of the register: clerk 4711 suspects a forged certificate"
"""What the WRONG answer carries and no consumer may ever see."""

KEYS = Path(__file__).with_name("keys")
VARIABLES = ("INTERIOR_URL", "LAMPANG_URL", *(f"{name.upper()}_URL" for name in SYSTEMS))
"""The environment variables that the adapters' manifests use."""
KAFKA = {"KAFKA_BOOTSTRAP": "127.0.0.1:9092"}
"""The one that kafka.yaml uses. Nothing need listen there unless the story hands over by Kafka."""

_SUBDIVISION = "TH-20"
_OFFICES: tuple[dict[str, Any], ...] = (
    {
        "code": "front_desk",
        "title": {"en": "One-stop service", "th": "ศูนย์บริการเบ็ดเสร็จ"},
        "address": {"lines": ["1 Demo Road"], "locality": "Saensuk", "subdivision": _SUBDIVISION, "country": "TH"},
        "opens": "08:30",
        "closes": "16:30",
    },
    {
        "code": "permits",
        "title": {"en": "Permits and licences", "th": "งานใบอนุญาต"},
        "address": {"lines": ["1 Demo Road", "Floor 2"], "locality": "Saensuk", "country": "TH"},
        "opens": "08:30",
        "closes": "15:30",
    },
)


@asynccontextmanager
async def ministries(
    register: Register | None = None, halls: TownHalls | None = None
) -> AsyncIterator[Mapping[str, str]]:
    """Start them, and yield their addresses under the names that the adapters' manifests use.

    Pass a Register and TownHalls to read afterwards what arrived there. At LAMPANG_URL nothing listens.
    """
    halls = halls or TownHalls()
    async with AsyncExitStack() as stack:
        interior = await stack.enter_async_context(_served(interior_app(register)))
        towns = await stack.enter_async_context(halls.serving())
        saensuk = await stack.enter_async_context(_served(saensuk_app(halls)))
        # Bound and never listening: connections are refused, and no other program can take the port meanwhile.
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))
        yield {
            **towns,
            **KAFKA,
            "INTERIOR_URL": interior,
            "SAENSUK_URL": saensuk,
            "LAMPANG_URL": f"http://127.0.0.1:{closed.getsockname()[1]}",
        }


@asynccontextmanager
async def _served(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def interior_app(register: Register | None = None) -> web.Application:
    """The population register of the Ministry of Interior."""
    return _Interior(register or Register(), (KEYS / "secrets" / "interior.register").read_text().strip()).app()


class _Interior:
    def __init__(self, register: Register, key: str) -> None:
        self.register = register
        self.key = key

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024)
        app.router.add_post("/persons/lookup", self.look_up)
        app.router.add_post("/persons/reach", self.reach)
        app.router.add_post("/registers/{scheme}/address-changes", self.change_address)
        app.router.add_post("/corrections", self.correct)
        return app

    async def look_up(self, request: web.Request) -> web.StreamResponse:
        number = (await self._admitted(request, "look_up"))["identifier"]["value"]
        return await _misbehaved(number, request) or _answer(self.register.look_up(number))

    async def reach(self, request: web.Request) -> web.StreamResponse:
        number = (await self._admitted(request, "reach"))["identifier"]["value"]
        return await _misbehaved(number, request) or _answer(self.register.reach(number))

    async def change_address(self, request: web.Request) -> web.StreamResponse:
        """The oldest part of the register: it has its own names for everything, which the adapter's manifest maps."""
        asked = await self._admitted(request, "change_address")
        misbehaved = await _misbehaved(asked["person_no"], request)
        if misbehaved is not None:
            return misbehaved
        if request.match_info["scheme"] != identified("")["scheme"]:
            return _answer(Outcome(404, {"error": "no such register"}))
        key = request.headers.get("Idempotency-Key")
        return _answer(
            self.register.change_address(key, asked["person_no"], asked["expected_version"], asked["new_address"])
        )

    async def correct(self, request: web.Request) -> web.StreamResponse:
        """A correction that was approved; the gateway's id is the key, so that a repeated one has one effect."""
        asked = await self._admitted(request, "correct")
        return _answer(self.register.correct(request.headers.get("Idempotency-Key"), asked))

    async def _admitted(self, request: web.Request, what: str) -> Any:
        self.register.calls[what] += 1
        if not hmac.compare_digest(request.headers.get("X-Api-Key", "").encode(), self.key.encode()):
            raise web.HTTPUnauthorized
        return await request.json()


async def _misbehaved(number: str, request: web.Request) -> web.StreamResponse | None:
    """What the register answers for an identifier of the table above; None for everybody else."""
    if number == SLOW:
        await asyncio.sleep(30)
    if number == CUT_OFF and request.transport is not None:
        request.transport.abort()
    bad_day = _BAD_DAYS.get(number)
    return bad_day() if bad_day else None


_BAD_DAYS: Mapping[str, Callable[[], web.Response]] = {
    SLOW: lambda: web.json_response({"error": "too late"}, status=500),
    CUT_OFF: web.Response,
    WRONG: lambda: web.json_response({"identifier": identified(WRONG), "sex": "M", "note": NOTE}),
    NONSENSE: lambda: web.Response(text="<h1>Welcome to the register</h1>", content_type="text/html"),
    UNAVAILABLE: lambda: web.json_response({"error": "closed"}, status=503, headers={"Retry-After": "2"}),
    REFUSED: lambda: web.json_response({"error": "bad request"}, status=400),
}


def _answer(outcome: Outcome) -> web.Response:
    return web.json_response(outcome.body, status=outcome.status)


def saensuk_app(halls: TownHalls) -> web.Application:
    """The municipality's public web service, which takes GET and no body, and its receiver of webhooks."""
    app = web.Application()
    app.router.add_post("/hook", halls.receivers["saensuk"].hook)
    app.router.add_get("/subdivisions/{subdivision}/offices", _offices)
    return app


async def _offices(request: web.Request) -> web.Response:
    here = request.match_info["subdivision"] == _SUBDIVISION
    return web.json_response({"as_of": "2026-11-02", "offices": list(_OFFICES) if here else []})
