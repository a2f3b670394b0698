"""Does the sale itself, on real servers, sell an event in high demand only to whom its waiting room has let in?"""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis

from consumers.event_commands import engine as engine_module
from consumers.event_commands.door import Door
from consumers.event_commands.load import OtherDemand
from consumers.event_commands.outcome import Outcome
from contracts.commands import ReserveSeats
from contracts.ids import EventId, UserId
from contracts.replies import AnyReply, HoldExtended, Rejected, SeatsReleased, SeatsReserved
from contracts.settings import Settings
from contracts.waiting_room import Gone, Phase, PlaceState
from db.seat_locks import WantedSeats
from db.waiting_room import HOLD_GRACE_MS, RoomSettings
from tests.builders import (
    OnSale,
    a_user,
    check_out,
    decline,
    expire,
    extend,
    rejected_as,
    release,
    reserve,
    reserve_best,
    settle,
)
from tests.conftest import AnEvent
from tests.waiting_rooms import Person, Room, rooms_with_a_clock

LEASE_MS = 120_000
NO_REDIS = "redis://127.0.0.1:1/0"


@dataclass
class SaleWithRoom:
    """An event in high demand, and its room, whose clock the test moves."""

    sale: OnSale
    room: Room

    async def let_in(self) -> Person:
        """Somebody joins, is admitted and takes their turn."""
        person, _ = await self.room.join()
        await self.room.tick()
        assert (await self.room.claim(person)).state is PlaceState.ACTIVE
        return person

    async def reserve(self, user_id: UserId, *indexes: int) -> AnyReply:
        """One reservation of these seats."""
        return await self.sale.reserve(user_id, [self.sale.seats[index] for index in indexes])

    async def lease_of(self, person: Person) -> int:
        """When their turn ends, in milliseconds; 0 if it has."""
        return (await self.room.check(person)).lease_until_ms[0]

    async def is_done(self, person: Person) -> bool:
        """Whether the room has heard that they need nothing more."""
        standing = await self.room.poll(person)
        return standing.gone is Gone.DONE

    async def no_seat_was_touched(self) -> None:
        """No lock, no entry, and every seat is where it was."""
        assert await self.locked_seats() == 0
        assert await self.entries() == 0
        assert set((await self.sale.statuses()).values()) == {"available"}

    async def locked_seats(self) -> int:
        """Seats that the lock filter keeps from others."""
        pattern = f"seat_lock:{{{self.sale.event_id}}}:*"
        return len([key async for key in self.room.redis.scan_iter(match=pattern, count=1000)])

    async def entries(self) -> int:
        """How long the ledger is."""
        sql = "SELECT count(*) FROM seat_ledger WHERE event_id = $1"
        return int(await self.sale.pool.fetchval(sql, self.sale.event_id))


async def a_room_of(sale: OnSale, redis: Redis, settings: Settings, phase: Phase | None = Phase.OPEN) -> Room:
    """The room of that event, with a clock of its own that begins at the time of the sale."""
    rooms = rooms_with_a_clock(settings)
    room = Room(rooms, redis, sale.event_id, now_ms=int(time.time() * 1000))
    await room.pass_ms(0)
    await rooms.configure(room.event_id, RoomSettings(capacity=10, rate_per_second=1000, lease_ms=LEASE_MS))
    if phase is not None:
        await room.enter_phase(phase)
    await room.lead()
    await sale.engine.door.close()
    sale.engine.door = Door(settings, rooms)
    return room


@pytest.fixture
async def door(an_event: AnEvent, redis: Redis, settings: Settings) -> AsyncIterator[SaleWithRoom]:
    """An event in high demand, whose room is open."""
    sale = await an_event(high_demand=True)
    room = await a_room_of(sale, redis, settings)
    yield SaleWithRoom(sale, room)
    await room.rooms.close()


# ---- who gets seats


async def nobody_without_a_pass_gets_seats(door: SaleWithRoom) -> None:
    wishes = [reserve(door.sale.event_id, a_user(), door.sale.seats[:2]), reserve_best(door.sale.event_id, a_user(), 2)]
    for _ in range(2):
        assert rejected_as(await door.sale.ask(*wishes)) == ["not_admitted", "not_admitted"]
    await door.no_seat_was_touched()


async def test_nobody_without_a_pass_gets_seats(door: SaleWithRoom) -> None:
    await nobody_without_a_pass_gets_seats(door)


async def test_whoever_has_been_let_in_gets_seats(door: SaleWithRoom) -> None:
    person = await door.let_in()
    assert isinstance(await door.reserve(person.user_id, 0, 1), SeatsReserved)
    best = await door.sale.ask_one(reserve_best(door.sale.event_id, person.user_id, 2))
    assert isinstance(best, SeatsReserved)
    await door.sale.ledger_agrees_with_seats()


