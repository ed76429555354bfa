"""Gates: an agency that does not answer on one way is left alone for a while, whatever waits for it.

A row is made by the first failure and goes with the first success. While it stands, one claim in each pause goes
through as a probe, and nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.core.model import AgencyId
from gateway.edge.documents.positions import Work
from gateway.edge.journal import Book
from gateway.edge.store import Plan, Reads

AT_ONCE = 500
"""Gates that are opened by one statement."""

_THIS = "recipient = $1 and way = $2"


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate that is closed."""

    recipient: AgencyId
    way: str
    failures: int
    seconds: float
    """Until the next probe; below 0: one is due."""
    reason: str


def close(
    recipient: AgencyId, way: str, seconds: Callable[[int], float], reason: str, *, probe: bool = True
) -> Work[int]:
    """It failed as a whole: nothing goes there for ``seconds`` of the number of failures in a row, which is given back.

    With ``probe`` False it was handed over while the gate was open (``Lane.probe``): where others have closed it
    meanwhile that is no further failure, or everything in flight at once would make for the longest pause.
    """

    def plan(_: Book) -> Plan[int]:
        rows = yield (
            (
                "insert into gates (recipient, way, not_before, failures, reason) values ($1, $2, 0, 1, $3) "
                "on conflict (recipient, way) do nothing returning failures"
            ),
            (recipient, way, reason),
        )
        if not rows:
            counted = "failures + 1" if probe else "failures"
            rows = yield (
                f"update gates set failures = {counted} where {_THIS} returning failures",  # noqa: S608
                (recipient, way),
            )
            if not rows or not probe:  # opened this moment by somebody's success; or closed by a fellow
                return int(rows[0][0]) if rows else 0
        failures = int(rows[0][0])
        yield (
            f"update gates set not_before = {{now}} + $3, reason = $4 where {_THIS}",  # noqa: S608
            (recipient, way, seconds(failures), reason),
        )
        return failures

    return plan


def open_(recipient: AgencyId, way: str) -> Work[bool]:
    """It answered. True where the gate was closed."""

    def plan(_: Book) -> Plan[bool]:
        rows = yield f"delete from gates where {_THIS} returning way", (recipient, way)  # noqa: S608
        return bool(rows)

    return plan


def open_all(which: Sequence[tuple[AgencyId, str]]) -> Work[frozenset[tuple[AgencyId, str]]]:
    """What closed them is mended. Gives those that were closed."""

    def plan(_: Book) -> Plan[frozenset[tuple[AgencyId, str]]]:
        found = set()
        for start in range(0, len(which), AT_ONCE):
            some = [value for key in which[start : start + AT_ONCE] for value in key]
            rows = yield (
                (
                    "with v(r, w) as ({rows text text}) delete from gates "
                    "where (recipient, way) in (select r, w from v) returning recipient, way"
                ),
                some,
            )
            found |= {(AgencyId(row[0]), str(row[1])) for row in rows}
        return frozenset(found)

    return plan


def failures(recipient: AgencyId, way: str) -> Plan[int]:
    """In a row; 0: the gate is open."""
    rows = yield f"select failures from gates where {_THIS}", (recipient, way)  # noqa: S608
    return int(rows[0][0]) if rows else 0


def probe(recipient: AgencyId, way: str, seconds: float) -> Plan[bool]:
    """Whether the caller may send a probe: one in each pause. Nobody else may for so many seconds."""
    due = f"select recipient, way from gates where {_THIS} and not_before <= {{now}}{{skip_locked}}"  # noqa: S608
    rows = yield (
        (
            "update gates set not_before = {now} + $3 where (recipient, way) in "  # noqa: S608
            f"(with due as materialized ({due}) select recipient, way from due) returning way"
        ),
        (recipient, way, seconds),
    )
    return bool(rows)


def not_used(recipient: AgencyId, way: str) -> Plan[None]:
    """Give back a probe for which there was nothing to hand over."""
    yield f"update gates set not_before = {{now}} where {_THIS}", (recipient, way)  # noqa: S608


async def closed(reader: Reads) -> tuple[Gate, ...]:
    """Every gate that is closed now. Raises StoreFailed."""
    rows = await reader.read("select recipient, way, failures, not_before - {now}, reason from gates order by 1, 2")
    return tuple(Gate(AgencyId(row[0]), row[1], int(row[2]), float(row[3]), row[4]) for row in rows)
