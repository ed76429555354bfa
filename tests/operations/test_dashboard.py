"""The dashboards as files: current, whole, and without panels on top of each other."""

from itertools import pairwise
from typing import Any

import orjson
import pytest

from deploy.grafana import agent, overview
from deploy.grafana.drawing import WIDTH
from tests.operations.test_rules import METRIC, ROWS

BOARDS: dict[str, dict[str, Any]] = {each.FILE.stem: orjson.loads(each.FILE.read_bytes()) for each in (overview, agent)}
every_board = pytest.mark.parametrize("board", BOARDS)


def panels(board: str) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = BOARDS[board]["panels"]
    return made


def expressions(board: str) -> list[str]:
    return [target["expr"] for panel in panels(board) for target in panel.get("targets", ())]


def test_the_files_are_what_their_sources_make() -> None:
    """Otherwise: python -m deploy.grafana.overview, or .agent."""
    for each in (overview, agent):
        assert each.FILE.read_text("utf-8") == each.text()
    assert len({made["uid"] for made in BOARDS.values()}) == len(BOARDS)


@every_board
def test_every_panel_has_a_number_and_a_title_of_its_own(board: str) -> None:
    """Grafana finds panels by their numbers, people by their titles."""
    assert [panel["id"] for panel in panels(board)] == list(range(1, len(panels(board)) + 1))
    assert len({panel["title"] for panel in panels(board)}) == len(panels(board))


@every_board
def test_no_panel_lies_on_another(board: str) -> None:
    """Every cell of the grid belongs to one panel, and rows stand below each other without a gap."""
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels(board))
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert {x for x, _ in cells} == set(range(WIDTH))
    assert all(below - above == 1 for above, below in pairwise(sorted({y for _, y in cells})))


@every_board
def test_every_query_belongs_to_the_chosen_job(board: str) -> None:
    """With several instances in one Prometheus, no panel adds them up."""
    assert len(expressions(board)) > 20
    assert [each for each in expressions(board) if 'job="$job"' not in each] == []
    for panel in panels(board):
        letters = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(letters)) == len(letters)


@every_board
def test_panels_name_metrics_that_exist(board: str) -> None:
    """A misspelt name would be a panel that is always empty."""
    text = "\n".join(expressions(board))
    assert {name for name in set(METRIC.findall(text)) - ROWS if f":{name}:" not in text} == set()
