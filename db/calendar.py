"""What does a calendar have to know of a show, and of somebody's tickets for it?"""

from dataclasses import dataclass
from datetime import datetime

from contracts.ids import EventId, OrderId, UserId
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("calendar")


@dataclass(frozen=True, kw_only=True)
class EventEntry:
    """A show and its house. `version` grows with every change of either, `changed_at` is when the last one was."""

    event_id: EventId
    event_name: str
    artist: str
    event_date: datetime
    event_status: str
    version: int
    changed_at: datetime
    venue_name: str
    venue_address: str
    venue_city: str
    venue_country: str
    time_zone: str


@dataclass(frozen=True, kw_only=True)
class OrderEntry:
    """An order: how many tickets its buyer has of it now, and how often one of them has changed hands or ended."""

    event_id: EventId
    order_status: str
    ticket_count: int
    ticket_changes: int


async def find_event_entry(pool: Pool, event_id: EventId) -> EventEntry | None:
    """The show, if there is one."""
    record = await pool.fetchrow(_sql.find_event_entry, event_id)
    return None if record is None else EventEntry(**record)


async def find_order_entry(pool: Pool, user_id: UserId, order_id: OrderId) -> OrderEntry | None:
    """The order, if there is one and it is this user's."""
    record = await pool.fetchrow(_sql.find_order_entry, order_id, user_id)
    return None if record is None else OrderEntry(**record)
