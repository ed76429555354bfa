"""Whether the store of attachments does what it should: asked every few seconds, for health and for alarms."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from gateway.core.refusal import Refusal
from gateway.edge.documents.vault import Vault
from gateway.edge.telemetry import Meters

LOOK_SECONDS = 10.0
"""Between two looks."""

log = structlog.get_logger()


class Reach:
    """What is known of one store."""

    def __init__(self, vault: Vault, instance: str, meters: Meters, *, claimed: bool) -> None:
        """``claimed``: the place bears the instance's name; a store that was down at the start may not, yet."""
        self._vault = vault
        self._instance = instance
        self._meters = meters
        self._claimed = claimed
        self.wrong = "" if claimed else "cannot be reached"
        """A few words for `/health/ready`; none while all is well."""

    async def look(self) -> None:
        """Read the name that the place bears: a volume that is not mounted bears none."""
        before = self.wrong
        try:
            if self._claimed:
                ours = await self._vault.bears(self._instance)
            else:
                self._claimed = ours = await self._vault.claim(self._instance)
            self.wrong = "" if ours else "is not this instance's: its mark is missing, or another's"
        except Refusal:
            self.wrong = "cannot be reached"
        self._meters.attachments_failing.set(bool(self.wrong))
        if self.wrong and not before:
            log.warning("attachments_unavailable", why=self.wrong)
        elif before and not self.wrong:
            log.info("attachments_available")

    async def go_on(self, sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await sleep(LOOK_SECONDS)
