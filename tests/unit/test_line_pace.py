"""Is the pace that people are told the pace at which the line moves?"""

import random

import pytest

from consumers.rules.line_pace import USUAL_PATIENCE_SECONDS, WINDOW_SECONDS, WINDOWS_MAX, LineCounts, LinePace
from contracts.waiting_line import Pace


def observed(pace: LinePace, rate: float, seconds: int, *, begin: LineCounts | None = None) -> LineCounts:
    """A line of ten thousand from which so many a second are admitted, and nobody leaves."""
    counts = begin or LineCounts(0, 10_000, 0, 10_000)
    for _ in range(seconds):
        admitted = counts.admitted + round(rate)
        counts = LineCounts(counts.at_seconds + 1, counts.waiting - round(rate), admitted, counts.joined)
        pace.observe(counts)
    return counts


def leaving_after(seconds: int, *, patience_seconds: float, notice_seconds: float, people: int = 20_000) -> float:
    """What is measured of a line whose people leave at random, each missed a while after."""
    chance = random.Random(1)
    missed_at = sorted(chance.expovariate(1 / patience_seconds) + notice_seconds for _ in range(people))
    pace, missed = LinePace(notice_seconds=notice_seconds), 0
    for second in range(seconds):
        while missed < people and missed_at[missed] <= second:
            missed += 1
        pace.observe(LineCounts(second, people - missed, 0, people))
    return pace.leaving_per_second


def test_each_window_has_its_rate() -> None:
    pace = LinePace()
    counts = observed(pace, 10, 31)
    observed(pace, 20, 20, begin=counts)
    assert pace.pace.admitted_per_second == pytest.approx((10, 10, 10, 20, 20))


def test_only_the_last_ten_minutes_count() -> None:
    pace = LinePace()
    observed(pace, 1, int(WINDOW_SECONDS * (WINDOWS_MAX + 20)))
    assert len(pace.pace.admitted_per_second) == WINDOWS_MAX


def test_before_a_pause_is_forgotten_when_it_is_told_to_be() -> None:
    pace = LinePace()
    counts = observed(pace, 10, 31)
    pace.forget_rates()
    assert pace.pace.admitted_per_second == ()
    observed(pace, 4, 11, begin=counts)
    assert pace.pace.admitted_per_second == pytest.approx((4,))


def test_at_first_people_are_taken_to_have_the_usual_patience() -> None:
    assert LinePace().leaving_per_second == pytest.approx(1 / USUAL_PATIENCE_SECONDS)


@pytest.mark.parametrize("patience_seconds", [300, 1200, 3600])
def test_their_real_patience_is_found_out(patience_seconds: int) -> None:
    measured = leaving_after(600, patience_seconds=patience_seconds, notice_seconds=75)
    assert measured == pytest.approx(1 / patience_seconds, rel=0.1)


def test_leavers_who_are_not_missed_yet_do_not_make_people_look_patient() -> None:
    """Negative control: compared with everybody in line, the first minutes would halve the rate."""
    measured = leaving_after(150, patience_seconds=300, notice_seconds=75)
    assert measured > 0.8 / 300
    naive = (20_000 - 20_000 * 2.718 ** (-75 / 300)) / (20_000 * 150)
    assert naive < 0.6 / 300


def test_who_is_admitted_or_comes_back_has_not_left() -> None:
    pace = LinePace(notice_seconds=0)
    for second in range(600):
        pace.observe(LineCounts(second, 10_000 - second * 9, second * 10, 10_000, returned=second))
    assert pace.leaving_per_second == pytest.approx(0, abs=1e-5)


def test_when_nobody_waits_any_more_the_usual_counts_again() -> None:
    pace = LinePace(notice_seconds=0)
    for second in range(100):
        pace.observe(LineCounts(second, 1000 - second * 10, 0, 1000))
    assert pace.leaving_per_second > 2 / USUAL_PATIENCE_SECONDS
    for second in range(100, 20_000, 5):
        pace.observe(LineCounts(second, 0, 0, 1000))
    assert pace.leaving_per_second == pytest.approx(1 / USUAL_PATIENCE_SECONDS, rel=0.05)


def test_a_room_made_anew_begins_a_measurement_anew() -> None:
    pace = LinePace()
    observed(pace, 10, 15)
    pace.observe(LineCounts(16, 100, 0, 100))
    pace.observe(LineCounts(27, 100, 0, 100))
    assert pace.pace.admitted_per_second[-1] == 0


def test_what_is_not_measured_is_as_it_was_given() -> None:
    pace = LinePace(Pace(near_rank=7))
    pace.base = Pace(near_rank=8, seats_left=5)
    assert (pace.pace.near_rank, pace.pace.seats_left) == (8, 5)
