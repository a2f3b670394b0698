"""Which sales are open by the database's clock, and what does the catalogue show of them?"""

from dataclasses import dataclass

from contracts.ids import EventId
from db.named_queries import queries
from db.postgres import Pool, Transaction

EVENT_QUEUES_CHANNEL = "event_queues"  # NOTIFY: queues of events were opened or closed, look again

_sql = queries("sale_clock")


@dataclass(frozen=True, kw_only=True)
class StatusChanges:
    """The events whose status was brought up to date, by what they are now."""

    on_sale: tuple[EventId, ...] = ()
    sold_out: tuple[EventId, ...] = ()
    completed: tuple[EventId, ...] = ()


async def find_open_sales(pool: Pool, *, limit: int) -> list[EventId]:
    """The events on sale now, those expecting a crowd first."""
    return _ids(await pool.fetch(_sql.find_open_sales, limit))


async def find_ended_sales(pool: Pool, *, within_seconds: float, limit: int) -> list[EventId]:
    """The events whose sale has ended, or was cancelled, this recently."""
    return _ids(await pool.fetch(_sql.find_ended_sales, within_seconds, limit))


async def update_statuses(tx: Transaction) -> StatusChanges:
    """Bring the statuses up to date with the clock and the seats; one whose status is right is not touched."""
    return StatusChanges(
        on_sale=(*_ids(await tx.fetch(_sql.open_sales)), *_ids(await tx.fetch(_sql.mark_back_on_sale))),
        sold_out=tuple(_ids(await tx.fetch(_sql.mark_sold_out))),
        completed=tuple(_ids(await tx.fetch(_sql.complete_events))),
    )


async def announce_event_queues(pool: Pool) -> None:
    """Wake whoever consumes the queues of events: there is one more, or one less."""
    await pool.execute(_sql.announce_event_queues)


def _ids(records: list[dict[str, EventId]]) -> list[EventId]:
    return [record["id"] for record in records]
