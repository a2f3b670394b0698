"""Which seats can be had, for those who need not know it to the second?

The answer while nobody watches the event (it is not on sale, or the broker is away): from Redis, where it grows as old as
the seed allows, else from PostgreSQL. However many ask at once, one of each process reads.
"""

import asyncio
from contextlib import suppress

from pydantic import ValidationError
from redis.asyncio import Redis

from contracts.ids import EventId
from contracts.value import Value
from db.named_queries import queries
from db.postgres import Pool
from db.redis import REDIS_AWAY
from db.seat_views import SaleStatus

_sql = queries("availability_cache")

# The seed's: how long an answer may be kept.
FRESH_SECONDS: dict[SaleStatus, int] = {
    "on_sale": 5,
    "upcoming": 30,
    "sold_out": 60,
    "completed": 60,
    "cancelled": 60,
}
# A buyer waits less long for PostgreSQL than for a Redis that does not answer.
REDIS_TIMEOUT_SECONDS = 0.25


class Availability(Value):
    """One character for each seat, in the order of the map: `a` available, `h` held, `s` sold, `w` withheld.

    `version` goes up by one with every change of a seat; of two answers the one with the higher version is the newer.
    """

    event_id: EventId
    version: int
    status: SaleStatus
    available_count: int
    seats: str


class AvailabilityCache:
    """Answers from Redis, or else from PostgreSQL."""

    def __init__(self, pool: Pool, redis: Redis) -> None:
        self._pool = pool
        self._redis = redis
        self._reading: dict[EventId, asyncio.Task[Availability | None]] = {}

    async def find(self, event_id: EventId) -> Availability | None:
        """The event's availability, as old as FRESH_SECONDS allows; None when there is no such event."""
        reading = self._reading.get(event_id)
        if reading is None:
            reading = self._reading[event_id] = asyncio.create_task(self._find(event_id))
            reading.add_done_callback(lambda _: self._reading.pop(event_id))
        # Shielded: one client that hangs up must not take the answer from all the others.
        return await asyncio.shield(reading)

    async def _find(self, event_id: EventId) -> Availability | None:
        kept = await self._kept(event_id)
        if kept is not None:
            return kept
        record = await self._pool.fetchrow(_sql.read_availability, event_id)
        if record is None:
            return None
        found = Availability(
            event_id=event_id,
            version=record["ledger_seq"],
            status=record["status"],
            available_count=record["seats"].count("a"),
            seats=record["seats"],
        )
        fresh_seconds = FRESH_SECONDS["on_sale" if record["is_presale"] else found.status]
        await self._keep(found, fresh_seconds, opens_in_seconds=record["opens_in_seconds"])
        return found

    async def _kept(self, event_id: EventId) -> Availability | None:
        with suppress(*REDIS_AWAY, ValidationError):
            async with asyncio.timeout(REDIS_TIMEOUT_SECONDS):
                body = await self._redis.get(_key(event_id))
            return None if body is None else Availability.model_validate_json(body)
        return None

    async def _keep(self, found: Availability, fresh_seconds: int, *, opens_in_seconds: float) -> None:
        seconds = float(fresh_seconds)
        if opens_in_seconds > 0:
            # "Not yet on sale" must not outlive the opening.
            seconds = min(seconds, opens_in_seconds)
        with suppress(*REDIS_AWAY):
            async with asyncio.timeout(REDIS_TIMEOUT_SECONDS):
                await self._redis.set(_key(found.event_id), found.model_dump_json(), px=max(1, round(seconds * 1000)))


def _key(event_id: EventId) -> str:
    return f"availability:{{{event_id}}}"
