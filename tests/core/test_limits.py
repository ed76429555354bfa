"""Rates as token buckets, and where a day ends."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.limits import Bucket, day_of, draw, full, has_turn, seconds_to_midnight
from gateway.core.model import Rate

many = settings(max_examples=200, deadline=None)
rates = st.builds(Rate, st.integers(1, 20), st.sampled_from([0.5, 1.0, 60.0, 3600.0]))
pauses = st.lists(st.floats(0, 10) | st.just(0.0) | st.floats(0, 5000), max_size=60)


def granted(rate: Rate, times: list[float]) -> list[float]:
    """The times at which a call was let through."""
    bucket, passed = full(rate, times[0] if times else 0.0), []
    for now in times:
        bucket, wait = draw(bucket, rate, now)
        if not wait:
            passed.append(now)
    return passed


def running(steps: list[float]) -> list[float]:
    return [1000.0 + sum(steps[:place]) for place in range(len(steps))]


def most(rate: Rate, passed: list[float], window: float) -> int:
    """How many passed within the busiest window."""
    return max((sum(start <= each < start + window for each in passed) for start in passed), default=0)


@many
@given(rates, pauses, st.sampled_from([0.001, 0.5, 1.0, 2.0]))
def test_no_window_gives_more_than_a_full_bucket_and_its_refill(rate: Rate, steps: list[float], share: float) -> None:
    """In any stretch of time: the calls of the rate at once, and as many more as the stretch refills."""
    passed = granted(rate, running(steps))
    assert most(rate, passed, share * rate.seconds) <= rate.calls + share * rate.calls + 1e-6


@many
@given(rates, pauses)
def test_at_one_moment_no_more_than_the_calls(rate: Rate, steps: list[float]) -> None:
    """However long nobody called, what was not used does not gather beyond the rate."""
    times = [*running(steps), *[1e6] * (3 * rate.calls)]
    assert granted(rate, times).count(1e6) == rate.calls


@many
@given(rates, st.lists(st.sampled_from([0.0, 9.0, 10.0]), min_size=40, max_size=60))
def test_a_clock_that_steps_back_gives_nothing(rate: Rate, times: list[float]) -> None:
    """Seconds that are lived through twice fill the bucket once: the stretch in all is what counts."""
    assert len(granted(rate, times)) <= rate.calls + 10 / rate.seconds * rate.calls + 1e-6


@many
@given(rates, pauses)
def test_who_waits_as_told_is_let_through(rate: Rate, steps: list[float]) -> None:
    """The seconds to wait are true: after them a call passes, and a little earlier none does."""
    bucket, now, wait = full(rate, 1000.0), 1000.0, 0.0
    for now in [*running(steps), *[1000.0 + sum(steps)] * (rate.calls + 1)]:
        bucket, wait = draw(bucket, rate, now)
    assert 0 < wait <= rate.seconds / rate.calls * 1.000001
    assert draw(bucket, rate, now + wait * 0.99)[1] > 0
    assert draw(bucket, rate, now + wait + 1e-6)[1] == 0


def test_a_bucket_is_emptied_and_refilled() -> None:
    """Two in ten seconds: two at once, then one every five seconds."""
    rate = Rate(2, 10)
    assert granted(rate, [0, 0, 0, 4.9, 5, 5.1, 10, 30, 30, 30]) == [0, 0, 5, 10, 30, 30]
    assert draw(Bucket(0, 0), rate, 0) == (Bucket(0, 0), 5)


def test_a_lower_rate_holds_at_once() -> None:
    """What a fuller bucket held under an earlier agreement is not carried over."""
    bucket, wait = draw(Bucket(50, 0), Rate(1, 60), 0)
    assert (bucket.tokens, wait) == (0, 0)


TALLINN, PHNOM_PENH = ZoneInfo("Europe/Tallinn"), ZoneInfo("Asia/Phnom_Penh")


@pytest.mark.parametrize(
    ("at", "zone", "hours"),
    [
        ("2026-11-20T17:00:00+00:00", "Asia/Phnom_Penh", 24),
        ("2026-11-20T16:00:00+00:00", "Asia/Phnom_Penh", 1),
        ("2026-11-20T12:00:00-10:00", "Asia/Phnom_Penh", 19),
        ("2026-11-20T00:00:00+00:00", "UTC", 24),
        ("2026-03-28T22:00:00+00:00", "Europe/Tallinn", 23),
        ("2026-03-29T00:59:59+00:00", "Europe/Tallinn", 20 + 1 / 3600),
        ("2026-10-24T21:00:00+00:00", "Europe/Tallinn", 25),
        ("2026-10-25T00:30:00+00:00", "Europe/Tallinn", 21.5),
        ("2026-10-25T01:30:00+00:00", "Europe/Tallinn", 20.5),
        ("2026-04-23T21:00:00+00:00", "Africa/Cairo", 1),
        ("2026-04-23T22:00:00+00:00", "Africa/Cairo", 23),
        ("2026-10-29T20:30:00+00:00", "Africa/Cairo", 1.5),
    ],
)
def test_midnight_is_that_of_the_zone(at: str, zone: str, hours: float) -> None:
    """Days of 23 and 25 hours are counted as they pass, also where the clocks change at midnight itself."""
    instant, place = datetime.fromisoformat(at), ZoneInfo(zone)
    assert seconds_to_midnight(instant, place) == hours * 3600
    assert seconds_to_midnight(instant.astimezone(place), place) == hours * 3600


@many
@given(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)), st.sampled_from([TALLINN, PHNOM_PENH]))  # noqa: DTZ001 - UTC below
def test_the_next_day_begins_when_it_was_said_to(naive: datetime, zone: ZoneInfo) -> None:
    """At the end of the wait the day is another one, and a moment before it is not."""
    at = naive.replace(tzinfo=UTC)
    wait = timedelta(seconds=seconds_to_midnight(at, zone))
    assert timedelta() < wait <= timedelta(hours=25)
    assert day_of(at + wait - timedelta(milliseconds=1), zone) == day_of(at, zone) < day_of(at + wait, zone)


def test_a_day_is_written_as_a_date() -> None:
    """An instant belongs to the day that the zone's calendar shows."""
    at = datetime(2026, 11, 20, 17, tzinfo=UTC)
    assert [day_of(at, zone) for zone in (UTC, PHNOM_PENH)] == ["2026-11-20", "2026-11-21"]


@pytest.mark.parametrize(
    ("places", "shares"), [(1, [1]), (2, [1, 1]), (3, [2, 1]), (10, [5, 3, 1, 1]), (50, [25, 13, 6, 3])]
)
def test_whoever_comes_next_finds_a_place(places: int, shares: list[int]) -> None:
    """Consumers that take what they get, one after the other: each leaves as much as it holds."""
    taken: list[int] = []
    for _ in shares:
        own = 0
        while has_turn(own, places - sum(taken) - own, alone=False):
            own += 1
        taken.append(own)
    assert taken == shares


def test_who_is_alone_has_all_places() -> None:
    """While nobody else asks there is nobody to leave any to."""
    assert [has_turn(own, 3 - own, alone=True) for own in range(4)] == [True, True, True, False]
