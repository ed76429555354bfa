"""Mailboxes on every database: two pollers never hold one lane, a lease ends, and an outcome needs the current one."""

from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from gateway.core.delivery import Refused, State
from gateway.edge.documents import mailbox
from gateway.edge.documents.ends import Changed, Unchanged
from gateway.edge.store import Driver
from tests.fakes.mail import BOX, DEAD, HEALTH, LONG, SENDING, Office, fine, gathered, way, working

Open = Callable[[], Driver]
NO_LEASE = Refused("document.lease")
PERMITS = f"{BOX}-permits"


@pytest.fixture
async def office(opened: Open) -> AsyncIterator[Office]:
    """One process; the sender has its receipts in a mailbox of its own."""
    async with working(opened(), way("health", BOX), way("finance", BOX, receipts=True)) as made:
        yield made
        assert await made.faults() == ()


async def letters(office: Office, *names: str, okey: str | None = None, by: str = BOX, unit: str = "") -> None:
    for name in names:
        await office.put(name, okey=okey, by=by, unit=unit)


async def test_a_letter_is_leased_and_answered(office: Office) -> None:
    """It has arrived from the beginning; leased, retrieved, registered; nobody gets it a second time."""
    await letters(office, "a")
    assert await office.state("a") == "arrived"
    assert (await office.lease(claim="c"), await office.lease(claim="d")) == (["a"], [])
    assert isinstance(await office.say("a", "retrieved", lease="c"), Changed)
    assert isinstance(await office.say("a", "registered", number="77"), Changed)
    assert await office.steps("a") == ["submitted", "retrieved", "registered"]


async def test_two_pollers_never_hold_one_lane(office: Office) -> None:
    """D11: 1 and 2 of one case go to one poller, in order; the other gets other cases."""
    await letters(office, "1", "2", okey="case")
    await letters(office, *(f"x{n}" for n in range(10)))
    got = await gathered(*[partial(office.lease, most=4, claim=f"c{n}") for n in range(5)])
    assert sorted(name for each in got for name in each) == ["1", "2", *(f"x{n}" for n in range(10))]
    assert next(each for each in got if "1" in each or "2" in each)[:2] == ["1", "2"]


async def test_a_lease_that_ended_gives_the_lane_to_the_next(office: Office) -> None:
    """D10: 1 forgets, 2 leases the same; 1's answer is refused, 2's counts; again the same receipt, another one 409."""
    await letters(office, "a")
    await office.lease(claim="1", seconds=DEAD)
    assert await office.say("a", "registered", number="77", lease="1") == NO_LEASE
    assert await office.lease(claim="2") == ["a"]
    assert await office.say("a", "registered", number="77", lease="1") == NO_LEASE
    answer = await office.say("a", "registered", number="78", lease="2")
    assert isinstance(answer, Changed)
    assert await office.say("a", "registered", number="78", lease="2") == Unchanged(State.REGISTERED, answer.receipt)
    disputed = Refused("document.ended", disputed=True)
    assert await office.say("a", "registered", number="77", lease="1") == disputed


@pytest.mark.parametrize("lease", [None, "other"])
async def test_without_the_lease_nobody_answers(office: Office, lease: str | None) -> None:
    """Before anybody leased it, and while somebody else holds it."""
    await letters(office, "a")
    assert await office.say("a", "retrieved", lease=lease) == NO_LEASE
    await office.lease(claim="c")
    assert await office.say("a", "retrieved", lease=lease) == NO_LEASE
    assert await office.state("a") == "arrived"


async def test_what_was_not_leased_with_the_lane_is_not_answered(office: Office) -> None:
    """The lease on a lane is one on what it gave, not on what came later."""
    await letters(office, "a", okey="k")
    await office.lease(claim="c")
    await letters(office, "b", okey="k")
    assert await office.say("b", "retrieved", lease="c") == NO_LEASE


async def test_recall_while_a_poller_has_the_body(office: Office) -> None:
    """D12: before the first lease it leaves the mailbox; from then on never again, also not after the lease."""
    await letters(office, "a", "b")
    assert isinstance(await office.recall("a"), Changed)
    assert await office.lease(claim="c", seconds=DEAD) == ["b"]
    assert await office.recall("b") == Refused("document.may_have_arrived")


