"""What does an organiser take away of an event: all its orders, everybody who may come in?"""

from contracts.ids import EventId
from db.moments import Pages, read_in_pages
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("exports")

ORDER_COLUMNS = (
    *("order_id", "created_at", "completed_at", "status", "kind", "email", "name", "seat_count", "seats"),
    *("total", "fee", "tax", "reduction", "refunded", "refund_fee_kept", "currency", "code"),
    *("payment_status", "payment_intent"),
)
ATTENDEE_COLUMNS = (
    *("ticket_id", "email", "name", "section", "row", "seat", "seat_kind", "tier", "price", "currency", "kind"),
    *("order_id", "buyer_email", "transferred", "checked_in_at"),
)


async def knows_event(pool: Pool, event_id: EventId) -> bool:
    """Whether there is such an event."""
    known: bool = await pool.fetchval(_sql.knows_event, event_id)
    return known


def read_all_orders(pool: Pool, event_id: EventId) -> Pages:
    """Every order of the event, newest first, as records with ORDER_COLUMNS."""
    return read_in_pages(pool, _sql.read_all_orders, event_id)


def read_attendees(pool: Pool, event_id: EventId) -> Pages:
    """Every valid ticket under its present owner, in the order of the map, as records with ATTENDEE_COLUMNS."""
    return read_in_pages(pool, _sql.read_attendees, event_id)
