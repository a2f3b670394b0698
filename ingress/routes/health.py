"""Is this process alive, and can it do its work?

/live: restart me if this fails. /ready: send me requests only while this is 200. /health: what an operator wants to see.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Iterator
from http import HTTPStatus
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from sanic import Blueprint, HTTPResponse, Request

from ingress.resources import IngressResources, resources_of
from ingress.responses import Answer, empty_response, json_response

health = Blueprint("health")

# Half a second says "down" early enough and is far above what a busy server takes to say hello.
CHECK_TIMEOUT_SECONDS = 0.5


@health.get("/live")
async def live(_: Request) -> HTTPResponse:
    """The event loop turns."""
    return empty_response()


@health.get("/ready")
async def ready(request: Request) -> HTTPResponse:
    """204 while requests are welcome, 503 otherwise: on the way out, or without a server we need."""
    if request.app.ctx.draining:
        return empty_response(HTTPStatus.SERVICE_UNAVAILABLE)
    states = await _states(resources_of(request))
    all_ok = all(state["ok"] for state in states.values())
    return empty_response(HTTPStatus.NO_CONTENT if all_ok else HTTPStatus.SERVICE_UNAVAILABLE)


@health.get("/health")
async def health_report(request: Request) -> HTTPResponse:
    """Each server we need: whether it answers and how fast."""
    states = await _states(resources_of(request))
    draining = request.app.ctx.draining
    all_ok = all(state["ok"] for state in states.values()) and not draining
    report = {"status": "ok" if all_ok else "degraded", "draining": draining, "servers": states}
    status = HTTPStatus.OK if all_ok else HTTPStatus.SERVICE_UNAVAILABLE
    return json_response(json.dumps(report).encode(), status)


@health.get("/metrics")
async def metrics(request: Request) -> HTTPResponse:
    """What this process counts, for Prometheus. With several workers, those of the one that answers."""
    body = generate_latest(_registry(request.app))
    return Answer(body, int(HTTPStatus.OK), None, CONTENT_TYPE_LATEST)


async def _states(resources: IngressResources) -> dict[str, dict[str, Any]]:
    checks = {
        "postgres": resources.pool.fetchval("SELECT 1"),
        "redis": resources.redis.ping(),
        "rabbitmq": _broker_answers(resources),
    }
    states = await asyncio.gather(*(_state(check) for check in checks.values()))
    return dict(zip(checks, states, strict=True))


async def _state(check: Awaitable[Any]) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await check
    except Exception as problem:  # noqa: BLE001 -- whatever is wrong with it, it is not well
        # The kind only: messages of drivers name hosts and users.
        return {"ok": False, "problem": type(problem).__name__}
    return {"ok": True, "milliseconds": round((time.perf_counter() - started) * 1000, 2)}


async def _broker_answers(resources: IngressResources) -> None:
    if not resources.command_bus.is_connected:
        raise ConnectionError("not connected to the broker")


def _registry(app: Any) -> CollectorRegistry:
    if not hasattr(app.ctx, "metrics"):
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        registry.register(_GateCounts(app.ctx.resources))
        app.ctx.metrics = registry
    return app.ctx.metrics  # type: ignore[no-any-return]


class _GateCounts(Collector):
    """Read when Prometheus asks, so that a request pays nothing for being counted."""

    def __init__(self, resources: IngressResources) -> None:
        self._resources = resources

    def collect(self) -> Iterator[Metric]:
        coalescer = self._resources.gate.coalescer
        yield CounterMetricFamily("boxoffice_gate_requests", "requests asked about at the gate", coalescer.item_count)
        yield CounterMetricFamily("boxoffice_gate_batches", "round trips they took", coalescer.batch_count)
