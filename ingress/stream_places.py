"""Is there room for one more stream, in this process and at this address?"""

from collections import Counter

from contracts.settings import Settings
from ingress.responses import ProblemCode, Refusal, problem


class StreamPlaces:
    """Counts the streams that are open, whatever their kind."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._taken: Counter[str] = Counter()
        self.taken_count = 0

    def take(self, address: str) -> None:
        """Take a place, to be given back with `leave`; raises Refusal when there is none."""
        if self._taken[address] >= self._settings.streams_per_address_max:
            raise Refusal(problem(ProblemCode.TOO_MANY_STREAMS))
        if self.taken_count >= self._settings.streams_max:
            raise Refusal(problem(ProblemCode.BUSY))
        self._taken[address] += 1
        self.taken_count += 1

    def leave(self, address: str) -> None:
        """Give a place back."""
        self.taken_count -= 1
        self._taken[address] -= 1
        if not self._taken[address]:
            # Addresses come and go; a count of nothing must not be kept for each that ever was here.
            del self._taken[address]
