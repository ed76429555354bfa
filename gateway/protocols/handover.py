"""The one interface through which a document is handed over to an agency, by whatever way its folder names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.core.delivery import Reason
from gateway.core.line import is_line
from gateway.core.model import Way
from gateway.protocols.protocol import Surroundings

MAX_NUMBER = 64
"""Characters of a register number."""


@dataclass(frozen=True, slots=True)
class Handed:
    """A document, an event or a receipt as the recipient's system gets it."""

    id: str
    """The document's: whoever looks at it takes nothing twice. A receipt has one of its own."""
    kind: str
    """``document``, ``event`` or ``receipt``."""
    service: str
    envelope: Mapping[str, Any]
    """JSON: everything but the body (docs/documents.md)."""
    body: Any
    """Parsed; of a receipt its claims."""
    raw: bytes
    """The body's bytes as they were received from the sender, or cut for a subscriber; of a receipt its JWS."""
    receipt: str | None
    """The receipt ``submitted``, a compact JWS; None where an event was cut, as it speaks of the whole."""
    traceparent: str
    seconds: float
    """What the hand-over may take."""
    lane: str = ""
    """Keyed hash, in hex, of what it must stay in order with: nothing personal."""
    statement: str | None = None
    """Signed like a receipt, where the receipt does not name this recipient and this body (core.cloudevent.Event)."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The recipient's system has taken it."""

    number: str | None = None
    """It also gave a register number: the document is registered at once."""


def register_number(value: object) -> str | None:
    """What a system gave as a register number, where it can be one: by the rule of ``POST /v1/inbox``."""
    fits = isinstance(value, str) and len(value) <= MAX_NUMBER and is_line(value)
    return str(value) if fits else None


class NotTaken(Exception):
    """The recipient's system did not take it."""

    def __init__(
        self,
        detail: str,
        *,
        sent: bool,
        whole: bool,
        reason: Reason | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        """One sentence for operators; nothing of the document or the answer's body."""
        self.sent = sent
        """False only where it is certain that nothing of it had any effect."""
        self.whole = whole
        """The agency's system as a whole does not take anything now, or for good: its gate closes."""
        self.reason = reason
        """For good. ``BY_RECIPIENT`` reasons reject the document, others make it undeliverable; None: try again."""
        self.retry_after = retry_after
        """Seconds, where the system named them."""


class Taker(Protocol):
    """An agency's system behind one way, ready to be handed documents."""

    async def take(self, handed: Handed) -> Accepted:
        """Hand it over. Raises NotTaken, and nothing else."""

    async def close(self) -> None:
        """Let go of connections."""


class TakerFactory(Protocol):
    """What each protocol that hands over offers as ``hand_over``."""

    def __call__(self, way: Way, surroundings: Surroundings) -> Taker:
        """The taker behind the way, made in a thread without a loop. Raises ValueError where the options are wrong."""
