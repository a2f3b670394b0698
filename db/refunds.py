"""Where must somebody ask for a refund?"""

from contracts.ids import EventId, OrderId, UserId
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("refunds")


async def find_event_of_order(pool: Pool, order_id: OrderId, *, user_id: UserId | None) -> EventId | None:
    """The event of this order, if there is one and it is this user's; None for whoever's it is."""
    event_id = await pool.fetchval(_sql.find_event_of_order, order_id, user_id)
    return None if event_id is None else EventId(event_id)
