"""Taking documents in on every database: once for each reference, with everything that belongs to it, in order."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator

import orjson
import pytest

from gateway.core import receipt
from gateway.core.entry import Bodies, Particulars, draft
from gateway.core.model import AgencyId, SystemId
from gateway.core.refusal import Refusal
from gateway.edge.documents.post import MAX_WAITING, Post
from gateway.edge.documents.records import Hold, Reused, Taken
from gateway.edge.journal import Journal
from tests.behaviour.conftest import Open
from tests.fakes.mail import BOX, SENDER, Office, way, working
from tests.fakes.submissions import addressee, event, submission
from tests.fakes.valve import Valve


@pytest.fixture
async def office(opened: Open) -> AsyncIterator[Office]:
    """Nobody has a way for receipts."""
    async with working(opened()) as made:
        yield made
        assert await made.faults() == ()


@pytest.fixture
async def post(office: Office) -> AsyncIterator[Post]:
    made = Post(office.journal, office.reader, office.scribe)
    yield made
    await made.close()


def taken(outcome: object) -> Taken:
    assert isinstance(outcome, Taken)
    return outcome


def claims(office: Office, text: bytes) -> dict[str, object]:
    """Of a receipt, whose signature is looked at with the published key alone."""
    numbers = office.keys.signing.key.public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(each.to_bytes(32, "big")).rstrip(b"=").decode() for each in (numbers.x, numbers.y))
    jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": office.keys.signing.kid}
    return dict(receipt.verify(text, {"keys": [jwk]}, "TEST"))


async def journaled(office: Office) -> list[tuple[bytes, bytes]]:
    """Entries and what stands beside them, in order."""
    rows = []
    for (month,) in await office.rows("select month from journal_months order by month"):
        rows += await office.rows(f"select entry, particulars from journal_{month} order by writer, n")  # noqa: S608
    return [(bytes(entry), bytes(beside)) for entry, beside in rows]


async def entries(office: Office) -> list[dict[str, object]]:
    return [orjson.loads(entry) for entry, _ in await journaled(office)]


async def test_a_document_is_on_record_when_it_is_answered(office: Office, post: Post) -> None:
    """Document, delivery, lane, entry and receipt stand together, and the receipt says what is true."""
    sent = submission("r-1", addressee("health", "lane"))
    got = taken(await post.submit(sent))
    said = claims(office, got.receipt)
    at = said.pop("at")
    assert isinstance(at, str)
    assert said == {
        "instance": "TEST",
        "document": sent.paper.id,
        "reference": "r-1",
        "service": sent.paper.service,
        "digest": receipt.digest_field(sent.paper.digest),
        "sender": SENDER,
        "recipient": "health",
        "state": "submitted",
        "entry": got.entry,
    }
    assert await office.rows("select document, recipient, okey, state, step from deliveries") == [
        (sent.paper.id, "health", "lane", "submitted", None)
    ]
    assert await office.rows("select service, way, opened from lanes") == [(sent.paper.service, "webhook", 1)]
    assert await office.rows("select step, receipt, detail from steps") == [("submitted", got.receipt, None)]


async def test_the_entry_says_codes_and_beside_it_stands_who_and_why(office: Office, post: Post) -> None:
    """Agreement, purpose and a salted digest are in the entry; case and reference are not."""
    sent = submission("r-1", addressee("health"), raw=b'{"name": "Chea"}')
    got = taken(await post.submit(sent))
    ((entry, beside),) = await journaled(office)
    said, aside = orjson.loads(entry), orjson.loads(beside)
    assert got.entry.startswith(f"{said['entry']} ")
    salt = bytes.fromhex(aside["salts"]["received"])
    assert said["digests"] == {"received": hashlib.sha256(salt + sent.raw).hexdigest()}
    assert {
        "step": "submitted",
        "document": sent.paper.id,
        "sender": SENDER,
        "recipient": "health",
    }.items() <= said.items()
    assert (said["agreement"], said["purpose"]) == ("A-1", "building_permit")
    assert (aside["case"], aside["key"]) == ("C-77", "r-1")
    secrets = (b"C-77", b"r-1", b"Chea", sent.paper.digest.hex().encode())
    assert [each for each in secrets if each in entry] == []


async def test_a_mailbox_has_it_at_once(office: Office, post: Post) -> None:
    """What is pulled has arrived, a step with a receipt of its own, and is open until it is fetched."""
    sent = submission("r-1", addressee("health", way=BOX), addressee("interior"))
    got = taken(await post.submit(sent))
    assert (got.state, claims(office, got.receipt)["recipients"]) == ("submitted", 2)
    assert "recipient" not in claims(office, got.receipt)
    rows = await office.rows("select recipient, state, open from deliveries order by seq")
    assert rows == [("health", "arrived", True), ("interior", "submitted", True)]
    steps = await office.rows("select step, recipient, receipt from steps order by seq")
    assert [row[:2] for row in steps] == [("submitted", None), ("arrived", "health")]
    assert claims(office, steps[1][2])["recipient"] == "health"
    assert [each["step"] for each in await entries(office)] == ["submitted", "arrived"]
    assert (await entries(office))[0]["recipients"] == ["health", "interior"]


async def test_the_sender_gets_receipts_by_its_way_but_the_first(opened: Open) -> None:
    """Of a document in a mailbox the receipt `arrived` is on its way; `submitted` was the answer."""
    async with working(opened(), way("finance", receipts=True)) as office:
        post = Post(office.journal, office.reader, office.scribe)
        sent = submission("r-1", addressee("health", way=BOX))
        await post.submit(sent)
        both = "deliveries d left join steps s on s.seq = d.step"
        rows = await office.rows(f"select d.kind, d.recipient, d.state, s.step from {both} order by d.seq")  # noqa: S608
        assert rows == [("document", "health", "arrived", None), ("receipt", "finance", "submitted", "arrived")]
        assert await office.rows("select okey, way, opened from lanes where recipient = 'finance'") == [
            (office.scribe.lanes(sent.paper)[0][1], "webhook", 1)
        ]
        assert await office.faults() == ()


async def test_an_event_goes_to_1400_in_one_transaction(office: Office, post: Post) -> None:
    """D15: half of them by mailbox; fixed now, in this order, one entry for the event and one for each arrival."""
    to = [addressee(f"town_{n}", way=BOX if n % 2 else "webhook") for n in range(1400)]
    got = taken(await post.submit(event("alert", *to)))
    rows = await office.rows("select recipient, kind, state from deliveries order by seq")
    assert [row[0] for row in rows] == [each.recipient for each in to]
    assert {row[1:] for row in rows} == {("event", "arrived"), ("event", "submitted")}
    assert claims(office, got.receipt)["recipients"] == 1400
    assert len(await entries(office)) == 701
    assert await office.rows("select count(*), sum(opened) from lanes") == [(1400, 1400)]


async def test_ten_thousand_addressees(office: Office, post: Post) -> None:
    """As many as one submission may have, and more statements than one of SQLite's takes values."""
    await post.submit(event("alert", *(addressee(f"town_{n}", way=BOX) for n in range(10_000))))
    assert await office.rows("select count(*) from steps") == [(10_001,)]
    assert [each["entry"] for each in await entries(office)] == [f"1.{n}" for n in range(1, 10_002)]


