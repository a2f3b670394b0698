"""Where does a batch's time go?"""

import time
from types import TracebackType
from typing import Self

from prometheus_client import Counter, Histogram

from contracts import topology
from db.telemetry.traces import Attributes, Kind, span

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

STEP_SECONDS = Histogram(
    "boxoffice_engine_step_seconds", "Time a batch spends in each step", ["step"], buckets=_SECONDS
)
BATCH_SIZE = Histogram(
    "boxoffice_engine_batch_size", "Commands per transaction", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
)
COMMANDS = Counter("boxoffice_commands_total", "Commands by how they were answered", ["type", "answer"])


_POSTGRES = {"db.system.name": "postgresql"}
# What a step is called in a trace, and what is told of it: by the seed's drawing.
_SPANS: dict[str, tuple[str, Kind, Attributes]] = {
    "redis": ("redis.evalsha seat_lock", "client", {"db.system.name": "redis", "db.operation.name": "EVALSHA"}),
    "room": ("redis.fcall waiting_room", "client", {"db.system.name": "redis", "db.operation.name": "FCALL"}),
    "room_told": ("redis.fcall waiting_room", "client", {"db.system.name": "redis", "db.operation.name": "FCALL"}),
    "load": ("postgres.query SELECT FOR UPDATE", "client", {**_POSTGRES, "db.operation.name": "SELECT"}),
    "decide": ("decide", "internal", {}),
    "save": ("postgres.query UPDATE seats", "client", {**_POSTGRES, "db.operation.name": "UPDATE"}),
    "commit": ("postgres.commit", "client", {**_POSTGRES, "db.operation.name": "COMMIT"}),
    "reply": (
        f"publish {topology.REPLIES}",
        "producer",
        {"messaging.system": "rabbitmq", "messaging.destination.name": topology.REPLIES},
    ),
}


class step:
    """Times one step of a batch. In a trace it belongs to the batch: to the current span, or to `parent`."""

    __slots__ = ("_histogram", "_span", "_started")

    def __init__(self, name: str, *, parent: str | None = None) -> None:
        self._histogram = STEP_SECONDS.labels(name)
        self._started = 0.0
        called, kind, about = _SPANS[name]
        self._span = span(called, kind=kind, parent=parent, attributes=about)

    def __enter__(self) -> Self:
        self._span.__enter__()
        self._started = time.perf_counter()
        return self

    def stop(self, problem: BaseException | None = None) -> None:
        """For a step that has no block of its own."""
        self._histogram.observe(time.perf_counter() - self._started)
        self._span.__exit__(None, problem, None)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(problem)
