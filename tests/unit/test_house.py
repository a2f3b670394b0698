"""Is every house that can be drawn one that can be sold, and is every other refused in words?"""

import json
from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.house import (
    CAPACITY_MAX,
    ROWS_MAX,
    SECTIONS_MAX,
    STAGE_DEPTH,
    Place,
    Point,
    Section,
    SectionConfig,
    row_lines,
    row_name,
)

SEATED = {"name": "Stalls", "rows": 3, "seatsPerRow": 4, "price": "45.00"}
STANDING = {"name": "Floor", "type": "general_admission", "capacity": 500, "price": "30.00"}
BOX = {"x": 500, "y": 200, "width": 80, "height": 60}


def drawn(*sections: Mapping[str, Any]) -> SectionConfig:
    """The house of these sections, as it comes out of JSON."""
    return SectionConfig.model_validate_json(json.dumps({"sections": list(sections)}))


def test_a_house_holds_what_its_sections_hold() -> None:
    house = drawn(SEATED, STANDING)
    assert [section.seat_count for section in house.sections] == [12, 500]
    assert house.capacity == 512
    assert house.sections[0].price == Decimal("45.00")


def test_a_house_comes_back_from_json_as_it_was() -> None:
    place = {**BOX, "angle": 30, "bend": 4.5}
    special = {"accessible": {"A": [1]}, "companion": {"A": [2], "B": [1, 2]}}
    house = drawn({**SEATED, "place": place, "outline": [[0, 0], [10, 0], [10, 9.5]], **special}, STANDING)
    assert SectionConfig.model_validate_json(house.model_dump_json()) == house
    assert '"seatsPerRow":4' in house.model_dump_json()


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({**SEATED, "rows": None}, "a seated section has rows"),
        ({**SEATED, "capacity": 9}, "a seated section has rows"),
        ({**STANDING, "capacity": None}, "has a capacity"),
        ({**STANDING, "rows": 2}, "neither rows nor seatsPerRow"),
        ({**STANDING, "accessible": {"A": [1]}}, "does not have: A 1"),
        ({**SEATED, "accessible": {"D": [1]}}, "does not have: D 1"),
        ({**SEATED, "companion": {"A": [5]}}, "does not have: A 5"),
        ({**SEATED, "companion": {"A": [0]}}, "does not have: A 0"),
        ({**SEATED, "accessible": {"a": [1]}}, "does not have: a 1"),
        ({**SEATED, "accessible": {"A": [1, 1]}}, "named twice"),
        ({**SEATED, "accessible": {"A": [1]}, "companion": {"A": [1]}}, "named twice"),
        ({**SEATED, "outline": [[0, 0], [1, 1]]}, "three points"),
        ({**SEATED, "rows": ROWS_MAX + 1}, "less than or equal"),
        ({**SEATED, "rows": 0}, "greater than or equal"),
        ({**SEATED, "rows": "3"}, "valid integer"),
        ({**SEATED, "rows": True}, "valid integer"),
        ({**SEATED, "price": "-1.00"}, "greater than or equal"),
        ({**SEATED, "price": "1.005"}, "decimal places"),
        ({**SEATED, "name": ""}, "at least 1 character"),
        ({**SEATED, "name": " Stalls"}, "pattern"),
        ({**SEATED, "name": "Stalls\n"}, "pattern"),
        ({**SEATED, "name": "S\ntalls"}, "pattern"),
        ({**SEATED, "colour": "red"}, "Extra inputs"),
        ({**SEATED, "place": {**BOX, "width": 0}}, "greater than 0"),
        ({**SEATED, "place": {**BOX, "x": 1e9}}, "less than or equal"),
    ],
)
def test_what_cannot_be_built_is_refused_in_words(section: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        drawn(section)


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ([], "at least 1 item"),
        ([SEATED, SEATED], "two sections have one name"),
        ([{**STANDING, "name": f"Floor {number}", "capacity": CAPACITY_MAX // 2 + 1} for number in range(2)], "places"),
        ([{**SEATED, "name": f"Block {number}"} for number in range(SECTIONS_MAX + 1)], "at most"),
    ],
    ids=["no section", "one name twice", "too many places", "too many sections"],
)
def test_a_house_that_cannot_be_is_refused(sections: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        drawn(*sections)


@pytest.mark.parametrize("name", ["A", "Block 7", "Corbeille côté jardin", "101 & 102", "上层"])
def test_a_section_may_be_called_anything_on_one_line(name: str) -> None:
    assert drawn({**SEATED, "name": name}).sections[0].name == name


def test_rows_are_lettered_each_differently_in_the_order_of_the_map() -> None:
    names = [row_name(index) for index in range(ROWS_MAX)]
    assert (names[0], names[25], names[26], names[27], names[51], names[52], names[-1]) == (
        *("A", "Z", "AA", "AB", "AZ", "BA", "ZZ"),
    )
    assert len(set(names)) == ROWS_MAX


# ---- where things lie


def rows_of(**place: float) -> list[Any]:
    return row_lines(Section.model_validate({**SEATED, "place": {**BOX, **place}}))


def test_rows_lie_in_their_box_from_the_stage_outwards_with_half_a_seat_at_either_end() -> None:
    rows = rows_of(bend=7)
    assert [(row.start, row.end) for row in rows] == [
        (Point(470, 180), Point(530, 180)),
        (Point(470, 200), Point(530, 200)),
        (Point(470, 220), Point(530, 220)),
    ]
    assert {row.bend for row in rows} == {7}


@pytest.mark.parametrize(
    ("angle", "first", "last"),
    [
        (90, (Point(520, 170), Point(520, 230)), (Point(480, 170), Point(480, 230))),
        (180, (Point(530, 220), Point(470, 220)), (Point(530, 180), Point(470, 180))),
        (-90, (Point(480, 230), Point(480, 170)), (Point(520, 230), Point(520, 170))),
    ],
)
def test_a_section_is_turned_clockwise_about_its_middle(angle: float, first: Any, last: Any) -> None:
    rows = rows_of(angle=angle)
    assert (tuple(rows[0][:2]), tuple(rows[-1][:2])) == (first, last)


def test_a_row_of_one_seat_is_a_point() -> None:
    (row,) = row_lines(Section.model_validate({**SEATED, "rows": 1, "seatsPerRow": 1, "place": BOX}))
    assert row.start == row.end == Point(500, 200)


def test_nobody_has_a_row_where_nobody_sits_or_nothing_is_drawn() -> None:
    assert row_lines(Section.model_validate({**STANDING, "place": BOX})) == []
    assert row_lines(Section.model_validate(SEATED)) == []


def test_what_is_not_drawn_is_laid_below_what_is() -> None:
    low = {**BOX, "y": 400, "angle": 90, "bend": 5}
    house = drawn({**SEATED, "place": low}, {**SEATED, "name": "Circle"}, STANDING).laid_out()
    places = [section.place for section in house.sections]
    assert places[0] == Place.model_validate(low)
    edges = [(place.y - place.height / 2, place.y + place.height / 2) for place in places[1:] if place]
    assert edges[0][0] >= 400 + BOX["width"] / 2, "a box turned by a right angle reaches down by half its width"
    assert all(above[1] < below[0] for above, below in pairwise(edges))


def test_a_house_of_which_nothing_is_drawn_begins_below_the_stage() -> None:
    house = drawn(SEATED, STANDING).laid_out()
    assert all(
        section.place and section.place.y - section.place.height / 2 >= STAGE_DEPTH for section in house.sections
    )
    assert house.laid_out() == house, "what has a place keeps it"
