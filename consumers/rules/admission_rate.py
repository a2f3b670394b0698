"""How many people a second may the waiting room let in, and how many may be inside at once?

A pure step: what was decided last, what has been measured since, and out comes the next rate, the next capacity and the
one reason that explains them. Whoever calls it writes both to the room; the room enforces them. research/waiting_room.md
4.5 is where the rules come from.

- The operator names the arrivals a second they want. Not everybody who is admitted comes: the rate is raised by the share
  that does, at most to twice, so that what was asked for is what arrives.
- Checkouts or commands that get slower than they should lower it, by a proportional-integral controller.
- It begins low and doubles every ten seconds: caches are cold when a sale opens, and after every stop.
- Nobody is admitted while payments are down, or when no seat is left.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

# Admitting takes nothing less than this while it is on: with nobody inside, nothing could be measured.
RATE_MIN = 0.2

SLOW_START_SHARE = 1 / 16
SLOW_START_DOUBLING_SECONDS = 10.0

COMPENSATION_MAX = 2.0
# Turns claimed or missed count half after a minute; until twenty are known, everybody is taken to come.
SHOW_HALF_LIFE_SECONDS = 60.0
SHOW_PRIOR_TURNS = 20.0

# A capacity of 1.3 turns for each seat that is left, because not everybody inside buys what the average buys.
SEATS_MARGIN = 1.3

# Of the rate, for each 100 % that latency is too high: at once, and for each second that it stays so. Checkouts answer to
# a change after some ten seconds, so a controller much quicker than that would fight its own echo.
PROPORTIONAL = 0.3
INTEGRAL = 0.02
# Ten times too slow is no worse than three times: both mean "back to the minimum, soon".
ERROR_MAX = 2.0
ERROR_MIN = -0.5


class RateReason(StrEnum):
    """What explains the rate: shown to operators, and to people who wait when it is a reason for a longer wait."""

    STEADY = "steady"
    SLOW_START = "slow_start"
    CHECKOUTS_SLOW = "checkouts_slow"
    COMMANDS_LATE = "commands_late"
    FEW_SEATS_LEFT = "few_seats_left"
    PAYMENTS_DOWN = "payments_down"
    ALL_HELD = "all_held"  # no seat is left, and those that are held may come back
    SOLD_OUT = "sold_out"
    STOPPED = "stopped"  # by the operator: a rate of nought


@dataclass(frozen=True, slots=True)
class RateGoals:
    """What the operator wants, and what the site must stay below."""

    arrivals_per_second: float
    capacity: int
    checkout_p95_ms: float = 500.0
    command_age_ms: float = 250.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen since the last step. None: nothing was, and so there is nothing to be careful about."""

    seconds: float
    checkout_p95_ms: float | None = None
    command_age_ms: float | None = None
    are_payments_down: bool = False
    seats_left: int | None = None
    seats_held: int = 0
    seats_per_buyer: float = 2.0
    buyers_per_turn: float = 1.0
    claimed: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True)
class RateState:
    """What a step hands to the next one. `throttle` is the share of the rate that health allows, from 0 to 1."""

    throttle: float = 1.0
    error: float = 0.0
    started_for_seconds: float = 0.0
    claimed: float = SHOW_PRIOR_TURNS
    missed: float = 0.0

    @property
    def show_share(self) -> float:
        """How many of those admitted claim their turn."""
        return self.claimed / (self.claimed + self.missed)


@dataclass(frozen=True, slots=True)
class RateDecision:
    """What to write to the room: admissions a second, people inside at once; why; and the state for the next step.

    `intended` is what the rate would be without the slow start, `delay_seconds` what that will have cost: for the time that
    people are told.
    """

    rate: float
    capacity: int
    reason: RateReason
    state: RateState
    intended: float = 0.0
    delay_seconds: float = 0.0


def decide_admission_rate(state: RateState, measured: Measured, goals: RateGoals) -> RateDecision:
    """The next rate and capacity."""
    state = _with_shows(state, measured)
    stop = _reason_to_stop(measured, goals)
    if stop is not None:
        return _stopped(state, measured, goals, stop)
    state = _with_health(state, measured, goals)
    wanted = goals.arrivals_per_second / max(state.show_share, 1 / COMPENSATION_MAX)
    allowed = wanted * state.throttle
    ceiling = _slow_start_ceiling(state, goals)
    capacity = capacity_for(measured, goals)
    return RateDecision(
        rate=max(min(RATE_MIN, wanted), min(allowed, ceiling)),
        capacity=capacity,
        reason=_reason(state, measured, goals, is_starting=ceiling < allowed, capacity=capacity),
        state=replace(state, started_for_seconds=state.started_for_seconds + measured.seconds),
        intended=allowed,
        delay_seconds=_slow_start_cost(state, goals, allowed),
    )


