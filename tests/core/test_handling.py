"""What an agent does with a record: the tables, and what must hold whatever happens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.delivery import BY_RECIPIENT, Reason, State
from gateway.core.handling import (
    MAX_TRIES,
    MET,
    Failure,
    Found,
    Known,
    Outcome,
    Record,
    Standing,
    Start,
    Step,
    Verdict,
    answered,
    begun,
    beside,
    doubt_of,
    failed,
    given_up,
    met,
    over,
    passed,
    refused,
    settled,
    start,
    stopped,
    taken,
)


def record(redelivery: int = 0, digest: bytes = b"d", position: int = 7) -> Record:
    return Record("id", "letters.v1", 0, position, redelivery, digest)


def known(standing: Standing, **more: object) -> Known:
    made = {"redelivery": 0, "digest": b"d", "position": 3, **more}
    return Known("id", "letters.v1", 0, standing=standing, **made)  # type: ignore[arg-type] # a test's own words


STANDINGS = st.sampled_from(Standing)
KNOWN = st.none() | st.builds(
    known,
    STANDINGS,
    tries=st.integers(0, MAX_TRIES + 2),
    touched=st.booleans(),
    redelivery=st.integers(0, 3),
    digest=st.sampled_from([b"d", b"e"]),
)
FAILURES = st.builds(Failure, st.booleans(), st.booleans(), st.none() | st.sampled_from(Reason))


def test_the_table_names_every_standing() -> None:
    """There is no document for which nothing is said."""
    assert set(MET) == {None, *Standing}


@pytest.mark.parametrize(
    ("standing", "same", "late"),
    [
        (Standing.UNKNOWN, Step.STOP, Step.STOP),
        (Standing.TAKEN, Step.PASS, Step.TELL),
        (Standing.REFUSED, Step.PASS, Step.ASK),
        (Standing.PASSED, Step.PASS, Step.ASK),
        (Standing.FREE, Step.HAND_OVER, Step.ASK),
    ],
)
def test_a07_a_redelivery_is_another_thing_than_a_duplicate(standing: Standing, same: Step, late: Step) -> None:
    """What was taken is never handed over again; what ended otherwise is, where the gateway says that it is open."""
    it = known(standing)
    assert met(record(0), it, takes_key=False, doubtful=False) is same
    assert met(record(1), it, takes_key=False, doubtful=False) is late


@pytest.mark.parametrize(
    ("standing", "step"),
    [(Standing.TAKEN, Step.TELL), (Standing.REFUSED, Step.ASK), (Standing.PASSED, Step.ASK), (Standing.FREE, Step.ASK)],
)
def test_a07_a_forged_count_hides_no_true_one(standing: Standing, step: Step) -> None:
    """Whoever says that he was requeued is a redelivery, but for the very record that is known already."""
    it = known(standing, redelivery=9, tries=MAX_TRIES)
    assert met(record(1), it, takes_key=True, doubtful=False) is step
    assert met(record(9, position=3), it, takes_key=True, doubtful=False) is not step
    assert begun(record(1), it).tries == 1


@given(KNOWN, st.integers(0, 3), st.booleans(), st.booleans())
def test_a03_nothing_is_silently_handed_over_twice(
    it: Known | None,
    redelivery: int,
    takes_key: bool,  # noqa: FBT001 - drawn
    doubtful: bool,  # noqa: FBT001 - drawn
) -> None:
    """A system that takes no keys never gets what it may have; nobody gets what was taken."""
    step = met(record(redelivery), it, takes_key=takes_key, doubtful=doubtful)
    if it is not None and step is Step.HAND_OVER:
        assert it.standing is not Standing.TAKEN
        assert it.standing is not Standing.UNKNOWN
        maybe = it.standing is Standing.BEGUN or (it.standing is Standing.FREE and it.touched)
        assert takes_key or not maybe


@given(KNOWN, st.integers(0, 3), st.booleans(), st.booleans())
def test_a03_nothing_is_silently_skipped(
    it: Known | None,
    redelivery: int,
    takes_key: bool,  # noqa: FBT001 - drawn
    doubtful: bool,  # noqa: FBT001 - drawn
) -> None:
    """What is passed over was taken, refused, or had ended."""
    step = met(record(redelivery), it, takes_key=takes_key, doubtful=doubtful)
    if step in (Step.PASS, Step.TELL):
        assert it is not None
        assert it.standing in (Standing.TAKEN, Standing.REFUSED, Standing.PASSED)


@given(KNOWN, st.integers(0, 3), st.booleans())
def test_a02_what_is_in_doubt_is_asked(it: Known | None, redelivery: int, takes_key: bool) -> None:  # noqa: FBT001
    """Nothing that another member may have handed over is handed over unasked, unless it was begun here."""
    step = met(record(redelivery), it, takes_key=takes_key, doubtful=True)
    if step is Step.HAND_OVER:
        assert it is not None
        assert it.standing in (Standing.BEGUN, Standing.FREE)


@pytest.mark.parametrize("state", [*State, None, "invented"])
def test_a02_the_gateways_word_is_followed(state: str | None) -> None:
    """Ended or retrieved: passed over; not understood: asked again; everything else is handed over."""
    past = {"retrieved", "registered", "rejected", "declined", "recalled", "expired", "undeliverable"}
    asked = {"held", "invented"}
    assert answered(state) is (Step.PASS if state in past else Step.ASK if state in asked else Step.HAND_OVER)


@pytest.mark.parametrize("state", [*State, None, "invented"])
def test_a17_only_what_nobody_is_handed_any_more_is_forgotten(state: str | None) -> None:
    """Whatever may be requeued, or is not understood, stays known: the system may have it."""
    assert over(state) == (state not in {"held", "submitted", "arrived", "undeliverable", "invented"})


@given(st.sampled_from(Standing), st.integers(0, 3))
def test_a08_other_bytes_are_never_handed_over(standing: Standing, redelivery: int) -> None:
    """Under a known id only the bytes that came with it count, unless the gateway had it tried again."""
    step = met(record(redelivery, b"other"), known(standing, redelivery=redelivery), takes_key=True, doubtful=False)
    assert step is Step.ALARM


@given(st.lists(FAILURES, max_size=40), st.booleans())
def test_a09_tries_are_bounded(failures: list[Failure], takes_key: bool) -> None:  # noqa: FBT001 - drawn
    """Whatever its system says of it, a document that is tried again and again ends; one that waits for it does not."""
    it: Known | None = None
    own = 0
    for each in failures:
        assert it is None or it.tries < MAX_TRIES
        it = failed(begun(record(), it), each, takes_key=takes_key)
        own += not each.whole
        if it.standing is not Standing.FREE:
            break
    assert it is None or it.standing is not Standing.FREE or it.tries == own
    if it is not None and it.standing is Standing.REFUSED and all(each.reason is None for each in failures):
        assert own >= MAX_TRIES


def test_a09_a_crash_counts_as_a_try() -> None:
    """The try was written down before the hand-over: a document that kills the agent is given up."""
    it: Known | None = None
    for _ in range(MAX_TRIES):
        assert met(record(), it, takes_key=True, doubtful=False) is Step.HAND_OVER
        it = begun(record(), it)
    assert it is not None
    assert met(record(), it, takes_key=True, doubtful=False) is Step.GIVE_UP
    assert met(record(), it, takes_key=False, doubtful=False) is Step.STOP
    assert met(record(1), it, takes_key=True, doubtful=False) is Step.ASK
    assert given_up(record(), it).outcome is Outcome.REJECTED


@given(
    st.builds(begun, st.just(record()), st.none() | st.builds(known, st.just(Standing.FREE))), FAILURES, st.booleans()
)
def test_a10_what_a_failure_makes_of_it(it: Known, failure: Failure, takes_key: bool) -> None:  # noqa: FBT001 - drawn
    """An outcome that the gateway takes, a document that is free, or unknown where the system takes no key."""
    then = failed(it, failure, takes_key=takes_key)
    match then.standing:
        case Standing.REFUSED:
            assert then.reason in BY_RECIPIENT
            assert then.outcome is Outcome.REJECTED
        case Standing.UNKNOWN:
            assert failure.sent
            assert not takes_key
        case Standing.FREE:
            assert then.touched == (failure.sent and failure.reason is not Reason.STOPPED)
        case _:
            raise AssertionError(then.standing)


def test_a10_a_system_that_is_down_wears_out_no_tries() -> None:
    """An hour without it must not turn into rejections."""
    it: Known | None = None
    for _ in range(1000):
        it = failed(begun(record(), it), Failure(sent=False, whole=True), takes_key=False)
    assert it == known(Standing.FREE, position=7, tries=0)


def test_a_repetition_is_marked_as_one() -> None:
    """What was begun before, here or elsewhere, is begun again as that."""
    assert not begun(record(), None).touched
    assert begun(record(), None, repeated=True).repeated
    assert begun(record(), known(Standing.BEGUN)).touched
    assert begun(record(), known(Standing.FREE, repeated=True)).repeated
    assert not begun(record(1), known(Standing.PASSED, touched=True)).touched


def test_what_becomes_of_it() -> None:
    """Each outcome with what belongs to it."""
    it = begun(record(), None)
    assert (taken(it, None).outcome, taken(it, "R-1").outcome) == (Outcome.RETRIEVED, Outcome.REGISTERED)
    assert refused(it, Reason.TOO_LARGE).reason is Reason.REFUSED_BY_SYSTEM
    assert (passed(record()).standing, passed(record()).outcome) == (Standing.PASSED, None)
    assert stopped(it).standing is Standing.UNKNOWN


@pytest.mark.parametrize(
    ("verdict", "standing", "outcome"),
    [
        (Verdict.TAKEN, Standing.TAKEN, Outcome.RETRIEVED),
        (Verdict.AGAIN, Standing.FREE, None),
        (Verdict.REJECTED, Standing.REFUSED, Outcome.REJECTED),
    ],
)
def test_a03_a_persons_word(verdict: Verdict, standing: Standing, outcome: Outcome | None) -> None:
    """It settles what nobody else can know; handed over again, it may be handed over."""
    then = settled(known(Standing.UNKNOWN, touched=True, tries=MAX_TRIES), verdict, None)
    assert (then.standing, then.outcome) == (standing, outcome)
    if verdict is Verdict.AGAIN:
        assert met(record(), then, takes_key=False, doubtful=False) is Step.HAND_OVER


FOUND = st.builds(
    lambda begins, more, committed, reached, doubt: Found(begins, begins + more, committed, reached, doubt),
    st.integers(0, 50),
    st.integers(0, 50),
    st.none() | st.integers(0, 120),
    st.none() | st.integers(0, 120),
    st.none() | st.integers(0, 120),
)


@given(FOUND)
def test_a15_reading_never_skips_a_record_silently(found: Found) -> None:
    """It begins where the group stands or at the oldest, and says so where what was expected is not there."""
    begin = start(found)
    assert found.begins <= begin.position <= found.ends
    assert begin.position == (
        found.committed if begin.expected is None and found.committed is not None else found.begins
    )
    if begin.expected is None:
        assert begin.position == (found.committed or 0)


@given(FOUND)
def test_a18_only_a_memory_that_is_whole_believes_itself(found: Found) -> None:
    """Where another one wrote the group's position, or a later self did, everything unknown is asked."""
    begin = start(found)
    if begin.doubtful_below <= begin.position < found.ends:
        assert found.doubt is not None
        assert found.doubt <= begin.position
        assert found.reached is not None
        assert found.reached >= (found.committed or 0)


