"""What do tests of the admissions role have at hand? A database whose rooms are theirs alone, leaders, and a crowd."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
from redis.asyncio import Redis

from consumers.admissions import Admissions, terms_of
from consumers.waiting_rooms.beacon_voice import BeaconVoice
from consumers.waiting_rooms.command_backlog import CommandBacklog
from consumers.waiting_rooms.leader import Resources, RoomLeader
from contracts.ids import EventId, SeatId
from contracts.settings import Settings
from contracts.waiting_room import KeptEntry, LogEntry, LogKind, Phase
from contracts.waiting_room_proof import RoomProof
from db.migrate import migrate
from db.postgres import Pool, open_pool
from db.redis import open_redis
from db.waiting_room import WaitingRooms
from db.waiting_room_observations import WaitingRoomObservations
from db.waiting_room_records import RoomRecord, find_room, make_missing_rooms, read_whole_log
from ops.waiting_room.evidence import Evidence
from tests.eventually import eventually
from tests.waiting_rooms import Person, Room
from tests.written_events import write_event


@asynccontextmanager
async def a_database_of_its_own(settings: Settings) -> AsyncIterator[Settings]:
    """Settings that point at an empty, migrated database: a role that looks for rooms finds no other test's."""
    name = f"admissions_{uuid4().hex}"
    await _execute(settings.postgres_url, f"CREATE DATABASE {name}")
    own = urlunsplit(urlsplit(settings.postgres_url)._replace(path=f"/{name}"))
    try:
        await migrate(own)
        yield settings.model_copy(update={"postgres_url": own})
    finally:
        await _execute(settings.postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@dataclass
class AdmissionsWorld:
    """The role's servers, and everything that a test of it starts."""

    settings: Settings
    pool: Pool
    redis: Redis
    rooms: WaitingRooms
    backlog: CommandBacklog
    leaders: list[RoomLeader] = field(default_factory=list)
    running: list["Rounds"] = field(default_factory=list)

    def resources(self, process_id: str = "one", **fields: Any) -> Resources:
        """What a process of the role has."""
        return Resources(
            settings=self.settings,
            pool=self.pool,
            rooms=self.rooms,
            observations=WaitingRoomObservations(self.redis),
            backlog=self.backlog,
            beacon=BeaconVoice(()),
            process_id=process_id,
            **fields,
        )

    def admissions(self, process_id: str = "one") -> Admissions:
        """The role, of which the test makes each look."""
        return Admissions(self.resources(process_id), terms_of(self.settings))

    async def an_event(self, *, opens_in: timedelta = timedelta(seconds=-1), **fields: Any) -> EventId:
        """An event of high demand whose sale begins so far from now."""
        fields = {"off_sale_in": timedelta(hours=9), "seat_count": 100, **fields}
        event_id = await write_event(self.pool, on_sale_in=opens_in, status="upcoming", **fields)
        await self.pool.execute("UPDATE events SET high_demand = true WHERE id = $1", event_id)
        return event_id

    async def a_record(self, *, opens_in: timedelta = timedelta(seconds=-1), **fields: Any) -> RoomRecord:
        """An event of high demand, and the record of its room."""
        event_id = await self.an_event(opens_in=opens_in, **fields)
        await make_missing_rooms(self.pool, terms_of(self.settings))
        return await self.record(event_id)

    async def record(self, event_id: EventId) -> RoomRecord:
        """The room as it is written down."""
        record = await find_room(self.pool, event_id)
        assert record is not None
        return record

    def a_leader(self, record: RoomRecord, process_id: str = "one", **fields: Any) -> RoomLeader:
        """Somebody who may lead the room."""
        leader = RoomLeader(record, self.resources(process_id, **fields))
        self.leaders.append(leader)
        return leader

    def room(self, event_id: EventId) -> Room:
        """The room, in the words of its own tests."""
        return Room(self.rooms, self.redis, event_id=event_id)

    def runs(self, leader: RoomLeader) -> "Rounds":
        """Let the leader do its rounds, quicker than usual."""
        rounds = Rounds(self, leader)
        self.running.append(rounds)
        return rounds

    async def reaches(self, leader: RoomLeader, phase: Phase, within_seconds: float = 20.0) -> None:
        """Rounds until the room is in that phase."""

        async def is_there() -> bool:
            await leader.lead_once()
            await leader.keep_once()
            leader.update(await self.record(leader.event_id))
            return await self.phase(leader.event_id) is phase

        await eventually(is_there, within_seconds)

    async def phase(self, event_id: EventId) -> Phase | None:
        """Where the room stands in Redis."""
        facts = await self.rooms.facts(event_id)
        return Phase(facts["phase"]) if facts else None

    async def joined(self, event_id: EventId, count: int) -> list[Person]:
        """So many have joined, one after the other."""
        return await self.room(event_id).people(count)

    async def lose_room(self, event_id: EventId) -> None:
        """Redis has lost this room, and nothing else."""
        keys = [key async for key in self.redis.scan_iter(f"wr:{{{event_id}}}:*")]
        assert keys
        await self.redis.delete(*keys)

    async def kept_log(self, event_id: EventId) -> list[KeptEntry]:
        """What PostgreSQL has of it."""
        return [entry async for entry in read_whole_log(self.pool, event_id)]

    async def admitted(self, event_id: EventId) -> list[int]:
        """The tickets that were let in, in that order, by the copied log."""
        return [entry.ticket for entry in await self.kept_log(event_id) if entry.kind is LogKind.ADMITTED]

    async def evidence(self, event_id: EventId) -> Evidence:
        """What would be published."""
        record = await self.record(event_id)
        proof = RoomProof(
            event_id=event_id,
            event_name=record.event_name,
            public_keys=record.announcement.public_keys if record.announcement else (),
            announcement=record.announcement,
            frozen=record.frozen,
            revelation=record.revelation,
        )
        public = [
            LogEntry(**entry.model_dump(exclude={"place_id", "user_id"}, by_alias=False))
            for entry in await self.kept_log(event_id)
        ]
        return Evidence(proof, tuple(public), announced=record.announcement)

    async def set_seats(self, event_id: EventId, status: str, seat_ids: Sequence[SeatId] | None = None) -> None:
        """Have these seats (None: all) in that state, as if they had been sold or held."""
        await self.pool.execute(
            "UPDATE seats SET status = $2, hold_id = CASE WHEN $2 IN ('held', 'sold') THEN gen_random_uuid() END,"
            " order_id = CASE WHEN $2 = 'sold' THEN gen_random_uuid() END,"
            " held_until = CASE WHEN $2 = 'held' THEN now() + interval '1 hour' END"
            " WHERE event_id = $1 AND ($3::uuid[] IS NULL OR id = ANY ($3))",
            *(event_id, status, None if seat_ids is None else list(seat_ids)),
        )

    async def close(self) -> None:
        """End everything."""
        for rounds in self.running:
            await rounds.fall_silent()
        for leader in self.leaders:
            await leader.close()
        for event_id in [record["event_id"] for record in await self.pool.fetch("SELECT event_id FROM waiting_rooms")]:
            await self.rooms.remove(event_id)
            await WaitingRoomObservations(self.redis).forget(event_id)
        await self.backlog.close()
        await self.rooms.close()
        await self.redis.aclose()
        self.pool.terminate()


class Rounds:
    """A leader at work."""

    def __init__(self, world: AdmissionsWorld, leader: RoomLeader, *, pause_seconds: float = 0.05) -> None:
        self._world, self._leader, self._pause_seconds = world, leader, pause_seconds
        self._is_over = False
        self._task = asyncio.create_task(self._run())

    async def fall_silent(self) -> None:
        """No round any more, and no farewell: as if the process had been killed."""
        self._is_over = True
        await self._task

    async def _run(self) -> None:
        while not self._is_over:
            await self._leader.lead_once()
            await self._leader.keep_once()
            self._leader.update(await self._world.record(self._leader.event_id))
            await asyncio.sleep(self._pause_seconds)


@asynccontextmanager
async def an_admissions_world(settings: Settings) -> AsyncIterator[AdmissionsWorld]:
    """Everything for one test, with a database of its own."""
    async with a_database_of_its_own(settings) as own:
        pool = await open_pool(own, application_name="test of admissions")
        world = AdmissionsWorld(own, pool, open_redis(own), WaitingRooms(own), CommandBacklog(own))
        try:
            yield world
        finally:
            await world.close()
