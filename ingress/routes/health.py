"""Is this process alive, and can it do its work?

/live: restart me if this fails. /ready: send me requests only while this is 204. /health: what an operator wants to see.
"""

from http import HTTPStatus
from typing import Any

from sanic import Blueprint, HTTPResponse, Request, Sanic

from db.telemetry.health import Health, HealthReport, postgres_session, redis_answers
from ingress.operation import Access, operation
from ingress.resources import IngressResources
from ingress.responses import empty_response, json_response

health = Blueprint("health")

# Without Redis buyers who are logged in go on (ops/decisions/0006): to be sent no requests would end the sale for all.
INDISPENSABLE = frozenset({"postgres", "rabbitmq"})


@health.get("/live")
@operation(access=Access.ANYONE, answers={HTTPStatus.NO_CONTENT: None})
async def live(_: Request) -> HTTPResponse:
    """The event loop turns."""
    return empty_response()


@health.get("/ready")
@operation(access=Access.ANYONE, answers={HTTPStatus.NO_CONTENT: None, HTTPStatus.SERVICE_UNAVAILABLE: None})
async def ready(request: Request) -> HTTPResponse:
    """204 while requests are welcome, 503 otherwise: on the way out, or without a server the sale cannot do without."""
    is_ready = await _health_of(request).is_ready()
    return empty_response(HTTPStatus.NO_CONTENT if is_ready else HTTPStatus.SERVICE_UNAVAILABLE)


@health.get("/health")
@operation(access=Access.ANYONE, answers={HTTPStatus.OK: HealthReport, HTTPStatus.SERVICE_UNAVAILABLE: HealthReport})
async def health_report(request: Request) -> HTTPResponse:
    """Each server we need: whether it answers and how fast. A list of checks with the same, and of the circuit breakers."""
    report = await _health_of(request).report()
    return json_response(report, HTTPStatus.OK if report.status == "ok" else HTTPStatus.SERVICE_UNAVAILABLE)


def watched_health(app: "Sanic[Any, Any]", resources: IngressResources) -> Health:
    """The health of this worker, looked at from now on whether anybody asks or not. Close it in the end."""
    postgres = postgres_session(resources.settings, application_name="ingress health")
    watched = Health(
        {
            "postgres": postgres.ask,
            "redis": lambda: redis_answers(resources.redis),
            "rabbitmq": resources.command_bus.ask_broker,
        },
        indispensable=INDISPENSABLE,
        is_draining=lambda: bool(app.ctx.draining),
        sessions=(postgres,),
    )
    watched.begin()
    return watched


def _health_of(request: Request) -> Health:
    found: Health = request.app.ctx.health
    return found
