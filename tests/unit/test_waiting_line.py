"""Is what somebody is told while they wait near what then happens, and never a surprise?"""

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.waiting_line import (
    Breakpoint,
    LineReason,
    Outlook,
    Pace,
    Snapshot,
    TimeBand,
    breakpoint_ranks,
    chance_of_tickets,
    outlook_of,
    people_ahead,
    poll_after_seconds,
    recent_rate,
    seconds_left,
    shown_after,
    time_band,
    turns_ahead,
)
from contracts.waiting_room import Phase

STEADY = Pace(admitted_per_second=(10.0,) * 30)


def a_snapshot(tickets: list[int], *, step: float = 0.05, joined: int | None = None, pace: Pace = STEADY) -> Snapshot:
    """What Redis would write about these people in line."""
    return Snapshot(
        at_ms=0,
        phase=Phase.OPEN,
        waiting=len(tickets),
        joined=(tickets[-1] if tickets else 0) if joined is None else joined,
        points=tuple(Breakpoint(rank, tickets[rank]) for rank in breakpoint_ranks(len(tickets), step)),
        pace=pace,
    )


def a_line(length: int, *, left_share: float, seed: int = 1) -> list[int]:
    """The tickets that are still in line, when that share of those who joined have left."""
    chance = random.Random(seed)
    return [ticket for ticket in range(1, length + 1) if chance.random() >= left_share]


# ---- position


@given(st.integers(0, 400), st.floats(0, 0.9), st.sampled_from([0.02, 0.05, 0.2]), st.integers(0, 1000))
def test_a_rank_is_wrong_by_less_than_a_step(length: int, left_share: float, step: float, seed: int) -> None:
    tickets = a_line(length, left_share=left_share, seed=seed)
    snapshot = a_snapshot(tickets, step=step, joined=length)
    for rank, ticket in enumerate(tickets):
        assert abs(snapshot.rank_of(ticket) - rank) <= max(0.0, step * rank), (rank, ticket)


def test_a_hundred_thousand_find_their_rank_in_two_hundred_points_within_a_per_cent() -> None:
    tickets = a_line(150_000, left_share=0.35)
    snapshot = a_snapshot(tickets)
    assert len(snapshot.points) < 220
    worst = max(abs(snapshot.rank_of(t) - rank) / rank for rank, t in enumerate(tickets) if rank and rank % 7 == 0)
    assert worst < 0.05
    mean = sum(abs(snapshot.rank_of(t) - rank) / max(rank, 1) for rank, t in enumerate(tickets)) / len(tickets)
    assert mean < 0.002


def test_the_points_are_not_there_for_show() -> None:
    """Counting tickets instead of people: what everybody else does, and by how much it is wrong."""
    tickets = a_line(10_000, left_share=0.35)
    last = tickets[-1]
    assert abs((last - tickets[0]) - (len(tickets) - 1)) / len(tickets) > 0.4


def test_who_joined_after_the_snapshot_stands_behind_it() -> None:
    snapshot = a_snapshot([3, 5, 9], joined=10)
    assert [snapshot.rank_of(ticket) for ticket in (3, 5, 9, 11, 12)] == [0, 1, 2, 3, 4]
    assert 2 < snapshot.rank_of(10) <= 3


def test_who_is_before_the_head_of_the_line_or_in_an_empty_one_is_next() -> None:
    assert a_snapshot([3, 5]).rank_of(1) == 0
    assert a_snapshot([], joined=7).rank_of(7) == 0


@given(st.integers(1, 300), st.floats(0, 0.8))
def test_no_two_people_are_told_the_wrong_way_round(length: int, left_share: float) -> None:
    tickets = a_line(length, left_share=left_share)
    ranks = [a_snapshot(tickets, joined=length).rank_of(ticket) for ticket in range(1, length + 3)]
    assert all(before <= after for before, after in pairwise(ranks))


@pytest.mark.parametrize("points", [((0, 5), (0, 6)), ((0, 5), (1, 5)), ((0, 5), (3, 9)), ((0, 5), (1, 99))], ids=str)
def test_a_snapshot_that_cannot_be_is_refused(points: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValidationError):
        Snapshot(at_ms=0, phase=Phase.OPEN, waiting=3, joined=20, points=points)  # type: ignore[arg-type]


def test_the_document_that_redis_writes_is_read() -> None:
    written = (
        '{"phase":"open","epoch":1,"at_ms":1800000000000,"held_until_ms":0,"cohort":0,"waiting":3,"ready":1,"active":2,'
        '"admitted":7,"joined":10,"head_ticket":3,"capacity":5,"rate":2.5,"points":[[0,3],[1,5],[2,9]]}'
    )
    assert Snapshot.model_validate_json(written).rank_of(9) == 2


# ---- those who have left


