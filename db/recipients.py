"""Who gets the mail about an order, and what does it have to say about the event?

Looked up when the mail is written, so that no queue holds an address.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from contracts.ids import EventId, OrderId
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("recipients")


@dataclass(frozen=True, kw_only=True)
class Recipient:
    """The buyer of one order, and the event it is for."""

    order_id: OrderId
    email: str
    buyer_name: str
    total_amount: Decimal
    currency: str
    event_name: str
    artist: str
    event_date: datetime
    venue_name: str
    venue_address: str
    venue_city: str


async def find_recipients(pool: Pool, *, event_id: EventId, order_ids: Collection[OrderId]) -> dict[OrderId, Recipient]:
    """The recipients of these orders; an order that is unknown is not in it."""
    records = await pool.fetch(_sql.find_recipients, event_id, list(order_ids))
    return {record["order_id"]: Recipient(**record) for record in records}
