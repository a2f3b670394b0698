"""How does each waiting room stand, as far as this process has heard within the last second?

One trip to Redis for each room and second, however many ask: everybody's position is computed from the same document. While
Redis is away what was heard last is shown for a while, with the time it was true at. Redis's clock is kept too: it is the
only one that judges a token's age.
"""

import asyncio
import gzip
import time
from typing import NamedTuple

from pydantic import ValidationError

from contracts.ids import EventId
from contracts.waiting_line import Breakpoint, Snapshot
from contracts.waiting_room import Phase
from db import waiting_room
from db.postgres import TRANSIENT_ERRORS, Pool
from db.read_cache import Document
from db.redis import REDIS_AWAY
from db.waiting_room import WaitingRooms
from db.waiting_room_observations import RoomPulse, WaitingRoomObservations
from db.waiting_room_records import RoomRecord, find_room
from ingress.http_cache import entity_tag
from ingress.responses import ProblemCode, Refusal, problem

FRESH_SECONDS = 1.0
# How long what was heard last is shown while Redis is away; afterwards we say that we do not know.
STALE_SECONDS = 30.0
# A healthy trip takes a few milliseconds; after a failure Redis is left alone for a moment, or everybody would wait in turn.
PATIENCE_SECONDS = 1.0
PAUSE_SECONDS = 0.5
# Terms and promises change seldom, and by hand.
RECORD_SECONDS = 2.0
# Of each some kilobytes; anybody can ask for a million ids that are no events.
ROOMS_KEPT_MAX = 1_000

# Before these the line has not begun to move.
BEFORE_OPENING = frozenset({Phase.CLOSED, Phase.PRE, Phase.SEALING})


class KnownRoom(NamedTuple):
    """A room as of a moment ago: for arithmetic, and as it is sent."""

    snapshot: Snapshot
    document: Document
    gzipped: bytes
    record: RoomRecord | None


class _Kept(NamedTuple):
    at: float
    room: KnownRoom | None


class RoomSnapshots:
    """The rooms that somebody has asked this process for."""

    def __init__(self, pool: Pool, rooms: WaitingRooms, observations: WaitingRoomObservations) -> None:
        self._pool = pool
        self._rooms = rooms
        self._observations = observations
        self._kept: dict[EventId, _Kept] = {}
        self._records: dict[EventId, tuple[float, RoomRecord | None]] = {}
        self._flights: dict[EventId, asyncio.Task[KnownRoom | None]] = {}
        self._away_until = float("-inf")
        self._redis_ahead_ms = time.time() * 1000 - time.monotonic() * 1000

    def now_ms(self) -> int:
        """Milliseconds since 1970 by Redis's clock, as far as we have heard; no jump of ours moves it."""
        return int(time.monotonic() * 1000 + self._redis_ahead_ms)

    def hear_clock(self, now_ms: int) -> None:
        """Redis has just said what time it is."""
        self._redis_ahead_ms = now_ms - time.monotonic() * 1000

    async def find(self, event_id: EventId) -> KnownRoom | None:
        """The event's room, at most a second old; None without one. Raises one of REDIS_AWAY or CoalescerFull."""
        kept = self._kept.get(event_id)
        if kept is not None and time.monotonic() - kept.at < FRESH_SECONDS:
            return kept.room
        try:
            return await self._heard(event_id)
        except REDIS_AWAY:
            if kept is not None and kept.room is not None and time.monotonic() - kept.at < STALE_SECONDS:
                return kept.room
            raise

    async def get(self, event_id: EventId) -> KnownRoom:
        """The same of a room that there must be; raises Refusal without one."""
        room = await self.find(event_id)
        if room is not None:
            return room
        record = await self.record(event_id)
        if record is None:
            raise Refusal(problem(ProblemCode.NO_WAITING_ROOM))
        raise Refusal(problem(ProblemCode.ROOM_CLOSED if record.ended_at else ProblemCode.ROOM_RESTORING))

    def forget(self, event_id: EventId) -> None:
        """Something about it has just been changed here."""
        self._kept.pop(event_id, None)
        self._records.pop(event_id, None)

    async def _heard(self, event_id: EventId) -> KnownRoom | None:
        """What Redis says now, to all who ask at once."""
        if time.monotonic() < self._away_until:
            raise ConnectionError("Redis was away a moment ago")
        flight = self._flights.get(event_id)
        if flight is None:
            flight = self._flights[event_id] = asyncio.create_task(self._load(event_id))
            flight.add_done_callback(lambda done: self._land(event_id, done))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                # Shielded: one client that hangs up must not take the snapshot from all the others.
                return await asyncio.shield(flight)
        except REDIS_AWAY:
            self._away_until = time.monotonic() + PAUSE_SECONDS
            raise

    def _land(self, event_id: EventId, done: "asyncio.Task[KnownRoom | None]") -> None:
        del self._flights[event_id]
        if not done.cancelled():
            done.exception()  # looked at: when all its askers have hung up, nobody else does

    async def _load(self, event_id: EventId) -> KnownRoom | None:
        seen, pulse = await asyncio.gather(self._rooms.snapshot(event_id), self._pulse(event_id))
        room = None
        if seen is not None:
            self.hear_clock(seen.at_ms)
            room = _known(seen, pulse, await self.record(event_id))
        if len(self._kept) >= ROOMS_KEPT_MAX:
            self._kept.clear()
        self._kept[event_id] = _Kept(time.monotonic(), room)
        return room

    async def _pulse(self, event_id: EventId) -> RoomPulse | None:
        try:
            return await self._observations.find_pulse(event_id)
        except ValidationError:
            # A leader of a newer version measures something else; the line goes on without it.
            return None

    async def record(self, event_id: EventId) -> RoomRecord | None:
        """What is written down of it; while PostgreSQL does not answer, what it said last."""
        read_at, record = self._records.get(event_id, (float("-inf"), None))
        if time.monotonic() - read_at < RECORD_SECONDS:
            return record
        try:
            record = await find_room(self._pool, event_id)
        except TRANSIENT_ERRORS:
            return record
        if len(self._records) >= ROOMS_KEPT_MAX:
            self._records.clear()
        # That there is none is not remembered: the room may be made, and be asked for, in the next moment.
        if record is not None:
            self._records[event_id] = time.monotonic(), record
        return record


def _known(seen: waiting_room.Snapshot, pulse: RoomPulse | None, record: RoomRecord | None) -> KnownRoom:
    snapshot = _public(seen, pulse or RoomPulse(at_ms=seen.at_ms), record)
    body = snapshot.model_dump_json().encode()
    return KnownRoom(snapshot, Document(entity_tag(body), body), gzip.compress(body, 6, mtime=0), record)


def _public(seen: waiting_room.Snapshot, pulse: RoomPulse, record: RoomRecord | None) -> Snapshot:
    is_before = record is not None and seen.phase in BEFORE_OPENING
    return Snapshot(
        at_ms=seen.at_ms,
        epoch=seen.epoch,
        phase=seen.phase,
        waiting=seen.waiting,
        ready=seen.ready,
        active=seen.active,
        joined=seen.joined,
        admitted=seen.admitted,
        opens_at_ms=int(record.opens_at.timestamp() * 1000) if record is not None and is_before else None,
        reason=pulse.reason if seen.phase in (Phase.OPEN, Phase.DRAINING) else seen.reason,
        points=tuple(Breakpoint(rank, ticket) for rank, ticket in seen.points),
        pace=pulse.pace,
    )
