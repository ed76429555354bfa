"""What a process does beside its exchanges: the pseudonyms' key, used assertions, lost writes, minutes of refusals."""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from gateway.core.model import Catalogue
from gateway.core.refusal import Refusal
from gateway.edge import claims
from gateway.edge.evidence import repeated, unidentified, unsettled
from gateway.edge.journal import Book, Journal
from gateway.edge.keys import Keyring
from gateway.edge.limits import Limits
from gateway.edge.store import Plan
from gateway.edge.tally import Tally
from gateway.edge.telemetry import Meters, place

SWEEP = 10.0
"""Seconds between rounds."""
MINUTE = 60.0

log = structlog.get_logger()


class UsedAssertions:
    """The ids of client assertions, once for all processes (RFC 7523, section 3, item 7)."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def first(self, system: str, jti: str, until: float) -> bool:
        """True for one call only. Raises Refusal journal.unavailable."""

        def plan(_: Book) -> Plan[bool]:
            columns = "(system, jti, until)"
            sql = f"insert into assertions {columns} values ($1, $2, $3) on conflict do nothing returning system"  # noqa: S608
            rows = yield sql, (system, jti, until)
            return bool(rows)

        return await self._journal.run(plan, locks=("assertions", system, jti))


class PeriodKeys:
    """The key under which persons are pseudonyms this month: random, stored sealed, the same for every process."""

    def __init__(self, journal: Journal, keyring: Keyring) -> None:
        self._journal = journal
        self._keyring = keyring
        self._key = b""
        self._period = ""

    def current(self) -> bytes:
        """The key of the present period."""
        return self._key

    async def renew(self) -> None:
        """Take the present month's key into use, making it where nobody has. Raises Refusal journal.unavailable."""
        period = datetime.now(UTC).strftime("%Y_%m")
        if period == self._period:
            return
        context = f"period|{period}".encode()
        fresh = self._keyring.seal(os.urandom(32), context)

        def plan(_: Book) -> Plan[bytes]:
            yield "insert into periods (period, key) values ($1, $2) on conflict do nothing", (period, fresh)
            rows = yield "select key from periods where period = $1", (period,)
            return bytes(rows[0][0])

        sealed = await self._journal.run(plan, locks=("periods", period))
        self._key, self._period = self._keyring.open(sealed, context), period


class Upkeep:
    """One round every SWEEP seconds; a round that fails is logged, and the next one tries again."""

    def __init__(self, journal: Journal, keys: PeriodKeys, limits: Limits, meters: Meters) -> None:
        self._journal = journal
        self._keys = keys
        self._limits = limits
        self._meters = meters

    async def go_on(self, tally: Tally, catalogue: Callable[[], Catalogue]) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        minute = loop.time()
        while True:
            await asyncio.sleep(SWEEP)
            try:
                await self.round(catalogue())
                if loop.time() - minute >= MINUTE:
                    minute = loop.time()
                    await self.minute(tally, catalogue())
            except Refusal as refusal:
                log.warning("upkeep_waits", code=refusal.code)
            except Exception as error:  # noqa: BLE001 - the next round must come
                log.error("upkeep_broken", **place(error))  # noqa: TRY400 - a traceback quotes values

    async def round(self, now: Catalogue) -> None:
        """Settle what died, give back what was not spent. Raises Refusal journal.unavailable."""
        await self._keys.renew()
        given_up = await self._journal.run(claims.sweep(lambda system, exchange: unsettled(now, system, exchange)))
        if given_up:
            self._meters.unsettled.inc(given_up)
            log.warning("writes_unsettled", count=given_up)
        await self._limits.give_back()

    async def minute(self, tally: Tally, now: Catalogue) -> None:
        """One entry for all refusals before identity, and one for each system that was refused too often."""
        refusals = tally.unidentified.copy()
        if refusals:
            await self._journal.append(unidentified(now, refusals))
            tally.unidentified -= refusals  # only now: what could not be written is written next time
        for consumer in list(tally.repeated):
            counts = tally.repeated[consumer].copy()
            await self._journal.append(repeated(now, consumer, counts))
            tally.repeated[consumer] -= counts
            if not tally.repeated[consumer]:
                del tally.repeated[consumer]