async def test_one_batch_serves_those_who_are_in_and_refuses_the_others(door: SaleWithRoom) -> None:
    inside, outside = await door.let_in(), a_user()
    event_id, seats = door.sale.event_id, door.sale.seats
    replies = await door.sale.ask(
        reserve(event_id, outside, seats[:2]),
        reserve(event_id, inside.user_id, seats[:2]),
        reserve_best(event_id, outside, 2),
        reserve_best(event_id, inside.user_id, 2),
    )
    assert [type(reply) for reply in replies] == [Rejected, SeatsReserved, Rejected, SeatsReserved]
    assert rejected_as(replies) == ["not_admitted", "not_admitted"]
    assert await door.locked_seats() == 4
    await door.sale.ledger_agrees_with_seats()


async def test_to_be_admitted_is_not_enough_before_the_turn_is_taken(door: SaleWithRoom) -> None:
    person, _ = await door.room.join()
    await door.room.tick()
    assert (await door.room.poll(person)).state is PlaceState.READY
    assert rejected_as([await door.reserve(person.user_id, 0)]) == ["not_admitted"]


async def test_a_turn_that_ended_on_the_way_to_the_engine_buys_nothing(door: SaleWithRoom) -> None:
    person = await door.let_in()
    command = reserve(door.sale.event_id, person.user_id, door.sale.seats[:2])
    await door.room.pass_ms(LEASE_MS)
    assert rejected_as([await door.sale.ask_one(command)]) == ["not_admitted"]
    await door.no_seat_was_touched()


async def test_somebody_elses_turn_does_not_help(door: SaleWithRoom) -> None:
    await door.let_in()
    assert rejected_as([await door.reserve(a_user(), 0)]) == ["not_admitted"]
    await door.no_seat_was_touched()


async def test_a_turn_in_another_events_room_does_not_help(
    door: SaleWithRoom, an_event: AnEvent, redis: Redis, settings: Settings
) -> None:
    other = await an_event(high_demand=True)
    elsewhere = SaleWithRoom(other, await a_room_of(other, redis, settings))
    person = await elsewhere.let_in()
    assert rejected_as([await door.reserve(person.user_id, 0)]) == ["not_admitted"]


@pytest.mark.parametrize("phase", [Phase.PRE, Phase.SEALING])
async def test_what_was_let_in_before_the_room_opened_is_worth_nothing(door: SaleWithRoom, phase: Phase) -> None:
    person = await door.let_in()
    # No way leads back from open; if one did, or if the room were made anew with leases in it, this must still hold.
    await door.room.redis.hset(f"wr:{{{door.sale.event_id}}}:meta", "phase", phase.value)
    assert rejected_as([await door.reserve(person.user_id, 0)]) == ["not_admitted"]
    await door.no_seat_was_touched()


async def test_nobody_buys_while_the_cohort_gathers(an_event: AnEvent, redis: Redis, settings: Settings) -> None:
    sale = await an_event(high_demand=True)
    door = SaleWithRoom(sale, await a_room_of(sale, redis, settings, Phase.PRE))
    person, _ = await door.room.join()
    assert rejected_as([await door.reserve(person.user_id, 0)]) == ["not_admitted"]
    await door.no_seat_was_touched()


async def test_a_room_that_has_ended_lets_everybody_buy(an_event: AnEvent, redis: Redis, settings: Settings) -> None:
    sale = await an_event(high_demand=True)
    door = SaleWithRoom(sale, await a_room_of(sale, redis, settings, Phase.ENDED))
    assert isinstance(await door.reserve(a_user(), 0), SeatsReserved)


async def test_a_room_that_has_just_been_made_lets_nobody_slip_in(
    an_event: AnEvent, redis: Redis, settings: Settings
) -> None:
    sale = await an_event(high_demand=True)
    door = SaleWithRoom(sale, await a_room_of(sale, redis, settings, None))
    assert rejected_as([await door.reserve(a_user(), 0)]) == ["admission_unknown"]
    await door.no_seat_was_touched()


# ---- when the room does not answer


async def test_an_event_in_high_demand_whose_room_is_missing_sells_nothing(an_event: AnEvent) -> None:
    sale = await an_event(high_demand=True)
    for _ in range(2):
        assert rejected_as([await sale.reserve(a_user(), sale.seats[:2])]) == ["admission_unknown"]
    assert set((await sale.statuses()).values()) == {"available"}


