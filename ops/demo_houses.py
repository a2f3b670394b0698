"""Where do the demo shows take place?

Five houses of a thousand places each, every one of another shape, and an arena of ten thousand; drawn to scale as far as a
map for buyers needs it, about 20 units to a seat in a theatre and 5 in the arena. The cities are real, the houses are not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, pi, radians, sin, sqrt
from typing import Final, NamedTuple
from uuid import UUID, uuid5

from contracts.house import MAP_WIDTH, Place, Section, SectionConfig, row_name
from contracts.ids import VenueId

ARENA = "Harbour Arena"

_NAMESPACE: Final = UUID("0b0c5f0e-2d2a-5d0f-8f59-6a1c1b0e9a10")

_MIDDLE = MAP_WIDTH / 2


def id_of(kind: str, name: str) -> UUID:
    """The id of a thing we made up: always the same one."""
    return uuid5(_NAMESPACE, f"{kind}\n{name}")


@dataclass(frozen=True)
class House:
    """A venue as we make it up."""

    name: str
    city: str
    country: str
    address: str
    time_zone: str
    latitude: float
    longitude: float
    sections: SectionConfig
    currency: str = "EUR"

    @property
    def id(self) -> VenueId:
        return VenueId(id_of("venue", self.name))


def _block(
    name: str, rows: int, seats: int, price: str, place: Place, *, wheelchair_row: int | None = None, pairs: int = 1
) -> Section:
    """Rows of seats; the wheelchair row has, from either end, so many places for wheelchairs with a seat beside each."""
    row = "" if wheelchair_row is None else row_name(wheelchair_row - 1)
    wheelchairs = [number for pair in range(pairs) for number in (1 + 2 * pair, seats - 2 * pair)]
    companions = [number for pair in range(pairs) for number in (2 + 2 * pair, seats - 1 - 2 * pair)]
    return Section.model_validate(
        {
            "name": name,
            "rows": rows,
            "seats_per_row": seats,
            "price": price,
            "place": place,
            "accessible": {row: wheelchairs} if row else {},
            "companion": {row: companions} if row else {},
        }
    )


def _floor(name: str, capacity: int, price: str, place: Place) -> Section:
    return Section.model_validate(
        {"name": name, "type": "general_admission", "capacity": capacity, "price": price, "place": place}
    )


def _house(*sections: Section) -> SectionConfig:
    return SectionConfig(sections=sections)


def _straight(y: float, *, width: float, height: float, bend: float = 0) -> Place:
    """In the middle of the house, its front edge so far from the stage."""
    return Place(x=_MIDDLE, y=y + height / 2, width=width, height=height, bend=bend)


def _aside(x: float, y: float, *, width: float, height: float, angle: float, bend: float = 0) -> Place:
    return Place(x=x, y=y, width=width, height=height, angle=angle, bend=bend)


# ---- a theatre like a fan: every block faces a point behind the stage

_FAN_APEX_BEHIND_STAGE = 300.0


def _in_fan(direction: float, distance: float, *, width: float, height: float, bend: float = 0) -> Place:
    """So many degrees to the right of the middle, the front edge so far from the point all rows face."""
    to_middle = distance + height / 2
    return Place(
        x=round(_MIDDLE + to_middle * sin(radians(direction)), 1),
        y=round(to_middle * cos(radians(direction)) - _FAN_APEX_BEHIND_STAGE, 1),
        width=width,
        height=height,
        angle=-direction,
        bend=bend,
    )


_TEATRO_AURORA = _house(
    _block("Stalls Centre", 20, 13, "52.00", _in_fan(0, 420, width=260, height=440, bend=20), wheelchair_row=20),
    _block("Stalls Left", 16, 8, "46.00", _in_fan(-30, 500, width=160, height=352, bend=8)),
    _block("Stalls Right", 16, 8, "46.00", _in_fan(30, 500, width=160, height=352, bend=8)),
    _block("Circle Centre", 10, 16, "36.00", _in_fan(0, 920, width=320, height=220, bend=14), wheelchair_row=10),
    _block("Circle Left", 8, 8, "31.00", _in_fan(-17.5, 920, width=160, height=176, bend=5)),
    _block("Circle Right", 8, 8, "31.00", _in_fan(17.5, 920, width=160, height=176, bend=5)),
    _block("Gallery", 7, 28, "19.50", _in_fan(0, 1190, width=560, height=154, bend=30)),
)

# ---- a hall like a shoe box

_KULTURHALLE = _house(
    _block("Parkett vorn", 10, 30, "59.00", _straight(120, width=600, height=220), wheelchair_row=10),
    _block("Parkett hinten", 14, 30, "45.00", _straight(380, width=600, height=308), wheelchair_row=14),
    _block("Empore", 14, 20, "32.00", _straight(740, width=400, height=308)),
)

# ---- a floor to dance on, and a balcony around it

_FOUNDRY = _house(
    _floor("Floor", 600, "41.00", _straight(120, width=480, height=460)),
    _block("Balcony", 10, 20, "38.00", _straight(640, width=480, height=220), wheelchair_row=1),
    _block("Balcony Left", 10, 10, "33.00", _aside(120, 350, width=240, height=200, angle=90)),
    _block("Balcony Right", 10, 10, "33.00", _aside(880, 350, width=240, height=200, angle=-90)),
)

# ---- an opera house: boxes along both sides

_SALLE_PASTEUR = _house(
    _block("Parterre", 22, 20, "64.00", _straight(120, width=400, height=484, bend=16), wheelchair_row=22),
    _block("Corbeille", 4, 20, "78.00", _straight(660, width=440, height=88, bend=24), wheelchair_row=4),
    _block("Corbeille côté jardin", 4, 10, "58.00", _aside(190, 420, width=240, height=88, angle=80, bend=6)),
    _block("Corbeille côté cour", 4, 10, "58.00", _aside(810, 420, width=240, height=88, angle=-80, bend=6)),
    _block("Galerie", 16, 25, "27.00", _straight(800, width=560, height=352, bend=30)),
)

# ---- a concert hall whose terraces look down on the stage from both sides

_VILNIUS = _house(
    _block("Stalls", 20, 25, "38.00", _straight(120, width=460, height=440, bend=12), wheelchair_row=20),
    _block("Terrace Left", 10, 10, "34.00", _aside(140, 300, width=220, height=170, angle=70, bend=4)),
    _block("Terrace Right", 10, 10, "34.00", _aside(860, 300, width=220, height=170, angle=-70, bend=4)),
    _block("Balcony", 12, 25, "24.00", _straight(630, width=520, height=264, bend=20), wheelchair_row=12),
)

# ---- an arena: a floor, and around three sides of it two rings of blocks


class _Ring(NamedTuple):
    """A horseshoe of equal blocks: along one side of the floor, around its end, and back along the other side."""

    first_number: int
    block_count: int
    rows: int
    seats: int
    inner_radius: float
    # For the blocks that face the stage, and for those along the sides.
    prices: tuple[str, str]
    has_wheelchair_row: bool = False


_SIDES_BEGIN, _SIDES_END = 110.0, 400.0
_ARENA_SEAT, _ARENA_ROW = 4.7, 8.0

_LOWER = _Ring(101, 12, 20, 20, inner_radius=230, prices=("95.00", "85.00"), has_wheelchair_row=True)
_UPPER = _Ring(201, 16, 10, 20, inner_radius=420, prices=("55.00", "45.00"))


def _blocks(ring: _Ring) -> Iterator[Section]:
    for index in range(ring.block_count):
        place = _in_ring(ring, index)
        facing, beside = ring.prices
        yield _block(
            f"Block {ring.first_number + index}",
            ring.rows,
            ring.seats,
            facing if abs(place.angle) < 60 else beside,
            place,
            wheelchair_row=ring.rows if ring.has_wheelchair_row else None,
            pairs=4,
        )


def _in_ring(ring: _Ring, index: int) -> Place:
    """Evenly spaced along the middle of the ring, every row parallel to the edge of the floor."""
    width, height = ring.seats * _ARENA_SEAT, ring.rows * _ARENA_ROW
    radius, side = ring.inner_radius + height / 2, _SIDES_END - _SIDES_BEGIN
    along = (index + 0.5) * (2 * side + pi * radius) / ring.block_count
    around = min(max(along - side, 0.0), pi * radius) / radius  # from the left (0) to the right (pi)
    down_the_side = min(along, side, 2 * side + pi * radius - along)
    on_curve = 0 < around < pi
    return Place(
        x=round(_MIDDLE - radius * cos(around), 1),
        y=round(_SIDES_BEGIN + down_the_side + radius * sin(around), 1),
        width=width,
        height=height,
        angle=round(90 - around * 180 / pi, 1),
        bend=round(radius - sqrt(radius**2 - (width / 2) ** 2), 1) if on_curve else 0,
    )


_HARBOUR_ARENA = _house(
    _floor("Floor", 2000, "79.00", _straight(100, width=390, height=400)), *_blocks(_LOWER), *_blocks(_UPPER)
)


HOUSES = (
    House(
        name="Teatro Aurora",
        city="Lisbon",
        country="Portugal",
        address="Rua das Flores 12",
        time_zone="Europe/Lisbon",
        latitude=38.7106,
        longitude=-9.1427,
        sections=_TEATRO_AURORA,
    ),
    House(
        name="Kulturhalle Nord",
        city="Hamburg",
        country="Germany",
        address="Speicherstraße 4",
        time_zone="Europe/Berlin",
        latitude=53.5437,
        longitude=9.9950,
        sections=_KULTURHALLE,
    ),
    House(
        name="The Foundry",
        city="Manchester",
        country="United Kingdom",
        address="7 Canal Street",
        time_zone="Europe/London",
        latitude=53.4774,
        longitude=-2.2367,
        sections=_FOUNDRY,
        currency="GBP",
    ),
    House(
        name="Salle Pasteur",
        city="Lyon",
        country="France",
        address="3 quai du Rhône",
        time_zone="Europe/Paris",
        latitude=45.7578,
        longitude=4.8410,
        sections=_SALLE_PASTEUR,
    ),
    House(
        name="Vilnius Concert House",
        city="Vilnius",
        country="Lithuania",
        address="Gedimino prospektas 40",
        time_zone="Europe/Vilnius",
        latitude=54.6888,
        longitude=25.2703,
        sections=_VILNIUS,
    ),
    House(
        name=ARENA,
        city="Rotterdam",
        country="Netherlands",
        address="Havenkade 1",
        time_zone="Europe/Amsterdam",
        latitude=51.9036,
        longitude=4.4880,
        sections=_HARBOUR_ARENA,
    ),
)
HOUSE_BY_NAME = {house.name: house for house in HOUSES}
