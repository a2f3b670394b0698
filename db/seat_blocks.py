"""Which seats does an organiser mean who names a section, or a row of it?"""

from typing import Literal, NamedTuple

from contracts.house import SeatKind
from contracts.ids import EventId, SeatId
from db.named_queries import queries
from db.postgres import Pool

_sql = queries("seat_blocks")


class SeatOfBlock(NamedTuple):
    """A seat of the house."""

    id: SeatId
    kind: SeatKind


async def find_block(
    pool: Pool,
    event_id: EventId,
    section: str,
    row: str | None = None,
    *,
    status: Literal["available", "withheld"] | None = None,
    limit: int,
) -> list[SeatOfBlock]:
    """The first `limit` seats of the section, or of that row of it, in the order of the map: those that stood like this a
    moment ago, or all."""
    return [SeatOfBlock(*record) for record in await pool.fetch(_sql.find_block, event_id, section, row, status, limit)]


async def is_event(pool: Pool, event_id: EventId) -> bool:
    """Whether there is such an event."""
    return bool(await pool.fetchval(_sql.is_event, event_id))
