"""Where does a batch's time go?"""

import time
from types import TracebackType
from typing import Self

from prometheus_client import Counter, Histogram

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

STEP_SECONDS = Histogram(
    "boxoffice_engine_step_seconds", "Time a batch spends in each step", ["step"], buckets=_SECONDS
)
BATCH_SIZE = Histogram(
    "boxoffice_engine_batch_size", "Commands per transaction", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
)
COMMANDS = Counter("boxoffice_commands_total", "Commands by how they were answered", ["type", "answer"])


class step:
    """Times one step of a batch."""

    __slots__ = ("_histogram", "_started")

    def __init__(self, name: str) -> None:
        self._histogram = STEP_SECONDS.labels(name)
        self._started = 0.0

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        return self

    def stop(self) -> None:
        """For a step that has no block of its own."""
        self._histogram.observe(time.perf_counter() - self._started)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
