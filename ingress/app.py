"""Which routes are there, and what do they share?"""

import asyncio
import logging
from typing import Any

from sanic import Sanic
from sanic.exceptions import SanicException
from sanic.handlers import ErrorHandler
from sanic.log import error_logger
from sanic.request import Request
from sanic.response import HTTPResponse

from contracts.settings import Settings
from db.garbage import collect_seldom
from db.logs import JsonFormatter
from db.postgres import TRANSIENT_ERRORS, open_pool
from db.redis import REDIS_AWAY, open_redis
from ingress.command_bus import CommandBus
from ingress.gate import Gate
from ingress.passwords import HashingBusy, Passwords
from ingress.resources import IngressResources
from ingress.responses import ProblemCode, Refusal, problem
from ingress.routes.auth import auth
from ingress.routes.checkout import checkout
from ingress.routes.commands import commands
from ingress.routes.docs import docs
from ingress.routes.health import health
from ingress.routes.orders import orders
from ingress.routes.seats import seats
from ingress.seat_lists import SeatLists
from ingress.security_headers import EncodedHeaders, security_headers

BLUEPRINTS = (auth, seats, checkout, orders, commands, health, docs)

REQUEST_TIMEOUT_SECONDS = 15
# Above the longest a route waits by itself (a checkout's deadline), so that it is the route that answers.
RESPONSE_TIMEOUT_SECONDS = 30
KEEP_ALIVE_TIMEOUT_SECONDS = 75
# A session cookie, an Idempotency-Key and what browsers add come to 2 KiB.
HEADERS_MAX_BYTES = 8192

# How long we go on answering after /ready has said no, so that whoever sends us requests has noticed.
NOTICE_SECONDS_MAX = 1.0

# Their news of every lost and restored connection is the command bus's to tell, once.
TALKATIVE_LOGGERS = ("aio_pika", "aiormq", "asyncio")

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
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in TALKATIVE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    return create_app(settings)


def create_app(settings: Settings) -> "Sanic[Any, Any]":
    """The ingress, ready to be served. Opens nothing until it is."""
    app: Sanic[Any, Any] = Sanic("boxoffice", error_handler=ProblemForEveryError(), configure_logging=False)
    _configure(app, settings)
    app.ctx.settings = settings
    app.ctx.draining = False
    app.ctx.security_headers = EncodedHeaders(security_headers(settings.public_url))
    for blueprint in BLUEPRINTS:
        app.blueprint(blueprint)
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
            return _problem_of_sanic(exception)
        if isinstance(exception, asyncio.CancelledError):
            return problem(ProblemCode.UNAVAILABLE)  # the client hung up: nobody will read this
        if isinstance(exception, HashingBusy):
            return problem(ProblemCode.BUSY)
        if isinstance(exception, TRANSIENT_ERRORS + REDIS_AWAY):
            error_logger.warning("a server of ours did not answer: %r", exception)
            return problem(ProblemCode.UNAVAILABLE)
        error_logger.error("unexpected error in %s %s", request.method, request.path, exc_info=exception)
        return problem(ProblemCode.INTERNAL_ERROR)


def _problem_of_sanic(exception: SanicException) -> HTTPResponse:
    code = PROBLEM_OF_STATUS.get(exception.status_code, ProblemCode.INTERNAL_ERROR)
    if code is ProblemCode.INTERNAL_ERROR:
        error_logger.error("unexpected error", exc_info=exception)
    headers = {name.lower(): str(value) for name, value in (exception.headers or {}).items()}
    return problem(code, headers=headers)


def _configure(app: "Sanic[Any, Any]", settings: Settings) -> None:
    app.config.update(
        {
            "ACCESS_LOG": False,
            "AUTO_EXTEND": False,
            "GRACEFUL_SHUTDOWN_TIMEOUT": max(0.0, settings.drain_seconds - _notice_seconds(settings)),
            "KEEP_ALIVE_TIMEOUT": KEEP_ALIVE_TIMEOUT_SECONDS,
            "MOTD": False,
            "OAS": False,
            "REQUEST_MAX_HEADER_SIZE": HEADERS_MAX_BYTES,
            "REQUEST_MAX_SIZE": settings.body_max_bytes,
            "REQUEST_TIMEOUT": REQUEST_TIMEOUT_SECONDS,
            "RESPONSE_TIMEOUT": RESPONSE_TIMEOUT_SECONDS,
            "USE_UVLOOP": True,
        }
    )


async def _open_resources(app: "Sanic[Any, Any]") -> None:
    settings: Settings = app.ctx.settings
    pool, redis = await open_pool(settings, application_name="ingress"), open_redis(settings)
    app.ctx.resources = IngressResources(
        settings=settings,
        pool=pool,
        redis=redis,
        gate=Gate(settings),
        passwords=Passwords(settings),
        command_bus=await CommandBus.open(settings, redis),
        seat_lists=SeatLists(pool),
    )
    collect_seldom()


async def _say_that_we_leave(app: "Sanic[Any, Any]") -> None:
    # Sanic still takes and answers requests while this runs, and stops listening when it returns.
    app.ctx.draining = True
    await asyncio.sleep(_notice_seconds(app.ctx.settings))


async def _close_resources(app: "Sanic[Any, Any]") -> None:
    resources: IngressResources = app.ctx.resources
    await resources.command_bus.close()
    await resources.gate.close()
    resources.passwords.close()
    await resources.redis.aclose()
    resources.pool.terminate()


def _notice_seconds(settings: Settings) -> float:
    return min(NOTICE_SECONDS_MAX, settings.drain_seconds / 10)
