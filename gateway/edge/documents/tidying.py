"""What removes files: those that nothing refers to any more, and those that are known to nobody."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence

import structlog

from gateway.core.refusal import Refusal
from gateway.edge.documents import files
from gateway.edge.documents.uploading import LONGEST_SECONDS
from gateway.edge.documents.vault import SHELVES, Vault, id_of
from gateway.edge.journal import Journal, unavailable
from gateway.edge.store import Driver, StoreFailed, StoreRefused
from gateway.edge.telemetry import place

ROUND_SECONDS = 60.0
"""Seconds between two rounds; each looks through one shelf of the vault."""
LEFT_OVER_SECONDS = 2 * LONGEST_SECONDS
"""Seconds after which a file in the vault that no row knows is no upload any more."""
MAX_ASKED = 500
"""Files that one statement looks for."""

log = structlog.get_logger()


class Tidying:
    """One round every ROUND_SECONDS; what fails is logged, and the next round tries again."""

    def __init__(
        self, instance: str, vault: Vault, post: Journal, reader: Driver, clock: Callable[[], float] = time.time
    ) -> None:
        self._instance = instance
        self._vault = vault
        self._post = post
        self._reader = reader
        self._clock = clock
        self._shelf = random.SystemRandom().randrange(SHELVES)  # processes that start together look at others

    async def go_on(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            try:
                await self.round()
            except Refusal as refusal:
                log.warning("tidying_waits", code=refusal.code)
            except Exception as error:  # noqa: BLE001 - the next round must come
                log.error("tidying_broken", **place(error))  # noqa: TRY400 - a traceback quotes values

    async def round(self) -> None:
        """Remove what has had its time, and what was left over on the next shelf. Raises Refusal."""
        await self.purge()
        self._shelf = (self._shelf + 1) % SHELVES
        await self.sweep(self._shelf)

    async def purge(self) -> int:
        """Remove files that nothing refers to, the row first: bytes without a row are found by ``sweep``."""
        removed = 0
        while names := await self._post.run(files.purge):
            for name in names:
                with contextlib.suppress(Refusal):
                    await self._vault.remove(name)
            removed += len(names)
        if removed:
            log.info("attachments_purged", count=removed)
        return removed

    async def sweep(self, shelf: int) -> int:
        """Remove what lies on a shelf and has no row: left by processes that ended in between."""
        old = await self._vault.older(shelf, self._clock() - LEFT_OVER_SECONDS)
        if old and not await self._vault.claim(self._instance):
            log.error("attachments_of_another_instance")
            return 0
        removed = 0
        for start in range(0, len(old), MAX_ASKED):
            some = old[start : start + MAX_ASKED]
            known = await self._known(some)
            for name in some:
                if name not in known:
                    await self._vault.remove(name)
                    removed += 1
        if removed:
            log.warning("attachments_left_over", count=removed)
        return removed

    async def _known(self, names: Sequence[str]) -> frozenset[str]:
        try:
            rows = await self._reader.read(*files.among([id_of(name) for name in names]))
        except (StoreFailed, StoreRefused) as error:
            raise unavailable() from error
        return frozenset(row[0] for row in rows)
