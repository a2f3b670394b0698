"""Which figures are read rather than counted, and when?

A pool knows its size and a breaker its state: nobody pays for counting them, they are read when somebody asks. In an ingress
of several workers whichever answers Prometheus answers for all of them, from what each has written down; so there they are
read every second too, and what is shown of the others is at most that old.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeVar

from prometheus_client import REGISTRY, Counter, Gauge, disable_created_metrics
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

# How several workers' values become one. All of them forget a worker that is gone.
OverWorkers = Literal["livesum", "livemin", "livemax"]

Read = Callable[[], None]
M = TypeVar("M", bound=MetricWrapperBase)


class Readings(Collector):
    """The figures of one process that are read. One per process: `READINGS`."""

    def __init__(self) -> None:
        self._metrics: list[MetricWrapperBase] = []
        self._reads: list[Read] = []

    def gauge(
        self, name: str, documentation: str, labels: Sequence[str] = (), *, over_workers: OverWorkers = "livesum"
    ) -> Gauge:
        """A gauge that is set by a read."""
        return self._of_ours(Gauge(name, documentation, labels, registry=None, multiprocess_mode=over_workers))

    def counter(self, name: str, documentation: str) -> Counter:
        """A counter that grows by a read; see `Growth`."""
        return self._of_ours(Counter(name, documentation, registry=None))

    def _of_ours(self, metric: M) -> M:
        self._metrics.append(metric)
        return metric

    def often(self, read: Read) -> Read:
        """Call `read` before every scrape (as a decorator, or with a method; take it back with `no_more`)."""
        self._reads.append(read)
        return read

    def no_more(self, read: Read) -> None:
        """What it reads is closed."""
        self._reads.remove(read)

    def take(self) -> None:
        """Read everything now."""
        for read in list(self._reads):
            try:
                read()
            except Exception:
                # One figure that cannot be had must not cost all the others.
                log.exception("figure_not_read")

    def collect(self) -> Iterable[Metric]:
        """For the registry: everything as it is now."""
        self.take()
        for metric in list(self._metrics):
            yield from metric.collect()

    def describe(self) -> Iterable[Metric]:
        """For the registry, which asks once, before there is anything to read."""
        return ()


class Growth:
    """Adds to a counter what a number of somebody else's has grown by since it was last read."""

    def __init__(self, counter: Counter, read: Callable[[], int]) -> None:
        self._counter = counter
        self._read = read
        self._last = 0

    def take(self) -> None:
        """Read it now."""
        now = self._read()
        self._counter.inc(now - self._last)
        self._last = now


# When a series began nobody asks here, and it would be every third line.
disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped library

READINGS = Readings()
REGISTRY.register(READINGS)
