"""How many seats of each event on sale can still be had?

Looked up every few seconds by `lifecycle`, and only of events that have changed: a house of ten thousand costs PostgreSQL some
three milliseconds. With the rate of sales it says when a house will be sold out.
"""

import time
from collections.abc import Collection

from prometheus_client import Gauge

from contracts.ids import EventId
from db.postgres import Pool
from db.sale_measures import count_available, find_changed_sales
from db.telemetry.metrics import EVENT_LABEL

LOOK_EVERY_SECONDS = 5.0
# A round counts so many houses; the others have their turn in the next.
EVENTS_AT_ONCE_MAX = 50
NEVER = -1

AVAILABLE = Gauge("available_seats", "Seats that can be had", [EVENT_LABEL])


class SeatsLeft:
    """The gauge and where in its ledger each event was when it was last counted."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._seen: dict[EventId, int] = {}
        self._look_at = 0.0

    async def look(self, event_ids: Collection[EventId]) -> None:
        """Bring the figures of these events up to date, if it is time, and drop all others'. Raises PostgreSQL's errors."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_EVERY_SECONDS
        for event_id in set(self._seen) - set(event_ids):
            del self._seen[event_id]
            AVAILABLE.remove(str(event_id))
        looking = {event_id: self._seen.get(event_id, NEVER) for event_id in event_ids}
        changed = await find_changed_sales(self._pool, looking) if looking else {}
        turn = dict(sorted(changed.items(), key=lambda one: looking[one[0]] != NEVER)[:EVENTS_AT_ONCE_MAX])
        for event_id, count in (await count_available(self._pool, turn) if turn else {}).items():
            AVAILABLE.labels(str(event_id)).set(count)
            self._seen[event_id] = turn[event_id]
