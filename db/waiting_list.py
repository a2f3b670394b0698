"""What does the engine read and write of an event's waiting list?

Every function is one statement inside the engine's transaction. Only consumers may import this; what people see of the list is
in db/waiting_list_places.py.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from contracts.ids import WaitingId
from db.named_queries import queries
from db.postgres import Transaction, columns
from db.sale import Records, Row

_sql = queries("waiting_list")


async def find_places(tx: Transaction, event_id: UUID, user_ids: Collection[UUID]) -> Records:
    """The live places of these users."""
    return list(await tx.fetch(_sql.find_places, event_id, list(user_ids))) if user_ids else []


async def find_line(tx: Transaction, event_id: UUID, *, limit: int) -> Records:
    """Who has waited longest and has been offered nothing."""
    return list(await tx.fetch(_sql.find_line, event_id, limit))


async def count_free_seats(tx: Transaction, event_id: UUID) -> dict[tuple[str, bool], int]:
    """Free seats by section, "" for all, and whether they are places for wheelchairs and the seats beside them."""
    counts: dict[tuple[str, bool], int] = {}
    for section, accessible, count in await tx.fetch(_sql.count_free_seats, event_id):
        for key in ((section, accessible), ("", accessible)):
            counts[key] = counts.get(key, 0) + count
    return counts


async def insert_places(tx: Transaction, event_id: UUID, *, at: datetime, rows: Sequence[Row]) -> None:
    """Places as (id, user_id, position, seat_count, section, accessible)."""
    if rows:
        await tx.execute(_sql.insert_places, event_id, at, *columns(rows))


async def update_places(tx: Transaction, event_id: UUID, rows: Sequence[Row]) -> None:
    """Places as (id, status, hold_id, offered_at, ended_at)."""
    if rows:
        await tx.execute(_sql.update_places, event_id, *columns(rows))


async def end_offers(tx: Transaction, event_id: UUID, *, at: datetime, statuses: Mapping[WaitingId, str]) -> None:
    """What became of seats that were offered: bought or lapsed."""
    if statuses:
        await tx.execute(_sql.end_offers, event_id, at, list(statuses), list(statuses.values()))


async def save_counts(tx: Transaction, event_id: UUID, *, count: int, serial: int) -> None:
    """How many wait, and the last position that was given out."""
    await tx.execute(_sql.save_counts, event_id, count, serial)
