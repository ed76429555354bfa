"""The events that a system is told of: asked for, listed, ended."""

from typing import Any

from gateway.client import refusals
from gateway.client.line import Line, encoded
from gateway.client.wire import Request

_ADDRESS = "/v1/subscriptions"
_JSON = {"Content-Type": "application/json"}


class Subscribing:
    """What a system that is told of events can do."""

    _line: Line

    async def subscriptions(self, *, timeout: float = 30.0) -> list[dict[str, Any]]:  # noqa: ASYNC109 - as in exchange
        """Yours: ``publisher``, ``service``, ``purpose``, ``since``, and ``by``: ``folder`` or ``api``."""
        reply = await self._line.call(Request("GET", _ADDRESS), None, timeout)
        return refusals.listed(reply, self._line.wire.url, "subscriptions", publisher=str, service=str)

    async def subscribe(self, publisher: str, service: str, *, purpose: str, timeout: float = 30.0) -> dict[str, Any]:  # noqa: ASYNC109 - as in exchange
        """Be told of these events; once more changes nothing. Raises NotPermitted where no agreement permits it."""
        body = encoded({"publisher": publisher, "service": service, "purpose": purpose})
        reply = await self._line.call(Request("POST", _ADDRESS, _JSON, body), None, timeout)
        return refusals.told(reply, self._line.wire.url, since=str)

    async def unsubscribe(self, publisher: str, service: str, *, timeout: float = 30.0) -> None:  # noqa: ASYNC109 - as in exchange
        """Not any more; also where there was none. Raises Conflict for what your agency's folder subscribes to."""
        body = encoded({"publisher": publisher, "service": service})
        await self._line.call(Request("DELETE", _ADDRESS, _JSON, body), None, timeout)
