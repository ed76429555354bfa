"""How a writer fares: whether its last batch was written, and whether the present one hangs."""

import asyncio

import structlog

HANGS = 5.0
"""Seconds after which a batch that is being written counts as a failure."""
BEAT = 0.25
"""Seconds between two beats while a batch is being written.

However long the process stands still (SIGSTOP, a machine that sleeps), that is one beat: what it finds in flight as it
wakes has had no chance yet, and refuses nobody.
"""

log = structlog.get_logger()


class Pulse:
    """Of one writer."""

    def __init__(self) -> None:
        self._failed = False
        self._beats = 0
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
        return self._failed or (self.busy and self._beats * BEAT >= HANGS)

    def begin(self) -> None:
        """With a batch."""
        self._beats = 0
        self._timer = asyncio.get_running_loop().call_later(BEAT, self._beat)

    def end(self) -> None:
        """It came to its end, whatever that was."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def note(self, why: str | None) -> None:
        """Why a batch could not be written; None: it was. Tells the log where that is new."""
        if why is not None and not self._failed:
            log.warning("journal_failing", why=why)
        if why is None and self._failed:
            log.info("journal_written")
        self._failed = why is not None

    def _beat(self) -> None:
        self._beats += 1
        self._timer = asyncio.get_running_loop().call_later(BEAT, self._beat)
