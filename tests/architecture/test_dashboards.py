"""Does every panel of every dashboard ask for something that exists?"""

import dataclasses
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest
import yaml

from ops.dashboards.files import DASHBOARDS, file_of, text_of
from ops.dashboards.panel import Dashboard, Panel, Query
from ops.metrics_page import all_metrics
from ops.stack import Stack, binaries

ROOT = Path(__file__).parents[2]

# What PromQL itself is made of.
WORDS = {
    "sum",
    "min",
    "max",
    "avg",
    "count",
    "rate",
    "increase",
    "by",
    "without",
    "or",
    "and",
    "unless",
    "on",
    "ignoring",
}
WORDS |= {"vector", "time", "topk", "bool", "histogram_quantile", "group_left", "group_right", "offset"}
# Prometheus writes these itself.
LABELS_OF_PROMETHEUS = frozenset({"le", "instance", "job", "role", "quantile"})

ALL_QUERIES = [
    (dashboard, panel, query) for dashboard in DASHBOARDS for panel in dashboard.panels for query in panel.queries
]


def names_in(expression: str) -> set[str]:
    """The metrics that an expression asks for."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|without|on|ignoring)\s*\([^)]*\)|\"[^\"]*\"", " ", expression)
    return set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", bare)) - WORDS


def labels_in(expression: str) -> set[str]:
    """The labels it speaks of."""
    grouped = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expression)
    chosen = re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"", expression)
    return {label.strip() for group in grouped for label in group.split(",") if label.strip()} | set(chosen)


def series_of_the_code() -> dict[str, set[str]]:
    """The labels of every series that our processes export, by its name."""
    series: dict[str, set[str]] = {}
    for metric in all_metrics():
        endings = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        series |= {metric.name + ending: set(metric.labels) for ending in endings}
    return series


def recorded() -> set[str]:
    """The series that Prometheus works out from them."""
    rules = yaml.safe_load((ROOT / "ops" / "prometheus" / "recording.yml").read_text(encoding="utf-8"))
    return {rule["record"] for group in rules["groups"] for rule in group["rules"]}


def problems_of(query: Query) -> list[str]:
    """What in it does not exist; RabbitMQ's own series are looked for elsewhere."""
    series, ours = series_of_the_code(), names_in(query.expression) - recorded()
    unknown = sorted(name for name in ours if name not in series and not name.startswith("rabbitmq_"))
    known = set().union(*(series.get(name, set()) for name in ours), LABELS_OF_PROMETHEUS)
    return [*unknown, *sorted(labels_in(query.expression) - known)]


def test_every_query_asks_for_metrics_and_labels_that_the_code_exports() -> None:
    problems = {
        f"{dashboard.title} / {panel.title}": found
        for dashboard, panel, query in ALL_QUERIES
        if (found := problems_of(query))
    }
    assert problems == {}


@pytest.mark.parametrize(
    ("expression", "missing"),
    [
        ("sum(rate(seats_resreved_total[1m]))", "seats_resreved_total"),
        ("sum by (evnt_id) (seats_reserved_total)", "evnt_id"),
        ('checkout_failed_total{because="x"}', "because"),
        ("histogram_quantile(0.95, boxoffice_command_age_seconds)", "boxoffice_command_age_seconds"),
    ],
    ids=["metric", "grouped by", "chosen by", "no buckets"],
)
def test_a_query_that_asks_for_what_is_not_there_is_found(expression: str, missing: str) -> None:
    # Without this, the test above would also pass if it understood no query.
    assert problems_of(Query(expression)) == [missing]


def test_what_is_asked_of_rabbitmq_it_exports(stack: Stack) -> None:
    wanted = {
        name for _, _, query in ALL_QUERIES for name in names_in(query.expression) if name.startswith("rabbitmq_")
    }
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.ports['prometheus']}/metrics", timeout=10) as page:
        there = set(re.findall(r"^(rabbitmq_[a-z_]+)", page.read().decode(), re.MULTILINE))
    assert wanted
    assert wanted - there == set()


def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    if not binaries.is_here("promtool"):
        pytest.skip("promtool is not here: apt-get install prometheus")
    rules = [
        {"record": f"panel:{number}", "expr": query.expression.replace("$event", ".*")}
        for number, (_, _, query) in enumerate(ALL_QUERIES)
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    told = subprocess.run(
        [str(binaries.promtool_program()), "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_the_file_that_grafana_loads_is_current(dashboard: Dashboard) -> None:
    assert file_of(dashboard).read_text(encoding="utf-8") == text_of(dashboard), "run `make contracts`"


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_no_two_panels_lie_on_each_other(dashboard: Dashboard) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard.as_json()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_a_row_that_is_full_goes_on_below() -> None:
    wide = [Panel(f"panel {number}", [Query("vector(1)")]) for number in range(4)]
    dashboard = dataclasses.replace(DASHBOARDS[0], rows=[("row", wide)])
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard.as_json()["panels"][1:]]
    assert places == [(0, 1), (8, 1), (16, 1), (0, 9)]
