"""What does a waiting room cost Redis: a join, a poll, a round, a snapshot, and somebody who waits?

`python -m ops.bench.waiting_room` asks the scripts directly, 500 calls a trip, so that it is their cost and not the
client's. The machine is never quiet, so a rate is also told as a part of bare PINGs of the same minute, and a cost as CPU of
Redis itself.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from redis.asyncio import Redis

from contracts.ids import EventId
from contracts.settings import Settings
from contracts.waiting_room import Phase
from db.redis import ScriptCalls
from db.waiting_room import KEYS, PLACES_KEY_COUNT, RoomScripts, RoomSettings, WaitingRooms, room_keys

CALLS_PER_TRIP: Final = 500
# While Redis runs the one, the other is packed and read here: else each would wait for the other half of the time.
TRIPS_AT_ONCE: Final = 2
ROUNDS: Final = 20


@dataclass(frozen=True)
class Cost:
    """Calls a second as the client saw them, and the CPU that Redis spent on each."""

    per_second: float
    cpu_microseconds: float


@dataclass(frozen=True)
class RoomCosts:
    """What was measured, with so many people in the room."""

    people: int
    ping: Cost
    join: Cost
    poll: Cost
    round_of_500: Cost
    snapshot: Cost
    bytes_per_person: float


async def measure(settings: Settings, people: int = 50_000) -> RoomCosts:
    """Fill a room of its own, ask it things, and remove it."""
    rooms, event_id = WaitingRooms(settings), EventId(uuid4())
    places = RoomScripts().places
    lanes = [ScriptCalls(settings, places) for _ in range(TRIPS_AT_ONCE)]
    await rooms.configure(event_id, RoomSettings(capacity=people, rate_per_second=1_000_000))
    await rooms.set_phase(event_id, Phase.OPEN, "bench")
    everybody = [(uuid4().bytes, secrets.token_urlsafe(16), secrets.token_bytes(32)) for _ in range(people)]
    keys = room_keys(event_id, PLACES_KEY_COUNT)
    try:
        async with Redis.from_url(settings.redis_url) as redis:
            ping = await cost_of(redis, people, lambda: _pings(redis, people))
            join = await cost_of(redis, people, lambda: _trips(lanes, [(*keys, "join", *one) for one in everybody]))
            poll = await cost_of(redis, people, lambda: _trips(lanes, [(*keys, "poll", *one[:2]) for one in everybody]))
            size = await _bytes(redis, event_id) / people
            snapshot = await cost_of(redis, ROUNDS, lambda: _snapshots(rooms, event_id))
            admitting = await cost_of(redis, ROUNDS, lambda: _rounds(rooms, event_id))
            return RoomCosts(people, ping, join, poll, admitting, snapshot, size)
    finally:
        await rooms.remove(event_id)
        for lane in lanes:
            await lane.close()
        await rooms.close()


async def cost_of(redis: Redis, count: int, work: Callable[[], Awaitable[None]]) -> Cost:
    """What `count` calls cost that `work` makes."""
    cpu, began = await _cpu_seconds(redis), time.perf_counter()
    await work()
    seconds, spent = time.perf_counter() - began, await _cpu_seconds(redis) - cpu
    return Cost(per_second=count / seconds, cpu_microseconds=spent / count * 1e6)


async def _cpu_seconds(redis: Redis) -> float:
    told: dict[str, float] = await redis.info("cpu")
    return told["used_cpu_user_main_thread"] + told["used_cpu_sys_main_thread"]


async def _trips(lanes: Sequence[ScriptCalls], calls: Sequence[Sequence[Any]]) -> None:
    starts = iter(range(0, len(calls), CALLS_PER_TRIP))

    async def travel(lane: ScriptCalls) -> None:
        for start in starts:
            await lane.run(calls[start : start + CALLS_PER_TRIP])

    await asyncio.gather(*map(travel, lanes))


async def _pings(redis: Redis, count: int) -> None:
    for _ in range(0, count, CALLS_PER_TRIP):
        pipeline = redis.pipeline(transaction=False)
        for _ in range(CALLS_PER_TRIP):
            pipeline.ping()
        await pipeline.execute()


async def _snapshots(rooms: WaitingRooms, event_id: EventId) -> None:
    for _ in range(ROUNDS):
        await rooms.snapshot(event_id, fresh_ms=0)


async def _rounds(rooms: WaitingRooms, event_id: EventId) -> None:
    fence = await rooms.elect(event_id, "bench") or 0
    for _ in range(ROUNDS):
        await rooms.tick(event_id, fence)


async def _bytes(redis: Redis, event_id: EventId) -> int:
    _, *keys = room_keys(event_id, len(KEYS))
    return sum([await redis.memory_usage(str(key), samples=0) or 0 for key in keys])


async def _main() -> None:
    costs = await measure(Settings.read(os.environ))
    print(f"{costs.people:,} people, {costs.bytes_per_person:.0f} bytes each")
    for name in ("ping", "join", "poll", "snapshot", "round_of_500"):
        cost: Cost = getattr(costs, name)
        share = cost.per_second / costs.ping.per_second
        print(
            f"{name:>14}  {cost.per_second:>10,.0f}/s  {cost.cpu_microseconds:>10,.1f} µs of Redis  {share:.3f} of ping"
        )


if __name__ == "__main__":
    asyncio.run(_main())