async def test_nothing_is_sold_while_a_lost_room_is_being_filled_again(door: SaleWithRoom) -> None:
    person = await door.let_in()
    await door.room.redis.hset(f"wr:{{{door.sale.event_id}}}:meta", "phase", Phase.RESTORING.value)
    assert rejected_as([await door.reserve(person.user_id, 0)]) == ["admission_unknown"]
    await door.no_seat_was_touched()


async def test_without_redis_high_demand_waits_and_everything_else_sells_on(
    door: SaleWithRoom, an_event: AnEvent
) -> None:
    person = await door.let_in()
    held = await door.sale.hold(person.user_id, door.sale.seats[:1])
    blind = door.sale.another_engine(redis_url=NO_REDIS)
    for index in range(1, 5):
        wish = reserve(door.sale.event_id, person.user_id, [door.sale.seats[index]])
        assert codes(await door.sale.run(wish, engine=blind)) == ["admission_unknown"]
    assert list((await door.sale.statuses()).values()).count("held") == 1
    # Who holds seats may go on with them.
    outcome = await door.sale.run(check_out(door.sale.event_id, person.user_id, held.hold_id), engine=blind)
    assert outcome.answered == []
    assert outcome.sales[0].outgoing.payments_requested
    ordinary = await an_event(redis_url=NO_REDIS)
    assert isinstance(await ordinary.reserve(a_user(), ordinary.seats[:2]), SeatsReserved)
    await door.sale.ledger_agrees_with_seats()


async def test_redis_comes_back_and_so_does_the_sale(door: SaleWithRoom, settings: Settings) -> None:
    person = await door.let_in()
    seeing = door.sale.engine.door
    door.sale.engine.door = Door(settings.model_copy(update={"redis_url": NO_REDIS}), rooms=_away(settings))
    assert rejected_as([await door.reserve(person.user_id, 0)]) == ["admission_unknown"]
    door.sale.engine.door = seeing
    assert isinstance(await door.reserve(person.user_id, 0), SeatsReserved)


def _away(settings: Settings) -> Any:
    return rooms_with_a_clock(settings.model_copy(update={"redis_url": NO_REDIS}))


# ---- the same answer again


async def test_a_reservation_delivered_again_after_the_turn_is_answered_the_same(door: SaleWithRoom) -> None:
    person = await door.let_in()
    command = reserve(door.sale.event_id, person.user_id, door.sale.seats[:2])
    first = await door.sale.ask_one(command)
    await door.room.leave(person)
    assert await door.lease_of(person) == 0
    assert await door.sale.ask_one(command) == first
    blind = door.sale.another_engine(redis_url=NO_REDIS)
    assert [answer.reply for answer in (await door.sale.run(command, engine=blind)).answered] == [first]
    assert await door.entries() == 2


# ---- what the room hears


async def test_a_turn_lasts_as_long_as_the_hold(door: SaleWithRoom) -> None:
    person = await door.let_in()
    hold = await door.sale.hold(person.user_id, door.sale.seats[:2])
    lease = await door.lease_of(person)
    assert lease == int(hold.held_until.timestamp() * 1000) + HOLD_GRACE_MS
    extended = await door.sale.ask_one(extend(door.sale.event_id, person.user_id, hold.hold_id))
    assert isinstance(extended, HoldExtended)
    assert await door.lease_of(person) == int(extended.held_until.timestamp() * 1000) + HOLD_GRACE_MS > lease


async def test_a_completed_order_ends_the_turn_and_a_payment_under_way_does_not(door: SaleWithRoom) -> None:
    person = await door.let_in()
    hold = await door.sale.hold(person.user_id, door.sale.seats[:2])
    checkout = check_out(door.sale.event_id, person.user_id, hold.hold_id)
    await door.sale.run(checkout)
    assert not await door.is_done(person)
    await door.sale.run(settle(door.sale.event_id, checkout.command_id))
    assert await door.is_done(person)
    assert rejected_as([await door.reserve(person.user_id, 5)]) == ["not_admitted"]
    await door.sale.ledger_agrees_with_seats()


async def test_a_declined_card_ends_no_turn(door: SaleWithRoom) -> None:
    person = await door.let_in()
    hold = await door.sale.hold(person.user_id, door.sale.seats[:2])
    checkout = check_out(door.sale.event_id, person.user_id, hold.hold_id)
    await door.sale.run(checkout)
    await door.sale.run(decline(door.sale.event_id, checkout.command_id))
    assert await door.lease_of(person)