async def test_an_event_to_nobody(office: Office, post: Post) -> None:
    """It is on record all the same."""
    got = taken(await post.submit(event("alert")))
    assert claims(office, got.receipt)["recipients"] == 0
    assert await office.rows("select count(*) from deliveries") == [(0,)]


async def test_the_same_reference_gets_the_same_receipt(office: Office, post: Post) -> None:
    """D16: byte by byte, with one effect; another document under it is told so."""
    first = taken(await post.submit(submission("r-1")))
    again = taken(await post.submit(submission("r-1")))
    assert (again.id, again.receipt, again.state, again.new) == (first.id, first.receipt, first.state, False)
    assert again.entry == first.entry.partition(" ")[0]
    assert await post.submit(submission("r-1", raw=b"other")) == Reused()
    assert await post.known(SENDER, "r-1") == (again, submission("r-1").fingerprint)
    assert await post.known(SENDER, "r-2") is None
    assert await office.rows("select (select count(*) from deliveries), (select sum(opened) from lanes)") == [(1, 1)]
    assert len(await entries(office)) == 1


async def test_references_belong_to_their_senders(office: Office, post: Post) -> None:
    """Two systems that chose the same reference do not meet."""
    other = submission("r-1", sender=SystemId("finance.other"))
    assert all(taken(each).new for each in await asyncio.gather(post.submit(submission("r-1")), post.submit(other)))


