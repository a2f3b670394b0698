"""What does a line of our log look like?

One JSON object per line with the seed's fields: `timestamp`, `level`, `correlationId`, `action` and whatever the caller
adds with `extra={"event_id": ...}`, in camelCase; `process` says which role wrote it. The correlation id is bound once per
task and found by every line after. What an error says of the data it was about is left out: that may be somebody's address.
"""

import json
import logging
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import asyncpg
from pydantic import ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticSerializationError, to_json

_correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)
# What a client calls its request.
_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
# In a process of many roles each has its own; what belongs to none is the process's.
_role: ContextVar[str | None] = ContextVar("role", default=None)
_process = ""

_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
_LEVELS = {logging.WARNING: "warn", logging.CRITICAL: "error"}

# Their news of every lost and restored connection is ours to tell, once; their warnings stay.
_TALKATIVE = ("aio_pika", "aiormq", "faststream", "asyncio", "stripe", "urllib3", "opentelemetry")

_camel = lru_cache(maxsize=1024)(to_camel)


def set_up_logging(level: str = "info", *, process: str = "") -> None:
    """Send everything at `level` and above to standard error, as lines of this process; call it once, before serving."""
    global _process
    _process = process
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    # aio_pika says the same of every failed attempt to connect, and says what it does about it.
    logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)


def name_role(role: str) -> None:
    """From here on every line of this task, and of the tasks it begins, says that this role wrote it."""
    _role.set(role)


def bound_role() -> str | None:
    """The role that this task works for; None in a process that has but one."""
    return _role.get()


@contextmanager
def correlated(correlation_id: object) -> Iterator[None]:
    """Every line written within carries this correlation id; None keeps the one that is bound."""
    if correlation_id is None:
        yield
        return
    token = _correlation_id.set(str(correlation_id))
    try:
        yield
    finally:
        _correlation_id.reset(token)


def bind_correlation_id(correlation_id: object) -> None:
    """From here to the end of this task every line carries it: for a task that does one thing, such as answering a request."""
    _correlation_id.set(None if correlation_id is None else str(correlation_id))


def bind_request_id(request_id: str | None) -> None:
    """The same for what a client calls its request; None: it has no name for it."""
    _request_id.set(request_id)


def bound_correlation_id() -> str | None:
    """The correlation id of the work this task is doing."""
    return _correlation_id.get()


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line = _head(record.created, record.levelno, record.name)
        if correlation_id := _correlation_id.get():
            line["correlationId"] = correlation_id
        if request_id := _request_id.get():
            line["requestId"] = request_id
        line["action"] = record.getMessage()
        for name, value in vars(record).items():
            if name not in _OWN_FIELDS:
                line[_camel(name)] = value
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = traced(record.exc_info[1])
        return _encoded(line).decode()


def write_lines(logger: logging.Logger, level: int, lines: Sequence[Mapping[str, object]]) -> None:
    """Write many lines at once: one moment, one write. Each is a mapping with `action` and its fields as they are to stand
    there, its own `correlationId` among them; nothing is added that is bound to the task."""
    if not lines or not logger.isEnabledFor(level):
        return
    text = ""
    for handler in _handlers_of(logger):
        if level < handler.level:
            continue
        if isinstance(handler, logging.StreamHandler) and isinstance(handler.formatter, JsonFormatter):
            text = text or _many_encoded(logger.name, level, lines)
            _write(handler, text)
        else:
            _handle_each(handler, logger.name, level, lines)


def described(problem: BaseException) -> str:
    """An error's type and what it says, without the data that it was about."""
    said = _said(problem)
    return f"{type(problem).__name__}: {said}" if said else type(problem).__name__


def traced(problem: BaseException) -> str:
    """An error's traceback and those of what led to it, each with its `described`."""
    told: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = problem
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = "".join(traceback.format_tb(current.__traceback__))
        told.append(f"Traceback (most recent call last):\n{frames}{described(current)}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n\nwhich came of the error before:\n\n".join(reversed(told))


def _said(problem: BaseException) -> str:
    if isinstance(problem, asyncpg.PostgresError):
        # Its text goes on with DETAIL, which quotes the record: "Key (email)=(…) already exists".
        return str(problem.args[0]) if problem.args else ""
    if isinstance(problem, ValidationError):
        errors = problem.errors(include_url=False, include_input=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['type']}" for error in errors[:5])
    return str(problem)


def _head(created: float, level: int, name: str) -> dict[str, Any]:
    seconds, milliseconds = divmod(int(created * 1000), 1000)
    head: dict[str, Any] = {"timestamp": f"{_second(seconds)}.{milliseconds:03d}Z", "level": _level(level)}
    if process := _role.get() or _process:
        head["process"] = process
    head["logger"] = name
    return head


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _level(level: int) -> str:
    return _LEVELS.get(level) or logging.getLevelName(level).lower()


def _encoded(line: Mapping[str, object]) -> bytes:
    try:
        return to_json(line, fallback=str, inf_nan_mode="strings")
    except (PydanticSerializationError, ValueError):
        # Bytes or text that is no UTF-8: a line is written all the same.
        return json.dumps(line, default=str).encode()


def _many_encoded(name: str, level: int, lines: Sequence[Mapping[str, object]]) -> str:
    # The head is the same for all, so it is written once and put before each.
    head = _encoded(_head(time.time(), level, name))[:-1]
    return b"\n".join([head + b"," + _encoded(line)[1:] for line in lines]).decode()


def _handlers_of(logger: logging.Logger) -> Iterator[logging.Handler]:
    current: logging.Logger | None = logger
    while current is not None:
        yield from current.handlers
        current = current.parent if current.propagate else None


def _write(handler: "logging.StreamHandler[Any]", text: str) -> None:
    handler.acquire()
    try:
        handler.stream.write(text + handler.terminator)
        handler.flush()
    except Exception:  # noqa: BLE001 -- a log that cannot be written stops no sale
        handler.handleError(logging.makeLogRecord({"msg": "lines not written"}))
    finally:
        handler.release()


def _handle_each(handler: logging.Handler, name: str, level: int, lines: Sequence[Mapping[str, object]]) -> None:
    """For a handler that wants records: the tests' own, say."""
    for line in lines:
        fields = {key: value for key, value in line.items() if key != "action"}
        record = {"name": name, "levelno": level, "levelname": logging.getLevelName(level), "msg": line["action"]}
        handler.handle(logging.makeLogRecord({**fields, **record}))