def test_a15_the_cases_of_a_start() -> None:
    """First start; as usual; retention was faster; the topic is another one; the position is lost."""
    assert start(Found(0, 9, None, None, doubt=None)) == Start(0, 9, None)
    assert start(Found(2, 9, 5, 5, doubt=0)) == Start(5, 0, None)
    assert start(Found(6, 9, 5, 5, doubt=0)) == Start(6, 9, 5)
    assert start(Found(0, 3, 5, 5, doubt=0)) == Start(0, 3, 5)
    assert start(Found(0, 9, None, 5, doubt=None)) == Start(0, 9, 5)
    assert start(Found(4, 9, None, None, doubt=None)) == Start(4, 9, 0)


def test_a18_a_doubt_lasts_until_it_is_worked_off() -> None:
    """Who begins again behind its own name doubts what it doubted before, not more and not less."""
    first = start(Found(0, 9, 5, 5, doubt=None))
    assert first == Start(5, 9, None)
    assert start(Found(0, 20, 7, 7, doubt=doubt_of(beside("me", 7, first.doubtful_below), "me"))) == Start(7, 9, None)
    assert start(Found(0, 20, 9, 9, doubt=doubt_of(beside("me", 9, first.doubtful_below), "me"))) == Start(9, 0, None)


@pytest.mark.parametrize("said", ["", "you", "you 9", "me x", "me -1", "me 9 9", "mean"])
def test_a18_what_another_one_wrote_says_nothing(said: str) -> None:
    """Neither another memory's words nor what cannot be read make a memory believe itself."""
    assert doubt_of(said, "me") is None
