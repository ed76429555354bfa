"""Submissions as whoever takes them in would make them, for tests of what becomes of them."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace

from gateway.core.attachment import File
from gateway.core.entry import Particulars
from gateway.core.model import AgencyId, Kind, ServiceId, SystemId
from gateway.edge.documents.records import Addressee, Hold, Paper, Submission
from tests.fakes.mail import BOX, DAY, HEALTH, LETTER, PUSH, SENDER

_numbers = itertools.count(1)


def addressee(recipient: str = HEALTH, okey: str = "", *, way: str = PUSH, unit: str = "") -> Addressee:
    """Reached by a push, unless the way is a mailbox; without ``okey`` in a lane of its own."""
    return Addressee(AgencyId(recipient), okey or f"own {next(_numbers)}", way, unit, pulled=way.startswith(BOX))


def submission(
    reference: str,
    *to: Addressee,
    raw: bytes = b'{"plan": 1}',
    sender: SystemId = SENDER,
    hold: Hold | None = None,
    attachments: Sequence[str] = (),
) -> Submission:
    """Each has an id of its own, also where the reference is the same."""
    digest = hashlib.sha256(raw).digest()
    paper = Paper(f"d-{next(_numbers)}", Kind.DOCUMENT, sender, None, ServiceId(LETTER), reference, digest)
    return Submission(
        paper=paper,
        fingerprint=digest,
        case_tag=b"case",
        head=b"sealed head",
        body=b"sealed " + raw,
        catalogue="0" * 64,
        seconds=30 * DAY,
        to=to or (addressee(),),
        hold=hold,
        attachments=tuple(File(name, bytes(32), 1, "application/pdf") for name in attachments),
        facts={"agreement": "A-1", "purpose": "building_permit"},
        particulars=Particulars(case="C-77", key=reference),
        raw=raw,
    )


def event(reference: str, *to: Addressee) -> Submission:
    """The same, told to all of them; perhaps to nobody."""
    made = submission(reference, *to)
    return replace(made, paper=replace(made.paper, kind=Kind.EVENT), to=to)
