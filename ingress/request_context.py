"""Which request is this, in every line, message and span that comes of it?

Each has an id of our own making, its correlation id: a client's may repeat, and replies find their asker by it. It is in the
answer (X-Correlation-Id), in every line of the log, and in the command that the request asks. A client's X-Request-Id is
logged beside it and sent back. Of answers only errors are logged, and all of them at level debug: thousands of lines a second
that say that all is well are a load and no help.
"""

import logging
import re
import time
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

from sanic import Request

from contracts.ids import CommandId
from contracts.wire import TRACEPARENT_HEADER
from db.telemetry.logs import bind_correlation_id, bind_request_id
from db.telemetry.traces import Span, begin_span, is_tracing, make_current
from ingress.request_metrics import endpoint_of

log = logging.getLogger(__name__)

CORRELATION_HEADER = b"x-correlation-id"
REQUEST_HEADER = "x-request-id"
# In an overload every answer may be an error; the metrics count them all.
LINES_PER_SECOND_MAX = 100

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,64}", re.ASCII)
# It asks for nothing wrong and is not our mistake: there is too much to do, or a server of ours is away.
_PASSING = frozenset({HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})


def begin(request: Request) -> None:
    """A request has been read: from here on what its connection's task does is done for it."""
    context: Any = request.ctx
    _name(context)
    named: str | None = request.headers.getone(REQUEST_HEADER, None)
    if named is not None and _REQUEST_ID.fullmatch(named) is None:
        named = None
    context.request_id = named
    bind_request_id(named)
    if is_tracing():
        _begin_span(request)


def end(request: Request, status: int, began_at: float | None) -> None:
    """It was answered just now; `began_at`, by time.perf_counter, is None for a stream and for what was no request."""
    is_error = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    if is_error or log.isEnabledFor(logging.DEBUG):
        _log_answer(request, status, began_at, is_error=is_error)
    span: Span | None = getattr(request.ctx, "span", None)
    if span is not None:
        _end_span(span, request, status)


def identity_line(request: Request, *, is_shared: bool) -> tuple[bytes, bytes]:
    """The headers that name the request, as the one pair that an answer writes most cheaply. A client's own name for it has
    no place in an answer that others may be given from a cache."""
    context: Any = request.ctx
    if not hasattr(context, "correlation_id"):
        _name(context)
    value: str = context.correlation_text
    request_id: str | None = getattr(context, "request_id", None)
    if request_id is not None and not is_shared:
        value = f"{value}\r\n{REQUEST_HEADER}: {request_id}"
    return CORRELATION_HEADER, value.encode()


def correlation_id_of(request: Request) -> UUID:
    """The id of this request; also of one that could not be read to its end."""
    context: Any = request.ctx
    if not hasattr(context, "correlation_id"):
        _name(context)
    found: UUID = context.correlation_id
    return found


def ask_id(request: Request) -> CommandId:
    """The correlation id of a command that this request asks: its own. Of any further one it is another, because replies find
    their asker by it."""
    context: Any = request.ctx
    if getattr(context, "has_asked", False):
        return CommandId(uuid4())
    context.has_asked = True
    return CommandId(correlation_id_of(request))


def _name(context: Any) -> None:
    context.correlation_id = uuid4()
    # Its text is made once, for the lines and for the answer.
    context.correlation_text = text = str(context.correlation_id)
    bind_correlation_id(text)


# ---- what is logged


class _LineBudget:
    """So many lines a second, and how many there was no room for."""

    def __init__(self) -> None:
        self._second = 0
        self._count = 0
        self.left_out_count = 0

    def has_room(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        if self._count <= LINES_PER_SECOND_MAX:
            return True
        self.left_out_count += 1
        return False


_budget = _LineBudget()


def _log_answer(request: Request, status: int, began_at: float | None, *, is_error: bool) -> None:
    if is_error and not _budget.has_room():
        return
    level = logging.DEBUG
    if is_error:
        level = logging.WARNING if status in _PASSING else logging.ERROR
    fields: dict[str, Any] = {"method": request.method, "endpoint": _endpoint(request), "status": status}
    if began_at is not None:
        fields["duration_ms"] = round((time.perf_counter() - began_at) * 1000, 1)
    if _budget.left_out_count:
        fields["left_out_count"], _budget.left_out_count = _budget.left_out_count, 0
    log.log(level, "request_answered", extra=fields)


def _endpoint(request: Request) -> str:
    # Never the path itself: there are secrets in some.
    return endpoint_of(request.route.path if request.route is not None else None)


# ---- what is traced


def _begin_span(request: Request) -> None:
    begun = begin_span(
        request.method,
        kind="server",
        parent=request.headers.getone(TRACEPARENT_HEADER, None),
        attributes={
            "http.request.method": request.method,
            "url.scheme": request.scheme,
            "boxoffice.correlation_id": request.ctx.correlation_text,
        },
        is_root=True,
    )
    request.ctx.span = begun
    make_current(begun)


def _end_span(span: Span, request: Request, status: int) -> None:
    endpoint = _endpoint(request)
    span.rename(f"{request.method} {endpoint}")
    span.note({"http.route": endpoint, "http.response.status_code": status})
    span.end(str(status) if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None)
    make_current(None)
    request.ctx.span = None
