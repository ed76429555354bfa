"""What a service says of its documents' lives: where they end, how long they may take, what may go with them."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from enum import StrEnum


class End(StrEnum):
    """The state in which a document has got what it was sent for (``done_at``)."""

    ARRIVED = "arrived"
    RETRIEVED = "retrieved"
    REGISTERED = "registered"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time that somebody has: seconds, or whole working days of the instance's calendar."""

    seconds: float = 0.0
    working_days: int = 0


@dataclass(frozen=True, slots=True)
class Accepted:
    """The files that may go with a document."""

    types: tuple[str, ...]
    """Media types."""
    max_bytes: int
    """Of each file."""
    max_count: int


@dataclass(frozen=True, slots=True)
class Life:
    """How a service's documents or events live, from submission to their end."""

    order_by: str | None
    """A JSON Pointer to the value whose documents keep their order, such as a case's number. None: each by itself."""
    done_at: End
    deliver_within: Span
    register_within: Span | None
    attachments: Accepted | None
    """None: no file may go with it."""
    keep_days: int
    """Days for which a document is kept after its end."""


@dataclass(frozen=True, slots=True)
class Approval:
    """A second person must agree before a document goes out."""

    by: str
    """``provider`` (of the recipient) or ``consumer`` (of the sender)."""
    role: str
    """The post that the person's assertion must name."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """The instance's working days."""

    week: frozenset[int] = frozenset(range(5))
    """Working days of a week: 0 is Monday, as ``date.weekday`` counts."""
    holidays: frozenset[date] = frozenset()

    def works(self, day: date) -> bool:
        """Whether offices are open."""
        return day.weekday() in self.week and day not in self.holidays


def deadline(start: datetime, span: Span, calendar: Calendar, zone: tzinfo) -> datetime:
    """When a span that begins now has passed.

    Working days are counted from the day after the start and end with the last of them, at midnight in the instance's
    time zone: whoever has two working days on a Friday has until the end of Tuesday.
    """
    if not span.working_days:
        return start + timedelta(seconds=span.seconds)
    day, left = start.astimezone(zone).date(), span.working_days
    while left:
        day += timedelta(days=1)
        left -= calendar.works(day)
    return datetime.combine(day + timedelta(days=1), datetime.min.time(), zone)