async def test_a_renewed_lease_holds_on(office: Office) -> None:
    """As long as it lives, and only its own."""
    await letters(office, "a", "b")
    await office.lease(claim="c")
    assert await office.run(mailbox.renew(HEALTH, "c", LONG)) == 2
    assert await office.run(mailbox.renew(HEALTH, "d", LONG)) == 0
    assert await office.run(mailbox.renew(HEALTH, "c", DEAD)) == 2
    assert await office.run(mailbox.renew(HEALTH, "c", LONG)) == 0
    assert sorted(await office.lease(claim="d")) == ["a", "b"]  # two lanes: neither comes before the other


async def test_a_lane_is_free_when_all_of_it_is_answered(office: Office) -> None:
    """The next can be leased at once, not before."""
    for name in ("1", "2", "3"):
        await letters(office, name, okey="k")
    assert await office.lease(claim="c", most=2) == ["1", "2"]
    await office.say("1", "retrieved", lease="c")
    assert await office.lease(claim="d") == []
    await office.say("2", "rejected", reason="incomplete", lease="c")
    assert await office.lease(claim="d") == ["3"]


async def test_a_forgotten_lease_shuts_no_lane_for_longer(office: Office) -> None:
    """The next poller answers what it got, and the rest can be fetched at once, though the first one had it too."""
    for n in range(4):
        await letters(office, f"a{n}", okey="case")
    assert len(await office.lease(most=4, seconds=DEAD, claim="one")) == 4
    assert await office.lease(most=2, claim="two") == ["a0", "a1"]
    await office.say("a0", "registered", number="1", lease="two")
    assert await office.lease(claim="three") == []
    await office.say("a1", "registered", number="2", lease="two")
    assert await office.lease(claim="three") == ["a2", "a3"]


async def test_a_call_gets_as_many_as_it_asked_for(office: Office) -> None:
    """Whole lanes first, some of the last one, the rest stays free for others; never more than the bound."""
    for case in ("x", "y", "z"):
        await letters(office, *(f"{case}{n}" for n in range(3)), okey=case)
    assert await office.lease(most=5, claim="c") == ["x0", "x1", "x2", "y0", "y1"]
    assert await office.lease(most=5, claim="d") == ["z0", "z1", "z2"]
    await letters(office, *(f"n{n}" for n in range(mailbox.MAX_LEASED + 5)))
    assert len(await office.lease(most=10_000, claim="e")) == mailbox.MAX_LEASED
    assert await office.lease(most=0) == []


async def test_a_unit_sees_its_own(office: Office) -> None:
    """One agency, two ways: with a unit only what is for it, without one everything."""
    await letters(office, "a")
    await letters(office, "p", by=PERMITS, unit="permits")
    assert await office.lease(ways=[BOX, PERMITS], unit="permits", claim="c", seconds=DEAD) == ["p"]
    assert await office.lease(ways=[], claim="c") == []
    assert sorted(await office.lease(ways=[BOX, PERMITS], claim="d")) == ["a", "p"]


async def test_what_must_not_be_handed_out_is_settled(office: Office) -> None:
    """D20: leased, and its agreement has ended: undeliverable; suspended: as if it had not been leased."""
    await letters(office, "ended", "waits")
    got = await office.run(mailbox.lease(HEALTH, [BOX], None, max=9, seconds=LONG, claim="c"))
    by_name = {lane.out[0].paper.id: lane for lane in got}
    ended = fine(by_name["ended"].out[0], to=State.UNDELIVERABLE, sent=False, reason="policy.expired")
    await office.settle(by_name["ended"], ended)
    await office.settle(by_name["waits"], back_off=0)
    assert [await office.state(each) for each in ("ended", "waits")] == ["undeliverable", "arrived"]
    assert isinstance(await office.recall("waits"), Changed)


async def test_receipts_come_by_mailbox_too(office: Office) -> None:
    """A sender leases what became of its letter, and takes it out; nothing is written of that."""
    await letters(office, "a")
    await office.lease(claim="c")
    await office.say("a", "retrieved", lease="c")
    ((entry,),) = await office.rows("select entry from steps where step = 'retrieved'")
    assert await office.lease(SENDING, claim="s") == ["a"]
    for lease, answer in (("other", NO_LEASE), (None, NO_LEASE)):
        assert await office.run(mailbox.taken(SENDING, "a", entry, lease)) == answer
    assert isinstance(await office.run(mailbox.taken(SENDING, "a", entry, "s")), Changed)
    assert isinstance(await office.run(mailbox.taken(SENDING, "a", entry, None)), Unchanged)
    assert await office.run(mailbox.taken(HEALTH, "a", entry, "s")) == Refused("document.unknown")
    assert await office.steps("a") == ["submitted", "retrieved"]
