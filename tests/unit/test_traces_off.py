"""Does tracing cost nothing where nobody asked for it?"""

import subprocess
import sys
from pathlib import Path

import pytest

from contracts.settings import Settings
from db.telemetry import traces
from db.telemetry.traces import begin_span, current_traceparent, is_tracing, set_up_traces, span

# A process with everything we have in it, set up as `python -m ingress` and `python -m consumers` do. redis-py imports
# OpenTelemetry's classes for metrics by itself, where they are installed, and then does not use them.
EVERYTHING = """
import sys
import redis.asyncio

before = set(sys.modules)
from consumers.__main__ import ROLES, role_of
from contracts.settings import Settings
from db.telemetry.traces import set_up_traces
import ingress.app

for role in ROLES:
    role_of(role)
set_up_traces(Settings(otlp_url="{url}"), role="all")
print(*(name for name in sys.modules.keys() - before if name.startswith("opentelemetry") or name == "db.telemetry.otlp"))
"""


def imported_by_us(url: str) -> set[str]:
    """What such a process has imported for the sake of traces."""
    done = subprocess.run(
        [sys.executable, "-c", EVERYTHING.format(url=url)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return set(done.stdout.split())


def test_without_a_collector_we_import_nothing_of_opentelemetry() -> None:
    assert imported_by_us("") == set()


def test_with_a_collector_we_do() -> None:
    wanted = {"db.telemetry.otlp", "opentelemetry.exporter.otlp.proto.http.trace_exporter"}
    assert wanted <= imported_by_us("http://127.0.0.1:9")


def test_without_a_collector_there_are_no_spans() -> None:
    set_up_traces(Settings(), role="ingress")
    assert not is_tracing()
    assert begin_span("work", is_root=True) is None
    with span("work", is_root=True) as begun, span("more") as beneath:
        assert begun is beneath is None
        assert current_traceparent() is None


def test_without_a_collector_all_spans_are_one_and_the_same() -> None:
    assert span("work") is span("other work") is traces._NOTHING


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_the_ratio_counts_where_requests_come_in(monkeypatch: pytest.MonkeyPatch, ratio: float) -> None:
    asked: list[float] = []

    class Recorder:
        def __init__(self, _url: str, *, ratio: float, **_: str) -> None:
            asked.append(ratio)

    monkeypatch.setattr("db.telemetry.otlp.OtlpTracing", Recorder)
    monkeypatch.setattr(traces, "_tracing", None)
    for role in ("ingress", "payments"):
        set_up_traces(Settings(otlp_url="http://127.0.0.1:9", trace_ratio=ratio), role=role)
    assert asked == [ratio, 1.0]
