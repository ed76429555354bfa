"""Ends on every database: recall, outcomes, forwarding, deadlines, requeue; one truth, with the same receipt."""

from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from gateway.core.delivery import Refused, State
from gateway.edge.documents import ends, orders
from gateway.edge.documents.ends import Changed, Onward, Order, Outcome, Unchanged, claims_of
from gateway.edge.documents.positions import lanes_of
from gateway.edge.store import Driver
from tests.fakes.mail import (
    BOX,
    DAY,
    DEAD,
    HEALTH,
    INTERIOR,
    LONG,
    PUSH,
    SENDING,
    Office,
    fine,
    gathered,
    town,
    waits,
    way,
    working,
)

Open = Callable[[], Driver]
MAY_HAVE = Refused("document.may_have_arrived")
DISPUTED = Refused("document.ended", disputed=True)


@pytest.fixture
async def office(opened: Open) -> AsyncIterator[Office]:
    """One process."""
    async with working(opened(), way("health"), way("interior")) as made:
        yield made
        assert await made.faults() == ()


async def requeued(office: Office, name: str, *, pulled: bool = False, overdue: float | None = None) -> ends.Answer:
    order = Order("operator.one", "the way is there again")
    way_, lanes = BOX if pulled else PUSH, await lanes_of(office.reader, name, HEALTH)
    anew = ends.Anew(way_, "", pulled=pulled, overdue_seconds=overdue)
    return await office.run(ends.requeue(name, HEALTH, order, anew, office.scribe), lanes)


async def undeliverable(office: Office, name: str, *, sent: bool = False, okey: str | None = None) -> None:
    await office.put(name, okey=okey)
    (lane,) = await office.claim()
    await office.settle(lane, fine(lane.out[0], to=State.UNDELIVERABLE, sent=sent, reason="no_way"))


async def forwarded(office: Office, name: str, *, lease: str | None = None) -> ends.Answer:
    onward = Onward("permits", f"{BOX}-permits", lambda okey: f"{okey}-permits")
    said = Outcome("forwarded", "health.desk", lease=lease)
    return await office.run(ends.forward(name, HEALTH, said, onward, office.scribe))


async def test_what_nobody_claimed_is_recalled(office: Office) -> None:
    """It leaves its lane with a receipt, nothing of it is handed over, and the recall again gives the same receipt."""
    await office.put("a", okey="k")
    await office.put("b", okey="k")
    answer = await office.recall("a")
    assert isinstance(answer, Changed)
    assert claims_of(answer.receipt)["state"] == "recalled"
    assert await office.recall("a") == Unchanged(State.RECALLED, answer.receipt)
    assert (await office.hand_over(), await office.steps("a")) == (["b"], ["submitted", "recalled"])


async def test_what_may_have_been_sent_is_not_recalled(office: Office) -> None:
    """D6, D7: from the claim on; also after the lease; not where the claimer says that nothing was sent."""
    await office.put("a")
    (lane,) = await office.claim(seconds=DEAD)
    assert await office.recall("a") == MAY_HAVE
    await office.settle(lane, waits(lane.out[0], sent=True))
    assert await office.recall("a") == MAY_HAVE
    await office.hand_over()
    assert await office.recall("a") == MAY_HAVE
    await office.put("b")
    (lane,) = await office.claim()
    await office.settle(lane, waits(lane.out[0], sent=False))
    assert isinstance(await office.recall("b"), Changed)


async def test_a_recall_from_several_says_who_has_it(office: Office) -> None:
    """D15: state belongs to a delivery; one has it, from the other it is recalled."""
    await office.put("a", HEALTH, also=[INTERIOR])
    await office.hand_over(HEALTH)
    answer = await office.recall("a")
    assert isinstance(answer, Changed)
    assert answer.kept == (HEALTH,)
    assert await office.states("a") == {"health": "arrived", "interior": "recalled"}
    assert await office.recall("a", HEALTH) == MAY_HAVE


async def test_what_is_held_is_recalled_before_anybody_decides(office: Office) -> None:
    """It has no delivery yet; afterwards it is recalled for everybody."""
    await office.hold("a")
    answer = await office.recall("a")
    assert isinstance(answer, Changed)
    assert await office.rows("select state from documents") == [("recalled",)]
    assert await office.steps("a") == ["held", "recalled"]
    again = await office.recall("a")
    assert (again, await office.steps("a")) == (ends.Unchanged(State.RECALLED, answer.receipt), ["held", "recalled"])


