"""How much was sold in which minute?"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from contracts.ids import EventId
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("analytics")


@dataclass(kw_only=True)
class MinuteOfSales:
    """What is to be added to one minute of one event."""

    event_id: EventId
    minute_at: datetime
    currency: str
    seats_reserved: int = 0
    seats_sold: int = 0
    orders_completed: int = 0
    revenue: Decimal = Decimal(0)


async def add_sales(pool: Pool, minutes: Collection[MinuteOfSales]) -> None:
    """Add these to what was counted before, in one statement; each minute of an event may occur once in `minutes`."""
    await pool.execute(
        _sql.add_sales,
        [minute.event_id for minute in minutes],
        [minute.minute_at for minute in minutes],
        [minute.seats_reserved for minute in minutes],
        [minute.seats_sold for minute in minutes],
        [minute.orders_completed for minute in minutes],
        [minute.revenue for minute in minutes],
        [minute.currency for minute in minutes],
    )
