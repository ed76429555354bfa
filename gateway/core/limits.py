"""How often, and how many at once: a rate's token bucket, the arithmetic of a day's quota, shares of places."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo

from gateway.core.model import Rate


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket: ``tokens`` at the time ``filled`` (seconds of any steady clock)."""

    tokens: float
    filled: float


def full(rate: Rate, now: float) -> Bucket:
    """A bucket that nobody has drawn from."""
    return Bucket(float(rate.calls), now)


def draw(bucket: Bucket, rate: Rate, now: float) -> tuple[Bucket, float]:
    """Take one call: the bucket afterwards, and 0.0; or the bucket as it is now, and the seconds to wait."""
    speed = rate.calls / rate.seconds
    now = max(now, bucket.filled)  # a clock that steps back must not fill the same seconds twice
    tokens = min(float(rate.calls), bucket.tokens + (now - bucket.filled) * speed)
    if tokens >= 1.0:
        return Bucket(tokens - 1.0, now), 0.0
    return Bucket(tokens, now), (1.0 - tokens) / speed


def day_of(at: datetime, zone: tzinfo) -> str:
    """The day that a quota counts in, ``2026-11-21``."""
    return at.astimezone(zone).date().isoformat()


def seconds_to_midnight(at: datetime, zone: tzinfo) -> float:
    """Until the next day begins in the zone; right across changes of summer time."""
    tomorrow = at.astimezone(zone).date() + timedelta(days=1)
    # through UTC: between two times of one zone Python subtracts what the clocks on the wall show
    return (datetime.combine(tomorrow, time(), zone).astimezone(UTC) - at.astimezone(UTC)).total_seconds()


def has_turn(own: int, free: int, *, alone: bool) -> bool:
    """Whether a consumer that holds ``own`` places gets one of the ``free`` ones.

    Unless it is alone it may hold no more than it leaves free: whoever comes next finds a place, and each of n that
    want more than there is gets a share of 1 / (n + 1). (Choudhury and Hahne's dynamic threshold, with factor 1.)
    """
    return free > 0 and (alone or own < free)
