"""The one interface through which every agency's system is called, wherever and however it runs."""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.catalogue.files import NOTHING, Files
from gateway.core.model import Endpoint, ServiceId, SystemId
from gateway.core.reach import Reach
from gateway.protocols.flights import Record

MAX_ANSWER_BYTES = 1024 * 1024
"""Bytes that a provider's answer may have, whatever the service."""
LONGEST_WAIT = 3600.0
"""Seconds of a provider's wish to be asked later that are passed on."""


@dataclass(frozen=True, slots=True)
class Call:
    """One exchange as a provider's system gets it."""

    exchange: str
    """The exchange's id; providers keep it, so that both sides' evidence can be matched."""
    service: ServiceId
    consumer: SystemId
    purpose: str
    case: str | None
    value: Any
    """The request body, already held against its schema."""
    raw: bytes
    """The same as it was received."""
    idempotency_key: str | None
    """Only where the endpoint takes it."""
    traceparent: str
    seconds: float
    """What is left of the deadline."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's definite positive answer."""

    value: Any
    """Parsed JSON; not yet held against the response schema."""
    sent: bytes
    """What left towards the provider, for its digest."""
    provided: bytes
    """What came back, for its digest."""


class ProviderFault(Exception):
    """The provider gave no usable answer. ``code`` is a ``provider.*`` code of ``core.refusal``."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        sent: bool,
        definite: bool = False,
        unheard: bool = False,
        retry_after: float | None = None,
        provided: bytes = b"",
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        """One sentence for the consumer; nothing of the provider's body."""
        self.sent = sent
        """False only where it is certain that the call took no effect: it never left, or the provider's own word is
        that it did not take it (HTTP 429 and 503, ``TryLater``). It frees an idempotency key."""
        self.definite = definite
        """The provider's own last word: not found, refused. It is stored and replayed for writes."""
        self.unheard = unheard
        """The connection failed and the provider said nothing: a second attempt at once makes sense."""
        self.retry_after = retry_after
        """Seconds, where the provider named them."""
        self.provided = provided
        """What came back, for its digest."""
        self.outgoing = b""
        """What left towards the provider, or was about to, for its digest; set by ``Provider.call``."""


class Provider(Protocol):
    """An agency's system behind one endpoint, ready to be called."""

    async def call(self, call: Call) -> Answer:
        """Ask. Raises ProviderFault, and nothing else."""

    async def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What protocols may use of the process that they run in."""

    outbound: "Outbound"
    python: bool
    """Whether agencies' Python may run in this process."""
    files: Files = NOTHING
    """What was declared: the bytes of each ``adapter.py``, and the secrets that ``secret_headers`` and ``tls`` name."""
    webhook_keys: Sequence[Ed25519PrivateKey] = ()
    """With which webhooks are signed, all of them."""
    kafka: "Publishes | None" = None


class Publishes(Protocol):
    """The Kafka cluster of the catalogue in use."""

    @property
    def instance(self) -> str:
        """Stands in the names of topics."""

    @property
    def issuer(self) -> str:
        """Where schemas are found."""

    async def publish(self, record: Record, seconds: float) -> None:
        """Returns when all replicas that are in sync have it. Raises ``handover.NotTaken``."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, read whole."""

    status: int
    headers: Mapping[str, str]
    """Asked for by lower-case name."""
    body: bytes


class Unsent(Exception):
    """No byte of the request left: refused, unknown name, no free connection, TLS failed."""


class Cut(Exception):
    """The connection broke after something was sent, or the answer was no HTTP."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a system is dialled."""

    tls: ssl.SSLContext | None = None
    """None: the machine's own authorities."""
    reach: Reach | None = None
    """Which addresses may be dialled; None: any."""


PLAIN = Manner()


class Outbound(Protocol):
    """The HTTP client: small, so that another one can take its place."""

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        seconds: float,
        max_bytes: int,
        manner: Manner = PLAIN,
    ) -> Reply:
        """Send one request once, follow no redirect, and read the answer whole. ``url`` is percent-encoded already.

        Raises Unsent, Cut, TimeoutError (after ``seconds`` in all), and TooLarge past ``max_bytes``; nothing of the
        url stands in their words, since it may hold identifiers.
        """


class TooLarge(Exception):
    """The answer is larger than the caller takes. ``head`` is the answer without its body."""

    def __init__(self, detail: str, head: Reply) -> None:
        super().__init__(detail)
        self.head = head


class Factory(Protocol):
    """What each protocol module offers as ``connect``."""

    def __call__(self, endpoint: Endpoint, surroundings: Surroundings) -> Provider:
        """The provider behind the endpoint, made in a thread without a loop.

        Raises ValueError with a sentence where the options are wrong.
        """
