"""The pretend systems of the three agencies that read Kafka: behind their agents, and called by nobody else."""

import json
import shutil
import socket
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web


class Offices:
    """What reached them; the story and the tests read it."""

    def __init__(self, files: Path) -> None:
        self.files = files
        """Where the Fund's adapter files what it takes (adapters/social_security/adapter.py)."""
        self.letters: OrderedDict[str, Any] = OrderedDict()
        """What the finance ministry's registry has, by document."""
        self.deaths: dict[str, OrderedDict[str, Any]] = {"finance": OrderedDict(), "justice": OrderedDict()}
        self.handed: Counter[str] = Counter()
        """How often each document came, at all of them."""
        self._stack: AsyncExitStack | None = None
        self._down: socket.socket | None = None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Mapping[str, str]]:
        """Yields where they are, under the names that the agents' manifests use. At FINANCE_URL nothing listens yet."""
        async with AsyncExitStack() as stack:
            self._stack = stack
            shutil.rmtree(self.files, ignore_errors=True)  # of an earlier story
            self.files.mkdir(parents=True)
            courts = await self._listen("justice", _bound())
            # Bound and not listening: connections are refused, and no other program can take the port meanwhile.
            self._down = stack.enter_context(_bound())
            yield {
                "JUSTICE_URL": f"http://127.0.0.1:{courts}",
                "FINANCE_URL": f"http://127.0.0.1:{self._down.getsockname()[1]}",
                "SOCIAL_SECURITY_FILES": str(self.files),
            }

    async def come_back(self) -> None:
        """The finance ministry's systems listen from now on."""
        if self._down is None:
            raise RuntimeError("the offices are not served")
        await self._listen("finance", self._down)

    def filed(self) -> dict[str, dict[str, Any]]:
        """What the Fund has, by document."""
        return {path.stem: json.loads(path.read_bytes()) for path in self.files.glob("*.json")}

    async def _listen(self, agency: str, there: socket.socket) -> int:
        if self._stack is None:
            raise RuntimeError("the offices are not served")
        app = web.Application()
        app.router.add_post("/letters", self._letter)
        app.router.add_post("/deaths", lambda request: self._death(agency, request))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        self._stack.push_async_callback(runner.cleanup)
        await runner.setup()
        await web.SockSite(runner, there).start()
        return int(there.getsockname()[1])

    async def _letter(self, request: web.Request) -> web.Response:
        """The registry numbers what it has not seen before; the same id has the same number."""
        document = request.headers["Exchange-Id"]
        self.handed[document] += 1
        self.letters.setdefault(document, await request.json())
        return web.json_response({"register": {"number": f"MEF-2026/{list(self.letters).index(document) + 1}"}})

    async def _death(self, agency: str, request: web.Request) -> web.Response:
        document = request.headers["Exchange-Id"]
        self.handed[document] += 1
        self.deaths[agency].setdefault(document, await request.json())
        return web.Response(status=204)


def _bound() -> socket.socket:
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    return held