def test_the_silent_are_taken_out_as_far_as_they_are_not_missed_yet() -> None:
    pace = Pace(leaving_per_second=1 / 1200, near_rank=0, deep_heartbeat_seconds=60, deep_silence_seconds=150)
    assert people_ahead(1000, pace) == pytest.approx(1000 * (1 - 120 / 1200))
    near = pace.model_copy(update={"near_rank": 400, "near_heartbeat_seconds": 30.0, "near_silence_seconds": 75.0})
    assert people_ahead(1000, near) == pytest.approx(400 * (1 - 60 / 1200) + 600 * (1 - 120 / 1200))
    assert people_ahead(1000, Pace(leaving_per_second=1.0)) == pytest.approx(100), "never more than nine tenths"
    assert people_ahead(1000, Pace()) == 1000


@pytest.mark.parametrize("patience_seconds", [600, 1200, 3600])
def test_turns_and_time_are_those_of_a_line_that_people_leave(patience_seconds: int) -> None:
    """People in front leave one by one, at random; the formula is compared with what happens to them."""
    chance, rate, rank = random.Random(7), 10.0, 10_000
    leaves_at = [chance.expovariate(1 / patience_seconds) for _ in range(rank)]
    clock, turns = 0.0, 0
    for leaves in leaves_at:
        if leaves > clock:
            turns += 1
            clock += 1 / rate
    told = {"admitted_per_second": rate, "leaving_per_second": 1 / patience_seconds}
    assert turns_ahead(rank, **told) == pytest.approx(turns, rel=0.03)
    assert seconds_left(rank, **told) == pytest.approx(clock, rel=0.03)


def test_where_nobody_leaves_turns_are_ranks() -> None:
    assert turns_ahead(500, admitted_per_second=10, leaving_per_second=0) == pytest.approx(500)
    assert turns_ahead(500, admitted_per_second=10, leaving_per_second=1e-15) == pytest.approx(500)
    assert seconds_left(500, admitted_per_second=10, leaving_per_second=0) == pytest.approx(50)


def test_without_admissions_it_takes_for_ever_unless_one_is_next() -> None:
    assert seconds_left(5, admitted_per_second=0, leaving_per_second=0.1) == math.inf
    assert seconds_left(0, admitted_per_second=0, leaving_per_second=0.1) == 0


# ---- time


def test_the_band_is_about_the_middle_and_wider_above() -> None:
    band = time_band(1000, STEADY)
    assert band is not None
    assert band.p10 < band.p50 < band.p90 and band.p50 == pytest.approx(100)
    assert band.p90 - band.p50 > band.p50 - band.p10


def test_the_band_is_wide_where_little_is_known_and_narrow_where_much_is() -> None:
    def width(rank: float, rates: tuple[float, ...]) -> float:
        band = time_band(rank, Pace(admitted_per_second=rates))
        assert band is not None
        return (band.p90 - band.p10) / band.p50

    assert width(1000, (10.0,)) > width(1000, (5.0, 15.0) * 15) > width(1000, (9.0, 11.0) * 15)
    assert width(10, (10.0,) * 30) > width(1000, (10.0,) * 30)


def test_there_is_no_band_while_nobody_is_admitted() -> None:
    assert time_band(10, Pace()) is None
    assert time_band(10, Pace(admitted_per_second=(0.0, 0.0))) is None


def test_the_latest_window_counts_most() -> None:
    def rate(*rates: float, intended: float | None = None) -> float:
        return recent_rate(Pace(admitted_per_second=rates, intended_per_second=intended))

    assert rate() == 0
    assert rate(10, 10, 10) == pytest.approx(10)
    assert rate(0, 10) > 5 > rate(10, 0)
    assert rate(intended=7) == pytest.approx(7)
    assert 7 < rate(10, intended=7) < rate(10, 10, 10, intended=7) < rate(*[10.0] * 60, intended=7) <= 10


def test_what_the_slow_start_costs_comes_on_top() -> None:
    before = time_band(1000, STEADY)
    after = time_band(1000, STEADY.model_copy(update={"delay_seconds": 30.0}))
    assert before is not None and after is not None
    assert (after.p10, after.p50, after.p90) == pytest.approx((before.p10 + 30, before.p50 + 30, before.p90 + 30))


def test_four_times_in_five_it_comes_true() -> None:
    """Admissions at random around a rate that nobody knows exactly: how often does the band hold what then happens?"""
    chance, held, tries = random.Random(3), 0, 600
    for _ in range(tries):
        rate, rank = chance.uniform(2, 40), chance.randrange(50, 2000)
        counted = tuple(_arrivals(chance, rate, 10.0) / 10.0 for _ in range(30))
        waited = sum(chance.expovariate(rate) for _ in range(rank))
        band = time_band(rank, Pace(admitted_per_second=counted))
        assert band is not None
        held += band.p10 <= waited <= band.p90
    assert 0.75 <= held / tries <= 0.93


def _arrivals(chance: random.Random, rate: float, seconds: float) -> int:
    clock, count = chance.expovariate(rate), 0
    while clock < seconds:
        clock, count = clock + chance.expovariate(rate), count + 1
    return count


# ---- asking again


