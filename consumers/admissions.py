"""Who runs the waiting rooms?

This role. It makes a room for every event of high demand that has none, leads the rooms that nobody else leads, each beside the
others, and has Redis forget those whose sale has long been over. Several processes may run it: of each room one leads, and when
it is silent for two seconds another does. What a leader does is in `consumers/waiting_rooms/`.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from consumers.waiting_rooms.beacon_voice import BeaconVoice
from consumers.waiting_rooms.command_backlog import CommandBacklog
from consumers.waiting_rooms.leader import IDLE_ROUND_SECONDS, KEEP_SECONDS, PASSING, Resources, RoomLeader
from contracts.beacon import BEACONS, BeaconSource
from contracts.ids import EventId
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from db.postgres import open_pool
from db.redis import open_redis
from db.waiting_room import WaitingRooms
from db.waiting_room_observations import WaitingRoomObservations
from db.waiting_room_records import (
    KEPT_AFTER_SALE_SECONDS,
    NewRoomTerms,
    RoomRecord,
    list_rooms_to_run,
    make_missing_rooms,
    mark_forgotten,
)

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 1.0
# So many rooms at once ask PostgreSQL something; the others wait for a moment, and let people in meanwhile.
KEPT_AT_ONCE = 8
POOL_SIZE = 10
PAUSE_AFTER_FAILURE_SECONDS = 0.5
# After something that nobody expected: that room alone pauses, and the log says why.
PAUSE_AFTER_FAULT_SECONDS = 5.0
# A round takes as long as its servers let it, which is bounded by their timeouts.
STOP_SECONDS = 8.0


class Admissions:
    """The rooms of this process."""

    def __init__(self, with_: Resources, terms: NewRoomTerms) -> None:
        self._with, self._terms = with_, terms
        self._running: dict[EventId, RunningRoom] = {}
        self._keeping = asyncio.Semaphore(KEPT_AT_ONCE)

    async def look_once(self) -> None:
        """Make the rooms that are missing, begin with those that are new, forget those that are long over."""
        for event_id in await make_missing_rooms(self._with.pool, self._terms):
            log.info("waiting_room_announced", extra={"event_id": event_id})
        records = await list_rooms_to_run(self._with.pool)
        for record in records:
            if is_to_be_forgotten(record):
                await self._forget(record.event_id)
            else:
                self._run(record)
        for event_id in self._running.keys() - {record.event_id for record in records}:
            await self._stop(event_id)

    async def close(self) -> None:
        """Stop leading; others may at once."""
        await asyncio.gather(*(self._stop(event_id) for event_id in list(self._running)))

    def _run(self, record: RoomRecord) -> None:
        running = self._running.get(record.event_id)
        if running is None:
            running = self._running[record.event_id] = RunningRoom(RoomLeader(record, self._with), self._keeping)
        running.leader.update(record)

    async def _stop(self, event_id: EventId) -> None:
        await self._running.pop(event_id).stop()

    async def _forget(self, event_id: EventId) -> None:
        if event_id in self._running:
            await self._stop(event_id)
        await self._with.rooms.remove(event_id)
        await self._with.observations.forget(event_id)
        await mark_forgotten(self._with.pool, event_id)
        log.info("waiting_room_forgotten", extra={"event_id": event_id})


class RunningRoom:
    """One room's two loops. They end between two rounds: what is cancelled half-way leaves connections half-read."""

    def __init__(self, leader: RoomLeader, keeping: asyncio.Semaphore) -> None:
        self.leader = leader
        self._keeping = keeping
        self._stopping = asyncio.Event()
        self._loops = {
            asyncio.create_task(self._again_and_again(act), name=f"{act.__name__} {leader.event_id}")
            for act in (self._lead, self._keep)
        }

    async def stop(self) -> None:
        """End after the round that is under way, and let another process lead at once."""
        self._stopping.set()
        _, late = await asyncio.wait(self._loops, timeout=STOP_SECONDS)
        for task in late:
            log.error("waiting_room_does_not_stop", extra={"event_id": self.leader.event_id})
            task.cancel()
        await self.leader.close()

    async def _lead(self) -> float:
        await self.leader.lead_once()
        return self.leader.round_seconds

    async def _keep(self) -> float:
        async with self._keeping:
            await self.leader.keep_once()
        return KEEP_SECONDS if self.leader.is_leading else IDLE_ROUND_SECONDS / 2

    async def _again_and_again(self, act: Callable[[], Awaitable[float]]) -> None:
        """Rounds begin when they are due, however long the one before took; one room's trouble is its own."""
        clock = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began_at = clock.time()
            pause = await self._one_round(act)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), max(0.0, pause - (clock.time() - began_at)))

    async def _one_round(self, act: Callable[[], Awaitable[float]]) -> float:
        """How long to pause after it."""
        told = {"event_id": self.leader.event_id}
        try:
            return await act()
        except PASSING as problem:
            log.warning("waiting_room_round_failed", extra={**told, "reason": repr(problem)})
            return PAUSE_AFTER_FAILURE_SECONDS
        except Exception:
            log.exception("waiting_room_round_broken", extra=told)
            return PAUSE_AFTER_FAULT_SECONDS


def is_to_be_forgotten(record: RoomRecord) -> bool:
    """Has it ended, and its sale too, so long ago that nobody looks at it any more?"""
    if record.ended_at is None or not record.is_sale_over(record.read_at):
        return False
    return record.read_at > record.ended_at + timedelta(seconds=KEPT_AFTER_SALE_SECONDS)


def terms_of(settings: Settings) -> NewRoomTerms:
    """What new rooms are made with."""
    return NewRoomTerms(
        capacity=settings.room_capacity,
        rate_per_second=settings.room_rate_per_second,
        gather_seconds=settings.room_gather_seconds,
        beacon=BeaconSource(settings.beacon),
        public_keys=SigningKeys.of(settings).public_keys,
    )


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """Run the rooms until told to stop."""
    if settings.environment == "production" and not BEACONS[BeaconSource(settings.beacon)].is_verifiable:
        log.warning("draws_not_verifiable", extra={"what_to_do": "set BOXOFFICE_BEACON=drand-quicknet"})
    pool = await open_pool(settings, application_name="boxoffice admissions", size=POOL_SIZE)
    rooms, redis, backlog = WaitingRooms(settings), open_redis(settings), CommandBacklog(settings)
    admissions = Admissions(
        Resources(
            settings=settings,
            pool=pool,
            rooms=rooms,
            observations=WaitingRoomObservations(redis),
            backlog=backlog,
            beacon=BeaconVoice(settings.beacon_relay_list),
            process_id=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
        ),
        terms_of(settings),
    )
    try:
        while not stopping.is_set():
            try:
                await admissions.look_once()
            except PASSING as problem:
                log.warning("waiting_rooms_not_read", extra={"reason": repr(problem)})
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), LOOK_EVERY_SECONDS)
    finally:
        await admissions.close()
        await rooms.close()
        await backlog.close()
        await redis.aclose()
        await pool.close()
