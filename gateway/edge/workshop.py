"""Where endpoints are connected, beside the event loop; agencies' own code in threads of its own, for a bounded time.

A thread cannot be ended. One that hangs is left behind, a few of each agency at most.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, Protocol, TypeVar

from gateway.core.model import AgencyId, ServiceId
from gateway.protocols import document_http, document_python, http, kafka, python, webhook
from gateway.protocols.handover import TakerFactory
from gateway.protocols.protocol import Factory, Surroundings

PROTOCOLS: Mapping[str, Factory] = {"http": http.connect, "python": python.connect}
"""By the manifest's word. A new protocol is a module in ``protocols`` and a line here."""
TAKERS: Mapping[str, TakerFactory] = {
    "http": document_http.hand_over,
    "kafka": kafka.hand_over,
    "python": document_python.hand_over,
    "webhook": webhook.hand_over,
}
"""The same of ways by which documents are handed over."""
FOREIGN = frozenset({"python"})
"""Those whose connecting runs an agency's code."""

CONNECT_SECONDS = 10.0
"""What an agency's code gets to be loaded."""
MAX_LOADING = 4
"""Agencies whose code is loaded at once."""
MAX_HUNG = 8
"""Attempts to load an agency's code that are left behind."""

Key = tuple[AgencyId, ServiceId]
"""Of an endpoint."""


class Wanted(Protocol):
    """What is connected: an endpoint, or a way."""

    @property
    def protocol(self) -> str:
        """The manifest's word."""


class Connected(Protocol):
    """What is behind it."""

    async def close(self) -> None:
        """Let go of connections."""


W = TypeVar("W", bound=Wanted)
C = TypeVar("C", bound=Connected)
K = TypeVar("K", bound=tuple[AgencyId, Hashable])


class Workshop(Generic[W, C]):
    """Makes what is behind endpoints or ways; where there is nothing, it says why."""

    def __init__(
        self, protocols: Mapping[str, Callable[[W, Surroundings], C]], seconds: float = CONNECT_SECONDS
    ) -> None:
        self._protocols = protocols
        self._seconds = seconds
        self._places = asyncio.Semaphore(MAX_LOADING)
        self._at_work: Counter[AgencyId] = Counter()
        self._closing: set[asyncio.Task[None]] = set()

    async def made(self, wanted: Mapping[K, W], around: Surroundings) -> dict[K, C | str]:
        """One for each endpoint."""
        ours = {key: each for key, each in wanted.items() if each.protocol not in FOREIGN}
        theirs: dict[AgencyId, dict[K, W]] = {}
        for key in wanted.keys() - ours.keys():
            theirs.setdefault(key[0], {})[key] = wanted[key]
        made = await asyncio.to_thread(self._each, ours, around) if ours else {}
        loading = (self._loaded(agency, endpoints, around) for agency, endpoints in theirs.items())
        for found in await asyncio.gather(*loading):
            made |= found
        return made

    async def _loaded(self, agency: AgencyId, wanted: Mapping[K, W], around: Surroundings) -> dict[K, C | str]:
        """Those that run one agency's own code."""
        file = f"adapters/{agency}/adapter.py"
        async with self._places:
            if self._at_work[agency] >= MAX_HUNG:
                return dict.fromkeys(wanted, f"{file} hung {MAX_HUNG} times: restart the gateway")
            done = self._begun(agency, lambda: self._each(wanted, around))
            try:
                return await asyncio.wait_for(done, self._seconds)
            except TimeoutError:
                return dict.fromkeys(wanted, f"{file} was not loaded within {self._seconds:g} s")

    def _begun(self, agency: AgencyId, work: Callable[[], dict[K, C | str]]) -> "asyncio.Future[dict[K, C | str]]":
        loop = asyncio.get_running_loop()
        done: asyncio.Future[dict[K, C | str]] = loop.create_future()

        def told(made: dict[K, C | str] | None, error: Exception | None) -> None:
            self._at_work -= Counter([agency])
            if done.done():
                self._let_go(made or {})
            elif made is not None:
                done.set_result(made)
            elif error is not None:
                done.set_exception(error)

        def run() -> None:
            made, wrong = None, None
            try:
                made = work()
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                wrong = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(told, made, wrong)

        self._at_work[agency] += 1
        threading.Thread(target=run, name=f"load {agency}", daemon=True).start()
        return done

    def _let_go(self, made: Mapping[K, C | str]) -> None:
        """Of what came too late."""
        for each in made.values():
            if not isinstance(each, str):
                task = asyncio.get_running_loop().create_task(each.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def _each(self, wanted: Mapping[K, W], around: Surroundings) -> dict[K, C | str]:
        made: dict[K, C | str] = {}
        for key, each in wanted.items():
            try:
                made[key] = self._connected(each, around)
            except ValueError as error:
                made[key] = str(error)
        return made

    def _connected(self, wanted: W, around: Surroundings) -> C:
        factory = self._protocols.get(wanted.protocol)
        if factory is None:
            known = ", ".join(sorted(self._protocols))
            raise ValueError(f"the protocol {wanted.protocol!r} is not served; use one of {known}")
        return factory(wanted, around)
