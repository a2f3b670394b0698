"""Metrics are named as the field names them, are described, and add up over workers."""

import re

from ops.metrics_page import INGRESS, all_metrics

UNITS = ("_seconds", "_ratio", "_total")


def test_each_has_a_name_that_says_its_type() -> None:
    for one in all_metrics():
        assert re.fullmatch(r"[a-z][a-z0-9_]+", one.name)
        assert one.name.endswith("_total") == (one.kind == "counter"), one.name
        assert "milli" not in one.name, "seconds are the unit"


def test_each_says_what_it_means_and_has_an_exporter() -> None:
    for one in all_metrics():
        assert " " in one.meaning, one.name
        assert one.exporters, f"no process imports the module of {one.name}"


def test_gauges_of_workers_leave_with_them() -> None:
    for one in all_metrics():
        if one.kind == "gauge" and INGRESS in one.exporters:
            assert one.multiprocess_mode in ("livesum", "livemin", "livemax"), one.name


def test_events_have_series_of_their_own_in_consumers_only() -> None:
    for one in all_metrics():
        if "event_id" in one.labels:
            assert INGRESS not in one.exporters, f"{one.name}: in a worker a series cannot be taken back"
            assert one.labels[0] == "event_id"
