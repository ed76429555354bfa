"""What the parts of the documents' road hand to each other, and to the plans that keep it in the database."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from gateway.core.attachment import File
from gateway.core.delivery import State
from gateway.core.entry import Particulars
from gateway.core.model import AgencyId, Kind, ServiceId, SystemId, Way, agency_of

LaneKey: TypeAlias = tuple[AgencyId, str]
"""Recipient and ordering key: what a lane is, and what a transaction locks."""
RECEIPT = "receipt"
"""The kind of a delivery that brings a sender the receipt of a step; the others are those of services."""

LETTERS = ""
"""With what a waiting document is counted together: with the others of its way."""


def own_lane(document: str) -> str:
    """The ordering key of what keeps no order with others. As the id is new, so is the lane: nobody else knows it."""
    return document.replace("-", "")


def bound_of(kind: str, sender: SystemId) -> str:
    """With what a waiting delivery is counted together: neither events nor receipts take letters' room."""
    return f"event:{agency_of(sender)}" if kind == Kind.EVENT else RECEIPT if kind == RECEIPT else LETTERS


@dataclass(frozen=True, slots=True)
class Addressee:
    """One recipient of a submission, as the catalogue of that moment says how to reach it."""

    recipient: AgencyId
    okey: str
    """Keyed hash, in hex, of recipient, sender's agency, service and the value at ``order_by``; or ``own_lane``."""
    way: str
    unit: str
    """"" where it has none."""
    pulled: bool
    """It lies in a mailbox: arrived at once, and open until it is fetched."""
    subscriber: SystemId | None = None
    """Of an event: the system under whose agreement it goes."""
    full: bool = False
    """Of an event: as many of its publisher's wait there as may. It does not go there; to the others it does."""
    overdue_seconds: float | None = None
    """Of a pulled one: after which it should be registered."""

    @property
    def lane(self) -> LaneKey:
        """Where it waits its turn."""
        return self.recipient, self.okey


@dataclass(frozen=True, slots=True)
class Hold:
    """A second person must agree first."""

    approver: AgencyId
    role: str
    requester: bytes
    """Keyed hash of the requester's issuer and subject."""


@dataclass(frozen=True, slots=True)
class Paper:
    """What a receipt and a journal entry say of a document, whatever happens to it."""

    id: str
    kind: Kind
    sender: SystemId
    on_behalf: AgencyId | None
    service: ServiceId
    reference: str
    digest: bytes
    """SHA-256 of the body as it was received."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A delivery as it was before it was sealed."""

    head: Mapping[str, Any]
    raw: bytes | None
    """The body as it was received; of a receipt its JWS. None where its time has passed."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A document or event that is about to be taken in."""

    paper: Paper
    fingerprint: bytes
    case_tag: bytes | None
    """Keyed hash of the case, for finding it again."""
    head: bytes
    """Sealed JSON (``Head``)."""
    body: bytes
    """Sealed: the bytes as received."""
    catalogue: str
    """Digest of the catalogue that decided."""
    seconds: float
    """Until ``deliver_within`` has passed."""
    to: tuple[Addressee, ...]
    hold: Hold | None
    attachments: tuple[File, ...]
    facts: Mapping[str, Any]
    """What its journal entries say beside the paper's: exchange, agreement, grant, legal basis, purpose, remote."""
    particulars: Particulars = field(default_factory=Particulars)
    """What stands beside the first entry: user, person, case, reference, subjects."""
    raw: bytes = b""
    """The body as it was received: the first entry holds its salted digest."""
    plain: Mapping[str, Any] = field(default_factory=dict)
    """The head before it was sealed."""


@dataclass(frozen=True, slots=True)
class Taken:
    """It is durable."""

    id: str
    state: State
    """``submitted`` or ``held``; ``arrived`` counts as submitted here."""
    receipt: bytes
    """The first one, as it was signed then."""
    new: bool
    """False: the same reference was taken in before."""
    entry: str
    """``writer.n leaf`` of the submission's entry; only its number where it is not new."""
    lanes: tuple["Lane", ...] = ()
    """Of its deliveries those that were claimed with it (``Place``)."""


