"""When will it be sold out, as far as the last minutes tell?"""

from datetime import UTC, datetime, timedelta

import pytest

from contracts.sales_pace import PACE_MINUTES, SalesMinute, time_to_sell_out

NOON = datetime(2027, 5, 14, 12, 0, tzinfo=UTC)
LONG_AGO = NOON - timedelta(days=3)


def minutes_ago(*sold: int, now: datetime = NOON) -> list[SalesMinute]:
    """What was sold in the last minutes, the latest last."""
    this_minute = now.replace(second=0, microsecond=0)
    return [
        SalesMinute(this_minute - timedelta(minutes=len(sold) - 1 - position), count)
        for position, count in enumerate(sold)
    ]


def test_what_is_left_goes_at_the_pace_of_the_last_minutes() -> None:
    now = NOON + timedelta(seconds=30)
    # Nine full minutes and the half that is running: 190 seats in 570 seconds, 20 a minute.
    found = time_to_sell_out(100, minutes_ago(*[20] * 9, 10, now=now), began_at=LONG_AGO, now=now)
    assert found is not None
    assert (found.seats_per_minute, found.seats_left, found.seconds) == (20.0, 100, 300)
    assert found.at == now + timedelta(minutes=5)


def test_minutes_before_the_last_ones_do_not_count() -> None:
    old = [SalesMinute(NOON - timedelta(minutes=PACE_MINUTES), 10_000)]
    assert time_to_sell_out(100, old, began_at=LONG_AGO, now=NOON) is None


def test_a_sale_that_has_just_begun_is_measured_since_it_began() -> None:
    now = NOON + timedelta(seconds=50)
    found = time_to_sell_out(1000, minutes_ago(400, now=now), began_at=NOON + timedelta(seconds=10), now=now)
    assert found is not None
    assert (found.seats_per_minute, found.seconds) == (600.0, 100)


@pytest.mark.parametrize(
    ("left", "sold"),
    [
        (100, [0] * 10),  # nothing sells
        (0, [5] * 10),  # nothing is left
        (10_000_000, [0] * 9 + [1]),  # it would take years
        (100, []),  # nothing is known
    ],
)
def test_of_some_sales_nothing_can_be_said(left: int, sold: list[int]) -> None:
    assert time_to_sell_out(left, minutes_ago(*sold), began_at=LONG_AGO, now=NOON + timedelta(seconds=5)) is None


def test_before_the_sale_nothing_can_be_said_either() -> None:
    assert time_to_sell_out(100, minutes_ago(0, 0), began_at=NOON + timedelta(hours=1), now=NOON) is None
