"""What is written down of a step, on every database: in the entry, beside it, in its row and in the receipt."""

from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator

import orjson
import pytest

from gateway.core.delivery import State
from gateway.core.model import AgencyId
from gateway.edge.documents.records import Paper, Step, detail_context
from gateway.edge.documents.scribe import AT_ONCE, RECEIPT_SECONDS, Written
from gateway.edge.journal import Book
from gateway.edge.store import Plan
from tests.behaviour.conftest import Open
from tests.fakes.mail import BOX, Office, paper, way, working

HEALTH = AgencyId("health")


@pytest.fixture
async def office(opened: Open) -> AsyncIterator[Office]:
    """The sender is told of receipts, by its mailbox."""
    async with working(opened(), way("finance", BOX, unit="registry", receipts=True)) as made:
        yield made
        assert await made.faults() == ()


async def write(office: Office, *steps: Step) -> list[Written]:
    """In one transaction."""

    def plan(book: Book) -> Plan[list[Written]]:
        return (yield from office.scribe.write_all(book, steps, 1795262400.25))

    return await office.run(plan, {lane for step in steps for lane in office.scribe.lanes(step.paper)})


def said(written: Written) -> dict[str, object]:
    """The claims of its receipt."""
    assert written.receipt is not None
    payload = written.receipt.split(b".")[1]
    claims: dict[str, object] = orjson.loads(urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    return claims


async def journaled(office: Office) -> list[tuple[bytes, bytes]]:
    rows = []
    for (month,) in await office.rows("select month from journal_months order by month"):
        rows += await office.rows(f"select entry, particulars from journal_{month} order by writer, n")  # noqa: S608
    return [(bytes(entry), bytes(beside)) for entry, beside in rows]


def registered(of: Paper, **more: object) -> Step:
    """By a clerk, with everything that a person may say."""
    return Step(
        *(of, HEALTH, State.REGISTERED, State.REGISTERED),
        by="health.registry",
        number="2026/77",
        text="Handed to Ms Chea.",
        person={"issuer": "https://idp", "subject": "7"},
        facts={"case": "C-1", "remote": "10.0.0.1"},
        **more,  # type: ignore[arg-type] # as the test names them
    )


async def test_what_may_have_to_be_forgotten_stands_beside_the_entry(office: Office) -> None:
    """Number, text, person and case are particulars; names and codes are the entry."""
    (written,) = await write(office, registered(paper("d")))
    ((entry, beside),) = await journaled(office)
    assert [word for word in (b"2026/77", b"Chea", b"idp", b"C-1") if word in entry] == []
    facts = orjson.loads(entry)
    assert facts.items() >= {"step": "registered", "document": "d", "recipient": "health", "remote": "10.0.0.1"}.items()
    assert facts.items() >= {"by": "health.registry", "sender": "finance.desk", "at": said(written)["at"]}.items()
    aside = orjson.loads(beside)
    assert (aside["number"], aside["reason"], aside["case"]) == ("2026/77", "Handed to Ms Chea.", "C-1")
    assert aside["person"] == {"issuer": "https://idp", "subject": "7"}


async def test_the_detail_is_sealed(office: Office) -> None:
    """What sender and recipient read of the step lies encrypted in its row, bound to its document."""
    await write(office, registered(paper("d"), attempts=3, late=1))
    ((step, recipient, entry, detail),) = await office.rows("select step, recipient, entry, detail from steps")
    assert (step, recipient, entry) == ("registered", "health", f"{office.journal.writer}.1")
    assert b"2026" not in detail
    assert orjson.loads(office.keys.open(detail, detail_context("d"))) == {
        "by": "health.registry",
        "number": "2026/77",
        "text": "Handed to Ms Chea.",
        "attempts": 3,
        "late": 1,
    }


@pytest.mark.parametrize("name", ["forwarded", "disputed", "requeued"])
async def test_what_is_no_state_makes_no_receipt(office: Office, name: str) -> None:
    """It is an entry and a row, and nobody is told by a receipt."""
    (written,) = await write(office, Step(paper("d"), HEALTH, name, State.ARRIVED, unit="archive"))
    assert written.receipt is None
    assert await office.rows("select step, receipt from steps") == [(name, None)]
    assert await office.rows("select count(*) from deliveries") == [(0,)]
    ((entry, _),) = await journaled(office)
    assert orjson.loads(entry).items() >= {"step": name, "state": "arrived", "unit": "archive"}.items()


async def test_overdue_is_said_of_the_state_that_stays(office: Office) -> None:
    """The receipt says where the document is, and that it should be registered by now."""
    (written,) = await write(office, Step(paper("d"), HEALTH, "overdue", State.ARRIVED, by="gateway"))
    assert said(written).items() >= {"state": "arrived", "overdue": True, "by": "gateway"}.items()


async def test_receipts_wait_for_their_sender_in_order(office: Office) -> None:
    """Each is a delivery in the document's own lane, which stays there for a month."""
    one, other = paper("d"), paper("e")
    await write(office, Step(one, HEALTH, "arrived", State.ARRIVED), Step(other, HEALTH, "arrived", State.ARRIVED))
    await write(office, registered(one))
    rows = await office.rows(
        "select d.document, s.step, d.kind, d.unit, d.expires - d.since from deliveries d "
        "join steps s on s.seq = d.step order by d.seq"
    )
    waiting = ("receipt", "registry", RECEIPT_SECONDS)
    assert [(*row[:4], round(row[4])) for row in rows] == [
        *(("d", "arrived", *waiting), ("e", "arrived", *waiting), ("d", "registered", *waiting))
    ]
    lanes = await office.rows("select okey, opened, way from lanes where recipient = 'finance' order by opened")
    assert lanes == [(office.scribe.lanes(of)[0][1], n, BOX) for of, n in ((other, 1), (one, 2))]


async def test_many_steps_at_once(office: Office) -> None:
    """More than are signed between two statements: each has its entry, its row and its own receipt, in order."""
    papers = [paper(f"d-{n}") for n in range(2 * AT_ONCE + 1)]
    written = await write(office, *(Step(each, HEALTH, "arrived", State.ARRIVED) for each in papers))
    assert [said(each)["document"] for each in written] == [each.id for each in papers]
    rows = await office.rows("select document, entry, receipt from steps order by seq")
    assert [(row[0], row[2]) for row in rows] == [(said(each)["document"], each.receipt) for each in written]
    assert [row[1] for row in rows] == [str(said(each)["entry"]).split()[0] for each in written]
    assert await office.rows("select count(*) from deliveries where kind = 'receipt'") == [(len(papers),)]
