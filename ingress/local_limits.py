"""How often may somebody ask, as far as this process can tell?

The same token buckets as in Redis (GCRA, db/lua/gate.lua), in memory. Two uses: what anybody may read, where a round trip
per request would cost more than the answer; and everything while Redis is away. Each process counts for itself, so with
several of them a client may have several times the limit.
"""

import time
from typing import NamedTuple

from db.rate_limits import PERIOD_SECONDS, Limit

# About 15 MB for each kind of bucket, twice. More askers than this within a minute and the oldest are forgiven sooner.
ASKERS_MAX = 100_000


class Taken(NamedTuple):
    """Whether a token was there, how many are left, and after how long the bucket is full (or has one again)."""

    passed: bool
    remaining: int
    microseconds: int


class LocalBuckets:
    """One bucket of that limit for each asker."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._burst = limit.token_microseconds * limit.capacity
        # When each bucket will be full again. A bucket that nobody touched for a minute is full, which is what no entry
        # means too: so what was not touched since the turn before last is dropped with its generation.
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}
        self._turn_at = 0

    def take(self, asker: str) -> Taken:
        """Take a token out of the asker's bucket, if there is one."""
        now = time.monotonic_ns() // 1000
        if now >= self._turn_at or len(self._young) >= ASKERS_MAX:
            self._turn(now)
        full_at = self._young.get(asker) or self._old.get(asker, now)
        next_full_at = max(full_at, now) + self.limit.token_microseconds
        over = next_full_at - now - self._burst
        if over > 0:
            return Taken(passed=False, remaining=0, microseconds=over)
        self._young[asker] = next_full_at
        return Taken(passed=True, remaining=-over // self.limit.token_microseconds, microseconds=next_full_at - now)

    def _turn(self, now: int) -> None:
        self._young, self._old = {}, self._young
        self._turn_at = now + PERIOD_SECONDS * 1_000_000
