"""What came of a rehearsal: was the position right, the time, the rate, the order?

What people were shown is compared with what the log says happened afterwards, and with nothing else.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from contracts.waiting_room import LogKind
from ops.waiting_room.rehearsal import Recording, Shown

# The first minute is the slow start; the last people come in as their orders, not as the rate, would have it.
STEADY_FROM_SECONDS = 90.0
STEADY_UNTIL_WAITING_SHARE = 0.02

# Nearer than this, one turn more or less is several per cent: there the error is told in turns.
FAR_TURNS = 20


@dataclass(frozen=True, slots=True)
class Truth:
    """What somebody was shown, and what then happened: turns before theirs, theirs included, and seconds."""

    shown: Shown
    turns: int
    seconds: float

    @property
    def position_error(self) -> float:
        """How far the position shown was off, as a share of the right one."""
        return abs(self.shown.outlook.position - self.turns) / self.turns

    @property
    def time_error(self) -> float | None:
        """How far the middle of the band was off, as a share of the time it took."""
        band = self.shown.outlook.band
        return None if band is None or self.seconds <= 0 else abs(band.p50 - self.seconds) / self.seconds

    @property
    def is_in_band(self) -> bool | None:
        """Did the band hold what happened?"""
        band = self.shown.outlook.band
        return None if band is None else band.p10 <= self.seconds <= band.p90


@dataclass(frozen=True)
class Outcome:
    """The figures. Errors are shares; None where nothing was seen to measure."""

    people: int
    admitted: int
    claimed: int
    missed: int
    left: int
    returned: int
    screens: int
    position_error_p50: float | None
    position_error_p95: float | None
    near_error_turns_p95: float | None
    errors_by_distance: tuple[tuple[str, int, float], ...]
    time_error_p50: float | None
    time_error_p95: float | None
    band_coverage: float | None
    delivered_share: float | None
    mean_place_by_arrival_decile: tuple[float, ...]


def outcome_of(recording: Recording) -> Outcome:
    """What came of it."""
    truths = list(truths_of(recording))
    far = [truth for truth in truths if truth.turns >= FAR_TURNS]
    near = [float(abs(t.shown.outlook.position - t.turns)) for t in truths if t.turns < FAR_TURNS]
    errors = [truth.position_error for truth in far]
    times = [error for truth in far if (error := truth.time_error) is not None]
    held = [is_in for truth in far if (is_in := truth.is_in_band) is not None]
    count = {kind: sum(entry.kind is kind for entry in recording.log) for kind in LogKind}
    return Outcome(
        people=count[LogKind.JOINED],
        admitted=count[LogKind.ADMITTED],
        claimed=count[LogKind.CLAIMED],
        missed=count[LogKind.MISSED],
        left=count[LogKind.GAVE_UP] + count[LogKind.LEFT],
        returned=count[LogKind.REENTERED],
        screens=len(far),
        position_error_p50=quantile(errors, 0.5),
        position_error_p95=quantile(errors, 0.95),
        near_error_turns_p95=quantile(near, 0.95),
        errors_by_distance=tuple(_by_distance(far)),
        time_error_p50=quantile(times, 0.5),
        time_error_p95=quantile(times, 0.95),
        band_coverage=fmean(held) if held else None,
        delivered_share=delivered_share(recording),
        mean_place_by_arrival_decile=tuple(_places_by_decile(recording)),
    )


def truths_of(recording: Recording) -> Iterator[Truth]:
    """Each screen of somebody who was admitted afterwards, with what happened; whoever left before has none."""
    turn_of: dict[int, int] = {}
    seconds_of: dict[int, float] = {}
    admissions = (entry for entry in recording.log if entry.kind is LogKind.ADMITTED)
    for number, entry in enumerate(admissions, start=1):
        # A second admission is a return after a missed turn: the turn that was told was the first.
        turn_of.setdefault(entry.ticket, number)
        seconds_of.setdefault(entry.ticket, recording.seconds_at(entry.at_ms))
    for shown in recording.shown:
        turn = turn_of.get(shown.ticket, 0)
        if turn > shown.admitted:
            yield Truth(shown, turn - shown.admitted, seconds_of[shown.ticket] - shown.at_seconds)


def delivered_share(recording: Recording) -> float | None:
    """Arrivals as a share of those that were asked for, while there was a line and after the slow start."""
    moments = recording.moments
    begin = recording.opened_at + STEADY_FROM_SECONDS
    most = max((moment.waiting for moment in moments), default=0)
    steady = [m for m in moments if m.at_seconds >= begin and m.waiting >= STEADY_UNTIL_WAITING_SHARE * most]
    if len(steady) < 2:
        return None
    first, last = steady[0], steady[-1]
    wanted = recording.plan.arrivals_per_second * (last.at_seconds - first.at_seconds)
    return (last.claimed - first.claimed) / wanted if wanted > 0 else None


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value that this share of them does not exceed; None of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _by_distance(truths: Sequence[Truth]) -> Iterator[tuple[str, int, float]]:
    """p95 of the position error by how far away the turn was."""
    bounds = [FAR_TURNS, 100, 1000, 5000, 20_000, 1_000_000]
    groups: dict[int, list[float]] = {}
    for truth in truths:
        groups.setdefault(bisect_right(bounds, truth.turns) - 1, []).append(truth.position_error)
    for index, errors in sorted(groups.items()):
        yield f"{bounds[index]:,} and more turns away", len(errors), quantile(errors, 0.95) or 0.0


def _places_by_decile(recording: Recording) -> Iterator[float]:
    """For each tenth of the cohort, by when they came: their mean place in the draw, 0 being first and 1 last."""
    drawn = recording.evidence.drawn if recording.evidence else {}
    size = len(drawn)
    for decile in range(10 if size >= 10 else 0):
        tickets = range(decile * size // 10 + 1, (decile + 1) * size // 10 + 1)
        yield fmean(drawn[ticket] for ticket in tickets) / size
