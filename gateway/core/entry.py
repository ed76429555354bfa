"""What the journal keeps of one step, byte by byte: the entry, its particulars, its leaf.

An entry is bytes; its leaf is SHA-256 of 0x00 and those bytes (RFC 6962, section 2.1). It says who, for whom, what,
on which agreement, when, with what outcome, and salted digests of the four bodies, never the bodies. What may have to
be forgotten stands in ``particulars`` beside it; the entry holds only their hash, which the salts inside make
unguessable.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

SALT_BYTES = 16
SALTS_BYTES = 4 * SALT_BYTES
"""Random bytes that one draft takes: a salt for each of the four bodies, so that a party learns only its own."""
MAX_SUBJECTS = 100
"""Persons named singly in one entry; more are only counted (the Estonian guidance on mass disclosure)."""

_BODIES = ("received", "sent", "provided", "released")


class Step(StrEnum):
    """What an entry records."""

    ADMITTED = "admitted"
    """A write is about to be handed to the provider."""
    ANSWERED = "answered"
    """An exchange ended: with an answer, or with what the provider's failure was turned into."""
    REFUSED = "refused"
    """The gateway said no to somebody whose identity was proven."""
    REPLAYED = "replayed"
    """A stored answer was given again."""
    UNSETTLED = "unsettled"
    """A write was admitted and its process ended before an answer was stored."""
    UNIDENTIFIED = "unidentified"
    """How many were refused within a minute before their identity was proven."""
    REPEATED = "repeated"
    """How often a system was refused within a minute, beyond what is written one by one."""
    HELD = "held"
    """A document was taken in and waits for a second person. The following, up to ``undeliverable``, are its states."""
    SUBMITTED = "submitted"
    ARRIVED = "arrived"
    RETRIEVED = "retrieved"
    REGISTERED = "registered"
    REJECTED = "rejected"
    DECLINED = "declined"
    RECALLED = "recalled"
    EXPIRED = "expired"
    UNDELIVERABLE = "undeliverable"
    FORWARDED = "forwarded"
    """The recipient passed a document on to another of its units."""
    DISPUTED = "disputed"
    """A recipient said something of a document whose life had ended otherwise."""
    REQUEUED = "requeued"
    """An operator had an undeliverable document tried again."""
    OVERDUE = "overdue"
    """A document was not registered within its service's time."""
    LEASED = "leased"
    """Documents are about to be given to a system of their recipient, out of its mailbox."""
    SHOWN = "shown"
    """Documents that wait for a second person are about to be shown to one who may decide."""
    UPLOADED = "uploaded"
    """A file was taken in, to go with documents."""
    DOWNLOADED = "downloaded"
    """A file, or some of it, is about to be given out."""
    ADMINISTERED = "administered"
    """A start, a stop, a catalogue taken into use, an operator's order."""


@dataclass(frozen=True, slots=True)
class Bodies:
    """The bytes of the four bodies, as far as there were any: consumer to gateway to provider and back."""

    received: bytes | None = None
    sent: bytes | None = None
    provided: bytes | None = None
    released: bytes | None = None


