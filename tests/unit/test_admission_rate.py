"""Does the room let in as many as was asked for, and no more than the site can bear?"""

import random
from collections import deque
from dataclasses import replace
from statistics import fmean, pstdev

import pytest

from consumers.rules.admission_rate import (
    COMPENSATION_MAX,
    RATE_MIN,
    SLOW_START_SHARE,
    Measured,
    RateDecision,
    RateGoals,
    RateReason,
    RateState,
    decide_admission_rate,
)

GOALS = RateGoals(arrivals_per_second=32.0, capacity=5000)
WARM = RateState(started_for_seconds=600.0)
QUIET = Measured(seconds=1.0, checkout_p95_ms=200.0, command_age_ms=20.0, seats_left=100_000, claimed=32)


def after(steps: int, measured: Measured, state: RateState = WARM, goals: RateGoals = GOALS) -> RateDecision:
    decision = decide_admission_rate(state, measured, goals)
    for _ in range(steps - 1):
        decision = decide_admission_rate(decision.state, measured, goals)
    return decision


def test_a_healthy_site_gets_what_was_asked_for() -> None:
    decision = after(1, QUIET)
    assert (decision.rate, decision.capacity, decision.reason) == (32.0, 5000, RateReason.STEADY)


def test_where_nothing_is_measured_there_is_nothing_to_be_careful_about() -> None:
    assert after(10, Measured(seconds=1.0)).rate == 32.0


# ---- the beginning


def test_it_begins_low_and_doubles_every_ten_seconds() -> None:
    state, rates = RateState(), []
    for _ in range(60):
        decision = decide_admission_rate(state, QUIET, GOALS)
        rates.append(decision.rate)
        state = decision.state
    assert rates[0] == 32.0 * SLOW_START_SHARE
    assert [rates[second] for second in (10, 20, 30, 40)] == [4, 8, 16, 32]
    assert rates[-1] == 32.0
    assert after(1, QUIET, RateState()).reason is RateReason.SLOW_START


def test_what_the_slow_start_will_cost_is_known_from_the_first_second() -> None:
    """A sixteenth, an eighth, a quarter, a half, for ten seconds each: 30.6 s' worth of people are missing at the end."""
    decision = after(1, QUIET, RateState())
    assert decision.intended == 32
    assert decision.delay_seconds == pytest.approx(40 - 10 * (1 / 16 + 1 / 8 + 1 / 4 + 1 / 2))
    assert after(36, QUIET, RateState()).delay_seconds == pytest.approx(5 * (1 - 1 / 2))
    assert after(1, QUIET).delay_seconds == 0


def test_after_a_stop_it_begins_slowly_again() -> None:
    stopped = after(1, replace(QUIET, are_payments_down=True))
    assert stopped.rate == 0
    again = after(1, QUIET, stopped.state)
    assert (again.rate, again.reason) == (2.0, RateReason.SLOW_START)


# ---- stops


def test_nobody_is_admitted_while_payments_are_down() -> None:
    decision = after(1, replace(QUIET, are_payments_down=True))
    assert (decision.rate, decision.reason) == (0.0, RateReason.PAYMENTS_DOWN)


def test_nobody_is_admitted_when_the_last_seat_is_gone() -> None:
    decision = after(1, replace(QUIET, seats_left=0))
    assert (decision.rate, decision.capacity, decision.reason) == (0.0, 0, RateReason.SOLD_OUT)


def test_sold_out_is_said_even_when_payments_are_down_too() -> None:
    assert after(1, replace(QUIET, seats_left=0, are_payments_down=True)).reason is RateReason.SOLD_OUT


def test_a_rate_of_nought_is_the_operators_stop() -> None:
    decision = after(1, QUIET, goals=replace(GOALS, arrivals_per_second=0.0))
    assert (decision.rate, decision.reason) == (0.0, RateReason.STOPPED)


# ---- seats


@pytest.mark.parametrize(("seats_left", "capacity"), [(100_000, 5000), (1000, 1300), (10, 13), (1, 2)])
def test_not_many_more_are_inside_than_there_are_seats_for(seats_left: int, capacity: int) -> None:
    """Two seats a buyer, and every other turn buys: as many turns as seats, and three tenths more."""
    measured = replace(QUIET, seats_left=seats_left, seats_per_buyer=2.0, buyers_per_turn=0.5)
    decision = after(1, measured)
    assert decision.capacity == capacity
    assert decision.reason is (RateReason.STEADY if capacity == 5000 else RateReason.FEW_SEATS_LEFT)


def test_nobody_buying_is_no_division_by_nought() -> None:
    assert after(1, replace(QUIET, buyers_per_turn=0.0, seats_per_buyer=0.0, seats_left=10)).capacity == 1300


# ---- those who do not come


def test_the_rate_makes_up_for_those_who_do_not_come() -> None:
    decision = after(300, replace(QUIET, claimed=32, missed=8))
    assert decision.state.show_share == pytest.approx(0.8, abs=0.01)
    assert decision.rate == pytest.approx(32 / 0.8, rel=0.01)


def test_it_makes_up_to_twice_and_no_more() -> None:
    assert after(600, replace(QUIET, claimed=1, missed=99)).rate == pytest.approx(32 * COMPENSATION_MAX)


def test_admitted_people_who_have_time_left_to_claim_are_not_missing() -> None:
    """Negative control of counting turns that ended: by admissions, the first minute would look like a desert."""
    assert after(60, replace(QUIET, claimed=0, missed=0)).rate == pytest.approx(32)


def test_people_who_did_not_come_long_ago_are_forgotten() -> None:
    bad = after(300, replace(QUIET, claimed=1, missed=1)).state
    assert bad.show_share == pytest.approx(0.5, abs=0.01)
    assert after(600, replace(QUIET, claimed=0, missed=0), bad).state.show_share > 0.95


