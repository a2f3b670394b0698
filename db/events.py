"""Which shows are there, and how does one come into being with all its seats?"""

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime

from contracts.ids import EventId, SeatId, VenueId
from contracts.value import Amount, Value
from db.named_queries import queries
from db.postgres import Transaction

_SQL = queries("events")

TICKET_LIMIT_DEFAULT = 6


class Event(Value):
    """A show and the terms of its sale."""

    id: EventId
    venue_id: VenueId
    name: str
    artist: str
    category: str
    event_date: AwareDatetime
    on_sale_date: AwareDatetime
    off_sale_date: AwareDatetime
    status: Literal["upcoming", "on_sale", "sold_out", "completed", "cancelled"]
    high_demand: bool
    currency: str
    ticket_limit: int
    capacity: int


class Seat(Value):
    """A seat as it is on the map, whoever has it."""

    id: SeatId
    seat_index: int
    section: str
    row: str
    seat_number: str
    price: Amount


async def create_event(
    tx: Transaction,
    *,
    event_id: EventId,
    venue_id: VenueId,
    name: str,
    event_date: datetime,
    on_sale_date: datetime,
    off_sale_date: datetime | None = None,
    ticket_limit: int = TICKET_LIMIT_DEFAULT,
    currency: str = "EUR",
    artist: str = "",
    category: str = "",
    high_demand: bool = False,
) -> EventId:
    """Write the event down with a seat for every place of its venue; without `off_sale_date` it sells until the show.

    The caller owes an `analyze_seats` once the transaction is committed. Raises asyncpg's ForeignKeyViolationError when
    there is no such venue, UniqueViolationError when the id is taken.
    """
    await tx.execute(
        _SQL.insert_event,
        *(event_id, venue_id, name, artist, category),
        *(event_date, on_sale_date, off_sale_date or event_date),
        *(ticket_limit, currency, high_demand),
    )
    await tx.execute(_SQL.insert_event_inventory, event_id)
    await tx.execute(_SQL.insert_seats, event_id)
    return event_id


async def analyze_seats(connection: Transaction) -> None:
    """Let the planner know how big the sale's tables are; outside the transaction that filled them."""
    await connection.execute(_SQL.analyze_seats)


async def find_event(connection: Transaction, event_id: EventId) -> Event | None:
    """The event, or None."""
    record = await connection.fetchrow(_SQL.find_event, event_id)
    return None if record is None else Event.model_validate(dict(record))


async def list_events(connection: Transaction) -> list[Event]:
    """All events, the next one first."""
    return [Event.model_validate(dict(record)) for record in await connection.fetch(_SQL.list_events)]


async def list_seats(connection: Transaction, event_id: EventId) -> list[Seat]:
    """Every seat of the event, in the order of the map."""
    return [Seat.model_validate(dict(record)) for record in await connection.fetch(_SQL.list_seats, event_id)]
