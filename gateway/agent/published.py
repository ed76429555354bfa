"""The keys with which the gateway signs, as an agent keeps them: fresh, not asked for too often, once for all."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from gateway.agent.ports import Unreachable
from gateway.client import GatewayClient, GatewayError
from gateway.client import Unreachable as Unanswered

FRESH_SECONDS = 300.0
"""For which the keys are used without a second thought."""
KEPT_SECONDS = 86_400.0
"""For which the last good ones are used while no others can be had."""
COOL_DOWN_SECONDS = 10.0
"""Between two fetches."""
FETCH_SECONDS = 10.0
"""For one fetch in all."""
MAX_KEYS = 64
"""Of the gateway: a set with more is none."""


class Published:
    """What the gateway publishes."""

    def __init__(
        self,
        client: GatewayClient,
        noted: Callable[[Exception | None], None],
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Any],
    ) -> None:
        """``noted`` is told of each fetch: None where it was good."""
        self._client = client
        self._noted = noted
        self._clock = clock
        self._sleep = sleep
        self._held: Mapping[str, Any] | None = None
        self._good_at = self._tried_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._why = "they were not asked for yet"

    async def keys(self, after: float | None = None) -> Mapping[str, Any]:
        """See ``ports.Upstream``."""
        least = self._clock() - KEPT_SECONDS if after is None else after
        if self._good_at < least:
            await self._fetched(after)
        elif self._clock() - self._good_at > FRESH_SECONDS and self._rest() <= 0.0:
            self._fetch(0.0)  # beside: what is at hand serves meanwhile
        if self._held is None or self._good_at < least:
            raise Unreachable(f"the gateway's keys cannot be had: {self._why}")
        return self._held

    async def close(self) -> None:
        """End what runs."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})

    async def _fetched(self, after: float | None) -> None:
        """Once for all who ask; one that began before ``after`` is waited for, and then another one is begun."""
        if self._fetching is not None:
            await asyncio.wait({self._fetching})
            if after is None or self._good_at >= after:
                return
        rest = self._rest()
        if self._fetching is None and after is None and rest > 0.0:
            return
        await asyncio.wait({self._fetch(rest)})

    def _rest(self) -> float:
        """Seconds until the gateway may be asked again."""
        return self._tried_at + COOL_DOWN_SECONDS - self._clock()

    def _fetch(self, pause: float) -> asyncio.Task[None]:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._renewed(pause))
        return self._fetching

    async def _renewed(self, pause: float) -> None:
        try:
            if pause > 0.0:
                await self._sleep(pause)
            began = self._clock()
            published = await self._client.published(timeout=FETCH_SECONDS)
            given = published["keys"]
            if not isinstance(given, list) or len(given) > MAX_KEYS:
                raise Unanswered(f"it publishes no list of at most {MAX_KEYS} keys")
        except GatewayError as error:
            self._noted(error)
            self._why = str(error)
        else:
            self._held, self._good_at = published, began
            self._noted(None)
        finally:
            self._tried_at, self._fetching = self._clock(), None
