"""The second person on every database: one decision, by somebody else, and order starts with it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from gateway.core.delivery import Refused, State
from gateway.core.model import AgencyId
from gateway.edge.documents import approving
from gateway.edge.documents.post import Post
from gateway.edge.documents.records import Hold, Step, Submission, Taken
from tests.behaviour.conftest import Open
from tests.fakes.mail import BOX, Office, working
from tests.fakes.submissions import addressee, submission

REQUESTER, SECOND, THIRD = b"requester", b"second", b"third"
PERSON = {"issuer": "https://idp", "subject": "2", "post": "registrar"}


@dataclass(slots=True)
class Desk:
    """Where second persons decide."""

    office: Office
    post: Post

    async def held(self, reference: str = "r-1", okey: str = "lane", way: str = "webhook") -> Submission:
        """A document that waits."""
        hold = Hold(AgencyId("health"), "registrar", REQUESTER)
        made = submission(reference, addressee("health", okey, way=way), hold=hold)
        assert isinstance(await self.post.submit(made), Taken)
        return made

    async def approve(self, held: Submission, person: bytes = SECOND) -> Taken | Refused:
        step = Step(held.paper, AgencyId("health"), State.SUBMITTED, State.SUBMITTED, by="health.desk", person=PERSON)
        plan = approving.approve(person, step, held.to[0], 60, self.office.scribe)
        return await self.office.run(plan, [held.to[0].lane])

    async def decline(self, held: Submission, person: bytes = SECOND) -> Taken | Refused:
        step = Step(held.paper, AgencyId("health"), State.DECLINED, State.DECLINED, by="health.desk", text="Not so.")
        return await self.office.run(approving.decline(person, step, self.office.scribe))


@pytest.fixture
async def desk(opened: Open) -> AsyncIterator[Desk]:
    async with working(opened()) as office:
        yield Desk(office, Post(office.journal, office.reader, office.scribe))
        assert await office.faults() == ()


async def test_an_approved_document_goes_out(desk: Desk) -> None:
    """It is delivered like any other from then on, with a receipt of its own and its whole time before it."""
    held = await desk.held()
    got = await desk.approve(held)
    assert isinstance(got, Taken)
    assert (got.id, got.state) == (held.paper.id, State.SUBMITTED)
    assert await desk.office.steps(held.paper.id) == ["held", "submitted"]
    assert await desk.office.rows("select state, expires - {now} < 61 from documents") in (
        [("submitted", 1)],
        [("submitted", True)],
    )
    assert await desk.office.hand_over() == [held.paper.id]


async def test_a_mailbox_has_it_with_the_approval(desk: Desk) -> None:
    """Not before; then it has arrived."""
    held = await desk.held(way=BOX)
    assert await desk.office.lease() == []
    await desk.approve(held)
    assert await desk.office.steps(held.paper.id) == ["held", "submitted", "arrived"]
    assert await desk.office.lease() == [held.paper.id]


async def test_who_asked_cannot_decide(desk: Desk) -> None:
    """D21: compared as persons, in the statement that moves the row; neither yes nor no."""
    held = await desk.held()
    for decide in (desk.approve, desk.decline):
        assert await decide(held, REQUESTER) == Refused("approval.same_person")
    assert await desk.office.rows("select state from documents") == [("held",)]
    assert await desk.office.entries(held.paper.id) == ["held"]


async def test_a_declined_document_goes_nowhere(desk: Desk) -> None:
    """It ends with a receipt; what was typed is not in the entry; nobody can approve it afterwards."""
    held = await desk.held()
    got = await desk.decline(held)
    assert isinstance(got, Taken)
    assert got.state is State.DECLINED
    assert await desk.approve(held, THIRD) == Refused("approval.decided")
    assert await desk.office.steps(held.paper.id) == ["held", "declined"]
    assert await desk.office.rows("select count(*) from deliveries") == [(0,)]


async def test_it_is_decided_once(desk: Desk) -> None:
    """D21: ten approvals and ten refusals at the same time: one of them counts, and nothing is sent twice."""
    held = await desk.held()
    works = [decide(held, f"person {n}".encode()) for n in range(10) for decide in (desk.approve, desk.decline)]
    outcomes = await asyncio.gather(*works)
    assert sum(isinstance(each, Taken) for each in outcomes) == 1
    assert {each.code for each in outcomes if isinstance(each, Refused)} == {"approval.decided"}
    assert len(await desk.office.steps(held.paper.id)) == 2


async def test_approval_against_recall(desk: Desk) -> None:
    """D21: the sender withdraws while the second person agrees: recalled in the end, and never handed over."""
    for n in range(10):
        held = await desk.held(f"r-{n}", f"lane {n}")
        works = [desk.approve(held), desk.office.recall(held.paper.id)]
        await asyncio.gather(*(works if n % 2 else works[::-1]))
        steps = await desk.office.steps(held.paper.id)
        assert steps in (["held", "submitted", "recalled"], ["held", "recalled"])
    assert await desk.office.hand_over() == []


async def test_order_starts_with_the_approval(desk: Desk) -> None:
    """A document that came later and needed nobody goes first."""
    held = await desk.held(okey="case")
    later = submission("r-2", addressee("health", "case"))
    await desk.post.submit(later)
    await desk.approve(held)
    assert await desk.office.hand_over() == [later.paper.id, held.paper.id]


async def test_it_is_too_late(desk: Desk) -> None:
    """Once its time has passed nobody can let it go, though no sweep has been there yet."""
    held = await desk.held()
    await desk.office.sql("update documents set expires = {now} - 1")
    assert await desk.approve(held) == Refused("approval.decided")


async def test_nothing_is_known_of_it(desk: Desk) -> None:
    """An id that nobody was given."""
    assert await desk.approve(submission("r-1")) == Refused("document.unknown")
