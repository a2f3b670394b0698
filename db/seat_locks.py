"""Which seats is somebody else reserving right now?

The fast filter before PostgreSQL: `seat_lock:{event}:<seat>` holds the id of the hold that is being made. It saves the
database the losers of a rush and decides nothing: a lock that is lost, stale or never taken costs speed or a spurious
refusal, never a seat. Keys carry the event's hash tag, so one event is on one node of a cluster.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from contracts.settings import Settings
from db.coalescer import Coalescer
from db.redis import Script, ScriptCalls

# Until the batch is committed. A consumer that dies in between leaves its seats locked for no longer than this.
PENDING_MS = 10_000

# Batches of different events share a round trip; more than a few at once would only make the others wait longer.
_BATCHES_PER_TRIP = 16

Call = list[str | int]


@dataclass(slots=True)
class WantedSeats:
    """One reservation's seats; the token is the hold's id, so that a redelivered command passes its own locks."""

    token: UUID
    seat_ids: Sequence[UUID]
    _written: tuple[str, list[str]] | None = None

    def written(self, prefix: str) -> tuple[str, list[str]]:
        """The token and the locks' keys as text. Made once: taking and settling both need them, five hundred a batch."""
        if self._written is None:
            self._written = str(self.token), [f"{prefix}{seat_id}" for seat_id in self.seat_ids]
        return self._written


class SeatLocks:
    """The seat locks of all events. Every method is one bounded round trip and raises one of `db.redis.REDIS_AWAY`."""

    def __init__(self, settings: Settings) -> None:
        self._timeout_seconds = settings.redis_timeout_seconds
        self._take = ScriptCalls(settings, Script("take_seat_locks"))
        self._settle = ScriptCalls(settings, Script("settle_seat_locks"))
        self._taking = Coalescer(self._bounded(self._take), batch_max=_BATCHES_PER_TRIP)
        self._settling = Coalescer(self._bounded(self._settle), batch_max=_BATCHES_PER_TRIP)

    async def take(self, event_id: UUID, wanted: Sequence[WantedSeats]) -> list[UUID | None]:
        """For each reservation None if all its seats are now locked for it, else a seat that somebody else has."""
        prefix, keys = _prefix(event_id), list[str]()
        arguments: Call = [PENDING_MS]
        for one in wanted:
            token, keys_of_one = one.written(prefix)
            keys += keys_of_one
            arguments += (token, len(keys_of_one))
        lost_at = await self._taking.ask([len(keys), *keys, *arguments])
        return [one.seat_ids[position - 1] if position else None for one, position in zip(wanted, lost_at, strict=True)]

    async def settle(self, event_id: UUID, wanted: Sequence[WantedSeats], keep_ms: Sequence[int]) -> None:
        """Keep each reservation's locks for so many milliseconds; 0 gives them up."""
        prefix, keys = _prefix(event_id), list[str]()
        arguments: Call = []
        for one, milliseconds in zip(wanted, keep_ms, strict=True):
            token, keys_of_one = one.written(prefix)
            keys += keys_of_one
            arguments += (token, len(keys_of_one), milliseconds)
        await self._settling.ask([len(keys), *keys, *arguments])

    async def close(self) -> None:
        """Disconnect."""
        await self._take.close()
        await self._settle.close()

    def _bounded(self, script: ScriptCalls) -> Any:
        async def run(calls: Sequence[Call]) -> list[Any]:
            async with asyncio.timeout(self._timeout_seconds):
                return await script.run(calls)

        return run


def _prefix(event_id: UUID) -> str:
    return f"seat_lock:{{{event_id}}}:"