@pytest.mark.parametrize(
    ("time_left", "jitter", "seconds"),
    [(0, 0, 3), (29, 0, 3), (300, 0, 30), (300, 1, 39), (900, 0, 90), (math.inf, 0, 90), (math.inf, 1, 117)],
)
def test_one_asks_again_after_a_tenth_of_the_time_left(time_left: float, jitter: float, seconds: float) -> None:
    assert poll_after_seconds(time_left, jitter=jitter) == pytest.approx(seconds)


# ---- hope

KNOWN = Pace(seats_left=1000, seats_per_turn=1.5, seats_per_turn_deviation=1.2, turns_observed=500)


def test_the_chance_falls_from_certain_to_none() -> None:
    chances = [chance_of_tickets(turns, KNOWN) for turns in (0, 300, 600, 666, 700, 1500)]
    assert chances[0] == pytest.approx(1) and chances[-1] == pytest.approx(0, abs=1e-6)
    assert all(before is not None and after is not None and before >= after for before, after in pairwise(chances))
    assert chances[3] == pytest.approx(0.5, abs=0.05)


def test_the_chance_is_how_often_a_seat_is_left() -> None:
    chance, turns = random.Random(5), 650
    wants = [0, 0, 2, 2, 2, 3]  # 1.5 seats a turn, on average
    deviation = math.sqrt(sum((want - 1.5) ** 2 for want in wants) / len(wants))
    left = sum(sum(chance.choices(wants, k=turns)) < 1000 for _ in range(1000)) / 1000
    told = chance_of_tickets(turns, KNOWN.model_copy(update={"seats_per_turn_deviation": deviation}))
    assert told == pytest.approx(left, abs=0.05)


@pytest.mark.parametrize("unknown", [{"seats_left": None}, {"seats_per_turn": None}, {"turns_observed": 199}], ids=str)
def test_a_chance_that_nobody_knows_is_not_told(unknown: dict[str, object]) -> None:
    assert chance_of_tickets(10, KNOWN.model_copy(update=unknown)) is None


def test_without_seats_there_is_no_chance_and_without_scatter_no_doubt() -> None:
    assert chance_of_tickets(0, KNOWN.model_copy(update={"seats_left": 0})) == 0
    certain = KNOWN.model_copy(update={"seats_per_turn_deviation": 0.0})
    assert (chance_of_tickets(600, certain), chance_of_tickets(700, certain)) == (1.0, 0.0)


# ---- on screen


def an_outlook(position: int, seconds: float | None = None, chance: float | None = None) -> Outlook:
    band = None if seconds is None else TimeBand(p10=seconds * 0.8, p50=seconds, p90=seconds * 1.3)
    return Outlook(position=position, people_ahead=position - 1, band=band, chance=chance)


def test_the_snapshot_says_everything_to_somebody() -> None:
    told = outlook_of(501, a_snapshot(list(range(1, 1001))))
    assert told.position == 501 and told.people_ahead == 500
    assert told.band is not None and told.band.p50 == pytest.approx(50)


def test_deep_in_the_line_there_are_fewer_turns_than_people_and_near_its_head_the_silent_have_turns_too() -> None:
    pace = STEADY.model_copy(update={"leaving_per_second": 1 / 1200})
    deep = outlook_of(30_001, a_snapshot(list(range(1, 30_002)), pace=pace))
    assert deep.position < deep.people_ahead < 30_000
    near = outlook_of(101, a_snapshot(list(range(1, 102)), pace=pace))
    assert near.people_ahead < near.position <= 101


def test_before_anybody_is_admitted_there_is_a_position_and_no_time() -> None:
    told = outlook_of(501, a_snapshot(list(range(1, 1001)), pace=Pace()))
    assert (told.position, told.band) == (501, None)


def test_what_gets_better_is_shown() -> None:
    assert shown_after(None, an_outlook(10, 100)) == an_outlook(10, 100)
    assert shown_after(an_outlook(10, 100), an_outlook(8, 90)) == an_outlook(8, 90)


def test_what_wavers_stands_still() -> None:
    shown = shown_after(an_outlook(10, 100), an_outlook(12, 110))
    assert shown == an_outlook(10, 100)


def test_what_gets_worse_for_a_reason_is_shown_with_it() -> None:
    shown = shown_after(an_outlook(10, 100), an_outlook(13, 110), reason=LineReason.RETURNED)
    assert (shown.position, shown.why_later) == (13, LineReason.RETURNED)


def test_a_reason_without_anything_worse_is_not_mentioned() -> None:
    assert shown_after(an_outlook(10, 100), an_outlook(9, 95), reason=LineReason.PAUSED).why_later is None


def test_a_line_that_slows_much_says_so_by_itself() -> None:
    shown = shown_after(an_outlook(10, 100), an_outlook(10, 200))
    assert shown.why_later is LineReason.SLOWED and shown.band is not None and shown.band.p50 == 200


@given(st.lists(st.integers(1, 100), min_size=2, max_size=30))
def test_no_position_ever_rises_without_a_reason(positions: list[int]) -> None:
    shown = an_outlook(positions[0])
    for position in positions[1:]:
        now = shown_after(shown, an_outlook(position))
        assert now.position <= shown.position and now.why_later is None
        shown = now
