"""The gateway's word that a body is for a recipient, where the document's first receipt does not say so.

A receipt that concerns several names none of them, and that of an event speaks of the whole, of which a subscriber may
see a part. Who reads a topic must be able to check both, alone. It has a receipt's form and no receipt's type: two
receipts of one entry would name two digests.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from gateway.core.delivery import State
from gateway.core.receipt import Receipt
from gateway.edge.documents.envelope import claims
from gateway.edge.documents.records import RECEIPT, Out
from gateway.protocols.handover import Handed

Attests: TypeAlias = Callable[[Out, Handed], str | None]


def attesting(instance: str, sign: Callable[[Mapping[str, Any]], bytes]) -> Attests:
    """``sign`` makes a statement of its claims (``scribe.signer`` with ``receipt.STATEMENT``)."""

    def attest(out: Out, handed: Handed) -> str | None:
        if out.kind == RECEIPT:
            return None
        first = claims(out.first_receipt)
        if handed.receipt is not None and first.get("recipient") == out.recipient:
            return None
        said = Receipt(
            instance=instance,
            document=out.paper.id,
            reference=None,
            service=out.paper.service,
            digest=hashlib.sha256(handed.raw).digest(),
            sender=out.paper.sender,
            on_behalf=out.paper.on_behalf,
            recipient=out.recipient,
            recipients=None,
            state=State.SUBMITTED,
            at=out.submitted,
            entry=str(first["entry"]),
        ).claims()
        if handed.receipt is not None and "attachments" in first:
            said["attachments"] = first["attachments"]
        return sign(said).decode()

    return attest
