"""The dashboard as a file: current, whole, and without panels on top of each other."""

from itertools import pairwise
from typing import Any

import orjson

from deploy.grafana.drawing import WIDTH
from deploy.grafana.overview import FILE, text
from tests.operations.test_rules import METRIC, ROWS

DASHBOARD: dict[str, Any] = orjson.loads(FILE.read_bytes())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]


def test_the_file_is_what_its_source_makes() -> None:
    """Otherwise: python -m deploy.grafana.overview."""
    assert FILE.read_text("utf-8") == text()


def test_every_panel_has_a_number_and_a_title_of_its_own() -> None:
    """Grafana finds panels by their numbers, people by their titles."""
    assert [panel["id"] for panel in PANELS] == list(range(1, len(PANELS) + 1))
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)


def test_no_panel_lies_on_another() -> None:
    """Every cell of the grid belongs to one panel, and rows stand below each other without a gap."""
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in PANELS)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert {x for x, _ in cells} == set(range(WIDTH))
    assert all(below - above == 1 for above, below in pairwise(sorted({y for _, y in cells})))


def test_every_query_belongs_to_the_chosen_job() -> None:
    """With several instances in one Prometheus, no panel adds them up."""
    targets = [target for panel in PANELS for target in panel.get("targets", ())]
    assert len(targets) > 40
    assert [target["expr"] for target in targets if 'job="$job"' not in target["expr"]] == []
    assert len({target["refId"] for target in PANELS[-1]["targets"]}) == len(PANELS[-1]["targets"])


def test_panels_name_metrics_that_exist() -> None:
    """A misspelt name would be a panel that is always empty."""
    named = {name for panel in PANELS for target in panel.get("targets", ()) for name in METRIC.findall(target["expr"])}
    assert {name for name in named - ROWS if f":{name}:" not in FILE.read_text("utf-8")} == set()
