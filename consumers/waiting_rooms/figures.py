"""How do the waiting rooms look from outside: how long are the lines, who comes in, how late are we, how wrong were we?

Only the process that leads a room shows its figures, and they are gone when it leads it no longer: a label for every event that
ever was would fill the memory of whoever collects them.
"""

from contextlib import suppress
from typing import Any, Final

from prometheus_client import Counter, Gauge, Histogram

from contracts.ids import EventId
from contracts.waiting_room import KeptEntry, LogKind

_OF_EVENT: Final = ["event_id"]
_MINUTES: Final = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 5400, 7200, 10800)
_SHARES: Final = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0)

QUEUE_LENGTH = Gauge("queue_length", "People in line", _OF_EVENT)
QUEUE_READY = Gauge("queue_ready", "People whose turn it is, and who have not claimed it yet", _OF_EVENT)
ACTIVE_SESSIONS = Gauge("active_sessions", "People who have been let in and are shopping", _OF_EVENT)
WAIT_SECONDS = Histogram(
    "queue_wait_time_seconds", "From joining to one's turn", _OF_EVENT, buckets=tuple(map(float, _MINUTES))
)
ADMITTED = Counter("queue_admitted_total", "People whose turn has come", _OF_EVENT)
CLAIMS = Counter("queue_claims_total", "Turns that were claimed", _OF_EVENT)
ABANDONED = Counter("queue_abandoned_total", "People who did not get to the end of it", [*_OF_EVENT, "why"])
DEMOTED = Counter("queue_demoted_total", "People who are drawn behind everybody else", [*_OF_EVENT, "rule"])
INVERSIONS = Counter("queue_inversions_total", "Admissions of somebody after somebody behind them; always 0", _OF_EVENT)
DUPLICATE_JOINS = Gauge("queue_dup_join_count", "Joins of somebody who had a place already", _OF_EVENT)
NO_SHOW_SHARE = Gauge("queue_noshow_ratio", "Share of those admitted who do not claim their turn, of late", _OF_EVENT)
RATE = Gauge("queue_rate_per_second", "Admissions a second that the controller allows", _OF_EVENT)
WANTED_RATE = Gauge("queue_wanted_rate_per_second", "Arrivals a second that the operator wants", _OF_EVENT)
CAPACITY = Gauge("queue_capacity", "How many may be ready or active at once", _OF_EVENT)
TICK_LAG = Gauge("queue_tick_lag_seconds", "How much later than planned the leader's last round came", _OF_EVENT)
LOG_LAG = Gauge("queue_log_lag_entries", "Entries of the log that PostgreSQL does not have yet", _OF_EVENT)
POSITION_ERROR = Histogram(
    "queue_position_error_ratio",
    "How far a position that was shown was off, as a share of the admissions that really came before",
    _OF_EVENT,
    buckets=_SHARES,
)
ETA_ERROR = Histogram(
    "queue_eta_error_ratio",
    "How far a time that was shown was off, as a share of the time it really took",
    _OF_EVENT,
    buckets=_SHARES,
)
IN_BAND = Counter(
    "queue_eta_in_band_total", "Time bands that were shown, by whether they came true", [*_OF_EVENT, "came_true"]
)

_GONE: Final = {LogKind.GAVE_UP: "gave_up", LogKind.LEFT: "left", LogKind.MISSED: "missed"}

_OF_ONE_LABEL: Final[tuple[Any, ...]] = (
    *(QUEUE_LENGTH, QUEUE_READY, ACTIVE_SESSIONS, WAIT_SECONDS, ADMITTED, CLAIMS, INVERSIONS, DUPLICATE_JOINS),
    *(NO_SHOW_SHARE, RATE, WANTED_RATE, CAPACITY, TICK_LAG, LOG_LAG, POSITION_ERROR, ETA_ERROR),
)


class RoomFigures:
    """One room's figures."""

    def __init__(self, event_id: EventId) -> None:
        self._event = str(event_id)
        self._with_more: set[tuple[Any, str]] = set()

    def set(self, gauge: Gauge, value: float) -> None:
        """Show that value."""
        gauge.labels(self._event).set(value)

    def count(self, counter: Counter, detail: str | None = None) -> None:
        """One more."""
        if detail is None:
            counter.labels(self._event).inc()
            return
        self._with_more.add((counter, detail))
        counter.labels(self._event, detail).inc()

    def observe(self, histogram: Histogram, value: float) -> None:
        """One more observation."""
        histogram.labels(self._event).observe(value)

    def count_entry(self, entry: KeptEntry) -> None:
        """Something happened in the room."""
        if entry.kind is LogKind.ADMITTED:
            self.count(ADMITTED)
        elif entry.kind is LogKind.CLAIMED:
            self.count(CLAIMS)
        elif entry.kind is LogKind.DEMOTED:
            self.count(DEMOTED, entry.detail)
        elif entry.kind in _GONE:
            self.count(ABANDONED, _GONE[entry.kind])

    def forget(self) -> None:
        """This process leads the room no longer."""
        for figure in _OF_ONE_LABEL:
            with suppress(KeyError):
                figure.remove(self._event)
        for counter, detail in self._with_more:
            with suppress(KeyError):
                counter.remove(self._event, detail)
        self._with_more.clear()
