"""All that an adapter's author imports: a class with two methods, and three errors.

    from gateway.adapter import Adapter, NotFound, Request

    class Registry(Adapter):
        async def answer(self, request: Request) -> object:
            record = await self.look_up(request.body["identifier"])
            if record is None:
                raise NotFound
            return record

The class stands in ``adapters/<agency>/adapter.py``; ``agency.yaml`` names it with ``protocol: python``.
"""

from dataclasses import dataclass
from typing import Any

__all__ = ["Adapter", "Attachment", "Broken", "Document", "NotFound", "Request", "TryLater"]


@dataclass(frozen=True, slots=True)
class Request:
    """One exchange: a consumer asks."""

    exchange: str
    """The exchange's id; keep it, so that both sides' evidence can be matched."""
    service: str
    consumer: str
    """The system that asks, as ``agency.system``."""
    purpose: str
    case: str | None
    body: Any
    """The request, already held against the service's schema."""
    idempotency_key: str | None
    """For writes, where ``agency.yaml`` says ``takes_key: true``: the same key must have one effect."""
    seconds: float
    """How long the gateway waits for the answer."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that belongs to a document; it is fetched from the gateway, ``GET /v1/attachments/{id}``."""

    id: str
    digest: str
    """``sha-256=:…:``, as in the header Content-Digest (RFC 9530)."""
    size: int
    media_type: str
    path: str | None = None
    """Where the agency's own agent has laid it; None where nobody has fetched it yet."""


@dataclass(frozen=True, slots=True)
class Document:
    """One official document, event or receipt, handed over."""

    id: str
    """Look at it: the same id is the same document, however often it comes."""
    kind: str
    """``document``, ``event`` or ``receipt``: what became of a document that your agency sent."""
    service: str
    sender: str
    """The system that sent it, as ``agency.system``."""
    on_behalf: str | None
    """The agency for which the sender acts."""
    reference: str | None
    """The sender's own; None of an event of which your agency may see a part."""
    purpose: str | None
    case: str | None
    submitted: str
    """When the gateway took it in, with its offset (RFC 3339)."""
    unit: str | None
    """Of your agency, where the delivery names one."""
    attachments: tuple[Attachment, ...]
    body: Any
    """Parsed; of a receipt its claims."""
    raw: bytes
    """The same as it was received from its sender; of a receipt the signed bytes."""
    redelivered: bool
    """It may have been handed over before."""
    late: int
    """How often an operator took it up again: then it may come after younger ones."""
    seconds: float
    """How long the gateway waits."""


class NotFound(Exception):
    """There is no such record: the consumer gets 404."""


class TryLater(Exception):
    """Not now, and nothing was done. ``seconds`` says when to come back."""

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Broken(Exception):
    """The system behind the adapter failed, or refused what it was sent; retrying will not help."""


class Adapter:
    """What an adapter's author fills in. Made once for each endpoint, without arguments, in a thread without a loop.

    So open connections at the first call. The file must be loaded within ten seconds.
    """

    async def answer(self, request: Request) -> object:
        """The answer to an exchange, as JSON values. Raises NotFound, TryLater or Broken."""
        raise NotImplementedError(f"{type(self).__name__} answers no exchange ({request.service})")

    async def take(self, document: Document) -> str | None:
        """Take a document over for good; its register number, if it has one already. Raises TryLater or Broken."""
        raise NotImplementedError(f"{type(self).__name__} takes no document ({document.service})")

    async def close(self) -> None:
        """Let go of what was opened."""
