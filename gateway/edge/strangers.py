"""Who cannot say who they are, again and again, waits for each answer: a flood of forged tokens costs its sender."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from gateway.core.limits import Bucket, draw, full
from gateway.core.model import Rate
from gateway.edge.doorkeeper import Whose, counted

AT_ONCE = Rate(100, 10.0)
"""Failed proofs of identity from one address that are answered at once; a system whose key was changed has no more."""
WAIT_SECONDS = 1.0
MAX_ADDRESSES = 10_000
"""Addresses remembered; one that is forgotten begins anew."""


class Strangers:
    """Patience with each address."""

    def __init__(self, clock: Callable[[], float], at_once: Rate = AT_ONCE) -> None:
        """``clock`` is steady."""
        self._clock = clock
        self._at_once = at_once
        self._buckets: OrderedDict[Whose, Bucket] = OrderedDict()

    def waits(self, address: str) -> bool:
        """Whether one more failure from there is answered late. It costs no place and no processor time meanwhile."""
        try:
            whose = counted(address)
        except ValueError:
            return False
        now = self._clock()
        bucket, wait = draw(self._buckets.pop(whose, full(self._at_once, now)), self._at_once, now)
        self._buckets[whose] = bucket
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return wait > 0

    async def hold(self, address: str) -> None:
        """Let somebody wait whose identity was not proven."""
        if self.waits(address):
            await asyncio.sleep(WAIT_SECONDS)
