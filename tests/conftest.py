"""What tests of all folders share: the databases and the broker, once for each process, and what runs beside what."""

from pathlib import Path

import pytest

from tests.fakes.brokers import kafka
from tests.fakes.databases import server, shared, url

__all__ = ["kafka", "server", "shared", "url"]

HERE = Path(__file__).parent
GROUPS = {"kafka": "kafka", "guarded": "kafka", "running": "demonstration"}
"""Fixtures that cost much: all tests that need one of them run in one of the workers, which starts it once."""
TOGETHER = ("system/test_workers.py",)
"""They look for free ports of their own, and would find each other's."""
QUIET = (
    "edge/test_listener.py",  # how long one may take to ask and to read
    "edge/test_roster.py",  # a worker has a second to answer
    "edge/test_strangers.py",  # what a failure costs is measured
    "faults/test_kafka_down.py",  # what a cluster that is away costs exchanges and other ways is measured
    "operations/test_live.py",  # alerts whose windows are a hundredth of the real ones
    "system/test_fair_places.py",  # shares of callers that compete are measured
    "system/test_fairness.py",  # the same
    "system/test_large_attachment.py",  # memory and time are measured
    "system/test_neighbours.py",  # what one way costs the others is measured
)
"""What measures time needs the machine for itself: ``make test`` runs it when everything else has ended."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say of each test whether it wants quiet, and with which others it has to share a worker."""
    for item in items:
        place = item.path.relative_to(HERE).as_posix()
        if place in QUIET:
            item.add_marker(pytest.mark.quiet)
        if item.get_closest_marker("xdist_group") is None and (group := _group(item, place)):
            item.add_marker(pytest.mark.xdist_group(group))


def _group(item: pytest.Item, place: str) -> str | None:
    """None: it may run anywhere."""
    if place in TOGETHER:
        return place
    if not isinstance(item, pytest.Function):
        return None
    named = [GROUPS[name] for name in item.fixturenames if name in GROUPS]
    defined = item._fixtureinfo.name2fixturedefs.values()
    return named[0] if named else place if any(each[-1].scope == "module" for each in defined) else None
