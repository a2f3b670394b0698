"""What does a line of our log look like?

One JSON object per line with the seed's fields: `timestamp`, `level`, `correlationId`, `action` and whatever the caller
adds with `extra={"event_id": ...}`, in camelCase. The correlation id is bound once per task and found by every line after.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from pydantic.alias_generators import to_camel

_correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)

_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
_LEVELS = {logging.WARNING: "warn", logging.CRITICAL: "error"}


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


def bound_correlation_id() -> str | None:
    """The correlation id of the work this task is doing."""
    return _correlation_id.get()


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": _LEVELS.get(record.levelno, record.levelname.lower()),
        }
        if correlation_id := _correlation_id.get():
            line["correlationId"] = correlation_id
        line["action"] = record.getMessage()
        line["logger"] = record.name
        line |= {to_camel(name): value for name, value in vars(record).items() if name not in _OWN_FIELDS}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)
