"""The pretend systems of local governments and of their platform: pushed to, and one of them down for a while."""

import base64
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from aiohttp import web

from deploy.demo.hooks import Receiver

KEYS = Path(__file__).with_name("keys")
HOOKED = ("saensuk", "sanan_rak")
"""They check v1a signatures, by the key that the gateway publishes."""
SHARED_SECRET = ("sila", "nikhom_phatthana", "digital_local")
"""They check v1 signatures, by a secret of their own."""
ELSEWHERE = "saensuk"
"""Its web service has been there before, and takes webhooks too (ministries.py)."""
POSTED = ("ban_phru", "bang_saray", "nuea_khlong")
"""They take documents at a plain HTTP address."""
SYSTEMS = (*HOOKED, *SHARED_SECRET, *POSTED, "pa_sakae")
"""All that have one."""
NUMBERED = "nuea_khlong"
"""Its operations centre gives a number to what it takes."""
DOWN = "pa_sakae"
"""Its system refuses connections until ``come_back``."""


class TownHalls:
    """What reached them; the story and the tests read it."""

    def __init__(self, gateway: str | None = None) -> None:
        """``gateway`` is the address whose published keys they trust."""
        self.receivers = {name: Receiver(gateway) for name in (*HOOKED, DOWN)}
        self.receivers |= {name: Receiver(gateway, _secret(name)) for name in SHARED_SECRET}
        self.posted: dict[str, OrderedDict[str, Any]] = {name: OrderedDict() for name in POSTED}
        """What came by plain HTTP, by document."""
        self._stack: AsyncExitStack | None = None
        self._down: socket.socket | None = None

    def took(self, name: str) -> list[str]:
        """The ids of what one of them has, each once."""
        if name in self.receivers:
            return list(self.receivers[name].taken)
        return list(self.posted[name])

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Mapping[str, str]]:
        """Yields their addresses under the names that the manifests use. At PA_SAKAE_URL nothing listens yet."""
        async with AsyncExitStack() as stack:
            self._stack = stack
            port = await self._listen(self._app(), _bound())
            # Bound and not listening: connections are refused, and no other program can take the port meanwhile.
            self._down = stack.enter_context(_bound())
            names = [name for name in (*self.receivers, *POSTED) if name not in (DOWN, ELSEWHERE)]
            yield {
                **{f"{name.upper()}_URL": f"http://127.0.0.1:{port}/{name}" for name in names},
                f"{DOWN.upper()}_URL": f"http://127.0.0.1:{self._down.getsockname()[1]}",
            }

    async def come_back(self) -> None:
        """The system that was down listens from now on."""
        if self._down is None:
            raise RuntimeError("the town halls are not served")
        app = web.Application()
        app.router.add_post("/hook", self.receivers[DOWN].hook)
        await self._listen(app, self._down)

    async def _listen(self, app: web.Application, there: socket.socket) -> int:
        if self._stack is None:
            raise RuntimeError("the town halls are not served")
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        self._stack.push_async_callback(runner.cleanup)
        await runner.setup()
        await web.SockSite(runner, there).start()
        return int(there.getsockname()[1])

    def _app(self) -> web.Application:
        app = web.Application()
        for name, receiver in self.receivers.items():
            if name not in (DOWN, ELSEWHERE):
                app.router.add_post(f"/{name}/hook", receiver.hook)
        app.router.add_post("/{town}/alerts", self._take)
        return app

    async def _take(self, request: web.Request) -> web.Response:
        """A document as it is; what belongs to it stands in headers."""
        taken = self.posted.get(request.match_info["town"])
        if taken is None:
            raise web.HTTPNotFound
        raw = await request.read()
        digest = f"sha-256=:{base64.b64encode(sha256(raw).digest()).decode()}:"
        if request.headers.get("Content-Digest") != digest:
            raise web.HTTPBadRequest
        taken.setdefault(request.headers["Exchange-Id"], await request.json())
        if request.match_info["town"] != NUMBERED:
            return web.Response(status=204)
        place = list(taken).index(request.headers["Exchange-Id"]) + 1
        return web.json_response({"logbook": {"number": f"NK-2569/{place}"}})


def _secret(name: str) -> str:
    return (KEYS / "secrets" / f"{name}.webhook").read_text(encoding="utf-8")


def _bound() -> socket.socket:
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    return held
