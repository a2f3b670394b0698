"""Is a room's log safe in PostgreSQL, and does a room that Redis has lost come back as it was?"""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from consumers.waiting_rooms.leader import RoomLeader
from consumers.waiting_rooms.log_mirror import LogLost, LogMirror
from contracts.settings import Settings
from contracts.waiting_room import LogKind, Phase, PlaceState
from contracts.waiting_room_log import check_log
from db.waiting_room import CohortEntry
from db.waiting_room_records import RoomRecord, append_log, set_terms, want_phase
from tests.admissions_world import AdmissionsWorld, an_admissions_world
from tests.eventually import eventually


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[AdmissionsWorld]:
    async with an_admissions_world(settings) as world:
        yield world


async def an_open_room(world: AdmissionsWorld, *, capacity: int = 500) -> tuple[RoomRecord, RoomLeader]:
    """A room that lets that many in, and its leader."""
    record = await world.a_record()
    await set_terms(world.pool, record.event_id, capacity=capacity)
    leader = world.a_leader(await world.record(record.event_id))
    await world.reaches(leader, Phase.OPEN)
    return record, leader


async def test_everything_that_happens_is_copied_once_and_may_then_be_forgotten(world: AdmissionsWorld) -> None:
    record, leader = await an_open_room(world)
    people = await world.joined(record.event_id, 30)
    await world.room(record.event_id).leave(people[3])
    in_redis = await world.room(record.event_id).log()
    await leader.keep_once()
    kept = await world.kept_log(record.event_id)
    assert [entry.index for entry in kept] == list(range(len(kept)))
    assert kept[-len(in_redis) :] == in_redis
    assert check_log(kept) == []
    facts = await world.rooms.facts(record.event_id)
    assert int(facts["exported"]) == len(kept)


async def test_two_copiers_at_once_leave_no_gap_and_no_entry_twice(world: AdmissionsWorld) -> None:
    record, leader = await an_open_room(world)
    await leader.close()
    mirrors = [LogMirror(world.pool, world.rooms, record.event_id) for _ in range(2)]
    copied = 0
    for _ in range(5):
        await world.joined(record.event_id, 10)
        entry_count = int((await world.rooms.facts(record.event_id))["entries"])
        for mirror in mirrors:
            copied += len(await mirror.copy(entry_count=entry_count))
    kept = await world.kept_log(record.event_id)
    assert [entry.index for entry in kept] == list(range(len(kept)))
    assert copied >= 50
    assert sum(entry.kind is LogKind.JOINED for entry in kept) == 50


async def test_a_room_that_redis_lost_in_the_middle_of_a_sale_comes_back_in_the_same_order(
    world: AdmissionsWorld,
) -> None:
    record, leader = await an_open_room(world, capacity=3)
    people = await world.joined(record.event_id, 12)
    rounds = world.runs(leader)
    await eventually(lambda: _admitted(world, record, 3), within_seconds=30)
    await world.room(record.event_id).claim(people[0])
    await world.room(record.event_id).leave(people[7])
    await rounds.fall_silent()
    await leader.keep_once()
    before = await world.room(record.event_id).line()
    assert len(before) == 8

    await world.lose_room(record.event_id)
    await world.reaches(leader, Phase.OPEN)
    assert await world.room(record.event_id).line() == before
    facts = await world.rooms.facts(record.event_id)
    assert facts["epoch"] == "2"
    assert int(facts["held_until"]) > int(facts["tokens_at"]), "nobody is let in before every lease must have ended"
    room = world.room(record.event_id)
    assert [(await room.poll(person)).state for person in people[:4]] == [
        PlaceState.ACTIVE,
        PlaceState.READY,
        PlaceState.READY,
        PlaceState.WAITING,
    ]
    later = (await world.joined(record.event_id, 1))[0]
    assert (await room.poll(later)).ticket == 13
    for _ in range(3):
        await leader.lead_once()
        await leader.keep_once()
    assert (await room.poll(people[3])).state is PlaceState.WAITING

    await want_phase(world.pool, record.event_id, Phase.OPEN, "the leases of before are over, I have looked")
    await world.reaches(leader, Phase.OPEN)
    await eventually(lambda: _is_let_go(world, record), within_seconds=15)
    assert check_log(await world.kept_log(record.event_id)) == []


async def _is_let_go(world: AdmissionsWorld, record: RoomRecord) -> bool:
    for leader in world.leaders:
        await leader.keep_once()
        await leader.lead_once()
    return (await world.rooms.facts(record.event_id))["held_until"] == "0"


async def test_without_the_copy_the_order_would_be_lost(world: AdmissionsWorld) -> None:
    record, leader = await an_open_room(world, capacity=3)
    await leader.keep_once()
    people = await world.joined(record.event_id, 5)  # and nobody copies
    assert await world.room(record.event_id).line() == [person.place_id for person in people]
    await world.lose_room(record.event_id)
    await world.reaches(leader, Phase.OPEN)
    assert await world.room(record.event_id).line() == []


