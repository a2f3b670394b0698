"""Does somebody run every waiting room, one at a time, so that it opens, draws, lets in and ends as it was announced?"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from consumers.admissions import is_to_be_forgotten, terms_of
from consumers.waiting_rooms.leader import RoomLeader
from contracts.beacon import BEACONS
from contracts.draw import commitment_of
from contracts.ids import EventId
from contracts.settings import PREFIX, Settings
from contracts.waiting_room import Gone, LogKind, Phase, PlaceState
from contracts.waiting_room_proof import BEACON_MARGIN_MS, FrozenCohort
from db import failpoints
from db.waiting_room import RoundResult
from db.waiting_room_records import (
    RoomRecord,
    make_missing_rooms,
    make_room,
    record_frozen,
    set_terms,
    want_phase,
)
from ops.stack.server import REPOSITORY
from ops.waiting_room.verify import examine, is_clean
from tests.admissions_world import AdmissionsWorld, an_admissions_world
from tests.eventually import eventually
from tests.written_events import seats_of, write_event


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[AdmissionsWorld]:
    async with an_admissions_world(settings) as world:
        yield world


# ---- rooms come into being


async def test_an_event_of_high_demand_gets_a_room_and_keeps_it(world: AdmissionsWorld) -> None:
    ahead, begun = await world.an_event(opens_in=timedelta(hours=2)), await world.an_event()
    await write_event(world.pool)  # of usual demand
    await world.an_event(off_sale_in=timedelta(seconds=-0.5))  # over
    assert set(await make_missing_rooms(world.pool, terms_of(world.settings))) == {ahead, begun}
    first = [await world.record(event_id) for event_id in (ahead, begun)]
    assert await make_missing_rooms(world.pool, terms_of(world.settings)) == []
    assert [room.server_secret for room in first] == [
        (await world.record(room.event_id)).server_secret for room in first
    ]
    scheduled, unscheduled = first
    assert (scheduled.is_scheduled, unscheduled.is_scheduled) == (True, False)
    assert (scheduled.capacity, scheduled.rate_per_second) == (500, 20.0)
    assert scheduled.opens_at - scheduled.pre_at == timedelta(minutes=30)
    assert (unscheduled.server_secret, unscheduled.announcement) == (None, None)


async def test_a_draw_is_announced_with_its_secret_committed_and_a_round_nobody_knows_yet(
    world: AdmissionsWorld,
) -> None:
    record = await world.a_record(opens_in=timedelta(hours=2))
    announced = record.announcement
    assert announced is not None and record.server_secret is not None
    assert announced.secret_commitment == commitment_of(record.server_secret)
    assert repr(record).find(record.server_secret.hex()) < 0
    starts_at_ms = int(record.opens_at.timestamp() * 1000)
    beacon = BEACONS[announced.beacon_source]
    assert announced.starts_at_ms == starts_at_ms
    assert announced.beacon_round == beacon.first_round_from(starts_at_ms + BEACON_MARGIN_MS)


async def test_an_operator_may_have_a_room_for_any_event(world: AdmissionsWorld) -> None:
    event_id = await write_event(world.pool)
    room = await make_room(world.pool, event_id, terms_of(world.settings))
    assert room is not None and not room.is_scheduled
    assert await world.pool.fetchval("SELECT high_demand FROM events WHERE id = $1", event_id)
    again = await make_room(world.pool, event_id, terms_of(world.settings))
    assert again is not None and again.announced_at == room.announced_at
    over = await write_event(world.pool, off_sale_in=timedelta(seconds=-1))
    assert await make_room(world.pool, over, terms_of(world.settings)) is None


# ---- first come, first served


async def test_an_unscheduled_room_opens_at_once_and_lets_people_in_in_order(world: AdmissionsWorld) -> None:
    record = await world.a_record()
    leader = world.a_leader(record)
    await world.reaches(leader, Phase.OPEN)
    people = await world.joined(record.event_id, 6)
    room = world.room(record.event_id)
    world.runs(leader)

    async def first_is_ready() -> bool:
        return (await room.poll(people[0])).state is PlaceState.READY

    await eventually(first_is_ready)
    assert (await room.claim(people[0])).state is PlaceState.ACTIVE
    await eventually(lambda: _has_admitted(world, record.event_id, 3))
    admitted = await world.admitted(record.event_id)
    assert admitted == sorted(admitted)


async def _has_admitted(world: AdmissionsWorld, event_id: EventId, count: int) -> bool:
    return len(await world.admitted(event_id)) >= count


async def test_many_rooms_open_beside_each_other(world: AdmissionsWorld) -> None:
    event_ids = [await world.an_event() for _ in range(40)]
    admissions = world.admissions()
    await admissions.look_once()

    async def are_open() -> bool:
        phases = await asyncio.gather(*(world.phase(event_id) for event_id in event_ids))
        return set(phases) == {Phase.OPEN}

    try:
        await eventually(are_open, within_seconds=20)
    finally:
        await admissions.close()


# ---- the draw


async def test_a_sale_is_drawn_as_announced_and_its_proof_verifies(world: AdmissionsWorld) -> None:
    record = await world.a_record(opens_in=timedelta(seconds=3))
    leader = world.a_leader(record, page_size=3)
    await world.reaches(leader, Phase.PRE)
    early = await world.joined(record.event_id, 8)
    assert await world.rooms.demote(record.event_id, "test_rule", [early[0].place_id]) == 1
    await world.reaches(leader, Phase.SEALING)
    late = await world.joined(record.event_id, 2)
    await world.reaches(leader, Phase.OPEN, within_seconds=30)
    room = world.room(record.event_id)
    standing = {person.user_id: (await room.poll(person)).ticket for person in (*early, *late)}
    assert standing[early[0].user_id] == 8, "whoever was demoted is drawn last"
    assert [standing[person.user_id] for person in late] == [9, 10]
    await world.reaches(leader, Phase.OPEN)
    evidence = await world.evidence(record.event_id)
    checks = examine(evidence)
    assert is_clean(checks), [check.differences for check in checks]
    assert len(evidence.cohort) == 8


@pytest.mark.parametrize(("crash", "times"), [("draw.frozen", 1), ("draw.revealed", 1), ("draw.page_written", 2)])
async def test_a_draw_that_breaks_off_half_way_is_begun_again_and_nothing_recorded_changes(
    world: AdmissionsWorld, tmp_path: Path, crash: str, times: int
) -> None:
    record = await world.a_record(opens_in=timedelta(seconds=2))
    first = world.a_leader(record, "first", page_size=2)
    await world.reaches(first, Phase.PRE)
    await world.joined(record.event_id, 7)
    failpoints.arm(f"{crash}={times}*pause({tmp_path / 'never'})")
    try:
        running = world.runs(first)
        await eventually(lambda: failpoints.hits().get(crash) == times, within_seconds=30)
        before = await world.record(record.event_id)
        await running.fall_silent()
        await first.close()
    finally:
        failpoints.disarm()
    assert await world.phase(record.event_id) is Phase.SEALING
    second = world.a_leader(before, "second", page_size=2)
    await world.reaches(second, Phase.OPEN, within_seconds=30)
    # The round that copies what the draw has just written into the log.
    await world.reaches(second, Phase.OPEN)
    after = await world.record(record.event_id)
    assert (after.frozen, after.announcement) == (before.frozen, before.announcement)
    # Before the beacon has spoken there is nothing to reveal; afterwards it stays what it was.
    assert before.revelation == (None if crash == "draw.frozen" else after.revelation)
    assert after.revelation is not None
    assert int((await world.rooms.facts(record.event_id))["attempt"]) >= 2
    checks = examine(await world.evidence(record.event_id))
    assert is_clean(checks), [check.differences for check in checks]


async def test_a_cohort_that_is_not_the_recorded_one_is_not_drawn(world: AdmissionsWorld) -> None:
    record = await world.a_record(opens_in=timedelta(seconds=1))
    leader = world.a_leader(record)
    await world.reaches(leader, Phase.PRE)
    await world.joined(record.event_id, 2)
    await record_frozen(
        world.pool,
        record.event_id,
        FrozenCohort(event_id=record.event_id, cohort_size=9, merkle_root="ab" * 32),
    )
    await world.reaches(leader, Phase.SEALING)
    await asyncio.sleep(0)
    drawing = leader._leadership.drawing if leader._leadership else None
    assert drawing is not None
    for _ in range(5):
        await leader.keep_once()
    assert await world.phase(record.event_id) is Phase.SEALING
    assert (await world.record(record.event_id)).revelation is None


async def test_a_sale_that_nobody_led_when_it_began_is_announced_anew_before_its_cohort_is_frozen(
    world: AdmissionsWorld,
) -> None:
    record = await world.a_record(opens_in=timedelta(seconds=1))
    await world.pool.execute(
        "UPDATE waiting_rooms SET pre_at = pre_at - interval '1 h', opens_at = opens_at - interval '1 h',"
        " announcement = jsonb_set(announcement, '{beaconRound}', '1000') WHERE event_id = $1",
        record.event_id,
    )
    await world.pool.execute(
        "UPDATE events SET on_sale_date = on_sale_date - interval '1 h' WHERE id = $1", record.event_id
    )
    leader = world.a_leader(await world.record(record.event_id))
    await world.reaches(leader, Phase.PRE)
    anew = await world.record(record.event_id)
    assert anew.announcement is not None and record.announcement is not None
    assert anew.announcement.beacon_round > record.announcement.beacon_round - 60
    assert anew.announcement.secret_commitment == record.announcement.secret_commitment
    assert anew.opens_at > anew.read_at


async def test_a_sale_that_is_moved_moves_its_draw(world: AdmissionsWorld) -> None:
    record = await world.a_record(opens_in=timedelta(hours=2))
    leader = world.a_leader(record)
    await world.reaches(leader, Phase.CLOSED)
    assert await leader.lead_once()
    await world.pool.execute(
        "UPDATE events SET on_sale_date = on_sale_date + interval '1 h' WHERE id = $1", record.event_id
    )
    leader.update(await world.record(record.event_id))
    await leader.keep_once()
    moved = await world.record(record.event_id)
    assert moved.opens_at == record.opens_at + timedelta(hours=1)
    assert moved.opens_at - moved.pre_at == record.opens_at - record.pre_at, "people gather as long before it"
    assert moved.announcement is not None
    assert moved.announcement.starts_at_ms == int(moved.opens_at.timestamp() * 1000)


# ---- who leads


async def test_a_leader_that_falls_silent_is_replaced_within_two_seconds(world: AdmissionsWorld) -> None:
    record = await world.a_record()
    first, second = world.a_leader(record, "first"), world.a_leader(record, "second")
    await world.reaches(first, Phase.OPEN)
    running = world.runs(first)
    await eventually(lambda: first.is_leading)
    assert not await second.lead_once()
    await running.fall_silent()
    silent_since = time.monotonic()
    world.runs(second)
    await eventually(lambda: second.is_leading, within_seconds=10)
    # Within two seconds, and what a busy machine takes to notice.
    assert time.monotonic() - silent_since < 2.0 + 1.0


async def test_a_leader_that_was_replaced_stops_at_once_and_can_let_nobody_in(world: AdmissionsWorld) -> None:
    record = await world.a_record()
    first, second = world.a_leader(record, "first"), world.a_leader(record, "second")
    await world.reaches(first, Phase.OPEN)
    fence = await world.rooms.elect(record.event_id, "first")
    assert fence is not None
    await world.redis.delete(f"wr:{{{record.event_id}}}:lead")  # as if it had slept for two seconds
    assert await second.lead_once()
    assert (await world.rooms.tick(record.event_id, fence)).result is RoundResult.FENCED
    assert not await first.lead_once()
    assert (first.is_leading, second.is_leading) == (False, True)


async def test_of_two_processes_one_leads_and_the_log_has_no_fault(world: AdmissionsWorld) -> None:
    event_ids = [await world.an_event() for _ in range(4)]
    first, second = world.admissions("first"), world.admissions("second")
    try:
        await asyncio.gather(first.look_once(), second.look_once())
        for event_id in event_ids:
            await eventually(lambda e=event_id: _is_open(world, e), within_seconds=10)  # type: ignore[misc]
            await world.joined(event_id, 5)
        await first.close()  # in the middle of it
        for event_id in event_ids:
            await eventually(lambda e=event_id: _has_admitted(world, e, 5), within_seconds=20)  # type: ignore[misc]
            checks = examine(await world.evidence(event_id))
            assert is_clean(checks), [check.differences for check in checks]
    finally:
        await first.close()
        await second.close()


async def _is_open(world: AdmissionsWorld, event_id: EventId) -> bool:
    return await world.phase(event_id) is Phase.OPEN


def a_process(world: AdmissionsWorld, log: Path) -> "subprocess.Popen[bytes]":
    """The role in a process of its own, on the database of this test."""
    fields = {name: str(getattr(world.settings, name)) for name in ("postgres_url", "redis_url", "rabbitmq_url")}
    others = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    ours = {f"{PREFIX}{name.upper()}": value for name, value in (fields | {"metrics_port": "0"}).items()}
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "consumers", "admissions"],
            cwd=REPOSITORY,
            env={**others, **ours},
            stdout=file,
            stderr=file,
        )


async def test_a_process_that_is_killed_is_replaced_and_people_go_on_being_let_in(
    world: AdmissionsWorld, tmp_path: Path
) -> None:
    event_id = await world.an_event(seat_count=2000)
    processes = [a_process(world, tmp_path / f"{number}.log") for number in range(2)]
    try:
        await eventually(lambda: _is_open(world, event_id), within_seconds=40)
        await world.joined(event_id, 200)
        await eventually(lambda: _has_admitted(world, event_id, 5), within_seconds=20)
        leader = (await world.redis.get(f"wr:{{{event_id}}}:lead") or b"").decode()
        victim = next(process for process in processes if f":{process.pid}:" in leader)
        victim.send_signal(signal.SIGKILL)
        before = len(await world.admitted(event_id))
        await eventually(lambda: _has_admitted(world, event_id, before + 10), within_seconds=20)
        log = await world.kept_log(event_id)
        survivor = next(process for process in processes if process is not victim)
        survivor.terminate()
        assert await asyncio.to_thread(survivor.wait, 20) == 0, "told to stop, it finishes and goes"
        assert await world.redis.get(f"wr:{{{event_id}}}:lead") is None, "and whoever comes next need not wait"
    finally:
        for process in processes:
            process.kill()
            process.wait()
    admissions = [entry for entry in log if entry.kind is LogKind.ADMITTED]
    handover = next(n for n, entry in enumerate(admissions) if entry.detail != admissions[0].detail)
    gap_ms = admissions[handover].at_ms - admissions[handover - 1].at_ms
    assert gap_ms < 3_500, f"nobody was let in for {gap_ms} ms"
    checks = examine(await world.evidence(event_id))
    assert is_clean(checks), [check.differences for check in checks]


# ---- what the operator wants, and how it ends


async def test_an_operator_pauses_and_goes_on_and_ends(world: AdmissionsWorld) -> None:
    record = await world.a_record()
    leader = world.a_leader(record)
    await world.reaches(leader, Phase.OPEN)
    for phase in (Phase.PAUSED, Phase.OPEN, Phase.DRAINING, Phase.ENDED):
        assert await want_phase(world.pool, record.event_id, phase, "the test says so") is None  # type: ignore[arg-type]
        await world.reaches(leader, phase)
        await leader.keep_once()
        assert (await world.record(record.event_id)).wanted_phase is None
    await leader.keep_once()
    ended = await world.record(record.event_id)
    assert ended.ended_at is not None
    assert await want_phase(world.pool, record.event_id, Phase.OPEN, "again") == "ended"
    kept = await world.kept_log(record.event_id)
    assert kept[-1].detail.startswith("ended")


async def test_a_wish_that_can_never_come_true_is_dropped(world: AdmissionsWorld) -> None:
    record = await world.a_record()
    leader = world.a_leader(record)
    await world.reaches(leader, Phase.OPEN)
    await want_phase(world.pool, record.event_id, Phase.DRAINING, "?")
    await world.reaches(leader, Phase.DRAINING)
    await want_phase(world.pool, record.event_id, Phase.OPEN, "?")
    leader.update(await world.record(record.event_id))
    await leader.keep_once()
    assert await world.phase(record.event_id) is Phase.DRAINING
    assert (await world.record(record.event_id)).wanted_phase is None


async def test_new_terms_take_effect_and_the_version_guards_them(world: AdmissionsWorld) -> None:
    record = await world.a_record()
    leader = world.a_leader(record)
    await world.reaches(leader, Phase.OPEN)
    assert await set_terms(world.pool, record.event_id, capacity=7, if_version=record.version) is None
    assert await set_terms(world.pool, record.event_id, capacity=9, if_version=record.version) == "changed_meanwhile"
    world.runs(leader)

    async def is_steered() -> bool:
        return (await world.rooms.facts(record.event_id)).get("capacity") == "7"

    await eventually(is_steered)


async def test_the_end_of_the_sale_ends_the_room_and_redis_forgets_it_later(world: AdmissionsWorld) -> None:
    record = await world.a_record()
    leader = world.a_leader(record)
    await world.reaches(leader, Phase.OPEN)
    await world.pool.execute("UPDATE events SET status = 'cancelled' WHERE id = $1", record.event_id)
    await world.reaches(leader, Phase.ENDED)
    await leader.keep_once()
    ended = await world.record(record.event_id)
    assert ended.ended_at is not None and not is_to_be_forgotten(ended)
    await world.pool.execute(
        "UPDATE waiting_rooms SET ended_at = ended_at - interval '2 h' WHERE event_id = $1", record.event_id
    )
    assert is_to_be_forgotten(await world.record(record.event_id))
    admissions = world.admissions()
    await admissions.look_once()
    await admissions.close()
    assert await world.phase(record.event_id) is None
    assert (await world.record(record.event_id)).forgotten_at is not None


async def test_an_ended_room_is_restored_while_its_sale_goes_on(world: AdmissionsWorld) -> None:
    record = await world.a_record()
    leader = world.a_leader(record)
    await world.reaches(leader, Phase.OPEN)
    person = (await world.joined(record.event_id, 1))[0]
    await want_phase(world.pool, record.event_id, Phase.ENDED, "enough for everybody")
    await world.reaches(leader, Phase.ENDED)
    await leader.keep_once()
    await world.lose_room(record.event_id)
    assert (await world.room(record.event_id).check(person)).phase is None
    await world.reaches(leader, Phase.ENDED)
    assert (await world.room(record.event_id).check(person)).passes == (True,)


async def test_when_the_last_seat_is_sold_everybody_is_told(world: AdmissionsWorld) -> None:
    record = await world.a_record()
    leader = world.a_leader(record)
    await world.reaches(leader, Phase.OPEN)
    await set_terms(world.pool, record.event_id, capacity=1)
    people = await world.joined(record.event_id, 3)
    await world.set_seats(record.event_id, "sold")
    sold_at = time.monotonic()
    world.runs(leader)
    await eventually(lambda: _is(world, record.event_id, Phase.SOLD_OUT))
    assert time.monotonic() - sold_at < 3.0
    assert (await world.room(record.event_id).poll(people[2])).gone is Gone.SOLD_OUT


async def _is(world: AdmissionsWorld, event_id: EventId, phase: Phase) -> bool:
    return await world.phase(event_id) is phase


async def test_while_seats_are_held_nobody_comes_in_and_nobody_is_sent_away(world: AdmissionsWorld) -> None:
    record = await world.a_record()
    leader = world.a_leader(record)
    await world.reaches(leader, Phase.OPEN)
    await world.set_seats(record.event_id, "held")
    world.runs(leader)

    async def is_stopped() -> bool:
        pulse = await world.resources().observations.find_pulse(record.event_id)
        return pulse is not None and (pulse.reason, pulse.rate_per_second) == ("all_held", 0.0)

    await eventually(is_stopped)
    people = await world.joined(record.event_id, 2)
    assert await world.phase(record.event_id) is Phase.OPEN
    assert (await world.room(record.event_id).poll(people[0])).state is PlaceState.WAITING
    # What is held comes back: the line moves again.
    await world.set_seats(record.event_id, "available")
    await eventually(lambda: _has_admitted(world, record.event_id, 2), within_seconds=20)


async def test_a_sold_out_room_stays_so_until_an_operator_opens_it_again(world: AdmissionsWorld) -> None:
    record = await world.a_record()
    leader = world.a_leader(record)
    await world.reaches(leader, Phase.OPEN)
    await set_terms(world.pool, record.event_id, capacity=1)
    await world.set_seats(record.event_id, "sold")
    await world.reaches(leader, Phase.SOLD_OUT)
    await world.set_seats(record.event_id, "available", (await seats_of(world.pool, record.event_id))[:2])
    for _ in range(3):
        await leader.lead_once()
        await leader.keep_once()
    assert await world.phase(record.event_id) is Phase.SOLD_OUT
    await want_phase(world.pool, record.event_id, Phase.OPEN, "two seats have come back")
    await world.reaches(leader, Phase.OPEN)
    assert is_clean(examine(await world.evidence(record.event_id)))


# ---- the beacon is waited for in the round that was promised


async def test_the_draw_waits_for_the_promised_round(world: AdmissionsWorld) -> None:
    record = await world.a_record(opens_in=timedelta(seconds=1))
    leader = world.a_leader(record)
    await world.reaches(leader, Phase.PRE)
    await world.joined(record.event_id, 1)
    await world.reaches(leader, Phase.OPEN, within_seconds=30)
    sealed = await sealed_record(world, record, leader)
    assert sealed.announcement is not None and sealed.revelation is not None
    due_ms = BEACONS[sealed.announcement.beacon_source].due_ms(sealed.announcement.beacon_round)
    drawn_at_ms = next(e.at_ms for e in await world.kept_log(record.event_id) if e.kind is LogKind.SEALED)
    assert drawn_at_ms >= due_ms - 100
    assert sealed.revelation.beacon.round == sealed.announcement.beacon_round


async def sealed_record(world: AdmissionsWorld, record: RoomRecord, leader: RoomLeader) -> RoomRecord:
    """The record once the draw's end is in the copied log."""

    async def is_copied() -> bool:
        await leader.keep_once()
        return any(entry.kind is LogKind.SEALED for entry in await world.kept_log(record.event_id))

    await eventually(is_copied)
    return await world.record(record.event_id)