@dataclass(frozen=True, slots=True)
class Reused:
    """The reference belongs to another document."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened to a document, as it is written down."""

    paper: Paper
    recipient: AgencyId | None
    """None: all of them."""
    name: str
    """A state, or ``forwarded``, ``disputed``, ``requeued``, ``overdue``."""
    state: State
    """In which it leaves the document there; a receipt is made where ``name`` is a state, and of ``overdue``."""
    by: str | None = None
    """The system that said it, or ``gateway``."""
    number: str | None = None
    """The register number."""
    reason: str | None = None
    """A code of ``core.delivery.Reason``, or a refusal's."""
    text: str | None = None
    """Typed by a person."""
    person: Mapping[str, str | None] | None = None
    """Who decided."""
    unit: str | None = None
    """Of ``forwarded``."""
    unconfirmed: bool = False
    attempts: int = 0
    late: int = 0
    """How often it was requeued."""
    facts: Mapping[str, Any] | None = None
    """More for the journal entry alone."""


@dataclass(frozen=True, slots=True)
class Out:
    """A delivery as whoever hands it over gets it."""

    seq: int
    paper: Paper
    recipient: AgencyId
    okey: str
    kind: str
    """``document``, ``event`` or ``receipt``."""
    state: State
    unit: str
    subscriber: SystemId | None
    touched: bool
    """Before this claim."""
    attempts: int
    """With this one."""
    requeued: int
    submitted: float
    """Seconds since 1970 on the database's clock."""
    since: float
    """The same, when it was last sent on its way: submitted, approved or requeued."""
    catalogue: str
    head: bytes
    """Sealed."""
    body: bytes | None
    """Sealed; None where its time has passed, and of a receipt."""
    first_receipt: bytes
    """Of ``submitted`` or ``held``; of a receipt, the receipt itself."""
    opened: Opened | None = None
    """Of one that this process has just taken in: then it has nothing sealed."""

    @property
    def size(self) -> int:
        """Bytes of its body."""
        return len((self.opened.raw if self.opened else self.body) or b"")


@dataclass(frozen=True, slots=True)
class Lane:
    """A claimed lane with its oldest open deliveries, in order."""

    key: LaneKey
    claim: str
    service: ServiceId
    unit: str
    out: tuple[Out, ...]
    probe: bool = False
    """It goes to an agency whose gate is closed, and alone."""

    @property
    def size(self) -> int:
        """Bytes of the bodies that came with it."""
        return sum(out.size for out in self.out)

    @property
    def alone(self) -> bool:
        """Nothing else can come into it."""
        return bool(self.out) and self.out[0].okey == own_lane(self.out[0].paper.id)


@dataclass(frozen=True, slots=True)
class Place:
    """Kept by this process for what is about to be taken in: that is claimed from the beginning."""

    way: str
    claim: str
    seconds: float
    """Of the lease."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Places on one recipient's way, for the first of what asked for them."""

    way: Way
    place: Place
    count: int
    size: int
    """Bytes of their bodies."""
    until: float
    """On the steady clock: when the lease may not be used any more, whenever it began."""
    begin: Callable[["Kept", Sequence["Lane"]], None]
    """To be called once, when the places are needed no more, with what was claimed for them: it is handed over."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one delivery of a claimed lane; those that are not named stay as they are, untried."""

    out: Out
    to: State | None
    """``arrived``, ``registered``, ``rejected`` or ``undeliverable``; None: it stays open."""
    sent: bool
    """Something may have reached the recipient."""
    number: str | None = None
    reason: str | None = None
    overdue_seconds: float | None = None
    """Of an arrived one: after which it should be registered."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of a claim on one lane."""

    lane: Lane
    results: tuple[Result, ...]
    back_off: float
    """Seconds for which the lane is left alone; 0: go on at once."""


Seal: TypeAlias = Callable[[bytes, bytes], bytes]
"""Plain bytes and context to sealed bytes, or back: ``keys.Keyring.seal`` and ``open``."""


def body_context(document: str) -> bytes:
    """What a sealed body is bound to."""
    return f"document|{document}".encode()


def head_context(document: str) -> bytes:
    """What a sealed head is bound to."""
    return f"head|{document}".encode()


def opened_head(document: str, head: bytes, unseal: Seal) -> dict[str, Any]:
    """What was said beside the body; empty once that is gone. Raises ``keys.NotOpened``."""
    return orjson.loads(unseal(bytes(head), head_context(document))) if head else {}


def detail_context(document: str) -> bytes:
    """What a step's sealed detail is bound to."""
    return f"step|{document}".encode()