# ---- health


def test_slow_checkouts_lower_the_rate_at_once_and_further_while_they_last() -> None:
    slow = replace(QUIET, checkout_p95_ms=1000.0)
    rates = [after(steps, slow).rate for steps in (1, 10, 20)]
    assert 32 > rates[0] > rates[1] > rates[2] >= RATE_MIN
    assert after(5, slow).reason is RateReason.CHECKOUTS_SLOW


def test_commands_that_wait_lower_it_too() -> None:
    decision = after(5, replace(QUIET, command_age_ms=1000.0))
    assert decision.rate < 20 and decision.reason is RateReason.COMMANDS_LATE


def test_it_never_falls_so_low_that_nothing_could_be_measured() -> None:
    decision = after(1000, replace(QUIET, checkout_p95_ms=60_000.0))
    assert decision.rate == RATE_MIN
    assert (
        after(1000, replace(QUIET, checkout_p95_ms=60_000.0), goals=replace(GOALS, arrivals_per_second=0.1)).rate == 0.1
    )


def test_a_long_outage_winds_nothing_up() -> None:
    """After an hour of trouble it recovers as fast as after a minute."""

    def seconds_to_recover(trouble_steps: int) -> int:
        state = after(trouble_steps, replace(QUIET, checkout_p95_ms=5000.0)).state
        steps = 0
        while (decision := decide_admission_rate(state, QUIET, GOALS)).rate < 32:
            state, steps = decision.state, steps + 1
        return steps

    assert seconds_to_recover(3600) == seconds_to_recover(120) < 180


def test_a_healthy_latency_that_wavers_costs_nothing() -> None:
    state, chance = WARM, random.Random(1)
    for _ in range(300):
        measured = replace(QUIET, checkout_p95_ms=chance.uniform(150, 450))
        decision = decide_admission_rate(state, measured, GOALS)
        assert decision.rate == 32
        state = decision.state


# ---- the loop, closed


class Site:
    """A site that bears so many arrivals a second: near that, checkouts get slow; what is measured is ten seconds old."""

    def __init__(self, bears_per_second: float, seed: int = 1) -> None:
        self.bears = bears_per_second
        self.load = 0.0
        self.seen = deque([150.0] * 10, maxlen=10)
        self.chance = random.Random(seed)

    def take(self, arrivals: float) -> float:
        """A second passes; the p95 latency that is measured then, in ms."""
        self.load += (arrivals - self.load) / 8  # people check out some seconds after they came
        busy = min(0.97, self.load / self.bears)
        self.seen.append(150 / (1 - busy) * self.chance.uniform(0.9, 1.1))
        return fmean(self.seen)


def run(site: Site, seconds: int) -> list[tuple[float, float]]:
    """The rate and the latency of each second."""
    state, latency, history = RateState(), 150.0, []
    for _ in range(seconds):
        decision = decide_admission_rate(state, replace(QUIET, checkout_p95_ms=latency), GOALS)
        state, latency = decision.state, site.take(decision.rate)
        history.append((decision.rate, latency))
    return history


def test_with_a_site_that_bears_less_it_settles_where_checkouts_are_as_fast_as_they_must_be() -> None:
    history = run(Site(bears_per_second=24.0), 1800)
    settled = history[600:]
    rates, latencies = [rate for rate, _ in settled], [latency for _, latency in settled]
    assert fmean(latencies) == pytest.approx(GOALS.checkout_p95_ms, rel=0.1)
    # 150 ms / (1 - load) is 500 ms at 70 % of what the site bears.
    assert fmean(rates) == pytest.approx(0.7 * 24, rel=0.05)


def test_it_does_not_swing() -> None:
    history = run(Site(bears_per_second=24.0), 1800)
    early, late = [r for r, _ in history[600:1200]], [r for r, _ in history[1200:]]
    assert pstdev(late) / fmean(late) < 0.1
    assert pstdev(late) < pstdev(early) * 1.5, "a swing that grows is no swing of the measurements"


def test_with_a_site_that_bears_more_it_delivers_what_was_asked_for() -> None:
    history = run(Site(bears_per_second=80.0), 600)
    assert fmean(rate for rate, _ in history[60:]) == pytest.approx(32, rel=0.03)


def test_a_site_that_recovers_is_used_again() -> None:
    site = Site(bears_per_second=80.0)
    state, latency, rates = RateState(), 150.0, []
    for second in range(1200):
        site.bears = 16.0 if 300 <= second < 600 else 80.0
        decision = decide_admission_rate(state, replace(QUIET, checkout_p95_ms=latency), GOALS)
        state, latency = decision.state, site.take(decision.rate)
        rates.append(decision.rate)
    assert fmean(rates[200:300]) == pytest.approx(32, rel=0.02)
    assert fmean(rates[450:600]) < 14
    assert fmean(rates[800:]) == pytest.approx(32, rel=0.02)


def test_what_arrives_is_what_was_asked_for_when_a_third_stay_away() -> None:
    chance, state, arrived = random.Random(2), RateState(), []
    window: deque[tuple[int, int]] = deque([(0, 0)] * 120, maxlen=120)
    for second in range(1800):
        claimed_now, missed_then = window[-1][0], window[0][1]
        decision = decide_admission_rate(state, replace(QUIET, claimed=claimed_now, missed=missed_then), GOALS)
        state = decision.state
        came = sum(chance.random() < 0.67 for _ in range(round(decision.rate)))
        window.append((came, round(decision.rate) - came))
        if second > 600:
            arrived.append(came)
    assert fmean(arrived) == pytest.approx(32, rel=0.03)
