"""Which holds are over and have not been given back?

Only read here. Giving seats back is the engine's work, on the event's queue.
"""

from collections.abc import Collection
from dataclasses import dataclass

from contracts.ids import EventId, HoldId
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("expired_holds")


@dataclass(frozen=True, kw_only=True)
class OverdueHolds:
    """Holds of one event that ended a while ago, the oldest first."""

    event_id: EventId
    hold_ids: tuple[HoldId, ...]


async def find_ends(pool: Pool, *, event_id: EventId, hold_ids: Collection[HoldId]) -> dict[HoldId, float]:
    """How many seconds each of these has left (below nought: it is over); those no longer active are not in it."""
    records = await pool.fetch(_sql.find_ends, event_id, list(hold_ids))
    return {record["id"]: record["seconds_left"] for record in records}


async def find_overdue(pool: Pool, *, limit: int) -> list[OverdueHolds]:
    """Active holds whose end has passed, at most `limit`, by event."""
    records = await pool.fetch(_sql.find_overdue, limit)
    return [OverdueHolds(event_id=record["event_id"], hold_ids=tuple(record["hold_ids"])) for record in records]
