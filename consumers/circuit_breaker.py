"""Is it worth asking a server that has been failing?

After enough failures in a row the breaker opens and nobody asks; after a while it lets a few trials through, and enough
successes close it again. No lock and no await: one breaker belongs to one event loop.
"""

import time
from collections.abc import Callable
from enum import StrEnum
from weakref import WeakSet

from db.telemetry.readings import READINGS


class BreakerState(StrEnum):
    """Whether calls go through, are refused, or are tried carefully."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_STATE_NUMBERS = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}

# Those with a name, for whoever watches this process; one that nobody uses any more leaves by itself.
_named: WeakSet["CircuitBreaker"] = WeakSet()


def all_breakers() -> list["CircuitBreaker"]:
    """This process's breakers that have a name, by name."""
    return sorted(_named, key=lambda breaker: breaker.name)


STATE = READINGS.gauge(
    "circuit_breaker_state",
    "0 closed, 1 half open, 2 open; of several of one name the worst",
    ["name"],
    over_workers="livemax",
)


@READINGS.often
def _read_states() -> None:
    worst: dict[str, int] = {}
    for breaker in all_breakers():
        worst[breaker.name] = max(worst.get(breaker.name, 0), _STATE_NUMBERS[breaker.state])
    STATE.clear()
    for name, number in worst.items():
        STATE.labels(name).set(number)


class CircuitBreaker:
    """Ask `allows()` before a call and report the call's end with `succeeded()` or `failed()`."""

    def __init__(
        self,
        *,
        failures: int,
        open_seconds: float,
        successes: int = 1,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens after `failures` in a row, stays open for `open_seconds`, closes after `successes` trials went well.
        With a `name` (redis_locks, waiting_room, payment_provider) it is seen in /health and in the metrics."""
        if failures < 1 or successes < 1 or open_seconds <= 0:
            raise ValueError("a breaker needs at least one failure, one success and some time")
        self.name = name
        if name:
            _named.add(self)
        self._failures_to_open = failures
        self._successes_to_close = successes
        self._open_seconds = open_seconds
        self._clock = clock
        self._state = BreakerState.CLOSED
        self._failures_in_a_row = 0
        self._successes_in_a_row = 0
        self._trials_left = 0
        self._since = 0.0

    @property
    def state(self) -> BreakerState:
        """The state as of now: an open breaker whose time is over counts as half-open."""
        if self._state is BreakerState.OPEN and self.retry_after_seconds() == 0:
            return BreakerState.HALF_OPEN
        return self._state

    def allows(self) -> bool:
        """May one call be made now? In the half-open state each yes uses up one trial."""
        if self._state is BreakerState.CLOSED:
            return True
        # A trial whose caller was cancelled never reports; without fresh trials we would stay half-open for ever.
        if self._clock() - self._since >= self._open_seconds:
            self._begin_trials()
        if self._state is BreakerState.OPEN or self._trials_left == 0:
            return False
        self._trials_left -= 1
        return True

    def succeeded(self) -> None:
        """A call got an answer."""
        self._failures_in_a_row = 0
        # An answer to a call from before the breaker opened says nothing about the server now.
        if self._state is not BreakerState.HALF_OPEN:
            return
        self._successes_in_a_row += 1
        if self._successes_in_a_row >= self._successes_to_close:
            self._state = BreakerState.CLOSED
        else:
            self._trials_left = max(self._trials_left, 1)

    def failed(self) -> None:
        """A call got no answer, or one that means the server is not well."""
        if self._state is BreakerState.OPEN:
            return
        self._failures_in_a_row += 1
        if self._state is BreakerState.HALF_OPEN or self._failures_in_a_row >= self._failures_to_open:
            self._state = BreakerState.OPEN
            self._since = self._clock()
            self._failures_in_a_row = 0

    def retry_after_seconds(self) -> float:
        """How long nobody may ask; nought unless the breaker is open."""
        if self._state is not BreakerState.OPEN:
            return 0.0
        return max(0.0, self._open_seconds - (self._clock() - self._since))

    def _begin_trials(self) -> None:
        self._state = BreakerState.HALF_OPEN
        self._since = self._clock()
        self._successes_in_a_row = 0
        self._trials_left = self._successes_to_close
