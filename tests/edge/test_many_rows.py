"""What concerns thousands of recipients is cut into statements that every database takes."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.delivery import Position, State
from gateway.core.model import AgencyId
from gateway.edge.documents.files import refer
from gateway.edge.documents.positions import Move, leave, moved_of
from gateway.edge.store import Plan

MANY = 6000
SQLITE = 32_766
"""Parameters of a statement, as SQLite is built by default (sqlite.org/limits.html)."""
AT = Position(State.SUBMITTED, open=True, touched=False)


def lane(number: int) -> tuple[AgencyId, str]:
    return AgencyId(f"town{number}"), f"key{number}"


def moves() -> Plan[Any]:
    return moved_of([Move(number, lane(number), AT, State.RECALLED) for number in range(MANY)])


def counts() -> Plan[Any]:
    return leave([lane(number) for number in range(2 * MANY)])


def references() -> Plan[Any]:
    return refer([(f"file{number % 100}", f"document{number}") for number in range(3 * MANY)])


@pytest.mark.parametrize("plan", [moves, counts, references])
def test_no_statement_has_more_than_a_database_takes(plan: Callable[[], Plan[Any]]) -> None:
    """All rows are in one of them nevertheless."""
    sent: list[int] = []
    running = plan()
    try:
        sent.append(len(next(running)[1]))
        while True:
            sent.append(len(running.send([(1,)])[1]))
    except StopIteration:
        assert max(sent) <= SQLITE
        assert sum(sent) >= 6 * MANY