async def test_what_ended_before_it_went_out_is_recalled_no_more(office: Office) -> None:
    """It expired, say, while it waited for its second person: the sender is told that it has ended."""
    await office.hold("a")
    order = ends.Order("dara", "too late")
    assert isinstance(await office.run(ends.expire_now("a", HEALTH, order, office.scribe)), Changed)
    assert await office.recall("a") == await office.recall("a", HEALTH) == Refused("document.ended")


async def test_what_is_not_there_is_unknown(office: Office) -> None:
    """Of no document, and of no recipient of it, anything is done."""
    await office.put("a")
    assert await office.recall("b") == ends.UNKNOWN
    assert await office.say("a", "retrieved", INTERIOR) == ends.UNKNOWN


async def test_an_outcome_before_the_push_is_answered(office: Office) -> None:
    """D8: `registered` implies arrival; the 200 that comes then changes nothing, and the lane's counter is right."""
    await office.put("a")
    (lane,) = await office.claim()
    answer = await office.say("a", "registered", number="77")
    assert isinstance(answer, Changed)
    assert await office.settle(lane, fine(lane.out[0]))
    assert (await office.state("a"), await office.steps("a")) == ("registered", ["submitted", "registered"])
    assert await office.rows("select opened from lanes") == [(0,)]


async def test_whether_a_lease_is_needed_says_the_way(office: Office) -> None:
    """D8 holds of what was forwarded to a unit that is pushed to, too: it had arrived before."""
    office.catalogue = town(way("health"), way("health", "permits", unit="permits"))
    await office.put("a")
    await office.hand_over()
    onward = Onward("permits", "permits", lambda okey: f"{okey}-permits")
    await office.run(ends.forward("a", HEALTH, Outcome("forwarded", "health.desk"), onward, office.scribe))
    (lane,) = await office.claim(by="permits")
    assert isinstance(await office.say("a", "registered", number="77"), Changed)
    assert await office.settle(lane, fine(lane.out[0]))
    assert (await office.state("a"), await office.steps("a")) == (
        "registered",
        ["submitted", "arrived", "forwarded", "registered"],
    )


async def test_what_lies_in_a_mailbox_needs_a_lease_in_any_state(office: Office) -> None:
    """Whatever a node with a former folder wrote down of it."""
    office.catalogue = town(way("health", BOX))
    await office.put("a")
    await office.sql("update lanes set way = $1", BOX)
    await office.lease(claim="c")
    assert await office.say("a", "registered", number="1") == Refused("document.lease")
    assert isinstance(await office.say("a", "registered", number="1", lease="c"), Changed)


async def test_an_outcome_counts_only_once_it_may_be_known(office: Office) -> None:
    """Nobody says anything of what was never handed over."""
    await office.put("a")
    assert await office.say("a", "registered", number="77") == Refused("document.state")


async def test_a_recipient_says_one_thing_after_the_other(office: Office) -> None:
    """Arrived, retrieved, registered with its number; each has its receipt."""
    await office.put("a")
    await office.hand_over()
    await office.say("a", "retrieved")
    answer = await office.say("a", "registered", number="77")
    assert isinstance(answer, Changed)
    assert claims_of(answer.receipt)["number"] == "77"
    assert await office.steps("a") == ["submitted", "arrived", "retrieved", "registered"]
    assert await office.say("a", "retrieved") == DISPUTED


async def test_the_same_answer_again_gives_the_same_receipt(office: Office) -> None:
    """D10: another number, another reason, another end is disputed: 409, and kept in the journal."""
    await office.put("a")
    await office.hand_over()
    first = await office.say("a", "registered", number="77")
    assert isinstance(first, Changed)
    assert await office.say("a", "registered", number="77") == Unchanged(State.REGISTERED, first.receipt)
    assert await office.say("a", "registered", number="78") == DISPUTED
    assert await office.say("a", "rejected", reason="duplicate") == DISPUTED
    assert (await office.entries("a"))[-2:] == ["disputed", "disputed"]
    assert await office.state("a") == "registered"


