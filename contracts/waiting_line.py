"""How far is it still, for somebody who waits: in people, in time, and in hope?

One document a second, the `Snapshot`, is enough for everybody: it says at a few hundred ranks which ticket stands there,
and everybody finds their own between two of them. Everything here is arithmetic on it, so that a browser, an ingress
process and the simulation give the same answer. Formulas: research/waiting_room.md 4.6, and where named, the literature.

A rank counts who waits in front, the silent ones too, who have left and have not been missed yet. From it follow
- `people_ahead`, without the silent ones: the crowd one stands behind;
- `turns_ahead`, how many admissions will really come before one's own: far back less than people, because more will leave
  until then; near the head more, because turns come to the silent too. This is what is shown as a position, and what the
  log afterwards proves right or wrong.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from statistics import NormalDist
from typing import NamedTuple, Self

from pydantic import Field, model_validator

from contracts.value import Value
from contracts.waiting_room import Phase

# A poll every tenth of the time left keeps what is shown within a few per cent of the truth (research 2.3).
POLL_SECONDS_MIN = 3.0
POLL_SECONDS_MAX = 90.0
POLL_SHARE = 0.1
POLL_JITTER_MAX = 0.3

# At most nine tenths of a line can be taken for gone before it is noticed: more would be a guess about nothing.
SILENT_SHARE_MAX = 0.9

# Below this many claims or admissions a share or a chance is a rumour; it is not shown.
OBSERVATIONS_MIN = 200

# How much a window of admissions counts, against the one after it.
_FADING = 0.9

# The deciles of the normal distribution stand this many standard deviations from its middle.
_DECILE = NormalDist().inv_cdf(0.9)


class Breakpoint(NamedTuple):
    """Who stands at a rank: `rank` people wait in front of `ticket`."""

    rank: int
    ticket: int


class Pace(Value):
    """How the line has moved of late: what the one process that lets people in has measured."""

    admitted_per_second: tuple[float, ...] = Field(
        (), description="the rate of each of the last windows of equal length, the latest last"
    )
    intended_per_second: float | None = Field(
        None, ge=0, description="the rate that is being aimed at; counts as long as little has been measured"
    )
    delay_seconds: float = Field(0.0, ge=0, description="what the slow start still costs, against that rate")
    leaving_per_second: float = Field(0.0, ge=0, description="the share of the line that is missed or leaves, a second")
    near_rank: int = Field(2000, ge=0, description="whoever stands before this is heard, and missed, more quickly")
    near_heartbeat_seconds: float = Field(30.0, gt=0)
    near_silence_seconds: float = Field(75.0, gt=0, description="silent for so long is missed")
    deep_heartbeat_seconds: float = Field(60.0, gt=0)
    deep_silence_seconds: float = Field(150.0, gt=0)
    seats_left: int | None = Field(None, ge=0)
    seats_per_turn: float | None = Field(None, ge=0, description="seats sold to somebody admitted, on average")
    seats_per_turn_deviation: float = Field(0.0, ge=0, description="the standard deviation of that")
    turns_observed: int = Field(0, ge=0, description="how many finished turns those averages are of")


class Snapshot(Value):
    """A room as of one moment: what everybody needs to find their place in it. Public, and the same for everybody."""

    at_ms: int = Field(description="milliseconds since 1970 by Redis's clock")
    epoch: int = 1
    phase: Phase
    waiting: int = Field(ge=0, description="people in line, those not yet missed included")
    ready: int = Field(0, ge=0)
    active: int = Field(0, ge=0)
    joined: int = Field(ge=0, description="how many ever were given a ticket, which is the last ticket given")
    admitted: int = Field(0, ge=0, description="how many turns have come since the room was made")
    opens_at_ms: int | None = Field(None, description="when the line begins to move, as long as it has not")
    reason: str = Field("", description="why the room is in this phase, or lets in as many as it does")
    points: tuple[Breakpoint, ...] = Field(
        description="who stands at ranks a step apart, from the head of the line; none while there is no order"
    )
    pace: Pace = Pace()

    @model_validator(mode="after")
    def _points_rise(self) -> Self:
        points = self.points
        if any(not (a.rank < b.rank and a.ticket < b.ticket) for a, b in pairwise(points)):
            raise ValueError("points must rise in rank and in ticket")
        if points and not (points[-1].rank < self.waiting and points[-1].ticket <= self.joined):
            raise ValueError("the last point lies behind the end of the line")
        return self

    def rank_of(self, ticket: int) -> float:
        """How many wait in front of that ticket, to within one step of the breakpoints' ranks.

        Between two breakpoints the ticket's rank lies between theirs, so the error is less than their distance.
        Somebody who joined after the snapshot stands behind everybody in it, as far behind as there are tickets between.
        """
        points = self.points
        if not points or ticket <= points[0].ticket:
            return 0.0
        index = bisect_right(points, ticket, key=lambda point: point.ticket)
        below = points[index - 1]
        above = points[index] if index < len(points) else Breakpoint(self.waiting, self.joined + 1)
        if ticket > self.joined:
            return float(self.waiting + ticket - self.joined - 1)
        share = (ticket - below.ticket) / (above.ticket - below.ticket)
        return below.rank + share * (above.rank - below.rank)


def breakpoint_ranks(waiting: int, step: float) -> list[int]:
    """The ranks a snapshot names: each the one before, plus that share of it, and one at least."""
    ranks, rank = [], 0
    while rank < waiting:
        ranks.append(rank)
        rank = max(rank + 1, int(rank * (1 + step)))
    return ranks


def people_ahead(rank: float, pace: Pace) -> float:
    """Who really stands in front: the rank less those who have left and have not been missed yet.

    Somebody is missed `silence_seconds` after they were last heard, which was half a heartbeat before they left, on
    average: so at any moment `leaving x (silence - heartbeat / 2)` of the line are gone (research 4.6).
    """
    near = min(rank, pace.near_rank)
    return near * _present(pace.leaving_per_second, pace.near_silence_seconds, pace.near_heartbeat_seconds) + (
        rank - near
    ) * _present(pace.leaving_per_second, pace.deep_silence_seconds, pace.deep_heartbeat_seconds)


def _present(leaving: float, silence_seconds: float, heartbeat_seconds: float) -> float:
    """The share of a stretch of the line that is still there."""
    return 1 - min(SILENT_SHARE_MAX, leaving * max(0.0, silence_seconds - heartbeat_seconds / 2))


def turns_ahead(rank: float, *, admitted_per_second: float, leaving_per_second: float) -> float:
    """How many will be admitted before somebody at that rank, if rates stay as they are.

    The line in front shrinks by admissions and by leavers, dr/dt = -a - l r; it is gone after ln(1 + l r / a) / l seconds
    (the fluid limit of a queue with abandonment: Whitt, "Fluid models for multiserver queues with abandonments", 2006).
    """
    return admitted_per_second * seconds_left(
        rank, admitted_per_second=admitted_per_second, leaving_per_second=leaving_per_second
    )


def seconds_left(rank: float, *, admitted_per_second: float, leaving_per_second: float) -> float:
    """How long until somebody at that rank is admitted, if rates stay as they are; infinite when nobody is."""
    if rank <= 0:
        return 0.0
    if admitted_per_second <= 0:
        return math.inf
    leaving = leaving_per_second * rank / admitted_per_second
    # For few leavers the logarithm is of 1 + almost nothing: log1p, and their ratio where even that has no digits left.
    return rank / admitted_per_second * (math.log1p(leaving) / leaving if leaving > 1e-9 else 1.0)


class TimeBand(Value):
    """When it will be one's turn, in seconds from the snapshot: four times in five between p10 and p90."""

    p10: float
    p50: float
    p90: float


