"""Which routes are there, and what do they share?"""

import asyncio
from contextlib import suppress
from http import HTTPMethod
from typing import Any

from sanic import Sanic
from sanic.exceptions import SanicException
from sanic.handlers import ErrorHandler
from sanic.log import error_logger
from sanic.request import Request
from sanic.response import HTTPResponse

from contracts.settings import Settings
from db.catalogue import PLANNED_FOR_ITS_VALUES
from db.coalescer import CoalescerFull
from db.garbage import collect_seldom
from db.postgres import TRANSIENT_ERRORS, open_pool
from db.read_cache import ReadCache
from db.redis import REDIS_AWAY, open_redis
from db.telemetry.logs import described, set_up_logging
from db.telemetry.traces import send_traces, set_up_traces
from ingress.check_in_desk import CheckInDesk
from ingress.command_bus import CommandBus
from ingress.cors import Origins
from ingress.gate import Gate
from ingress.operation import Content, operation_of
from ingress.passwords import HashingBusy, Passwords
from ingress.resources import IngressResources
from ingress.responses import ProblemCode, Refusal, problem
from ingress.routes.admin_audit import admin_audit
from ingress.routes.admin_cancellation import admin_cancellation
from ingress.routes.admin_door import admin_door
from ingress.routes.admin_orders import admin_orders
from ingress.routes.admin_reports import admin_reports
from ingress.routes.admin_seats import admin_seats
from ingress.routes.admin_stats import admin_stats
from ingress.routes.admin_waiting_room import admin_waiting_room
from ingress.routes.admin_webhooks import admin_webhooks
from ingress.routes.auth import auth
from ingress.routes.calendars import calendars
from ingress.routes.checkout import checkout
from ingress.routes.codes import admin_codes, codes
from ingress.routes.commands import commands
from ingress.routes.docs import docs
from ingress.routes.door import door
from ingress.routes.events import events
from ingress.routes.health import health, watched_health
from ingress.routes.live_seats import live_seats
from ingress.routes.metrics import metrics
from ingress.routes.orders import orders
from ingress.routes.refunds import refunds
from ingress.routes.resales import resales
from ingress.routes.seats import seats
from ingress.routes.tickets import tickets
from ingress.routes.transfers import transfers
from ingress.routes.venues import venues
from ingress.routes.waiting_list import waiting_list
from ingress.routes.waiting_room import waiting_room
from ingress.seat_views import SeatViews
from ingress.security_headers import EncodedHeaders, security_headers
from ingress.strict_http import HEAD_MAX_BYTES
from ingress.waiting_room_desk import RoomDesk
from ingress.worker_figures import WorkerFigures

BLUEPRINTS = (
    auth,
    events,
    venues,
    seats,
    live_seats,
    waiting_list,
    waiting_room,
    admin_waiting_room,
    admin_webhooks,
    admin_audit,
    admin_codes,
    admin_seats,
    admin_stats,
    admin_reports,
    admin_orders,
    codes,
    checkout,
    orders,
    refunds,
    admin_cancellation,
    tickets,
    calendars,
    transfers,
    resales,
    commands,
    door,
    admin_door,
    health,
    metrics,
    docs,
)

# Above the longest a route waits by itself (a checkout's deadline), so that it is the route that answers.
RESPONSE_TIMEOUT_SECONDS = 30
KEEP_ALIVE_TIMEOUT_SECONDS = 75

# How long we go on answering after /ready has said no, so that whoever sends us requests has noticed.
NOTICE_SECONDS_MAX = 1.0

PROBLEM_OF_STATUS: dict[int, ProblemCode] = {
    400: ProblemCode.MALFORMED_REQUEST,
    404: ProblemCode.NOT_FOUND,
    405: ProblemCode.METHOD_NOT_ALLOWED,
    408: ProblemCode.REQUEST_TIMEOUT,
    413: ProblemCode.BODY_TOO_LARGE,
    417: ProblemCode.MALFORMED_REQUEST,
    503: ProblemCode.UNAVAILABLE,
}


def create_process(settings: Settings) -> "Sanic[Any, Any]":
    """The ingress of a process of its own, which writes its log as JSON lines to standard error."""
    set_up_logging(settings.log_level, process="ingress")
    return create_app(settings)


def create_app(settings: Settings) -> "Sanic[Any, Any]":
    """The ingress, ready to be served. Opens nothing until it is."""
    app: Sanic[Any, Any] = Sanic("boxoffice", error_handler=ProblemForEveryError(), configure_logging=False)
    _configure(app, settings)
    app.ctx.settings = settings
    app.ctx.draining = False
    app.ctx.security_headers = EncodedHeaders(security_headers(settings.public_url))
    app.ctx.origins = Origins(settings)
    for blueprint in BLUEPRINTS:
        app.blueprint(blueprint)
    _answer_head_like_get(app)
    app.register_listener(_open_resources, "before_server_start")
    app.register_listener(_say_that_we_leave, "before_server_stop")
    app.register_listener(_close_resources, "after_server_stop")
    return app