@dataclass(frozen=True, slots=True)
class Particulars:
    """What may have to be forgotten."""

    user: str | None = None
    """Whom the consumer named; or who gave an order to the gateway itself."""
    person: Mapping[str, str | None] | None = None
    case: str | None = None
    key: str | None = None
    """The idempotency key; a document's reference."""
    subjects: tuple[str, ...] = ()
    """Pseudonyms."""
    more_subjects: int = 0
    said: Mapping[str, str] | None = None
    """Names that the caller gave and the catalogue does not know."""
    reason: str | None = None
    """Typed by a person."""
    number: str | None = None
    """The register number that a recipient gave a document."""
    attachments: tuple[Mapping[str, str], ...] = ()
    """Of a submission: id and digest of each file that went along. A digest without salt can be guessed."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry without its number, which only the writer's batch gives."""

    tail: bytes
    particulars: bytes


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where an entry stands and what it hashes to."""

    writer: int
    n: int
    leaf: bytes

    def __str__(self) -> str:
        return f"{self.writer}.{self.n} {self.leaf.hex()}"


def draft(facts: Mapping[str, Any], bodies: Bodies, particulars: Particulars, salts: bytes) -> Draft:
    """The entry of these facts. ``salts`` are SALTS_BYTES random bytes; absent facts (None) are left out."""
    digests = {}
    shown = {}
    for place, name in enumerate(_BODIES):
        body = getattr(bodies, name)
        if body is not None:
            salt = salts[place * SALT_BYTES : (place + 1) * SALT_BYTES]
            digests[name] = hashlib.sha256(salt + body).hexdigest()
            shown[name] = salt.hex()
    beside = _beside(particulars, shown or {"none": salts[:SALT_BYTES].hex()})
    entry = {name: value for name, value in facts.items() if value is not None}
    if digests:
        entry["digests"] = digests
    entry["particulars"] = hashlib.sha256(beside).hexdigest()
    return Draft(orjson.dumps(entry), beside)


def _beside(particulars: Particulars, salts: Mapping[str, str]) -> bytes:
    kept = {
        "salts": salts,
        "user": particulars.user,
        "person": particulars.person,
        "case": particulars.case,
        "key": particulars.key,
        "subjects": particulars.subjects or None,
        "more_subjects": particulars.more_subjects or None,
        "said": particulars.said,
        "reason": particulars.reason,
        "number": particulars.number,
        "attachments": particulars.attachments or None,
    }
    return orjson.dumps({name: value for name, value in kept.items() if value is not None})


def numbered(drafted: Draft, writer: int, n: int) -> tuple[bytes, Stamp]:
    """The entry's final bytes, which begin with its number, and its stamp."""
    entry = b'{"entry":"%d.%d",' % (writer, n) + drafted.tail[1:]
    return entry, Stamp(writer, n, leaf(entry))


def leaf(entry: bytes) -> bytes:
    """The leaf hash of an entry (RFC 6962, section 2.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def faults(writer: int, n: int, kept: tuple[bytes, bytes, bytes | None]) -> tuple[str, ...]:
    """What is wrong with a stored entry: ``kept`` is its leaf, its bytes and its particulars."""
    kept_leaf, entry, particulars = kept
    found = []
    if not hmac.compare_digest(leaf(entry), kept_leaf):
        found.append("the leaf is not the hash of the entry")
    facts = facts_of(entry)
    if facts.get("entry") != f"{writer}.{n}":
        found.append("the entry carries another number")
    if particulars is not None and hashlib.sha256(particulars).hexdigest() != facts.get("particulars"):
        found.append("the particulars are not those of the entry")
    return tuple(found)


def facts_of(entry: bytes) -> Mapping[str, Any]:
    """What an entry says; nothing where it was changed beyond reading."""
    try:
        facts = orjson.loads(entry)
    except orjson.JSONDecodeError:
        return {}
    return facts if isinstance(facts, dict) else {}


def canonical(identifier: Any) -> bytes:
    """One spelling of an identifier for pseudonyms: members sorted, no spaces. The gateway alone computes it."""
    return orjson.dumps(identifier, option=orjson.OPT_SORT_KEYS)


def pseudonym(key: bytes, spelled: bytes) -> str:
    """A person in the journal: HMAC-SHA-256 over the canonical identifier, under the period's key."""
    return hmac.digest(key, spelled, "sha256").hex()


def values_at(value: Any, tokens: tuple[str, ...]) -> Iterable[Any]:
    """Everything that stands at a pointer, through every item of every array on the way."""
    if isinstance(value, list):
        for item in value:
            yield from values_at(item, tokens)
    elif not tokens:
        if value is not None:
            yield value
    elif isinstance(value, dict) and tokens[0] in value:
        yield from values_at(value[tokens[0]], tokens[1:])