async def test_disputes_without_end_do_not_fill_the_journal(office: Office) -> None:
    """The tenth is written down, the hundredth is refused alike and is not."""
    await office.put("a")
    await office.recall("a")
    answers = [await office.say("a", "registered", number=str(n)) for n in range(15)]
    assert answers == [DISPUTED] * 15
    assert (await office.steps("a")).count("disputed") == ends.MAX_DISPUTES


@pytest.mark.parametrize("end", ["recalled", "expired"])
async def test_an_outcome_after_an_end_is_disputed(office: Office, end: str) -> None:
    """D9: the end stands; what the recipient said is evidence."""
    await office.put("a", seconds=DEAD if end == "expired" else DAY)
    assert await office.expire() if end == "expired" else await office.recall("a")
    assert await office.say("a", "registered", number="77") == DISPUTED
    assert (await office.state("a"), (await office.steps("a"))[1:]) == (end, [end, "disputed"])


async def test_many_outcomes_at_once_are_one(office: Office) -> None:
    """In one batch: whichever comes first stands; all others hear of it."""
    await office.put("a")
    await office.hand_over()
    answers = await gathered(*[partial(office.say, "a", "registered", number=str(n)) for n in range(5)])
    assert sorted(type(each).__name__ for each in answers) == ["Changed", *["Refused"] * 4]


async def test_an_undeliverable_one_is_requeued(office: Office) -> None:
    """D4, D14: it comes late and says so, its time begins anew, and its lane may have been forgotten meanwhile."""
    await undeliverable(office, "a", okey="k")
    await office.put("b", okey="k")
    assert await office.hand_over() == ["b"]
    await office.sql("delete from lanes")
    await office.sql("update deliveries set expires = {now} - 5, since = {now} - 5 - 1000 where document = 'a'")
    assert isinstance(await requeued(office, "a"), Changed)
    ((expires,),) = await office.rows("select expires - {now} from deliveries where document = 'a'")
    assert expires == pytest.approx(1000, abs=10)
    (lane,) = await office.claim()
    assert (lane.out[0].paper.id, lane.out[0].requeued) == ("a", 1)
    await office.settle(lane, fine(lane.out[0]))
    ((receipt,),) = await office.rows("select receipt from steps where step = 'arrived' and document = 'a'")
    assert claims_of(receipt)["late"] == 1
    await office.say("a", "registered", number="7")
    assert await requeued(office, "a") == Refused("document.state")


async def test_what_its_recipient_has_lost_is_requeued(office: Office) -> None:
    """It had arrived in a topic that is gone, say; it goes out a second time, marked so."""
    await office.put("a")
    assert await office.hand_over() == ["a"]
    assert isinstance(await requeued(office, "a"), Changed)
    (lane,) = await office.claim()
    assert (lane.out[0].paper.id, lane.out[0].requeued, lane.out[0].touched) == ("a", 1, True)
    assert isinstance(await office.recall("a"), Refused)


@pytest.mark.parametrize("sent", [False, True])
async def test_what_may_have_arrived_is_not_recalled_after_a_requeue(office: Office, *, sent: bool) -> None:
    """An operator's order does not make a push unsent."""
    await undeliverable(office, "a", sent=sent)
    await requeued(office, "a")
    assert isinstance(await office.recall("a"), Refused if sent else Changed)


async def test_a_requeued_one_lies_in_a_mailbox_at_once(office: Office) -> None:
    """Where the agency has a mailbox now."""
    await undeliverable(office, "a")
    answer = await requeued(office, "a", pulled=True)
    assert isinstance(answer, Changed)
    assert (answer.state, await office.lease()) == (State.ARRIVED, ["a"])
    assert await office.steps("a") == ["submitted", "undeliverable", "requeued", "arrived"]


async def test_a_requeued_one_follows_those_that_wait(office: Office) -> None:
    """It takes no others of its lane with it to another way: they all go there when the folder is looked at."""
    await office.put("a", okey="k")
    await office.put("b", okey="k")
    (lane,) = await office.claim(per_lane=1)
    await office.settle(lane, fine(lane.out[0], to=State.UNDELIVERABLE, sent=False))
    office.catalogue = town(way("health", BOX))
    answer = await requeued(office, "a", pulled=True)
    assert isinstance(answer, Changed)
    assert (answer.state, await office.rows("select way from lanes")) == (State.SUBMITTED, [(PUSH,)])
    assert await office.realign() == 3
    assert await office.lease() == ["a", "b"]
    assert (await office.steps("b"), (await office.steps("a"))[-2:]) == (
        ["submitted", "arrived"],
        ["requeued", "arrived"],
    )


