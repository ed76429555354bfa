"""Lists of an agency's documents by state or service on every database: whole, in order; a page looks only so far."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.core.delivery import State
from gateway.core.refusal import Refusal
from gateway.edge.documents import listing
from gateway.edge.documents.listing import Wanted, found
from gateway.edge.store import Driver, SqliteDriver
from tests.fakes.mail import BOX, HEALTH, LETTER, SENDER, SENDING, Office, way, working

Open = Callable[[], Driver]
NAMES = [f"d{number:02}" for number in range(20)]
RARE = ["d19", "d11", "d10", "d01"]
"""Those that could not be delivered, the newest first."""


@pytest.fixture
async def office(opened: Open) -> AsyncIterator[Office]:
    """Twenty letters from one agency to another, two of them sent for it by a third; all have reached it."""
    async with working(opened(), way("finance"), way("health")) as made:
        for name in NAMES:
            await made.put(name)
        await made.sql("update deliveries set touched = true, state = 'registered'")
        await made.sql(f"update deliveries set state = 'undeliverable' where document in {tuple(RARE)}")  # noqa: S608
        await made.sql("update documents set agency = 'platform', on_behalf = 'finance' where id in ('d10', 'd01')")
        yield made


async def page(
    office: Office, after: str | None = None, *, sent: bool, state: State | None = None, service: str | None = None
) -> tuple[list[str], str | None]:
    """Two documents at most, and ``next``."""
    wanted = Wanted(sent=sent, state=state, service=service, case=None, since=None, most=2, after=after)
    agency = office.catalogue.agencies[SENDING if sent else HEALTH]
    rows, following = await found(lambda select, *values: office.reader.read(select, values), agency, SENDER, wanted)
    return [row[1] for row in rows], following


async def pages(
    office: Office, *, sent: bool, state: State | None = None, service: str | None = None
) -> list[list[str]]:
    """One after the other, as a caller gets them who follows ``next``."""
    got: list[list[str]] = []
    after = None
    while not got or after is not None:
        names, after = await page(office, after, sent=sent, state=state, service=service)
        got.append(names)
    return got


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("looked", [1, 3, 4, 20, 1000])
async def test_following_the_pages_finds_all(
    office: Office, monkeypatch: pytest.MonkeyPatch, looked: int, *, sent: bool
) -> None:
    """However few a page looks at: each once, the newest first, and no page has more than was asked for."""
    monkeypatch.setattr(listing, "MAX_LOOKED", looked)
    by_state = await pages(office, sent=sent, state=State.UNDELIVERABLE)
    by_service = await pages(office, sent=sent, service=LETTER)
    assert [name for page in by_state for name in page] == RARE
    assert [name for page in by_service for name in page] == NAMES[::-1]
    assert max(map(len, by_state)) <= 2
    assert [name for page in await pages(office, sent=sent, service="letters.other.v1") for name in page] == []


@pytest.mark.parametrize("sent", [True, False])
async def test_a_page_looks_only_so_far(office: Office, monkeypatch: pytest.MonkeyPatch, *, sent: bool) -> None:
    """Among five of its own at a time, and five that were sent for it; what the recipient has ends with a full page."""
    monkeypatch.setattr(listing, "MAX_LOOKED", 5)
    last: list[list[str]] = [] if sent else [[]]
    assert await pages(office, sent=sent, service="letters.other.v1") == [[], [], [], [], *last]
    assert await pages(office, sent=sent, state=State.UNDELIVERABLE) == [["d19"], ["d11", "d10"], [], ["d01"], *last]


async def test_a_list_goes_on_behind_what_was_recalled(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The document in ``next`` was withdrawn, unseen, before the next page was asked for: nothing is left out."""
    monkeypatch.setattr(listing, "MAX_LOOKED", 3)
    async with working(opened(), way("health", BOX)) as office:
        for number in range(8):
            await office.put(f"d{number}", by=BOX)
        assert await page(office, sent=False, state=State.REGISTERED) == ([], "d5")
        await office.recall("d5")
        assert await page(office, "d5", sent=False, state=State.REGISTERED) == ([], "d2")
        assert await page(office, "d5", sent=False) == (["d4", "d3"], "d3")


@pytest.mark.parametrize("sent", [True, False])
async def test_behind_what_is_not_there_no_list_ends(office: Office, *, sent: bool) -> None:
    """It is refused, as an empty last page would say that all was shown; behind the last one that is so."""
    with pytest.raises(Refusal, match=r"request\.malformed.*parameter after"):
        await page(office, "d99", sent=sent)
    assert await page(office, "d00", sent=sent) == ([], None)


OWN = [(True, {"documents_agency", "documents_behalf"}), (False, {"deliveries_recipient"})]


@pytest.mark.parametrize(("sent", "indexes"), OWN)
async def test_it_looks_among_the_agencys_own(tmp_path: Path, indexes: set[str], *, sent: bool) -> None:
    """By an index of the agency: other agencies' documents are never read."""
    wanted = Wanted(sent=sent, state=State.REJECTED, service=LETTER, case=None, since=None, most=2, after=None)
    async with working(SqliteDriver(tmp_path / "gateway.sqlite3", "TEST"), way("finance")) as office:
        agency = office.catalogue.agencies[SENDING]
        for select, values in (
            listing.sent(agency, SENDER, wanted) if sent else listing.received(agency, wanted),
            listing.sent_to(agency, SENDER, wanted) if sent else listing.received_to(agency, wanted),
        ):
            plan = [row[3] for row in await office.rows(f"explain query plan {select}", *values)]
            assert indexes <= {word for step in plan for word in step.split()}
