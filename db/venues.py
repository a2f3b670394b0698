"""Where does a show take place, and which seats does the house have?"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import Field, PositiveInt

from contracts.ids import VenueId
from contracts.value import Amount, Value
from db.named_queries import queries
from db.postgres import Transaction

_SQL = queries("venues")

# Rows are lettered A … Z, AA … ZZ.
ROWS_MAX = 26 + 26 * 26


class Section(Value):
    """A block of equal rows at one price."""

    name: str = Field(min_length=1, max_length=50)
    rows: PositiveInt = Field(le=ROWS_MAX)
    seats_per_row: PositiveInt = Field(le=1000)
    price: Amount = Field(ge=Decimal(0))


class SectionConfig(Value):
    """The house, section by section, in the order of the map."""

    sections: tuple[Section, ...] = Field(min_length=1)

    @property
    def capacity(self) -> int:
        """How many seats that makes."""
        return sum(section.rows * section.seats_per_row for section in self.sections)


class Venue(Value):
    """A house and its seats."""

    id: VenueId
    name: str
    address: str
    city: str
    capacity: int
    section_config: SectionConfig


async def create_venue(
    tx: Transaction,
    *,
    venue_id: VenueId,
    name: str,
    city: str = "",
    address: str = "",
    section_config: SectionConfig | Mapping[str, Any],
) -> VenueId:
    """Write the venue down; its seats also in JSON, `{"sections": [{"name", "rows", "seatsPerRow", "price"}]}`.

    Raises pydantic's ValidationError for a house that cannot be, asyncpg's UniqueViolationError when the id is taken.
    """
    house = (
        section_config if isinstance(section_config, SectionConfig) else SectionConfig.model_validate(section_config)
    )
    await tx.execute(
        _SQL.insert_venue, venue_id, name, address, city, house.capacity, house.model_dump_json(by_alias=True)
    )
    return venue_id


async def find_venue(connection: Transaction, venue_id: VenueId) -> Venue | None:
    """The venue, or None."""
    record = await connection.fetchrow(_SQL.find_venue, venue_id)
    return None if record is None else _venue(record)


async def list_venues(connection: Transaction) -> list[Venue]:
    """All of them, by city and name."""
    return [_venue(record) for record in await connection.fetch(_SQL.list_venues)]


def _venue(record: Mapping[str, Any]) -> Venue:
    house = SectionConfig.model_validate_json(record["section_config"])
    return Venue.model_validate({**record, "section_config": house})
