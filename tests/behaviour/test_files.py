"""What is known of attachments, on every database: who sees a file, what refers to it, when it goes."""

import asyncio
import hashlib
from collections.abc import Callable

from gateway.core.attachment import File
from gateway.core.entry import Bodies, Draft, Particulars, draft
from gateway.core.model import AgencyId, SystemId
from gateway.edge.documents import files
from gateway.edge.documents.files import Kept, Unused, Viewer
from gateway.edge.journal import Book, Journal
from gateway.edge.store import Driver, Plan, Rows, Statement

Open = Callable[[], Driver]
FIRST, SECOND = "01a2017c-6907-7cea-bfa6-1d29b1f5b6e1", "01a2017c-6907-7cea-bfa6-1d29b1f5b6e2"
SAENSUK, INTERIOR = AgencyId("saensuk"), AgencyId("interior")


def noted(file: File) -> Draft:
    return draft({"attachment": file.id}, Bodies(), Particulars(), bytes(64))


async def keep(journal: Journal, name: str, agency: AgencyId = SAENSUK, raw: bytes = b"") -> str:
    """Its id; without ``raw`` no other file has the same bytes."""
    file = File(name, hashlib.sha256(raw or name.encode()).digest(), 10, "application/pdf")
    known, _ = await journal.run(files.keep(SystemId(f"{agency}.desk"), Kept(file, f"e1/{name}"), noted))
    return known


async def asked(journal: Journal, statement: Statement) -> Rows:
    def plan(_: Book) -> Plan[Rows]:
        return (yield statement)

    return await journal.run(plan)


async def refer(journal: Journal, *pairs: tuple[str, str]) -> frozenset[str]:
    return await journal.run(lambda _: files.refer(pairs))


async def test_a_file_is_known_with_its_facts(journal: Journal) -> None:
    """To the agency that uploaded it, and to no other."""
    await keep(journal, FIRST)
    found = files.kept(await asked(journal, files.seen(Viewer(SAENSUK), [FIRST, SECOND])), Viewer(SAENSUK))
    digest = hashlib.sha256(FIRST.encode()).digest()
    assert found == {FIRST: Kept(File(FIRST, digest, 10, "application/pdf"), f"e1/{FIRST}")}
    assert files.kept(await asked(journal, files.seen(Viewer(INTERIOR), [FIRST])), Viewer(INTERIOR)) == {}


async def test_the_same_bytes_of_one_agency_have_one_id(journal: Journal) -> None:
    """For another day from now on, and in the entry; another agency's are another file."""
    raw = b"plan"
    assert await keep(journal, FIRST, raw=raw) == FIRST
    await asked(journal, ("update attachments set keep_until = 0", ()))
    assert await keep(journal, SECOND, raw=raw) == FIRST
    assert await keep(journal, SECOND, INTERIOR, raw) == SECOND
    assert await journal.run(files.purge) == []
    rows = await asked(journal, ("select id, agency, object from attachments order by id", ()))
    assert [tuple(row) for row in rows] == [(FIRST, "saensuk", f"e1/{FIRST}"), (SECOND, "interior", f"e1/{SECOND}")]


async def test_a_recipient_sees_it_once_its_document_was_touched(journal: Journal) -> None:
    """A receipt about the same document shows it to nobody."""
    await keep(journal, FIRST)
    await refer(journal, (FIRST, "d"))
    columns = (
        "document, recipient, okey, kind, service, unit, state, open, touched, attempts, requeued, since, expires, "
        "changed"
    )
    for kind, touched, shown in (("receipt", "true", 0), ("document", "false", 0), ("document", "true", 1)):
        values = f"'d', 'interior', '', '{kind}', 's', '', 'arrived', false, {touched}, 0, 0, {{now}}, {{now}}, {{now}}"
        await asked(journal, (f"insert into deliveries ({columns}) values ({values})", ()))  # noqa: S608 - words of this test
        assert len(await asked(journal, files.seen(Viewer(INTERIOR), [FIRST]))) == shown


async def test_a_file_shows_to_its_system_and_to_who_decides(journal: Journal) -> None:
    """Where uploads are systems' own; to the agency sent for; to a person in the post."""
    await keep(journal, FIRST)
    await refer(journal, (FIRST, "d"))
    said = "'d', 'document', 'held', 'saensuk.desk', 'saensuk', 'sila', 's', 'r', '', '', '', {now}, {now} + 60"
    columns = (
        "id, kind, state, sender, agency, on_behalf, service, reference, fingerprint, digest, catalogue, submitted, "
        "expires, approver, role, head"
    )
    await asked(journal, (f"insert into documents ({columns}) values ({said}, 'interior', 'registrar', '')", ()))  # noqa: S608 - words of this test
    viewers = {
        Viewer(SAENSUK, SystemId("saensuk.desk")): 1,
        Viewer(SAENSUK, SystemId("saensuk.archive")): 0,
        Viewer(AgencyId("sila"), SystemId("sila.desk")): 1,
        Viewer(INTERIOR, None, "registrar"): 1,
        Viewer(INTERIOR, None, "clerk"): 0,
        Viewer(AgencyId("lampang"), None, "registrar"): 0,
    }
    assert {each: len(await asked(journal, files.seen(each, [FIRST]))) for each in viewers} == viewers
    await asked(journal, ("update documents set state = 'submitted'", ()))
    assert not await asked(journal, files.seen(Viewer(INTERIOR, None, "registrar"), [FIRST]))


async def test_what_nothing_uses_is_counted_and_goes(journal: Journal) -> None:
    """After its time, and not before; what is used stays."""
    await keep(journal, FIRST)
    await keep(journal, SECOND)
    await refer(journal, (FIRST, "d"))
    assert files.counted(await asked(journal, files.unused(SAENSUK))) == Unused(1, 10)
    assert await journal.run(files.purge) == []
    await asked(journal, ("update attachments set keep_until = 0", ()))
    assert await journal.run(files.purge) == [f"e1/{SECOND}"]
    assert [row[0] for row in await asked(journal, files.among([FIRST, SECOND]))] == [f"e1/{FIRST}"]


async def test_a_reference_names_what_is_gone(journal: Journal) -> None:
    """And keeps the others; twice is once."""
    await keep(journal, FIRST)
    assert await refer(journal, (SECOND, "d"), (FIRST, "d"), (FIRST, "d")) == {SECOND}
    assert [tuple(row) for row in await asked(journal, ("select attachment, document from uses", ()))] == [(FIRST, "d")]


async def test_a_purge_beside_a_reference_loses_no_file(journal: Journal, opened: Open, database: str) -> None:
    """Whoever comes first, a file that a document refers to is there afterwards (PostgreSQL: two connections)."""
    if database.startswith("sqlite"):
        other = journal
    else:
        other = Journal(opened())
        await other.open("other")
    for round_ in range(20):
        name = f"01a2017c-6907-7cea-bfa6-{round_:012x}"
        await keep(journal, name)
        await asked(journal, (f"update attachments set keep_until = 0 where id = '{name}'", ()))  # noqa: S608 - as above
        gone, purged = await asyncio.gather(refer(journal, (name, "d")), other.run(files.purge))
        assert bool(gone) == bool(purged)
        assert len(await asked(journal, files.among([name]))) == (0 if gone else 1)
    if other is not journal:
        await other.close()
