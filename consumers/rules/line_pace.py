"""How fast does a line move, and how many leave it? Measured from what the room counts, for everybody who waits.

Nobody says that they leave. Most just close the page, and are missed a minute or two later. So whoever joined since cannot
be missed yet, and those who are missed now are compared with the others. At the beginning nothing is known; then people are
taken to have the usual patience, and that counts less the more is seen.
"""

from collections import deque
from typing import NamedTuple

from contracts.waiting_line import Pace

WINDOW_SECONDS = 10.0
WINDOWS_MAX = 60  # ten minutes: longer ago the sale was another one

# What is taken for granted until it has been seen: twenty minutes of patience, as firmly as a minute of a thousand people.
USUAL_PATIENCE_SECONDS = 1200.0
USUAL_EXPOSURE_SECONDS = 60_000.0
LEAVING_HALF_LIFE_SECONDS = 300.0


class LineCounts(NamedTuple):
    """What a room has counted, as of a moment in seconds; `admitted`, `joined` and `returned` since it was made."""

    at_seconds: float
    waiting: int
    admitted: int
    joined: int
    returned: int = 0


class LinePace:
    """Give it the room's counts about once a second; it gives the pace."""

    def __init__(self, base: Pace | None = None, *, notice_seconds: float | None = None) -> None:
        """`base` has what is not measured here, and may be replaced at any time.

        A leaver is noticed after `notice_seconds`; by default after half of what `base` says is silence deep in the line.
        """
        self.base = base or Pace()
        self._notice_seconds = self.base.deep_silence_seconds / 2 if notice_seconds is None else notice_seconds
        self._last: LineCounts | None = None
        self._window: LineCounts | None = None
        self._rates: deque[float] = deque(maxlen=WINDOWS_MAX)
        self._recent: deque[LineCounts] = deque()
        self._leavers = USUAL_EXPOSURE_SECONDS / USUAL_PATIENCE_SECONDS
        self._exposure_seconds = USUAL_EXPOSURE_SECONDS

    def observe(self, counts: LineCounts) -> None:
        """The room's counts as of now; counts of the past, or of a room begun anew, begin the measurement anew."""
        if self._last is not None and counts.at_seconds > self._last.at_seconds:
            self._count_leavers(self._last, counts)
        self._last = counts
        self._close_window(counts)

    def forget_rates(self) -> None:
        """The room was paused or opened: what came before says nothing about what comes."""
        self._rates.clear()
        self._window = self._last

    @property
    def pace(self) -> Pace:
        """The pace as of the last counts."""
        return self.base.model_copy(
            update={"admitted_per_second": tuple(self._rates), "leaving_per_second": self.leaving_per_second}
        )

    @property
    def leaving_per_second(self) -> float:
        """The share of the line that is missed, or says goodbye, in a second."""
        return self._leavers / self._exposure_seconds

    def _count_leavers(self, before: LineCounts, now: LineCounts) -> None:
        seconds = now.at_seconds - before.at_seconds
        came = now.joined - before.joined + now.returned - before.returned
        left = came - (now.admitted - before.admitted) - (now.waiting - before.waiting)
        kept = 0.5 ** (seconds / LEAVING_HALF_LIFE_SECONDS)
        self._leavers = self._leavers * kept + max(0, left)
        self._exposure_seconds = self._exposure_seconds * kept + self._who_could_be_missed(now) * seconds
        self._make_up_for_what_faded()

    def _make_up_for_what_faded(self) -> None:
        """With an empty line both numbers fade; what is then usual counts again."""
        faded = max(0.0, USUAL_EXPOSURE_SECONDS / 10 - self._exposure_seconds)
        self._exposure_seconds += faded
        self._leavers += faded / USUAL_PATIENCE_SECONDS

    def _who_could_be_missed(self, now: LineCounts) -> int:
        """How many of those in line joined long enough ago."""
        self._recent.append(now)
        then = now.at_seconds - self._notice_seconds
        while len(self._recent) > 1 and self._recent[1].at_seconds <= then:
            self._recent.popleft()
        earliest = self._recent[0]
        joined_then = earliest.joined if earliest.at_seconds <= then else 0
        return max(0, now.waiting - (now.joined - joined_then))

    def _close_window(self, counts: LineCounts) -> None:
        window = self._window
        if window is None or counts.admitted < window.admitted:
            self._window = counts
        elif counts.at_seconds - window.at_seconds >= WINDOW_SECONDS:
            self._rates.append((counts.admitted - window.admitted) / (counts.at_seconds - window.at_seconds))
            self._window = counts