async def test_giving_back_the_last_hold_ends_the_turn_and_any_other_does_not(door: SaleWithRoom) -> None:
    person = await door.let_in()
    holds = [await door.sale.hold(person.user_id, [seat]) for seat in door.sale.seats[:2]]
    for hold, is_last in zip(holds, (False, True), strict=True):
        reply = await door.sale.ask_one(release(door.sale.event_id, person.user_id, hold.hold_id))
        assert isinstance(reply, SeatsReleased)
        assert await door.is_done(person) is is_last


async def test_giving_back_a_hold_while_another_is_paid_for_ends_no_turn(door: SaleWithRoom) -> None:
    person = await door.let_in()
    paying, other = [await door.sale.hold(person.user_id, [seat]) for seat in door.sale.seats[:2]]
    await door.sale.run(check_out(door.sale.event_id, person.user_id, paying.hold_id))
    await door.sale.ask_one(release(door.sale.event_id, person.user_id, other.hold_id))
    assert not await door.is_done(person)


async def test_the_expired_hold_ends_the_turn(door: SaleWithRoom) -> None:
    person = await door.let_in()
    hold = await door.sale.hold(person.user_id, door.sale.seats[:2])
    await door.sale.end_holds_now(hold.hold_id)
    assert not await door.is_done(person)
    await door.sale.run(expire(door.sale.event_id, hold.hold_id))
    assert await door.is_done(person)


async def test_a_room_that_hears_nothing_costs_no_seat_and_no_answer(door: SaleWithRoom, settings: Settings) -> None:
    person = await door.let_in()
    hold = await door.sale.hold(person.user_id, door.sale.seats[:2])
    door.sale.engine.door = Door(settings, _away(settings))
    reply = await door.sale.ask_one(release(door.sale.event_id, person.user_id, hold.hold_id))
    assert isinstance(reply, SeatsReleased)
    assert not await door.is_done(person)


# ---- the engine is wrong about the event


async def test_an_event_that_becomes_one_in_high_demand_is_noticed_at_once(door: SaleWithRoom) -> None:
    await _set_high_demand(door.sale, False)
    early = await door.reserve(a_user(), 0)
    assert isinstance(early, SeatsReserved)
    before = await door.locked_seats(), await door.entries()
    await _set_high_demand(door.sale, True)
    assert rejected_as([await door.reserve(a_user(), 1)]) == ["not_admitted"]
    assert (await door.locked_seats(), await door.entries()) == before, "what was locked by mistake is given up"


async def test_an_event_that_is_in_high_demand_no_longer_sells_to_everybody(door: SaleWithRoom) -> None:
    assert rejected_as([await door.reserve(a_user(), 0)]) == ["not_admitted"]
    await _set_high_demand(door.sale, False)
    wishes = [
        reserve(door.sale.event_id, a_user(), door.sale.seats[:2]),
        reserve_best(door.sale.event_id, a_user(), 2),
    ]
    assert [type(reply) for reply in await door.sale.ask(*wishes)] == [SeatsReserved, SeatsReserved]


async def _set_high_demand(sale: OnSale, high_demand: bool) -> None:
    await sale.pool.execute("UPDATE events SET high_demand = $2 WHERE id = $1", sale.event_id, high_demand)


# ---- negative controls


class OpenDoor(Door):
    """Lets everybody in."""

    async def who_is_in(self, _event_id: EventId, wanting: Sequence[ReserveSeats]) -> dict[UserId, bool]:
        return {command.user_id: True for command in wanting}


class NoDoor(Door):
    """Asks no room."""

    async def who_is_in(self, *_: object) -> None:
        return None


async def test_a_door_that_stands_open_is_noticed(door: SaleWithRoom) -> None:
    door.sale.engine.door = OpenDoor(door.sale.settings, door.room.rooms)
    with pytest.raises(AssertionError):
        await nobody_without_a_pass_gets_seats(door)


async def test_an_engine_that_asks_no_room_sells_nothing(door: SaleWithRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "TRANSIENT_FOR_SECONDS", 0.2)
    door.sale.engine.door = NoDoor(door.sale.settings, door.room.rooms)
    person = await door.let_in()
    with pytest.raises(OtherDemand):
        await door.reserve(person.user_id, 0)
    assert set((await door.sale.statuses()).values()) == {"available"}


async def test_locks_taken_without_a_pass_would_be_seen(door: SaleWithRoom) -> None:
    await door.sale.engine.seat_locks.take(door.sale.event_id, [WantedSeats(a_user(), door.sale.seats[:1])])
    with pytest.raises(AssertionError):
        await door.no_seat_was_touched()


def codes(outcome: Outcome) -> list[str]:
    """The refusals of a batch."""
    return rejected_as([answer.reply for answer in outcome.answered])