def time_band(rank: float, pace: Pace) -> TimeBand | None:
    """The band for somebody at that rank, from the admission rates of late; None while nobody is admitted.

    The middle is the mean rate's. Its edges add up two doubts: that of the count of admissions in the time left, which
    comes to some `sqrt(turns)`, and that of the rate itself, as far as its windows disagreed. The time to the head of the
    line averages over many windows, so their scatter shrinks with its square root, and not below that of the mean, which
    is known from so many windows only.
    """
    rates, mean = pace.admitted_per_second, recent_rate(pace)
    if mean <= 0:
        return None
    leaving = pace.leaving_per_second
    rank = _rank_after_delay(rank, pace)
    p50 = seconds_left(rank, admitted_per_second=mean, leaving_per_second=leaving)
    turns = max(1.0, mean * p50)
    doubt = math.hypot(1 / math.sqrt(turns), _scatter(rates, mean))
    # A rate half as high takes twice as long, so doubt is of the logarithm: the band is wider above than below.
    slow, fast = mean * math.exp(-_DECILE * doubt), mean * math.exp(_DECILE * doubt)
    return TimeBand(
        p10=pace.delay_seconds + seconds_left(rank, admitted_per_second=fast, leaving_per_second=leaving),
        p50=pace.delay_seconds + p50,
        p90=pace.delay_seconds + seconds_left(rank, admitted_per_second=slow, leaving_per_second=leaving),
    )


def _rank_after_delay(rank: float, pace: Pace) -> float:
    """Where somebody will stand when the slow start is over: people leave meanwhile, and nobody is admitted for them."""
    return rank * math.exp(-pace.leaving_per_second * pace.delay_seconds)


def recent_rate(pace: Pace) -> float:
    """The rate to reckon with: an average in which a window counts a tenth less than the one after it.

    The windows that were not measured yet are taken to be what is intended.
    """
    rates = pace.admitted_per_second
    weights = [_FADING**age for age in range(len(rates))]
    seen = sum(weight * rate for weight, rate in zip(weights, reversed(rates), strict=True))
    if pace.intended_per_second is None:
        return seen / sum(weights) if rates else 0.0
    # All weights together, of for ever: 1 + f + f² + … = 1 / (1 - f).
    unseen = _FADING ** len(rates) / (1 - _FADING)
    return (seen + unseen * pace.intended_per_second) * (1 - _FADING)


