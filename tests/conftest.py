"""What tests of all folders share: the databases and the broker, once for each process, and what runs when."""

from pathlib import Path

import pytest

from tests.fakes.brokers import kafka
from tests.fakes.databases import server, shared, url

__all__ = ["kafka", "server", "shared", "url"]

HERE = Path(__file__).parent
LONGEST = ("faults", "agent", "kafka", "system", "operations", "docs", "races", "behaviour", "edge")
"""Folders of tests that take long come first: at the end there is something for every worker to do."""
QUIET = (
    "edge/test_listener.py",  # how long one may take to ask and to read
    "edge/test_roster.py",  # a worker has a second to answer
    "edge/test_strangers.py",  # what a failure costs is measured
    "faults/test_documents_poison.py",  # pauses between attempts are measured where they arrive
    "faults/test_kafka_down.py",  # what a cluster that is away costs exchanges and other ways is measured
    "operations/test_live.py",  # alerts whose windows are a hundredth of the real ones
    "system/test_fair_places.py",  # shares of callers that compete are measured
    "system/test_fairness.py",  # the same
    "system/test_large_attachment.py",  # memory and time are measured
    "system/test_neighbours.py",  # what one way costs the others is measured
)
"""What measures time needs the machine for itself: ``make test`` runs it when everything else has ended.

Of other files single tests are marked ``quiet`` where they stand.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say of each test whether it wants quiet; those that take long come first."""
    for item in items:
        if item.path.relative_to(HERE).as_posix() in QUIET:
            item.add_marker(pytest.mark.quiet)
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    folder = item.path.relative_to(HERE).parts[0]
    return LONGEST.index(folder) if folder in LONGEST else len(LONGEST)
