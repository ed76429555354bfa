"""Writes down each step of a document: journal entry, row, signed receipt, and the receipt's way to the sender.

One step costs one entry, one row and one signature; the steps of one transaction share their statements. The entry says
names, codes and digests; what a person typed, who that was, and the register number stand beside it.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from gateway.core import entry, receipt
from gateway.core.attachment import File
from gateway.core.delivery import State
from gateway.core.entry import SALTS_BYTES, Bodies, Draft, Particulars, Stamp
from gateway.core.jwk import signing
from gateway.core.model import Catalogue, Kind, Way, agency_of
from gateway.core.receipt import Receipt
from gateway.edge.documents.opening import Opening, deliver
from gateway.edge.documents.records import RECEIPT, LaneKey, Paper, Seal, Step, detail_context
from gateway.edge.journal import Book
from gateway.edge.keys import SigningKey
from gateway.edge.store import Plan

AT_ONCE = 250
"""Steps that are signed between two statements: about 10 ms of an event loop that has others to serve."""
RECEIPT_SECONDS = 2_592_000.0
"""Seconds for which a receipt waits for its sender; afterwards it is there to be asked for."""

_STATES = frozenset(State)
_INSERT = (
    "insert into steps (document, recipient, step, at, entry, detail, receipt) "
    "{rows text text text float8 text bytea bytea}"
)
_NO_BODIES, _NO_PARTICULARS = Bodies(), Particulars()
_ASIDE = ("case", "user")
"""Of a step's facts: what may have to be forgotten."""


def signer(key: SigningKey, typ: str = receipt.TYPE) -> Callable[[Mapping[str, Any]], bytes]:
    """Claims to receipt: what is the same in all of them is made once."""
    header, signature = receipt.protected(key.kid, key.alg, typ), signing(key.key, key.alg)

    def sign(claims: Mapping[str, Any]) -> bytes:
        signed = receipt.signed_part(header, claims)
        return receipt.compact(signed, signature(signed))

    return sign


@dataclass(frozen=True, slots=True)
class Written:
    """What is now on record of a step, when the transaction commits."""

    stamp: Stamp
    receipt: bytes | None


@dataclass(frozen=True, slots=True)
class Line:
    """A step, with what only a submission knows."""

    step: Step
    bodies: Bodies = _NO_BODIES
    particulars: Particulars = _NO_PARTICULARS
    recipients: tuple[str, ...] | None = None
    """Where they are several."""
    attachments: tuple[File, ...] = ()


