"""What a second person does: sees what waits for a decision, and decides."""

from typing import Any

from gateway.client import refusals
from gateway.client.line import Line, encoded, head_of, named
from gateway.client.wire import Request

_ASSERTED = "Exchange-User-Assertion"


class Deciding:
    """What a system can do whose agency approves documents."""

    _line: Line

    async def approvals(self, *, user_assertion: str, timeout: float = 30.0) -> list[dict[str, Any]]:  # noqa: ASYNC109 - as in exchange
        """What waits for the person's decision, oldest first, each with its ``document``, ``until`` and ``body``.

        ``user_assertion`` is about the person, and must name a post (docs/adapters.md). Each showing is journaled.
        """
        reply = await self._line.call(
            Request("GET", "/v1/approvals", head_of({_ASSERTED: user_assertion})), None, timeout
        )
        return refusals.listed(reply, self._line.wire.url, "approvals", document=str)

    async def decide(
        self,
        document_id: str,
        decision: str,
        *,
        user_assertion: str,
        reason: str | None = None,
        timeout: float = 30.0,  # noqa: ASYNC109 - as in exchange
    ) -> dict[str, Any]:
        """Say ``approved`` or ``declined``; gives ``document``, ``state`` and ``receipt``.

        Raises NotPermitted for who asked for it and for another post, Conflict where it was decided before.
        """
        said = {"decision": decision} if reason is None else {"decision": decision, "reason": reason}
        headers = head_of({_ASSERTED: user_assertion, "Content-Type": "application/json"})
        path = f"/v1/approvals/{named('document', document_id)}"
        reply = await self._line.call(Request("POST", path, headers, encoded(said)), None, timeout)
        return refusals.told(reply, self._line.wire.url, document=str, state=str, receipt=str)
