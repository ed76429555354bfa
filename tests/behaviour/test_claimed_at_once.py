"""What is claimed in the transaction that takes it in, on every database: when, when not, and what a crash leaves."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from gateway.core.delivery import Refused
from gateway.core.model import AgencyId
from gateway.edge.documents import submitting
from gateway.edge.documents.ends import Changed
from gateway.edge.documents.records import Addressee, Hold, Lane, Place, Submission, Taken, own_lane
from gateway.edge.documents.submitting import Outcome, pushed, submit
from gateway.edge.store import MAX_ROWS, Rows, _driven
from tests.behaviour.conftest import Open
from tests.fakes.mail import DEAD, HEALTH, INTERIOR, LONG, PUSH, Office, fine, waits, way, working
from tests.fakes.submissions import addressee, submission


@pytest.fixture
async def office(opened: Open) -> AsyncIterator[Office]:
    async with working(opened(), way("health"), way("interior")) as made:
        yield made
        assert await made.faults() == ()


def alone(reference: str, *recipients: str) -> Submission:
    """It keeps no order with others."""
    made = submission(reference)
    to = tuple(addressee(each, own_lane(made.paper.id)) for each in recipients or (HEALTH,))
    return replace(made, to=to, plain={"purpose": "building_permit"})


async def taken(office: Office, *some: Submission, seconds: float = LONG) -> list[Outcome]:
    """With a place for each that may have one."""
    places = {to.lane: Place(to.way, "mine", seconds) for each in some for to in pushed(each)}
    return await office.run(submit(some, office.scribe, places), submitting.lanes(some, office.scribe))


def claimed(outcome: Outcome) -> tuple[Lane, ...]:
    assert isinstance(outcome, Taken)
    return outcome.lanes


async def test_it_is_leased_touched_and_as_a_claim_would_give_it(office: Office) -> None:
    """Nobody else gets it; what comes of it is settled as of any claim."""
    sent = alone("r-1")
    (lane,) = claimed((await taken(office, sent))[0])
    (out,) = lane.out
    rows = await office.rows("select seq, touched, attempts from deliveries")
    assert [tuple(map(int, row)) for row in rows] == [(out.seq, 1, 1)]
    assert (out.paper, out.opened.raw if out.opened else None, out.attempts, out.touched) == (
        sent.paper,
        sent.raw,
        1,
        False,
    )
    assert await office.claim() == ()
    assert await office.settle(lane, fine(out))
    assert (await office.state(sent.paper.id), await office.rows("select opened from lanes")) == ("arrived", [(0,)])


async def test_a_crash_before_the_hand_over_costs_a_lease(office: Office) -> None:
    """When it has run out the next one gets it, as what may have been sent; the first one's word changes nothing."""
    sent = alone("r-1")
    (lane,) = claimed((await taken(office, sent, seconds=DEAD))[0])
    (again,) = await office.claim()
    assert [(out.paper.id, out.touched, out.attempts) for out in again.out] == [(sent.paper.id, True, 2)]
    assert not await office.settle(lane, fine(lane.out[0]))
    assert await office.settle(again, fine(again.out[0]))
    assert await office.steps(sent.paper.id) == ["submitted", "arrived"]


async def test_a_recall_right_after_the_answer_comes_too_late(office: Office) -> None:
    """It may be with the recipient already; when it certainly is not, it can be recalled."""
    sent = alone("r-1")
    (lane,) = claimed((await taken(office, sent))[0])
    assert await office.recall(sent.paper.id) == Refused("document.may_have_arrived")
    assert await office.settle(lane, waits(lane.out[0]), back_off=60.0)
    assert isinstance(await office.recall(sent.paper.id), Changed)


async def test_what_was_not_tried_is_given_back(office: Office) -> None:
    """At a stop, say: untouched, without an attempt, and free at once."""
    sent = alone("r-1")
    (lane,) = claimed((await taken(office, sent))[0])
    assert await office.settle(lane)
    rows = await office.rows("select touched, attempts from deliveries")
    assert [tuple(map(int, row)) for row in rows] == [(0, 0)]
    assert [lane.out[0].paper.id for lane in await office.claim()] == [sent.paper.id]


async def test_behind_a_closed_gate_nothing_is_claimed(office: Office) -> None:
    """Others closed it meanwhile: it waits there as everything does, and one for another agency goes."""
    await office.close_gate(60.0)
    one, other = await taken(office, alone("r-1"), alone("r-2", INTERIOR))
    assert (claimed(one), [lane.key[0] for lane in claimed(other)]) == ((), ["interior"])
    rows = await office.rows("select recipient, touched, attempts from deliveries order by recipient")
    assert [(name, bool(touched), attempts) for name, touched, attempts in rows] == [
        ("health", False, 0),
        ("interior", True, 1),
    ]


async def test_of_one_reference_one_is_claimed(office: Office) -> None:
    """The other caller gets the same receipt, and nothing to hand over; no lane is left behind."""
    one, other = await taken(office, alone("r-1"), alone("r-1"))
    assert isinstance(one, Taken)
    assert isinstance(other, Taken)
    assert sorted([len(one.lanes), len(other.lanes)]) == [0, 1]
    assert (one.receipt == other.receipt, len(await office.rows("select okey from lanes"))) == (True, 1)


async def test_only_what_nobody_else_can_know_is_claimed(office: Office) -> None:
    """Not what shares a lane, waits for a second person, or lies in a mailbox or behind a bound."""
    made = alone("r-1")
    (to,) = made.to
    shared = replace(made, to=(Addressee(HEALTH, "case 7", PUSH, "", pulled=False),))
    hold = replace(made, hold=Hold(HEALTH, "registrar", b"person"))
    boxed, full = (replace(made, to=(each,)) for each in (replace(to, pulled=True), replace(to, full=True)))
    assert [list(pushed(each)) for each in (shared, hold, boxed, full, made)] == [[], [], [], [], [to]]


async def test_each_addressee_is_claimed_by_itself(office: Office) -> None:
    """Of one document to two agencies where one has a place: the other's waits to be claimed."""
    sent = alone("r-1", HEALTH, INTERIOR)
    places = {(HEALTH, own_lane(sent.paper.id)): Place(PUSH, "mine", LONG)}
    ((outcome),) = await office.run(submit([sent], office.scribe, places))
    assert [lane.key[0] for lane in claimed(outcome)] == [HEALTH]
    assert (await office.claim(), await office.hand_over(INTERIOR)) == ((), [sent.paper.id])
    assert await office.settle(claimed(outcome)[0], fine(claimed(outcome)[0].out[0]))


async def test_the_recipients_own_word_comes_first(office: Office) -> None:
    """It registers while the push is under way: the settlement counts nothing twice."""
    sent = alone("r-1")
    (lane,) = claimed((await taken(office, sent))[0])
    assert isinstance(await office.say(sent.paper.id, "registered", number="7"), Changed)
    assert await office.settle(lane, fine(lane.out[0]))
    assert (await office.rows("select opened from lanes"), await office.state(sent.paper.id)) == ([(0,)], "registered")


def test_gates_are_asked_about_in_portions() -> None:
    """Of an event for very many: a statement takes so many parameters and no more."""
    places = {(AgencyId(f"agency_{n}"), "own"): Place(PUSH, "mine", LONG) for n in range(2 * MAX_ROWS + 1)}
    counts = []

    def execute(_: str, values: Sequence[str]) -> Rows:
        counts.append(len(values) // 2)
        return [(values[0], PUSH)]

    assert len(_driven(submitting._open(places), execute)) == 2 * MAX_ROWS - 2
    assert counts == [MAX_ROWS, MAX_ROWS, 1]