def _scatter(rates: Sequence[float], mean: float) -> float:
    """The standard deviation of the mean of these windows, as a share of it: neighbours are half alike, so half count."""
    if len(rates) < 2:
        return 0.5
    variance = sum((rate - mean) ** 2 for rate in rates) / (len(rates) - 1)
    return math.sqrt(variance / max(1.0, len(rates) / 2)) / mean


def poll_after_seconds(time_left: float, *, jitter: float) -> float:
    """When to ask again: a tenth of the time left, between 3 s and 90 s, and up to 30 % later so that nobody is in step.

    `jitter` is from 0 to 1, the caller's dice.
    """
    return min(POLL_SECONDS_MAX, max(POLL_SECONDS_MIN, POLL_SHARE * time_left)) * (1 + POLL_JITTER_MAX * jitter)


def chance_of_tickets(turns: float, pace: Pace) -> float | None:
    """How likely there is a seat left when it is one's turn, from 0 to 1; None where too little is known to say.

    Those in front take `turns x seats per turn` seats, give or take the square root of that many turns: a sum of many
    small numbers, so the normal distribution will do.
    """
    if pace.seats_left is None or pace.seats_per_turn is None or pace.turns_observed < OBSERVATIONS_MIN:
        return None
    if pace.seats_left == 0:
        return 0.0
    taken = turns * pace.seats_per_turn
    deviation = math.sqrt(turns) * pace.seats_per_turn_deviation
    if deviation == 0:
        return 1.0 if taken < pace.seats_left else 0.0
    # Half a seat less than all: one must be left.
    return NormalDist(taken, deviation).cdf(pace.seats_left - 0.5)


class LineReason(StrEnum):
    """Why a number may rise on somebody's screen. Without one of these it stands still instead."""

    RETURNED = "returned"  # people who missed their turn came back with their old ticket
    SLOWED = "slowed"  # the sale was slowed: the controller's reason is in the snapshot
    PAUSED = "paused"
    RESTORED = "restored"  # the room was lost and restored from its log
    DRAWN = "drawn"  # the draw has given out the places


class Outlook(Value):
    """What somebody who waits is shown."""

    position: int = Field(ge=1, description="1 is next")
    people_ahead: int = Field(ge=0)
    band: TimeBand | None = None
    chance: float | None = None
    why_later: LineReason | None = Field(None, description="set when the position or the time is worse than before")


def outlook_of(ticket: int, snapshot: Snapshot) -> Outlook:
    """What the snapshot says to the bearer of that ticket."""
    return outlook_at(snapshot.rank_of(ticket), snapshot.pace)


def outlook_at(rank: float, pace: Pace) -> Outlook:
    """The same for somebody whose rank is known."""
    rate = recent_rate(pace)
    ahead = people_ahead(rank, pace)
    turns = ahead
    if rate > 0:
        later = _rank_after_delay(rank, pace)
        turns = turns_ahead(later, admitted_per_second=rate, leaving_per_second=pace.leaving_per_second)
    return Outlook(
        position=round(turns) + 1,
        people_ahead=round(ahead),
        band=time_band(rank, pace),
        chance=chance_of_tickets(turns, pace),
    )


def shown_after(before: Outlook | None, now: Outlook, *, reason: LineReason | None = None) -> Outlook:
    """What to show after something else was shown: nothing gets worse on screen unless there is a reason to give.

    Estimates waver, and people who see their position rise by three believe that three have jumped the line: so what
    got worse stands still. A time that got much worse does not waver; then the line has slowed, and that is said.
    """
    if before is None:
        return now
    if reason is None and _is_much_later(before.band, now.band):
        reason = LineReason.SLOWED
    if reason is not None and (now.position > before.position or _is_later(before.band, now.band)):
        return now.model_copy(update={"why_later": reason})
    return now.model_copy(
        update={
            "position": min(now.position, before.position),
            "people_ahead": min(now.people_ahead, before.people_ahead),
            "band": _no_later(before.band, now.band),
        }
    )


def _is_later(before: TimeBand | None, now: TimeBand | None) -> bool:
    return before is not None and now is not None and now.p50 > before.p50


def _is_much_later(before: TimeBand | None, now: TimeBand | None) -> bool:
    """Later than the band of before had room for, or nobody is admitted any more."""
    return before is not None and (now is None or now.p50 > before.p90)


def _no_later(before: TimeBand | None, now: TimeBand | None) -> TimeBand | None:
    if before is None or now is None:
        return now
    return TimeBand(p10=min(now.p10, before.p10), p50=min(now.p50, before.p50), p90=min(now.p90, before.p90))