async def test_one_reference_many_times_in_one_batch(office: Office, post: Post) -> None:
    """Thirty at once under five references, another body among them: one document each, everybody the true answer."""
    many = [submission(f"r-{n % 5}", raw=b"other" if n == 29 else b"{}") for n in range(30)]
    outcomes = await asyncio.gather(*map(post.submit, many))
    assert outcomes[-1] == Reused()
    got = list(map(taken, outcomes[:-1]))
    assert sum(each.new for each in got) == 5
    assert len({each.receipt for each in got}) == len({each.id for each in got}) == 5
    assert await office.rows("select count(*) from documents") == [(5,)]


async def test_the_same_reference_after_a_restart(opened: Open) -> None:
    """D16: another process, under another writer's number, answers with the first one's receipt."""
    receipts = []
    for _ in range(2):
        async with working(opened()) as office:
            got = taken(await Post(office.journal, office.reader, office.scribe).submit(submission("r-1")))
            receipts.append(got.receipt)
            assert await office.faults() == ()
    assert receipts[0] == receipts[1]


async def test_one_that_is_refused_fails_no_other(office: Office, post: Post) -> None:
    """A lone surrogate in a reference, which no database takes, among thirty that are good."""
    works = [post.submit(submission(f"r-{n}")) for n in range(30)]
    works.insert(7, post.submit(submission("\ud800")))
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    (failed,) = [each for each in outcomes if not isinstance(each, Taken)]
    assert isinstance(failed, Refusal)
    assert failed.code == "journal.unavailable"
    with pytest.raises(Refusal, match=r"journal\.unavailable"):
        await post.known(SENDER, "\ud800")
    assert [each["entry"] for each in await entries(office)] == [f"1.{n}" for n in range(1, 31)]


async def test_lanes_keep_their_way_while_they_have_something(office: Office, post: Post) -> None:
    """An empty one takes those of what comes, and has its turn from now on; a full one was perhaps forwarded."""
    await post.submit(submission("r-1", addressee("health", "lane", way="webhook", unit="a")))
    await post.submit(submission("r-2", addressee("health", "lane", way=BOX, unit="b")))
    assert await office.rows("select way, unit, opened from lanes") == [("webhook", "a", 2)]
    await office.sql("update deliveries set open = false, state = 'recalled'")
    await office.sql("update lanes set opened = 0, due = 9e9")
    await post.submit(submission("r-3", addressee("health", "lane", way=BOX, unit="b")))
    ((kept, unit, opened, due),) = await office.rows("select way, unit, opened, due < {now} + 1 from lanes")
    assert (kept, unit, opened, bool(due)) == (BOX, "b", 1, True)


async def attach(office: Office, name: str, agency: str = "finance", keep: float = 60) -> str:
    await office.sql(
        "insert into attachments (id, agency, system, object, digest, size, media_type, uploaded, keep_until) "
        "values ($1, $2, 'desk', $1, $3, 1, 'application/pdf', {now}, {now} + $4)",
        name,
        agency,
        bytes(32),
        keep,
    )
    return name


async def test_files_go_with_their_documents(office: Office, post: Post) -> None:
    """D22: an own one may; one that is gone or another's refuses its document alone, and leaves nothing of it."""
    mine, other = await attach(office, "mine"), await attach(office, "other", "interior")
    good = submission("good", attachments=[mine])
    works = [good, *(submission(each, attachments=[mine, each]) for each in ("gone", other)), submission("plain")]
    outcomes = await asyncio.gather(*map(post.submit, works), return_exceptions=True)
    assert [each.code if isinstance(each, Refusal) else type(each) for each in outcomes] == [
        *(Taken, "attachment.unknown", "attachment.unknown", Taken)
    ]
    assert await office.rows("select attachment, document from uses") == [("mine", good.paper.id)]
    digest = f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"
    beside = [orjson.loads(each).get("attachments") for _, each in await journaled(office)]
    assert beside == [[{"attachment": "mine", "digest": digest}], None]
    receipts = [claims(office, each.receipt) for each in outcomes if isinstance(each, Taken)]
    assert [each.get("attachments") for each in receipts] == [[digest], None]
    assert await office.rows("select reference from documents order by reference") == [("good",), ("plain",)]