class Scribe:
    """The one who writes steps down. Its methods are called within plans only."""

    def __init__(
        self,
        instance: str,
        sign: Callable[[Mapping[str, Any]], bytes],
        seal: Seal,
        mac: Callable[[bytes], bytes],
        catalogue: Callable[[], Catalogue],
        *,
        full: Callable[[Way], bool] = lambda _: False,
    ) -> None:
        """``sign`` makes a receipt of its claims (``signer``); ``mac`` is a keyed hash.

        ``full`` says whether as many receipts wait on the way as may: more are there to be asked for, and not sent.
        """
        self.instance = instance
        self._sign = sign
        self._seal = seal
        self._mac = mac
        self._catalogue = catalogue
        self._full = full

    def write(self, book: Book, step: Step, at: float) -> Plan[bytes | None]:
        """Write one step down; ``at`` is the database's time. Gives its receipt, where it makes one."""
        (written,) = yield from self.write_all(book, [step], at)
        return written.receipt

    def write_all(self, book: Book, steps: Sequence[Step], at: float) -> Plan[list[Written]]:
        """Write steps down, in this order."""
        return (yield from self._write(book, [Line(step) for step in steps], at, told=True))

    def begin(self, book: Book, lines: Sequence[Line], at: float) -> Plan[list[Written]]:
        """Write the first steps of submissions: their receipts are the answers to them, and go no other way."""
        return (yield from self._write(book, lines, at, told=False))

    def lanes(self, paper: Paper) -> tuple[LaneKey, ...]:
        """The lane in which receipts of the document go to its sender, to be locked by whoever writes a step of it."""
        return (self._lane(paper),) if self._way(paper) else ()

    def _lane(self, paper: Paper) -> LaneKey:
        return agency_of(paper.sender), self._mac(f"receipts|{paper.id}".encode()).hex()

    def _way(self, paper: Paper) -> Way | None:
        sender = self._catalogue().agencies.get(agency_of(paper.sender))
        return sender.receipts if sender else None

    def _write(self, book: Book, lines: Sequence[Line], at: float, *, told: bool) -> Plan[list[Written]]:
        everything: list[Written] = []
        for start in range(0, len(lines), AT_ONCE):
            some = lines[start : start + AT_ONCE]
            salts = os.urandom(SALTS_BYTES * len(some))
            written = [
                self._written(book, line, at, salts[place * SALTS_BYTES :][:SALTS_BYTES])
                for place, line in enumerate(some)
            ]
            everything += written
            rows: list[Any] = []
            for line, made in zip(some, written, strict=True):
                step = line.step
                place = f"{made.stamp.writer}.{made.stamp.n}"
                rows += (step.paper.id, step.recipient, step.name, at, place, self._detail(step), made.receipt)
            if told and any(self._way(line.step.paper) for line in some):
                numbers = yield f"{_INSERT} returning entry, seq", rows
                yield from self._tell(some, written, {row[0]: row[1] for row in numbers})
            else:
                yield _INSERT, rows
        return everything

    def _written(self, book: Book, line: Line, at: float, salts: bytes) -> Written:
        stamp = book.write(self._draft(line, at, salts))
        step = line.step
        book.about.append((step.paper.id, step.paper.service, step.name))
        if step.name not in _STATES and step.name != entry.Step.OVERDUE:
            return Written(stamp, None)
        paper = step.paper
        # of an event's receipts the first is its publisher's alone; the others show to subscribers, who may see a part
        whole = paper.kind is not Kind.EVENT or step.name == State.SUBMITTED
        said = Receipt(
            instance=self.instance,
            document=paper.id,
            reference=paper.reference if whole else None,
            service=paper.service,
            digest=paper.digest if whole else None,
            sender=paper.sender,
            on_behalf=paper.on_behalf,
            recipient=step.recipient,
            recipients=None if line.recipients is None else len(line.recipients),
            state=step.state,
            at=at,
            entry=str(stamp),
            by=step.by,
            number=step.number,
            reason=step.reason,
            unconfirmed=step.unconfirmed,
            late=step.late,
            overdue=step.name == entry.Step.OVERDUE,
            attachments=tuple(each.digest for each in line.attachments),
        )
        return Written(stamp, self._sign(said.claims()))

    def _draft(self, line: Line, at: float, salts: bytes) -> Draft:
        step, paper = line.step, line.step.paper
        more = dict(step.facts or {})
        aside = {name: more.pop(name) for name in _ASIDE if name in more}
        facts = {
            "step": entry.Step(step.name),
            "instance": self.instance,
            "document": paper.id,
            "at": receipt.instant(at),
            "sender": paper.sender,
            "on_behalf": paper.on_behalf,
            "recipient": step.recipient,
            "recipients": line.recipients,
            "service": paper.service,
            "state": None if step.state == step.name else step.state,
            "by": step.by,
            "reason": step.reason,
            "unit": step.unit,
            "unconfirmed": step.unconfirmed or None,
            "attempts": step.attempts or None,
            "late": step.late or None,
            **more,
        }
        files = tuple({"attachment": each.id, "digest": receipt.digest_field(each.digest)} for each in line.attachments)
        said = {"person": step.person, "reason": step.text, "number": step.number, "attachments": files, **aside}
        beside = {name: value for name, value in said.items() if value}
        return entry.draft(
            facts, line.bodies, replace(line.particulars, **beside) if beside else line.particulars, salts
        )

    def _detail(self, step: Step) -> bytes | None:
        """What the sender, and the recipient, may read of a step beside its name."""
        said = {
            "by": step.by,
            "number": step.number,
            "reason": step.reason,
            "text": step.text,
            "unit": step.unit,
            "unconfirmed": step.unconfirmed or None,
            "attempts": step.attempts or None,
            "late": step.late or None,
        }
        shown = {name: value for name, value in said.items() if value is not None}
        return self._seal(orjson.dumps(shown), detail_context(step.paper.id)) if shown else None

    def _tell(self, lines: Sequence[Line], written: Sequence[Written], numbers: Mapping[str, int]) -> Plan[None]:
        """Send the receipts on their way to the senders who have one."""
        new = []
        for line, made in zip(lines, written, strict=True):
            paper = line.step.paper
            way = self._way(paper)
            if made.receipt is None or way is None or self._full(way):
                continue
            new.append(
                Opening(
                    document=paper.id,
                    lane=self._lane(paper),
                    way=way.name,
                    unit=way.unit or "",
                    pulled=way.pulled,
                    kind=RECEIPT,
                    bound=RECEIPT,
                    service=paper.service,
                    seconds=RECEIPT_SECONDS,
                    step=numbers[f"{made.stamp.writer}.{made.stamp.n}"],
                )
            )
        yield from deliver(new)
