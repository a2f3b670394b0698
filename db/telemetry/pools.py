"""How full are this process's connection pools?

Sums over all pools of a process, but for what is left: of that, the pool that has least left is shown, because one that is
exhausted is not helped by another's idle connections. Pools of a few connections are made for one job that uses them all, and
are left out there.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from db.telemetry.readings import READINGS

FOR_ONE_JOB_MAX = 4


class Fill(NamedTuple):
    """Connections that are open, those of them in use, and how many there may be."""

    size: int
    in_use: int
    max: int


# None when the pool is no more.
ReadFill = Callable[[], Fill | None]


class PoolFigures:
    """The four gauges of one kind of pool."""

    def __init__(self, store: str, title: str) -> None:
        self._pools: list[ReadFill] = []
        self._size = READINGS.gauge(f"{store}_connection_pool_size", f"Open connections to {title}")
        self._in_use = READINGS.gauge(f"{store}_connection_pool_in_use", f"Connections to {title} in use")
        self._max = READINGS.gauge(f"{store}_connection_pool_max", f"Connections to {title} there may be")
        self._available = READINGS.gauge(
            f"{store}_connection_pool_available",
            f"Connections to {title} that may still be had, of the pool of more than {FOR_ONE_JOB_MAX} that has least left",
            over_workers="livemin",
        )
        READINGS.often(self._read)

    def watch(self, pool: ReadFill) -> None:
        """Count this pool in, as long as it is there."""
        self._fills()  # without a scrape nobody else forgets those that are gone
        self._pools.append(pool)

    def _read(self) -> None:
        fills = self._fills()
        self._size.set(sum(fill.size for fill in fills))
        self._in_use.set(sum(fill.in_use for fill in fills))
        self._max.set(sum(fill.max for fill in fills))
        left = [fill.max - fill.in_use for fill in fills if fill.max > FOR_ONE_JOB_MAX]
        self._available.set(min(left, default=math.inf))  # where there is no such pool, none can run out

    def _fills(self) -> Sequence[Fill]:
        read = [(pool, pool()) for pool in self._pools]
        self._pools = [pool for pool, fill in read if fill is not None]
        return [fill for _, fill in read if fill is not None]