async def test_a_file_that_was_received_may_be_sent_on(office: Office, post: Post) -> None:
    """D22: from the moment in which the document was handed over to the agency."""
    await attach(office, "theirs", "interior")
    theirs = SystemId("interior.desk")
    await post.submit(submission("r-1", addressee("finance"), sender=theirs, attachments=["theirs"]))
    with pytest.raises(Refusal, match=r"attachment\.unknown"):
        await post.submit(submission("r-2", attachments=["theirs"]))
    await office.sql("update deliveries set touched = true")
    assert taken(await post.submit(submission("r-2", attachments=["theirs"]))).new


async def test_a_held_document_waits_outside_the_lanes(office: Office, post: Post) -> None:
    """It has its receipt `held` and its files, and no delivery: its order starts when it is approved."""
    await attach(office, "mine")
    hold = Hold(AgencyId("health"), "registrar", b"requester")
    got = taken(await post.submit(submission("r-1", hold=hold, attachments=["mine"])))
    assert (got.state, claims(office, got.receipt)["state"]) == ("held", "held")
    again = taken(await post.submit(submission("r-1", hold=hold, attachments=["mine"])))
    assert (again.receipt, again.state, again.new) == (got.receipt, "held", False)
    assert await office.rows("select (select count(*) from deliveries), (select count(*) from lanes)") == [(0, 0)]
    rows = await office.rows("select state, recipient, approver, role, requester from documents")
    assert rows == [("held", "health", "health", "registrar", b"requester")]


async def test_documents_and_exchanges_write_side_by_side(opened: Open) -> None:
    """Two journals of one process: numbers of their own, on SQLite over one driver, which the last of them closes."""
    driver = opened()
    journals = [Journal(driver), Journal(driver.beside())]
    for each in journals:
        await each.open("test")
    await asyncio.gather(*(each.append(draft({}, Bodies(), Particulars(), bytes(64))) for each in journals * 20))
    assert journals[0].writer != journals[1].writer
    await journals[0].close()
    stamp = await journals[1].append(draft({}, Bodies(), Particulars(), bytes(64)))
    assert stamp.n == 21
    await journals[1].close()


async def test_what_waits_is_bounded(office: Office, post: Post) -> None:
    """More than the post takes are refused at once; afterwards there is room again."""
    works = [post.submit(submission(f"r-{n}")) for n in range(MAX_WAITING + 20)]
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    assert [type(each) for each in outcomes] == [Taken] * MAX_WAITING + [Refusal] * 20
    assert taken(await post.submit(submission("after"))).new


async def test_a_caller_that_goes_away_leaves_no_gap(office: Office, post: Post) -> None:
    """What it sent is taken in whole, so that its retry gets the receipt."""
    works = [asyncio.ensure_future(post.submit(submission(f"r-{n}"))) for n in range(5)]
    await asyncio.sleep(0)
    works[2].cancel()
    await asyncio.wait(works)
    again = taken(await post.submit(submission("r-2")))
    assert not again.new
    assert [each["entry"] for each in await entries(office)] == [f"1.{n}" for n in range(1, 6)]


async def test_a_database_that_fails_takes_nothing(opened: Open) -> None:
    """Everybody is told, nothing is half there, and it goes on when the database does."""
    valve = Valve(opened())
    async with working(valve) as office:
        post = Post(office.journal, office.reader, office.scribe)
        valve.failing = True
        outcomes = await asyncio.gather(*(post.submit(submission(f"r-{n}")) for n in range(5)), return_exceptions=True)
        assert [each.code for each in outcomes if isinstance(each, Refusal)] == ["journal.unavailable"] * 5
        with pytest.raises(Refusal, match=r"journal\.unavailable"):
            await post.known(SENDER, "r-1")
        valve.failing = False
        assert taken(await post.submit(submission("r-1"))).new
        assert await office.faults() == ()
