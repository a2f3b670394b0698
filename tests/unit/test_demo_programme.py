"""Is what we made up believable: houses whose blocks do not overlap, evenings at an hour, and something to read about each?"""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, time
from itertools import combinations
from math import cos, radians, sin
from zoneinfo import ZoneInfo

import pytest

from contracts.house import STAGE_DEPTH, Place
from ops.demo_houses import ARENA, HOUSES, House
from ops.demo_programme import Show, shows

Corners = Sequence[tuple[float, float]]


def corners(place: Place) -> Corners:
    turn, w, h = radians(place.angle), place.width / 2, place.height / 2
    box = ((-w, -h), (w, -h), (w, h), (-w, h))
    return [(place.x + x * cos(turn) - y * sin(turn), place.y + x * sin(turn) + y * cos(turn)) for x, y in box]


def overlap(one: Corners, other: Corners) -> bool:
    """Two convex shapes lie apart when a side of one of them has them on either hand."""
    for shape in (one, other):
        for (x1, y1), (x2, y2) in zip(shape, [*shape[1:], shape[0]], strict=True):
            here = [(y2 - y1) * x + (x1 - x2) * y for x, y in one]
            there = [(y2 - y1) * x + (x1 - x2) * y for x, y in other]
            if max(here) <= min(there) or max(there) <= min(here):
                return False
    return True


@pytest.mark.parametrize("house", HOUSES, ids=lambda house: house.name)
def test_every_house_is_drawn_and_no_two_of_its_blocks_overlap(house: House) -> None:
    places = {section.name: section.place for section in house.sections.sections}
    assert all(places.values())
    drawn = {name: corners(place) for name, place in places.items() if place}
    assert [pair for pair in combinations(drawn, 2) if overlap(drawn[pair[0]], drawn[pair[1]])] == []
    assert all(y > STAGE_DEPTH / 2 for name in drawn for _, y in drawn[name])


def test_blocks_that_overlap_are_seen() -> None:
    box = Place(x=500, y=200, width=100, height=40)
    assert overlap(corners(box), corners(box.model_copy(update={"x": 590, "angle": 30})))
    assert not overlap(corners(box), corners(box.model_copy(update={"x": 590, "angle": 90})))


def test_fifty_houses_of_a_thousand_and_one_of_ten_thousand() -> None:
    assert Counter(show.house.sections.capacity for show in shows()) == {1000: 50, 10_000: 1}
    assert Counter(show.house.name for show in shows())[ARENA] == 1
    assert min(Counter(show.house.name for show in shows() if show.house.name != ARENA).values()) >= 9


def test_every_show_is_called_differently_and_described_in_two_sentences() -> None:
    programme = list(shows())
    assert len({show.name for show in programme}) == len({show.description for show in programme}) == 51
    odd = [show.name for show in programme if len(re.findall(r"[.!?](?:\s|$)", show.description)) != 2]
    assert odd == []
    assert all(60 <= len(show.description) <= 300 and "  " not in show.description for show in programme)


def a_show(zone: str) -> Show:
    return next(show for show in shows() if show.house.time_zone == zone and show.begins == time(20, 0))


@pytest.mark.parametrize(
    ("zone", "seeded_at", "day"),
    [
        ("Europe/London", datetime(2031, 5, 1, 12, 0, tzinfo=UTC), 1),
        ("Europe/London", datetime(2031, 5, 1, 23, 30, tzinfo=UTC), 2),
        ("Europe/Berlin", datetime(2031, 5, 1, 21, 59, tzinfo=UTC), 1),
        ("Europe/Berlin", datetime(2031, 12, 31, 23, 0, tzinfo=UTC), 1),
    ],
    ids=["noon", "past midnight over there", "not yet", "in winter"],
)
def test_days_and_hours_are_those_of_the_venue(zone: str, seeded_at: datetime, day: int) -> None:
    show = a_show(zone)
    begins = show.begins_at(seeded_at).astimezone(ZoneInfo(zone))
    assert begins.time() == time(20, 0)
    first = begins.date().toordinal() - show.days_until_show
    assert datetime.fromordinal(first).day == day