@pytest.mark.parametrize(("recipient", "done"), [("*", True), ("health", True), ("interior", False)])
async def test_an_operator_orders_what_is_held_to_end(office: Office, recipient: str, done: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """It has no delivery yet, and is named by the recipient that it is for."""
    await office.hold("h")
    order = orders.orders(office.scribe, lambda: office.catalogue)["expire_document"]
    fields = {"document": "h", "recipient": recipient, "reason": "sent by mistake", "who": "dara"}
    told = await office.run(order(fields))
    assert (told.done, await office.steps("h")) == (done, ["held", "expired"] if done else ["held"])


async def test_an_operator_ends_what_waits(office: Office) -> None:
    """Not what somebody has in hand, nor what arrived; twice is once; also what waits for a second person."""
    for name in ("waits", "leased"):
        await office.put(name)
    await office.hold("held")
    order = Order("operator.one", "sent by mistake")
    answers = [await office.run(ends.expire_now(each, HEALTH, order, office.scribe)) for each in ("waits", "held")]
    assert [type(each) for each in answers] == [Changed, Changed]
    await office.claim(seconds=LONG)
    assert await office.run(ends.expire_now("leased", HEALTH, order, office.scribe)) == Refused("document.state")
    assert isinstance(await office.run(ends.expire_now("waits", HEALTH, order, office.scribe)), Unchanged)


async def test_a_letter_goes_on_to_another_unit(office: Office) -> None:
    """It leaves the one mailbox for the other, stays arrived, is journaled, and cannot be recalled."""
    await office.put("a", by=BOX)
    await office.lease(claim="c")
    assert await forwarded(office, "a") == Refused("document.lease")
    answer = await forwarded(office, "a", lease="c")
    assert isinstance(answer, Unchanged)
    assert await office.lease() == []
    assert await office.lease(ways=[f"{BOX}-permits"], unit="permits", claim="d") == ["a"]
    assert await office.say("a", "registered", number="1", lease="c") == Refused("document.lease")
    assert isinstance(await office.say("a", "registered", number="1", lease="d"), Changed)
    assert await office.steps("a") == ["submitted", "forwarded", "registered"]


async def test_what_was_pushed_is_forwarded_too(office: Office) -> None:
    """It opens again, with as much time as it had; what was retrieved does not."""
    await office.put("a", seconds=1000)
    await office.hand_over()
    await office.sql("update deliveries set expires = {now} - 5, since = {now} - 1005")
    assert isinstance(await forwarded(office, "a"), Unchanged)
    assert (await office.expire(), await office.recall("a")) == (0, MAY_HAVE)
    assert await office.lease(ways=[f"{BOX}-permits"], claim="d") == ["a"]
    await office.say("a", "retrieved", lease="d")
    assert await forwarded(office, "a") == Refused("document.state")


async def test_what_was_purged_goes_nowhere(office: Office) -> None:
    """Without a body there is nothing to hand over: neither forwarded nor requeued."""
    await undeliverable(office, "a")
    await office.put("b")
    await office.hand_over()
    await office.sql("update documents set body = null")
    assert await requeued(office, "a") == Refused("document.state")
    assert await forwarded(office, "b") == Refused("document.state")


async def test_receipts_go_their_way_without_steps_of_their_own(opened: Open) -> None:
    """Each state's receipt is a delivery to the sender; that it arrived makes no receipt."""
    async with working(opened(), way("health"), way("finance", receipts=True)) as office:
        await office.put("a")
        await office.hand_over()
        (lane,) = await office.claim(SENDING)
        (out,) = lane.out
        assert (out.kind, out.body, claims_of(out.first_receipt)["state"]) == ("receipt", None, "arrived")
        assert await office.settle(lane, fine(out))
        assert await office.steps("a") == ["submitted", "arrived"]
        assert await office.claim(out.recipient) == ()
        assert await office.recall("a") == MAY_HAVE
        assert await office.faults() == ()
