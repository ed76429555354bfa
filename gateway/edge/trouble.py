"""Why a provider's system does not answer, for whoever has to mend it: one log line a minute for each endpoint."""

from collections import OrderedDict
from collections.abc import Callable, Mapping

import structlog

from gateway.core.model import Endpoint
from gateway.protocols.protocol import ProviderFault, Unsent

EVERY = 60.0
"""Seconds between two lines about one endpoint and code."""
MAX_NOTED = 10_000
TOLD = frozenset({"provider.unavailable", "provider.timeout", "provider.broken", "provider.refused"})
"""Codes that somebody may have to act on; answers that break their schema have a line of their own."""

log = structlog.get_logger()

_Key = tuple[str, str, str]


class Troubles:
    """What was told when."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` is steady."""
        self._clock = clock
        self._noted: OrderedDict[_Key, tuple[float, int]] = OrderedDict()
        """By provider, service and code: when it was told, and how often it happened since."""

    def note(self, endpoint: Endpoint, fault: ProviderFault, ids: Mapping[str, str]) -> None:
        """A call failed; ``ids`` are the exchange's."""
        if fault.code not in TOLD:
            return
        key = (endpoint.provider, endpoint.service, fault.code)
        now = self._clock()
        told, since = self._noted.pop(key, (now - EVERY, 0))
        if now - told < EVERY:
            self._noted[key] = told, since + 1
            return
        self._noted[key] = now, 0
        if len(self._noted) > MAX_NOTED:
            self._noted.popitem(last=False)
        whose = {"provider": endpoint.provider, "service": endpoint.service}
        log.warning("provider_failed", **ids, **whose, code=fault.code, why=_why(fault), more=since)


def _why(fault: ProviderFault) -> str:
    """The network's own words where nothing was sent: they quote neither address nor body. Otherwise the caller's."""
    cause = fault.__cause__
    return str(cause) if isinstance(cause, Unsent) else fault.detail
