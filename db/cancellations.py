"""Which events are being cancelled, and how far has each cancellation come?"""

from pydantic import AwareDatetime, Field

from contracts.ids import EventId, UserId
from contracts.value import Amount, Value
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("cancellations")


class CancellationProgress(Value):
    """How much of an event's money has gone back. Orders move from waiting to refunding to refunded; amounts are what the
    cancellation gives back, not what had been given back before."""

    event_id: EventId
    cancelled_by: UserId
    reason: str
    cancelled_at: AwareDatetime
    finished_at: AwareDatetime | None = Field(description="null while an order is left")
    orders_total: int = Field(description="orders that were ever sold")
    orders_refunded: int
    orders_refunding: int = Field(description="asked of the payment provider")
    orders_waiting: int = Field(description="not begun")
    orders_voiding: int = Field(description="were being paid when it happened; nothing is charged for them")
    amount_refunded: Amount
    amount_refunding: Amount
    currency: str


async def find_unfinished(pool: Pool, *, limit: int) -> list[EventId]:
    """Events with orders that are left, the first that was cancelled first."""
    return [EventId(record["event_id"]) for record in await pool.fetch(_sql.find_unfinished, limit)]


async def find_progress(pool: Pool, event_id: EventId) -> CancellationProgress | None:
    """How far it has come; None when the event was not cancelled, or is not known."""
    record = await pool.fetchrow(_sql.find_progress, event_id)
    return None if record is None else CancellationProgress(**dict(record))
