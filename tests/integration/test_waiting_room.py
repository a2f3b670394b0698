"""The waiting room's scripts on a real Redis, with a clock the test moves: what people, engine, leader and operator see."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from contracts.draw import Entrant, drawn_order
from contracts.settings import Settings
from contracts.waiting_room import Gone, LogKind, Phase, PlaceState
from contracts.waiting_room_log import check_log, read_through
from db.waiting_room import (
    HOLD_GRACE_MS,
    CohortEntry,
    Configured,
    DrawStep,
    PhaseChange,
    Refusal,
    Refused,
    RoomSettings,
    RoundResult,
    Sealing,
    UnusableLog,
    WaitingRooms,
    room_keys,
)
from tests.waiting_rooms import Person, Room, a_place_id, a_room, exported, rooms_with_a_clock

SEED = "5e" * 32


@pytest.fixture
async def rooms(settings: Settings) -> AsyncIterator[WaitingRooms]:
    opened = rooms_with_a_clock(settings)
    yield opened
    await opened.close()


@pytest.fixture
async def room(rooms: WaitingRooms, redis: Redis) -> Room:
    return await a_room(rooms, redis)


# ---- joining


async def test_tickets_are_given_one_after_the_other_whatever_the_clock_does(room: Room) -> None:
    standings = []
    for jump_ms in (0, 0, 5_000, -60_000, 0):
        await room.pass_ms(jump_ms)
        standings.append((await room.join())[1])
    assert [one.ticket for one in standings] == [1, 2, 3, 4, 5]
    assert [one.rank for one in standings] == [0, 1, 2, 3, 4]
    assert all(one.is_new and one.state is PlaceState.WAITING for one in standings)


async def test_whoever_joins_again_has_the_place_they_had(room: Room) -> None:
    await room.people(2)
    person, first = await room.join()
    elsewhere, second = await room.join(Person(user_id=person.user_id))
    assert (elsewhere.place_id, second.ticket, second.is_new) == (first.place_id, 3, False)
    assert second.log_index == first.log_index
    assert (await room.log())[first.log_index].commitment == person.commitment
    assert (await room.rooms.facts(room.event_id))["duplicate_joins"] == "1"


async def test_a_place_is_nobody_elses(room: Room) -> None:
    person, _ = await room.join()
    stranger = Person(place_id=person.place_id)
    for act in (room.rooms.poll, room.rooms.claim, room.rooms.leave):
        assert await act(room.event_id, person.place_id, stranger.user_id) == Refused(Refusal.NOT_YOURS, Phase.OPEN)
    answer = await room.rooms.join(room.event_id, stranger.user_id, person.place_id, stranger.commitment)
    assert answer == Refused(Refusal.PLACE_TAKEN, Phase.OPEN)
    assert (await room.poll(person)).state is PlaceState.WAITING


@pytest.mark.parametrize("phase", [Phase.CLOSED, Phase.DRAINING, Phase.SOLD_OUT, Phase.ENDED])
async def test_nobody_joins_in_a_phase_that_takes_nobody(rooms: WaitingRooms, redis: Redis, phase: Phase) -> None:
    room = await a_room(rooms, redis, None)
    if phase is Phase.DRAINING:
        await room.enter_phase(Phase.OPEN)
    if phase is not Phase.CLOSED:
        await room.enter_phase(phase)
    person = Person()
    answer = await rooms.join(room.event_id, person.user_id, person.place_id, person.commitment)
    assert answer == Refused(Refusal.CLOSED, phase)


async def test_without_a_room_nobody_has_a_place_and_everybody_passes(rooms: WaitingRooms, redis: Redis) -> None:
    room, person = Room(rooms, redis), Person()
    await room.pass_ms(0)
    answer = await rooms.join(room.event_id, person.user_id, person.place_id, person.commitment)
    assert answer == Refused(Refusal.NO_ROOM, None)
    assert await rooms.elect(room.event_id, "leader") is None
    assert (await rooms.tick(room.event_id, 1)).result is RoundResult.NO_ROOM
    assert await rooms.snapshot(room.event_id) is None
    admissions = await room.check(person, Person())
    assert (admissions.phase, admissions.passes) == (None, (True, True))


# ---- being let in


async def test_the_first_come_in_first_as_many_as_capacity_allows(rooms: WaitingRooms, redis: Redis) -> None:
    room = await a_room(rooms, redis, capacity=2)
    people = await room.people(4)
    done = await room.tick()
    assert (done.admitted, done.waiting, done.ready, done.active) == (2, 2, 2, 0)
    assert [(await room.poll(person)).state for person in people] == [PlaceState.READY] * 2 + [PlaceState.WAITING] * 2
    assert [(await room.poll(person)).rank for person in people] == [None, None, 0, 1]
    # Who is ready takes a slot, claimed or not.
    assert (await room.tick()).admitted == 0


async def test_a_claim_works_once_and_prolongs_nothing(room: Room) -> None:
    (person,) = await room.people(1)
    assert (await room.claim(person)).state is PlaceState.WAITING
    await room.tick()
    claimed = await room.claim(person)
    assert (claimed.state, claimed.until_ms) == (PlaceState.ACTIVE, room.now_ms + 900_000)
    await room.pass_ms(1_000)
    assert (await room.claim(person)).until_ms == claimed.until_ms
    assert (await room.rooms.facts(room.event_id))["C"] == "1"


@pytest.mark.parametrize("rate", [0.5, 3, 40])
async def test_the_rate_is_kept_over_time_with_no_burst(rooms: WaitingRooms, redis: Redis, rate: float) -> None:
    room = await a_room(rooms, redis, capacity=1_000, rate_per_second=rate)
    await room.people(100)
    admitted = [(await room.tick(after_ms=200)).admitted for _ in range(10)]
    assert sum(admitted) == 2 * rate
    assert max(admitted) <= max(1, rate * 0.2)


async def test_tokens_do_not_pile_up_while_a_leader_is_away_or_the_room_is_paused(
    rooms: WaitingRooms, redis: Redis
) -> None:
    room = await a_room(rooms, redis, capacity=1_000, rate_per_second=10, near_ms=10**9, deep_ms=10**9)
    await room.people(100)
    assert (await room.tick(after_ms=60_000)).admitted == 20, "what two seconds are worth"
    await room.enter_phase(Phase.PAUSED)
    assert (await room.tick(after_ms=60_000)).admitted == 0
    await room.enter_phase(Phase.OPEN)
    assert (await room.tick(after_ms=100)).admitted == 1


async def test_a_missed_turn_gives_one_return_with_the_old_ticket(room: Room) -> None:
    (person,) = await room.people(1)
    await room.tick()
    await room.people(3)
    await room.pass_ms(120_000)
    missed = await room.poll(person)
    assert (missed.state, missed.gone, missed.until_ms) == (PlaceState.GONE, Gone.MISSED, room.now_ms + 600_000)
    back = await room.claim(person)
    assert (back.state, back.rank, back.ticket) == (PlaceState.WAITING, 0, 1)
    await room.tick()
    await room.pass_ms(120_000)
    again = await room.claim(person)
    assert (again.state, again.gone, again.until_ms) == (PlaceState.GONE, Gone.MISSED, None)
    assert [entry.kind.value for entry in await room.log() if entry.ticket == 1] == ["J", "A", "N", "R", "A", "N"]
    assert check_log(await room.log()) == []


async def test_joining_again_after_a_missed_turn_is_the_return_and_later_a_new_place(room: Room) -> None:
    early, late = await room.people(2)
    await room.tick()
    await room.pass_ms(120_000)
    assert (await room.poll(early)).gone is (await room.poll(late)).gone is Gone.MISSED
    _, back = await room.join(Person(user_id=early.user_id))
    assert (back.place_id, back.ticket, back.rank) == (early.place_id, 1, 0)
    await room.pass_ms(600_001)
    newcomer, new = await room.join(Person(user_id=late.user_id))
    assert (new.is_new, new.ticket) == (True, 3)
    assert newcomer.place_id != late.place_id
    assert check_log(await room.log()) == []


async def test_whoever_leaves_frees_their_slot_at_once(rooms: WaitingRooms, redis: Redis) -> None:
    room = await a_room(rooms, redis, capacity=2)
    ready, active, waiting, next_one = await room.people(4)
    await room.tick()
    await room.claim(active)
    for person in (ready, active, waiting):
        gone = await room.leave(person)
        assert (gone.state, gone.gone) == (PlaceState.GONE, Gone.LEFT)
    assert (await room.leave(active)).gone is Gone.LEFT
    assert (await room.tick()).admitted == 1
    assert (await room.poll(next_one)).state is PlaceState.READY
    assert check_log(await room.log()) == []


async def test_a_lease_ends_with_the_order_and_follows_the_hold(room: Room) -> None:
    (person,) = await room.people(1)
    extend, release = room.rooms.extend_lease, room.rooms.release
    await room.tick()
    assert await extend(room.event_id, person.user_id, room.now_ms) is None
    claimed = await room.claim(person)
    assert claimed.until_ms is not None
    assert await extend(room.event_id, person.user_id, room.now_ms) == claimed.until_ms, "it never becomes shorter"
    hold_until = room.now_ms + 1_000_000
    assert await extend(room.event_id, person.user_id, hold_until) == hold_until + HOLD_GRACE_MS
    assert await extend(room.event_id, person.user_id, hold_until + 10**9) == room.now_ms + 1_800_000
    assert await release(room.event_id, person.user_id)
    assert not await release(room.event_id, person.user_id)
    assert (await room.poll(person)).gone is Gone.DONE
    assert (await room.check(person)).passes == (False,)


async def test_a_lease_that_is_over_frees_its_slot(rooms: WaitingRooms, redis: Redis) -> None:
    room = await a_room(rooms, redis, capacity=1, near_ms=10**9, deep_ms=10**9)
    person, next_one = await room.people(2)
    await room.tick()
    await room.claim(person)
    assert (await room.check(person, next_one)).passes == (True, False)
    await room.pass_ms(900_000)
    assert (await room.check(person)).passes == (False,)
    done = await room.tick()
    assert (done.leases_over, done.admitted) == (1, 1)
    assert (await room.poll(person)).gone is Gone.LEASE_OVER


# ---- being silent


async def test_the_silent_are_taken_out_sooner_near_the_front(rooms: WaitingRooms, redis: Redis) -> None:
    room = await a_room(rooms, redis, capacity=0, near_rank=3)
    people = await room.people(6)
    await room.pass_ms(74_000)
    assert await room.rooms.heartbeat_many(room.event_id, [people[1].place_id, people[5].place_id]) == 2
    assert (await room.tick(after_ms=1_001)).gave_up == 2
    assert await room.line() == [people[index].place_id for index in (1, 3, 4, 5)]
    # Whoever moves up to the front is there looked at too, and people[3] has moved up.
    assert (await room.tick(after_ms=0)).gave_up == 2
    assert (await room.tick(after_ms=0)).gave_up == 0
    assert (await room.poll(people[0])).gone is Gone.GAVE_UP
    assert check_log(await room.log()) == []


async def test_a_round_takes_out_no_more_than_it_may_and_says_so(rooms: WaitingRooms, redis: Redis) -> None:
    room = await a_room(rooms, redis, capacity=0)
    await room.people(9)
    await room.pass_ms(150_001)
    rounds = [await rooms.tick(room.event_id, room.fence, sweep_max=4) for _ in range(4)]
    assert [one.gave_up for one in rounds] == [4, 4, 1, 0]
    assert [one.has_more_to_sweep for one in rounds] == [True, True, False, False]


async def test_a_poll_is_a_sign_of_life(rooms: WaitingRooms, redis: Redis) -> None:
    room = await a_room(rooms, redis, capacity=0)
    alive, silent = await room.people(2)
    for _ in range(4):
        await room.pass_ms(60_000)
        await room.poll(alive)
        await room.tick(after_ms=0)
    assert await room.line() == [alive.place_id]
    assert (await room.poll(silent)).gone is Gone.GAVE_UP


# ---- phases and leaders


async def test_phases_change_as_they_may_and_no_other_way(rooms: WaitingRooms, redis: Redis) -> None:
    room = await a_room(rooms, redis, None)
    steps = [
        (Phase.SEALING, PhaseChange.ILLEGAL),
        (Phase.PAUSED, PhaseChange.ILLEGAL),
        (Phase.PRE, PhaseChange.CHANGED),
        (Phase.PRE, PhaseChange.SAME),
        (Phase.OPEN, PhaseChange.ILLEGAL),
        (Phase.RESTORING, PhaseChange.ILLEGAL),
        (Phase.SOLD_OUT, PhaseChange.CHANGED),
        (Phase.PAUSED, PhaseChange.ILLEGAL),
        (Phase.ENDED, PhaseChange.CHANGED),
        (Phase.SOLD_OUT, PhaseChange.ILLEGAL),
    ]
    assert [await rooms.set_phase(room.event_id, phase, "?") for phase, _ in steps] == [came for _, came in steps]
    details = [entry.detail for entry in await room.log()]
    assert details == ["closed 10 configured", "pre 10 ?", "sold_out 10 ?", "ended 10 ?"]


async def test_when_it_is_sold_out_everybody_who_waits_is_told_at_once(rooms: WaitingRooms, redis: Redis) -> None:
    room = await a_room(rooms, redis, capacity=2)
    active, ready, waiting = await room.people(3)
    await room.tick()
    await room.claim(active)
    assert await rooms.snapshot(room.event_id) is not None
    await room.enter_phase(Phase.SOLD_OUT)
    snapshot = await rooms.snapshot(room.event_id)
    assert snapshot is not None
    assert (snapshot.phase, snapshot.points) == (Phase.SOLD_OUT, ())
    assert [(await room.poll(person)).gone for person in (active, ready, waiting)] == [None, *[Gone.SOLD_OUT] * 2]
    assert (await room.claim(ready)).gone is Gone.SOLD_OUT
    assert (await room.check(active, ready, waiting)).passes == (True, False, False)
    assert (await room.tick()).admitted == 0


async def test_a_sold_out_room_that_is_opened_again_has_everybody_where_they_were(
    rooms: WaitingRooms, redis: Redis
) -> None:
    room = await a_room(rooms, redis, capacity=0)
    people = await room.people(3)
    await room.enter_phase(Phase.SOLD_OUT)
    assert (await room.poll(people[0])).gone is Gone.SOLD_OUT
    await room.enter_phase(Phase.OPEN)
    assert [(await room.poll(person)).rank for person in people] == [0, 1, 2]
    assert check_log(await room.log()) == []


@pytest.mark.parametrize(
    ("phase", "passes"), [(None, True), (Phase.PRE, False), (Phase.OPEN, False), (Phase.ENDED, True)]
)
async def test_a_session_of_before_the_room_passes_only_where_nobody_is_stopped(
    rooms: WaitingRooms, redis: Redis, phase: Phase | None, passes: bool
) -> None:
    room = await a_room(rooms, redis, phase)
    assert (await room.check(Person())).passes == (passes,)


async def test_one_process_leads_and_a_replaced_one_can_do_nothing(room: Room) -> None:
    await room.people(3)
    assert await room.rooms.elect(room.event_id, "leader") == room.fence, "it leads still"
    assert await room.rooms.elect(room.event_id, "standby") is None
    await room.rooms.resign(room.event_id, "standby")
    assert await room.rooms.elect(room.event_id, "standby") is None
    await room.rooms.resign(room.event_id, "leader")
    fence = await room.rooms.elect(room.event_id, "standby")
    assert fence == room.fence + 1
    await room.pass_ms(1_000)
    assert (await room.rooms.tick(room.event_id, room.fence)).result is RoundResult.FENCED
    assert (await room.rooms.tick(room.event_id, fence)).admitted == 3


async def test_a_silent_leader_is_replaced_within_two_seconds(room: Room, redis: Redis) -> None:
    assert 0 < await redis.pttl(f"wr:{{{room.event_id}}}:lead") <= 2_000


async def test_settings_change_while_people_wait_and_the_log_tells_the_capacity(room: Room) -> None:
    await room.people(5)
    steered = await room.rooms.steer(room.event_id, capacity=2, rate_per_second=0.0, why="checkout is slow")
    assert steered is Configured.ALTERED
    assert (await room.tick()).admitted == 0
    await room.rooms.steer(room.event_id, capacity=2, rate_per_second=1000.0, why="checkout is well")
    assert (await room.tick()).admitted == 2
    altered = await room.rooms.configure(room.event_id, RoomSettings(capacity=3, rate_per_second=1000))
    assert altered is Configured.ALTERED
    assert (await room.tick()).admitted == 1
    details = [entry.detail for entry in await room.log() if entry.kind is LogKind.PHASE]
    assert details[2:] == ["open 2 checkout is slow", "open 3 configured"]


def test_all_keys_of_a_room_and_the_seat_locks_are_on_one_node() -> None:
    event_id = Room(None, None).event_id  # type: ignore[arg-type]
    count, *keys = room_keys(event_id)
    assert count == len(keys) == len(set(keys))
    slots = {key_slot(str(key).encode()) for key in keys}
    assert slots == {key_slot(f"seat_lock:{{{event_id}}}:any".encode())}


# ---- the snapshot


async def test_everybody_knows_their_rank_from_one_document(rooms: WaitingRooms, redis: Redis) -> None:
    room = await a_room(rooms, redis, capacity=0)
    people = await room.people(400)
    for person in people[::3]:
        await room.leave(person)
    snapshot = await rooms.snapshot(room.event_id, fresh_ms=0)
    assert snapshot is not None
    assert (snapshot.waiting, snapshot.joined, snapshot.head_ticket) == (266, 400, 2)
    for person in people[1::3]:
        exact = await room.poll(person)
        assert exact.rank is not None
        below = max(rank for rank, ticket in snapshot.points if ticket <= exact.ticket)
        assert below <= exact.rank <= max(below + 1, below * 1.05)


async def test_the_snapshot_is_the_same_for_everybody_for_a_second(room: Room) -> None:
    first = await room.rooms.snapshot(room.event_id, fresh_ms=60_000)
    await room.people(3)
    assert await room.rooms.snapshot(room.event_id, fresh_ms=60_000) == first
    new = await room.rooms.snapshot(room.event_id, fresh_ms=0)
    assert new is not None
    assert new.waiting == 3


async def test_before_the_draw_nobody_is_told_an_order(rooms: WaitingRooms, redis: Redis) -> None:
    room = await a_room(rooms, redis, Phase.PRE)
    person, standing = await room.join()
    snapshot = await rooms.snapshot(room.event_id)
    assert snapshot is not None
    assert (standing.rank, (await room.poll(person)).rank, snapshot.points, snapshot.waiting) == (None, None, (), 1)
    assert (await room.tick()).admitted == 0


# ---- the draw


async def cohort_of(room: Room) -> list[CohortEntry]:
    entries, after = list[CohortEntry](), -1
    while True:
        page = await room.rooms.read_cohort(room.event_id, after=after, count=7)
        entries += page.entries
        if page.next_after is None:
            return entries
        after = page.next_after


async def drawn_places(room: Room) -> list[CohortEntry]:
    entries = await cohort_of(room)
    joined = {entry.ticket: entry for entry in entries if entry.kind is LogKind.JOINED}
    demoted = [entry.ticket for entry in entries if entry.kind is LogKind.DEMOTED]
    entrants = [Entrant(entry.ticket, entry.commitment) for entry in joined.values()]
    return [joined[ticket] for ticket in drawn_order(bytes.fromhex(SEED), entrants, demoted)]


async def write_pages(room: Room, sealing: Sealing, places: list[CohortEntry], size: int = 5) -> list[DrawStep]:
    return [
        await room.rooms.write_drawn(
            room.event_id,
            sealing.attempt,
            first_ticket=start + 1,
            place_ids=[entry.place_id for entry in places[start : start + size]],
        )
        for start in range(0, len(places), size)
    ]


async def begin_seal(room: Room) -> Sealing:
    sealing = await room.rooms.begin_seal(room.event_id, "it is time")
    assert isinstance(sealing, Sealing)
    return sealing


async def finish_seal(room: Room, sealing: Sealing) -> DrawStep:
    return await room.rooms.finish_seal(room.event_id, sealing.attempt, seed=SEED, beacon_round=7)


async def test_the_drawn_order_is_swapped_in_at_once_and_late_comers_are_behind(
    rooms: WaitingRooms, redis: Redis
) -> None:
    room = await a_room(rooms, redis, Phase.PRE)
    people = await room.people(23)
    await room.leave(people[4])
    assert await rooms.demote(room.event_id, "too many of one address", [people[7].place_id, a_place_id()]) == 1
    sealing = await begin_seal(room)
    assert sealing.cohort == 23
    late = await room.people(3)
    drawn = await drawn_places(room)
    assert [entry.place_id for entry in drawn][-1] == people[7].place_id
    assert await rooms.record_root(room.event_id, sealing.attempt, "ab" * 32) is DrawStep.OK
    steps = await write_pages(room, sealing, drawn[:15])
    await room.leave(people[9])
    await room.leave(late[1])
    steps += [
        await rooms.write_drawn(
            room.event_id, sealing.attempt, first_ticket=16, place_ids=[entry.place_id for entry in drawn[15:]]
        )
    ]
    assert set(steps) == {DrawStep.OK}
    assert await finish_seal(room, sealing) is DrawStep.OK
    assert await finish_seal(room, sealing) is DrawStep.OK, "asked again because the answer was lost"
    gone = {people[4].place_id, people[9].place_id}
    expected = [entry.place_id for entry in drawn if entry.place_id not in gone]
    assert await room.line() == [*expected, late[0].place_id, late[2].place_id]
    assert (await room.tick()).admitted == 10
    assert check_log(await room.log()) == []
    assert check_log([entry.model_copy(update={"place_id": ""}) for entry in await room.log()]) != []


async def test_a_draw_that_broke_off_begins_again_and_shuts_the_dead_one_out(rooms: WaitingRooms, redis: Redis) -> None:
    room = await a_room(rooms, redis, Phase.PRE)
    people = await room.people(12)
    dead = await begin_seal(room)
    wrong = list(reversed(await drawn_places(room)))
    await write_pages(room, dead, wrong[:10])
    (late,) = await room.people(1)
    await room.leave(people[3])
    assert (await room.poll(people[0])).rank is None
    alive = await begin_seal(room)
    assert (alive.cohort, alive.attempt) == (12, dead.attempt + 1)
    assert set(await write_pages(room, dead, wrong)) == {DrawStep.FENCED}
    assert await finish_seal(room, dead) is DrawStep.FENCED
    assert await rooms.record_root(room.event_id, dead.attempt, "00") is DrawStep.FENCED
    assert await finish_seal(room, alive) is DrawStep.INCOMPLETE
    drawn = await drawn_places(room)
    late_page = await rooms.write_drawn(
        room.event_id, alive.attempt, first_ticket=6, place_ids=[entry.place_id for entry in drawn[5:]]
    )
    assert late_page is DrawStep.GAP
    assert set(await write_pages(room, alive, drawn)) == {DrawStep.OK}
    assert await finish_seal(room, alive) is DrawStep.OK
    expected = [entry.place_id for entry in drawn if entry.place_id != people[3].place_id]
    assert await room.line() == [*expected, late.place_id]
    await room.tick()
    assert check_log(await room.log()) == []


async def test_an_order_that_is_not_the_drawn_one_shows_in_the_log(rooms: WaitingRooms, redis: Redis) -> None:
    room = await a_room(rooms, redis, Phase.PRE)
    await room.people(12)
    sealing = await begin_seal(room)
    await write_pages(room, sealing, list(reversed(await drawn_places(room))))
    assert await finish_seal(room, sealing) is DrawStep.OK
    await room.tick()
    assert any("belongs to another place" in fault for fault in check_log(await room.log()))


async def test_a_draw_of_nobody_opens_the_room(rooms: WaitingRooms, redis: Redis) -> None:
    room = await a_room(rooms, redis, Phase.PRE)
    sealing = await begin_seal(room)
    (late,) = await room.people(1)
    assert await finish_seal(room, sealing) is DrawStep.OK
    assert await room.line() == [late.place_id]
    assert check_log(await room.log()) == []


# ---- the log, and a lost Redis


async def test_only_what_is_safe_elsewhere_is_forgotten(rooms: WaitingRooms, redis: Redis) -> None:
    room = await a_room(rooms, redis, Phase.PRE)
    await room.people(300)
    assert await rooms.acknowledge(room.event_id, 250) == 0, "the draw reads it from here"
    sealing = await begin_seal(room)
    await write_pages(room, sealing, await drawn_places(room), size=100)
    await finish_seal(room, sealing)
    whole = await room.log()
    forgotten = await rooms.acknowledge(room.event_id, 250)
    assert 100 <= forgotten <= 251
    assert await room.log() == whole[forgotten:]
    await room.people(1)
    assert (await room.log())[-1].index == len(whole)


async def a_busy_room(rooms: WaitingRooms, redis: Redis) -> tuple[Room, list[Person]]:
    room = await a_room(rooms, redis, capacity=4, near_ms=10**9, deep_ms=10**9)
    people = await room.people(20)
    await room.tick()
    for person in people[:3]:
        await room.claim(person)
    await rooms.release(room.event_id, people[0].user_id)
    await room.pass_ms(120_000)
    await room.claim(people[3])  # too late: back to the head
    await room.leave(people[10])
    await room.join(Person(user_id=people[10].user_id))
    return room, people


async def test_a_lost_room_is_restored_from_its_log_in_the_same_order(rooms: WaitingRooms, redis: Redis) -> None:
    room, people = await a_busy_room(rooms, redis)
    line, entries, old_fence = await room.line(), await room.log(), room.fence
    settings = RoomSettings(capacity=99, rate_per_second=1000)
    with pytest.raises(UnusableLog):
        await rooms.rebuild(room.event_id, exported(entries), settings)
    await rooms.remove(room.event_id)
    on_paper = await rooms.rebuild(room.event_id, exported(entries), settings)
    assert (on_paper.waiting_count, on_paper.active_count) == (17, 2)
    assert await room.line() == line
    assert [(await room.poll(person)).state.value for person in people[:4]] == ["gone", "active", "active", "waiting"]
    assert (await room.check(*people[:4])).passes == (False, True, True, False)
    assert (await room.poll(people[3])).ticket == 4
    # A leader of before the loss can do nothing, and a new one admits nobody until the old leases must be over.
    assert (await rooms.tick(room.event_id, old_fence)).result is RoundResult.FENCED
    await rooms.resign(room.event_id, "leader")
    await room.lead("after the loss")
    assert room.fence > 1_000_000
    assert (await room.tick()).admitted == 0
    assert await rooms.end_hold(room.event_id, "nobody is in the shop")
    assert not await rooms.end_hold(room.event_id, "nobody is in the shop")
    assert (await room.tick()).admitted == 2
    assert (await room.poll(people[3])).state is PlaceState.READY
    _, new = await room.join()
    assert (new.ticket, new.epoch) == (22, 2)
    assert check_log([*entries, *await room.log()]) == []


async def test_admissions_are_held_no_longer_than_any_lease_of_before(rooms: WaitingRooms, redis: Redis) -> None:
    room, _ = await a_busy_room(rooms, redis)
    entries = await room.log()
    await rooms.remove(room.event_id)
    settings = RoomSettings(capacity=99, rate_per_second=1000, near_ms=10**9, deep_ms=10**9)
    await rooms.rebuild(room.event_id, exported(entries), settings)
    await room.lead("after the loss")
    assert (await room.tick(after_ms=1_799_000)).admitted == 0
    assert (await room.tick(after_ms=1_001)).admitted == 4


@pytest.mark.parametrize("phase", [Phase.PRE, Phase.SEALING, Phase.OPEN])
async def test_a_room_with_a_draw_is_restored_in_any_phase(rooms: WaitingRooms, redis: Redis, phase: Phase) -> None:
    room = await a_room(rooms, redis, Phase.PRE)
    people = await room.people(9)
    await room.leave(people[2])
    if phase is not Phase.PRE:
        sealing = await begin_seal(room)
        people += await room.people(2)
    if phase is Phase.OPEN:
        await write_pages(room, sealing, await drawn_places(room))
        assert await finish_seal(room, sealing) is DrawStep.OK
    entries, line = await room.log(), await room.line()
    await rooms.remove(room.event_id)
    await rooms.rebuild(room.event_id, exported(entries), RoomSettings(capacity=9, rate_per_second=1000))
    assert await room.line() == line
    if phase is not Phase.OPEN:
        sealing = await begin_seal(room)
        drawn = await drawn_places(room)
        assert len(drawn) == 9
        await write_pages(room, sealing, drawn)
        assert await finish_seal(room, sealing) is DrawStep.OK
    await room.lead("after the loss")
    await rooms.end_hold(room.event_id, "go on")
    assert (await room.tick()).admitted == len(people) - 1
    later = [entry for entry in await room.log() if entry.index >= len(entries)]
    assert check_log([*entries, *later]) == []


async def test_a_log_with_a_gap_restores_nothing_and_the_room_stays_shut(rooms: WaitingRooms, redis: Redis) -> None:
    room, people = await a_busy_room(rooms, redis)
    entries = await room.log()
    await rooms.remove(room.event_id)
    with pytest.raises(UnusableLog, match="gap"):
        await rooms.rebuild(room.event_id, exported(entries[:9] + entries[10:]), RoomSettings(1, 1))
    assert (await room.check(people[0])).passes == (False,)
    refused = await rooms.poll(room.event_id, people[0].place_id, people[0].user_id)
    assert refused == Refused(Refusal.RESTORING, Phase.RESTORING)
    assert (await rooms.tick(room.event_id, 1)).result is RoundResult.RESTORING
    assert await rooms.rebuild(room.event_id, exported(entries), RoomSettings(1, 1)), "with a better log"


async def test_the_log_on_paper_and_the_room_agree(rooms: WaitingRooms, redis: Redis) -> None:
    room, _ = await a_busy_room(rooms, redis)
    on_paper, faults = read_through(await room.log())
    snapshot = await rooms.snapshot(room.event_id, fresh_ms=0)
    assert snapshot is not None
    assert faults == []
    assert (on_paper.waiting_count, on_paper.ready_count, on_paper.active_count) == (
        snapshot.waiting,
        snapshot.ready,
        snapshot.active,
    )


async def test_somebody_who_waits_takes_half_a_kilobyte(rooms: WaitingRooms, redis: Redis) -> None:
    room = await a_room(rooms, redis, Phase.PRE)
    await room.people(600)
    _, *keys = room_keys(room.event_id)
    sizes = {str(key): await redis.memory_usage(str(key), samples=0) or 0 for key in keys}
    assert sum(sizes.values()) / 600 < 520, sizes
