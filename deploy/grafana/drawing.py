"""How rows of panels become a dashboard in Grafana's JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 24
"""Columns of Grafana's grid."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; ``queries`` go by their legends."""

    title: str
    queries: Mapping[str, str]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 8
    says: str = ""
    bad: tuple[float, float] | None = None
    """From where on a tile is orange, and red."""
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels of one height beneath a heading."""

    title: str
    panels: Sequence[Panel]
    height: int = 8


@dataclass(frozen=True, slots=True)
class Board:
    """What a dashboard is called, what may be chosen on it, and what it shows."""

    uid: str
    title: str
    variables: Mapping[str, str]
    """Queries of Prometheus for their values, by name; of ``job`` one is chosen, of the others any number."""
    rows: Sequence[Row]


def dashboard(board: Board) -> Json:
    """The whole of it, as Grafana imports it."""
    return {
        "uid": board.uid,
        "title": board.title,
        "tags": ["exchange-gateway"],
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": 39,
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_datasource(), *_variables(board.variables)]},
        "panels": list(_panels(board.rows)),
    }


def _datasource() -> Json:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variables(known: Mapping[str, str]) -> Iterator[Json]:
    for name, query in known.items():
        several = {} if name == "job" else {"multi": True, "includeAll": True, "allValue": ".*"}
        yield {
            "name": name,
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": query, "refId": name},
            "definition": query,
            "refresh": 2,
            "sort": 1,
            **several,
            **({"current": {"text": "All", "value": "$__all"}} if several else {}),
        }


def _panels(rows: Sequence[Row]) -> Iterator[Json]:
    """Row by row, from left to right, on a grid without gaps."""
    number = down = 0
    for row in rows:
        number += 1
        place = {"x": 0, "y": down, "w": WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "gridPos": place, "collapsed": False, "panels": []}
        down += 1
        across = 0
        for panel in row.panels:
            if across + panel.width > WIDTH:
                across, down = 0, down + row.height
            number += 1
            yield _panel(number, panel, {"x": across, "y": down, "w": panel.width, "h": row.height})
            across += panel.width
        down += row.height


def _panel(number: int, panel: Panel, place: Json) -> Json:
    made: Json = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": [
            _target(chr(ord("A") + each), legend, query, panel.kind)
            for each, (legend, query) in enumerate(panel.queries.items())
        ],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
    }
    if panel.kind == "table":
        made["transformations"] = _columns(tuple(panel.queries))
    return made


_OPTIONS: Mapping[str, Json] = {
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"},
    "table": {"showHeader": True},
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
}


def _target(letter: str, legend: str, query: str, kind: str) -> Json:
    instant = {"instant": True, "range": False, "format": "table"} if kind == "table" else {"range": True}
    return {"refId": letter, "datasource": SOURCE, "expr": query, "legendFormat": legend or "__auto", **instant}


def _field(panel: Panel) -> Json:
    field: Json = {"unit": panel.unit, "min": 0}
    if panel.bad:
        steps = zip(("green", "orange", "red"), (None, *panel.bad), strict=True)
        field["thresholds"] = {"mode": "absolute", "steps": [{"color": color, "value": at} for color, at in steps]}
    if panel.stacked:
        field["custom"] = {"stacking": {"mode": "normal"}, "fillOpacity": 30}
    return field


def _columns(names: Sequence[str]) -> list[Json]:
    """One line for each agency, the queries' values under their names."""
    renamed = {f"Value #{chr(ord('A') + each)}": name for each, name in enumerate(names)}
    hidden = {"excludeByName": {"Time": True}, "renameByName": {"provider": "Agency", **renamed}}
    return [{"id": "merge", "options": {}}, {"id": "organize", "options": hidden}]