class ProblemForEveryError(ErrorHandler):
    """Answers every error, Sanic's own included, as a problem with a code; what nobody expected is logged."""

    def default(self, request: Request, exception: Exception) -> HTTPResponse:
        """The answer to that error."""
        if isinstance(exception, Refusal):
            return exception.response
        if isinstance(exception, SanicException):
            return _problem_of_sanic(request, exception)
        if isinstance(exception, asyncio.CancelledError):
            return problem(ProblemCode.UNAVAILABLE)  # the client hung up: nobody will read this
        if isinstance(exception, (HashingBusy, CoalescerFull)):
            return problem(ProblemCode.BUSY)
        if isinstance(exception, TRANSIENT_ERRORS + REDIS_AWAY):
            error_logger.warning("server_away", extra={"error": described(exception)})
            return problem(ProblemCode.UNAVAILABLE)
        error_logger.error("unexpected_error", exc_info=exception)
        return problem(ProblemCode.INTERNAL_ERROR)


def _problem_of_sanic(request: Request, exception: SanicException) -> HTTPResponse:
    code = PROBLEM_OF_STATUS.get(exception.status_code, ProblemCode.INTERNAL_ERROR)
    if code is ProblemCode.INTERNAL_ERROR:
        error_logger.error("unexpected_error", exc_info=exception)
    headers = {name.lower(): str(value) for name, value in (exception.headers or {}).items()}
    if code is ProblemCode.METHOD_NOT_ALLOWED:
        # Of a path with a parameter and several methods Sanic names none.
        headers["allow"] = ", ".join(_methods_of(request))
    return problem(code, headers=headers)


def _methods_of(request: Request) -> list[str]:
    """The methods this path can be asked with."""
    found = []
    for method in HTTPMethod:
        with suppress(SanicException):
            request.app.router.get(request.path, method.value, None)
            found.append(method.value)
    return sorted(found)


def _answer_head_like_get(app: "Sanic[Any, Any]") -> None:
    """RFC 9110 9.3.2: the same headers and no body, which Sanic leaves out. A stream, which never ends, has no such answer."""
    for route in app.router.routes:
        if "GET" in route.methods and not _is_stream(route):
            route.methods |= {"HEAD"}


def _is_stream(route: Any) -> bool:
    described = operation_of(route.handler)
    contents = described.answers.values() if described is not None else ()
    streams = any(isinstance(content, Content) and content.frames for content in contents)
    return streams or bool(getattr(route.extra, "websocket", False))


def _configure(app: "Sanic[Any, Any]", settings: Settings) -> None:
    app.config.update(
        {
            "ACCESS_LOG": False,
            "AUTO_EXTEND": False,
            "GRACEFUL_SHUTDOWN_TIMEOUT": max(0.0, settings.drain_seconds - _notice_seconds(settings)),
            "KEEP_ALIVE_TIMEOUT": KEEP_ALIVE_TIMEOUT_SECONDS,
            "MOTD": False,
            "OAS": False,
            # Above our own reader's bound, so that it is the one that says no.
            "REQUEST_MAX_HEADER_SIZE": HEAD_MAX_BYTES + 1,
            "REQUEST_MAX_SIZE": settings.body_max_bytes,
            "REQUEST_TIMEOUT": settings.request_timeout_seconds,
            "RESPONSE_TIMEOUT": RESPONSE_TIMEOUT_SECONDS,
            "USE_UVLOOP": True,
        }
    )


async def _open_resources(app: "Sanic[Any, Any]") -> None:
    settings: Settings = app.ctx.settings
    set_up_traces(settings, role="ingress")
    pool = await open_pool(settings, application_name="ingress", planner=PLANNED_FOR_ITS_VALUES)
    redis = open_redis(settings)
    app.ctx.resources = IngressResources(
        settings=settings,
        pool=pool,
        redis=redis,
        gate=Gate(settings),
        read_cache=ReadCache(settings),
        passwords=Passwords(settings),
        command_bus=await CommandBus.open(settings, redis),
        seat_views=await SeatViews.open(settings, pool, redis),
        room_desk=RoomDesk.open(settings, pool, redis),
        check_in_desk=await CheckInDesk.open(settings, pool),
    )
    app.ctx.figures = WorkerFigures.open(app.ctx.resources)
    app.ctx.health = watched_health(app, app.ctx.resources)
    collect_seldom()


async def _say_that_we_leave(app: "Sanic[Any, Any]") -> None:
    # Sanic still takes and answers requests while this runs, and stops listening when it returns.
    app.ctx.draining = True
    app.ctx.resources.seat_views.end_streams()
    app.ctx.resources.room_desk.streams.end()
    await asyncio.sleep(_notice_seconds(app.ctx.settings))


async def _close_resources(app: "Sanic[Any, Any]") -> None:
    resources: IngressResources = app.ctx.resources
    await app.ctx.health.close()
    await app.ctx.figures.close()
    await resources.command_bus.close()
    await resources.seat_views.close()
    await resources.room_desk.close()
    resources.check_in_desk.close()
    await resources.gate.close()
    resources.passwords.close()
    await resources.read_cache.close()
    await resources.redis.aclose()
    resources.pool.terminate()
    await send_traces()


def _notice_seconds(settings: Settings) -> float:
    return min(NOTICE_SECONDS_MAX, settings.drain_seconds / 10)
