"""The life of a document: no way out of an end, nothing recalled that may have been sent, one truth in any order."""

from collections.abc import Iterable
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.delivery import (
    TABLE,
    Go,
    Happening,
    Moved,
    Position,
    Refused,
    Snapshot,
    State,
    Step,
    Unmoved,
    ended,
    hand_over,
    next_step,
)

many = settings(max_examples=300, deadline=None)
happenings = st.sampled_from(Happening)
ENDS = {State.REGISTERED, State.REJECTED, State.DECLINED, State.RECALLED, State.EXPIRED}
OUTCOMES = {Happening.RETRIEVED, Happening.REGISTERED, Happening.REJECTED}
IN_A_LANE = {State.SUBMITTED, State.ARRIVED}


def positions() -> Iterable[Position]:
    """All that there can be: only what is in a lane is open, only what is open is leased."""
    for state, is_open, touched, leased in product(State, (False, True), (False, True), (False, True)):
        if (not is_open or state in IN_A_LANE) and (not leased or is_open):
            yield Position(state, open=is_open, touched=touched, leased=leased)


ALL = list(positions())


def lived(start: Position, story: Iterable[Happening]) -> list[tuple[Position, Step]]:
    """Where it stood each time, and what became of it then."""
    at, steps = start, []
    for happening in story:
        step = next_step(at, happening)
        steps.append((at, step))
        if isinstance(step, Moved):
            reopened = happening in (Happening.REQUEUED, Happening.APPROVED, Happening.FORWARDED)
            at = Position(step.to, open=reopened, touched=at.touched or happening is Happening.HANDED_OVER)
    return steps


def test_every_state_stands_in_the_table() -> None:
    """The table knows each state, and leads to states alone."""
    assert set(TABLE) == set(State)
    assert {state for state in State if not TABLE[state]} == ENDS
    assert {state for state in State if ended(state)} == ENDS | {State.UNDELIVERABLE}


@pytest.mark.parametrize(("at", "happening"), [*product(ALL, Happening)])
def test_a_step_is_one_of_the_table(at: Position, happening: Happening) -> None:
    """Nothing moves but as the table says."""
    step = next_step(at, happening)
    if isinstance(step, Moved):
        assert TABLE[at.state][happening] is step.to


@pytest.mark.parametrize(("at", "happening"), [(at, each) for at in ALL if at.state in ENDS for each in Happening])
def test_there_is_no_way_out_of_an_end(at: Position, happening: Happening) -> None:
    """What has ended stays so, whatever is said of it."""
    assert not isinstance(next_step(at, happening), Moved)


@pytest.mark.parametrize("at", ALL)
def test_what_may_have_been_sent_is_never_recalled(at: Position) -> None:
    """A signed `recalled` says that nobody has it: only of what is untouched, and waits in a lane or for approval."""
    step = next_step(at, Happening.RECALLED)
    free = not at.touched and (at.state is State.HELD or (at.open and at.state in IN_A_LANE))
    assert isinstance(step, Moved) == free
    if not free and at.state in {State.SUBMITTED, State.ARRIVED, State.RETRIEVED, State.HELD}:
        assert step == Refused("document.may_have_arrived")


def test_a_recall_twice_is_one() -> None:
    """The second one changes nothing and is no error."""
    assert next_step(Position(State.RECALLED, open=False, touched=False), Happening.RECALLED) == Unmoved()


@pytest.mark.parametrize("at", ALL)
def test_nothing_expires_under_a_live_lease(at: Position) -> None:
    """Only what waits expires; what may have arrived says `unconfirmed`."""
    step = next_step(at, Happening.EXPIRED)
    if isinstance(step, Moved):
        assert at.state is State.HELD or (at.open and not at.leased)
        assert step.unconfirmed == at.touched
    else:
        assert step == Unmoved()
        assert at.leased or not at.open or at.state not in IN_A_LANE


@pytest.mark.parametrize(("at", "happening"), [(at, each) for at in ALL for each in sorted(OUTCOMES)])
def test_an_outcome_counts_from_the_first_hand_over_on(at: Position, happening: Happening) -> None:
    """Not before anybody can have it; after an end it is disputed; the same again is nothing new."""
    step = next_step(at, happening)
    if at.state.value == happening.value:
        assert step == Unmoved()
    elif ended(at.state):
        assert step == Refused("document.ended", disputed=True)
    elif not at.touched or at.state is State.HELD:
        assert step == Refused("document.state")
    else:
        assert isinstance(step, Moved) == (happening in TABLE[at.state])


