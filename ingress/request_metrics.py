"""How many requests are answered, how, and how fast?

Counted where an answer leaves, so that nothing a client is told goes uncounted: errors, paths that are not ours, heads that
no router has seen, streams when they begin. The labels are few by construction: an endpoint is the template of a route, and a
method is one of HTTP's.
"""

import time
from typing import Any

from prometheus_client import Counter, Histogram
from sanic import Request

from ingress.route_paths import template_of

# What the seed promises is a bound of one of these: pages and reservations in 100 to 200 ms, alerts from 500 ms on, 2 s for
# a checkout.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0, 10.0)

REQUESTS = Counter(
    "http_requests_total",
    "Answers by the template of their route (other: no route of ours)",
    ["method", "endpoint", "status"],
)
DURATION_SECONDS = Histogram(
    "http_request_duration_seconds",
    "From the last byte of a request's head to the last of its answer; streams, which have no end, are left out",
    ["method", "endpoint"],
    buckets=SECONDS,
)

OTHER = "other"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"})

# By path of the route, method and status. Each of the three is from a closed set, so this does not grow for long.
_children: dict[tuple[str | None, str, int], tuple[Any, Any]] = {}


def count_answer(request: Request, status: int, began_at: float | None) -> None:
    """This was answered just now; `began_at`, by time.perf_counter, is None for a stream and for what was no request."""
    route = request.route
    key = (route.path if route is not None else None, request.method, status)
    count, observe = _children.get(key) or _new_children(key)
    count()
    if began_at is not None:
        observe(time.perf_counter() - began_at)


def endpoint_of(path: str | None) -> str:
    """The template of a route as the metrics name it: `/api/events/<event_id>/seats`."""
    return OTHER if path is None else template_of(path)


def _new_children(key: tuple[str | None, str, int]) -> tuple[Any, Any]:
    path, method, status = key
    endpoint = endpoint_of(path)
    shown = method if method in METHODS else OTHER
    children = (
        REQUESTS.labels(shown, endpoint, str(status)).inc,
        DURATION_SECONDS.labels(shown, endpoint).observe,
    )
    # The method of a request that could not be read is of Sanic's making; ours are at most ten.
    _children[key] = children
    return children
