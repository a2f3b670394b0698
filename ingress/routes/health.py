"""Is this process alive, and can it do its work?

/live: restart me if this fails. /ready: send me requests only while this is 200. /health: what an operator wants to see.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterator
from http import HTTPStatus
from typing import Any, Literal

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from pydantic import Field
from sanic import Blueprint, HTTPResponse, Request

from contracts.value import Value
from ingress.operation import Access, Content, operation
from ingress.resources import IngressResources, resources_of
from ingress.responses import Answer, empty_response, json_response

health = Blueprint("health")

# Half a second says "down" early enough and is far above what a busy server takes to say hello.
CHECK_TIMEOUT_SECONDS = 0.5
# Without Redis buyers who are logged in go on (ops/decisions/0006): to be sent no requests would end the sale for all.
INDISPENSABLE = frozenset({"postgres", "rabbitmq"})


class ServerState(Value):
    """A server we need: whether it answers, how fast, and what kind of error came instead."""

    ok: bool
    milliseconds: float | None = Field(None, exclude_if=lambda value: value is None)
    problem: str | None = Field(None, exclude_if=lambda value: value is None)


class HealthReport(Value):
    """Each server we need: whether it answers and how fast."""

    status: Literal["ok", "degraded"]
    draining: bool
    servers: dict[str, ServerState]


@health.get("/live")
@operation(access=Access.ANYONE, answers={HTTPStatus.NO_CONTENT: None})
async def live(_: Request) -> HTTPResponse:
    """The event loop turns."""
    return empty_response()


@health.get("/ready")
@operation(access=Access.ANYONE, answers={HTTPStatus.NO_CONTENT: None, HTTPStatus.SERVICE_UNAVAILABLE: None})
async def ready(request: Request) -> HTTPResponse:
    """204 while requests are welcome, 503 otherwise: on the way out, or without a server the sale cannot do without."""
    if request.app.ctx.draining:
        return empty_response(HTTPStatus.SERVICE_UNAVAILABLE)
    states = await _states(resources_of(request))
    all_ok = all(state.ok for name, state in states.items() if name in INDISPENSABLE)
    return empty_response(HTTPStatus.NO_CONTENT if all_ok else HTTPStatus.SERVICE_UNAVAILABLE)


@health.get("/health")
@operation(access=Access.ANYONE, answers={HTTPStatus.OK: HealthReport, HTTPStatus.SERVICE_UNAVAILABLE: HealthReport})
async def health_report(request: Request) -> HTTPResponse:
    """Each server we need: whether it answers and how fast."""
    states = await _states(resources_of(request))
    draining = request.app.ctx.draining
    all_ok = all(state.ok for state in states.values()) and not draining
    report = HealthReport(status="ok" if all_ok else "degraded", draining=draining, servers=states)
    return json_response(report, HTTPStatus.OK if all_ok else HTTPStatus.SERVICE_UNAVAILABLE)


@health.get("/metrics")
@operation(
    access=Access.ANYONE,
    answers={HTTPStatus.OK: Content("text/plain", "Counters in the format of Prometheus.")},
)
async def metrics(request: Request) -> HTTPResponse:
    """What this process counts, for Prometheus. With several workers, those of the one that answers."""
    body = generate_latest(_registry(request.app))
    return Answer(body, int(HTTPStatus.OK), None, CONTENT_TYPE_LATEST)


async def _states(resources: IngressResources) -> dict[str, ServerState]:
    checks = {
        "postgres": resources.pool.fetchval("SELECT 1"),
        "redis": resources.redis.ping(),
        "rabbitmq": _broker_answers(resources),
    }
    states = await asyncio.gather(*(_state(check) for check in checks.values()))
    return dict(zip(checks, states, strict=True))


async def _state(check: Awaitable[Any]) -> ServerState:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await check
    except Exception as problem:  # noqa: BLE001 -- whatever is wrong with it, it is not well
        # The kind only: messages of drivers name hosts and users.
        return ServerState(ok=False, problem=type(problem).__name__)
    return ServerState(ok=True, milliseconds=round((time.perf_counter() - started) * 1000, 2))


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
        registry.register(_SeatViewCounts(app.ctx.resources))
        registry.register(_RoomCounts(app.ctx.resources))
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


class _SeatViewCounts(Collector):
    """The live seats of this process, likewise."""

    def __init__(self, resources: IngressResources) -> None:
        self._views = resources.seat_views

    def collect(self) -> Iterator[Metric]:
        views = self._views
        yield CounterMetricFamily(
            "boxoffice_early_refusals", "reservations refused by a live view", views.early_refusal_count
        )
        yield GaugeMetricFamily("boxoffice_seat_streams", "seat streams that are open", views.places.taken_count)
        yield GaugeMetricFamily("boxoffice_seat_views", "events whose seats are followed", views.event_count)


class _RoomCounts(Collector):
    """What this process has told those who wait, likewise."""

    def __init__(self, resources: IngressResources) -> None:
        self._desk = resources.room_desk

    def collect(self) -> Iterator[Metric]:
        positions = self._desk.positions
        yield CounterMetricFamily(
            "boxoffice_queue_early_polls", "positions asked for too soon, answered from memory", positions.early_count
        )
        yield CounterMetricFamily(
            "boxoffice_queue_reckoned_polls", "positions reckoned from the snapshot", positions.reckoned_count
        )
        yield GaugeMetricFamily("boxoffice_queue_streams", "streams of the heads of lines", self._desk.streams.count)