@pytest.mark.parametrize("at", ALL)
def test_a_late_arrival_changes_nothing(at: Position) -> None:
    """The 200 of a push that comes after the recipient's own word, or after an end."""
    step = next_step(at, Happening.HANDED_OVER)
    assert step == (Moved(State.ARRIVED) if at.state is State.SUBMITTED else Unmoved())


@pytest.mark.parametrize("at", ALL)
def test_only_what_waits_is_given_up(at: Position) -> None:
    """What is in the recipient's system cannot become undeliverable any more; what lies in a mailbox can."""
    assert isinstance(next_step(at, Happening.GIVEN_UP), Moved) <= (at.state in IN_A_LANE and at.open)


@pytest.mark.parametrize("at", ALL)
def test_only_what_is_undeliverable_or_was_lost_is_requeued(at: Position) -> None:
    """An operator's order is no way round an end; of what arrived, only what was pushed can have been lost."""
    again = at.state in (State.UNDELIVERABLE, State.ARRIVED) and not at.open
    expected = Moved(State.SUBMITTED) if again else Refused("document.state")
    assert next_step(at, Happening.REQUEUED) == expected


@pytest.mark.parametrize("at", ALL)
def test_only_what_arrived_is_forwarded(at: Position) -> None:
    """It stays arrived: a document that was retrieved or ended goes to no other unit."""
    step = next_step(at, Happening.FORWARDED)
    assert isinstance(step, Moved) == (at.state is State.ARRIVED and at.touched)
    if isinstance(step, Moved):
        assert step.to is State.ARRIVED


@pytest.mark.parametrize(("at", "happening"), [*product(ALL, (Happening.APPROVED, Happening.DECLINED))])
def test_a_second_person_decides_once(at: Position, happening: Happening) -> None:
    """Only of what is held; afterwards it has been decided."""
    step = next_step(at, happening)
    assert isinstance(step, Moved) == (at.state is State.HELD)
    if at.state is not State.HELD:
        assert step == Refused("approval.decided")


@many
@given(st.sampled_from(ALL), st.lists(happenings, max_size=12))
def test_a_life_has_one_end(start: Position, story: list[Happening]) -> None:
    """Whatever happens in whatever order, no more than one step leads to an end, and none follows it."""
    steps = lived(start, story)
    moves = [(at.state, step.to) for at, step in steps if isinstance(step, Moved)]
    assert sum(to in ENDS for _, to in moves) <= 1
    assert not any(before in ENDS for before, _ in moves)


@many
@given(st.sampled_from(ALL), st.lists(happenings, max_size=12))
def test_nothing_is_recalled_after_it_arrived(start: Position, story: list[Happening]) -> None:
    """Handed over once, a document is never recalled, also not after an operator's requeue."""
    arrived = False
    for happening, (at, step) in zip(story, lived(start, story), strict=True):
        arrived = arrived or at.touched
        assert not (arrived and isinstance(step, Moved) and happening is Happening.RECALLED)


def go(
    code: str | None, *, digest: str = "old", adopted: float = 0.0, submitted: float = 100.0, now: float = 200.0
) -> Go:
    present = Snapshot(digest, adopted)
    return hand_over(code, submitted_by="new", submitted=submitted, present=present, now=now)


def test_a_refusal_is_final_only_where_enough_is_known() -> None:
    """E12: by the catalogue that took it in, a later one, or after so long that every node must have read it."""
    ends = "policy.expired"
    assert go(None) is Go.NOW
    assert go(ends) is Go.LATER
    assert [go(ends, digest="new"), go(ends, adopted=101.0), go(ends, now=701.0)] == [Go.NEVER] * 3


@pytest.mark.parametrize("digest", ["new", "old"])
def test_who_is_suspended_waits(digest: str) -> None:
    """A suspension may be lifted: it is no reason to give up, on any catalogue, however long it lasts."""
    assert go("policy.suspended", digest=digest, now=1e9) is Go.LATER
