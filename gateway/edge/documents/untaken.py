"""Why a recipient's system does not take what is handed over, for whoever has to mend it: a log line a minute each."""

from collections import OrderedDict
from collections.abc import Callable

import structlog

from gateway.edge.documents.takers import Key
from gateway.protocols.handover import NotTaken

EVERY = 60.0
"""Seconds between two lines about one way."""
MAX_NOTED = 10_000
"""Ways of which it is known when they were told of."""

log = structlog.get_logger()


class Untaken:
    """What was told when."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` is steady."""
        self._clock = clock
        self._noted: OrderedDict[Key, tuple[float, int]] = OrderedDict()
        """When it was told, and how often it happened since."""

    def note(self, key: Key, fault: NotTaken, document: str) -> None:
        """It was not taken."""
        now = self._clock()
        told, since = self._noted.pop(key, (now - EVERY, 0))
        if now - told < EVERY:
            self._noted[key] = told, since + 1
            return
        self._noted[key] = now, 0
        if len(self._noted) > MAX_NOTED:
            self._noted.popitem(last=False)
        log.warning("not_taken", recipient=key[0], way=key[1], document=document, why=fault.detail, more=since)
