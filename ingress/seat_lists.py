"""How is the list of seats read by thousands without being made by thousands?

Made at most once a second and event, by one of those who ask; the others of that moment get the same bytes.
"""

import asyncio
import time
from typing import NamedTuple
from uuid import UUID

from contracts.ids import EventId
from db.postgres import Pool
from db.seat_lists import read_seat_list

FRESH_SECONDS = 1.0
EVENTS_MAX = 100


class _List(NamedTuple):
    made_at: float
    body: bytes | None


class SeatLists:
    """The seat lists this process has made a moment ago."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lists: dict[UUID, _List] = {}
        self._making: dict[UUID, asyncio.Task[bytes | None]] = {}

    async def find(self, event_id: UUID) -> bytes | None:
        """The event's seats as JSON, at most a second old; None when there is no such event."""
        known = self._lists.get(event_id)
        if known is not None and time.monotonic() - known.made_at < FRESH_SECONDS:
            return known.body
        making = self._making.get(event_id)
        if making is None:
            making = self._making[event_id] = asyncio.create_task(self._make(event_id))
        # Shielded: one client that hangs up must not take the list from all the others.
        return await asyncio.shield(making)

    async def _make(self, event_id: UUID) -> bytes | None:
        try:
            made_at = time.monotonic()
            body = await read_seat_list(self._pool, EventId(event_id))
            if len(self._lists) >= EVENTS_MAX:
                self._lists.clear()
            self._lists[event_id] = _List(made_at, body)
            return body
        finally:
            del self._making[event_id]
