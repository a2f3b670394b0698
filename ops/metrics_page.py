"""`python -m ops.metrics_page`: which metrics are there, of which type, with which labels, and who exports them?

The page ops/metrics.md is made from the code: each metric stands next to what it measures, and whoever imports that place
exports it. A test keeps the page current.
"""

import ast
import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from prometheus_client.metrics import MetricWrapperBase

from consumers.__main__ import ROLES
from db.telemetry.pools import PoolFigures

FILE = Path(__file__).parent / "metrics.md"

PACKAGES = ("contracts", "db", "ingress", "consumers")
INGRESS = "ingress"

HEAD = """# Metrics

Made from the code by `make contracts`; do not edit. What each alert means is in [the runbook](runbook/), which queries are
drawn in [the dashboards](dashboards/).

The ingress serves `/metrics` on its HTTP port, for all its workers together whichever of them answers; every consumer process
serves it on `BOXOFFICE_METRICS_PORT`. RabbitMQ serves its own (`rabbitmq_*`) from its Prometheus plugin.

Labels are few by construction. `endpoint` is the template of a route (`/api/events/<event_id>/seats`) or `other`, `query_type`
the file of `db/sql` a statement stands in, or `begin`, `commit`, `rollback`, `other`; of `queue` all events' queues are
`tk.cmd.e` and all lanes `tk.cmd.s`. `event_id` is the id of an event that is on sale, else `other`; its series go when the
sale is over. Counters begin with 0 when their process starts; in the ingress they outlive a worker.

Prometheus names a histogram's series `…_bucket`, `…_sum` and `…_count`; the quantiles that the seed asks of
`http_request_duration_seconds` and `queue_wait_time_seconds` are recorded from them (`prometheus/recording.yml`).
Beside these every process has prometheus_client's `process_*`, and every consumer and every ingress of one worker its `python_*`.
"""


@dataclass(frozen=True)
class Described:
    """One metric as the page shows it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str
    exporters: tuple[str, ...]
    multiprocess_mode: str | None


def all_metrics() -> list[Described]:
    """Every metric our code defines, by name."""
    found: dict[str, Described] = {}
    for module in _modules():
        for metric in _metrics_of(module):
            name = metric._name + ("_total" if metric._type == "counter" else "")
            found[name] = Described(
                name=name,
                kind=metric._type or "",
                labels=tuple(metric._labelnames),
                meaning=metric._documentation,
                exporters=_exporters(module.__name__),
                multiprocess_mode=getattr(metric, "_multiprocess_mode", None),
            )
    return [found[name] for name in sorted(found)]


def page() -> str:
    """What should be in the file."""
    lines = [HEAD, "| metric | type | labels | meaning | exported by |", "|---|---|---|---|---|"]
    for one in all_metrics():
        labels = ", ".join(f"`{label}`" for label in one.labels)
        lines.append(f"| `{one.name}` | {one.kind} | {labels} | {one.meaning} | {_in_words(one.exporters)} |")
    return "\n".join(lines) + "\n"


def _metrics_of(module: ModuleType) -> Iterator[MetricWrapperBase]:
    """Those that this module makes, not those that it imports."""
    text = Path(module.__file__ or "").read_text(encoding="utf-8") if module.__file__ else ""
    for value in list(vars(module).values()):
        for metric in _within(value):
            if f'"{metric._name}' in text or isinstance(value, PoolFigures):  # which puts its names together
                yield metric


def _within(value: object) -> Iterable[MetricWrapperBase]:
    """The metric itself, or those that an object of ours keeps."""
    if isinstance(value, MetricWrapperBase):
        return [value]
    if isinstance(value, PoolFigures):
        return [kept for kept in vars(value).values() if isinstance(kept, MetricWrapperBase)]
    return []


def _modules() -> Iterator[ModuleType]:
    for package in PACKAGES:
        for info in pkgutil.walk_packages([str(FILE.parents[1] / package)], prefix=f"{package}."):
            if not info.name.endswith("__main__"):
                yield importlib.import_module(info.name)


# ---- who exports it


def _exporters(module: str) -> tuple[str, ...]:
    """The processes that load this module."""
    return tuple(name for name, starts in _processes().items() if any(module in _reached(start) for start in starts))


def _processes() -> dict[str, tuple[str, ...]]:
    """What each process begins with."""
    return {INGRESS: ("ingress.app",), **{role: ("consumers.__main__", module) for role, module in ROLES.items()}}


def _in_words(exporters: tuple[str, ...]) -> str:
    if len(exporters) == len(_processes()):
        return "every process"
    if set(exporters) == set(ROLES):
        return "every consumer"
    return ", ".join(exporters)


@cache
def _reached(start: str) -> frozenset[str]:
    """The modules of ours that are loaded with this one."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += _imported(module)
    return frozenset(reached)


@cache
def _imported(module: str) -> tuple[str, ...]:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ()
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    names: list[str] = []
    for node in tree.body:  # what is imported inside a function or for the type checker is loaded later, or never
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.split(".")[0] in PACKAGES and _is_module(name))


@cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def main() -> None:
    """Write the page."""
    FILE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
