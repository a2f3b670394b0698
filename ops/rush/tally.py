"""What have the buyers seen so far?"""

import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

RESERVE, CHECKOUT, RELEASE, LOOK = "reserve", "checkout", "release", "look"


@dataclass
class Tally:
    """Counts and times of one rush; every buyer writes here."""

    begun_at: float = field(default_factory=time.monotonic)
    ended_at: float | None = None
    attempt_count: int = 0
    hold_count: int = 0
    conflict_count: int = 0
    # Turned away politely, with a time to come back: by status.
    refused: Counter[int] = field(default_factory=Counter)
    declined_count: int = 0
    released_count: int = 0
    lost_hold_count: int = 0
    order_count: int = 0
    seat_count: int = 0
    # No answer came; asked again with the same key.
    unknown_count: int = 0
    polled_count: int = 0
    sign_in_count: int = 0
    # Answers nobody should get: by code.
    errors: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, "array[float]"] = field(default_factory=lambda: defaultdict(lambda: array("d")))

    def took(self, step: str, seconds: float) -> None:
        """A step was answered, with a yes or a no, after this long."""
        self.seconds[step].append(seconds)

    @property
    def elapsed_seconds(self) -> float:
        return (self.ended_at or time.monotonic()) - self.begun_at

    def per_second(self, count: int) -> float:
        """That many of something, over the whole rush."""
        return count / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of them does not exceed; None when there are none."""
    if not values:
        return None
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]
