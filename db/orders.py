"""What has this user bought?"""

from datetime import datetime

from pydantic import AwareDatetime

from contracts.ids import EventId, HoldId, OrderId, SeatId, TicketId, UserId
from contracts.value import Amount, Value
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("orders")


class OrderSummary(Value):
    """An order in a list."""

    id: OrderId
    event_id: EventId
    event_name: str
    event_date: AwareDatetime
    status: str
    total_amount: Amount
    currency: str
    seat_count: int
    created_at: AwareDatetime
    completed_at: AwareDatetime | None


class OrderItem(Value):
    """A seat of an order and its ticket; `live` is false once it was given back."""

    seat_id: SeatId
    section: str
    row: str
    seat_number: str
    price: Amount
    live: bool
    ticket_id: TicketId | None
    ticket_status: str | None


class OrderDetails(Value):
    """Everything its owner may know of an order."""

    id: OrderId
    event_id: EventId
    event_name: str
    event_date: AwareDatetime
    status: str
    total_amount: Amount
    currency: str
    hold_id: HoldId
    ended_because: str
    payment_status: str
    client_secret: str | None
    created_at: AwareDatetime
    completed_at: AwareDatetime | None
    items: tuple[OrderItem, ...]


async def list_orders(
    pool: Pool, user_id: UserId, *, after: tuple[datetime, OrderId] | None, limit: int
) -> list[OrderSummary]:
    """The user's orders, newest first, from behind the order that `after` names by its time and id."""
    created_at, order_id = after or (None, None)
    records = await pool.fetch(_sql.list_orders, user_id, created_at, order_id, limit)
    return [OrderSummary(**record) for record in records]


async def find_order(pool: Pool, user_id: UserId, order_id: OrderId) -> OrderDetails | None:
    """The order, if there is one and it is this user's."""
    record = await pool.fetchrow(_sql.find_order, order_id, user_id)
    if record is None:
        return None
    items = await pool.fetch(_sql.list_order_items, record["event_id"], order_id)
    return OrderDetails(**record, items=tuple(OrderItem(**item) for item in items))
