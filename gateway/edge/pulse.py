"""How a writer fares: whether its last batch was written, and whether the present one hangs."""

import asyncio

import structlog

HANGS = 5.0
"""Seconds after which a batch that is being written counts as a failure."""
BEAT = 0.25
"""Seconds between two beats while a batch is being written.

A late one counts as two at most: a busy loop finds in time what hangs, and however long the process stands still
(SIGSTOP, a machine that sleeps), what it finds in flight as it wakes has had no chance yet, and refuses nobody.
"""

log = structlog.get_logger()


class Pulse:
    """Of one writer."""

    def __init__(self) -> None:
        self._failed = False
        self._told = False
        """The log says that it fails."""
        self._taken = 0.0
        """Seconds of the present batch, of those in which the process ran."""
        self._last = 0.0
        """When it began, or had its last beat."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """A batch is being written."""
        return self._timer is not None

    @property
    def failed(self) -> bool:
        """The last batch could not be written."""
        return self._failed

    @property
    def failing(self) -> bool:
        """The same, or the present one hangs."""
        return self._failed or (self.busy and self._taken >= HANGS)

    def begin(self) -> None:
        """With a batch."""
        self._taken = 0.0
        self._wait()

    def end(self) -> None:
        """It came to its end, whatever that was."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def note(self, why: str | None) -> None:
        """Why a batch could not be written; None: it was, or could have been. Tells the log where that is new."""
        self._failed = why is not None
        if why is not None:
            self._warn(why)
        elif self._told:
            self._told = False
            log.info("journal_written")

    def _warn(self, why: str) -> None:
        if not self._told:
            self._told = True
            log.warning("journal_failing", why=why)

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        self._timer = loop.call_later(BEAT, self._beat)

    def _beat(self) -> None:
        self._taken += min(asyncio.get_running_loop().time() - self._last, 2 * BEAT)
        if self._taken >= HANGS:
            self._warn("a batch hangs")
        self._wait()
