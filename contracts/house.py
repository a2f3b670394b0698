"""What does a house look like: which sections, rows and seats, and where are they on the map?

An organiser draws a house once, as a `SectionConfig`; every event copies it. Map units are arbitrary; the stage is at the
top, around (MAP_WIDTH / 2, 0), and y grows away from it. A section without a `place` is given one by `laid_out`, below
everything that has one.
"""

from decimal import Decimal
from math import cos, radians, sin
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from contracts.value import Amount

# Rows are lettered A … Z, AA … ZZ; `insert_seats` letters them the same.
ROWS_MAX = 26 + 26 * 26
SEATS_PER_ROW_MAX = 1000
SECTIONS_MAX = 500
# The largest stadiums have 115,000 places, the largest festivals let in a quarter of a million people.
CAPACITY_MAX = 300_000
OUTLINE_POINTS_MAX = 64
TIERS_MAX = 10
TIER_NAME_LENGTH_MAX = 40

MAP_WIDTH = 1000.0
STAGE_DEPTH = 80.0
_SECTION_GAP = 30.0
_ROW_DEPTH = 20.0

# Strict: "12" and true are no numbers, whatever they could be taken for.
Number = Annotated[int, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1)]
Coordinate = Annotated[float, Field(strict=True, ge=-100_000, le=100_000, allow_inf_nan=False)]
Extent = Annotated[float, Field(strict=True, gt=0, le=100_000, allow_inf_nan=False)]
# One line without a blank at either end: it is compared with what a buyer types.
SectionName = Annotated[
    str, Field(min_length=1, max_length=50, pattern=r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?$")
]

TierName = Annotated[SectionName, Field(max_length=TIER_NAME_LENGTH_MAX)]

SeatKind = Literal["seat", "accessible", "companion", "standing"]


class _Drawn(BaseModel):
    """Part of a drawing: camelCase in JSON, and a field we do not know is a mistake of whoever drew it."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True, extra="forbid"
    )


class Place(_Drawn):
    """Where a section lies: a box around its centre, turned clockwise by `angle` degrees, rows parallel to its top edge.

    `bend` is how far the middle of each row lies further from the stage than its ends; 0 is straight.
    """

    x: Coordinate
    y: Coordinate
    width: Extent
    height: Extent
    angle: Annotated[float, Field(strict=True, ge=-360, le=360, allow_inf_nan=False)] = 0
    bend: Coordinate = 0


class Point(NamedTuple):
    """A point of the map."""

    x: Coordinate
    y: Coordinate


class RowLine(NamedTuple):
    """Where a row lies: its seats are spaced evenly from `start`, where number 1 is, to `end`; its middle lies `bend`
    further from the stage, which is to the right of whoever goes from the one to the other."""

    start: Point
    end: Point
    bend: float


class Tier(_Drawn):
    """Another price of a section, everything included, that buyers choose: a child's, a student's."""

    name: TierName
    price: Annotated[Amount, Field(ge=Decimal(0))]


class Section(_Drawn):
    """A block of equal rows at one price, or, as general admission, so many places to stand without numbers.

    `price` is what a buyer pays for a place, everything included. `accessible` and `companion` name seats by row and
    number, `{"A": [1, 2]}`: places for wheelchairs, and the seats beside them. `outline` is the polygon to draw it as,
    where a box would not do. `tiers` are other prices of the same places.
    """

    name: SectionName
    type: Literal["seated", "general_admission"] = "seated"
    rows: Annotated[Count, Field(le=ROWS_MAX)] | None = None
    seats_per_row: Annotated[Count, Field(le=SEATS_PER_ROW_MAX)] | None = None
    capacity: Annotated[Count, Field(le=CAPACITY_MAX)] | None = None
    price: Annotated[Amount, Field(ge=Decimal(0))]
    tiers: Annotated[tuple[Tier, ...], Field(max_length=TIERS_MAX)] = ()
    place: Place | None = None
    outline: Annotated[tuple[Point, ...], Field(max_length=OUTLINE_POINTS_MAX)] = ()
    accessible: dict[str, tuple[Number, ...]] = Field(default_factory=dict)
    companion: dict[str, tuple[Number, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_kind_or_the_other(self) -> Self:
        if self.type == "seated" and (self.rows is None or self.seats_per_row is None or self.capacity is not None):
            raise ValueError("a seated section has rows and seatsPerRow, and no capacity")
        if self.type == "general_admission" and (self.capacity is None or self.rows or self.seats_per_row):
            raise ValueError("a general-admission section has a capacity, and neither rows nor seatsPerRow")
        return self

    @model_validator(mode="after")
    def _each_tier_once(self) -> Self:
        if len({tier.name for tier in self.tiers}) != len(self.tiers):
            raise ValueError("two tiers have one name")
        return self

    @model_validator(mode="after")
    def _an_outline_has_an_inside(self) -> Self:
        if 0 < len(self.outline) < 3:
            raise ValueError("an outline has at least three points")
        return self

    @model_validator(mode="after")
    def _special_seats_are_there(self) -> Self:
        special = [*_named(self.accessible), *_named(self.companion)]
        if len(set(special)) != len(special):
            raise ValueError("a seat is named twice in accessible and companion")
        rows = {row_name(index) for index in range(self.rows or 0)}
        seats_per_row = self.seats_per_row or 0
        for row, number in special:
            if row not in rows or not 1 <= number <= seats_per_row:
                raise ValueError(
                    f"accessible or companion names a seat that this section does not have: {row} {number}"
                )
        return self

    @property
    def seat_count(self) -> int:
        """How many places it has."""
        return self.capacity or (self.rows or 0) * (self.seats_per_row or 0)


class SectionConfig(_Drawn):
    """The house, section by section, in the order of the map: the best places first."""

    sections: Annotated[tuple[Section, ...], Field(min_length=1, max_length=SECTIONS_MAX)]

    @model_validator(mode="after")
    def _a_house_that_can_be(self) -> Self:
        names = [section.name for section in self.sections]
        if len(set(names)) != len(names):
            raise ValueError("two sections have one name")
        if self.capacity > CAPACITY_MAX:
            raise ValueError(f"more than {CAPACITY_MAX} places")
        return self

    @property
    def capacity(self) -> int:
        """How many places that makes."""
        return sum(section.seat_count for section in self.sections)

    def laid_out(self) -> Self:
        """The same house with a place for every section: those without one lie one below the other, under the others."""
        y = max([STAGE_DEPTH, *(_lowest(section.place) + _SECTION_GAP for section in self.sections if section.place)])
        placed: list[Section] = []
        for section in self.sections:
            if section.place is None:
                height = _ROW_DEPTH * (section.rows or max(3, round((section.capacity or 0) ** 0.5 / 2)))
                place = Place(x=MAP_WIDTH / 2, y=y + height / 2, width=MAP_WIDTH * 0.8, height=height)
                section = section.model_copy(update={"place": place})
                y += height + _SECTION_GAP
            placed.append(section)
        return self.model_copy(update={"sections": tuple(placed)})


def row_name(index: int) -> str:
    """The letters of the row with that index: A … Z, AA … ZZ."""
    return ("" if index < 26 else chr(64 + index // 26)) + chr(65 + index % 26)


def row_lines(section: Section) -> list[RowLine]:
    """Where each row of a section that has a place lies, from the stage outwards; none for general admission."""
    place = section.place
    if place is None or section.rows is None:
        return []
    depth = place.height / section.rows
    half_seat = place.width / (section.seats_per_row or 1) / 2
    reach = place.width / 2 - half_seat
    heights = [depth * (index + 0.5) - place.height / 2 for index in range(section.rows)]
    return [RowLine(_turned(place, -reach, y), _turned(place, reach, y), place.bend) for y in heights]


def _turned(place: Place, x: float, y: float) -> Point:
    """A point of a section's own box, on the map."""
    turn = radians(place.angle)
    return Point(
        round(place.x + x * cos(turn) - y * sin(turn), 1),
        round(place.y + x * sin(turn) + y * cos(turn), 1),
    )


def _lowest(place: Place) -> float:
    """How far from the stage the box reaches, its rows' bend included."""
    turn = radians(place.angle)
    bottom, half_width = place.height / 2 + max(place.bend, 0.0), place.width / 2
    corners = (
        (-half_width, -place.height / 2),
        (half_width, -place.height / 2),
        (-half_width, bottom),
        (half_width, bottom),
    )
    return place.y + max(x * sin(turn) + y * cos(turn) for x, y in corners)


def _named(seats_by_row: dict[str, tuple[int, ...]]) -> list[tuple[str, int]]:
    return [(row, number) for row, numbers in seats_by_row.items() for number in numbers]