def capacity_for(measured: Measured, goals: RateGoals) -> int:
    """How many may be inside: the operator's number, or what the seats left are enough for, if that is less."""
    if measured.seats_left is None:
        return goals.capacity
    buyers = measured.seats_left / max(measured.seats_per_buyer, 1.0)
    turns = SEATS_MARGIN * buyers / max(measured.buyers_per_turn, 0.01)
    return min(goals.capacity, math.ceil(turns))


def _reason_to_stop(measured: Measured, goals: RateGoals) -> RateReason | None:
    if measured.seats_left == 0:
        return RateReason.ALL_HELD if measured.seats_held else RateReason.SOLD_OUT
    if measured.are_payments_down:
        return RateReason.PAYMENTS_DOWN
    return RateReason.STOPPED if goals.arrivals_per_second <= 0 else None


def _stopped(state: RateState, measured: Measured, goals: RateGoals, stop: RateReason) -> RateDecision:
    """Nobody comes in. Afterwards it begins slowly again: everybody inside has been waiting for the same moment."""
    return RateDecision(
        rate=0.0,
        capacity=capacity_for(measured, goals),
        reason=stop,
        state=replace(state, started_for_seconds=0.0, throttle=1.0, error=0.0),
    )


def _with_shows(state: RateState, measured: Measured) -> RateState:
    """Turns that ended, by claim or by the end of the claim window; never admissions, whose end is not known yet.

    Counted against admissions, everybody would seem to stay away for the first two minutes of a sale.
    """
    kept = 0.5 ** (measured.seconds / SHOW_HALF_LIFE_SECONDS)
    claimed, missed = state.claimed * kept + measured.claimed, state.missed * kept + measured.missed
    # With nobody admitted for long, both fade to nothing; what is missing is made up by people who come.
    unknown = max(0.0, SHOW_PRIOR_TURNS - claimed - missed)
    return replace(state, claimed=claimed + unknown, missed=missed)


def _with_health(state: RateState, measured: Measured, goals: RateGoals) -> RateState:
    """One step of the controller, in the form that adds to what was: a throttle at its bound winds nothing up."""
    error = _error(measured, goals)
    # The quick part answers to what is too slow only: a healthy latency that wavers must not cost admissions.
    quick = PROPORTIONAL * (max(0.0, error) - max(0.0, state.error))
    change = quick + INTEGRAL * error * measured.seconds
    return replace(state, error=error, throttle=min(1.0, max(0.0, state.throttle - change)))


def _error(measured: Measured, goals: RateGoals) -> float:
    """How far the worse of both is from where it should be: 1 is twice as slow as it may be; below 0 is room to spare."""
    errors = [_checkout_error(measured, goals), _command_error(measured, goals)]
    return min(ERROR_MAX, max(ERROR_MIN, max(errors)))


def _checkout_error(measured: Measured, goals: RateGoals) -> float:
    return -math.inf if measured.checkout_p95_ms is None else measured.checkout_p95_ms / goals.checkout_p95_ms - 1


def _command_error(measured: Measured, goals: RateGoals) -> float:
    return -math.inf if measured.command_age_ms is None else measured.command_age_ms / goals.command_age_ms - 1


def _slow_start_ceiling(state: RateState, goals: RateGoals) -> float:
    """A sixteenth of what is wanted, doubling every ten seconds; past the compensation's bound it means nothing."""
    doublings = min(60.0, state.started_for_seconds / SLOW_START_DOUBLING_SECONDS)
    return goals.arrivals_per_second * SLOW_START_SHARE * float(2 ** math.floor(doublings))


def _slow_start_cost(state: RateState, goals: RateGoals, allowed: float) -> float:
    """How many seconds at the allowed rate would admit what the slow start, from now on, will not have admitted."""
    cost, started = 0.0, state.started_for_seconds
    while (ceiling := _slow_start_ceiling(replace(state, started_for_seconds=started), goals)) < allowed:
        step_end = (math.floor(started / SLOW_START_DOUBLING_SECONDS) + 1) * SLOW_START_DOUBLING_SECONDS
        cost += (step_end - started) * (1 - ceiling / allowed)
        started = step_end
    return cost


def _reason(state: RateState, measured: Measured, goals: RateGoals, *, is_starting: bool, capacity: int) -> RateReason:
    if is_starting:
        return RateReason.SLOW_START
    if state.throttle < 1:
        is_checkouts = _checkout_error(measured, goals) >= _command_error(measured, goals)
        return RateReason.CHECKOUTS_SLOW if is_checkouts else RateReason.COMMANDS_LATE
    return RateReason.FEW_SEATS_LEFT if capacity < goals.capacity else RateReason.STEADY
