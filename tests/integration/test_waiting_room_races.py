"""Everybody at once, on a real Redis with its own clock: is every promise of the room kept, and would we notice if not?

The promises are read from the log (`contracts.waiting_room_log.check_log`). The negative controls run rooms that are broken
on purpose in the same crowd.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis

from contracts.draw import Entrant, drawn_order
from contracts.settings import Settings
from contracts.waiting_room import KeptEntry, LogKind, Phase, PlaceState
from contracts.waiting_room_log import WAITING, check_log, read_through
from db.waiting_room import (
    CohortEntry,
    DrawStep,
    PhaseChange,
    RoomScripts,
    RoomSettings,
    RoundResult,
    Sealing,
    WaitingRooms,
)
from tests.eventually import eventually
from tests.waiting_rooms import Person, Room, a_place_id, scripts_with

CAPACITY = 12
SEED = b"\x5e" * 32
# Times as short as a busy machine allows, so that every deadline passes for somebody within seconds.
SHORT = RoomSettings(
    capacity=CAPACITY,
    rate_per_second=2_000,
    claim_ms=150,
    lease_ms=250,
    lease_cap_ms=600,
    near_ms=400,
    deep_ms=800,
    near_rank=20,
    return_ms=2_000,
)


@dataclass
class Crowd:
    """People who come again and again, each doing at the head of the line what they feel like."""

    room: Room
    dice: random.Random
    visits: int
    came_to: Counter[str] = field(default_factory=Counter)
    is_over: bool = False

    async def visit(self, person: Person) -> None:
        """Come so many times; two devices at once, and sometimes a stranger who tries the place."""
        for _ in range(self.visits):
            person.place_id = a_place_id()
            twin = Person(user_id=person.user_id)
            (_, first), (_, second) = await asyncio.gather(self.room.join(person), self.room.join(twin))
            assert first.ticket == second.ticket
            person.place_id = first.place_id
            await self._wait_and_act(person)

    async def _wait_and_act(self, person: Person) -> None:
        whim = self.dice.choice(
            ["buys", "buys", "idles", "misses", "misses twice", "leaves", "falls silent", "leaves ready"]
        )
        self.came_to[whim] += 1
        if whim == "leaves":
            await self.room.leave(person)
            return
        if whim == "falls silent":
            return
        if await self._until_ready(person) is not PlaceState.READY:
            return
        await self._use_turn(person, whim)

    async def _use_turn(self, person: Person, whim: str) -> None:
        if whim == "leaves ready":
            await self.room.leave(person)
        elif whim.startswith("misses"):
            await self._until_gone(person)
            await self.room.claim(person)  # back at the head, once
            if await self._until_ready(person) is PlaceState.READY:
                await (self._until_gone(person) if whim == "misses twice" else self.room.claim(person))
        else:
            await self._shop(person, whim)

    async def _shop(self, person: Person, whim: str) -> None:
        claimed = await self.room.claim(person)
        if claimed.state is not PlaceState.ACTIVE:
            return
        assert (await self.room.claim(person)).until_ms == claimed.until_ms
        await self.room.rooms.extend_lease(self.room.event_id, person.user_id, claimed.now_ms)
        await self.room.check(person)
        if whim == "buys":
            await self.room.rooms.release(self.room.event_id, person.user_id)
        else:
            await self._until_gone(person)

    async def _until_ready(self, person: Person) -> PlaceState:
        return await self._until(person, PlaceState.READY, PlaceState.ACTIVE, PlaceState.GONE)

    async def _until_gone(self, person: Person) -> PlaceState:
        return await self._until(person, PlaceState.WAITING, PlaceState.GONE)

    async def _until(self, person: Person, *states: PlaceState) -> PlaceState:
        async def state() -> PlaceState | None:
            standing = await self.room.poll(person)
            return standing.state if standing.state in states else None

        return await eventually(state, within_seconds=60) or states[0]


async def lead(rooms: WaitingRooms, room: Room, crowd: Crowd, name: str) -> Counter[RoundResult]:
    """A process that leads when it can, and goes on with its old fence when it has been replaced, as a frozen one would."""
    results: Counter[RoundResult] = Counter()
    fence = 0
    while not crowd.is_over:
        fence = fence or await rooms.elect(room.event_id, name) or 0
        result = (await rooms.tick(room.event_id, fence)).result
        results[result] += 1
        if crowd.dice.random() < 0.1:
            await rooms.resign(room.event_id, name)
        if result is RoundResult.FENCED and crowd.dice.random() < 0.3:
            fence = 0
        await asyncio.sleep(0.005)
    return results


async def disturb(rooms: WaitingRooms, room: Room, crowd: Crowd) -> None:
    """An operator who cannot leave it alone."""
    while not crowd.is_over:
        await asyncio.sleep(0.05)
        assert await rooms.set_phase(room.event_id, Phase.PAUSED, "a hiccup") is PhaseChange.CHANGED
        await rooms.steer(
            room.event_id, capacity=crowd.dice.randint(5, CAPACITY), rate_per_second=2_000, why="a controller"
        )
        assert await rooms.set_phase(room.event_id, Phase.OPEN, "go on") is PhaseChange.CHANGED


@asynccontextmanager
async def processes(settings: Settings, scripts: RoomScripts, count: int) -> AsyncIterator[list[WaitingRooms]]:
    """So many processes of ours, each with its own connections."""
    opened = [WaitingRooms(settings, scripts) for _ in range(count)]
    yield opened
    for rooms in opened:
        await rooms.close()


@dataclass
class Outcome:
    """What a crowd left behind."""

    crowd: Crowd
    rounds: Counter[RoundResult]
    entries: list[KeptEntry]


async def a_rush(
    settings: Settings, redis: Redis, scripts: RoomScripts, *, people: int = 90, visits: int = 4
) -> Outcome:
    """Many people, two leaders who compete, an operator; afterwards the line is served until nobody is left."""
    async with processes(settings, scripts, 4) as (mine, *theirs):
        room = Room(mine, redis)
        await mine.configure(room.event_id, SHORT)
        await mine.set_phase(room.event_id, Phase.OPEN, "it is time")
        crowd = Crowd(room, random.Random(4), visits)
        leaders = [asyncio.create_task(lead(theirs[0], room, crowd, "one"))]
        leaders.append(asyncio.create_task(lead(theirs[1], room, crowd, "two")))
        operator = asyncio.create_task(disturb(theirs[2], room, crowd))
        await asyncio.gather(*(crowd.visit(Person()) for _ in range(people)))
        await until_empty(room)
        crowd.is_over = True
        await operator
        rounds = sum(await asyncio.gather(*leaders), Counter[RoundResult]())
        return Outcome(crowd, rounds, await room.log())


async def until_empty(room: Room) -> None:
    """The silent ones are taken out in their time."""

    async def is_empty() -> bool:
        snapshot = await room.rooms.snapshot(room.event_id, fresh_ms=0)
        return snapshot is not None and not snapshot.waiting + snapshot.ready + snapshot.active

    await eventually(is_empty, within_seconds=60)


async def test_every_promise_is_kept_when_everybody_acts_at_once(settings: Settings, redis: Redis) -> None:
    rush = await a_rush(settings, redis, RoomScripts())
    assert check_log(rush.entries) == []
    on_paper, _ = read_through(rush.entries)
    happened = {kind for kind, count in on_paper.counts.items() if count}
    # It was no crowd if something never happened.
    assert happened == set(LogKind) - {LogKind.SEALED, LogKind.DEMOTED}, rush.crowd.came_to
    # Who fell silent and came again in time has the place they had.
    assert 90 <= on_paper.counts[LogKind.JOINED] == len(on_paper.people) <= 360
    assert on_paper.waiting_count == on_paper.ready_count == on_paper.active_count == 0
    assert rush.rounds[RoundResult.FENCED] > 0
    assert rush.rounds[RoundResult.OK] > 0


async def seal(rooms: WaitingRooms, room: Room) -> DrawStep:
    """A process that draws; another may begin again at any moment, and then this one comes to nothing."""
    sealing = await rooms.begin_seal(room.event_id, "it is time")
    if not isinstance(sealing, Sealing):
        return sealing
    joined: dict[int, CohortEntry] = {}
    page = await rooms.read_cohort(room.event_id, count=10)
    while page.next_after is not None:
        joined |= {entry.ticket: entry for entry in page.entries}
        page = await rooms.read_cohort(room.event_id, after=page.next_after, count=10)
    joined |= {entry.ticket: entry for entry in page.entries}
    order = drawn_order(SEED, [Entrant(entry.ticket, entry.commitment) for entry in joined.values()])
    for start in range(0, len(order), 7):
        places = [joined[ticket].place_id for ticket in order[start : start + 7]]
        step = await rooms.write_drawn(room.event_id, sealing.attempt, first_ticket=start + 1, place_ids=places)
        if step is not DrawStep.OK:
            return step
    return await rooms.finish_seal(room.event_id, sealing.attempt, seed=SEED.hex(), beacon_round=1)


async def test_a_draw_loses_nobody_while_people_come_and_go_and_sealers_compete(
    settings: Settings, redis: Redis
) -> None:
    async with processes(settings, RoomScripts(), 4) as (mine, *sealers):
        room, dice = Room(mine, redis), random.Random(4)
        await mine.configure(room.event_id, RoomSettings(capacity=1_000, rate_per_second=1_000_000))
        await mine.set_phase(room.event_id, Phase.PRE, "come in")
        people = await room.people(150)

        async def come_and_go(leaver: Person) -> Person | None:
            if dice.random() < 0.3:
                await room.leave(leaver)
            return (await room.join())[0] if dice.random() < 0.5 else None

        crowd = asyncio.gather(*(come_and_go(person) for person in people))
        steps = await asyncio.gather(*(seal(rooms, room) for rooms in sealers))
        await crowd
        assert DrawStep.OK in steps, steps
        line = await room.line()
        on_paper, faults = read_through(await room.log())
        assert faults == []
        waiting = sorted((one for one in on_paper.people.values() if one.kind in WAITING), key=lambda one: one.ticket)
        assert line == [one.place_id for one in waiting]
        assert set(steps) <= {DrawStep.OK, DrawStep.FENCED, DrawStep.ILLEGAL}


# ---- would we notice?

TICKET = "local line, ticket = LINE, last_ticket + 1"
FREE = "setting('capacity') - call('ZCARD', READY) - call('ZCARD', ACTIVE)"
FENCE = "if tonumber(fence) ~= setting('fence') then"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ((TICKET, "local line, ticket = LINE, now"), "tickets are given one after the other"),
        ((FREE, "setting('capacity') - call('ZCARD', ACTIVE)"), "are more than"),
        ((FENCE, "if false then"), "admitted after one of fence"),
        (("call('ZPOPMIN', LINE, count)", "call('ZPOPMAX', LINE, count)"), "was admitted before"),
        (
            ("if lives(kind) then\n      call('HINCRBY'", "if false then\n      call('HINCRBY'"),
            "has a live place already",
        ),
        (("returned ~= '0' or not is_served", "not is_served"), "a missed turn gives one return"),
        (("if not ADMITS[phase] or", "if"), "admitted to a room that was paused"),
        (("entries = entries + 1", "entries = entries + 2"), "the log has a gap"),
    ],
    ids=[
        "ticket from the clock",
        "ready takes no slot",
        "no fence",
        "last first",
        "two places",
        "return twice",
        "paused",
        "gap",
    ],
)
async def test_a_broken_room_is_noticed(settings: Settings, redis: Redis, change: tuple[str, str], fault: str) -> None:
    # A broken room may also trip the crowd; what counts is what its log says.
    faults = await faults_of_a_broken_room(settings, redis, scripts_with(change))
    assert any(fault in one for one in faults), faults[:5]


async def faults_of_a_broken_room(settings: Settings, redis: Redis, scripts: RoomScripts) -> list[str]:
    """What the log of a smaller crowd says."""
    async with processes(settings, scripts, 3) as (mine, *theirs):
        room = Room(mine, redis)
        await mine.configure(room.event_id, SHORT)
        await mine.set_phase(room.event_id, Phase.OPEN, "it is time")
        crowd = Crowd(room, random.Random(4), 3)
        tasks = [asyncio.create_task(lead(rooms, room, crowd, str(rooms))) for rooms in theirs]
        tasks.append(asyncio.create_task(disturb(mine, room, crowd)))
        await asyncio.gather(*(crowd.visit(Person()) for _ in range(40)), return_exceptions=True)
        crowd.is_over = True
        await asyncio.gather(*tasks, return_exceptions=True)
        return check_log(await room.log())
