"""Answers are counted under few and stable names."""

import re
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY
from sanic import Sanic

from contracts.settings import Settings
from ingress.app import create_app
from ingress.request_metrics import OTHER, count_answer, endpoint_of


class Asked:
    """What is counted of a request."""

    def __init__(self, method: str, route: object = None) -> None:
        self.method = method
        self.route = route


class Route:
    def __init__(self, path: str) -> None:
        self.path = path


def counted(**labels: str) -> float:
    return REGISTRY.get_sample_value("http_requests_total", labels) or 0.0


def timed(**labels: str) -> float:
    return REGISTRY.get_sample_value("http_request_duration_seconds_count", labels) or 0.0


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("api/events", "/api/events"),
        ("api/events/<event_id:uuid>/seats", "/api/events/<event_id>/seats"),
        ("api/tickets/<ticket_id:([0-9a-f-]+).svg>", "/api/tickets/<ticket_id>"),
        ("", "/"),
        (None, OTHER),
    ],
)
def test_an_endpoint_is_the_template_of_its_route(path: str | None, endpoint: str) -> None:
    assert endpoint_of(path) == endpoint


def test_no_two_routes_of_one_method_are_one_endpoint() -> None:
    app = create_app(Settings())
    try:
        app.router.finalize()
        endpoints = [(endpoint_of(route.path), method) for route in app.router.routes for method in route.methods]
    finally:
        Sanic.unregister_app(app)
    assert len(endpoints) == len(set(endpoints))
    assert ("/api/tickets/<ticket_id>.png", "GET") in endpoints
    assert not [endpoint for endpoint, _ in endpoints if re.search(r"[()\\\\?:]", endpoint)]


def test_a_method_of_somebodys_own_making_has_no_series_of_its_own() -> None:
    before = counted(method=OTHER, endpoint=OTHER, status="501")
    for method in ("NONE", "NONE", "BREW"):
        count_answer(Asked(method), 501, None)  # type: ignore[arg-type]
    assert counted(method=OTHER, endpoint=OTHER, status="501") == before + 3
    assert counted(method="BREW", endpoint=OTHER, status="501") == 0


def test_a_stream_is_counted_and_not_timed() -> None:
    template = f"{uuid4().hex}/<event_id:uuid>/stream"
    labels = {"method": "GET", "endpoint": endpoint_of(template)}
    count_answer(Asked("GET", Route(template)), 200, None)  # type: ignore[arg-type]
    assert (counted(status="200", **labels), timed(**labels)) == (1, 0)
    count_answer(Asked("GET", Route(template)), 503, 0.0)  # type: ignore[arg-type]
    assert (counted(status="503", **labels), timed(**labels)) == (1, 1)
