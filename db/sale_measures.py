"""How does a sale go: what is left of it, how quickly are orders completed, does the payment provider answer?

Read only, by whoever decides how many people come in next. Each question costs a few milliseconds, also late in a large sale.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from contracts.ids import EventId
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("sale_measures")

# Orders of this long count: long enough for a percentile, short enough for a controller.
CHECKOUTS_OF_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class SeatCounts:
    """How many seats can be had, are held, are sold; and how many changes of seats there have been since the beginning."""

    available: int
    held: int
    sold: int
    change_count: int

    @property
    def is_sold_out(self) -> bool:
        """Nothing can be had, and nothing can come back of itself."""
        return self.available == 0 and self.held == 0


@dataclass(frozen=True, kw_only=True)
class CheckoutMeasures:
    """The orders completed of late; None where there was none to measure."""

    order_count: int
    p95_ms: float | None
    seats_per_order: float | None
    seats_per_order_deviation: float


async def count_seats(pool: Pool, event_id: EventId) -> SeatCounts:
    """Where the event's seats are."""
    return SeatCounts(**await pool.fetchrow(_sql.count_seats, event_id))


async def find_changed_sales(pool: Pool, seen: Mapping[EventId, int]) -> dict[EventId, int]:
    """Of these events, by the ledger number they were last seen at (-1: never), those that have changed, with the new one."""
    records = await pool.fetch(_sql.find_changed_sales, list(seen), list(seen.values()))
    return {EventId(record["event_id"]): record["ledger_seq"] for record in records}


async def count_available(pool: Pool, event_ids: Collection[EventId]) -> dict[EventId, int]:
    """How many seats of each of these events can be had; 0 of those that have none."""
    records = await pool.fetch(_sql.count_available, list(event_ids))
    return dict.fromkeys(event_ids, 0) | {EventId(one["event_id"]): one["available"] for one in records}


async def measure_checkouts(pool: Pool, event_id: EventId) -> CheckoutMeasures:
    """How long the orders took that were completed in the last CHECKOUTS_OF_SECONDS, from the request to the tickets."""
    return CheckoutMeasures(**await pool.fetchrow(_sql.measure_checkouts, event_id, CHECKOUTS_OF_SECONDS))


async def count_unanswered_payments(pool: Pool, *, from_seconds: float, to_seconds: float) -> int:
    """Payments that the provider was asked for between so and so long ago, and has not answered; of all events."""
    count: int = await pool.fetchval(_sql.count_unanswered_payments, from_seconds, to_seconds)
    return count