async def test_a_redis_that_lost_its_last_second_is_set_right_from_the_copy(world: AdmissionsWorld) -> None:
    record, leader = await an_open_room(world, capacity=1)
    await world.joined(record.event_id, 5)
    await leader.keep_once()
    line = await world.room(record.event_id).line()
    # As if the disk had not had the last two joins; others have come since, under the same numbers.
    meta, log = f"wr:{{{record.event_id}}}:meta", f"wr:{{{record.event_id}}}:log"
    entries = int((await world.rooms.facts(record.event_id))["entries"])
    await world.redis.xdel(log, f"{entries}-0", f"{entries - 1}-0")
    # A stream refuses an id that it has had: it is copied without its past, as the disk would have had it.
    dumped = [(entry_id, fields) for entry_id, fields in await world.redis.xrange(log)]
    await world.redis.delete(log)
    for entry_id, fields in dumped:
        await world.redis.xadd(log, fields, id=entry_id)
    await world.redis.zrem(f"wr:{{{record.event_id}}}:q", *line[-2:])
    await world.redis.hset(meta, mapping={"entries": entries - 2, "seq": 3})
    await world.joined(record.event_id, 3)
    await leader.keep_once()
    await world.reaches(leader, Phase.OPEN)
    assert await world.room(record.event_id).line() == line
    assert (await world.rooms.facts(record.event_id))["epoch"] == "2"


async def test_a_log_that_is_shorter_than_its_copy_is_noticed(world: AdmissionsWorld) -> None:
    record, leader = await an_open_room(world)
    await world.joined(record.event_id, 2)
    await leader.keep_once()
    mirror = LogMirror(world.pool, world.rooms, record.event_id)
    entries = int((await world.rooms.facts(record.event_id))["entries"])
    await mirror.copy(entry_count=entries)
    with pytest.raises(LogLost):
        await mirror.copy(entry_count=entries - 1)


async def test_a_database_of_an_earlier_day_does_not_undo_a_room_that_is_there(world: AdmissionsWorld) -> None:
    record, leader = await an_open_room(world, capacity=1)
    await world.joined(record.event_id, 6)
    await leader.keep_once()
    line = await world.room(record.event_id).line()
    last = (await world.kept_log(record.event_id))[-1].index
    log = f"wr:{{{record.event_id}}}:log"
    await world.redis.xtrim(log, minid=f"{last + 1}-0", approximate=False)
    await world.pool.execute("DELETE FROM waiting_room_log WHERE event_id = $1 AND index > 2", record.event_id)
    await leader.close()
    for _ in range(3):
        await leader.lead_once()
        await leader.keep_once()
    assert await world.room(record.event_id).line() == line
    assert (await world.rooms.facts(record.event_id))["epoch"] == "1"


async def test_a_room_lost_before_its_draw_is_drawn_from_the_same_cohort(world: AdmissionsWorld) -> None:
    record = await world.a_record(opens_in=timedelta(seconds=4))
    leader = world.a_leader(record)
    await world.reaches(leader, Phase.PRE)
    people = await world.joined(record.event_id, 6)
    await leader.keep_once()
    await world.lose_room(record.event_id)
    await world.reaches(leader, Phase.PRE)
    facts = await world.rooms.facts(record.event_id)
    assert int(facts["held_until"]) == 0, "nobody had been let in, so nobody is waited for"
    await world.reaches(leader, Phase.SEALING)
    await eventually(lambda: _is_frozen(world, record), within_seconds=10)
    frozen = (await world.record(record.event_id)).frozen
    assert frozen is not None and frozen.cohort_size == 6
    cohort: list[CohortEntry] = (await world.rooms.read_cohort(record.event_id)).entries
    assert [entry.place_id for entry in cohort] == [person.place_id for person in people]


async def test_a_room_whose_log_has_faults_stays_shut(world: AdmissionsWorld) -> None:
    record, leader = await an_open_room(world)
    await world.joined(record.event_id, 3)
    await leader.keep_once()
    kept = await world.kept_log(record.event_id)
    await world.pool.execute(
        "DELETE FROM waiting_room_log WHERE event_id = $1 AND index = $2", record.event_id, kept[-2].index
    )
    await world.lose_room(record.event_id)
    for _ in range(4):
        await leader.lead_once()
        await leader.keep_once()
    assert await world.phase(record.event_id) is Phase.RESTORING
    # Somebody has looked at it, and found the missing entry.
    assert await append_log(world.pool, record.event_id, kept) == {kept[-2].index}
    await world.reaches(leader, Phase.OPEN)


async def _admitted(world: AdmissionsWorld, record: RoomRecord, count: int) -> bool:
    return len(await world.admitted(record.event_id)) >= count


async def _is_frozen(world: AdmissionsWorld, record: RoomRecord) -> bool:
    return (await world.record(record.event_id)).frozen is not None
