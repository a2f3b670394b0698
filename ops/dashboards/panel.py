"""What is a dashboard made of, and what does Grafana read of it?

A panel is a question in its title and the queries that answer it. The JSON that Grafana loads is made from these by
`make contracts` and lies beside this file; a test keeps it current and holds every query against
the metrics that the code exports.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

# Grafana's own: the width of a page in units, and the version of the format below.
PAGE_WIDTH = 24
PANEL_HEIGHT = 8
FIGURE_HEIGHT = 4
SCHEMA_VERSION = 39

# The dashboard's data source and event are chosen at the top of the page.
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

Unit = Literal["short", "s", "reqps", "ops", "percentunit", "bytes", "bool", "dateTimeFromNow"]


@dataclass(frozen=True)
class Query:
    """One line of a panel: PromQL, and what the line is called."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """A question and its answer over time."""

    title: str
    queries: Sequence[Query]
    unit: Unit = "short"
    why: str = ""
    # Above this it is a reason to look.
    warn_above: float | None = None
    width: int = 8
    kind: Literal["timeseries", "stat", "table"] = "timeseries"


def figure(
    title: str, expression: str, *, unit: Unit = "short", why: str = "", warn_above: float | None = None
) -> Panel:
    """One number, large."""
    return Panel(title, [Query(expression)], unit=unit, why=why, warn_above=warn_above, width=4, kind="stat")


@dataclass(frozen=True)
class Dashboard:
    """A page: rows of panels under a heading each."""

    uid: str
    title: str
    why: str
    rows: Sequence[tuple[str, Sequence[Panel]]]
    # The metric whose events can be chosen at the top; "": none.
    events_of: str = ""
    tags: Sequence[str] = field(default_factory=lambda: ("boxoffice",))

    @property
    def panels(self) -> Iterator[Panel]:
        for _, panels in self.rows:
            yield from panels

    def as_json(self) -> dict[str, Any]:
        """What Grafana loads."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.why,
            "tags": list(self.tags),
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "5s",
            "time": {"from": "now-30m", "to": "now"},
            "templating": {"list": self._variables()},
            "panels": list(self._placed()),
        }

    def _variables(self) -> list[dict[str, Any]]:
        source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
        if not self.events_of:
            return [source]
        event = {
            "name": "event",
            "label": "Event",
            "type": "query",
            "datasource": SOURCE,
            "query": f"label_values({self.events_of}, event_id)",
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }
        return [source, event]

    def _placed(self) -> Iterator[dict[str, Any]]:
        number, top = 0, 0
        for heading, panels in self.rows:
            number += 1
            yield _heading(heading, number=number, top=top)
            left, top, height = 0, top + 1, 0
            for panel in panels:
                if left + panel.width > PAGE_WIDTH:
                    left, top, height = 0, top + height, 0
                number += 1
                yield _as_json(panel, number=number, left=left, top=top)
                left, height = left + panel.width, max(height, _height(panel))
            top += height


def _heading(title: str, *, number: int, top: int) -> dict[str, Any]:
    place = {"x": 0, "y": top, "w": PAGE_WIDTH, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _height(panel: Panel) -> int:
    return FIGURE_HEIGHT if panel.kind == "stat" else PANEL_HEIGHT


def _as_json(panel: Panel, *, number: int, left: int, top: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.warn_above is not None:
        steps.append({"color": "red", "value": panel.warn_above})
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.why,
        "datasource": SOURCE,
        "gridPos": {"x": left, "y": top, "w": panel.width, "h": _height(panel)},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend or "__auto",
                "instant": panel.kind == "table",
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for place, query in enumerate(panel.queries)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "thresholds": {"mode": "absolute", "steps": steps},
                "custom": {"fillOpacity": 10, "thresholdsStyle": {"mode": "off" if len(steps) == 1 else "line"}}
                if panel.kind == "timeseries"
                else {},
            },
            "overrides": [],
        },
        "options": {"colorMode": "background" if len(steps) > 1 else "value"} if panel.kind == "stat" else {},
    }
