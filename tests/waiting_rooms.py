"""What do tests of the waiting room have at hand? Rooms whose clock a test moves, rooms that are broken on purpose, people."""

import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from uuid import uuid4

from redis.asyncio import Redis

from contracts.ids import EventId, UserId
from contracts.settings import Settings
from contracts.waiting_room import KeptEntry, Phase, PlaceId
from db.waiting_room import (
    Admissions,
    Configured,
    RoomScripts,
    RoomSettings,
    Round,
    RoundResult,
    Standing,
    WaitingRooms,
)

CLOCK_LINE = "local now = time[1] * 1000 + math.floor(time[2] / 1000)"
START_MS = 1_800_000_000_000


def scripts_with(*changes: tuple[str, str]) -> RoomScripts:
    """The room's scripts with other words in them; each change must be found in at least one."""
    scripts = RoomScripts()
    for old, new in changes:
        changed = [_change(script, old.encode(), new.encode()) for script in vars(scripts).values()]
        assert any(changed), f"no script says {old!r} any more"
    return scripts


def _change(script: object, old: bytes, new: bytes) -> bool:
    text = script.text  # type: ignore[attr-defined]
    script.text = text.replace(old, new)  # type: ignore[attr-defined]
    script.digest = hashlib.sha1(script.text, usedforsecurity=False).hexdigest()  # type: ignore[attr-defined]
    return old in text


def a_place_id() -> PlaceId:
    """A new place's id."""
    return PlaceId(secrets.token_urlsafe(16))


@dataclass
class Person:
    """Somebody with an account, who may or may not have a place."""

    user_id: UserId = field(default_factory=lambda: UserId(uuid4()))
    place_id: PlaceId = field(default_factory=a_place_id)
    commitment: str = field(default_factory=lambda: secrets.token_hex(32))


@dataclass
class Room:
    """One event's waiting room, in the words of the tests."""

    rooms: WaitingRooms
    redis: Redis
    event_id: EventId = field(default_factory=lambda: EventId(uuid4()))
    now_ms: int = START_MS
    fence: int = 0

    async def pass_ms(self, milliseconds: int) -> None:
        """Time goes by, for a room whose clock the test moves."""
        self.now_ms += milliseconds
        await self.redis.set(f"clock:wr:{{{self.event_id}}}:meta", self.now_ms)

    async def lead(self, process_id: str = "leader") -> int:
        """Let that process lead."""
        fence = await self.rooms.elect(self.event_id, process_id)
        assert fence is not None
        self.fence = fence
        return fence

    async def join(self, person: Person | None = None) -> tuple[Person, Standing]:
        """Somebody joins, and does get in."""
        person = person or Person()
        standing = await self.rooms.join(self.event_id, person.user_id, person.place_id, person.commitment)
        assert isinstance(standing, Standing), standing
        person.place_id = standing.place_id
        return person, standing

    async def people(self, count: int) -> list[Person]:
        """So many join, one after the other."""
        return [(await self.join())[0] for _ in range(count)]

    async def poll(self, person: Person) -> Standing:
        """Where they stand."""
        standing = await self.rooms.poll(self.event_id, person.place_id, person.user_id)
        assert isinstance(standing, Standing), standing
        return standing

    async def claim(self, person: Person) -> Standing:
        """They take their turn, or return."""
        standing = await self.rooms.claim(self.event_id, person.place_id, person.user_id)
        assert isinstance(standing, Standing), standing
        return standing

    async def leave(self, person: Person) -> Standing:
        """They go."""
        standing = await self.rooms.leave(self.event_id, person.place_id, person.user_id)
        assert isinstance(standing, Standing), standing
        return standing

    async def check(self, *people: Person) -> Admissions:
        """What the engine asks."""
        return await self.rooms.check(self.event_id, [person.user_id for person in people])

    async def enter_phase(self, phase: Phase) -> None:
        """The operator says so, and may."""
        assert await self.rooms.set_phase(self.event_id, phase, "the test says so") == "changed"

    async def tick(self, *, after_ms: int = 1000) -> Round:
        """A round of the leader, after some time."""
        await self.pass_ms(after_ms)
        done = await self.rooms.tick(self.event_id, self.fence)
        assert done.result is RoundResult.OK, done
        return done

    async def log(self) -> list[KeptEntry]:
        """Everything that is in the log."""
        entries: list[KeptEntry] = []
        while page := await self.rooms.read_log(self.event_id, after_index=entries[-1].index if entries else -1):
            entries += page
        return entries

    async def line(self) -> list[PlaceId]:
        """Who is in line, first to last."""
        places = await self.redis.zrange(f"wr:{{{self.event_id}}}:q", 0, -1)
        return [PlaceId(place.decode()) for place in places]


def rooms_with_a_clock(settings: Settings, *changes: tuple[str, str]) -> WaitingRooms:
    """Waiting rooms whose clock is a key that the test sets."""
    clock = (CLOCK_LINE, "local now = tonumber(call('GET', 'clock:' .. META))")
    return WaitingRooms(settings, scripts_with(clock, *changes))


async def a_room(rooms: WaitingRooms, redis: Redis, phase: Phase | None = Phase.OPEN, **fields: float) -> Room:
    """A room in that phase, with a leader; for 10 people at a time and 1000 a second, unless fields say otherwise."""
    room = Room(rooms, redis)
    await room.pass_ms(0)
    settings = RoomSettings(**{"capacity": 10, "rate_per_second": 1000} | fields)  # type: ignore[arg-type]
    assert await rooms.configure(room.event_id, settings) is Configured.CREATED
    if phase is not None:
        await room.enter_phase(phase)
    await room.lead()
    return room


def in_pages(entries: list[KeptEntry], size: int) -> Iterator[list[KeptEntry]]:
    """The log in pages, as an exporter has it."""
    return (entries[start : start + size] for start in range(0, len(entries), size))


async def exported(entries: list[KeptEntry]) -> AsyncIterator[KeptEntry]:
    """The log as it comes back from where it was exported to."""
    for entry in entries:
        yield KeptEntry.model_validate_json(entry.model_dump_json())
